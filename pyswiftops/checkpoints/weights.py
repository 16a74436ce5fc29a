"""Tensors of an HF folder or of a mapped checkpoint, by HF name, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from pyswiftops.checkpoints.mapping import Piece, Sizes, cut, in_order, lora_modules, pieces
from pyswiftops.checkpoints.shards import Shards, settings

_ADAPTERS = "adapter_model"


class Weights(Protocol):
    """Tensors by HF name."""

    @property
    def names(self) -> Collection[str]:
        """Every name."""

    def read(self, name: str) -> Any:
        """One tensor."""


class Safetensors:
    """The ``*.safetensors`` of a folder: a model's, or adapters'."""

    def __init__(self, folder: Path, *, adapters: bool = False) -> None:
        """Read the headers.

        Raises:
            FileNotFoundError: the folder has none.
        """
        from safetensors import safe_open  # noqa: PLC0415 only nodes have it

        self._open = safe_open
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            if path.name.startswith(_ADAPTERS) == adapters:
                with safe_open(path, framework="pt") as stream:
                    self._files |= dict.fromkeys(stream.keys(), path)
        if not self._files:
            raise FileNotFoundError(f"expected *.safetensors in {folder}, found none")

    @property
    def names(self) -> Collection[str]:
        """Every name."""
        return self._files.keys()

    def read(self, name: str) -> Any:
        """One tensor, in the dtype of the file."""
        with self._open(self._files[name], framework="pt") as stream:
            return stream.get_tensor(name)


class Mapped:
    """A torch_dist checkpoint of whole weights under HF names.

    Attributes:
        pieces: HF name -> where it lies.
        left: mcore names that no rule maps.
    """

    def __init__(self, checkpoint: Path, known: Collection[str], sizes: Sizes) -> None:
        """Read the index; ``known`` are the names of the HF model."""
        self._shards, self._sizes = Shards(checkpoint), sizes
        found, self.left = pieces(self._shards.shapes, known)
        self.pieces = {piece.name: piece for piece in found}

    @property
    def names(self) -> Collection[str]:
        """Every name."""
        return self.pieces.keys()

    def read(self, name: str) -> Any:
        """One tensor, cut out of what mcore fuses."""
        piece = self.pieces[name]
        return cut(self._shards.read(piece.source, piece.lead), piece.part, self._sizes)


class Adapters:
    """LoRA's matrices of a torch_dist checkpoint under the HF names of the tensors they change.

    Attributes:
        pieces: HF name -> where it lies.
        left: mcore names that no rule maps.
        scale: What ``B @ A`` is multiplied with.
    """

    def __init__(self, checkpoint: Path, known: Collection[str], sizes: Sizes) -> None:
        """Read the index, and rank, alpha and tensor ranks out of ``args.json``."""
        self._shards, self._sizes = Shards(checkpoint), sizes
        self._pairs, others = lora_modules(self._shards.shapes)
        shapes = {name: self._shards.shapes[pair["B"]] for name, pair in self._pairs.items()}
        found, unmapped = pieces(shapes, known)
        self.pieces = {piece.name: piece for piece in found}
        self.left = [*others, *(name for key in unmapped for name in self._pairs[key].values())]
        told = settings(checkpoint)
        self._ranks = int(told.get("tensor_model_parallel_size") or 1)
        self._alpha = float(told.get("lora_alpha") or 32)
        self._root = bool(told.get("use_rslora"))

    def scale(self, rank: int) -> float:
        """Alpha / rank, or alpha / sqrt(rank) with rslora."""
        return self._alpha / (rank**0.5 if self._root else rank)

    def read(self, name: str) -> tuple[Any, Any]:
        """``A`` of shape ``(rank, in)`` and the rows of ``B``, ``(out, rank)``, of an HF tensor."""
        piece = self.pieces[name]
        pair = self._pairs[piece.source]
        first, second = (self._shards.read(pair[letter], piece.lead) for letter in "AB")
        second = in_order(second, piece.part, self._ranks)
        return first, cut(second, piece.part, self._sizes)


def layer_ends(found: Mapping[str, Piece]) -> frozenset[int]:
    """The first and the last layer."""
    layers = {piece.layer for piece in found.values() if piece.layer is not None}
    return frozenset({min(layers), max(layers)}) if layers else frozenset()
