"""Where a model and rows come from: paths on nodes or on the controller, and ids of hubs."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from pyswiftops.specs.document import Model
from pyswiftops.specs.texts import Text, Word

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_SAMPLE = re.compile(r"(?P<rest>.+)#(?P<rows>[1-9][0-9]*)", re.DOTALL)
_SUBSET = re.compile(r"[^\s#:]+")
_ROW_FILES = (".jsonl", ".json", ".csv", ".txt", ".parquet")


class Hub(StrEnum):
    """A model hub, and the revision that it takes where none is named."""

    MODELSCOPE = "modelscope"
    HUGGINGFACE = "huggingface"

    @property
    def default_revision(self) -> str:
        """The hub's main branch."""
        return "master" if self is Hub.MODELSCOPE else "main"


# ms-swift's own prefixes; source: swift/dataset/dataset_syntax.py of 4.6.0
_PREFIXES = {"hf": Hub.HUGGINGFACE, "ms": Hub.MODELSCOPE}


class At(StrEnum):
    """Where a path lies."""

    NODES = "nodes"
    FIRST_NODE = "first_node"
    CONTROLLER = "controller"


class Source(Model):
    """A path, or an id of a hub: exactly one of ``path`` and ``id``."""

    path: Text | None = Field(default=None, description="A path; see 'at' for where it lies.")
    at: At = Field(
        default=At.NODES,
        description="Where path lies: nodes (the same on every node), first_node, controller.",
    )
    id: str | None = Field(default=None, description="Hub id, owner/name.")
    hub: Hub | None = Field(default=None, description="Hub of the id; default: modelscope.")
    revision: str | None = Field(
        default=None, description="Branch, tag or commit of the id; default: the main branch."
    )

    @field_validator("id")
    @classmethod
    def _an_id(cls, value: str | None) -> str | None:
        if value is not None and (not _ID.fullmatch(value) or ".." in value):
            raise ValueError("a hub id: owner/name, for instance Qwen/Qwen2.5-7B-Instruct")
        return value

    @field_validator("revision")
    @classmethod
    def _a_revision(cls, value: str | None) -> str | None:
        if value is not None and (not _REVISION.fullmatch(value) or ".." in value):
            raise ValueError("a branch, tag or commit")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        if (self.path is None) == (self.id is None):
            raise ValueError("exactly one of 'path' (a path) and 'id' (a hub id, owner/name)")
        if self.id is None and (self.hub or self.revision):
            raise ValueError("'hub' and 'revision' only beside 'id'")
        if self.id is not None and self.at is not At.NODES:
            raise ValueError("'at' only beside 'path': an id is fetched from its hub")
        return self

    @property
    def from_hub(self) -> Hub:
        """The hub of the id."""
        return self.hub or Hub.MODELSCOPE

    @property
    def at_revision(self) -> str:
        """The revision of the id."""
        return self.revision or self.from_hub.default_revision


class ModelSource(Source):
    """The base model, as an HF checkpoint."""

    model_type: Word | None = Field(default=None, description="ms-swift model type, e.g. llama.")
    template: Word | None = Field(default=None, description="ms-swift chat template, e.g. chatml.")
    torch_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        default="bfloat16", description="Precision on GPUs; CPU fleets always use float32."
    )


class DataSource(Source):
    """Training rows: a file or folder, or a dataset of a hub.

    A string is read as ms-swift reads it: ``[HF::|MS::]id_or_path[:subset][#N]``. Whatever
    begins with ``/``, ``.`` or ``~``, ends like a file of rows, or is not owner/name, is a path.
    """

    subset: str | None = Field(default=None, description="Subset of a dataset; a/b takes both.")
    rows: int | None = Field(default=None, ge=1, description="Take so many rows, by the seed.")

    @field_validator("subset")
    @classmethod
    def _a_subset(cls, value: str | None) -> str | None:
        if value is not None and not _SUBSET.fullmatch(value):
            raise ValueError("a subset's name, without blanks, ':' and '#'")
        return value

    @model_validator(mode="before")
    @classmethod
    def _parsed(cls, data: Any) -> Any:
        return _parts(data) if isinstance(data, str) else data

    @model_serializer(mode="wrap")
    def _shortest(self, handler: SerializerFunctionWrapHandler) -> Any:
        text = self.text
        return text if DataSource.model_validate(text) == self else handler(self)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A string will do as well."""
        mapping = handler(core)
        what = "A path, or a hub dataset as ms-swift takes it: [HF::|MS::]owner/name[:subset][#N]."
        return {"anyOf": [{"type": "string", "description": what}, mapping]}

    @property
    def text(self) -> str:
        """The source in ms-swift's own form, as far as that goes."""
        prefix = "HF::" if self.hub is Hub.HUGGINGFACE else "MS::" if self.hub else ""
        return f"{prefix}{self.path or self.id}{self.suffix}"

    @property
    def suffix(self) -> str:
        """What ms-swift is told after the path: ``:subset#N``."""
        subset = f":{self.subset}" if self.subset else ""
        return f"{subset}#{self.rows}" if self.rows else subset

    @property
    def is_row_file(self) -> bool:
        """Whether the path is one file."""
        return self.path is not None and self.path.lower().endswith(_ROW_FILES)


class HubAccess(Model):
    """How the fleet reaches hubs. Tokens never stand in a fleet file."""

    mirror: Text | None = Field(
        default=None, description="A folder laid out like a node's hub folder; no hub is asked."
    )
    mirror_at: Literal["first_node", "controller"] = Field(
        default="first_node", description="Where the mirror lies."
    )
    modelscope_endpoint: str | None = Field(
        default=None, description="URL in place of ModelScope's own."
    )
    huggingface_endpoint: str | None = Field(
        default=None, description="URL in place of Hugging Face's own, e.g. of a mirror site."
    )
    proxy: Text | None = Field(default=None, description="URL of an HTTP proxy on the way to hubs.")
    tokens: Text | None = Field(
        default=None, description="File on the controller with NAME=token lines, mode 0600."
    )

    @field_validator("modelscope_endpoint", "huggingface_endpoint", "proxy")
    @classmethod
    def _a_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^\s@]+", value):
            raise ValueError("a URL, http:// or https://, without a login in it")
        return value


def _parts(text: str) -> dict[str, Any]:
    """The keys that a source given as a string stands for."""
    sample = _SAMPLE.fullmatch(text)
    rest, rows = (sample["rest"], int(sample["rows"])) if sample else (text, None)
    prefix, colons, name = rest.partition("::")
    hub = _PREFIXES.get(prefix.lower()) if colons else None
    name, _, subset = (name if hub else rest).partition(":")
    if hub is None and (name.lower().endswith(_ROW_FILES) or not _ID.fullmatch(name)):
        return {"path": rest, "rows": rows}
    return {"id": name, "hub": hub, "subset": subset or None, "rows": rows}
