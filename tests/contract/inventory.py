"""Which flags does each verb of each release line take, of which type, with which default?

``python tests/contract/inventory.py [LINE ...]`` reads them out of the released wheels, which pip
downloads, and writes ``roles/versions/files/flags/<line>.json``. Nothing of them is installed.
Classes of transformers that ms-swift's inherit from are read in the newest release that the
line's own metadata allows.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

from pyswiftops import matrix
from pyswiftops.flag_walk import Packages
from pyswiftops.release_line import classes

FLAGS = Path(__file__).resolve().parents[2] / "roles" / "versions" / "files" / "flags"
RELEASES = {
    "2.6": "2.6.1",
    "3.6": "3.6.4",
    "3.7": "3.7.3",
    "3.8": "3.8.3",
    "3.9": "3.9.3",
    "3.10": "3.10.3",
    "3.11": "3.11.3",
    "3.12": "3.12.6",
    "4.0": "4.0.4",
    "4.1": "4.1.3",
    "4.2": "4.2.3",
    "4.3": "4.3.2",
    "4.4": "4.4.2",
    "4.5": "4.5.3",
    "4.6": "4.6.0",
}


def download(requirement: str, folder: Path) -> Path:
    """Bring one wheel without what it needs; return its file."""
    before = set(folder.iterdir())
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*words, requirement], check=True)
    (wheel,) = set(folder.iterdir()) - before
    return wheel


def wanted_transformers(wheel: Path) -> str:
    """The requirement for transformers in a wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
    for text in metadata.get_all("Requires-Dist", []):
        if re.match(r"transformers\b", text) and "extra ==" not in text:
            return re.sub(r"[ ()]", "", str(text).split(";")[0])
    raise SystemExit(f"{wheel.name} needs no transformers")


def walk(line: str, folder: Path) -> dict[str, object]:
    """The inventory of a line, as it is committed."""
    swift = download(f"ms-swift=={RELEASES[line]}", folder)
    transformers = download(wanted_transformers(swift), folder)
    wheels = Packages([swift, transformers])
    taken: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for verb, name in classes(line).items():
        for flag, described in wheels.fields(wheels.where(name, "swift"), name).items():
            taken[flag][described].append(verb)
    return {
        "release": RELEASES[line],
        "wheels": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (swift, transformers)
        },
        "verbs": list(classes(line)),
        "flags": {
            flag: {kind: ", ".join(verbs) for kind, verbs in kinds.items()}
            for flag, kinds in sorted(taken.items())
        },
    }


def text(document: dict[str, object]) -> str:
    """JSON with a flag a line, so that a difference is read at a glance."""

    def lines() -> Iterator[str]:
        flags = document["flags"]
        assert isinstance(flags, dict)
        head = {key: value for key, value in document.items() if key != "flags"}
        yield json.dumps(head, indent=1, ensure_ascii=False)[:-2] + ',\n "flags": {'
        yield ",\n".join(
            f"  {json.dumps(flag)}: {json.dumps(kinds, ensure_ascii=False)}"
            for flag, kinds in flags.items()
        )
        yield " }\n}\n"

    return "\n".join(lines())


def main() -> None:
    """Write the inventories of the lines that are named, or of all."""
    for line in sys.argv[1:] or RELEASES:
        with tempfile.TemporaryDirectory() as folder:
            document = walk(line, Path(folder))
        (FLAGS / f"{line}.json").write_text(text(document), encoding="utf-8")
        sys.stdout.write(f"{line}: {len(matrix.read_flags(FLAGS / f'{line}.json'))} verbs\n")


if __name__ == "__main__":
    main()
