"""The pipeline's wall time against the same upstream commands typed by hand, in the same call.

By hand: the very commands of the plan, one after another as a person would run them, files moved
with plain copies, nothing hashed, proven or watched. Both sides do the same work: lengths,
conversion, base answers, round trip, training on two nodes, gather, export, serving, questions.

``ROUNDS=2 make bench NAME=pipeline_overhead`` alternates the order (hand, ours, ours, hand).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyswiftops.client import Client
from pyswiftops.demo.run import RUN_ID, DemoFiles, DemoOptions, demo_fleet, demo_spec, prepare
from pyswiftops.planner.plan import Plan, make_plan
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.command import Command

MASTER_PORT = 24871
DEPLOY_PORT = 24872

Times = dict[str, float]


def options(folder: Path) -> DemoOptions:
    """What both sides train."""
    return DemoOptions("Swifty", "the bench", folder)


def spec_of(files: DemoFiles) -> RunSpec:
    """The demo's run over the files in ``files``."""
    return RunSpec.from_document(demo_spec(files, options(files.folder)), files.run)


class ByHand:
    """Runs a plan's commands one after another."""

    def __init__(self, plan: Plan, fleet: Fleet, folder: Path) -> None:
        self.plan, self.folder, self.times = plan, folder, Times()
        self.values: dict[str, object] = {
            "lease.master_port": MASTER_PORT,
            "lease.deploy_port": DEPLOY_PORT,
        }
        self.roots = {name: Path(host["swiftops_root"]) for name, host in fleet.host_vars().items()}

    def place(self, node: str, name: str) -> Path:
        """A folder of the run on a node."""
        return self.roots[node] / "runs" / RUN_ID / name

    def start(self, command: Command) -> subprocess.Popen[bytes]:
        """Start one command, its output in a file."""
        bound = command.bind(self.values)
        for folder in (bound.cwd, *bound.make_directories):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for path, text in bound.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text, encoding="utf-8")
        env = {**os.environ, **{name: str(value) for name, value in bound.env.items()}}
        env["PATH"] = os.pathsep.join([*bound.path, env["PATH"]])
        program = shutil.which(str(bound.argv[0]), path=env["PATH"])
        assert program is not None
        argv = [program, *(str(word) for word in bound.argv[1:])]
        with (self.folder / f"{bound.job}-{bound.node}.log").open("wb") as log:
            return subprocess.Popen(
                argv, cwd=bound.cwd, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, job: str) -> None:
        """All commands of a job side by side, until they end."""
        running = [self.start(command) for command in self.plan.jobs[job]]
        codes = [process.wait() for process in running]
        assert not any(codes), f"{job} by hand failed: see {self.folder}"

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Record a stage's wall time."""
        begin = time.monotonic()
        yield
        self.times[stage] = time.monotonic() - begin

    def everything(self) -> Times:
        """The whole pipeline by hand."""
        first, second = self.roots
        with self.timed("data"):
            self.run("data")
            lengths = self.place(first, "data") / "lengths.json"
            self.values["data.max_length"] = json.loads(lengths.read_text())["max_length"]
        with self.timed("convert"):
            self.run("convert")
            shutil.copytree(self.place(first, "mcore"), self.place(second, "mcore"))
        with self.timed("infer"):
            self.run("infer")
        with self.timed("roundtrip"):
            self.run("roundtrip_export")
            self.run("roundtrip_infer")
        with self.timed("compare"):
            base, back = (
                self.place(first, "infer") / f"{job}-answers.jsonl"
                for job in ("infer", "roundtrip_infer")
            )
            answers = [
                [json.loads(line)["response"] for line in path.open(encoding="utf-8")]
                for path in (base, back)
            ]
            assert answers[0] == answers[1]
        with self.timed("train"):
            self.run("train")
        with self.timed("gather"):
            train = self.place(first, "train")
            shutil.copytree(self.place(second, "train"), train, dirs_exist_ok=True)
            self.values["train.checkpoint"] = max(train.glob("checkpoint-*"))
        with self.timed("export"):
            self.run("export")
        (command,) = self.plan.jobs["deploy"]
        with self.timed("deploy"):
            server = self.start(command)
            wait_ready(DEPLOY_PORT, server)
        try:
            with self.timed("smoke"):
                for question in self.plan.spec.smoke.questions:
                    ask(DEPLOY_PORT, question.ask, self.plan.spec.smoke.max_tokens)
        finally:
            os.killpg(server.pid, 15)  # its own session: the launcher and its child
            server.wait()
        return self.times


