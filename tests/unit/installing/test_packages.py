"""A row of the matrix as commands of pip, in order, and the proof of what came of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pyswiftops.errors import BadInputError
from pyswiftops.installing import facts, packages
from pyswiftops.matrix import Package, row, rows

WITH_TORCH = [line for line in rows() if "torch" in row(line).packages]


def told(python: str = "3.11.2", managed: bool = False, **versions: str) -> str:
    held = {
        name.replace("_", "-"): {
            "version": version,
            "url": "",
            "commit": "",
            "revision": "",
            "editable": False,
        }
        for name, version in versions.items()
    }
    answer = {"python": python, "machine": "x86_64", "packages": held, "managed": managed}
    return json.dumps({**answer, "torch": None, "nvcc": ""})


def commands(line: str, output: str, **settings: Any) -> list[list[str]]:
    return packages.install_commands(line, output, "node-1", "/opt/swift/bin/python", settings)


@pytest.mark.parametrize("line", WITH_TORCH)
@pytest.mark.parametrize("python", ["3.11.2", "3.12.9"])
def test_torch_comes_first_and_each_requirement_lies_in_the_rows_range(
    line: str, python: str
) -> None:
    first, second = packages.batches(row(line), python, {})
    assert [Requirement(text).name for text in first] == ["torch"]
    assert second[0] == first[0]
    for text in second:
        wanted = Requirement(text)
        package = row(line).packages[wanted.name]
        for version in (package.pin, package.pin_py312, package.recommended):
            if version and version in text:
                assert facts.fits(version, package.range), text
    names = {Requirement(text).name for text in second}
    assert names == set(row(line).packages) - packages.EXTRAS


def test_a_pin_a_series_one_version_and_a_range() -> None:
    def made(python: str = "3.11", pin: str = "", **values: str) -> str:
        package = Package(source="s", grade="run", **values)
        return packages.requirement("p", package, python, pin)

    assert made(range=">=1", pin="1.5") == "p==1.5"
    both = {"range": ">=1", "pin_py312": "2"}
    assert made(python="3.12.1", **both) == "p==2"
    assert made(python="3.11.9", **both) == "p>=1"
    assert made(range="", recommended="0.15") == "p==0.15.*"
    assert made(range="", recommended="2.7.4.post1") == "p==2.7.4.post1"
    assert made(range="") == "p"


def test_the_whole_of_line_4_6() -> None:
    python = "/opt/swift/bin/python"
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    line = row("4.6").packages
    assert commands("4.6", told(), no_index=True, find_links=["/w 1"]) == [
        [*pip, "--no-index", "--find-links=/w 1", f"torch=={line['torch'].pin}"],
        [
            *pip,
            "--no-index",
            "--find-links=/w 1",
            f"torch=={line['torch'].pin}",
            f"ms-swift=={line['ms-swift'].pin}",
            f"mcore-bridge=={line['mcore-bridge'].pin}",
            f"megatron-core=={line['megatron-core'].pin}",
            f"transformers=={line['transformers'].pin}",
            f"peft=={line['peft'].pin}",
            f"trl=={line['trl'].pin}",
            f"msgspec{line['msgspec'].range}",
        ],
    ]


def test_what_is_there_is_not_asked_for_again() -> None:
    whole = {
        name.replace("-", "_"): package.pin or "0.22.0"
        for name, package in row("4.6").packages.items()
    }
    whole["torch"] += "+cpu"
    assert commands("4.6", told(**whole)) == []
    assert len(commands("4.6", told(**{**whole, "peft": "0.19.0"}))) == 1
    assert len(commands("4.6", told(torch=whole["torch"]))) == 1
    assert len(commands("4.6", told(**whole), more=["swanlab"])) == 1
    assert commands("4.6", told(**whole, swanlab="0.6"), more=["swanlab"]) == []


def test_a_distributions_python_is_told_to_take_it() -> None:
    assert "--break-system-packages" in commands("4.6", told(managed=True))[0]
    assert "--break-system-packages" not in commands("4.6", told())[0]
    to_come = commands("4.6", told(managed=True), asked=False)[0]
    assert "--break-system-packages" not in to_come


def test_an_editable_checkout_takes_the_releases_place() -> None:
    found = commands("4.6", told(), folder="/opt/ms-swift")
    assert "setuptools>=70.1" in found[0]
    assert {"--editable=/opt/ms-swift", "--no-build-isolation"} <= set(found[1])
    assert not [word for word in found[1] if word.startswith("ms-swift")]
    whole = json.loads(
        told(
            **{
                name.replace("-", "_"): package.pin or "0.22.0"
                for name, package in row("4.6").packages.items()
            },
            setuptools="80.0.0",
        )
    )
    assert len(commands("4.6", json.dumps(whole), folder="/opt/ms-swift")) == 1
    whole["packages"]["ms-swift"].update(editable=True, url="file:///opt/ms-swift", version="9")
    assert commands("4.6", json.dumps(whole), folder="/opt/ms-swift") == []


@pytest.mark.parametrize(
    ("pins", "found"),
    [
        ({"torch": "1.13.0"}, "expected: torch >=2.0 for ms-swift 3.12"),
        ({"trl": "0.30.0"}, "where: swift_install_pins.trl"),
        ({"torch": "2.9; rm"}, "'2.9; rm'"),
        ({"numpy": "1.26"}, "expected: one of megatron-core"),
        ({"vllm": "0.13.0"}, "expected: one of megatron-core"),
    ],
)
def test_a_pin_that_the_row_does_not_allow_is_refused(pins: dict[str, str], found: str) -> None:
    with pytest.raises(BadInputError, match=found.replace("(", r"\(")):
        packages.batches(row("3.12"), "3.11", pins)


def test_a_line_whose_row_names_no_torch_wants_one() -> None:
    held = {name: each for name, each in row("2.6").packages.items() if name != "torch"}
    without = row("2.6").model_copy(update={"packages": held})
    with pytest.raises(BadInputError, match="set swift_install_pins"):
        packages.batches(without, "3.10", {})
    assert packages.batches(without, "3.10", {"torch": "2.5.1"})[0] == ["torch==2.5.1"]


def test_bad_requirements_and_answers_are_sentences() -> None:
    with pytest.raises(BadInputError, match="swift_install_more"):
        commands("4.6", told(), more=["not a thing!"])
    for output in ("", "Traceback\nSegmentation fault", "[1]", "{}"):
        with pytest.raises(BadInputError, match="node-1: /opt/swift/bin/python"):
            commands("4.6", output)


@pytest.mark.parametrize(("python", "fine"), [("3.9.18", False), ("3.10.0", True)])
def test_a_python_that_the_line_does_not_run_on_is_named(python: str, fine: bool) -> None:
    found = packages.install_python("4.6", told(python), "node-1", "/usr/bin/python3", {})
    assert (found == []) is fine
    assert fine or "expected: Python >=3.10 for ms-swift 4.6\n   found: 3.9.18" in found[0]


def test_a_pin_is_refused_before_there_is_an_environment() -> None:
    with pytest.raises(BadInputError, match=r"torch >=2\.8"):
        packages.install_python("4.6", told(), "node-1", "python3", {"pins": {"torch": "2.7"}})


# The programs, in this Python.


def ask(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    return done.stdout


def test_the_probe_answers_and_sees_nothing_without_site_packages() -> None:
    probe = packages.install_probe("4.6", ["packaging", "no-such-thing"])
    found = facts.read_facts(ask(*probe), "n", "p")
    assert found.held("Packaging") is not None
    assert found.held("no-such-thing") is None
    assert Version(found.python).release[:2] == sys.version_info[:2]
    bare = facts.read_facts(ask("-I", "-S", *probe), "n", "p")
    assert bare.packages == {}


def test_an_import_that_fails_and_a_shadowed_file_are_findings() -> None:
    imports = ask(*packages.import_words(["json", "no_such_module"]))
    versions = {
        name: {
            "version": package.pin or "0.22.0",
            "root": "/r",
            "module": "/r/x",
            "editable": False,
        }
        for name, package in row("4.6").packages.items()
    }
    look = json.dumps({"python": "3.11.2", "packages": versions})
    settings = {"pins": {"torch": "2.12.0"}, "folder": "/opt/ms-swift"}
    found = packages.install_findings("4.6", look, imports, "node-1", settings)
    text = "\n".join(found)
    assert len(found) == 5
    assert "transformer_engine >=2.3" in text
    assert "flash-attn >=2.1.1,<=2.8.3" in text
    assert "swift out of /opt/ms-swift\n   found: /r/x" in text
    assert "torch 2.12.0\n   found: 2.13.0" in text
    assert "no_such_module" in text
