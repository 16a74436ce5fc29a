"""Files that nodes get: text of mesh, sshd and mirrors, and the keys that the controller keeps."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.errors import BadInputError, FleetError
from pyswiftops.settings import mesh, mesh_parts, mirror_parts, mirrors, pins, sshd
from pyswiftops.specs.fleet import Fleet

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOuJoYhCYPpAoSNxSKOx5o3IEonJEnD1oF67hBXyciM"
FEW = 16  # nodes that have GPUs here


def fleet_vars(tmp_path: Path, nodes: int, **more: Any) -> dict[str, dict[str, Any]]:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "name": "lab",
        "runtime": "container",
        "state": str(tmp_path / "st ate"),
        "hosts": [{"name": "host-1"}],
        "container": {
            "image": {"build": {"wheelhouse": "w"}},
            "network": {"subnet": "10.8.0.0/16"},
        },
        "nodes": [
            {"name": f"node-{number + 1}"}
            | ({"gpus": list(range(8 * number, 8 * number + 8))} if nodes < FEW else {})
            for number in range(nodes)
        ],
        **more,
    }
    return Fleet.from_document(document, tmp_path / "fleet.yml").host_vars()


def settings(**more: Any) -> dict[str, Any]:
    given = {
        "port": 2333,
        "listen": [],
        "folder": "/etc/swiftops",
        "password_login": False,
        "passwords": {},
        "pam": False,
        "environment": {},
    }
    return {**given, **more}


# Mesh.


def test_files_of_all_nodes_stand_in_rank_order(tmp_path: Path) -> None:
    variables = fleet_vars(tmp_path, 2)
    nodes = mesh.peers(variables, variables)
    assert mesh.hostfile(nodes) == "node-1 slots=8\nnode-2 slots=8\n"
    assert mesh.genders(nodes) == "node-1 nodes,rank=0,slots=8\nnode-2 nodes,rank=1,slots=8\n"
    assert mesh.wcoll(nodes) == "node-1\nnode-2\n"


def test_a_nodes_part_of_the_mesh_holds_each_key_once_and_the_private_one_as_a_path(
    tmp_path: Path,
) -> None:
    variables = fleet_vars(tmp_path, 2)
    fleet = {
        "nodes": mesh.peers(variables, variables),
        "public_keys": [ED25519],
        "key": "/state/mesh_key",
        "known_hosts": "/state/known_hosts",
    }
    part = mesh_parts.mesh_part(fleet, "ops", "/etc/swiftops", None, [ED25519, f"{ED25519} me"])
    files = {item["id"]: item for item in part["resources"]}
    assert files["ssh_mesh.authorized_keys"]["content"] == f"{ED25519}\n{ED25519} me\n"
    key = files["ssh_mesh.key"]
    assert (key["src"], key["mode"], key["owner"]) == ("/state/mesh_key", "0600", "ops")
    assert "content" not in key
    own = mesh_parts.mesh_part(fleet, "ops", "/etc/swiftops", "~/mine", [])
    assert own["resources"][2]["src"] == "~/mine"


def test_a_node_needs_pdsh_only_where_that_is_asked_for(tmp_path: Path) -> None:
    variables = fleet_vars(tmp_path, 2)
    nodes = mesh.peers(variables, variables)
    part = mesh_parts.pdsh_part(nodes, "/e t", "/etc/profile.d/p.sh", required=False)
    assert part["checks"] == []
    profile = part["resources"][-1]
    assert "PDSH_GENDERS_FILE='/e t'/genders WCOLL='/e t'/nodes\n" in profile["content"]
    (check,) = mesh_parts.pdsh_part(nodes, "/e t", "/p", required=True)["checks"]
    assert "PDSH_GENDERS_FILE=/e t/genders" in check["argv"]


@pytest.mark.skipif(shutil.which("ssh") is None, reason="asks ssh how it reads the file")
def test_ssh_reads_the_files_as_they_are_meant(tmp_path: Path) -> None:
    variables = fleet_vars(tmp_path, 2)
    nodes = mesh.peers(variables, variables)
    for text, key, known in (
        (mesh.ssh_config(nodes, "/e t/key", "/e t/known"), "/e t/key", "/e t/known"),
        (
            mesh.controller_config(nodes),
            f"{tmp_path}/st ate/id_ed25519",
            f"{tmp_path}/st ate/known_hosts",
        ),
    ):
        (tmp_path / "config").write_text(text, encoding="utf-8")
        argv = ["ssh", "-F", str(tmp_path / "config"), "-G", "node-2"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        assert {
            "hostname 10.8.0.11",
            "port 2333",
            "user root",
            "hostkeyalias swiftops-lab-node-2",
            "stricthostkeychecking true",
            "identitiesonly yes",
            f"identityfile {key}",
            f"userknownhostsfile {known}",
        } <= set(said)


def test_a_node_is_known_by_its_addresses_too_unless_another_shares_them(tmp_path: Path) -> None:
    """Copies between nodes name the training address."""
    variables = fleet_vars(tmp_path, 2)
    variables["node-2"]["swiftops_address"] = "10.9.0.2"

    def asked(name: str) -> list[str]:
        nodes = mesh.peers(variables, variables)
        (tmp_path / "config").write_text(mesh.ssh_config(nodes, "/k", "/h"), encoding="utf-8")
        argv = ["ssh", "-F", str(tmp_path / "config"), "-G", name]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()

    for address in ("10.9.0.2", "10.8.0.11"):
        said = asked(address)
        assert {f"hostname {address}", "hostkeyalias swiftops-lab-node-2", "port 2333"} <= set(said)
        assert "identityfile /k" in said
    variables["node-1"]["swiftops_address"] = "10.9.0.2"
    assert "hostkeyalias swiftops-lab-node-2" not in asked("10.9.0.2")


def test_a_way_through_a_host_is_kept(tmp_path: Path) -> None:
    hosts = [{"name": "host-1", "address": "192.0.2.1"}]
    variables = fleet_vars(tmp_path, 1, hosts=hosts)
    text = mesh.controller_config(mesh.peers(variables, variables))
    assert "  ProxyCommand ssh -W '[%h]:%p' -p 22 -l root 192.0.2.1\n" in text
    assert "Control" not in text


def test_text_grows_with_the_nodes_and_not_faster(tmp_path: Path) -> None:
    few, many = (fleet_vars(tmp_path, count) for count in (64, 256))
    sizes = [len(mesh.ssh_config(mesh.peers(each, each), "/k", "/h")) for each in (few, many)]
    assert sizes[1] < 4.2 * sizes[0]


@pytest.mark.parametrize(
    "hostile", [{"ansible_user": "a\n  ProxyCommand sh"}, {"ansible_host": "-oProxyCommand=x"}]
)
def test_a_text_that_would_be_more_than_a_word_is_refused(hostile: dict[str, str]) -> None:
    with pytest.raises(FleetError, match=next(iter(hostile))):
        mesh.peers({"n": hostile}, ["n"])


def test_pairs_are_proven_where_the_mesh_changed() -> None:
    def done(name: str, *, changed: bool) -> dict[str, Any]:
        return {"settings_done": {"resources": [{"id": name, "changed": changed}]}}

    quiet = {
        "a": done("ssh_mesh.key", changed=False),
        "b": done("pip_mirror.pip", changed=True),
        "c": {},
    }
    assert mesh.mesh_changed(quiet, quiet, "auto") is False
    assert (
        mesh.mesh_changed({**quiet, "d": done("sshd.config", changed=True)}, "abcd", "auto") is True
    )
    assert mesh.mesh_changed(quiet, quiet, "always") is True
    assert mesh.mesh_changed({"d": done("sshd.config", changed=True)}, "d", "never") is False


# sshd.


@pytest.fixture
def sshd_says(tmp_path: Path) -> Any:
    """What ``sshd -T`` says of settings."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None or os.geteuid() != 0:
        pytest.skip("needs sshd, which asks for root")
    Path("/run/sshd").mkdir(exist_ok=True)

    def says(given: dict[str, Any]) -> set[str]:
        (tmp_path / "sshd_config").write_text(sshd.sshd_config(given), encoding="utf-8")
        key = tmp_path / "ssh_host_ed25519_key"
        if not key.exists():
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(words, check=True)
        argv = [program, "-T", "-f", str(tmp_path / "sshd_config")]
        return set(
            subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        )

    return says


