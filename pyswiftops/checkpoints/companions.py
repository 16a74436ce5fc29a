"""Files beside an exported model's weights, held against the base model's; what is lost comes back.

Runs on nodes, standard library only. Nothing that upstream wrote is overwritten.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Names of transformers: PreTrainedTokenizerBase, AutoProcessor, GenerationConfig.
NEEDED = ("config.json",)
COPIED = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
)
# What an export may set anew.
_FREE = frozenset({"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"})
# Other forms of what tokenizer.json holds whole: transformers 5 writes only that one.
_IN_TOKENIZER = frozenset({"added_tokens.json", "merges.txt", "special_tokens_map.json"})
_TEMPLATES = ("chat_template.jinja", "chat_template.json")


@dataclass
class Companions:
    """What was found beside the weights.

    Attributes:
        repaired: Files that were missing and were copied from the base.
        differs: Notes on what is not as in the base; upstream may have meant it.
    """

    repaired: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)


def repair(exported: Path, base: Path) -> Companions:
    """Copy what the export lost from the base, and tell what differs.

    Args:
        exported: The exported HF model.
        base: The base model's folder.
    """
    found = Companions()
    has_tokenizer = (exported / "tokenizer.json").is_file()
    for name in (*NEEDED, *COPIED):
        there, here = base / name, exported / name
        if here.is_file() or not there.is_file():
            continue
        if has_tokenizer and name in {*_IN_TOKENIZER, "vocab.json"}:
            continue
        if name in _TEMPLATES and _has_template(exported):
            continue
        shutil.copyfile(there, here)
        found.repaired.append(name)
    for name in ("config.json", "generation_config.json"):
        found.differs += [f"{name}: {text}" for text in _differences(base / name, exported / name)]
    if _template(base) and not _template(exported):
        found.differs.append("chat template: the base has one in tokenizer_config.json, here none")
    elif _template(base) != _template(exported):
        found.differs.append("chat template: not the base's")
    return found


def vocabulary(exported: Path) -> int | None:
    """Rows that the embedding must have, as ``config.json`` tells."""
    config = _read(exported / "config.json")
    size = (config.get("text_config") or config).get("vocab_size")
    return int(size) if size else None


def _differences(base: Path, exported: Path) -> list[str]:
    before, after = _read(base), _read(exported)
    keys = sorted((set(before) | set(after)) - _FREE)
    return [
        f"{key} {json.dumps(before.get(key))} in the base, {json.dumps(after.get(key))} here"
        for key in keys
        if key in before and before[key] != after.get(key)
    ]


def _template(folder: Path) -> Any:
    path = folder / _TEMPLATES[0]
    if path.is_file():
        return path.read_text("utf-8").strip()
    text = _read(folder / _TEMPLATES[1]).get("chat_template")
    text = text or _read(folder / "tokenizer_config.json").get("chat_template")
    return text.strip() if isinstance(text, str) else text


def _has_template(folder: Path) -> bool:
    return bool(_template(folder))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
