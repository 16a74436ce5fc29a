"""Installs the stand-ins around ``import torch``; called by ``bootstrap/sitecustomize.py``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from pyswiftops.cpu_backend.guard import refuse_real_transformer_engine

_BUILDERS = {
    "transformer_engine": "pyswiftops.cpu_backend.transformer_engine.registry",
    "transformer_engine_torch": "pyswiftops.cpu_backend.transformer_engine.registry",
    "triton": "pyswiftops.cpu_backend.triton_stub",
}


class _StandInLoader(Loader):
    """Fills a stand-in module by calling ``build`` of the module that knows how."""

    def __init__(self, builder: str) -> None:
        self.builder = builder

    def exec_module(self, module: ModuleType) -> None:
        importlib.import_module(self.builder).build(module)


class StandInFinder(MetaPathFinder):
    """Finds the stand-ins for Transformer Engine and Triton.

    It comes last, so that a real Triton is preferred. The stub is found only once
    megatron.core is being imported: torch and transformers probe for Triton too, and
    would compile kernels with what they find.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a stand-in, or None for everything else."""
        builder = _BUILDERS.get(fullname)
        if builder is None or (fullname == "triton" and "megatron.core" not in sys.modules):
            return None
        return ModuleSpec(fullname, _StandInLoader(builder), is_package=True)


def before_torch() -> None:
    """Refuse environments in which the backend would hide the real thing."""
    refuse_real_transformer_engine()


def after_torch() -> None:
    """Put torch on the CPU, and say so once, loudly."""
    from torch.utils import _triton  # noqa: PLC0415 -- not before torch is there

    from pyswiftops.cpu_backend import cuda, devices, distributed  # noqa: PLC0415

    _triton.has_triton_package()  # remembers its answer, from before the stub can be found
    cuda.install()
    devices.install()
    distributed.install()
    sys.meta_path.append(StandInFinder())
    sys.stderr.write(
        "pyswiftops CPU backend: Transformer Engine, CUDA and NCCL are plain-torch stand-ins "
        f"in this process (pid {os.getpid()}); not for production\n"
    )
    sys.stderr.flush()
