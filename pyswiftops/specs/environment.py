"""Environment variables in a spec: names that are some, no secrets, none that the launch sets."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = re.compile(
    r"(MASTER_(ADDR|PORT)|NNODES|NODE_RANK|NPROC_PER_NODE|(LOCAL_)?(RANK|WORLD_SIZE)"
    r"|CUDA_VISIBLE_DEVICES|PATH|HOME|TMPDIR|HF_HOME|MODELSCOPE_CACHE|SWIFTOPS_.*)"
)
SECRET = re.compile(
    r"(^|_)(TOKEN(?!_(NUM|LEN|LENGTH|LIMIT|COUNT)$)|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY)(_|$)",
    re.IGNORECASE,
)


def _numbers_are_text(env: Any) -> Any:
    if not isinstance(env, dict):
        return env
    numbers = (int, float)
    return {name: str(value) if type(value) in numbers else value for name, value in env.items()}


def _may_be_set(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not VARIABLE.fullmatch(name) or "\0" in value:
            raise ValueError(f"names of environment variables; {name!r} is none")
        if _OURS.fullmatch(name):
            raise ValueError(f"variables that the launch does not set itself; {name} is set")
        if SECRET.search(name):
            where = "a run file or fleet file, as both are kept"
            raise ValueError(f"no secrets in {where}; {name} looks like one")
    return env


Environment = Annotated[
    dict[str, str], BeforeValidator(_numbers_are_text), AfterValidator(_may_be_set)
]
