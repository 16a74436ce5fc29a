"""Upstream's errors are recognised, the cause before what follows from it, and nothing else."""

from __future__ import annotations

import argparse
import ctypes
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from pyswiftops.explain import explain, known_errors

SAMPLES: list[dict[str, str]] = yaml.safe_load(
    Path(__file__).with_name("samples.yml").read_text(encoding="utf-8")
)
SYMBOL = "_ZN3c104cuda9SetDeviceEi_of_nobody"
TRACEBACK = 'Traceback (most recent call last):\n  File "/x/y.py", line 7, in main\n    work()\n'


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample['id']}-{sample['origin']}")
def test_an_error_of_upstream_is_recognised_within_a_log(sample: dict[str, str]) -> None:
    before = "[INFO:swift] args: ...\n" + TRACEBACK
    told = explain(before + sample["text"] + "\nlog on node-1: /data/runs/r/jobs/train/log")
    assert told is not None
    assert told.id == sample["id"]
    assert told.line in sample["text"].replace("\t", "")
    for part in ("means: ", "remedy: ", told.source):
        assert part in str(told)


def test_every_known_error_has_a_sample_and_a_name_of_its_own() -> None:
    names = [known.id for known in known_errors()]
    assert len(names) >= 50
    assert len(set(names)) == len(names)
    assert set(names) == {sample["id"] for sample in SAMPLES}


def test_every_known_error_is_told_in_sentences() -> None:
    for known in known_errors():
        assert known.means.endswith("."), known.id
        assert known.remedy.endswith((".", ")")), known.id
        assert known.source, known.id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the memory ended one rank; the others lost their peer and waited
        (
            """\
ncclRemoteError: A call failed possibly due to a network error
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
Watchdog caught collective operation timeout: WorkNCCL(SeqNum=5)
""",
            "gpu-memory",
        ),
        # the launcher's summary comes last
        ("No space left on device\nexitcode  : -9 (pid: 4)\n", "disk-full"),
        ("ended by signal 9\nModuleNotFoundError: No module named 'apex'\n", "package-missing"),
        ("ended by signal 9\nstep 3 loss 1.2\n", "killed"),
        # what NCCL says in general, after what it says in particular
        ("failed to extend /dev/shm/nccl-x to 9 bytes\nncclSystemError: x\n", "shared-memory"),
        ("JSON parse error: Column(/a) changed from number to string in row 5", "row-types"),
    ],
)
def test_the_cause_is_told_and_not_what_follows(text: str, expected: str) -> None:
    told = explain(text)
    assert told is not None
    assert told.id == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{'loss': 1.25, 'grad_norm': 0.8, 'learning_rate': 1e-4, 'iteration': '9/98'}",
        "exited with code 1",
        "ended by signal 15",
        TRACEBACK + "ValueError: the answer is 42",
        "exitcode  : 1 (pid: 99)",
        "[INFO:swift] Setting args.model_type: llama",
        "[INFO:swift] template_type: chatml",
        "INFO: Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
        "NCCL INFO Bootstrap : Using eth0:10.0.0.4<0>",
        "batch size (16) is divisible by micro-batch-size (4)",
        "saved /data/checkpoint-10/iter_0000010/__1_0.distcp",
        "step 90 of 91, 9 samples a second, memory 9.0 GiB",
        "WARNING: flash_attn is not installed, using unfused attention",
        "Einstein asked: what is permission? It was denied.",
        "\0\x1b[31m\ufffd" * 20,
    ],
)
def test_other_text_explains_nothing(text: str) -> None:
    assert explain(text) is None


def test_of_a_long_log_the_end_is_looked_at() -> None:
    told = explain("step\n" * 200_000 + "RuntimeError: CUDA error: out of memory\n" + "x\n" * 99)
    assert told is not None
    assert told.line == "RuntimeError: CUDA error: out of memory"


# Raised for real, by the libraries themselves.


def _port() -> None:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        first.listen()
        second.bind(first.getsockname())


def _full_disk() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as file:
        file.write("x")


def _json() -> None:
    json.loads('{"messages": [}')


def _library() -> None:
    ctypes.CDLL("libcudnn_of_nobody.so.9")


def _symbol() -> None:
    getattr(ctypes.CDLL(None), SYMBOL)


def _package() -> None:
    __import__("transformer_engine_of_nobody")


def _name() -> None:
    exec("from json import nothing_of_the_kind")  # noqa: S102 a real ImportError of a name


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _option() -> None:
    parser = Parser()
    parser.add_argument("--save_steps")
    parser.add_argument("--save_strategy")
    parser.parse_args(["--save", "x"])


def _shard() -> None:
    Path("/nowhere/iter_0000010/__1_0.distcp").read_bytes()


REAL = [
    (_port, "port-in-use"),
    (_full_disk, "disk-full"),
    (_json, "row-malformed"),
    (_library, "library-missing"),
    (_symbol, "undefined-symbol"),
    (_package, "package-missing"),
    (_name, "version-mismatch"),
    (_option, "flag-ambiguous"),
    (_shard, "shard-missing"),
]


@pytest.mark.parametrize(("action", "expected"), REAL)
def test_errors_that_are_raised_for_real(action: Callable[[], Any], expected: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 each raises its library's own
        action()
    told = explain(f"{TRACEBACK}{type(caught.value).__name__}: {caught.value}")
    assert told is not None
    assert told.id == expected


def test_what_is_graded_run_was_run() -> None:
    run = {sample["id"] for sample in SAMPLES if sample["origin"].startswith("run: ")}
    graded = {known.id for known in known_errors() if known.grade == "run"}
    assert graded == run | {expected for _, expected in REAL}
