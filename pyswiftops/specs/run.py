"""The run file: model, data, method, training, parallel sizes, serving, expected answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from pyswiftops.errors import Finding, RunSpecError
from pyswiftops.specs.document import Model, validate
from pyswiftops.specs.environment import SECRET, VARIABLE, Environment
from pyswiftops.specs.export import Export
from pyswiftops.specs.notify import Channel
from pyswiftops.specs.reading import read_yaml
from pyswiftops.specs.sources import DataSource, ModelSource, Source
from pyswiftops.specs.texts import Word

KEY = "run"
AnySource = TypeVar("AnySource", bound=Source)
Scalar = str | int | float | bool
StageWithArgs = Literal[
    "convert", "train", "export", "infer", "deploy", "eval", "sample", "rollout"
]
_FLAG = re.compile(r"-(?![0-9.])")  # a negative number is none
_RUN_CHECKPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/checkpoint-[0-9]+)?")


class Data(Model):
    """The training rows: JSON lines of ``messages``, or datasets of a hub."""

    train: list[DataSource] = Field(
        min_length=1,
        description="Paths of .jsonl files, hub ids as ms-swift takes them, or mappings.",
    )
    system: str | None = Field(default=None, description="System prompt for rows without one.")
    max_length: Literal["auto"] | int = Field(
        default="auto", description="Tokens; auto measures the rows and takes the longest."
    )

    @field_validator("system")
    @classmethod
    def _not_a_flag(cls, system: str | None) -> str | None:
        if system is not None and (not system.strip() or system.startswith("-")):
            raise ValueError("a text that is not empty and does not begin with a dash")
        return system

    @field_validator("max_length")
    @classmethod
    def _positive(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and value < 1:
            raise ValueError("'auto' or at least 1 token")
        return value


class Lora(Model):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: list[Word] = Field(min_length=1, default_factory=lambda: ["all-linear"])


class Rlhf(Model):
    """Learning from preferences or rewards; what else a type takes goes into ``extra_args``."""

    type: Literal["dpo", "kto", "rm", "grpo", "gkd", "orpo", "simpo", "cpo", "ppo"]
    beta: float | None = Field(default=None, description="Weight of the distance to the reference.")


class Method(Model):
    """What is trained, how, and which weights move."""

    task: Literal["sft", "pt", "rlhf"] = Field(default="sft", description="The verb of ms-swift.")
    backend: Literal["megatron", "swift"] = Field(
        default="megatron", description="swift: transformers, with DeepSpeed or FSDP."
    )
    tuner: Literal["lora", "full"] = Field(default="lora")
    lora: Lora = Field(default_factory=Lora)
    bridge: bool = Field(
        default=False, description="Megatron loads HF weights itself (mcore-bridge): no convert."
    )
    rlhf: Rlhf | None = Field(default=None, description="With task rlhf.")
    task_type: (
        Literal["causal_lm", "seq_cls", "embedding", "reranker", "generative_reranker"] | None
    ) = Field(default=None, description="What the model gives; default: text.")
    num_labels: int | None = Field(default=None, ge=1, description="Of task_type seq_cls.")
    freeze_llm: bool | None = Field(default=None, description="Of a multimodal model.")
    freeze_vit: bool | None = Field(default=None, description="Of a multimodal model.")
    freeze_aligner: bool | None = Field(default=None, description="Of a multimodal model.")
    deepspeed: Word | None = Field(
        default=None, description="zero0 to zero3, zero2_offload, zero3_offload, or a JSON file."
    )
    fsdp: Word | None = Field(default=None, description="As ms-swift takes it, e.g. fsdp2.")

    @property
    def needs_answers(self) -> bool:
        """Whether rows must hold an answer: GRPO draws its own, a classifier has labels."""
        if self.rlhf is not None and self.rlhf.type in {"grpo", "ppo"}:
            return False
        return self.task_type in {None, "causal_lm"}

    @model_validator(mode="after")
    def _fits_together(self) -> Method:
        if (self.task == "rlhf") != (self.rlhf is not None):
            raise ValueError("'rlhf' with its type where task is rlhf, and only there")
        if self.backend == "swift" and self.bridge:
            raise ValueError("bridge with backend megatron alone")
        if self.backend == "megatron" and (self.deepspeed or self.fsdp):
            raise ValueError("deepspeed and fsdp with backend swift alone")
        if self.deepspeed and self.fsdp:
            raise ValueError("one of 'deepspeed' and 'fsdp'")
        return self


class Alerts(Model):
    """What is told of a training while it runs."""

    loss_spike: float = Field(
        default=6, ge=0, description="Robust deviations above the median loss. 0: never."
    )
    window: int = Field(default=50, ge=20, description="Logged steps that the median is of.")
    stop_on_nan: bool = Field(
        default=False, description="End the job when loss or grad_norm is no number."
    )


class Training(Model):
    """Optimisation. Exactly one of ``iterations`` and ``epochs``."""

    iterations: int | None = Field(default=None, ge=1, description="Optimizer steps.")
    epochs: int | None = Field(default=None, gt=0, description="Whole passes over the rows.")
    micro_batch_size: int = Field(default=1, ge=1, description="Rows a rank takes at once.")
    global_batch_size: int = Field(default=16, ge=1, description="Rows an optimizer step takes.")
    learning_rate: float = Field(default=1e-4, gt=0)
    min_learning_rate: float | None = Field(default=None, ge=0)
    warmup_fraction: float | None = Field(
        default=0.05, ge=0, lt=1, description="Of the steps; null leaves it to upstream."
    )
    save_every: int | None = Field(default=None, ge=1, description="Steps; default: at the end.")
    log_every: int = Field(default=1, ge=1, description="Steps.")
    seed: int = Field(default=42)
    recompute: Literal["selective", "full", "none"] = Field(default="selective")
    fp8: Literal["e4m3", "hybrid"] | None = Field(
        default=None, description="Format of FP8 matrix products, on GPUs that have them."
    )
    fp8_recipe: Literal["tensorwise", "delayed", "mxfp8", "blockwise"] | None = Field(default=None)
    hang_timeout: float = Field(
        default=1800,
        ge=0,
        description="Seconds that one step may take; longer, and the job is hung. 0: never.",
    )
    hang_steps: float = Field(
        default=20, ge=0, description="Hung too: a pause of so many usual ones. 0: never."
    )
    hang_at_least: float = Field(
        default=600, gt=0, description="Seconds that hang_steps always leaves, e.g. for a save."
    )
    hang_startup: float = Field(
        default=600, ge=0, description="Seconds beyond hang_timeout for the first step."
    )
    alerts: Alerts = Field(default_factory=Alerts)
    env: Environment = Field(
        default_factory=dict, description="More environment variables of training, e.g. NCCL_*."
    )

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.iterations is None) == (self.epochs is None):
            raise ValueError("exactly one of 'iterations' and 'epochs'")
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError("a global_batch_size that micro_batch_size divides")
        return self


class Parallel(Model):
    """Megatron's parallel sizes (Megatron-LM, arXiv:1909.08053 and 2104.04473)."""

    tensor: int = Field(default=1, ge=1, description="Divides attention heads and KV heads.")
    pipeline: int = Field(default=1, ge=1, description="Divides the layers.")
    context: int = Field(default=1, ge=1)
    expert: int = Field(default=1, ge=1)
    sequence: bool = Field(default=False, description="Sequence parallel, with tensor > 1.")


