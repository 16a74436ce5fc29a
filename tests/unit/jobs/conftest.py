"""Jobs are tested with real processes; each test ends what it started, and only that."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import ansible.module_utils.basic  # noqa: F401 (imported once for all executions)
import pytest

ROOT = Path(__file__).parents[3]
MODULE = ROOT / "plugins" / "modules" / "job.py"

# The nodes' code is imported as it is shipped: as one package, whatever its name.
_package = types.ModuleType("fleet_utils")
_package.__path__ = [str(ROOT / "plugins" / "module_utils")]
sys.modules.setdefault("fleet_utils", _package)

from fleet_utils import job_stop, job_view, ports, process_tree  # noqa: E402

# Prints its pid, then those of two children in sessions of their own, like torchrun's ranks.
FAMILY = """
import os, subprocess, time
print(os.getpid(), flush=True)
for _ in range(2):
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    print(child.pid, flush=True)
time.sleep(300)
"""
OVER = ("succeeded", "failed", "stopped", "lost")


class Execution:
    """One execution of the module in a process of its own, as Ansible does it.

    The process is forked from this one, which has imported Ansible's part already; that
    saves half a second each. The supervisor outlives it like any module's.
    """

    def __init__(self, given: dict[str, Any], collections: Path, env: dict[str, str]) -> None:
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._reader)
            self._run(given, collections, env, writer)
        os.close(writer)

    @staticmethod
    def _run(
        given: dict[str, Any], collections: Path, env: dict[str, str], writer: int
    ) -> NoReturn:
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            sys.stdin = io.TextIOWrapper(io.BytesIO(json.dumps(given).encode()), encoding="utf-8")
            sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115 (descriptor)
            sys.argv = [str(MODULE)]
            sys.path.insert(0, str(collections))
            os.environ.update(env)
            for name in [name for name in sys.modules if name.startswith("ansible_collections")]:
                del sys.modules[name]
            runpy.run_path(str(MODULE), run_name="__main__")
        except SystemExit:
            pass
        except BaseException:  # noqa: BLE001 (the test process must not go on twice)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)

    def answer(self) -> dict[str, Any]:
        """Return what the module prints."""
        with os.fdopen(self._reader) as pipe:
            out = pipe.read()
        os.waitpid(self._pid, 0)
        assert out.strip().startswith("{"), out
        return json.loads(out)


class Node:
    """One node's job."""

    def __init__(self, root: Path, name: str, collections: Path) -> None:
        self.name = name
        self.root = root / name
        self.directory = self.root / "runs" / "r1" / "jobs" / "train"
        self.env: dict[str, str] = {}
        self._collections = collections

    def module(self, **params: Any) -> dict[str, Any]:
        """Run the module and return what it prints."""
        return self.execute(**params).answer()

    def execute(self, *, check: bool = False, **params: Any) -> Execution:
        """Start the module and do not wait for it."""
        given = {"directory": str(self.directory), "_ansible_remote_tmp": str(self.root), **params}
        given["_ansible_check_mode"] = check
        return Execution({"ANSIBLE_MODULE_ARGS": given}, self._collections, self.env)

    def job(self, *argv: str, **params: Any) -> dict[str, Any]:
        """Return the parameters that start a job."""
        who = {"run_id": "r1", "stage": "train", "node": self.name}
        return {"state": "started", "argv": list(argv), "stop_grace": 2, **who, **params}

    def start(self, *argv: str, **params: Any) -> dict[str, Any]:
        """Start a job; it has to work."""
        told = self.module(**self.job(*argv, **params))
        assert not told.get("failed"), told["msg"]
        return told

    def python(self, code: str, **params: Any) -> dict[str, Any]:
        """Start a Python program as the job."""
        return self.start(sys.executable, "-c", code, **params)

    def family(self, **params: Any) -> tuple[dict[str, Any], list[int]]:
        """Start a job with two children; return the answer and the three recorded pids."""
        told = self.python(FAMILY, **params)
        pids = self.pids(3)
        self.eventually(lambda: len(self.recorded()["descendants"]) == 3)
        return told, pids

    def read(self, **wanted: Any) -> dict[str, Any]:
        """Look at the job, in this process since that is quicker."""
        return job_view.read(str(self.directory), job_view.Wanted(**wanted))

    def end(self, seconds: float = 15) -> dict[str, Any]:
        """Return the job once it is over."""
        told = job_view.wait(str(self.directory), seconds, None, job_view.Wanted(tail=20))
        assert told["state"] in OVER, told
        return told

    def recorded(self) -> dict[str, Any]:
        """Return the state file."""
        return json.loads((self.directory / "state.json").read_text())

    def output(self) -> str:
        """Return the log."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def pids(self, count: int, seconds: float = 10) -> list[int]:
        """Return the pids that the job printed, one a line, once there are so many."""

        def found() -> list[int]:
            return [int(line) for line in self.output().splitlines() if line.isdigit()]

        return self.eventually(lambda: found() if len(found()) >= count else None, seconds)

    @staticmethod
    def eventually(check: Callable[[], Any], seconds: float = 10) -> Any:
        """Return the first true answer."""
        deadline = time.monotonic() + seconds
        while not (found := check()):
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.05)
        return found

    @staticmethod
    def alive(*pids: int) -> list[int]:
        """Return those that run; a zombie does not."""
        stats = [process_tree.read_stat(pid) for pid in pids]
        return [stat.identity.pid for stat in stats if stat is not None and not stat.dead]


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path in which this checkout is the collection."""
    path = tmp_path_factory.mktemp("collections")
    (path / "ansible_collections" / "pyswiftops").mkdir(parents=True)
    (path / "ansible_collections" / "pyswiftops" / "fleet").symlink_to(ROOT)
    return path


@pytest.fixture
def make_node(tmp_path: Path, collections: Path) -> Iterator[Callable[[str], Node]]:
    """Make nodes whose jobs are stopped when the test is over."""
    made: list[Node] = []

    def make(name: str) -> Node:
        made.append(Node(tmp_path, name, collections))
        return made[-1]

    yield make
    for node in made:
        job_stop.stop(str(node.directory), 0.2, job_view.Wanted())


@pytest.fixture
def node(make_node: Callable[[str], Node]) -> Node:
    return make_node("n1")


@pytest.fixture
def port(request: pytest.FixtureRequest) -> int:
    return ports.lease(1, "127.0.0.1", range(22000, 23000), key=request.node.name)[0]


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of any job's."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()
