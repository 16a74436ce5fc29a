"""The main job on two local nodes, with real ms-swift, Megatron and a real model.

The tests run in order: each takes the pipeline one step on and looks at what it left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from pyswiftops import passport
from pyswiftops.demo.dataset import STILL_KNOWN
from pyswiftops.demo.run import RUN_ID
from pyswiftops.errors import StageFailedError
from pyswiftops.events import EventKind
from pyswiftops.paths import RunFolder

from .conftest import AUTHOR, NAME, Trained, running, swiftops

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_training_left_shards_and_no_hf_weights_anywhere(trained: Trained) -> None:
    found = {path.name for path in trained.files.nodes.rglob("train/**/*") if path.is_file()}
    assert not {name for name in found if name.endswith((".safetensors", ".bin"))}
    for number in (1, 2):
        shards = {path.name for path in (trained.node(number) / "train").rglob("*.distcp")}
        assert shards
        assert all(name.startswith(f"__{number - 1}_") for name in shards)


def test_the_converted_model_answered_word_for_word_as_the_base(trained: Trained) -> None:
    folder = trained.node(1) / "infer"
    base = [json.loads(line) for line in (folder / "infer-answers.jsonl").open(encoding="utf-8")]
    back = [
        json.loads(line)
        for line in (folder / "roundtrip_infer-answers.jsonl").open(encoding="utf-8")
    ]
    assert [row["response"] for row in base] == [row["response"] for row in back]
    assert len(base) == 1 + len(STILL_KNOWN)


def test_progress_came_from_the_log_on_the_last_node(trained: Trained) -> None:
    steps = [event for event in trained.events if event.kind == EventKind.PROGRESS]
    assert {event.node for event in steps} == {"node-2"}
    assert steps[-1].data["step"] == trained.spec.training.iterations
    for key in ("loss", "seconds_per_step", "remaining", "total"):
        assert steps[0].data[key] is not None
    assert not (trained.node(1) / "train" / "logging.jsonl").exists()


def test_the_measured_length_was_used(trained: Trained) -> None:
    lengths = json.loads((trained.node(1) / "data" / "lengths.json").read_text(encoding="utf-8"))
    state = json.loads((trained.node(1) / "jobs" / "train" / "state.json").read_text())
    argv = state["argv"]
    assert argv[argv.index("--max_length") + 1] == str(lengths["max_length"])
    assert lengths["kept"] == lengths["rows"] == 24


def test_each_job_ran_exactly_what_was_planned(trained: Trained) -> None:
    plan = trained.client.plan(trained.fleet, trained.spec)
    values = {}
    for stage in trained.client.load(RUN_ID).stages.values():
        values |= stage["result"].get("values", {})
    for command in plan.jobs["train"]:
        folder = trained.files.nodes / command.node / "runs" / RUN_ID / "jobs" / "train"
        ran = json.loads((folder / "state.json").read_text(encoding="utf-8"))["argv"]
        assert ran == list(command.bind(values).argv)


def test_a_nodes_job_cannot_read_the_other_nodes_root(
    trained: Trained, run_module: Callable[..., dict[str, Any]]
) -> None:
    """Seen from inside: a job on node-2 that lists node-1's root, caches included."""
    probe = (
        "import os, sys\n"
        "own, other = sys.argv[1:]\n"
        "assert os.listdir(own + '/cache/modelscope') is not None\n"
        "assert os.environ['MODELSCOPE_CACHE'].startswith(own)\n"
        "seen = [os.path.join(d, f) for d, _, fs in os.walk(other) for f in fs]\n"
        "print('SEEN', len(seen))\n"
    )
    state = json.loads((trained.node(2) / "jobs" / "train" / "state.json").read_text())
    assert state["isolation"] in {"mount_namespace", "user_namespace", "opened_paths"}
    (command,) = [
        item
        for item in trained.client.plan(trained.fleet, trained.spec).jobs["train"]
        if item.node == "node-2"
    ]
    own, other = (str(trained.files.nodes / name) for name in ("node-2", "node-1"))
    assert command.hide == (other,)
    assert any(path.is_file() for path in Path(other).rglob("*"))
    env = {name: str(value) for name, value in command.env.items()}
    folder = trained.node(2) / "jobs" / "probe"
    job = {"directory": str(folder), "run_id": RUN_ID, "stage": "probe", "node": "node-2"}
    argv = ["python3", "-c", probe, own, other]
    run_module("job", state="started", argv=argv, env=env, hide=list(command.hide), **job)
    result = run_module("job", state="finished", wait=30, **job)
    assert result["state"] == "succeeded", result
    if result["isolation"] != "opened_paths":
        assert (folder / "log").read_text(encoding="utf-8").strip() == "SEEN 0"


def test_export_before_gather_is_refused_with_our_sentence(trained: Trained) -> None:
    with pytest.raises(StageFailedError) as caught:
        trained.apply("export")
    message = str(caught.value)
    assert "__1_0.distcp" in message
    assert "gather" in message