class Output(Model):
    """What training leaves on the nodes."""

    save_safetensors: bool = Field(
        default=False, description="Let upstream write HF weights beside the shards."
    )
    save_optimizer: bool = Field(default=True, description="Needed to resume.")
    keep: int | None = Field(default=None, ge=1, description="Checkpoints; megatron: at least 2.")


class Resume(Model):
    """The checkpoint that training goes on from."""

    source: str = Field(
        alias="from",
        min_length=1,
        description="RUN, RUN/checkpoint-N, or an absolute path; without N the latest.",
    )
    mode: Literal["continue", "restart"] = Field(
        default="continue",
        description="continue: optimizer, random state and step go on. restart: weights only.",
    )

    @field_validator("source")
    @classmethod
    def _run_or_path(cls, source: str) -> str:
        if not source.startswith("/") and not _RUN_CHECKPOINT.fullmatch(source):
            raise ValueError("RUN, RUN/checkpoint-N or an absolute path")
        return source

    @property
    def run(self) -> str | None:
        """The run id; None where a path is given."""
        return None if self.source.startswith("/") else self.source.partition("/")[0]

    @property
    def checkpoint(self) -> str | None:
        """The folder name of the run's checkpoint that is asked for; None for the latest."""
        return None if self.run is None else self.source.partition("/")[2] or None


