"""The version matrix is data of one schema, and what is installed from here equals it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pyswiftops import matrix
from pyswiftops.errors import MatrixError
from pyswiftops.stages import lines
from pyswiftops.stages.lines.abilities import proofs


def test_each_row_lies_in_the_file_of_its_line(checkout: Path) -> None:
    files = {path.stem for path in (checkout / "roles/versions/vars/main").glob("*.yml")}
    assert set(matrix.rows()) == files
    for line, row in matrix.rows().items():
        assert row.release.startswith(f"{line}.")
    assert set(lines.rendered()) == files
    with pytest.raises(MatrixError, match="commands can be rendered for"):
        lines.line("3.5")


@pytest.mark.parametrize("line", matrix.rows())
def test_each_line_has_the_flags_of_its_release(line: str) -> None:
    row, verbs = matrix.row(line), matrix.typed_flags(line)
    assert verbs["swift sft"]["dataset"] == "List[str] = list()"
    assert ("megatron sft" in verbs) == (line != "2.6")
    assert ("megatron export" in verbs) == (line not in {"2.6", "3.6", "3.7", "3.8", "3.9"})
    if row.apex is not None:
        assert set(row.apex.avoid) <= set(verbs["megatron sft"])


def test_what_was_renamed_between_lines_is_in_the_inventories() -> None:
    for line in matrix.rows():
        if line == "2.6":
            continue
        train = matrix.flags(line)["megatron sft"]
        assert ("save" in train, "output_dir" in train) == (line[0] == "3", line[0] == "4"), line
        assert ("max_epochs" in train) == (line[0] == "3")
        assert ("mcore_model" in train) == (line[0] == "4")


def test_every_pin_lies_in_its_own_range() -> None:
    for row in matrix.rows().values():
        for name, package in row.packages.items():
            for pin in filter(None, (package.pin, package.pin_py312, *package.also)):
                assert Version(pin) in SpecifierSet(package.range), name


def test_the_extra_local_pins_what_the_matrix_pins(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = matrix.row("4.6").packages
    seen = set()
    for text in project["optional-dependencies"]["local"]:
        requirement = Requirement(text)
        if requirement.name not in packages:
            continue
        package = packages[requirement.name]
        newer = requirement.marker is not None and not requirement.marker.evaluate(
            {"python_version": "3.11"}
        )
        expected = package.pin_py312 if newer else package.pin
        if expected is not None:
            assert str(requirement.specifier) == f"=={expected}", text
        seen.add(requirement.name)
    assert seen == set(packages) - {"transformer_engine", "flash-attn", "vllm", "sglang"}


def test_an_unknown_line_names_the_known_ones() -> None:
    with pytest.raises(MatrixError, match=r"line: one of 2\.6, 3\.6, .*, 4\.6"):
        matrix.row("9.9")


def test_a_malformed_row_is_refused() -> None:
    data = matrix.row("4.6").model_dump()
    with pytest.raises(MatrixError, match="did you mean 'defects'"):
        matrix.load_row({**data, "defect": []}, "x.yml")


def test_flags_must_match_in_full() -> None:
    (finding,) = matrix.check_flags("4.6", "megatron sft", {"train_iter": 1}, "extra_args.train")
    assert finding.remedy == "did you mean 'train_iters'?"
    assert not matrix.check_flags("4.6", "megatron sft", {"train_iters": 1}, "x")


def test_python_holds_no_copy_of_a_version(checkout: Path) -> None:
    pins = {package.pin for package in matrix.row("4.6").packages.values() if package.pin}
    for path in (checkout / "pyswiftops").rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                assert item.value.strip("=<>v") not in pins, path


def test_what_was_run_are_abilities_that_the_line_has() -> None:
    for name, row in matrix.rows().items():
        proven = proofs(name)
        assert {ability: proven[ability] for ability in row.run} == dict.fromkeys(row.run, "run")


def test_an_ability_is_refused_where_the_line_has_it_not() -> None:
    assert proofs("3.6")["lora"] is None
    assert proofs("3.7")["lora"] == "classes"
    assert proofs("3.8")["kto"] is None
    assert proofs("3.9")["kto"] == "classes"
    assert proofs("4.6")["grpo"] == "parser"
    with pytest.raises(MatrixError, match=r"lines that can: 3\.7, 3\.8"):
        lines.line("3.6").flags("train", "sft", {"tuner": "lora"})
    with pytest.raises(MatrixError, match=r"lines that can: 3\.10, 3\.11"):
        lines.line("3.9").flags("export", "sft", {"merge_lora": False})


def test_an_unknown_flag_is_told_with_its_nearest_name_and_the_lines_that_have_it() -> None:
    (finding,) = matrix.check_flags("4.6", "megatron sft", {"save_interval": 1}, "extra_args.train")
    assert finding.where == "extra_args.train.save_interval"
    assert "did you mean" in finding.remedy
    assert "Lines that have it: 3.6, 3.7, 3.8, 3.9, 3.10, 3.11, 3.12" in finding.remedy
    (finding,) = matrix.check_flags("4.6", "megatron sft", {"lrr": 1}, "extra_args.train")
    assert "did you mean 'lr'?" in finding.remedy
    assert "Lines that have it" not in finding.remedy
