"""Judging: what is chosen, accepted, estimated, compared; and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyswiftops.cli.main import main
from pyswiftops.errors import BadInputError, PreflightError
from pyswiftops.preflight import baseline, network
from pyswiftops.preflight.asked import request
from pyswiftops.preflight.finding import Severity
from pyswiftops.preflight.machine import checkpoint_bytes
from pyswiftops.preflight.playing import hold_back
from pyswiftops.preflight.report import Report, judge
from pyswiftops.specs.fleet import Fleet

from .faults import FAULTS
from .healthy import asked, facts, fleet, run
from .putting import HOST, ON_A_HOST, RECORDED, log


def broken(*names: str) -> tuple[Any, dict[str, Any]]:
    wanted = asked()
    told = facts(wanted)
    for name in names:
        FAULTS[name].put(told)
    return wanted, told


def test_only_the_chosen_checks_are_made() -> None:
    wanted, told = broken("full-shm", "full-disk")
    assert {item.check for item in judge(wanted, told, only=["disk"]).findings} == {"disk"}
    with pytest.raises(BadInputError, match="a check: nodes, shm"):
        judge(wanted, told, only=["dsik"])


def test_an_accepted_check_is_told_of_and_blocks_nothing() -> None:
    wanted, told = broken("full-shm")
    assert judge(wanted, told).blocked
    report = judge(wanted, told, accept=["shm"])
    assert not report.blocked
    assert [item.severity for item in report.findings] == [Severity.NOTE]


def test_the_worst_comes_first_and_what_blocks_holds_a_launch_back() -> None:
    wanted, told = broken("another-driver", "full-shm", "xid-of-a-program")
    report = judge(wanted, told)
    told_in = [item.severity for item in report.findings]
    assert told_in == ["block", "warn", "note", "note", "note"]
    with pytest.raises(PreflightError, match="free in /dev/shm") as held:
        hold_back(report)
    assert len(held.value.findings) == 1
    assert held.value.exit_code == 2
    hold_back(judge(wanted, told, accept=["shm"]))


def test_a_kernel_log_that_host_and_container_see_is_told_once_where_it_is() -> None:
    wanted = asked(ON_A_HOST)
    told = facts(wanted)
    for node in ("node-1", HOST):
        log("xid-off-the-bus.txt", node)(told)
    assert {item.node for item in judge(wanted, told, only=["gpu_errors"]).findings} == {HOST}
    told[HOST]["kernel_log"]["error"] = "Operation not permitted"
    told_of = {item.node for item in judge(wanted, told, only=["gpu_errors"]).findings}
    assert "node-1" in told_of


@pytest.mark.parametrize("when", ["at rest", "at work"])
def test_of_a_real_gpu_at_rest_nothing_is_told_and_anothers_process_is_named(when: str) -> None:
    looks = json.loads((RECORDED / "h200.json").read_text(encoding="utf-8"))
    wanted = asked(fleet(1, gpus=1))
    told = facts(wanted)
    told["node-1"] |= looks[when]
    checks = ["gpus", "gpu_errors", "processes", "shm"]
    found = [item for item in judge(wanted, told, only=checks).findings if item.severity != "note"]
    if when == "at rest":
        assert found == []
    else:
        (item,) = found
        assert (item.check, item.severity, item.node) == ("processes", "block", "node-1")
        assert f"process {looks['holder']['pid']}" in item.found
        assert item.fix is None  # others' processes are never ended


def test_a_checkpoint_is_estimated_from_weights_and_optimizer() -> None:
    assert checkpoint_bytes(2000, "bfloat16", lora=False, optimizer=False) == 2000
    assert checkpoint_bytes(2000, "bfloat16", lora=False, optimizer=True) == 2000 + 12000
    assert checkpoint_bytes(4000, "float32", lora=False, optimizer=True) == 4000 + 12000
    assert checkpoint_bytes(2000, "", lora=True, optimizer=False) == 100


def test_a_golden_result_shows_what_differs_and_nothing_else() -> None:
    wanted, told = broken()
    golden = json.loads(json.dumps(baseline.golden(told)))
    assert judge(wanted, told, golden=golden).findings == ()
    told["node-2"]["gpus"]["gpus"][0]["uuid"] = "GPU-new"
    told["node-3"]["shm"]["free"] -= 1  # what comes and goes is not compared
    found = judge(wanted, told, only=["baseline"], golden=golden).findings
    assert [(item.node, item.severity) for item in found] == [("node-2", "warn")]
    assert "GPU 0 as recorded: NVIDIA H100 80GB HBM3 (GPU-0)" in found[0].expected


@pytest.mark.parametrize(
    ("address", "entry", "past"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.0/24", True),
        ("10.0.1.1", "10.0.0.0/24", False),
        ("gpu-1.lab", ".lab", True),
        ("gpu-1.lab", "lab", True),
        ("gpu-1.lab", "u-1.lab", False),
        ("10.0.0.1", "0.0.1", False),
        ("anything", "*", True),
    ],
)
def test_no_proxy_is_read_as_clients_read_it(address: str, entry: str, past: bool) -> None:
    assert network.goes_past(address, [entry]) is past


def test_ports_are_each_nodes_own_and_other_ones_each_time() -> None:
    wanted = asked(fleet(4), run(deploy={"port": 8000}))
    first, again, other = request(wanted, "a"), request(wanted, "a"), request(wanted, "b")
    ports = [port for node in first["nodes"].values() for port in node["ports"]]
    assert len(set(ports)) == 8
    assert first == again
    assert first["nodes"] != other["nodes"]
    assert [node["taken"] for node in first["nodes"].values()] == [[8000], [], [], []]


def test_how_a_launch_is_guarded_is_no_part_of_a_plan() -> None:
    assert "preflight" not in fleet(preflight={"accept": ["shm"]}).model_dump()


def local(tmp_path: Path, more: str = "") -> Path:
    for name in ("node-1", "node-2"):
        (tmp_path / "nodes" / name).mkdir(parents=True, exist_ok=True)
    path = tmp_path / "fleet.yml"
    path.write_text(
        "plugin: pyswiftops.fleet.fleet\nruntime: local\ndevice: cpu\nroot: ./nodes\n"
        f"state: ./state\nnodes: [{{name: node-1}}, {{name: node-2}}]\n{more}",
        encoding="utf-8",
    )
    return path


def swiftops(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["swiftops", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_local_nodes_are_looked_at_recorded_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(local(tmp_path))
    words = ("preflight", "-i", where, "--json", "--only", "reach", "--only", "baseline")
    assert swiftops(monkeypatch, *words, "--record") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["nodes"] == ["node-1", "node-2"]
    assert told["findings"] == []
    kept = Path(told["recorded"])
    golden = json.loads(kept.read_text(encoding="utf-8"))
    golden["nodes"]["node-2"]["kernel"] = "5.4"
    kept.write_text(json.dumps(golden), encoding="utf-8")
    assert swiftops(monkeypatch, *words) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [item["expected"] for item in found] == ["kernel as recorded: 5.4"]


def test_a_wrong_check_exits_2_before_any_node_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swiftops(monkeypatch, "preflight", "-i", str(local(tmp_path)), "--only", "dsik") == 2
    assert "expected: a check: nodes" in capsys.readouterr().err


def test_a_launch_is_held_back_with_nothing_changed_unless_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``swiftops run`` of a stage with nothing to do; its plan and its nodes are stood in for."""
    from pyswiftops.cli import runs  # noqa: PLC0415 its plan is replaced
    from pyswiftops.planner.plan import Plan, make_plan  # noqa: PLC0415 as above

    wanted, told = broken("full-shm")

    def planned(_client: Any, path: Path, *_: Any) -> Plan:
        return make_plan(Fleet.load(path), run(), "r")

    def looked(*_: Any, **__: Any) -> Report:
        return judge(wanted, told)

    monkeypatch.setattr(runs, "_plan", planned)
    monkeypatch.setattr("pyswiftops.client.Client.preflight", looked)
    monkeypatch.chdir(tmp_path)
    words = ("run", "--only", "fetch", "-i", str(local(tmp_path)))
    assert swiftops(monkeypatch, *words) == 2
    assert "free in /dev/shm" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert swiftops(monkeypatch, *words, "--no-preflight") == 0
    assert swiftops(monkeypatch, "rm", "r", "--yes", "--keep-nodes") == 0
    local(tmp_path, "preflight: {before_launch: false}\n")
    assert swiftops(monkeypatch, *words) == 0
