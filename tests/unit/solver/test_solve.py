"""Machines and wishes as people have them, and what is wrong with some."""

from __future__ import annotations

import re

import pytest
from packaging.version import Version

from pyswiftops import matrix
from pyswiftops.errors import BadInputError, UnsolvableError
from pyswiftops.hardware import hardware
from pyswiftops.solver import Machine, Wish, solve

H100 = Machine(arch="sm_90", driver="580.65.06", python="3.12")
NEWEST = list(matrix.rows())[-1]


def refused(machine: Machine, wish: Wish) -> UnsolvableError:
    with pytest.raises(UnsolvableError) as caught:
        solve(machine, wish)
    assert caught.value.exit_code == 2
    return caught.value


def test_a_machine_that_can_everything_gets_the_newest_line_and_what_it_recommends() -> None:
    found = solve(H100, Wish())
    row = matrix.row(NEWEST)
    assert (found.line, found.release, found.precision) == (NEWEST, row.release, "bf16")
    assert found.cuda == "13.0"
    assert found.pins["torch"].specifier == f"=={row.packages['torch'].recommended}"
    assert set(found.pins) == set(row.packages)
    assert len(found.warnings) == 1  # that nothing was installed


def test_a_v100_has_no_bf16_no_flash_attention_and_no_cuda_13() -> None:
    v100 = Machine(arch="sm_70", driver="580.65.06", python="3.12")
    found = solve(v100, Wish())
    assert found.precision == "fp16"
    assert Version(found.cuda) < Version("12.8")  # torch's later builds leave it out
    assert "flash-attn" not in found.pins
    assert any("no flash-attn" in warning for warning in found.warnings)
    assert refused(v100, Wish(precision="bf16")).gives == (("arch",), ("precision",))
    assert ("cuda",) in refused(Machine("sm_70", "580.65.06", "3.12", "13.0"), Wish()).gives
    flash = refused(v100, Wish(packages={"flash-attn": ">=2"}))
    assert flash.gives == (("arch",), ("pin flash-attn",))


def test_a_b200_needs_cuda_12_8_and_so_torch_2_7() -> None:
    b200 = Machine(arch="sm_100", driver="570.133.20", python="3.12")
    assert solve(b200, Wish(packages={"torch": "<2.8"})).pins["torch"].specifier == "==2.7.1"
    problem = refused(b200, Wish(packages={"torch": "==2.6"}))
    assert problem.gives == (("arch",), ("pin torch",))
    assert "needs CUDA >=12.8" in str(problem)
    assert ("cuda",) in refused(Machine("sm_100", "580.65.06", "3.12", "12.6"), Wish()).gives


def test_only_some_gpus_have_fp8() -> None:
    assert solve(Machine("sm_89", "570.26", "3.12"), Wish(precision="fp8")).precision == "fp8"
    problem = refused(Machine("sm_80", "570.26", "3.12"), Wish(precision="fp8"))
    assert problem.findings[1].remedy == "precision bf16, fp16 or fp32 would do"


@pytest.mark.parametrize(
    ("python", "line", "megatron"),
    [
        ("3.9", "3.12", "==0.15.*"),
        ("3.10", NEWEST, "==0.16.1"),
        ("3.11", NEWEST, "==0.16.1"),
        ("3.12", NEWEST, "==0.19.2"),
    ],
)
def test_each_python_has_its_megatron_core(python: str, line: str, megatron: str) -> None:
    found = solve(Machine("sm_90", "570.26", python), Wish())
    assert (found.line, found.pins["megatron-core"].specifier) == (line, megatron)


def test_a_recommended_megatron_core_gives_way_to_the_python() -> None:
    found = {
        python: solve(Machine("sm_90", "570.26", python), Wish(line="4.2")).pins["megatron-core"]
        for python in ("3.11", "3.12")
    }
    assert {python: pin.specifier for python, pin in found.items()} == {
        "3.11": "==0.16.1",
        "3.12": "==0.17.0",
    }


def test_driver_525_runs_cuda_12_with_a_warning_and_not_cuda_13() -> None:
    found = solve(Machine("sm_90", "525.60.13", "3.12"), Wish())
    assert Version(found.cuda).major == 12
    assert any("driver 525.60.13 is older than" in warning for warning in found.warnings)
    problem = refused(Machine("sm_90", "525.60.13", "3.12", "13.0"), Wish())
    assert problem.gives == (("driver",), ("cuda",))
    assert problem.findings[0].remedy == "driver 580.65.06 or newer would do"
    older = solve(Machine("sm_90", "470.57.02", "3.12"), Wish())
    assert Version(older.cuda).major == 11
    assert refused(Machine("sm_90", "440.33", "3.12"), Wish()).gives == (("driver",),)


def test_the_toolkit_of_the_machine_chooses_among_torchs_builds() -> None:
    found = solve(Machine("sm_90", "580.65.06", "3.12", "12.6"), Wish())
    assert found.cuda == "12.6"
    other = solve(Machine("sm_90", "580.65.06", "3.12", "12.5"), Wish())
    assert any("CUDA 12.5 here" in warning for warning in other.warnings)


