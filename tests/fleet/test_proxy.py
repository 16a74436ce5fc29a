"""A real proxy to a network that nodes cannot reach: who goes through it, who past it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.container_nodes import IMAGE, Nodes, container_nodes, image, run

from .docker_lab import _wheel, docker

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(600)]
NAME = "swiftops-test-proxy"
PLACE = "swiftops-test-proxy:1"
INSIDE, OUTSIDE = "172.30.66.0/25", "172.30.66.128/25"
PROXY, PROXY_OUTSIDE, WEB = "172.30.66.100", "172.30.66.150", "172.30.66.140"
NEAR = "172.30.66.11"  # node-2, which serves the same as the web
LOGIN = "who"
TINYPROXY = """\
Port {port}
Timeout 20
LogFile "/var/log/{port}.log"
LogLevel Connect
MaxClients 50
{more}
"""
APT = "apt-get update -qq && apt-get install -y -qq --no-install-recommends"
DOCKERFILE = f"""\
FROM {IMAGE}
ENV DEBIAN_FRONTEND=noninteractive
RUN {APT} tinyproxy git python3-pip zsh
"""
SERVE = "cd /srv/web && exec python3 -m http.server 8000"


def build() -> None:
    """An image for nodes, proxy and web alike."""
    image()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        words = ["docker", "build", "--quiet", "--network", "host", "--tag", PLACE, folder]
        subprocess.run(words, check=True, capture_output=True, env=environment)


def fill(web: Path) -> None:
    """An index of pip, a repository of git and one of apt, as plain files."""
    simple = web / "simple" / "small"
    simple.mkdir(parents=True)
    wheel = _wheel(simple, "small", "1.0").name
    (simple / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>', encoding="utf-8")
    (web / "apt").mkdir()
    (web / "apt" / "Packages").write_text("", encoding="utf-8")
    work = web.parent / "work"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t.example"]
    run("git", "init", "-q", str(work))
    run(*git, "-C", str(work), "commit", "-q", "--allow-empty", "-m", "one")
    run("git", "clone", "-q", "--bare", str(work), str(web / "repo.git"))
    run("git", "-C", str(web / "repo.git"), "update-server-info")


@dataclass
class World:
    """Nodes, a proxy, and a web behind it."""

    nodes: Nodes

    def play(self, *words: str, fails: bool = False, **proxy: Any) -> str:
        """Run the settings with these keys of ``proxy``; return what Ansible printed."""
        document = yaml.safe_load(self.nodes.inventory.read_text(encoding="utf-8"))
        document.pop("proxy", None)
        document |= {"proxy": proxy} if proxy else {}
        self.nodes.inventory.write_text(yaml.safe_dump(document), encoding="utf-8")
        program = str(Path(sys.executable).parent / "ansible-playbook")
        argv = [program, "pyswiftops.fleet.settings", "-i", str(self.nodes.inventory), *words]
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, env=self.nodes.environment()
        )
        assert bool(done.returncode) == fails, done.stdout[-5000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    def on(self, command: str, *, fails: bool = False, using: str = "sh") -> str:
        """What a command says on node-1, in a session of its own."""
        config = str(self.nodes.state / "ssh_config")
        words = f"-ic {shell_word(command)}" if using != "sh" else f"-c {shell_word(command)}"
        done = subprocess.run(
            ["ssh", "-F", config, "node-1", f"{using} {words}"],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def asked(self, port: int = 8888) -> str:
        """What the proxy was asked for since the last call."""
        text = docker("exec", f"{NAME}-proxy", "cat", f"/var/log/{port}.log")
        docker("exec", f"{NAME}-proxy", "truncate", "-s", "0", f"/var/log/{port}.log")
        return "\n".join(re.findall(r"Request \(.*", text))


def shell_word(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def changed(said: str) -> int:
    return sum(int(count) for count in re.findall(r"changed=(\d+)", said))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    build()
    folder = tmp_path_factory.mktemp("world")
    fill(folder / "web")
    os.chmod(folder, 0o755)  # noqa: PTH101, S103 the web server in a container reads it
    for port, more in ((8888, ""), (8889, f"BasicAuth {LOGIN} secret9")):
        text = TINYPROXY.format(port=port, more=more)
        (folder / f"{port}.conf").write_text(text, encoding="utf-8")
    web = [f"{folder / 'web'}:/srv/web:ro"]
    try:
        fleet = f"proxy-{os.getpid()}"
        with container_nodes(2, fleet, INSIDE, of=PLACE, volumes=web) as nodes:
            docker("network", "create", "--label", NAME, "--internal", "--subnet", OUTSIDE, NAME)
            common = ["run", "-d", "--init", "--label", NAME]
            docker(*common, "--name", f"{NAME}-web", "--network", NAME, "--ip", WEB,
                   "-v", web[0], PLACE, "sh", "-c", SERVE)  # fmt: skip
            start = "for p in 8888 8889; do tinyproxy -c /conf/$p.conf; done; exec sleep infinity"
            common += ["--label", f"swiftops.fleet={fleet}"]  # taken down before its network
            docker(*common, "--name", f"{NAME}-proxy", "--network", f"swiftops-{fleet}", "--ip",
                   PROXY, "-v", f"{folder}:/conf:ro", PLACE, "sh", "-c", start)  # fmt: skip
            docker("network", "connect", "--ip", PROXY_OUTSIDE, NAME, f"{NAME}-proxy")
            docker("exec", "-d", f"swiftops-{fleet}-node-2", "sh", "-c", SERVE)
            time.sleep(1)
            yield World(nodes)
    finally:
        for found in docker("ps", "-aq", "--filter", f"label={NAME}").split():
            docker("rm", "--force", "--volumes", found)
        for found in docker("network", "ls", "-q", "--filter", f"label={NAME}").split():
            docker("network", "rm", found)


URL = f"http://{PROXY}:8888"
FAR = f"http://{WEB}:8000"
BY_NODE = f"http://{NEAR}:8000"


def uses(base: str, more: str = "") -> dict[str, str]:
    """Programs that fetch something small from a web."""
    source = f"echo 'deb [trusted=yes] {base}/apt ./' > /tmp/one.list"
    apt = "apt-get -o Dir::Etc::sourcelist=/tmp/one.list -o Dir::Etc::sourceparts=- "
    apt += "-o Acquire::Retries=0 -o Acquire::http::Timeout=5 -o APT::Update::Error-Mode=any"
    pip = f"PIP_RETRIES=0 PIP_TIMEOUT=5 pip download -q {more} --no-deps -d /tmp/got small"
    host = base.split("/")[2].split(":", maxsplit=1)[0]
    return {
        "apt": f"{source}; {apt} update",
        "pip": f"{pip} --index-url {base}/simple --trusted-host {host}",
        "git": f"timeout 20 git ls-remote {base}/repo.git",
    }


def test_functions_of_both_shells_go_through_a_real_proxy(world: World) -> None:
    world.play(http=URL, test=FAR + "/apt/Packages")
    for shell in ("bash", "zsh"):
        world.asked()
        said = world.on("proxytest", using=shell)
        assert f"{FAR}/apt/Packages through {URL}: HTTP 200 OK" in said
        assert "Via: 1.1 " in said
        assert "tinyproxy" in said
        assert f"GET {FAR}/apt/Packages" in world.asked()
        said = world.on(f"proxytest {BY_NODE}/apt/Packages", using=shell)
        assert "past any proxy: HTTP 200" in said
        assert world.asked() == ""
        said = world.on("proxyon; env; unproxy; env | grep -i _proxy=", using=shell)
        assert f"https_proxy={URL}" in said
        off = said.partition("proxy off")[2]
        assert "http_proxy" not in off
        assert "no_proxy=localhost," in off
        assert f"{NEAR}," in off
    assert "proxytest" in world.on("type proxytest", using="bash -l")


def test_a_proxy_that_does_not_answer_is_named(world: World) -> None:
    world.play(http=f"http://{PROXY}:9", test=FAR)
    said = world.on("proxytest", using="bash", fails=True)
    assert f"through http://{PROXY}:9: no answer" in said
    assert "Connection refused" in said


@pytest.mark.parametrize("program", ["apt", "pip", "git"])
def test_programs_go_through_it_and_not_to_the_fleet(world: World, program: str) -> None:
    world.play()
    world.on(uses(FAR)[program], fails=True)
    world.play(http=URL)
    world.asked()
    world.on(uses(FAR)[program])
    assert WEB in world.asked()
    if program == "pip":
        world.play("-e", f"pip_mirror_index_url={BY_NODE}/simple", http=URL)
    world.on(uses(BY_NODE)[program])
    assert world.asked() == ""


def test_pip_with_indexes_on_both_sides_is_refused(world: World) -> None:
    more = json.dumps({"pip_mirror_extra_index_urls": [f"{FAR}/simple", f"{BY_NODE}/simple"]})
    said = " ".join(world.play("-e", more, http=URL, fails=True).split())
    assert "pip has one way for all" in said
    assert "sessions: true" in said


def test_sessions_have_the_variables_where_it_is_asked_for(world: World) -> None:
    world.play(http=URL, sessions=True, pip=False, apt=False, git=False)
    world.asked()
    for command in (*uses(FAR).values(), f"python3 /etc/swiftops/proxytest.py {FAR}/apt/"):
        world.on(command)
        assert WEB in world.asked()
    for command in uses(BY_NODE).values():
        world.on(command)
    assert world.asked() == ""
    world.play(http=URL)
    assert "https_proxy" not in world.on("env")


def test_a_second_run_changes_nothing_and_without_the_field_nothing_is_left(world: World) -> None:
    world.play()
    look = "cd /etc; cat bash.bashrc zsh/zshrc gitconfig 2> /dev/null; find . | sort; ls /dev/shm/*"
    before = world.on(look, fails=True)
    world.play(http=URL)
    assert changed(world.play(http=URL)) == 0
    assert "proxy.sh" in world.on(look, fails=True)
    world.play()
    assert changed(world.play()) == 0
    after = world.on(look, fails=True)
    assert set(after.splitlines()) - set(before.splitlines()) <= {"./xdg", "./xdg/pip"}
    assert set(before.splitlines()) <= set(after.splitlines())


def test_a_login_lies_in_memory_only(world: World, tmp_path: Path) -> None:
    login = {"proxy_login": {"login": LOGIN, "password": "secret9"}}
    given = tmp_path / "login.json"
    given.write_text(json.dumps(login), encoding="utf-8")
    url = f"http://{PROXY}:8889"
    said = world.play("-e", f"@{given}", http=url, fails=True)
    assert "proxyon before either" in " ".join(said.split())
    off = {"apt": False, "pip": False}
    said = world.play("-e", f"@{given}", "-vvv", "--diff", http=url, test=FAR, **off)
    assert "secret9" not in said
    said = world.on("proxytest", using="bash")
    assert f"through {url}: HTTP 200" in said
    assert "secret9" not in said
    world.on(uses(FAR)["git"])
    for name in ("apt", "pip"):
        world.on(f"proxyon; {uses(FAR)[name]}", using="bash")
    assert world.on("grep -rs secret9 /etc /root /opt /usr/local", fails=True) == ""
    assert world.on("stat -c %a /dev/shm/swiftops/proxy").strip() == "600"
    world.play()
    assert "secret9" not in world.on("cat /dev/shm/swiftops/* 2> /dev/null; true")
