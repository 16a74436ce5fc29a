"""Upstream's own example scripts as flag sets: what people really start.

``python tests/contract/examples.py REPOSITORY TAG`` reads every launch script below ``examples/``
of a clone of ms-swift's repository and writes what each command of ms-swift gives: path, verb,
variables and flags. The scripts themselves are not kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pyswiftops.errors import BadInputError
from pyswiftops.translate import translate

FILE = Path(__file__).with_name("examples.json")
FOLDERS = ("examples/megatron/", "examples/train/")


def main() -> None:
    """Write the file."""
    repository, tag = sys.argv[1:]
    line = ".".join(tag.removeprefix("v").split(".")[:2])

    def git(*words: str) -> str:
        argv = ["git", "-C", repository, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    commands, without = [], []
    for path in git("ls-tree", "-r", "--name-only", tag).splitlines():
        if not (path.startswith(FOLDERS) and path.endswith(".sh")):
            continue
        try:
            found = translate(git("show", f"{tag}:{path}"), line, line, path)
        except BadInputError:
            without.append(path)
            continue
        commands += [
            {"path": path, "verb": item.verb, "env": item.env, "flags": item.flags}
            for item in found
        ]
    head = json.dumps({"tag": tag, "line": line, "without": without}, indent=1)
    lines = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in commands)
    FILE.write_text(f'{head[:-2]},\n "commands": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
