"""``python -m pyswiftops.cpu_backend PROGRAM ARGS...``: run PROGRAM on the CPU backend."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence

from pyswiftops.cpu_backend.errors import CpuBackendError
from pyswiftops.cpu_backend.guard import BOOTSTRAP, refuse_real_transformer_engine

USAGE = (
    "usage: python -m pyswiftops.cpu_backend PROGRAM [ARGS...]: runs PROGRAM (found on PATH) "
    "with plain-torch stand-ins for Transformer Engine, CUDA and NCCL in it and its children"
)
EXIT_BAD_INPUT = 2


def switch_on(environment: MutableMapping[str, str]) -> None:
    """Change ``environment`` so that Python processes started with it use the backend."""
    environment["SWIFTOPS_CPU_BACKEND"] = "1"
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    others = [entry for entry in path if entry != str(BOOTSTRAP)]
    environment["PYTHONPATH"] = os.pathsep.join([str(BOOTSTRAP), *others])
    environment.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling costs more than it saves here


def main(argv: Sequence[str]) -> int:
    """Replace this process with ``argv``; returns only when that cannot be done."""
    if not argv or argv[0].startswith("-"):
        sys.stderr.write(f"{USAGE}\n")
        return EXIT_BAD_INPUT
    try:
        refuse_real_transformer_engine()
        switch_on(os.environ)
        os.execvp(argv[0], list(argv))  # noqa: S606 -- a launcher: no shell, the user's own argv
    except CpuBackendError as error:
        sys.stderr.write(f"pyswiftops CPU backend: {error}\n")
    except OSError as error:
        sys.stderr.write(
            f"pyswiftops CPU backend: cannot run {argv[0]!r}: {error.strerror}; "
            f"PATH is {os.environ.get('PATH', '')!r}\n"
        )
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
