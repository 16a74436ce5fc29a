"""What holds of every answer, whatever the machine and the wish."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pyswiftops import matrix
from pyswiftops.errors import UnsolvableError
from pyswiftops.hardware import hardware
from pyswiftops.solver import Machine, Solution, Wish, solve

pytestmark = pytest.mark.slow

LINES = list(matrix.rows())
PINS = {
    "torch": ["==2.6", "==2.8", ">=2.9", "<2.8", "~=2.11.0", ">=2.7,<2.10"],
    "transformers": ["==4.40", ">=5", "<4.50", "==5.12.*"],
    "megatron-core": ["==0.15.3", ">=0.17", "<0.16"],
    "mcore-bridge": [">=1.5"],
    "vllm": ["==0.11.0", "==0.23.0", ">=0.13"],
    "flash-attn": ["==2.8.3"],
    "peft": ["<0.12", ">=0.18"],
}
MACHINES = st.builds(
    Machine,
    arch=st.sampled_from(list(hardware().architectures)),
    driver=st.sampled_from(["440.33", "450.80.02", "525.60.13", "535.104.05", "570.26", "590.44"]),
    python=st.sampled_from(["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]),
    cuda=st.none() | st.sampled_from(["11.8", "12.4", "12.6", "12.8", "13.0"]),
)
PACKAGES = st.dictionaries(st.sampled_from(sorted(PINS)), st.integers(0, 5), max_size=3).map(
    lambda drawn: {name: PINS[name][at % len(PINS[name])] for name, at in drawn.items()}
)
WISHES = st.builds(
    Wish,
    line=st.none() | st.sampled_from(LINES),
    task=st.none() | st.sampled_from(["pt", "sft", "rlhf"]),
    tuner=st.none() | st.sampled_from(["full", "lora"]),
    precision=st.none() | st.sampled_from(["bf16", "fp16", "fp8", "fp32"]),
    model_type=st.none() | st.sampled_from(["qwen2", "qwen3_5", "llama3_1"]),
    packages=PACKAGES,
)
OPEN = st.builds(Wish, packages=st.just({}))  # asks for nothing, so that most machines do
# Most machines cannot meet most wishes, so that many a draw says nothing.
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def answer(machine: Machine, wish: Wish) -> Solution | UnsolvableError:
    try:
        return solve(machine, wish)
    except UnsolvableError as problem:
        return problem


def solved(machine: Machine, wish: Wish) -> Solution:
    found = answer(machine, wish)
    assume(isinstance(found, Solution))
    assert isinstance(found, Solution)
    return found


def made(machine: Machine, wish: Wish) -> set[str]:
    """The demands that these two make."""
    told: dict[str, Any] = {**vars(machine), **vars(wish)}
    packages = told.pop("packages")
    named = {name for name, value in told.items() if value is not None}
    return named | {f"pin {name}" for name in packages}


@FEW
@given(MACHINES, st.one_of(OPEN, WISHES))
def test_every_pin_lies_in_its_row_and_in_what_was_asked(machine: Machine, wish: Wish) -> None:
    found = solved(machine, wish)
    row = matrix.row(found.line)
    assert set(wish.packages) <= set(found.pins) <= set(row.packages)
    for name, pin in found.pins.items():
        ranges = [row.packages[name].range, wish.packages.get(name, "")]
        if pin.specifier.startswith("=="):
            version = pin.specifier.removeprefix("==").removesuffix(".*")
            for each in ranges:
                assert SpecifierSet(each).contains(version, prereleases=True), (name, pin, each)
        else:
            assert pin.specifier == ",".join(filter(None, ranges))


@FEW
@given(MACHINES, st.one_of(OPEN, WISHES))
def test_every_answer_runs_on_the_machine(machine: Machine, wish: Wish) -> None:
    found = solved(machine, wish)
    facts = hardware()
    arch, toolkit = facts.architectures[machine.arch], facts.cuda[found.cuda]
    torch = found.pins["torch"].specifier.removeprefix("==")
    assert found.cuda in facts.releases["torch"][torch].cuda
    assert found.cuda in SpecifierSet(arch.cuda)
    assert any(  # the same major number, and no later minor one
        built[:-1] == machine.arch[:-1] and built[-1] <= machine.arch[-1]
        for built in toolkit.built_for
    )
    assert Version(toolkit.driver) <= Version(machine.driver)
    assert machine.python in SpecifierSet(matrix.row(found.line).python.range)
    assert machine.python in SpecifierSet(facts.releases["torch"][torch].python)
    assert found.precision in {"fp16", "fp32"} or arch.bf16
    assert found.precision != "fp8" or arch.fp8
    assert "flash-attn" not in found.pins or arch.flash_attn
    if machine.cuda:
        assert Version(machine.cuda).major == Version(found.cuda).major
        assert machine.cuda in SpecifierSet(arch.cuda)


@FEW
@given(MACHINES, st.one_of(OPEN, WISHES))
def test_what_goes_with_torch_does(machine: Machine, wish: Wish) -> None:
    found = solved(machine, wish)
    torch = found.pins["torch"].specifier.removeprefix("==")
    for name in ("megatron-core", "vllm"):
        if name not in found.pins or found.megatron != "pip":
            continue
        release = hardware().releases[name].get(found.pins[name].specifier.removeprefix("=="))
        if release is not None:
            assert torch in SpecifierSet(release.needs.get("torch", ""))
            assert machine.python in SpecifierSet(release.python)


@FEW
@given(MACHINES, WISHES)
def test_every_answer_is_what_was_wished(machine: Machine, wish: Wish) -> None:
    found = solved(machine, wish)
    assert wish.line in {None, found.line}
    assert wish.precision in {None, found.precision}
    verbs = matrix.typed_flags(found.line)
    if wish.task:
        plain = verbs.get(f"swift {wish.task}", {})  # in 2.6, Megatron was a backend of it
        assert f"megatron {wish.task}" in verbs or "megatron" in plain.get("train_backend", "")
    if wish.tuner == "lora":
        assert "lora_rank" in verbs[f"megatron {wish.task or 'sft'}"]


@FEW
@given(MACHINES, WISHES)
def test_the_newest_line_that_fits_wins(machine: Machine, wish: Wish) -> None:
    wish = replace(wish, line=None)
    found = solved(machine, wish)
    fitting = [
        line for line in LINES if isinstance(answer(machine, replace(wish, line=line)), Solution)
    ]
    assert fitting[-1] == found.line


@FEW
@given(MACHINES, WISHES, st.data())
def test_a_demand_less_never_gives_an_older_line(
    machine: Machine, wish: Wish, data: st.DataObject
) -> None:
    found = solved(machine, wish)
    droppable = sorted(made(machine, wish) - {"arch", "driver", "python"})
    assume(droppable)
    easier = solve(*without(machine, wish, (data.draw(st.sampled_from(droppable)),)))
    assert LINES.index(easier.line) >= LINES.index(found.line)


@FEW
@given(MACHINES, WISHES)
def test_a_refusal_names_only_what_was_asked_and_giving_it_up_is_enough(
    machine: Machine, wish: Wish
) -> None:
    problem = answer(machine, wish)
    assume(isinstance(problem, UnsolvableError))
    assert isinstance(problem, UnsolvableError)
    assert problem.gives
    assert len(problem.findings) == len(problem.gives)
    assert len({len(names) for names in problem.gives}) == 1
    for names, finding in zip(problem.gives, problem.findings, strict=True):
        assert finding.where == ", ".join(names)
        assert finding.remedy
        assert set(names) <= made(machine, wish)
        if not set(names) & {"arch", "driver", "python"}:
            assert isinstance(answer(*without(machine, wish, names)), Solution)
            for kept in names:  # none of them is named needlessly
                rest = tuple(name for name in names if name != kept)
                assert isinstance(answer(*without(machine, wish, rest)), UnsolvableError)


@FEW
@given(MACHINES, PACKAGES, st.randoms())
def test_the_order_of_the_pins_does_not_matter(
    machine: Machine, packages: dict[str, str], random: Any
) -> None:
    items = list(packages.items())
    random.shuffle(items)
    first = answer(machine, Wish(packages=packages))
    second = answer(machine, Wish(packages=dict(items)))
    assert str(first) == str(second)


def without(machine: Machine, wish: Wish, names: tuple[str, ...]) -> tuple[Machine, Wish]:
    """The two without demands that can be left out."""
    packages = {name: text for name, text in wish.packages.items() if f"pin {name}" not in names}
    fields = [name for name in names if not name.startswith("pin ") and name != "cuda"]
    less = replace(wish, packages=packages, **dict.fromkeys(fields))
    return (replace(machine, cuda=None) if "cuda" in names else machine), less
