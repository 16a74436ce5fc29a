"""Extras: exact commands, wheels that releases have, and what would fail here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyswiftops.errors import BadInputError
from pyswiftops.installing import extras, facts, flash_attn
from pyswiftops.matrix import row, rows

ROLE = Path(__file__).resolve().parents[3] / "roles" / "swift_extras"
KNOWN: dict[str, Any] = yaml.safe_load(
    (ROLE / "vars" / "main" / "extras.yml").read_text(encoding="utf-8")
)["__swift_extras_known"]
LISTED = yaml.safe_load((ROLE / "vars" / "main" / "flash_attn.yml").read_text(encoding="utf-8"))
WHEELS = LISTED["__swift_extras_flash_attn_2025_08_15"] + LISTED["__swift_extras_flash_attn_later"]
NVIDIA = "https://github.com/NVIDIA"
URL = "https://mirror.example/flash"
PIP = ["/p", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
ROW_N14 = {
    *("flash-attn", "transformer_engine", "apex", "pybind11", "swanlab", "deepspeed"),
    *("liger_kernel", "nvitop", "py-spy", "pre-commit", "math_verify", "sglang"),
    *("flashinfer-python", "vllm", "lmdeploy", "autoawq", "auto_gptq", "optimum"),
    *("bitsandbytes", "gradio", "timm", "qwen_vl_utils", "qwen_omni_utils", "decord"),
    *("librosa", "icecream", "soundfile"),
}


def probed(torch: str = "2.8.0+cu128", cuda: str = "12.8", **more: Any) -> str:
    held = {"version": "", "url": "", "commit": "", "revision": "", "editable": False}
    packages = {name: {**held, **has} for name, has in more.pop("packages", {}).items()}
    told = {"version": torch, "cuda": cuda, "cxx11abi": more.pop("abi", True)} if torch else None
    answer = {"python": "3.12.3", "machine": "x86_64", "managed": False, "nvcc": "12.8", **more}
    return json.dumps({**answer, "packages": packages, "torch": told})


def plan(
    wanted: list[str], line: str = "3.10", output: str | None = None, **settings: Any
) -> list[dict[str, Any]]:
    asked = {"node": "node-1", "python": "/p", "output": output or probed()}
    whole = {"flash_attn_wheels": WHEELS, "flash_attn_url": URL, **settings}
    return extras.extras_plan(line, asked, wanted, KNOWN, whole)


def test_the_whole_list_is_known_and_each_is_a_command() -> None:
    assert set(KNOWN) == ROW_N14
    for line in rows():
        for item in plan(sorted(ROW_N14), line, apex="build"):
            assert item["argv"][: len(PIP)] == PIP, item
            assert item["problem"] == "", item


def test_pins_of_the_line_come_from_its_row() -> None:
    for line in rows():
        (item,) = plan(["vllm"], line)
        package = row(line).packages.get("vllm")
        if package is None:
            assert item["argv"] == [*PIP, "vllm"]
        else:
            assert item["argv"][-1].startswith(f"vllm=={package.recommended}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lmdeploy", ["--no-deps", "lmdeploy<0.9,>=0.5"]),
        ("autoawq", ["--no-deps", "autoawq"]),
        ("gradio", ["gradio<5.33"]),
        ("sglang", ["sglang[all]"]),
        (
            "apex",
            [
                "--no-cache-dir",
                "--no-build-isolation",
                "--config-settings",
                "--build-option=--cpp_ext",
                "--config-settings",
                "--build-option=--cuda_ext",
                f"apex @ git+{NVIDIA}/apex@e13873debc4699d39c6861074b9a3b2a02327f92",
            ],
        ),
    ],
)
def test_words_of_pip_that_upstreams_install_pages_name(name: str, words: list[str]) -> None:
    (item,) = plan([name], apex="build")
    assert [text.replace(">=0.5,<0.9", "<0.9,>=0.5") for text in item["argv"]] == [*PIP, *words]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("3.12", "transformer_engine[pytorch]==2.10.*"),
        ("4.2", "transformer_engine[pytorch]==2.14.1"),
        ("3.6", "transformer_engine[pytorch]"),
        ("2.6", f"transformer_engine[pytorch] @ git+{NVIDIA}/TransformerEngine.git@release_v1.7"),
    ],
)
def test_transformer_engine_of_a_line(line: str, what: str) -> None:
    (item,) = plan(["transformer_engine"], line)
    assert item["argv"] == [*PIP, "--no-build-isolation", what]
    assert item["environment"] == {"MAX_JOBS": "4"}


def test_apex_is_left_out_with_the_flag_that_does_without_it() -> None:
    (item,) = plan(["apex"], "3.12")
    assert (item["argv"], item["done"]) == ([], True)
    assert item["note"].endswith("--no_gradient_accumulation_fusion true")
    assert plan(["apex"], "4.6")[0]["note"].endswith("--gradient_accumulation_fusion false")
    assert plan(["apex"], "2.6")[0]["argv"]  # its row names no flag


def test_what_is_installed_is_named_again_so_that_it_stays() -> None:
    output = probed(packages={"torch": {"version": "2.8.0+cu128"}, "trl": {"version": "0.24.0"}})
    (item,) = plan(["vllm"], "3.10", output)
    assert item["argv"] == [*PIP, "vllm==0.11.0", "torch==2.8.0", "trl==0.24.0"]
    assert plan(["autoawq"], "3.10", output)[0]["argv"] == [*PIP, "--no-deps", "autoawq"]


def test_what_is_there_is_done() -> None:
    there = {
        "swanlab": {"version": "0.6.1"},
        "gradio": {"version": "5.49.0"},
        "flash-attn": {"version": "2.8.1"},
        "transformer-engine": {"version": "1.7", "url": "u", "revision": "release_v1.7"},
    }
    output = probed(packages=there)
    found = plan(["swanlab", "gradio", "flash-attn"], "3.10", output)
    assert [item["done"] for item in found] == [True, False, True]
    assert plan(["transformer_engine"], "2.6", output)[0]["done"] is True
    assert plan(["flash-attn"], "3.8", output)[0]["done"] is False
    assert extras.extra_text(found[0]) == "swanlab: there: 0.6.1"


# flash-attention's wheels.


def test_the_name_of_the_wheel_that_people_download_by_hand() -> None:
    (item,) = plan(["flash-attn"], "3.10")
    name = "flash_attn-2.8.1+cu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    assert item["note"] == name
    assert item["argv"] == [*PIP, f"flash-attn @ {URL}/v2.8.1/{name.replace('+', '%2B')}"]
    assert item["environment"] == {}


def test_every_listed_name_is_made_again_from_what_it_says() -> None:
    assert len(WHEELS) == len(set(WHEELS))
    for name in WHEELS:
        assert flash_attn.parse(name).name == name
    versions = {flash_attn.parse(name).version for name in WHEELS}
    wanted = [row(line).packages.get("flash-attn") for line in rows()]
    assert {item.recommended for item in wanted if item} == versions
    assert flash_attn.newest(WHEELS) == "2.8.3"


@given(
    version=st.sampled_from(["2.7.4.post1", "2.8.1", "2.8.3", "2.9.0"]),
    cuda=st.tuples(st.integers(11, 13), st.integers(0, 9)),
    torch=st.tuples(st.integers(2, 3), st.integers(0, 20), st.integers(0, 3)),
    local=st.sampled_from(["", "+cu128", "+cpu", "a0+git1"]),
    python=st.tuples(st.integers(8, 15), st.integers(0, 20)),
    abi=st.booleans(),
)
def test_a_name_says_what_the_wheel_is_for(**given: Any) -> None:
    version, cuda, torch = given["version"], given["cuda"], given["torch"]
    made = flash_attn.wheel(
        version,
        "{}.{}".format(*cuda),
        "{}.{}.{}".format(*torch) + given["local"],
        "3.{}.{}".format(*given["python"]),
        "x86_64",
        abi=given["abi"],
    )
    again = flash_attn.parse(made.name)
    assert again == made
    assert again.torch == "{}.{}".format(*torch[:2])
    assert again.python == f"cp3{given['python'][0]}"
    assert made.url(URL + "/").startswith(
        f"{URL}/v{version}/flash_attn-{version}%2Bcu{cuda[0]}torch"
    )


@pytest.mark.parametrize("name", ["flash_attn-2.8.1.tar.gz", "flash_attn-2.8.1-cp39-cp310-x.whl"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(name)):
        flash_attn.parse(name)


def test_without_a_wheel_it_is_built_and_said_so() -> None:
    output = probed(torch="2.10.0+cu130", cuda="13.0", nvcc="13.0")
    (item,) = plan(["flash-attn"], "4.0", output, max_jobs=8)
    assert item["argv"] == [*PIP, "--no-build-isolation", "flash-attn==2.8.3"]
    assert item["environment"] == {"MAX_JOBS": "8"}
    assert "none of 2.8.3 for CUDA 13 on x86_64; built from source" in item["note"]
    (item,) = plan(["flash-attn"], "4.0", output, flash_attn="wheel")
    assert "flash_attn-2.8.3+cu13torch2.10cxx11abiTRUE-cp312" in item["problem"]
    (item,) = plan(["flash-attn"], "4.0", probed(torch="2.10.0"))
    assert "it has torch 2.4, 2.5, 2.6, 2.7, 2.8, 2.9 on cp39" in item["note"]
    assert plan(["flash-attn"], "3.10", flash_attn="source")[0]["argv"][-1] == "flash-attn==2.8.1"


def test_a_version_above_the_rows_is_refused() -> None:
    with pytest.raises(
        BadInputError, match=r"flash-attn 2\.7\.4\.post1 or older for ms-swift 3\.8"
    ):
        plan(["flash-attn"], "3.8", versions={"flash-attn": "2.8.1"})
    (item,) = plan(["flash-attn"], "3.10", versions={"flash-attn": "2.7.4.post1"})
    assert item["argv"][-1] == "flash-attn==2.7.4.post1"  # none for torch 2.8
    assert plan(["flash-attn"], "4.6")[0]["note"].startswith("flash_attn-2.8.3+cu12torch2.8")


# What would fail here.


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (probed(torch="2.13.0+cpu", cuda=""), "torch 2.13.0+cpu without CUDA"),
        (probed(torch=""), "no torch"),
        (probed(nvcc=""), "no nvcc"),
        (probed(nvcc="11.8"), "nvcc of CUDA 11.8"),
    ],
)
@pytest.mark.parametrize("name", ["transformer_engine", "apex"])
def test_what_cannot_be_compiled_is_said_before(output: str, found: str, name: str) -> None:
    (item,) = plan([name], output=output, apex="build")
    assert f"found: {found}\n" in item["problem"]
    assert "node-1" in item["problem"]


def test_apex_compares_the_minor_version_too() -> None:
    output = probed(nvcc="12.4")
    assert plan(["transformer_engine"], output=output)[0]["problem"] == ""
    assert "nvcc of CUDA 12.4" in plan(["apex"], output=output, apex="build")[0]["problem"]


def test_given_facts_stand_for_those_of_a_node_to_come() -> None:
    on_cpu = probed(torch="2.13.0+cpu", cuda="", nvcc="", python="3.11.2")
    shape = {"torch": "2.7.1", "cuda": "12.6", "cxx11abi": False, "python": "3.10", "nvcc": "12.6"}
    (item,) = plan(["flash-attn"], "3.10", on_cpu, facts=shape)
    assert item["note"] == "flash_attn-2.8.1+cu12torch2.7cxx11abiFALSE-cp310-cp310-linux_x86_64.whl"
    with pytest.raises(BadInputError, match="swift_extras_facts"):
        plan(["flash-attn"], "3.10", on_cpu, facts={"gpu": "H100"})


@pytest.mark.parametrize(
    ("wanted", "settings"),
    [
        (["flash_attn"], {}),
        (["swanlab"], {"versions": {"nothing": "1"}}),
        (["swanlab"], {"versions": {"swanlab": "1 --index-url=x"}}),
    ],
)
def test_what_is_no_extra_or_no_version_is_refused(
    wanted: list[str], settings: dict[str, Any]
) -> None:
    with pytest.raises(BadInputError):
        plan(wanted, **settings)


def test_a_missing_one_is_named_afterwards() -> None:
    found = plan(["swanlab", "pybind11", "apex"])
    asked = {"node": "node-1", "python": "/p"}
    after = probed(packages={"pybind11": {"version": "3"}})
    (text,) = extras.extras_missing("3.10", {**asked, "output": after}, found, KNOWN)
    assert "expected: swanlab" in text


def test_a_line_of_a_plan_is_what_a_shell_would_take() -> None:
    (item,) = plan(["transformer_engine"], "3.12")
    assert extras.extra_text(item) == (
        "transformer_engine: MAX_JOBS=4 "
        + " ".join(PIP)
        + " --no-build-isolation 'transformer_engine[pytorch]==2.10.*'"
    )


def test_an_answer_of_this_python_is_read() -> None:
    words = extras.extras_probe("4.6", ["apex", "flash-attn"], KNOWN)
    assert words[0] == "-c"
    assert json.loads(words[2])[-2:] == ["apex", "flash-attn"]
    assert facts.fits("2.13.0+cpu", "==2.13.0")
    assert not facts.fits("no version", "")


def test_apex_is_of_the_commit_that_the_rows_name() -> None:
    commits = {found.apex.commit for found in rows().values() if found.apex}
    (commit,) = commits - {None}
    assert str(commit) in json.dumps(KNOWN)