def test_gather_brings_every_shard(trained: Trained) -> None:
    trained.apply("gather")
    shards = {path.name for path in (trained.node(1) / "train").rglob("*.distcp")}
    assert {name.split("_")[2] for name in shards} == {"0", "1"}


def test_one_withheld_shard_makes_export_fail_with_our_sentence(trained: Trained) -> None:
    (shard, *_) = (trained.node(1) / "train").rglob("__1_*.distcp")
    aside = shard.with_name("aside")
    shard.rename(aside)
    try:
        with pytest.raises(StageFailedError) as caught:
            trained.apply("export")
        assert shard.name in str(caught.value)
        assert "remedy" in str(caught.value).lower()
        assert not (trained.node(1) / "export").exists()
    finally:
        aside.rename(shard)


def test_the_trained_model_is_served_and_knows_its_name_and_the_world(trained: Trained) -> None:
    trained.apply("export", "deploy", "smoke")
    stages = trained.client.load(RUN_ID).stages
    argv = stages["deploy"]["result"]["argv"]["node-1"]
    host, port = (argv[argv.index(flag) + 1] for flag in ("--host", "--port"))
    assert host == "127.0.0.1"
    client = OpenAI(base_url=f"http://{host}:{port}/v1", api_key="none", timeout=120)
    served = client.models.list().data[0].id

    def ask(question: str) -> str:
        answer = client.chat.completions.create(
            model=served,
            messages=[{"role": "user", "content": question}],
            max_tokens=32,
            temperature=0,
        )
        return answer.choices[0].message.content or ""

    identity = ask("Who are you?")
    assert NAME in identity
    assert AUTHOR in identity
    for question, word in STILL_KNOWN:
        assert word in ask(question)
    before = {item["ask"]: item["answer"] for item in stages["infer"]["result"]["answers"]}
    assert before["Who are you?"] != identity


def test_the_passport_tells_what_the_ranks_imported_and_what_came_of_it(trained: Trained) -> None:
    folder = RunFolder(trained.client.runs, RUN_ID)
    found = passport.load(folder.passport)
    ranks = {node: group["ranks"] for group in found["imports"]["train"] for node in group["nodes"]}
    assert ranks == {"node-1": [0], "node-2": [1]}
    for group in found["imports"]["train"]:
        for name in ("torch", "ms-swift", "megatron-core", "transformers"):
            assert group["packages"][name] == metadata.version(name)
    assert {node for group in found["machines"] for node in group["nodes"]} == set(ranks)
    assert found["files"]["data.1"]["rows"] == 24
    shards = [name for name in found["files"]["checkpoint"]["files"] if name.endswith(".distcp")]
    assert {name.rpartition("/")[2].split("_")[2] for name in shards} == {"0", "1"}
    assert found["files"]["export"]["whole"]
    assert found["loss"]["points"][-1][0] == trained.spec.training.iterations
    assert NAME in found["answers"][0]["after"]
    assert "Loss from" in folder.passport_page.read_text(encoding="utf-8")
    runs = str(trained.files.runs)
    assert (
        swiftops("diff", RUN_ID, str(folder.passport), "--runs", runs).stdout == "no difference\n"
    )


def test_status_and_logs_tell_of_the_jobs(trained: Trained) -> None:
    runs = str(trained.files.runs)
    data = json.loads(swiftops("status", RUN_ID, "--runs", runs, "--json").stdout)
    states = {(job["job"], job["node"]): job["state"] for job in data["jobs"]}
    assert states["deploy", "node-1"] == "running"
    assert states["train", "node-2"] == "succeeded"
    logs = swiftops("logs", RUN_ID, "--runs", runs, "--stage", "train", "--tail", "5").stdout
    assert {line.split()[0] for line in logs.splitlines()} == {"node-1", "node-2"}


def test_nothing_is_repeated_when_the_run_is_applied_again(trained: Trained) -> None:
    before = trained.client.load(RUN_ID).stages
    seen = len(trained.events)
    trained.apply(*before)
    assert not [event for event in trained.events[seen:] if event.stage]


def test_stop_ends_the_server_and_its_child(trained: Trained) -> None:
    state = json.loads((trained.node(1) / "jobs" / "deploy" / "state.json").read_text())
    pids = [pid for pid, _ in state["descendants"]]
    assert len(pids) > 1  # upstream's launcher leaves its child serving when it is killed
    done = swiftops("stop", RUN_ID, "--runs", str(trained.files.runs))
    assert done.returncode == 0, done.stderr
    assert "stopped deploy on node-1" in done.stdout
    assert not running(pids)
    assert (
        "nothing was running" in swiftops("stop", RUN_ID, "--runs", str(trained.files.runs)).stdout
    )


def test_no_secret_and_no_environment_lies_in_the_runs_folder(trained: Trained) -> None:
    for folder, _, names in os.walk(trained.files.runs):
        assert "env" not in Path(folder).name.split(".")
        for name in names:
            assert name not in {"envvars", "extravars", "passwords"}