def test_sshd_says_what_was_asked_for(sshd_says: Any, tmp_path: Path) -> None:
    hostile = {"A": "a b", "Q": 'x"y\\z', "H": "#no comment", "HOME": "/nowhere", "E": ""}
    given = settings(
        folder=str(tmp_path),
        listen=["127.0.0.1", "::1"],
        password_login=True,
        passwords={"root": "$6$salt$hash"},
        environment=hostile,
    )
    said = sshd_says(given)
    for line in sshd.sshd_effective(given):
        assert said & set([line] if isinstance(line, str) else line), line
    assert "passwordauthentication yes" in said
    assert not any("HOME" in line for line in said)


def test_keys_only_unless_asked(sshd_says: Any, tmp_path: Path) -> None:
    said = sshd_says(settings(folder=str(tmp_path), passwords={"root": "$6$salt$hash"}))
    assert {"passwordauthentication no", "permitrootlogin without-password"} <= said
    assert sshd.sshd_passwords(settings(passwords={"root": "$6$salt$hash"})) == []


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"password_login": True}, "sshd_passwords"),
        ({"passwords": {"root": "in clear"}}, "sshd_passwords: root"),
        ({"listen": ["0.0.0.0\nPermitRootLogin yes"]}, "sshd_listen_addresses"),
        ({"environment": {"A B": "1"}}, "sshd_environment"),
        ({"environment": {"A": "1\nPermitRootLogin yes"}}, "sshd_environment: A"),
    ],
)
def test_settings_that_sshd_must_not_get_are_refused(more: dict[str, Any], where: str) -> None:
    with pytest.raises(BadInputError, match=f"where: {where}") as refused:
        sshd.sshd_config(settings(**more))
    assert "in clear" not in str(refused.value)


