"""Which model types does ms-swift of each release line know?

``python tests/contract/model_types.py FOLDER`` reads them out of the released wheels in a folder,
by parsing, and writes ``roles/versions/files/model_types.json``: type -> spans of lines.
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from pathlib import Path

from inventory import FLAGS, RELEASES

TARGET = FLAGS.parent / "model_types.json"
FILES = ("swift/model/constant.py", "swift/llm/model/constant.py", "swift/llm/utils/model.py")
CLASSES = {"LLMModelType", "MLLMModelType", "BertModelType", "RMModelType", "ModelType"}


def types(wheel: Path) -> set[str]:
    """The values of the constants that name model types."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in FILES if name in archive.namelist()]
        tree = ast.parse(archive.read(name))
    return {
        item.value.value
        for body in (
            node.body
            for node in tree.body
            if isinstance(node, ast.ClassDef) and node.name in CLASSES
        )
        for item in body
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)
    }


def spans(known: list[str], lines: list[str]) -> str:
    """``3.6-3.12, 4.2``: runs of neighbouring lines."""
    runs: list[list[str]] = []
    for line in known:
        if runs and lines.index(line) == lines.index(runs[-1][-1]) + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def main(folder: Path) -> None:
    """Write the file."""
    lines = list(RELEASES)
    found = {
        line: types(folder / f"ms_swift-{release}-py3-none-any.whl")
        for line, release in RELEASES.items()
    }
    every = sorted(set().union(*found.values()))
    told = {name: spans([line for line in lines if name in found[line]], lines) for name in every}
    TARGET.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
