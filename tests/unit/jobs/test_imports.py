"""What a job's Python processes imported is recorded by them, whatever becomes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleet_utils import imports

if TYPE_CHECKING:
    from conftest import Node

ROOT = Path(__file__).parents[3]
BOOTSTRAP = ROOT / "pyswiftops" / "cpu_backend" / "bootstrap"


def package(folder: Path, name: str, distribution: str, version: str, own: str = "") -> None:
    """An installed package."""
    (folder / name).mkdir(parents=True)
    text = f"__version__ = {own or version!r}\n"
    (folder / name / "__init__.py").write_text(text, encoding="utf-8")
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8"
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "l ib"
    package(folder, "swift", "ms-swift", "4.6.0")
    package(folder, "trl", "trl", "0.29.1", own="0.30.0")
    return folder


class Hooked:
    """Pythons that run the hook as a job's do."""

    def __init__(self, folder: Path, *python_path: Path) -> None:
        self.hook, self.records = folder / "hook", folder / "imports"
        self.hook.mkdir()
        source = ROOT / "plugins" / "module_utils" / "import_hook.py"
        (self.hook / imports.HOOK_FILE).write_bytes(source.read_bytes())
        before = ":".join(map(str, python_path))
        self.env = os.environ | imports.environment(self.hook, self.records, before)

    def run(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=self.env | env,
            capture_output=True,
            text=True,
            check=False,
        )

    def summary(self) -> dict[str, Any] | None:
        return imports.summary(self.records)


def test_a_rank_that_fails_leaves_what_it_imported(tmp_path: Path, site: Path) -> None:
    hooked = Hooked(tmp_path, site)
    assert "boom" in hooked.run("import swift, trl; raise ValueError('boom')", RANK="3").stderr
    told = hooked.summary()
    assert told is not None
    assert (told["processes"], told["ranks"]) == (1, [3])
    assert told["python"] == sys.version.split()[0]
    assert told["packages"] == {"ms-swift": "4.6.0", "trl": "0.29.1"}
    assert told["folder"] == str(site)
    assert told["differ"] == {"trl": "0.30.0"}  # not the files that were installed


def test_only_what_was_imported_counts_and_processes_are_joined(tmp_path: Path, site: Path) -> None:
    hooked = Hooked(tmp_path, site)
    other = tmp_path / "other"
    package(other, "trl", "trl", "0.28.0")
    hooked.run("import swift", RANK="0")
    hooked.run(f"import sys; sys.path.insert(0, {str(other)!r}); import swift, trl", RANK="1")
    hooked.run("import trl")  # no rank, no server
    told = hooked.summary()
    assert told is not None
    assert told["ranks"] == [0, 1]
    assert told["packages"] == {"ms-swift": "4.6.0", "trl": "0.28.0"}
    assert told["elsewhere"] == {"trl": str(other)}


def test_a_stand_in_without_a_file_says_who_made_it(tmp_path: Path, site: Path) -> None:
    hooked = Hooked(tmp_path, site)
    made = "m = sys.modules['te'] = types.ModuleType('te'); m.__version__ = '2.3'; m.__loader__ = 1"
    hooked.run(f"import swift, sys, types; {made}")
    told = hooked.summary()
    assert told is not None
    assert told["packages"]["te"] == "2.3"
    assert told["elsewhere"]["te"] == "builtins.int"


@pytest.mark.parametrize("hook_first", [True, False])
def test_every_other_sitecustomize_still_runs_once(
    tmp_path: Path, site: Path, *, hook_first: bool
) -> None:
    """The CPU backend puts its own in front, and it looks behind itself for others."""
    users = tmp_path / "users"
    users.mkdir()
    (users / "sitecustomize.py").write_text("print('mine')\n", encoding="utf-8")
    hooked = Hooked(tmp_path, *([BOOTSTRAP] if hook_first else []), users, site)
    if not hook_first:
        hooked.env["PYTHONPATH"] = f"{BOOTSTRAP}:{hooked.env['PYTHONPATH']}"
    code = "import swift, sys; print([type(finder).__name__ for finder in sys.meta_path][0])"
    done = hooked.run(code, SWIFTOPS_CPU_BACKEND="1")
    assert done.stdout.splitlines() == ["mine", "_TorchFinder"]
    assert done.stderr == ""
    assert hooked.summary() is not None


@pytest.mark.parametrize("way", ["off", "unwritable", "helper"])
def test_it_can_be_switched_off_and_never_breaks_a_process(
    tmp_path: Path, site: Path, way: str
) -> None:
    hooked = Hooked(tmp_path, site)
    if way == "unwritable":
        hooked.records.write_text("a file is in the way", encoding="utf-8")
    env = {"SWIFTOPS_RECORD_IMPORTS": "0"} if way == "off" else {}
    fork = "import os; os._exit(0) if os.fork() == 0 else os.wait()"
    done = hooked.run("import swift; print('fine')" if way != "helper" else fork, **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert hooked.summary() is None


def test_a_record_that_is_none_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{", encoding="utf-8")
    (tmp_path / "2.json").write_text("[]", encoding="utf-8")
    assert imports.summary(tmp_path) is None


def test_the_module_tells_of_an_ended_job_only(node: Node, site: Path) -> None:
    code = "import swift, sys; sys.exit(3)"
    node.python(code, env={"PYTHONPATH": str(site)})
    told = node.module(state="finished", wait=60)
    assert (told["state"], told["exit_code"]) == ("failed", 3)
    assert told["imports"]["packages"] == {"ms-swift": "4.6.0"}
    assert told["curve"] is None
    assert "imports" not in node.module(state="read")
