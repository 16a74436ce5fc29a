"""The built wheel, in a clean virtual environment and from any folder; the collection tarball."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow]

INSIDE = "ansible_collections/pyswiftops/fleet"
FLEET = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "local",
    "device": "cpu",
    "root": "nodes",
    "nodes": [{"name": "node-1"}, {"name": "node-2"}],
}
RUN = {
    "name": "r",
    "model": {"path": "/models/m"},
    "data": {"train": ["/data/rows.jsonl"], "max_length": 64},
    "training": {"iterations": 1, "global_batch_size": 2},
    "parallel": {"pipeline": 2},
}


def call(*argv: str | Path, cwd: Path, **env: str) -> str:
    """Run a program; its output, or a failed test that shows it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE")}
    clean.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={**clean, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as a release is."""
    checkout = Path(__file__).resolve().parents[2]
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", folder, checkout, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a clean virtual environment that has the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("venv")
    call(sys.executable, "-m", "venv", folder, cwd=folder)
    call(folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return folder / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with a fleet file and a run file, far from the checkout."""
    text = yaml.safe_dump(FLEET, sort_keys=False)
    (tmp_path / "fleet.yml").write_text(text, encoding="utf-8")
    (tmp_path / "run.yml").write_text(yaml.safe_dump({"run": RUN}), encoding="utf-8")
    return tmp_path


def test_the_wheel_carries_the_collection_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        f"{INSIDE}/galaxy.yml",
        f"{INSIDE}/meta/runtime.yml",
        f"{INSIDE}/plugins/inventory/fleet.py",
        f"{INSIDE}/playbooks/stages/train.yml",
        f"{INSIDE}/roles/versions/vars/main/4.6.yml",
        f"{INSIDE}/roles/versions/files/flags/4.6.json",
        f"{INSIDE}/inventory/local/fleet.yml",
        "pyswiftops/py.typed",
        "pyswiftops/cpu_backend/bootstrap/sitecustomize.py",
    ):
        assert needed in names
    assert any("transformer_engine" in name and name.endswith("METADATA") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {"ansible_collections", "pyswiftops", "pyswiftops-0.1.0.dist-info"}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


@pytest.mark.parametrize("playbook", ["site", "pipeline", "stages.train"])
def test_playbooks_are_found_from_any_folder(
    programs: Path, elsewhere: Path, playbook: str
) -> None:
    call(
        programs / "ansible-playbook",
        f"pyswiftops.fleet.{playbook}",
        "--syntax-check",
        cwd=elsewhere,
    )


def test_the_fleet_file_is_an_inventory(programs: Path, elsewhere: Path) -> None:
    graph = call(programs / "ansible-inventory", "-i", "fleet.yml", "--graph", cwd=elsewhere)
    assert "@swiftops_nodes:" in graph
    assert "node-2" in graph


def test_a_stage_runs_in_check_mode_from_any_folder(programs: Path, elsewhere: Path) -> None:
    argv = [programs / "ansible-playbook", "pyswiftops.fleet.stages.train", "--check", "-v"]
    output = call(*argv, "-i", "fleet.yml", "-e", "@run.yml", cwd=elsewhere)
    assert "pipeline_model_parallel_size" in output
    assert "failed=0" in output
    assert not (elsewhere / "nodes").exists()


def test_a_hand_written_inventory_works_as_well(programs: Path, elsewhere: Path) -> None:
    hosts = {
        f"node-{number}": {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "swiftops_device": "cpu",
            "swiftops_line": "4.6",
            "swiftops_rank": number - 1,
            "swiftops_root": str(elsewhere / "nodes" / f"node-{number}"),
            "swiftops_python": "/venv/bin/python",
            "swiftops_address": "127.0.0.1",
        }
        for number in (1, 2)
    }
    document = {"swiftops_nodes": {"hosts": hosts}}
    (elsewhere / "hosts.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    argv = [programs / "ansible-playbook", "pyswiftops.fleet.stages.train", "--check"]
    output = call(*argv, "-i", "hosts.yml", "-e", "@run.yml", cwd=elsewhere)
    assert "failed=0" in output


def test_every_node_gets_a_fork_of_its_own(programs: Path, elsewhere: Path) -> None:
    nodes = [{"name": f"node-{number}"} for number in range(1, 9)]
    text = yaml.safe_dump({**FLEET, "nodes": nodes}, sort_keys=False)
    (elsewhere / "fleet.yml").write_text(text, encoding="utf-8")
    (elsewhere / "forks.yml").write_text(
        "- hosts: swiftops_nodes\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.debug: {var: ansible_forks}\n      run_once: true\n",
        encoding="utf-8",
    )
    argv = [programs / "ansible-playbook", "forks.yml", "-i", "fleet.yml"]
    assert '"ansible_forks": 8' in call(*argv, cwd=elsewhere)
    assert '"ansible_forks": 3' in call(*argv, "--forks", "3", cwd=elsewhere)


def test_the_installed_command_finds_the_installed_collection(
    programs: Path, elsewhere: Path
) -> None:
    assert call(programs / "swiftops", "--version", cwd=elsewhere).strip() == "swiftops 0.1.0"
    path = call(programs / "swiftops", "collections-path", cwd=elsewhere).strip()
    assert Path(path, INSIDE, "galaxy.yml").is_file()
    assert Path(path).is_relative_to(programs.parent)


def test_the_galaxy_tarball_builds_and_installs(
    programs: Path, elsewhere: Path, checkout: Path
) -> None:
    galaxy = programs / "ansible-galaxy"
    call(galaxy, "collection", "build", "--output-path", elsewhere, checkout, cwd=checkout)
    (tarball,) = elsewhere.glob("pyswiftops-fleet-*.tar.gz")
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
        file = archive.extractfile("MANIFEST.json")
        assert file is not None
        info = json.load(file)["collection_info"]
    assert (info["namespace"], info["name"]) == ("pyswiftops", "fleet")
    assert "roles/stage_job/tasks/main.yml" in names
    tops = {name.split("/")[0] for name in names}
    assert not tops & {"pyswiftops", "tests", ".venv", "bench", ".git", "demo"}
    where = elsewhere / "installed"
    call(
        galaxy, "collection", "install", "--offline", "--force", "-p", where, tarball, cwd=elsewhere
    )
    assert (where / INSIDE / "plugins" / "modules" / "job.py").is_file()


def test_an_editable_install_sees_edits_of_roles(
    tmp_path_factory: pytest.TempPathFactory, checkout: Path
) -> None:
    """An editable wheel must not carry a copy of the collection."""
    folder = tmp_path_factory.mktemp("editable")
    pip = (sys.executable, "-m", "pip")
    call(*pip, "install", "--quiet", "--no-deps", "--target", folder, "-e", checkout, cwd=folder)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    assert any(name.endswith(".pth") for name in names)
    assert not [name for name in names if name.startswith("ansible_collections")]
