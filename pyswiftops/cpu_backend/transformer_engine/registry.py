"""Lays the stand-ins out as the module tree ``transformer_engine``.

One table says which name upstream finds where. A name that is not in it raises
ImportError there, which upstream treats as a build of Transformer Engine without it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from pyswiftops.cpu_backend.errors import UnsupportedOnCpuError
from pyswiftops.cpu_backend.transformer_engine import (
    attention,
    fp8,
    grouped,
    layers,
    optimizer,
    rng,
)

VERSION = "2.3.0"
"""The oldest Transformer Engine that the supported release lines accept (and METADATA's)."""

_RECIPES = (
    "CustomRecipe",
    "DelayedScaling",
    "Float8BlockScaling",
    "Float8CurrentScaling",
    "MXFP8BlockScaling",
    "NVFP4BlockScaling",
    "Recipe",
)
_OPERATIONS = (
    "AllReduce",
    "BasicLinear",
    "Bias",
    "FusibleOperation",
    "GEGLU",
    "GELU",
    "LayerNorm",
    "RMSNorm",
    "ReGLU",
    "ReLU",
    "ReduceScatter",
    "Sequential",
    "SiLU",
    "SwiGLU",
)


def initialize_ub(*args: Any, **kwargs: Any) -> None:
    """Stands for ``transformer_engine.pytorch.module.base.initialize_ub``."""
    raise UnsupportedOnCpuError("communication overlap (`tp_comm_overlap`)")


def _unsupported(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: fp8.unsupported(name) for name in names}


def _tree() -> dict[str, dict[str, Any]]:
    """What each module of ``transformer_engine`` holds."""
    recipes = {"Format": fp8.Format, **_unsupported(_RECIPES)}
    autocast = {
        "fp8_autocast": fp8.fp8_autocast,
        "fp8_model_init": fp8.fp8_autocast,
    }
    quantised = fp8.unsupported("QuantizedTensor")
    float8 = fp8.unsupported("Float8Tensor")
    no_flash = {f"{version}is_installed": False for version in ("", "v3_", "v4_")}
    return {
        "common": {},
        "common.recipe": recipes,
        "pytorch": {
            **autocast,
            **_unsupported(("LayerNormMLP", "TransformerLayer")),
            "DotProductAttention": attention.DotProductAttention,
            "GroupedLinear": grouped.GroupedLinear,
            "LayerNorm": layers.LayerNorm,
            "LayerNormLinear": layers.LayerNormLinear,
            "Linear": layers.Linear,
            "RMSNorm": layers.RMSNorm,
            "checkpoint": rng.checkpoint,
            "make_graphed_callables": fp8.unsupported("make_graphed_callables"),
            "quantized_model_init": fp8.fp8_autocast,
        },
        "pytorch.fp8": {
            **autocast,
            "DelayedScaling": recipes["DelayedScaling"],
            "FP8GlobalStateManager": fp8.FP8GlobalStateManager,
        },
        "pytorch.attention": {
            "DotProductAttention": attention.DotProductAttention,
            "_SplitAlongDim": attention.SplitAlongDim,
            "apply_rotary_pos_emb": attention.apply_rotary_pos_emb,
        },
        "pytorch.attention.rope": {"apply_rotary_pos_emb": attention.apply_rotary_pos_emb},
        "pytorch.attention.dot_product_attention": {},
        "pytorch.attention.dot_product_attention.utils": {
            "FlashAttentionUtils": type("FlashAttentionUtils", (), no_flash),
        },
        "pytorch.distributed": {
            "CudaRNGStatesTracker": rng.CudaRNGStatesTracker,
            "activation_recompute_forward": rng.activation_recompute_forward,
            "checkpoint": rng.checkpoint,
        },
        "pytorch.module": {"LayerNormLinear": layers.LayerNormLinear, "Linear": layers.Linear},
        "pytorch.module.base": {
            "TransformerEngineBaseModule": layers.TransformerEngineBaseModule,
            "initialize_ub": initialize_ub,
        },
        "pytorch.ops": _unsupported(_OPERATIONS),
        "pytorch.float8_tensor": {"Float8Tensor": float8},
        "pytorch.tensor": {"QuantizedTensor": quantised},
        "pytorch.tensor.float8_tensor": {"Float8Tensor": float8},
        "pytorch.optimizers": {"FusedAdam": optimizer.FusedAdam, "FusedSGD": torch.optim.SGD},
        "pytorch.utils": {"SplitAlongDim": attention.SplitAlongDim},
    }


def build(root: ModuleType) -> None:
    """Fill the empty module ``root`` and register its submodules.

    ``transformer_engine_torch``, the compiled half of upstream, stays empty.
    """
    root.__dict__.update({"__path__": [], "__version__": VERSION})
    if root.__name__ != "transformer_engine":
        return
    for name, content in _tree().items():
        full = f"transformer_engine.{name}"
        module = ModuleType(full)
        module.__spec__ = ModuleSpec(full, None, is_package=True)
        module.__dict__.update({"__path__": [], **content})
        sys.modules[full] = module
        parent, _, leaf = full.rpartition(".")
        setattr(sys.modules[parent], leaf, module)
