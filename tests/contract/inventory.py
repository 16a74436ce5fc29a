"""Walk the installed ms-swift's argument classes: which flags does each verb take?

``python tests/contract/inventory.py`` writes the inventory of the installed release line into
``roles/versions/files/flags/``; ``test_flags.py`` holds the committed file and the installed
package together.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from importlib.metadata import version
from pathlib import Path

FLAGS = Path(__file__).resolve().parents[2] / "roles" / "versions" / "files" / "flags"
CLASSES = {
    "megatron export": ("swift.megatron.arguments", "MegatronExportArguments"),
    "megatron pt": ("swift.megatron.arguments", "MegatronPretrainArguments"),
    "megatron sft": ("swift.megatron.arguments", "MegatronSftArguments"),
    "swift deploy": ("swift.arguments", "DeployArguments"),
    "swift infer": ("swift.arguments", "InferArguments"),
}


def walk() -> dict[str, list[str]]:
    """Verb -> sorted flag names without dashes, as the installed package's parser knows them."""
    inventory = {}
    for verb, (module, name) in CLASSES.items():
        arguments = getattr(importlib.import_module(module), name)
        inventory[verb] = sorted(
            field.name for field in dataclasses.fields(arguments) if field.init
        )
    return inventory


def main() -> None:
    """Write the inventory of the installed release."""
    release = version("ms-swift")
    line = ".".join(release.split(".")[:2])
    document = {"release": release, "flags": walk()}
    (FLAGS / f"{line}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
