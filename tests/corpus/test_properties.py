"""Whatever is in a file: it loads, or it is bad input; never another error. Seeded, no database."""

from __future__ import annotations

import json
import os
import shlex
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyswiftops.errors import BadInputError
from pyswiftops.explain import explain
from pyswiftops.paths import RunFolder, check_run_id
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.command import Command, Late, flag_words
from pyswiftops.stages.node import NodeFacts

from .conftest import BASES, PARTS

SEEDED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=list(HealthCheck),
)
DOCUMENTS: dict[str, Any] = {
    "fleet": yaml.safe_load(BASES["fleet.yml"]["hosts"]),
    "local": yaml.safe_load(BASES["fleet.yml"]["local"]),
    "run": yaml.safe_load(BASES["run.yml"]["run"]),
}
KINDS: dict[str, type[Fleet | RunSpec]] = {"fleet": Fleet, "local": Fleet, "run": RunSpec}

hostile = st.sampled_from(
    [
        *("", " ", "-x", "--", "..", "../up", "/", "~", "a b", "a'b", 'a"b', "$(id)", "`id`"),
        *("a;id", "{{ x }}", "{% x %}", "\0", "\n", "\x1b[0m", "\ud800", "节点", "yes", "0777"),
        *("1:30", "null"),
    ]
)
scalars = (
    hostile
    | st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-3, max_value=70000)
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4)
)
trees = st.recursive(
    scalars,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.booleans(), below, max_size=3)
    ),
    max_leaves=8,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document."""
    found = [path]
    if isinstance(data, dict | list):
        items = data.items() if isinstance(data, dict) else enumerate(data)
        for key, value in items:
            found += places(value, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn, name: str) -> Any:
    """A valid document of which one to three places hold something else, or nothing."""
    document = json.loads(json.dumps(DOCUMENTS[name]))
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        path = draw(st.sampled_from(places(document)[1:]))
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        change = draw(st.sampled_from(["value", "key", "gone"]))
        if change == "gone":
            del holder[path[-1]]
        elif change == "key" and isinstance(holder, dict):
            holder[draw(hostile | st.text(max_size=6))] = holder.pop(path[-1])
        else:
            holder[path[-1]] = draw(trees)
        if not document:
            break
    return document


def loads_or_is_refused(kind: type[Fleet | RunSpec], data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.yml")
        path.write_bytes(data)
        try:
            spec = kind.load(path)
        except BadInputError as problem:
            message = str(problem)
            assert all(part in message for part in PARTS)
            # a terminal can have it
            assert all(letter.isprintable() or letter in "\n\t" for letter in message)
        else:  # and what was accepted can be written down, and be an argument
            text = json.dumps(spec.model_dump(mode="json"), ensure_ascii=False)
            assert "\0" not in text
            text.encode()
        assert os.listdir(folder) == ["file.yml"]  # noqa: PTH208 names alone


def as_yaml(document: Any) -> bytes:
    text: str = yaml.safe_dump(document, allow_unicode=False, sort_keys=False)
    return text.encode("utf-8", "surrogatepass")


@SEEDED
@given(st.data())
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_document_with_something_else_in_it(name: str, data: st.DataObject) -> None:
    loads_or_is_refused(KINDS[name], as_yaml(data.draw(mutated(name))))


@SEEDED
@given(trees)
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_any_tree(name: str, tree: Any) -> None:
    loads_or_is_refused(KINDS[name], as_yaml({"run": tree} if name == "run" else tree))


@SEEDED
@given(st.binary(max_size=60) | st.text(string.printable, max_size=60).map(str.encode))
@pytest.mark.parametrize("kind", [Fleet, RunSpec])
def test_any_bytes(kind: type[Fleet | RunSpec], data: bytes) -> None:
    loads_or_is_refused(kind, data)


@SEEDED
@given(st.data())
@pytest.mark.parametrize("name", ["fleet", "run"])
def test_a_good_file_that_was_cut_or_spliced(name: str, data: st.DataObject) -> None:
    text = yaml.safe_dump(DOCUMENTS[name], sort_keys=False)
    at = data.draw(st.integers(min_value=0, max_value=len(text)))
    until = data.draw(st.integers(min_value=at, max_value=min(len(text), at + 12)))
    inside = data.draw(st.text("\uff1a\t\n:-[]{}&*!|>'\"#%@ a0,", max_size=4))
    loads_or_is_refused(KINDS[name], (text[:at] + inside + text[until:]).encode())


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@SEEDED
@given(st.lists(names, min_size=1, max_size=6, unique=True), st.integers(1, 16), st.booleans())
def test_a_fleet_that_is_written_reads_back_the_same(
    nodes: list[str], gpus: int, on_cpu: bool
) -> None:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "host",
        "device": "cpu" if on_cpu else "gpu",
        "nodes": [
            {"name": name, "address": f"192.0.2.{number + 1}", "gpus": gpus}
            for number, name in enumerate(nodes)
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fleet.yml")
        fleet = Fleet.from_document(document, path)
        path.write_text(fleet.to_yaml(), encoding="utf-8")
        assert Fleet.load(path) == fleet


words = st.text(max_size=12).filter(lambda text: "\0" not in text) | hostile.filter(
    lambda text: "\0" not in text
)


@SEEDED
@given(st.lists(words, min_size=1, max_size=5), st.dictionaries(st.sampled_from("ABC"), words))
def test_a_printed_command_reads_back_word_for_word(argv: list[str], env: dict[str, str]) -> None:
    command = Command("train", "node-1", tuple(argv), env, (), "/")
    read = shlex.split(command.shell())
    assert read == [*(f"{name}={value}" for name, value in sorted(env.items())), *argv]
    assert Command.from_dict(json.loads(json.dumps(command.to_dict()))) == command


@SEEDED
@given(st.dictionaries(names, words | st.integers() | st.booleans() | st.none(), max_size=4))
def test_every_flag_is_followed_by_its_value(flags: dict[str, Any]) -> None:
    given_flags = {name: value for name, value in flags.items() if value is not None}
    told = flag_words(flags)
    assert len(told) == 2 * len(given_flags)
    assert told[::2] == tuple(f"--{name}" for name in given_flags)
    assert not any(isinstance(word, Late) for word in told)


@SEEDED
@given(hostile | st.text(max_size=70))
def test_a_run_id_never_leads_out_of_its_folder(run_id: str) -> None:
    runs = Path("/srv/runs")
    try:
        root = RunFolder(runs, check_run_id(run_id)).root
    except BadInputError:
        return
    assert Path(os.path.normpath(root)).parent == runs
    assert not run_id.startswith("-")


@SEEDED
@given(st.dictionaries(st.sampled_from(sorted(NodeFacts.__annotations__)), trees, max_size=3))
def test_any_variables_of_a_host(changes: dict[str, Any]) -> None:
    variables = {
        "swiftops_line": "4.6",
        "swiftops_rank": 0,
        "swiftops_root": "/data",
        "swiftops_python": "/usr/bin/python3",
        "swiftops_address": "10.0.0.1",
        **{f"swiftops_{name}": value for name, value in changes.items()},
    }
    try:
        facts = NodeFacts.from_vars("node-1", variables)
    except BadInputError:
        return
    assert facts.ranks >= 1
    assert facts.root.startswith("/")


@SEEDED
@given(st.text(max_size=300))
def test_any_log_is_explained_or_not(text: str) -> None:
    told = explain(text)
    assert told is None or told.line in text