def test_the_images_variables_are_kept_for_later(tmp_path: Path) -> None:
    assert sshd.kept_environment({}, str(tmp_path)) == {}
    (tmp_path / sshd.ENVIRONMENT).write_text(json.dumps({"A": "1"}), encoding="utf-8")
    assert sshd.kept_environment({}, str(tmp_path)) == {"A": "1"}
    assert sshd.kept_environment({"B": "2"}, str(tmp_path)) == {"B": "2"}


# Mirrors.


def test_mirrors_are_written_as_their_programs_read_them(tmp_path: Path) -> None:
    text = mirrors.pip_conf("https://m/simple", ["https://a/s", "https://b/s"], ["m"])
    assert text.endswith(
        "[global]\nindex-url = https://m/simple\nextra-index-url =\n    https://a/s\n"
        "    https://b/s\ntrusted-host =\n    m\n"
    )
    assert mirrors.pip_conf("", [], []) == ""
    line = "deb [trusted=yes] http://m/debian bookworm main"
    assert mirrors.apt_sources([line]).endswith(f"\n{line}\n")
    (tmp_path / "git").write_text(
        mirrors.git_config({"https://github.com/": "https://m/gh/"}, "/dev/shm/x"),  # noqa: S108 a name
        encoding="utf-8",
    )
    if shutil.which("git"):
        argv = ["git", "config", "-f", str(tmp_path / "git"), "--list"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        assert said == [
            "url.https://m/gh/.insteadof=https://github.com/",
            "credential.helper=store --file=/dev/shm/x",
        ]


ASKED = {
    "index_url": "",
    "extra_index_urls": [],
    "trusted_hosts": [],
    "apt_sources": [],
    "git": {},
    "credentials": [],
    "memory": "/dev/shm/swiftops",  # noqa: S108 a name
    "folder": "/etc/swiftops",
}


def test_mirrors_that_are_not_asked_for_go() -> None:
    files = mirror_parts.mirror_part(ASKED)["resources"]
    assert [(item["id"], item["type"]) for item in files] == [
        ("pip_mirror.folder", "directory"),
        ("pip_mirror.apt_sources", "absent"),
        ("pip_mirror.apt", "absent"),
        ("pip_mirror.netrc", "absent"),
        ("pip_mirror.git_logins", "absent"),
    ]


def test_logins_alone_reach_apt_and_git_and_no_file_on_a_disk() -> None:
    logins = [{"host": "m.example", "login": "me", "password": "SECRET"}]
    files = {
        item["id"]: item
        for item in mirror_parts.mirror_part({**ASKED, "credentials": logins})["resources"]
    }
    assert "pip_mirror.pip" not in files
    assert files["pip_mirror.apt_sources"]["type"] == "absent"
    assert "/dev/shm/swiftops/netrc" in files["pip_mirror.apt"]["content"]  # noqa: S108 a name
    assert "/dev/shm/swiftops/git" in files["pip_mirror.git"]["content"]  # noqa: S108 a name
    secret = {name for name, item in files.items() if "SECRET" in item.get("content", "")}
    assert secret == {"pip_mirror.netrc", "pip_mirror.git_logins"}
    assert all(files[name]["memory_only"] and files[name]["sensitive"] for name in secret)


@pytest.mark.parametrize(
    "render",
    [
        lambda url: mirrors.pip_conf(url, [], []),
        lambda url: mirrors.pip_conf("", [url], []),
        lambda url: mirrors.apt_sources([f"deb {url} bookworm main"]),
        lambda url: mirrors.git_config({"https://github.com/": url}, None),
    ],
)
def test_a_login_in_a_url_is_refused_and_not_shown(render: Any) -> None:
    with pytest.raises(BadInputError, match="pip_mirror_credentials") as refused:
        render("https://me:SECRET@mirror.example/simple")
    assert "SECRET" not in str(refused.value)
    assert "mirror.example" in str(refused.value)


def test_logins_are_written_apart() -> None:
    logins = [{"host": "m.example", "login": "me", "password": "a@/:b"}]
    assert mirrors.netrc(logins) == "machine m.example login me password a@/:b\n"
    assert mirrors.git_credentials(logins) == "https://me:a%40%2F%3Ab@m.example\n"
    with pytest.raises(BadInputError, match=r"m\.example") as refused:
        mirrors.netrc([{**logins[0], "password": "SECRET\nmachine other"}])
    assert "SECRET" not in str(refused.value)


# Keys.


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "fleets" / "lab"


def test_a_key_that_changed_is_refused_and_nothing_is_lost(state: Path) -> None:
    keys = {f"swiftops-lab-node-{number}": f"{ED25519}{number}" for number in (1, 2)}
    assert pins.pin(state, keys) == list(keys)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    text = (state / pins.KNOWN_HOSTS).read_text(encoding="utf-8")
    assert text == "".join(f"{alias} {key}\n" for alias, key in keys.items())
    # a node that is down is not named, and stays
    assert pins.pin(state, {"swiftops-lab-node-3": f"{ED25519}3 comment"}) == [
        "swiftops-lab-node-3"
    ]
    assert set(pins.read(state)) == {*keys, "swiftops-lab-node-3"}
    with pytest.raises(FleetError) as refused:
        pins.pin(
            state, {"swiftops-lab-node-1": f"{ED25519}9", "swiftops-lab-node-4": f"{ED25519}4"}
        )
    for part in (f"{ED25519}1", f"{ED25519}9", str(state), "swiftops keys forget node-1"):
        assert part in str(refused.value)
    assert set(pins.read(state)) == {*keys, "swiftops-lab-node-3"}
    assert pins.forget(state, ["swiftops-lab-node-1", "unknown"]) == ["swiftops-lab-node-1"]
    assert pins.pin(state, {"swiftops-lab-node-1": f"{ED25519}9"}) == ["swiftops-lab-node-1"]


@pytest.mark.parametrize("key", ["", "no key", "* ssh-ed25519 AAAA", "ssh-ed25519"])
def test_what_is_no_key_is_not_pinned(key: str, state: Path) -> None:
    with pytest.raises(FleetError, match="a public host key"):
        pins.pin(state, {"a": key})
    assert pins.read(state) == {}


def test_many_may_pin_at_once(state: Path) -> None:
    names = [f"n-{number}" for number in range(16)]
    threads = [threading.Thread(target=pins.pin, args=(state, {name: ED25519})) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(pins.read(state)) == set(names)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="makes keys")
def test_a_key_is_made_once_and_changed_in_steps(state: Path) -> None:
    assert pins.make_key(state, "lab") is True
    assert pins.make_key(state, "lab") is False
    assert stat.S_IMODE((state / pins.KEY).stat().st_mode) == 0o600
    (first,) = pins.public_keys(state)
    assert pins.make_key(state, "lab", pins.NEXT) is True
    _, second = pins.public_keys(state)
    pins.switch_key(state)
    pins.switch_key(state)  # cut off and run again
    assert pins.public_keys(state) == [second, first]
    pins.drop_key(state)
    pins.drop_key(state)
    assert pins.public_keys(state) == [second]
    assert pins.public_half(str(state / pins.KEY)) == second
    assert sorted(path.name for path in state.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
