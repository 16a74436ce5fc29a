"""``python -m pyswiftops.data.fetch`` with the hubs' real clients against a loopback server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import manifest

from pyswiftops.data.fetch import ROOM
from pyswiftops.paths import FetchedFolder

from .hub_server import COMMIT, Hub, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MARK = "token-that-is-found-nowhere"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": os.urandom(300_000),
    "model-00002-of-00002.safetensors": os.urandom(200_000),
    "模型 card/read me.md": "智".encode(),
}


@dataclass
class Lab:
    """A hub with one model and one dataset, and a node's folder."""

    hub: Hub
    home: Path

    def place(self, kind: str) -> FetchedFolder:
        return FetchedFolder(str(self.home / "node" / kind / "Owner" / "Tiny-0.1B"))

    def fetch(self, hub: str, kind: str, **env: str) -> subprocess.CompletedProcess[str]:
        item = ("--item", hub, kind, "Owner/Tiny-0.1B", "v1", self.place(kind).folder)
        return subprocess.run(
            [sys.executable, "-m", "pyswiftops.data.fetch", *item],
            env={
                **os.environ,
                "HF_ENDPOINT": self.hub.url,
                "HF_TOKEN": MARK,
                "HF_HOME": str(self.home / "cache" / "huggingface"),
                "MODELSCOPE_ENDPOINT": self.hub.url,
                "MODELSCOPE_API_TOKEN": MARK,
                "MODELSCOPE_CACHE": str(self.home / "cache" / "modelscope"),
                "HOME": str(self.home / "home"),
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    for kind in ("models", "datasets"):
        for name, data in {**FILES, "left-out.gguf": b"x", "dataset_infos.json": b"{}"}.items():
            path = tmp_path / "repository" / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    repositories = {
        f"{kind}/Owner/Tiny-0.1B": tmp_path / "repository" / kind for kind in ("models", "datasets")
    }
    with serving(Hub(repositories, MARK)) as hub:
        yield Lab(hub, tmp_path)


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_what_the_hub_lists_is_what_is_staged_and_recorded(lab: Lab, hub: str) -> None:
    left_out = {"models": {"dataset_infos.json": b"{}"}, "datasets": {"left-out.gguf": b"x"}}
    for kind in ("models", "datasets"):
        place = lab.place(kind)
        done = lab.fetch(hub, kind)
        assert done.returncode == 0, done.stderr
        assert tree(Path(place.staging)) == {**FILES, **left_out[kind]}
        assert not Path(place.folder).exists()  # the playbook gives it its name
        record = json.loads(Path(place.record).read_text(encoding="utf-8"))
        assert record["files"] == manifest.build(place.staging)["files"]
        assert record["commit"] == (COMMIT if hub == "huggingface" else "")
    written = [path for path in lab.home.rglob("*") if path.is_file()]
    assert not [path for path in written if MARK.encode() in path.read_bytes()]


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_a_fetch_that_was_cut_off_goes_on_and_a_damaged_file_is_fetched_anew(
    lab: Lab, hub: str
) -> None:
    place = lab.place("models")
    damaged = "model-00002-of-00002.safetensors"
    lab.hub.damaged.add(damaged)
    first = lab.fetch(hub, "models")
    assert first.returncode == 1
    assert damaged in first.stderr + first.stdout
    assert "remedy: " in first.stderr
    assert not Path(place.record).exists()
    assert damaged not in tree(Path(place.staging))

    lab.hub.damaged.clear()
    lab.hub.sent.clear()
    second = lab.fetch(hub, "models")
    assert second.returncode == 0, second.stderr
    assert lab.hub.sent == [damaged]
    assert {name: tree(Path(place.staging))[name] for name in FILES} == FILES


@pytest.mark.parametrize(
    ("hub", "variable"), [("huggingface", "HF_TOKEN"), ("modelscope", "MODELSCOPE_API_TOKEN")]
)
def test_a_refused_token_is_named_but_not_shown(lab: Lab, hub: str, variable: str) -> None:
    done = lab.fetch(hub, "models", **{variable: "another-token"})
    assert done.returncode == 1
    assert f"needs {variable} (it is set)" in done.stderr
    assert "another-token" not in done.stdout + done.stderr
    assert lab.hub.sent == []


def test_no_byte_is_asked_for_where_another_node_has_no_room(lab: Lab) -> None:
    room = f"499999 node-2 {lab.place('models').folder}"
    done = lab.fetch("huggingface", "models", **{ROOM: room})
    assert done.returncode == 1
    assert "found: node-2: " in done.stderr
    assert "room for " in done.stderr
    assert lab.hub.sent == []


def test_an_id_that_the_hub_lacks_is_bad_input_of_its_kind(lab: Lab) -> None:
    lab.hub.repositories.clear()
    done = lab.fetch("huggingface", "models")
    assert done.returncode == 1
    assert "RepositoryNotFoundError" in done.stderr
    assert "look at the id" in done.stderr
