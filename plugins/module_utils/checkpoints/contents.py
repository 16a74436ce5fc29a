# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""Say what a checkpoint's files are: which forms of weights, which shards, optimizer and RNG.

Megatron's index is read without torch and without running what is in it (``torch_dist_index``).
Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pyswiftops.fleet.plugins.module_utils import (
    manifest,
    torch_dist,
    torch_dist_index,
)

MCORE, MCORE_LORA, HF, HF_LORA = "mcore", "mcore_lora", "hf", "hf_lora"

_RELEASE_SHARD = re.compile(r"mp_rank_\d+(_\d+)*")
_WEIGHTS = re.compile(r"(model|pytorch_model)[^/]*\.(safetensors|bin)")
_ADAPTER = re.compile(r"adapter_model[^/]*\.(safetensors|bin)")
_OPTIMIZER_FILE = re.compile(r"optimizer\.(pt|bin)|.*_optim_states\.pt|optimizer_\d+/.+")
_RNG_FILE = re.compile(r"rng_state(_\d+)?\.pth|random_states_\d+\.pkl")
_OPTIMIZER_KEY = re.compile(r"(chained_\d+\.)?optimizer\.")
_RNG_KEY = re.compile(r"rng_state(/|$)")
_LORA_KEY = re.compile(r"\.lora_[AB]\.")
_SHARDED_BY_RANK = "dp_group_idx_"
_WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TRAINER_STATE = "trainer_state.json"
_MAX_HEADER = 100 * 2**20
_MAX_JSON = 64 * 2**20

# args.json -> the name in ``parallel``
_SIZES = {
    "tensor_model_parallel_size": "tensor",
    "pipeline_model_parallel_size": "pipeline",
    "context_parallel_size": "context",
    "expert_model_parallel_size": "expert",
    "expert_tensor_parallel_size": "expert_tensor",
    "world_size": "world",
}

Files = Mapping[str, Mapping[str, Any]]
Problems = list[str]


def holds_megatron(names: Iterable[str]) -> bool:
    """Tell whether names of an ``iter_`` folder's entries are those of Megatron's weights."""
    return any(
        name == torch_dist_index.INDEX
        or torch_dist.rank_of(name) >= 0
        or _RELEASE_SHARD.fullmatch(name)
        for name in names
    )


def forms_of_transformers(names: Iterable[str]) -> list[str]:
    """Return which of ``hf`` and ``hf_lora`` a folder's file names are of."""
    held = set(names)
    model = any(map(_WEIGHTS.fullmatch, held)) or any(name in held for name in _WEIGHT_INDEXES)
    adapter = "adapter_config.json" in held or any(map(_ADAPTER.fullmatch, held))
    found = [HF] if model and ("config.json" in held or not adapter) else []
    return found + ([HF_LORA] if adapter else [])


def facts(base: Path, iter_dir: Path | None, files: Files, problems: Problems) -> dict[str, Any]:
    """Say what the files of a checkpoint are.

    Args:
        base: The folder that the names of ``files`` begin at.
        iter_dir: The folder of Megatron's shards, if there is one.
        files: The checkpoint's files.
        problems: Sentences are added to it.

    Returns:
        ``kind`` (mcore, mcore_lora, hf, hf_lora; empty where nothing tells), ``forms`` (all of
        these that lie there), ``merged`` (LoRA was merged, by ``args.json``), ``needed`` (file
        to the least bytes it must have for ``kind``; empty where nothing here tells),
        ``needed_hf`` (the same for the Hugging Face form), ``index_digest`` (of
        ``.metadata``; None without), ``refused`` (the index names what no checkpoint holds),
        ``damaged`` (names of files that are not what they must be),
        ``has_optimizer`` and ``has_rng`` (None where nothing here tells), ``reshardable``
        (optimizer states can be loaded at other parallel sizes), ``parallel`` (sizes by name)
        and ``swift_version``.
    """
    args = _arguments(base, files, problems)
    top = [name for name in files if "/" not in name]
    told = _megatron(base, iter_dir, files, problems)
    forms = forms_of_transformers(top)
    tuner = str(args.get("tuner_type") or args.get("train_type") or "")
    lora = tuner.startswith("lora") or (not tuner and HF_LORA in forms)
    transformers = _of_transformers(base, files, problems) if forms else {"needed": {}}
    if told["is_megatron"]:
        forms.insert(0, MCORE_LORA if told["lora"] or (told["lora"] is None and lora) else MCORE)
    else:
        told |= transformers
    kind = next(iter(forms), "")
    merged = kind == HF and tuner.startswith("lora") and args.get("merge_lora") is True
    sizes = {name: args[key] for key, name in _SIZES.items() if isinstance(args.get(key), int)}
    ranks = [torch_dist.rank_of(Path(name).name) for name in told["needed"]]
    if ranks and max(ranks) >= 0:
        sizes.setdefault("world", max(ranks) + 1)
    return {
        "kind": kind,
        "forms": forms,
        "merged": merged,
        "parallel": sizes,
        "swift_version": str(args.get("swift_version") or ""),
        "needed_hf": transformers["needed"],
        **{name: told[name] for name in _TOLD},
    }


