"""A job cannot read what belongs to another node on the same machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet_utils import isolation, launch
from fleet_utils.isolation import Method

if TYPE_CHECKING:
    from conftest import Node


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file under another node's root."""
    path = tmp_path / "n2" / "data" / "shard"
    path.parent.mkdir(parents=True)
    path.write_text("of n2")
    return path


def _run(method: Method, argv: list[str], hide: list[str], log: Path) -> int:
    command = launch.Command(argv, dict(os.environ), "/", log, hide)
    started = launch.start(command, [method])
    if started.refusal is not None:
        pytest.skip(f"this machine forbids it: {started.refusal.detail}")
    assert started.pid is not None
    return os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1])


@pytest.mark.parametrize("method", [Method.MOUNT_NAMESPACE, Method.USER_NAMESPACE])
def test_a_hidden_path_is_empty_and_read_only(method: Method, secret: Path, tmp_path: Path) -> None:
    if method is Method.MOUNT_NAMESPACE and os.geteuid() != 0:
        pytest.skip("needs root")
    root = secret.parents[1]
    code = (
        "import os, sys\n"
        "root, secret = sys.argv[1:]\n"
        "assert os.listdir(root) == [], os.listdir(root)\n"
        "assert not os.path.exists(secret)\n"
        "try: open(root + '/new', 'w')\n"
        "except OSError: pass\n"
        "else: sys.exit('could write')\n"
    )
    log = tmp_path / "log"
    argv = [sys.executable, "-c", code, str(root), str(secret)]
    assert _run(method, argv, [str(root), str(tmp_path / "none")], log) == 0, log.read_text()
    assert secret.read_text() == "of n2"


def test_a_hidden_file_is_empty(secret: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert _run(Method.USER_NAMESPACE, ["cat", str(secret)], [str(secret)], log) == 0
    assert log.read_text() == ""


def test_a_job_cannot_read_a_hidden_path(node: Node, secret: Path) -> None:
    told = node.start("cat", str(secret), hide=[str(secret.parents[1])])
    if told["isolation"] == "opened_paths":
        pytest.skip("this machine forbids namespaces")
    assert node.end()["exit_code"] == 1
    assert node.read()["isolation"] in {"mount_namespace", "user_namespace"}
    assert "of n2" not in node.output()


def test_without_namespaces_an_opened_path_fails_the_job(node: Node, secret: Path) -> None:
    told = node.start(
        "sh",
        "-c",
        'exec 3< "$0"; sleep 300',
        str(secret),
        hide=[str(secret.parents[1])],
        isolation="opened_paths",
    )
    assert told["isolation"] == "opened_paths"
    told = node.end()
    assert (told["state"], told["reason"]["kind"]) == ("failed", "isolation")
    assert f"has {secret} open, which belongs to another node" in told["reason"]["detail"]


def test_without_namespaces_a_job_that_keeps_to_itself_goes_on(node: Node, secret: Path) -> None:
    node.start("sleep", "1.2", hide=[str(secret.parents[1])], isolation="opened_paths")
    assert node.end()["state"] == "succeeded"


def test_what_no_mount_covers_is_watched(tmp_path: Path) -> None:
    there, missing = str(tmp_path), str(tmp_path / "later")
    assert isolation.uncovered(Method.NONE, []) == []
    assert isolation.uncovered(Method.MOUNT_NAMESPACE, [there, missing]) == [missing]
    assert isolation.uncovered(Method.OPENED_PATHS, [there, missing]) == [there, missing]
    assert isolation.methods([]) == [Method.NONE]
    assert isolation.methods([there])[-1] is Method.OPENED_PATHS