def call(port: int, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    """One request to the endpoint."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/{path}", data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310 the same
        answer: dict[str, object] = json.load(response)
    return answer


def wait_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    """Poll until the endpoint lists its models."""
    while server.poll() is None:
        try:
            call(port, "models")
        except OSError:
            time.sleep(0.25)
        else:
            return
    raise AssertionError("the server by hand ended")


def ask(port: int, question: str, max_tokens: int) -> None:
    """One question."""
    messages = [{"role": "user", "content": question}]
    body = {"model": RUN_ID, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    served = call(port, "models")["data"]
    assert isinstance(served, list)
    answer = call(port, "chat/completions", {**body, "model": served[0]["id"]})
    assert answer["choices"]


def by_hand(shared: DemoFiles, folder: Path) -> Times:
    """One pass by hand, in a folder of its own."""
    files = DemoFiles(folder)
    fleet = demo_fleet(files, options(folder))
    return ByHand(make_plan(fleet, spec_of(shared), RUN_ID), fleet, folder).everything()


def ours(shared: DemoFiles, folder: Path) -> Times:
    """One pass of the pipeline, checks before it included, in a folder of its own."""
    files = DemoFiles(folder)
    client = Client(files.runs)
    begin = time.monotonic()
    plan = client.plan(demo_fleet(files, options(folder)), spec_of(shared), RUN_ID)
    checked = time.monotonic() - begin
    result = client.apply(plan)
    client.stop(RUN_ID, jobs=["deploy"])
    return {"plan": checked} | {
        name: float(item["seconds"]) for name, item in result.stages.items()
    }


def main() -> None:
    """Run both sides and print the table."""
    rounds = int(os.environ.get("ROUNDS", "1"))
    with tempfile.TemporaryDirectory(prefix="swiftops-bench-") as name:
        top = Path(name)
        shared, _, _ = prepare(options(top / "shared"))
        sides: dict[str, Callable[[DemoFiles, Path], Times]] = {"hand": by_hand, "ours": ours}
        order = ["hand", "ours"]
        walls: dict[str, list[float]] = {"hand": [], "ours": []}
        stages: dict[str, list[Times]] = {"hand": [], "ours": []}
        for number in range(rounds):
            for side in order if number % 2 == 0 else reversed(order):
                folder = top / f"{side}-{number}"
                folder.mkdir()
                begin = time.monotonic()
                times = sides[side](shared, folder)
                walls[side].append(time.monotonic() - begin)
                stages[side].append(times)
                print(f"round {number + 1} {side}: {walls[side][-1]:.1f} s", flush=True)
                shutil.rmtree(folder)
    print(f"\n{'stage':<12}{'by hand, s':>12}{'pipeline, s':>13}")
    for stage in stages["ours"][0]:
        cells = [sum(times.get(stage, 0.0) for times in stages[side]) / rounds for side in order]
        print(f"{stage:<12}{cells[0]:>12.1f}{cells[1]:>13.1f}")
    hand, pipeline = (sum(walls[side]) / rounds for side in order)
    print(f"{'wall':<12}{hand:>12.1f}{pipeline:>13.1f}   (stages of the pipeline overlap)")
    print(
        f"RESULT ratio={pipeline / hand:.3f} hand_s={hand:.1f} pipeline_s={pipeline:.1f} "
        f"rounds={rounds} cores={os.cpu_count()} python={sys.version.split()[0]}"
    )


if __name__ == "__main__":
    main()