_TOLD = (
    "needed",
    "index_digest",
    "refused",
    "damaged",
    "has_optimizer",
    "has_rng",
    "reshardable",
)


def _read_json(path: Path, problems: Problems) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_JSON))
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"cannot read {path.name}: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _arguments(base: Path, files: Files, problems: Problems) -> dict[str, Any]:
    return _read_json(base / torch_dist.ARGS, problems) if torch_dist.ARGS in files else {}


def _megatron(
    base: Path, iter_dir: Path | None, files: Files, problems: Problems
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "is_megatron": False,
        "lora": None,
        "needed": {},
        "index_digest": None,
        "refused": False,
        "damaged": [],
        "has_optimizer": None,
        "has_rng": None,
        "reshardable": None,
    }
    if iter_dir is None:
        return told
    prefix = f"{iter_dir.relative_to(base).as_posix()}/"
    names = {name[len(prefix) :].partition("/")[0] for name in files if name.startswith(prefix)}
    told["is_megatron"] = holds_megatron(names)
    if any(map(_RELEASE_SHARD.fullmatch, names)):
        problems.append("mp_rank folders (ms-swift 2.6) have no index: nothing proves them whole")
    if torch_dist_index.INDEX not in names:
        return told
    path = iter_dir / torch_dist_index.INDEX
    try:
        with path.open("rb") as file:
            digest, _ = manifest.hash_fd(file.fileno())
        told["index_digest"] = digest
        index = torch_dist_index.load_index(path)
        needed = torch_dist_index.needed_files(index, path)
    except torch_dist_index.RefusedGlobalError as error:
        problems.append(str(error))
        return {**told, "refused": True, "damaged": [prefix + path.name]}
    except (torch_dist_index.TorchDistError, OSError) as error:
        problems.append(str(error))
        return {**told, "damaged": [prefix + path.name]}
    told["needed"] = {prefix + name: max(1, least) for name, least in needed.items()}
    return {**told, **of_keys(torch_dist_index.tensor_names(index))}


def of_keys(keys: Iterable[str]) -> dict[str, bool]:
    """Say what the names of an index's entries tell.

    A distributed optimizer's states carry the number of their data parallel group unless they
    were saved in a format that can be sharded anew (``DistributedOptimizer.sharded_state_dict``
    of megatron-core: ``fully_reshardable``, ``fully_sharded_model_space``).
    """
    names = list(keys)
    optimizer = [name for name in names if _OPTIMIZER_KEY.match(name)]
    return {
        "has_optimizer": bool(optimizer),
        "has_rng": any(map(_RNG_KEY.match, names)),
        "reshardable": bool(optimizer) and not any(_SHARDED_BY_RANK in key for key in optimizer),
        "lora": any(map(_LORA_KEY.search, names)),
    }


def _of_transformers(base: Path, files: Files, problems: Problems) -> dict[str, Any]:
    needed: dict[str, int] = {}
    damaged: list[str] = []
    for index in _WEIGHT_INDEXES:
        if index in files:
            shards = _read_json(base / index, problems).get("weight_map")
            names = set(shards.values()) if isinstance(shards, dict) else set()
            needed |= {name: 1 for name in names if isinstance(name, str) and "/" not in name}
    for name in files:
        if "/" not in name and (_WEIGHTS.fullmatch(name) or _ADAPTER.fullmatch(name)):
            try:
                needed[name] = _safetensors_end(base / name)
            except (OSError, *_NO_HEADER) as error:
                problems.append(f"cannot read the header of {name}: {error}")
                needed[name] = 1
                damaged.append(name)
    plain = _TRAINER_STATE in files
    return {
        "needed": dict(sorted(needed.items())),
        "damaged": damaged,
        "has_optimizer": any(map(_OPTIMIZER_FILE.fullmatch, files)) if plain else None,
        "has_rng": any(map(_RNG_FILE.fullmatch, files)) if plain else None,
        "reshardable": None,
    }


_NO_HEADER = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def _safetensors_end(path: Path) -> int:
    """Return the bytes that a safetensors file must have by its header, 1 of another file.

    Format: https://github.com/huggingface/safetensors#format
    """
    if not path.name.endswith(".safetensors"):
        return 1
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MAX_HEADER, os.fstat(file.fileno()).st_size):
            raise ValueError("it is cut off in its header, or no safetensors file")
        header = json.loads(file.read(length))
    ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
    return 8 + length + max(map(int, ends), default=0)