class Retry(Model):
    """What to do when training fails for a reason that is not the run's."""

    attempts: int = Field(
        default=0,
        ge=0,
        le=100,
        description="How often training goes on by itself from its last whole checkpoint.",
    )
    pause: float = Field(default=30, ge=0, description="Seconds before each.")
    spares: bool = Field(default=True, description="A spare takes the place of a lost node.")


class Tracking(Model):
    """Experiment trackers; tokens are secrets and never stand in a run file."""

    report_to: tuple[Literal["tensorboard", "wandb", "swanlab"], ...] = ("tensorboard",)
    project: Word | None = None
    experiment: Word | None = None


class Gather(Model):
    """How the trained checkpoint comes to the first node."""

    what: Literal["all", "weights"] = Field(
        default="all",
        description="weights: without optimizer; enough for an export, not for a resume.",
    )
    rate: float = Field(
        default=0, ge=0, description="Megabytes a second of each node at most; 0: no limit."
    )
    ahead: int = Field(
        default=0,
        ge=0,
        description="Nodes that get each checkpoint whole while training goes on; 2 outlive any.",
    )


class Eval(Model):
    """Benchmarks of EvalScope; the stage eval does nothing without this section."""

    datasets: list[Word] = Field(min_length=1, description="For instance gsm8k.")
    backend: Literal["Native", "OpenCompass", "VLMEvalKit"] = Field(default="Native")
    limit: int | None = Field(default=None, ge=1, description="Rows of each dataset.")


class Sample(Model):
    """Answers of the trained model to the training rows; the stage sample needs this section."""

    answers: int = Field(default=4, ge=1, description="To each row.")
    max_tokens: int = Field(default=512, ge=1)
    temperature: float = Field(default=1.0, ge=0)


class Rollout(Model):
    """vLLM that answers while GRPO or GKD train, on the last node; the stage rollout needs it."""

    gpus: list[int] = Field(min_length=1, description="Not among the node's GPUs for training.")
    port: int = Field(default=8000, ge=1, le=65535)


