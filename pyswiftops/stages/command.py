"""A command on a node, and the values in it that are known only later."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class UnboundValueError(KeyError):
    """A command needs a value that no node has reported yet."""


@dataclass(frozen=True)
class Late:
    """A word that holds a value known only when the stage starts.

    Attributes:
        name: What is bound, for instance ``train.checkpoint``.
        after: Text after the value.
    """

    name: str
    after: str = ""

    def __str__(self) -> str:
        return "{" + self.name + "}" + self.after


Word = str | Late


@dataclass(frozen=True)
class Command:
    """One process on one node; exactly this is planned, printed, recorded and run.

    Attributes:
        job: The job's name; a stage has one job, or several in turn.
        node: The node's name.
        argv: The words; never passed through a shell.
        env: Environment on top of the node's own.
        path: Folders put before the node's PATH.
        cwd: Working folder on the node; made when missing.
        make_directories: Further folders to make.
        files: Small text files to write before the start, path -> content.
        hide: Paths the process must not be able to read.
        progress_file: Where upstream logs its training steps, if this node is the one.
        fate: Whether the nodes of this job stop together.
        hang_timeout: Seconds without progress after which the job counts as hung; 0: never.
        watch: What else the node looks for in a training, as the module ``job`` takes it.
    """

    job: str
    node: str
    argv: tuple[Word, ...]
    env: Mapping[str, Word]
    path: tuple[str, ...]
    cwd: str
    make_directories: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    hide: tuple[str, ...] = ()
    progress_file: str | None = None
    fate: bool = False
    hang_timeout: float = 0
    watch: Mapping[str, Any] = field(default_factory=dict)

    def bind(self, values: Mapping[str, Any]) -> Command:
        """Replace every late value.

        Args:
            values: name -> value, as reported by the nodes.

        Raises:
            UnboundValueError: a name is missing.
        """

        def bound(word: Word) -> str:
            if isinstance(word, str):
                return word
            if word.name not in values:
                raise UnboundValueError(f"{word.name} is not known yet on {self.node}")
            return f"{values[word.name]}{word.after}"

        changed = {
            "argv": tuple(bound(word) for word in self.argv),
            "env": {name: bound(word) for name, word in self.env.items()},
        }
        return Command(**{**self.__dict__, **changed})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; :meth:`from_dict` reads it back."""
        return {
            **self.__dict__,
            "argv": [_word_to_data(word) for word in self.argv],
            "env": {name: _word_to_data(word) for name, word in self.env.items()},
            "path": list(self.path),
            "make_directories": list(self.make_directories),
            "files": dict(self.files),
            "hide": list(self.hide),
            "watch": dict(self.watch),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Command:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            **{
                **data,
                "argv": tuple(_word_from_data(word) for word in data["argv"]),
                "env": {name: _word_from_data(word) for name, word in data["env"].items()},
                "path": tuple(data["path"]),
                "make_directories": tuple(data["make_directories"]),
                "hide": tuple(data["hide"]),
            }
        )

    def shell(self) -> str:
        """The command as one would type it; late values print as ``{train.checkpoint}``."""
        words = [f"{name}={_quoted(word)}" for name, word in sorted(self.env.items())]
        if self.path:
            folders = ":".join(shlex.quote(folder) for folder in self.path)
            words.append(f"PATH={folders}:$PATH")
        return " ".join([*words, *(_quoted(word) for word in self.argv)])


def _quoted(word: Word) -> str:
    return shlex.quote(word) if isinstance(word, str) else str(word)


def _word_to_data(word: Word) -> Any:
    return word if isinstance(word, str) else {"late": word.name, "after": word.after}


def _word_from_data(data: Any) -> Word:
    return data if isinstance(data, str) else Late(data["late"], data["after"])


def flag_words(flags: Mapping[str, Any]) -> tuple[Word, ...]:
    """``{"lr": 0.001, "dataset": ["a", "b"]}`` -> ``--lr 0.001 --dataset a b``.

    None leaves a flag out; booleans become ``true`` and ``false``; mappings become JSON.
    """
    words: list[Word] = []
    for name, value in flags.items():
        if value is None:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name}", *(_flag_value(item) for item in values)]
    return tuple(words)


def _flag_value(value: Any) -> Word:
    if isinstance(value, Late | str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, float) else str(value)
