"""Do Megatron's parallel sizes fit the fleet and the model?

Source: Megatron-LM's own asserts (``megatron/core/parallel_state.py``, attention and pipeline
splits); said here before anything is started.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyswiftops.errors import Finding
from pyswiftops.specs.run import RunSpec


def check_parallel(spec: RunSpec, ranks: int, model: Mapping[str, int | str]) -> list[Finding]:
    """Findings for sizes that do not divide.

    Args:
        spec: The run.
        ranks: Training ranks of the fleet.
        model: Sizes of the model's ``config.json``; unknown ones are not checked.
    """
    parallel, training = spec.parallel, spec.training
    findings = []
    together = parallel.tensor * parallel.pipeline * parallel.context
    if ranks % together:
        findings.append(
            Finding(
                "tensor x pipeline x context that divides the fleet's ranks",
                f"{parallel.tensor} x {parallel.pipeline} x {parallel.context} = {together} "
                f"on {ranks} ranks",
                "parallel",
                "lower the sizes, or give the fleet more ranks (nodes or gpus)",
            )
        )
    elif training.global_batch_size % (training.micro_batch_size * (ranks // together)):
        data_parallel = ranks // together
        findings.append(
            Finding(
                "a global_batch_size that micro_batch_size x data parallel size divides",
                f"{training.global_batch_size} with {training.micro_batch_size} x {data_parallel}",
                "training.global_batch_size",
                f"use a multiple of {training.micro_batch_size * data_parallel}",
            )
        )
    for key, size, what in (
        ("num_attention_heads", "tensor", "attention heads"),
        ("num_hidden_layers", "pipeline", "layers"),
    ):
        findings += _check_divides(model.get(key), getattr(parallel, size), size, what)
    heads = model.get("num_key_value_heads")
    if isinstance(heads, int) and parallel.tensor % heads and heads % parallel.tensor:
        findings += _check_divides(heads, parallel.tensor, "tensor", "key-value heads")
    return findings


def _check_divides(total: int | str | None, size: int, key: str, what: str) -> list[Finding]:
    if not isinstance(total, int) or total % size == 0:
        return []
    divisors = [str(number) for number in range(1, min(total, 64) + 1) if total % number == 0]
    return [
        Finding(
            f"a {key} parallel size that divides the model's {total} {what}",
            str(size),
            f"parallel.{key}",
            f"use one of {', '.join(divisors)}",
        )
    ]
