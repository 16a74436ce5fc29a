"""up and down, as far as no container is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pyswiftops import provision
from pyswiftops.errors import BadInputError, RunConflictError
from pyswiftops.specs.fleet import Fleet


def local(folder: Path, **changes: object) -> Path:
    path = folder / "fleet.yml"
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "local",
        "device": "cpu",
        "root": "nodes",
        "state": "state",
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
        **changes,
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def swiftops(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyswiftops.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_up_makes_local_nodes_and_changes_nothing_the_second_time(tmp_path: Path) -> None:
    path = local(tmp_path)
    first = swiftops("up", "-i", path)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "nodes" / "node-2").is_dir()
    assert "node-1           changed" in first.stdout
    again = swiftops("up", "-i", path, "--json")
    assert json.loads(again.stdout)["changed"] == {"node-1": 0, "node-2": 0}


@pytest.mark.slow
def test_a_machine_that_fails_is_named_and_the_others_are_made(tmp_path: Path) -> None:
    nodes = [{"name": "node-1"}, {"name": "node-2", "root": "/proc/none/node-2"}]
    done = swiftops("up", "-i", local(tmp_path, nodes=nodes))
    assert done.returncode == 1
    assert "node-2           failed" in done.stdout
    assert "node-2: The node's own directory" in done.stderr
    assert (tmp_path / "nodes" / "node-1").is_dir()


@pytest.mark.slow
def test_a_spare_is_made_and_asked_like_the_other_nodes_and_no_run_has_it(tmp_path: Path) -> None:
    nodes = [{"name": "node-1"}, {"name": "node-2", "spare": True}]
    path = local(tmp_path, nodes=nodes)
    done = swiftops("up", "-i", path, "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["changed"]) == {"node-1", "node-2"}
    assert (tmp_path / "nodes" / "node-2").is_dir()
    asked = json.loads(swiftops("exec", "-i", path, "--json", "--", "true").stdout)
    assert [(item["node"], item["code"]) for item in asked] == [("node-1", 0), ("node-2", 0)]
    assert list(Fleet.load(path).host_vars()) == ["node-1"]


def test_a_second_up_at_the_same_time_is_refused(tmp_path: Path) -> None:
    fleet = Fleet.load(local(tmp_path))
    with (
        provision.alone(fleet),
        pytest.raises(RunConflictError, match="another process is at it"),
        provision.alone(fleet),
    ):
        pass
    with provision.alone(fleet):  # and it is free again
        pass


def test_down_of_a_fleet_that_was_not_made_is_bad_input(tmp_path: Path) -> None:
    done = swiftops("down", "-i", local(tmp_path))
    assert done.returncode == 2
    assert "a fleet file without hosts" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    fleet = Fleet.load(local(tmp_path, state="/proc/none"))
    with pytest.raises(BadInputError, match="name another with state"):
        provision.up(fleet)


def test_a_fleet_with_hosts_needs_the_collection_for_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "runtime": "container",
        "root": "/data/swiftops",
        "hosts": [{"name": "host-1"}],
        "container": {"image": {"build": {"wheelhouse": "w"}}},
    }
    fleet = Fleet.load(local(tmp_path, **changes))
    monkeypatch.setattr(provision, "COLLECTION", ("community", "no_such"))
    for verb in (provision.up, provision.down):
        with pytest.raises(BadInputError, match=r"pip install 'pyswiftops\[fleet\]'"):
            verb(fleet)
    assert not (tmp_path / "state").exists()


def test_passwords_are_not_shown() -> None:
    assert "hunter2" not in repr(provision.Passwords(login="hunter2", become="hunter2"))
