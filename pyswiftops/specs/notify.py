"""Who is told of a run: webhooks and chat bots. Their addresses are secrets, kept elsewhere."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pyswiftops.specs.document import Model

Occasion = Literal["finished", "failed", "stopped", "nan", "spike", "disk", "hung"]
ALL: tuple[Occasion, ...] = ("finished", "failed", "stopped", "nan", "spike", "disk", "hung")


class Source(Model):
    """Where a secret is read when it is needed. Exactly one of ``env`` and ``file``."""

    env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="An environment variable of the controller.",
    )
    file: str | None = Field(
        default=None, description="A file of mode 0600 on the controller; its first line."
    )

    @field_validator("file")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        if path is not None and not path.startswith(("/", "~/")):
            raise ValueError("an absolute path, or one that begins with ~/")
        return path

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.env is None) == (self.file is None):
            raise ValueError("exactly one of 'env' and 'file'")
        return self


class Channel(Model):
    """One receiver of messages."""

    kind: Literal["webhook", "feishu", "dingtalk"] = Field(
        description="webhook: JSON by POST. feishu (also Lark), dingtalk: a group's custom bot."
    )
    url_from: Source = Field(description="Where the address is read: who has it can send.")
    secret_from: Source | None = Field(
        default=None, description="The key that messages are signed with, if the receiver asks."
    )
    on: tuple[Occasion, ...] = Field(
        default=ALL, min_length=1, description="What to tell of; everything by default."
    )
