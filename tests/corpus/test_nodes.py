"""Variables of hand-written inventories, and parameters of the module ``job``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.stages.node import NodeFacts, nodes_from_vars

from .conftest import listing, refused

NODE: dict[str, Any] = {
    "swiftops_line": "4.6",
    "swiftops_rank": 0,
    "swiftops_root": "/data/a",
    "swiftops_python": "/usr/bin/python3",
    "swiftops_address": "10.9.0.1",
    "ansible_host": "192.0.2.1",
}
GONE = "(gone)"
VARIABLES: list[tuple[str, Any, str]] = [
    ("swiftops_line", GONE, "no swiftops_line"),
    ("swiftops_rank", GONE, "no swiftops_rank"),
    ("swiftops_root", GONE, "no swiftops_root"),
    ("swiftops_python", GONE, "no swiftops_python"),
    ("swiftops_address", GONE, "no swiftops_address"),
    ("swiftops_line", None, "swiftops_line"),
    ("swiftops_line", "", "not empty"),
    ("swiftops_line", [4, 6], "swiftops_line"),
    ("swiftops_line", True, "booleans"),
    ("swiftops_rank", "first", "a valid integer"),
    ("swiftops_rank", -1, "greater than or equal to 0"),
    ("swiftops_rank", None, "a valid integer"),
    ("swiftops_rank", 1.5, "a valid integer"),
    ("swiftops_rank", True, "booleans"),
    ("swiftops_rank", [0], "a valid integer"),
    ("swiftops_rank", "{{ rank }}", "a valid integer"),
    ("swiftops_rank", float("nan"), "finite number"),
    ("swiftops_rank", 10**30, "64 bits"),
    ("swiftops_rank", 1, "each once and in this order"),
    ("swiftops_ranks", 0, "greater than or equal to 1"),
    ("swiftops_ranks", -2, "greater than or equal to 1"),
    ("swiftops_ranks", "all", "a valid integer"),
    ("swiftops_root", "", "not empty"),
    ("swiftops_root", "relative", "an absolute folder"),
    ("swiftops_root", "~/x", "an absolute folder"),
    ("swiftops_root", "/", "not / itself"),
    ("swiftops_root", "//", "not / itself"),
    ("swiftops_root", "/..", "not / itself"),
    ("swiftops_root", "/a\nb", "one line"),
    ("swiftops_root", "/a\0b", "control character"),
    ("swiftops_root", "{{ root }}", "an absolute folder"),
    ("swiftops_root", None, "swiftops_root"),
    ("swiftops_root", 7, "in quotes: '7'"),
    ("swiftops_root", ["/a"], "swiftops_root"),
    ("swiftops_python", "", "not empty"),
    ("swiftops_python", 3, "in quotes: '3'"),
    ("swiftops_address", "", "a host name or an IP address"),
    ("swiftops_address", "10.9.0.1:22", "the port has a key of its own"),
    ("swiftops_address", "root@a", "a host name or an IP address"),
    ("swiftops_address", "-x", "a host name or an IP address"),
    ("swiftops_address", "10.9.0.300", "a host name or an IP address"),
    ("swiftops_address", "[::1]", "without brackets"),
    ("swiftops_address", "{{ ip }}", "a host name or an IP address"),
    ("swiftops_interface", "eth 0", "network interface"),
    ("swiftops_interface", "-i", "network interface"),
    ("swiftops_interface", 0.5, "swiftops_interface"),
    ("swiftops_device", "tpu", "'gpu' or 'cpu'"),
    ("swiftops_device", None, "'gpu' or 'cpu'"),
    ("swiftops_gpus", "0,1", "write a list"),
    ("swiftops_gpus", 2, "write a list"),
    ("swiftops_gpus", ["a"], "a valid integer"),
    ("swiftops_gpus", [-1], "greater than or equal to 0"),
    ("swiftops_gpus", [0, 0], "each once"),
    ("swiftops_gpus", [True], "booleans"),
    ("swiftops_gpus", [[0]], "a valid integer"),
    ("swiftops_cpu_threads", 0, "greater than or equal to 1"),
    ("swiftops_cpu_threads", "two", "a valid integer"),
    ("swiftops_hidden_paths", "/a", "write a list"),
    ("swiftops_hidden_paths", [""], "not empty"),
    ("swiftops_hub", "hf", "write its keys below it"),
    ("swiftops_hub", {"miror": "/m"}, "did you mean 'mirror'?"),
]


@pytest.mark.parametrize(("name", "value", "said"), VARIABLES, ids=lambda item: repr(item)[:40])
def test_a_variable_is_refused(tmp_path: Path, name: str, value: Any, said: str) -> None:
    variables = {**NODE, name: value}
    if value == GONE:
        del variables[name]
    refused(tmp_path, [said], lambda: nodes_from_vars({"node-1": variables}))


def test_ranks_and_gpus_must_agree(tmp_path: Path) -> None:
    variables = {**NODE, "swiftops_gpus": [0, 1], "swiftops_ranks": 4}
    said = ["4 ranks and 2 in swiftops_gpus", "host node-1"]
    refused(tmp_path, said, lambda: nodes_from_vars({"node-1": variables}))


@pytest.mark.parametrize("ranks", [(0, 0), (1, 0), (0, 2), (1, 2)])
def test_ranks_are_counted_from_0_in_order(tmp_path: Path, ranks: tuple[int, int]) -> None:
    variables = {f"n{i}": {**NODE, "swiftops_rank": rank} for i, rank in enumerate(ranks)}
    refused(tmp_path, ["each once and in this order"], lambda: nodes_from_vars(variables))


def test_what_inventories_write_as_text_is_read() -> None:
    texts = {"swiftops_rank": "0", "swiftops_line": 4.6, "swiftops_interface": ""}
    facts = NodeFacts.from_vars("node-1", {**NODE, **texts, "swiftops_gpus": ["0", 1]})
    assert (facts.rank, facts.line, facts.gpus, facts.ranks) == (0, "4.6", (0, 1), 2)
    assert facts.interface is None


# The module, as Ansible calls it. Nothing may be started, and no folder made.

JOB: dict[str, Any] = {
    "state": "started",
    "run_id": "r",
    "stage": "train",
    "node": "node-1",
    "argv": [sys.executable, "-c", "pass"],
}
PARAMETERS: list[tuple[str, Any]] = [
    ("directory", None),
    ("state", "startd"),
    ("state", ""),
    ("run_id", None),
    ("stage", None),
    ("node", None),
    ("argv", None),
    ("argv", {"a": 1}),
    ("env", "A"),
    ("env", ["A"]),
    ("path", {"a": 1}),
    ("files", "x"),
    ("isolation", "none"),
    ("peers", [{"node": "node-2"}]),
    ("peers", [{"node": "node-2", "host": "h", "port": "ssh"}]),
    ("peers", [{"node": "node-2", "host": "h", "port": 1, "more": 1}]),
    ("stop_grace", "soon"),
    ("heartbeat_timeout", "soon"),
    ("join_timeout", [1]),
    ("hang_timeout", "never"),
    ("wait", {}),
    ("since_step", "last"),
    ("tail", "all"),
    ("log_from", "start"),
    ("again", "perhaps"),
    ("fail", "perhaps"),
    ("no_such_parameter", 1),
    ("directory", ""),
    ("directory", "relative/x"),
    ("argv", []),
    ("argv", ["a\0b"]),
    ("env", {"A=B": "x"}),
    ("env", {"": "x"}),
    ("env", {"A": "x\0"}),
    ("secret_env", {"A": "x\0"}),
    ("run_id", "../x"),
    ("run_id", "a b"),
    ("stage", "a/b"),
    ("node", ""),
    ("files", {"relative": "x"}),
    ("make_directories", ["relative"]),
    ("cwd", "relative"),
    ("path", ["relative"]),
    ("hide", ["relative"]),
    ("stop_grace", -1),
    ("heartbeat_timeout", -1),
    ("join_timeout", -0.5),
    ("hang_timeout", -1),
    ("hang_timeout", "inf"),
    ("hang_timeout", "nan"),
    ("tail", -1),
    ("log_from", -1),
    ("wait", -1),
]


@pytest.mark.parametrize(("name", "value"), PARAMETERS, ids=lambda item: repr(item)[:40])
def test_a_parameter_of_the_module_is_refused(
    tmp_path: Path, run_module: Callable[..., dict[str, Any]], name: str, value: Any
) -> None:
    arguments = {**JOB, "directory": str(tmp_path / "jobs" / "train"), name: value}
    before = listing(tmp_path)
    answer = run_module("job", **{key: item for key, item in arguments.items() if item is not None})
    assert answer["failed"]
    assert name in answer["msg"]
    assert "Traceback" not in answer["msg"]
    assert listing(tmp_path) == before


@pytest.mark.parametrize("lock", [False, True])
def test_a_folder_of_other_things_is_left_alone(
    tmp_path: Path, run_module: Callable[..., dict[str, Any]], *, lock: bool
) -> None:
    """What an earlier attempt left is moved aside; a home or a data folder must never be."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").write_text("x", encoding="utf-8")
    if lock:
        (tmp_path / "lock").touch()
    before = listing(tmp_path)
    answer = run_module("job", **JOB, directory=str(tmp_path))
    assert "expected an empty folder, or that of a job, found photos" in answer["msg"]
    assert listing(tmp_path) == before
