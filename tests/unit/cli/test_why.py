"""why names where each value comes from; doctor looks at the installation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pyswiftops import doctor
from pyswiftops.network import document
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.planner.reasons import reasons, why
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

from .conftest import Swiftops

FLEET = {
    "plugin": "pyswiftops.fleet.fleet",
    "runtime": "local",
    "device": "cpu",
    "root": "/fleet",
    "nodes": [{"name": "node-1"}, {"name": "node-2"}],
}
RUN = {
    "name": "r",
    "model": {"path": "/m", "model_type": "llama", "template": "chatml"},
    "data": {"train": ["/d"], "system": "s"},
    "training": {"iterations": 1, "env": {"NCCL_DEBUG": "INFO"}},
    "tracking": {"report_to": ["wandb"], "project": "p", "experiment": "e"},
    "extra_args": {"train": {"packing": True}},
}


def plan(device: str = "cpu", tuner: str = "lora") -> Plan:
    fleet = Fleet.from_document({**FLEET, "device": device}, Path("/f.yml"))
    run = {**RUN, "method": {"tuner": tuner}}
    return make_plan(fleet, RunSpec.from_document({"run": run}, Path("/r.yml")), "r")


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("tuner", ["lora", "full"])
def test_every_flag_and_variable_has_a_reason(device: str, tuner: str) -> None:
    without = {reason.name for reason in reasons(plan(device, tuner)) if not reason.why}
    assert without == set()


@pytest.mark.parametrize(
    ("name", "job", "said"),
    [
        ("micro_batch_size", "train", "training.micro_batch_size"),
        ("--packing", "train", "extra_args.train"),
        ("NCCL_DEBUG", "train", "training.env"),
        ("HF_HUB_OFFLINE", "infer", "matrix row 4.6"),
        ("fp16", "train", "real float32"),
        ("merge_lora", "export", "merges the adapters"),
    ],
)
def test_the_reason_is_the_right_one(name: str, job: str, said: str) -> None:
    found = [reason for reason in why(plan(), name) if reason.job == job]
    assert found
    assert all(said in reason.why for reason in found)


def test_why_on_the_command_line(swiftops: Swiftops) -> None:
    Path("fleet.yml").write_text(yaml.safe_dump(FLEET, sort_keys=False), encoding="utf-8")
    Path("run.yml").write_text(yaml.safe_dump({"run": RUN}), encoding="utf-8")
    told = json.loads(swiftops("why", "NODE_RANK", "--json").out)
    assert {(item["job"], item["node"]): item["value"] for item in told}["train", "node-2"] == "1"
    unknown = swiftops("why", "no_such_flag")
    assert unknown.code == 2
    assert "swiftops plan" in unknown.err


def test_an_error_in_a_log_is_explained(swiftops: Swiftops) -> None:
    text = "OSError: [Errno 98] Address already in use"
    Path("train.log").write_text(f"line\n{text}\n", encoding="utf-8")
    done = swiftops("why", "error", "train.log")
    assert done.code == 0, done.out
    assert "remedy" in done.out
    Path("train.log").write_text("all is well\n", encoding="utf-8")
    assert swiftops("why", "error", "train.log").code == 1


def test_another_copy_of_the_collection_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "ansible_collections" / "pyswiftops" / "fleet"
    assert doctor.check_shadows([tmp_path]) == []
    copy.mkdir(parents=True)
    (check,) = doctor.check_shadows([tmp_path])
    assert (check.verdict, check.found) == (doctor.Verdict.WARN, str(copy))


def test_a_full_disk_and_missing_programs_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 1 << 62)
    assert doctor.check_disk(tmp_path).verdict is doctor.Verdict.WARN
    monkeypatch.setattr(doctor, "environment", lambda: {"PATH": str(tmp_path)})
    assert {check.verdict for check in doctor.check_programs()} == {doctor.Verdict.WARN}


@pytest.mark.slow
def test_doctor_finds_this_installation_sound(swiftops: Swiftops) -> None:
    done = swiftops("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.out)}
    assert done.code == 0, done.out
    assert checks["ansible-playbook"]["verdict"] == "ok"
    assert "ansible-runner" in checks


def test_what_nodes_train_over_is_told_from_what_was_kept(
    swiftops: Swiftops, tmp_path: Path
) -> None:
    nodes = [{"name": "node-1", "address": "10.0.0.1"}]
    fleet = {**FLEET, "runtime": "host", "state": str(tmp_path / "state"), "nodes": nodes}
    (tmp_path / "fleet.yml").write_text(yaml.safe_dump(fleet), encoding="utf-8")
    done = swiftops("why", "nccl")
    assert done.code == 2
    assert "swiftops why nccl --now" in done.err
    address = {"address": "10.0.0.1", "prefix": 24, "family": 4, "scope": "global"}
    link = {"name": "eth0", "kind": "physical", "up": True, "mtu": 1500, "speed": None}
    facts = {
        "interfaces": [{**link, "master": None, "mode": None, "addresses": [address]}],
        "routes": {},
        "hcas": [],
        "plugins": [],
        "gpudirect": {"gpus": 0, "peermem": False, "dmabuf": False},
        "preset": [],
        "topology": None,
    }
    found = document.gathered(
        {"node-1": {"swiftops_address": "10.0.0.1"}}, ["node-1"], {"node-1": facts}
    )
    document.write(tmp_path / "state", found, document.decided(found))
    told = json.loads(swiftops("why", "nccl", "--json").out)
    assert told["nodes"]["node-1"]["GLOO_SOCKET_IFNAME"]["value"] == "eth0"
    assert told["remarks"] == []
    assert "no other node" in swiftops("why", "nccl").out
