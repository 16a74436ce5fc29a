"""What holds for all commands: JSON, exit codes, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.cli import options, runs
from pyswiftops.cli.main import commands
from pyswiftops.paths import RunFolder

from .conftest import Swiftops

COMMANDS = commands()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_json(name: str) -> None:
    assert "--json" in {word for item in COMMANDS[name].params for word in item.opts}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    assert COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "none"),
        ("stop", "none"),
        ("resume", "none"),
        ("attach", "none"),
        ("watch", "none", "--once"),
        ("logs", "none"),
        ("logs", "none", "--stage", "no-such-stage"),
        ("rm", "none", "--yes"),
        ("ckpt", "ls", "none"),
        ("ckpt", "prune", "none", "--keep-last", "1"),
        ("ckpt", "prune", "none"),
        ("ckpt", "adopt", "old", "node-1:/data", "-i", "none.yml"),
        ("plan", "-i", "none.yml"),
        ("run", "--only", "trian"),
        ("run", "--from", "export", "--to", "train"),
        ("schema", "none"),
        ("completion", "cmd"),
        ("why", "error"),
        ("why", "error", "none.log"),
        ("exec", "-i", "none.yml", "--", "true"),
        ("shell", "node-1", "-i", "none.yml"),
        ("preflight",),
        ("up", "-i", "none.yml"),
        ("down", "-i", "none.yml"),
        ("wheelhouse", "fetch"),
        ("wheelhouse", "make", "w", "--line", "0.1"),
        ("wheelhouse", "make", "w", "--line", "3.12"),
        ("matrix", "9.9"),
        ("solve", "--arch", "sm_91", "--driver", "570.26", "--python", "3.12"),
        ("solve", "--arch", "sm_90", "--driver", "440.1", "--python", "3.12"),
        ("solve", "--arch", "sm_90", "--driver", "570", "--python", "3.12", "--pin", "torch"),
        ("translate", "none.sh"),
        ("translate", "none.sh", "--to", "9.9"),
        ("init", "--runtime", "cloud"),
        ("init", "--runtime", "host", "--yes"),
        ("init", "--name", "no/slash", "--yes"),
    ],
)
def test_bad_input_exits_2_changes_nothing_and_is_json_where_asked_for(
    swiftops: Swiftops, arguments: tuple[str, ...]
) -> None:
    done = swiftops(*arguments)
    assert done.code == 2, done.err
    for part in ("expected: ", "found: ", "where: ", "remedy: "):
        assert part in done.err
    before_dashes = list(arguments)
    place = before_dashes.index("--") if "--" in before_dashes else len(before_dashes)
    again = swiftops(*before_dashes[:place], "--json", *before_dashes[place:])
    assert again.code == 2
    told = json.loads(again.err)
    assert told["exit_code"] == 2
    assert told["findings"][0]["remedy"]
    assert again.out == ""
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("plan", "--no-such-flag"), ("no-such-command",), ("logs", "r", "--tail", "x"), ("exec",)],
)
def test_a_wrong_option_exits_2_and_is_json_where_asked_for(
    swiftops: Swiftops, arguments: tuple[str, ...]
) -> None:
    done = swiftops(*arguments)
    assert done.code == 2
    assert "Error: " in done.err
    again = swiftops(*arguments, "--json")
    assert (again.code, again.out) == (2, "")
    told = json.loads(again.err)
    assert (told["exit_code"], told["findings"]) == (2, [])
    assert told["message"]


def test_what_stands_after_two_dashes_asks_for_no_json(swiftops: Swiftops) -> None:
    assert swiftops("exec", "-i", "none.yml", "--", "tool", "--json").err.startswith("error: ")


def test_json_commands_that_succeed_or_fail_keep_their_exit_codes(swiftops: Swiftops) -> None:
    assert swiftops("ls", "--json").code == 0
    Path("empty.log").touch()
    assert swiftops("why", "error", "empty.log", "--json").code == 1


def test_an_internal_fault_exits_70_and_keeps_its_traceback_with_the_run(
    swiftops: Swiftops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "runs", "r")
    folder.root.mkdir(parents=True)

    def broken(_runs: Path, **_more: Any) -> None:
        options.Current.folder = folder
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(options, "client", broken)
    try:
        done, as_json = swiftops("ls"), swiftops("ls", "--json")
    finally:
        options.Current.folder = None
    assert json.loads(as_json.err)["exit_code"] == as_json.code == 70
    assert done.code == 70
    assert str(folder.fault) in done.err
    assert "ZeroDivisionError" in folder.fault.read_text(encoding="utf-8")


def test_an_interrupt_exits_130(swiftops: Swiftops, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_runs: Path, **_more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.opt, "client", interrupted)
    assert swiftops("ls").code == swiftops("ls", "--json").code == 130


def test_nothing_is_coloured_off_a_terminal(swiftops: Swiftops) -> None:
    assert "\x1b" not in swiftops("ls").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(swiftops: Swiftops, shell: str) -> None:
    done = swiftops("completion", shell)
    assert done.code == 0
    assert "_SWIFTOPS_COMPLETE" in done.out
    assert json.loads(swiftops("completion", shell, "--json").out)["script"] in done.out


@pytest.mark.parametrize("kind", ["fleet", "run"])
def test_a_schema_is_json(swiftops: Swiftops, kind: str) -> None:
    schema = json.loads(swiftops("schema", kind).out)
    assert schema["$schema"].startswith("https://json-schema.org/")


def test_the_matrix_shows_all_lines_or_one(swiftops: Swiftops) -> None:
    done = swiftops("matrix")
    assert done.code == 0
    assert "core_r0.15.0" in done.out
    told = json.loads(swiftops("matrix", "4.4", "--json").out)
    assert list(told) == ["4.4"]
    assert "cn-hangzhou" in told["4.4"]["images"][0]["regions"]
    assert "modelscope-registry.us-west-1." in swiftops("matrix", "4.4").out
    shown = swiftops("matrix", "3.6").out
    assert "Train with line 3.7 or later" in shown


def test_a_machine_and_a_wish_become_a_line_and_pins(swiftops: Swiftops) -> None:
    asked = ("solve", "--arch", "sm_90", "--driver", "570.26", "--python", "3.11")
    done = swiftops(*asked, "--pin", "torch>=2.6", "--pin", "torch<2.9")
    assert done.code == 0
    assert "torch for CUDA 12.8" in done.out
    assert "==2.8.0" in done.out
    told = json.loads(swiftops(*asked, "--line", "3.7", "--json").out)
    assert (told["line"], told["pins"]["torch"]["specifier"]) == ("3.7", "==2.7.1")
    assert "ms-swift 3.7.3 of line 3.7" in swiftops(*asked, "--line", "3.7").out


def test_a_script_becomes_a_run_file(swiftops: Swiftops, tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("megatron sft --load M --dataset d.jsonl --train_iters 3 --lr 1e-5\n")
    run = tmp_path / "out.yml"
    arguments = ("translate", str(script), "--run", str(run))
    assert swiftops(*arguments).code == 2  # no HF model
    assert not run.exists()
    done = swiftops(*arguments, "--model", "/models/m")
    assert done.code == 0
    assert "--mcore_model M" in done.out
    assert "load" in done.err
    assert "path: /models/m" in run.read_text(encoding="utf-8")
    before = run.read_bytes()
    assert swiftops(*arguments, "--model", "/models/m").code == 2  # never written over
    assert run.read_bytes() == before


@pytest.mark.slow
def test_the_nodes_of_a_fleet_are_held_against_the_matrix(
    swiftops: Swiftops, tmp_path: Path
) -> None:
    path = tmp_path / "fleet.yml"
    path.write_text(
        "plugin: pyswiftops.fleet.fleet\nruntime: local\ndevice: cpu\n"
        f"root: {tmp_path}/nodes\nnodes: [{{name: node-1}}]\n",
        encoding="utf-8",
    )
    done = swiftops("matrix", "--check", "-i", str(path))
    assert done.code == 0, done.err
    assert "all 1 nodes fit ms-swift 4.6" in done.out
    told = swiftops("matrix", "3.12", "--check", "-i", str(path), "--json")
    assert told.code == 1
    assert "node-1: ms-swift" in {item["where"] for item in json.loads(told.out)}
