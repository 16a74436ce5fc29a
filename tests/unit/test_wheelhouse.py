"""The wheelhouse, made from wheels of a local folder that stand for a package registry."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from pyswiftops import wheelhouse
from pyswiftops.errors import BadInputError, MatrixError, WheelhouseError
from pyswiftops.wheelhouse import make_wheelhouse, needs

pytestmark = pytest.mark.slow  # pip starts several times


def wheel(folder: Path, name: str, requires: str = "", content: str = "") -> None:
    """A wheel as pip takes it."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    needs_line = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", content)
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs_line}"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "registry"
    wheel(folder, "alpha", requires="beta")
    wheel(folder, "beta")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    # pyswiftops' own wheel is made without a build environment of its own, as no index is there
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    return folder


def test_a_wheelhouse_holds_all_that_is_required_and_pyswiftops(
    tmp_path: Path, registry: Path
) -> None:
    assert registry.is_dir()
    made = make_wheelhouse(tmp_path / "w", requirements=("alpha",))
    names = {name.split("-")[0] for name in made.files}
    assert names == {"packages/alpha", "packages/beta", "pyswiftops"}
    told = json.loads((tmp_path / "w" / "wheelhouse.json").read_text(encoding="utf-8"))
    assert told["files"] == made.files
    assert told["line"] == "4.6"
    again = make_wheelhouse(tmp_path / "w", requirements=("alpha",))
    assert not again.changed
    assert again.files == made.files


def test_a_damaged_wheel_is_brought_again(tmp_path: Path, registry: Path) -> None:
    made = make_wheelhouse(tmp_path / "w", requirements=("alpha",))
    victim = tmp_path / "w" / "packages" / "beta-1.0-py3-none-any.whl"
    victim.write_bytes(b"")
    wheel(registry, "beta", content="new = 1")
    again = make_wheelhouse(tmp_path / "w", requirements=("alpha",))
    assert again.changed
    assert zipfile.ZipFile(victim).read("beta.py") == b"new = 1"
    assert again.files[f"packages/{victim.name}"] != made.files[f"packages/{victim.name}"]


def test_a_wheel_that_is_not_to_be_had_is_named(tmp_path: Path, registry: Path) -> None:
    assert registry.is_dir()
    with pytest.raises(WheelhouseError, match="no-such-package"):
        make_wheelhouse(tmp_path / "w", requirements=("no-such-package",))
    assert not (tmp_path / "w" / "wheelhouse.json").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_holds_other_things_is_left_alone(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "w"
    if kind == "file":
        place.write_text("mine", encoding="utf-8")
    else:
        place.mkdir()
        (place / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInputError, match="expected: an empty folder, or a wheelhouse"):
        make_wheelhouse(place)
    assert not (place / "packages").exists()


def test_an_unknown_line_or_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MatrixError):
        make_wheelhouse(tmp_path / "w", line="0.1")
    with pytest.raises(BadInputError, match=r"a Python as 3\.11"):
        make_wheelhouse(tmp_path / "w", python="eleven")
    assert not (tmp_path / "w").exists()


def test_the_pins_of_a_python_are_its_own() -> None:
    old = [text for text in needs("3.11") if text.startswith("megatron-core")]
    new = [text for text in needs("3.12") if text.startswith("megatron-core")]
    assert len(old) == len(new) == 1
    assert old != new
    assert any(text.startswith("ansible-core") for text in needs("3.11"))
    assert wheelhouse.here()[0].startswith("3.")
