"""Settings on real container nodes: in effect, idempotent, mended, refused, and without secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.container_nodes import Nodes, await_port, container_nodes, run  # noqa: E402 path above

pytestmark = pytest.mark.fleet
PASSWORD = "Planted-Password-7"  # noqa: S105 it is planted
TOKEN = "Planted-Token-8"  # noqa: S105 it is planted
SSHD_T = ("/usr/sbin/sshd", "-T", "-f", "/etc/swiftops/sshd_config")
NETRC = "/dev/shm/swiftops/netrc"  # noqa: S108 where the role keeps it
NO_PROOF = ("-e", "settings_prove=never")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with container_nodes(3, f"settings-{os.getpid()}", "172.30.43.0/24") as made:
        yield made


def tell(*argv: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a program that may fail; return its exit code and all that it printed."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env)
    return done.returncode, done.stdout + done.stderr


def play(nodes: Nodes, playbook: str, *words: str, fails: bool = False) -> str:
    """Run a playbook; return what it printed."""
    program = str(Path(sys.executable).parent / "ansible-playbook")
    name = playbook if "/" in playbook else f"pyswiftops.fleet.{playbook}"
    code, said = tell(program, name, "-i", str(nodes.inventory), *words, env=nodes.environment())
    assert (code != 0) == fails, said[-6000:]
    return said


def recap(said: str) -> dict[str, dict[str, int]]:
    """Node -> its counts."""
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", said, flags=re.MULTILINE)
    return {
        node: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}
        for node, line in lines
    }


def changed(said: str) -> int:
    return sum(counts["changed"] for counts in recap(said).values())


def ssh(nodes: Nodes, node: str, command: str) -> str:
    return run("ssh", "-F", str(nodes.state / "ssh_config"), node, command)


def test_settings_come_into_effect_and_a_second_run_changes_nothing(nodes: Nodes) -> None:
    assert changed(play(nodes, "settings", "--check", "--diff")) > 0
    assert "mesh_key" not in nodes.inside("node-1", "ls", "/etc/swiftops")
    nodes.inside("node-1", "sh", "-c", "mkdir -p ~/.ssh && echo 'Host mine' > ~/.ssh/config")
    nodes.inside("node-1", "sh", "-c", "echo mine > ~/.ssh/id_mine")
    first = play(nodes, "settings")
    assert "Log in from each node to every other" in first
    second = play(nodes, "settings")
    assert changed(second) == 0
    assert "Log in from each node to every other" not in second
    config = nodes.inside("node-1", "cat", "/root/.ssh/config")
    assert config == "Include /etc/swiftops/ssh_config\nHost mine"
    assert nodes.inside("node-1", "cat", "/root/.ssh/id_mine") == "mine"
    for name in nodes.names:
        assert "passwordauthentication no" in nodes.inside(name, *SSHD_T)
        said = ssh(nodes, name, "pdsh -g nodes hostname").splitlines()
        assert sorted(said) == [f"{peer}: {peer}" for peer in nodes.names]
    assert ssh(nodes, "node-2", "cat /etc/swiftops/hostfile") == "\n".join(
        f"{name} slots=1" for name in nodes.names
    )


def test_what_a_node_trains_over_is_kept_mended_and_decided_anew(nodes: Nodes) -> None:
    play(nodes, "settings")
    file = "/etc/swiftops/nccl.env"
    told = nodes.inside("node-2", "cat", file)
    assert "\nNCCL_SOCKET_IFNAME='=eth0'\n" in told
    assert f"\nVLLM_HOST_IP={nodes.fleet.address(nodes.fleet.nodes[1])}\n" in told
    nodes.inside("node-2", "rm", file)
    assert changed(play(nodes, "settings")) == 1
    assert nodes.inside("node-2", "cat", file) == told
    nodes.inside("node-1", "mkdir", "-p", "/opt/hpcx/nccl_rdma_sharp_plugin/lib")
    plugin = "/opt/hpcx/nccl_rdma_sharp_plugin/lib/libnccl-net.so"
    nodes.inside("node-1", "touch", plugin)
    said = play(nodes, "settings")  # another fact, and the same decision: nothing is written
    assert "What the nodes train over" in said
    assert changed(said) == 0
    assert plugin in (nodes.state / "network.json").read_text(encoding="utf-8")
    env = json.dumps({"swiftops_env": {"NCCL_IB_DISABLE": "0"}})
    assert changed(play(nodes, "settings", "-e", env)) > 0
    assert "NCCL_IB_DISABLE" not in nodes.inside("node-2", "cat", file)  # jobs get the fleet's
    play(nodes, "settings")


def test_sshd_has_nothing_that_an_audit_fails(nodes: Nodes) -> None:
    audit = Path(sys.executable).parent / "ssh-audit"
    address = str(nodes.fleet.address(nodes.fleet.nodes[0]))
    _, said = tell(str(audit), "--json", "--skip-rate-test", "-p", "2333", address)
    report = json.loads(said)
    found: list[dict[str, Any]] = [
        item for kind in ("kex", "key", "enc", "mac") for item in report[kind]
    ]
    assert len(found) > 4
    assert [item["algorithm"] for item in found if item.get("notes", {}).get("fail")] == []


def test_what_was_broken_by_hand_is_mended(nodes: Nodes) -> None:
    breaks = (
        "sed -i 's/^PasswordAuthentication no/#/' /etc/swiftops/sshd_config",
        "chmod 644 /etc/swiftops/mesh_key",
        "rm /etc/swiftops/genders",
    )
    nodes.inside("node-2", "sh", "-c", ";".join(breaks))
    said = play(nodes, "settings", "-v")
    counts = {name: counts["changed"] for name, counts in recap(said).items()}
    assert counts == {"node-1": 0, "node-2": 1, "node-3": 0}
    for reason in ("other content", "mode 0644", "is not there", "SIGHUP to"):
        assert reason in said
    assert changed(play(nodes, "settings")) == 0


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ('{"sshd_listen_addresses": ["192.0.2.7"]}', "expected: an address of this node"),
        ("sshd_port=2555", "a program other than sshd at 0.0.0.0:2555"),
        ('{"sshd_passwords": {"root": "in-clear"}}', "openssl passwd -6"),
    ],
)
def test_an_sshd_that_could_not_listen_is_refused_in_time(
    nodes: Nodes, wrong: str, found: str
) -> None:
    holds = "import socket,time;s=socket.create_server(('', 2555));time.sleep(90)"
    run("docker", "exec", "-d", f"swiftops-{nodes.fleet.name}-node-3", "python3", "-c", holds)
    end = ("-l", "node-3", *NO_PROOF, "-e", wrong)
    said = " ".join(play(nodes, "settings", *end, fails=True).split())
    assert found in said
    assert changed(play(nodes, "settings")) == 0


def test_a_port_moves_with_its_listener(nodes: Nodes) -> None:
    only = ("-l", "node-3", *NO_PROOF)
    assert "SIGHUP to" in play(nodes, "settings", *only, "-e", "sshd_port=2444", "-v")
    back = play(nodes, "settings", *only, "-e", "ansible_port=2444", "-e", "sshd_port=2333", "-v")
    assert "SIGHUP to" in back
    play(nodes, "settings")
    assert changed(play(nodes, "settings")) == 0


def test_a_node_that_is_down_keeps_its_lines_and_is_mended_later(nodes: Nodes) -> None:
    container = f"swiftops-{nodes.fleet.name}-node-3"
    run("docker", "stop", "-t", "1", container)
    try:
        said = play(nodes, "settings", *NO_PROOF, fails=True)
        assert recap(said)["node-3"]["unreachable"] == 1
        assert recap(said)["node-1"]["failed"] == 0
        assert changed(said) == 0
        assert "-node-3 " in nodes.inside("node-1", "cat", "/etc/swiftops/known_hosts")
        failing = " ".join(play(nodes, "mesh", "-l", "node-1", fails=True).split())
        assert "node-1 -> node-3" in failing
        assert "node-1 -> node-2" not in failing
    finally:
        run("docker", "start", container)
    await_port(str(nodes.fleet.address(nodes.fleet.nodes[2])))
    assert changed(play(nodes, "settings", "-e", "settings_prove=always")) == 0


def test_a_password_login_is_taken_only_where_it_is_asked_for(nodes: Nodes, tmp_path: Path) -> None:
    crypted = run("openssl", "passwd", "-6", PASSWORD)
    login = {"host": "mirror.example", "login": "me", "password": TOKEN}
    secrets = tmp_path / "secrets.json"
    secrets.write_text(
        json.dumps(
            {
                "sshd_password_login": True,
                "sshd_passwords": {"root": crypted},
                "pip_mirror_index_url": "https://mirror.example/simple",
                "pip_mirror_credentials": [login],
            }
        ),
        encoding="utf-8",
    )
    said = play(nodes, "settings", "-e", f"@{secrets}", "-vvv", "--diff")
    for secret in (PASSWORD, crypted, TOKEN, "PRIVATE KEY"):
        assert secret not in said
    assert changed(play(nodes, "settings", "-e", f"@{secrets}")) == 0
    assert crypted in nodes.inside("node-1", "grep", "^root:", "/etc/shadow")
    effective = nodes.inside("node-1", *SSHD_T).splitlines()
    assert {"passwordauthentication yes", "permitrootlogin yes"} <= set(effective)
    assert nodes.inside("node-1", "cat", NETRC).endswith(TOKEN)
    assert nodes.inside("node-1", "stat", "-c", "%a", NETRC) == "600"
    container = f"swiftops-{nodes.fleet.name}-node-1"
    assert tell("docker", "exec", container, "grep", "-rl", TOKEN, "/etc", "/root") == (1, "")
    words = ["ssh", "-p", "2333", "-o", "PubkeyAuthentication=no"]
    for option in nodes.fleet.state_folder.options("node-1"):
        words += ["-o", option]
    place = f"root@{nodes.fleet.address(nodes.fleet.nodes[0])}"
    known = {**os.environ, "SSHPASS": PASSWORD}
    assert tell("sshpass", "-e", *words, place, "hostname", env=known) == (0, "node-1\n")
    play(nodes, "settings")
    assert "passwordauthentication no" in nodes.inside("node-1", *SSHD_T).splitlines()
    assert "netrc" not in nodes.inside("node-1", "ls", str(Path(NETRC).parent))


def test_each_role_stands_alone(nodes: Nodes, tmp_path: Path) -> None:
    for role in ("sshd", "ssh_mesh", "pdsh", "pip_mirror", "nccl"):
        roles = [{"role": f"pyswiftops.fleet.{role}"}]
        document = [{"hosts": "swiftops_nodes", "gather_facts": False, "roles": roles}]
        (tmp_path / f"{role}.yml").write_text(json.dumps(document), encoding="utf-8")
        assert changed(play(nodes, str(tmp_path / f"{role}.yml"))) == 0, role


def test_become_and_another_login_work(nodes: Nodes, tmp_path: Path) -> None:
    """A user with sudo: files are root's, the key and the Include are the user's own."""
    for name in nodes.names:
        setup = (
            "useradd -m -s /bin/bash -p '*' ops",
            "install -d -o ops -m 700 /home/ops/.ssh",
            "echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops",
        )
        nodes.inside(name, "sh", "-ec", ";".join(setup))
    login = tmp_path / "login.json"
    login.write_text(json.dumps({"ansible_user": "ops", "ansible_become": True}), encoding="utf-8")
    play(nodes, "settings", "-e", f"@{login}")
    assert changed(play(nodes, "settings", "-e", f"@{login}")) == 0
    assert nodes.inside("node-1", "stat", "-c", "%U %a", "/etc/swiftops/mesh_key") == "ops 600"
    assert nodes.inside("node-1", "su", "ops", "-c", "ssh node-2 whoami") == "ops"
    play(nodes, "settings")


def test_the_key_is_changed_and_the_old_one_is_worth_nothing(nodes: Nodes, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copy(nodes.state / "id_ed25519", old)
    play(nodes, "rotate_keys")
    assert (nodes.state / "id_ed25519").read_text() != old.read_text()
    names = sorted(path.name for path in nodes.state.glob("id_*"))
    assert names == ["id_ed25519", "id_ed25519.pub"]
    assert ssh(nodes, "node-1", "ssh node-2 hostname") == "node-2"
    assert changed(play(nodes, "settings", "-e", "settings_prove=always")) == 0
    config = tmp_path / "config"
    text = (nodes.state / "ssh_config").read_text()
    config.write_text(text.replace(str(nodes.state / "id_ed25519"), str(old)))
    code, said = tell("ssh", "-o", "BatchMode=yes", "-F", str(config), "node-1", "true")
    assert code
    assert "Permission denied" in said
