"""A job whose root is long has a short TMPDIR, so that sockets fit below it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet_utils import short_temp

if TYPE_CHECKING:
    from conftest import Node

LISTEN = """
import multiprocessing, os, tempfile
from multiprocessing.connection import Listener
folder = tempfile.mkdtemp(prefix="pymp-")
Listener(os.path.join(folder, "listener-12345678"), family="AF_UNIX").close()
print("listened", os.environ["TMPDIR"])
"""


@pytest.fixture
def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("long-" * 20) / "temporary"
    folder.mkdir(parents=True)
    return folder


def test_a_long_folder_is_reached_by_a_short_link_that_is_found_again(long_folder: Path) -> None:
    first = short_temp.shortened({"TMPDIR": str(long_folder), "A": "b"})
    link = Path(first["TMPDIR"])
    try:
        assert len(str(link)) <= short_temp.MOST_BYTES
        assert link.resolve() == long_folder
        assert first["A"] == "b"
        assert short_temp.shortened({"TMPDIR": str(long_folder)}) == {"TMPDIR": str(link)}
        link.unlink()
        link.mkdir()
        with pytest.raises(OSError, match="something else"):
            short_temp.shortened({"TMPDIR": str(long_folder)})
        link.rmdir()
    finally:
        link.unlink(missing_ok=True)


@pytest.mark.parametrize("env", [{}, {"TMPDIR": "/data/cache/temporary"}])
def test_a_short_one_stays(env: dict[str, str]) -> None:
    assert short_temp.shortened(env) == env


def test_a_job_can_listen_on_a_socket_below_a_long_root(node: Node, long_folder: Path) -> None:
    node.python(LISTEN, env={"TMPDIR": str(long_folder)}, make_directories=[str(long_folder)])
    end = node.end()
    assert end["state"] == "succeeded", node.output()
    link = Path(node.output().split()[-1])
    assert link.readlink() == long_folder
    link.unlink()
