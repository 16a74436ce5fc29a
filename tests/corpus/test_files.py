"""Fleet files and run files that must be refused: one sentence each, nothing created.

The corpus is data: ``fleet.yml`` and ``run.yml`` beside this file. The command line turns what is
raised here into exit code 2 (``test_arguments.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

from .conftest import BASES, refused

HERE = Path(__file__).parent


def corpus(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    return data


def cases(name: str) -> list[Any]:
    return [pytest.param(*case[1:], id=case[0]) for case in corpus(name)["cases"]]


def changed(name: str, base: str, old: str, new: str) -> str:
    text: str = BASES[name][base]
    if old == "append":
        return text + new
    assert text.count(old), f"{old!r} does not stand in the base"
    return text.replace(old, new, 1)


corpus_of = {name: corpus(name) for name in ("fleet.yml", "run.yml")}


@pytest.mark.parametrize(("base", "old", "new", "said"), cases("fleet.yml"))
def test_a_fleet_file_is_refused(
    tmp_path: Path, base: str, old: str, new: str, said: list[str]
) -> None:
    text = changed("fleet.yml", base, old, new)
    (tmp_path / "fleet.yml").write_text(text, encoding="utf-8")
    refused(tmp_path, said, lambda: Fleet.load(tmp_path / "fleet.yml"))


@pytest.mark.parametrize(("base", "old", "new", "said"), cases("run.yml"))
def test_a_run_file_is_refused(
    tmp_path: Path, base: str, old: str, new: str, said: list[str]
) -> None:
    text = changed("run.yml", base, old, new)
    (tmp_path / "run.yml").write_text(text, encoding="utf-8")
    refused(tmp_path, said, lambda: RunSpec.load(tmp_path / "run.yml"))


def test_the_bases_are_valid(tmp_path: Path) -> None:
    for name, kind in (("fleet.yml", Fleet), ("run.yml", RunSpec)):
        for base in BASES[name].values():
            (tmp_path / name).write_text(base, encoding="utf-8")
            kind.load(tmp_path / name)


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    names = [(file, case[0]) for file, data in corpus_of.items() for case in data["cases"]]
    assert len(names) >= 300
    assert len(set(names)) == len(names)