class Deploy(Model):
    """Serving the trained model."""

    engine: Literal["swift"] = Field(default="swift", description="swift: `swift deploy`.")
    host: str = Field(default="127.0.0.1", description="Address to bind; loopback by default.")
    port: Literal["auto"] | int = Field(default="auto", description="auto leases a free port.")
    served_name: Word | None = Field(default=None, description="Default: the run's name.")

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str) -> str:
        if host not in {"127.0.0.1", "localhost"}:
            raise ValueError("a loopback address: this version serves without an API key")
        return host

    @field_validator("port")
    @classmethod
    def _a_port(cls, port: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(port, int) and not 1 <= port <= 65535:  # noqa: PLR2004 TCP's range
            raise ValueError("'auto' or a port from 1 to 65535")
        return port


class Question(Model):
    """One question to the served model, and words its answer must hold."""

    ask: str = Field(min_length=1)
    expect: list[str] = Field(
        default_factory=list, description="Each must stand in the answer, in any case of letters."
    )


class Smoke(Model):
    """What the deployed model must answer, greedily decoded."""

    questions: list[Question] = Field(
        default_factory=lambda: [Question(ask="What is the capital of France?")],
        min_length=1,
        description="Asked of the base, the converted and the deployed model.",
    )
    max_tokens: int = Field(default=48, ge=1)


class RunSpec(Model):
    """One pass of the pipeline.

    ``RunSpec.load("run.yml")`` reads a file whose one key is ``run:``, so that
    ``ansible-playbook ... -e @run.yml`` takes the same file.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Default run id.")
    model: ModelSource
    data: Data
    method: Method = Field(default_factory=Method)
    training: Training
    parallel: Parallel = Field(default_factory=Parallel)
    output: Output = Field(default_factory=Output)
    resume: Resume | None = Field(default=None, description="Go on from a checkpoint.")
    retry: Retry = Field(default_factory=Retry)
    tracking: Tracking = Field(default_factory=Tracking)
    gather: Gather = Field(default_factory=Gather)
    export: Export = Field(default_factory=Export)
    eval: Eval | None = Field(default=None)
    sample: Sample | None = Field(default=None)
    rollout: Rollout | None = Field(default=None)
    deploy: Deploy = Field(default_factory=Deploy)
    smoke: Smoke = Field(default_factory=Smoke)
    notify: tuple[Channel, ...] = Field(default=(), description="Who is told of the run.")
    extra_args: dict[StageWithArgs, dict[str, Any]] = Field(
        default_factory=dict, description="stage -> flag without dashes -> value(s)."
    )

    @field_validator("extra_args")
    @classmethod
    def _flags_may_be_set(cls, stages: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
        for name, value in (item for flags in stages.values() for item in flags.items()):
            if not VARIABLE.fullmatch(name):
                raise ValueError(f"flags without dashes, as in learning_rate; {name!r} is none")
            if SECRET.search(name):
                raise ValueError(f"no secrets in a run file, which is kept; {name} looks like one")
            words = value if isinstance(value, list) else [value]
            if any(isinstance(word, str) and _FLAG.match(word) for word in words):
                raise ValueError(f"values that do not begin with a dash; {name} has one")
            if any(isinstance(word, list) for word in words):
                raise ValueError(f"a value or a list of values; {name} has lists in a list")
        return stages

    @model_validator(mode="after")
    def _adapters_of_lora(self) -> RunSpec:
        if self.export.form == "adapters" and self.method.tuner != "lora":
            raise ValueError("export.form adapters with method.tuner lora alone")
        if self.method.backend == "swift" and self.export.form == "mcore":
            raise ValueError("export.form hf or adapters with method.backend swift")
        if self.method.backend == "megatron" and self.output.keep == 1:
            raise ValueError("output.keep of at least 2 with method.backend megatron")
        if self.rollout is not None and self.method.task != "rlhf":
            raise ValueError("rollout with method.task rlhf alone")
        return self

    @model_validator(mode="after")
    def _saved_before_the_end(self) -> RunSpec:
        if self.gather.ahead and not self.training.save_every:
            raise ValueError("training.save_every with gather.ahead: else only the end is saved")
        return self

    @classmethod
    def load(cls, path: str | Path) -> RunSpec:
        """Read a run file; relative paths in it are taken from the file's folder.

        Raises:
            RunSpecError: the file is missing, not YAML, or has an unknown key or a wrong type.
        """
        path = Path(path)
        return cls.from_document(read_yaml(path, RunSpecError, "run file"), path)

    @classmethod
    def from_document(cls, document: dict[str, Any], path: Path) -> RunSpec:
        """Validate a parsed run file that came from ``path``."""
        if set(document) != {KEY} or not isinstance(document[KEY], dict):
            found = f"keys {', '.join(map(str, document))[:200] or 'none'}"
            if set(document) == {KEY}:
                found = f"a {type(document[KEY]).__name__} below it"
            raise RunSpecError(
                Finding(
                    f"one top-level key '{KEY}:' with the run below it",
                    found,
                    str(path),
                    f"indent the run under '{KEY}:' (Ansible reads the same file with -e @)",
                )
            )
        spec = validate(cls, document[KEY], str(path), RunSpecError)
        base = path.resolve().parent
        model = _absolute(spec.model, base)
        data = spec.data.model_copy(
            update={"train": [_absolute(item, base) for item in spec.data.train]}
        )
        return spec.model_copy(update={"model": model, "data": data})


def _absolute(source: AnySource, base: Path) -> AnySource:
    if source.path is None:
        return source
    path = str(base / Path(source.path).expanduser())
    return source.model_copy(update={"path": path})
