"""Ask a hub what a model or dataset holds, and download it, with the hub's own client.

Runs on a node, where the clients are installed beside ms-swift. They read endpoints and tokens
from the environment: HF_ENDPOINT and HF_TOKEN, MODELSCOPE_ENDPOINT and MODELSCOPE_API_TOKEN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

# Weights in other formats and archives, which ms-swift leaves out as well; source:
# swift/utils/hub_utils.py of 4.6.0.
_NOT_OF_A_MODEL = (
    *("*.zip", "*.gguf", "*.pth", "*.pt", "consolidated*", "onnx/*", "*.safetensors.md"),
    *("*.msgpack", "*.onnx", "*.ot", "*.h5"),
)
# ms-swift renames it where a dataset is a folder, as it hinders the loader.
_NOT_OF_A_DATASET = ("dataset_infos.json",)
_LEFT_OUT = {"models": _NOT_OF_A_MODEL, "datasets": _NOT_OF_A_DATASET}
_TYPES = {"models": "model", "datasets": "dataset"}


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it.

    Attributes:
        size: In bytes.
        sha256: Of the content, where the hub says it.
        git_sha1: Git's id of the content, where the hub says it.
    """

    size: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True)
class Wanted:
    """A model or dataset of a hub.

    Attributes:
        hub: ``modelscope`` or ``huggingface``.
        kind: ``models`` or ``datasets``.
        id: owner/name.
        revision: Branch, tag or commit.
    """

    hub: str
    kind: str
    id: str
    revision: str

    @property
    def left_out(self) -> tuple[str, ...]:
        """Globs of files that are not fetched."""
        return _LEFT_OUT[self.kind]


@dataclass(frozen=True)
class Listing:
    """What the hub holds of it.

    Attributes:
        commit: The commit that the revision is now, where the hub says it.
        files: Path -> file, without those that are left out.
    """

    commit: str
    files: Mapping[str, HubFile]

    @property
    def bytes(self) -> int:
        """Sum of the sizes."""
        return sum(file.size for file in self.files.values())


def list_files(wanted: Wanted) -> Listing:
    """Ask the hub; raises whatever its client raises."""
    commit, files = _LISTERS[wanted.hub](wanted)
    kept = {
        name: file
        for name, file in files.items()
        if not any(fnmatch(name, glob) for glob in wanted.left_out)
    }
    return Listing(commit, kept)


def download(wanted: Wanted, commit: str, folder: Path, names: Sequence[str]) -> None:
    """Download files into ``folder``, going on with half files; raises what the client raises."""
    _DOWNLOADERS[wanted.hub](wanted, commit, folder, [escape(name) for name in names])


def _list_huggingface(wanted: Wanted) -> tuple[str, dict[str, HubFile]]:
    from huggingface_hub import HfApi  # noqa: PLC0415 only where it is asked

    info: Any = HfApi().repo_info(
        wanted.id, repo_type=_TYPES[wanted.kind], revision=wanted.revision, files_metadata=True
    )
    files = {}
    for item in info.siblings or ():
        sha256 = item.lfs.sha256 if item.lfs else None
        blob = None if sha256 else item.blob_id
        files[str(item.rfilename)] = HubFile(int(item.size or 0), sha256, blob)
    return str(info.sha or ""), files


def _download_huggingface(wanted: Wanted, commit: str, folder: Path, globs: list[str]) -> None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 as above

    snapshot_download(
        wanted.id,
        repo_type=_TYPES[wanted.kind],
        revision=commit or wanted.revision,
        local_dir=str(folder),
        allow_patterns=globs,
    )


def _list_modelscope(wanted: Wanted) -> tuple[str, dict[str, HubFile]]:
    from modelscope_hub.api import HubApi  # noqa: PLC0415 as above

    found = HubApi().list_repo_files(wanted.id, _TYPES[wanted.kind], revision=wanted.revision)
    files = {
        str(item.path): HubFile(int(item.size or 0), item.sha256 or None)
        for item in found
        if item.type != "tree"
    }
    return "", files


def _download_modelscope(wanted: Wanted, _commit: str, folder: Path, globs: list[str]) -> None:
    # what modelscope.snapshot_download calls; importing that takes 6 s longer
    from modelscope_hub.api import HubApi  # noqa: PLC0415 as above

    HubApi().download_repo(
        wanted.id,
        _TYPES[wanted.kind],
        revision=wanted.revision,
        local_dir=str(folder),
        allow_patterns=globs,
    )


_LISTERS: dict[str, Callable[[Wanted], tuple[str, dict[str, HubFile]]]] = {
    "huggingface": _list_huggingface,
    "modelscope": _list_modelscope,
}
_DOWNLOADERS: dict[str, Callable[[Wanted, str, Path, list[str]], None]] = {
    "huggingface": _download_huggingface,
    "modelscope": _download_modelscope,
}