def test_a_pin_against_a_row_names_the_row() -> None:
    problem = refused(H100, Wish(line=NEWEST, packages={"torch": "==2.6"}))
    assert problem.gives == (("line",), ("pin torch",))
    told = f"of ms-swift {NEWEST}: its row has torch >=2.8, which excludes ==2.6"
    assert all(told in finding.expected for finding in problem.findings)
    assert problem.findings[1].remedy == "torch ==2.11.0 would do"


def test_pins_that_exclude_each_other_are_the_pins_fault() -> None:
    packages = {"torch": "==2.8,==2.7"}
    assert refused(H100, Wish(packages=packages)).gives == (("pin torch",),)
    both = refused(H100, Wish(packages={"torch": "==2.7.1", "vllm": "==0.23.0"}))
    assert both.gives == (("pin torch",), ("pin vllm",))


def test_vllm_goes_with_torch() -> None:
    found = solve(H100, Wish(packages={"vllm": "==0.11.0"}))
    assert found.pins["torch"].specifier == "==2.8.0"
    without = solve(H100, Wish(packages={"torch": "==2.9.1"}))
    assert "vllm" not in without.pins
    assert any(warning.startswith("vllm: ") for warning in without.warnings)


def test_what_a_line_can_do_is_read_in_its_flags() -> None:
    assert refused(H100, Wish(line="3.6", tuner="lora")).gives == (("line",), ("tuner",))
    assert refused(H100, Wish(line="2.6", task="rlhf")).gives == (("line",), ("task",))
    assert refused(H100, Wish(line="2.6", tuner="lora")).gives == (("line",), ("tuner",))
    assert solve(H100, Wish(line="2.6", task="sft", tuner="full")).line == "2.6"
    assert refused(H100, Wish(line="3.7", rlhf_type="grpo")).gives == (("line",), ("rlhf_type",))
    assert solve(H100, Wish(line="3.11", rlhf_type="grpo")).line == "3.11"
    assert refused(H100, Wish(line="3.12", model_type="qwen3_5")).gives == (
        ("line",),
        ("model_type",),
    )
    assert solve(H100, Wish(model_type="llama3_1")).line == "3.12"


def test_two_demands_may_have_to_give() -> None:
    problem = refused(
        Machine("sm_70", "440.33", "3.12"), Wish(line="3.6", tuner="lora", precision="bf16")
    )
    assert {len(names) for names in problem.gives} == {3}
    assert "give up " in problem.findings[0].remedy


def test_only_versions_that_were_run_have_the_grade_run() -> None:
    pins = solve(H100, Wish()).pins
    assert pins["transformers"].grade == "run"
    assert pins["torch"].grade == "docs"


@pytest.mark.parametrize(
    ("machine", "wish", "where", "remedy"),
    [
        (Machine("sm_91", "570.26", "3.12"), Wish(), "arch", "did you mean 'sm_90'?"),
        (H100, Wish(line="4.60"), "line", "did you mean '4.6'?"),
        (H100, Wish(task="stf"), "task", "did you mean 'sft'?"),
        (H100, Wish(rlhf_type="gpro"), "rlhf_type", "did you mean 'grpo'?"),
        (H100, Wish(tuner="lorra"), "tuner", "did you mean 'lora'?"),
        (H100, Wish(precision="bf61"), "precision", "did you mean 'bf16'?"),
        (H100, Wish(model_type="qwen3_5x"), "model_type", "did you mean 'qwen3_5'?"),
        (H100, Wish(packages={"troch": "==2.8"}), "pin troch", "did you mean 'torch'?"),
        (H100, Wish(packages={"torch": "2.8"}), "pin torch", "write name==1.2"),
        (H100, Wish(task="sft", rlhf_type="dpo"), "task", "leave out rlhf_type"),
        (Machine("sm_90", "new", "3.12"), Wish(), "driver", "write it as 570.26"),
        (Machine("sm_90", "570.26", "3"), Wish(), "python", "write it as 3.12"),
        (Machine("sm_90", "570.26", "3.12", "12"), Wish(), "cuda", "write it as 12.8"),
    ],
)
def test_what_nobody_knows_names_the_nearest(
    machine: Machine, wish: Wish, where: str, remedy: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        solve(machine, wish)
    (finding,) = caught.value.findings
    assert finding.where == where
    assert remedy in finding.remedy


def test_a_packages_name_may_be_spelled_in_any_way() -> None:
    found = solve(H100, Wish(packages={"Flash_Attn": "==2.8.3", "transformer-engine": ">=2"}))
    assert found.pins["flash-attn"].specifier == "==2.8.3"


def test_the_facts_of_the_hardware_fit_each_other_and_the_rows() -> None:
    facts = hardware()
    for release in facts.releases["torch"].values():
        assert set(release.cuda) <= set(facts.cuda)
    for toolkit in facts.cuda.values():
        assert set(toolkit.built_for) <= set(facts.architectures)
        if toolkit.own_driver:
            assert Version(toolkit.driver) <= Version(toolkit.own_driver)
    for row in matrix.rows().values():
        torch = row.packages["torch"]
        assert set(filter(None, [torch.recommended, *torch.also])) <= set(facts.releases["torch"])
        assert row.cuda is None or set(row.cuda.recommended) <= set(facts.cuda)
        image = [re.search(r"cuda(\d+\.\d+)", image.tag) for image in row.images]
        assert all(match and match[1] in facts.cuda for match in image)
