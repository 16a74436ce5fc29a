"""What every renderer is given, and what all commands of a run have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyswiftops.errors import Finding, MatrixError
from pyswiftops.matrix import Row
from pyswiftops.paths import NodePaths
from pyswiftops.specs.run import RunSpec
from pyswiftops.stages.command import Command, Late, Word, flag_words
from pyswiftops.stages.lines import Line, Verb, rendered
from pyswiftops.stages.node import NodeFacts
from pyswiftops.stages.sources import data_items, model_item

MASTER_PORT = Late("lease.master_port")


@dataclass(frozen=True)
class Context:
    """Everything a renderer may look at.

    Attributes:
        run_id: The run's id.
        spec: What to do.
        row: The release line's row of the matrix.
        line: The release line's flag table.
        nodes: The nodes in rank order.
    """

    run_id: str
    spec: RunSpec
    row: Row
    line: Line
    nodes: tuple[NodeFacts, ...]

    @property
    def first(self) -> NodeFacts:
        """The node of rank 0, on which single-node jobs run."""
        return self.nodes[0]

    @property
    def last(self) -> NodeFacts:
        """The node of the last rank."""
        return self.nodes[-1]

    def paths(self, node: NodeFacts) -> NodePaths:
        """The run's files on ``node``."""
        return node.paths(self.run_id)

    def model(self, node: NodeFacts) -> str:
        """The base model's folder on ``node``."""
        return model_item(self.spec).path_on(node)

    def rows(self, node: NodeFacts) -> list[str]:
        """The training rows on ``node``, as ms-swift takes them."""
        return [item.path_on(node) + item.suffix for item in data_items(self.spec)]

    @property
    def on_cpu(self) -> bool:
        """Whether the fleet hides GPUs."""
        return self.first.device == "cpu"

    @property
    def dtype(self) -> str:
        """Precision of weights and activations: float32 on CPU, where bfloat16 is emulated."""
        return "float32" if self.on_cpu else self.spec.model.torch_dtype

    @property
    def model_kind(self) -> dict[str, Any]:
        """What every verb is told of a model beside where it lies, in neutral names."""
        model = self.spec.model
        return {"model_type": model.model_type, "template": model.template, "dtype": self.dtype}

    def environment(self, node: NodeFacts, ranks: int | None = None) -> dict[str, Word]:
        """Environment of every job on ``node``; ``ranks`` limits the GPUs it sees."""
        cache = self.paths(node).cache
        gpus = node.gpus if ranks is None else node.gpus[:ranks]
        env: dict[str, Word] = {
            **self.row.env,
            **node.env,
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
            "HF_HOME": f"{cache}/huggingface",
            "MODELSCOPE_CACHE": f"{cache}/modelscope",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": f"{cache}/temporary",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if node.device != "cpu" and not node.gpus:
            del env["CUDA_VISIBLE_DEVICES"]
        return env

    def threads(self, node: NodeFacts) -> dict[str, Word]:
        """Threads of a job that shares the node's cores with others.

        On CPU, torch would take all cores for each process, and OpenMP's waiting threads then
        cost the others up to a third of their time.
        """
        return {"OMP_NUM_THREADS": str(node.cpu_threads)} if node.device == "cpu" else {}

    def launcher(self, node: NodeFacts, nodes: Sequence[NodeFacts]) -> dict[str, Word]:
        """Variables of torchrun, which ms-swift reads, for ``node`` among ``nodes``."""
        env: dict[str, Word] = {
            "MASTER_ADDR": nodes[0].address,
            "MASTER_PORT": MASTER_PORT,
            "NNODES": str(len(nodes)),
            "NODE_RANK": str(node.rank - nodes[0].rank),  # participants are neighbours in rank
            "NPROC_PER_NODE": str(node.ranks if len(nodes) > 1 else 1),
        }
        if node.interface:
            env["GLOO_SOCKET_IFNAME"] = node.interface
            env["NCCL_SOCKET_IFNAME"] = f"={node.interface}"  # NCCL takes prefixes, Gloo names
        return env

    def words(
        self, what: str, settings: Mapping[str, Any], extra: str | None = None
    ) -> tuple[Word, ...]:
        """The words of the verb that does ``what``, through the CPU backend where it needs it.

        Args:
            what: A key of the line's verbs.
            settings: Neutral name -> value.
            extra: The stage whose ``extra_args`` they take; they win over what is usual.

        Raises:
            MatrixError: the line cannot do it, or not without GPUs.
        """
        verb, task = self.line.verb(what), self.spec.method.task
        program = verb.program.format(task=task).split()
        flags = {**self.line.flags(what, task, settings), **verb.usual}
        if self.on_cpu:
            flags |= self._on_cpu(verb)
        flags |= {**self.extra_args(extra or what), **verb.always}
        if self.on_cpu and program[0] == "megatron":
            program = ["python", "-m", "pyswiftops.cpu_backend", *program]
        return (*program, *flag_words(flags))

    def _on_cpu(self, verb: Verb) -> Mapping[str, Any]:
        if verb.cpu is None:
            able = [name for name, line in rendered().items() if line.verbs["train"].cpu]
            raise MatrixError(
                Finding(
                    "GPUs",
                    "device: cpu",
                    f"`{verb.program}` of ms-swift {self.line.name}",
                    f"lines that train on CPU: {', '.join(able)}",
                )
            )
        return verb.cpu

    def extra_args(self, stage: str) -> dict[str, Any]:
        """The user's own flags of a stage; they win over rendered ones."""
        return dict(self.spec.extra_args.get(stage, {}))  # type: ignore[call-overload]

    def command(
        self,
        job: str,
        node: NodeFacts,
        argv: tuple[Word, ...],
        env: Mapping[str, Word],
        **more: Any,
    ) -> Command:
        """A command with what all commands on ``node`` share."""
        paths = self.paths(node)
        cache = paths.cache
        folders = (f"{cache}/huggingface", f"{cache}/modelscope", f"{cache}/temporary")
        return Command(
            job=job,
            node=node.name,
            argv=argv,
            env=env,
            path=(node.bin,),
            cwd=paths.work(job),
            make_directories=(*folders, *more.pop("make_directories", ())),
            hide=node.hidden,
            **more,
        )
