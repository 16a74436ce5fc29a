"""One ms-swift command of a line -> the same of another line, and what became of each flag."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Literal

import yaml

from pyswiftops import matrix
from pyswiftops.content import collection
from pyswiftops.errors import BadInputError, Finding
from pyswiftops.translate.shell import Statement, statements

Kind = Literal["renamed", "opposite", "value", "dropped", "default", "prefix", "note"]
_SCRIPT = re.compile(r"(?:.*/)?swift/cli/(?P<megatron>_megatron/)?(?P<verb>\w+)\.py$")
_TORCHRUN = {
    "nproc_per_node": "NPROC_PER_NODE",
    "nnodes": "NNODES",
    "node_rank": "NODE_RANK",
    "master_addr": "MASTER_ADDR",
    "master_port": "MASTER_PORT",
}
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_BEFORE = {"env", "exec", "nohup", "stdbuf", "numactl", "taskset", "srun"}


@dataclass(frozen=True)
class Note:
    """What became of a flag.

    Attributes:
        kind: Renamed; opposite (renamed, and the value turned round); value (called otherwise);
            dropped; default (it was not given, and its default is another now); prefix (it had
            been cut short); note (anything else).
        flag: Its name in the source, without dashes.
        text: In words.
    """

    kind: Kind
    flag: str
    text: str


@dataclass(frozen=True)
class Translation:
    """A command in the other line.

    Attributes:
        line: Where the source has it, from 1.
        source: The release line that the source was read as.
        to: The release line of the result.
        verb: For instance ``megatron sft``.
        env: Variables to set for it.
        flags: Flag, without dashes, to its words, in order.
        notes: What became of the flags, and what to look at.
        unknown: Texts in the words that only a shell can fill in.
        addresses: The nodes that a launcher was given.
    """

    line: int
    source: str
    to: str
    verb: str
    env: dict[str, str]
    flags: dict[str, list[str]]
    notes: list[Note] = field(default_factory=list)
    unknown: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    def argv(self) -> list[str]:
        """Program and arguments."""
        given = [word for name, words in self.flags.items() for word in (f"--{name}", *words)]
        return [*self.verb.split(), *given]

    def text(self) -> str:
        """As it may be typed."""
        env = [f"{name}={self._quoted(value)}" for name, value in self.env.items()]
        parts = [" ".join([*env, self.verb])]
        for name, words in self.flags.items():
            parts.append(" ".join([f"--{name}", *map(self._quoted, words)]))
        return " \\\n    ".join(parts)

    def _quoted(self, word: str) -> str:
        """As a shell takes it; what only the shell can fill in stays open to it."""
        if any(text in word for text in self.unknown):
            return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
        return shlex.quote(word)


@dataclass
class _Found:
    """A command of the source."""

    statement: Statement
    verb: str
    env: dict[str, str]
    flags: dict[str, list[str]]
    notes: list[Note] = field(default_factory=list)


@cache
def _renames() -> Mapping[str, Any]:
    path = collection() / "roles" / "versions" / "files" / "renames.yml"
    document: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def translate(
    text: str, to: str, line: str | None = None, where: str = "the text"
) -> list[Translation]:
    """Translate every ms-swift command of a script.

    Args:
        text: A script, or one command. It is read and never executed.
        to: The release line to translate to.
        line: The release line that it was written for; guessed from its flags where not given.
        where: What to call the text in errors.

    Raises:
        BadInputError: the text holds no command of ms-swift, or one that ``to`` has no verb for.
        MatrixError: an unknown line.
    """
    matrix.row(to)
    found = [item for statement in statements(text) if (item := _command(statement))]
    if not found:
        raise BadInputError(
            Finding(
                "a command swift ... or megatron ...",
                "none",
                where,
                "give the script that starts ms-swift",
            )
        )
    return [_translated(item, line or _guess(item), to, where) for item in found]


def _command(statement: Statement) -> _Found | None:
    """A statement as a command of ms-swift, or None where it is another."""
    words, env = list(statement.words), dict(statement.env)
    while words and (PurePosixPath(words[0]).name in _BEFORE or _ASSIGNED.match(words[0])):
        found = _ASSIGNED.fullmatch(words.pop(0))
        env |= {found[1]: found[2]} if found else {}
    started = _started(words, env)
    if started is None:
        return None
    verb, rest, notes = started
    if rest and not rest[0].startswith("--"):
        notes.append(Note("note", "", f"{rest[0]} is a file of settings, which is not read"))
    notes += [
        Note("note", "", f"{unknown} is known to the shell alone, and stays as it is")
        for unknown in statement.unknown
    ]
    return _Found(statement, verb, env, _flags(rest), notes)


def _started(words: list[str], env: dict[str, str]) -> tuple[str, list[str], list[Note]] | None:
    """Verb, arguments and notes of what starts ms-swift; its launcher's options go into ``env``."""
    program = PurePosixPath(words[0]).name if words else ""
    if program in {"swift", "megatron"} and len(words) > 1:
        return f"{program} {words[1]}", words[2:], []
    for place, word in enumerate(words):
        script = _SCRIPT.match(word)
        if script is not None:
            for name, values in _flags(words[1:place]).items():
                variable = _TORCHRUN.get(name.replace("-", "_"))
                env |= {variable: values[0]} if variable and values else {}
            program = "megatron" if script["megatron"] else "swift"
            return f"{program} {script['verb']}", words[place + 1 :], []
    if "--ips" in words:
        names = {f"--{old}": f"--{new}" for old, new in _renames()["launcher"].items()}
        rest = [names.get(word, word) for word in words[words.index("--ips") :]]
        note = f"{words[0]} is a launcher; its own settings are not seen"
        return "megatron sft", rest, [Note("note", "", note)]
    return None


def _flags(words: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--") and len(word) > 2:  # noqa: PLR2004 two dashes and a name
            name, sign, value = word[2:].partition("=")
            values = found[name] = [value] if sign else []
        else:
            values.append(word)
    return found


def _listed(item: _Found) -> str:
    """The verb under which the inventories list the flags of a command."""
    return "swift export" if item.verb == "swift merge-lora" else item.verb


def _whole(name: str, known: Mapping[str, str]) -> str | None:
    """A flag's full name; upstream's parser takes one that is cut short, where it is unique."""
    if name in known:
        return name
    longer = [each for each in known if each.startswith(name)]
    return longer[0] if len(longer) == 1 else None


def _guess(item: _Found) -> str:
    """The newest line that has all flags, or most of them."""
    best, most = "", -1
    for line in matrix.rows():
        known = matrix.typed_flags(line).get(_listed(item))
        if known is None:
            continue
        has = sum(name in known for name in item.flags)
        if has >= most:
            best, most = line, has
    if not best:
        raise BadInputError(
            Finding(
                "a verb of ms-swift",
                repr(item.verb),
                f"line {item.statement.line}",
                "see swift --help; verbs without flags of their own are not translated",
            )
        )
    return best


def _translated(item: _Found, source: str, to: str, where: str) -> Translation:
    old = matrix.typed_flags(source).get(_listed(item), {})
    verb, flags, notes = item.verb, dict(item.flags), list(item.notes)
    if verb == "swift sft" and flags.get("train_backend") == ["megatron"] and to != "2.6":
        verb = "megatron sft"
        notes.append(Note("renamed", "train_backend", "swift sft with it is megatron sft now"))
        del flags["train_backend"]
        old_names = _renames()["megatron_of_2"]
        flags = {old_names.get(name, name): words for name, words in flags.items()}
    elif verb == "swift merge-lora":
        verb, flags = "swift export", {**flags, "merge_lora": ["true"]}
    new = matrix.typed_flags(to).get(verb)
    if new is None:
        having = [line for line in matrix.rows() if verb in matrix.typed_flags(line)]
        raise BadInputError(
            Finding(
                f"a verb that line {to} has",
                verb,
                f"{where}, line {item.statement.line}",
                f"lines that have it: {', '.join(having)}" if having else "see swift --help",
            )
        )
    notes += _meant(item.flags, source, to)
    result: dict[str, list[str]] = {}
    for name, words in flags.items():
        whole = _whole(name, old) or name
        if whole != name:
            notes.append(Note("prefix", name, f"is --{whole}, cut short; written in full"))
        result |= _one(verb, whole, words, new, notes)
    if verb == item.verb:
        notes += _defaults(old, new, flags)
    unknown = tuple(item.statement.unknown)
    listed = ",".join(item.flags.get("ips", ()))
    addresses = tuple(address for address in re.split(r"[,\s]+", listed) if address)
    line = item.statement.line
    return Translation(line, source, to, verb, item.env, result, notes, unknown, addresses)


def _one(
    verb: str, name: str, words: list[str], new: Mapping[str, str], notes: list[Note]
) -> dict[str, list[str]]:
    """A flag in the other line: its name there and its words, or nothing."""
    renames = _renames()
    if name in new:
        return {name: _values(name, words, new, notes)}
    for group in renames["same"][verb.partition(" ")[0]]:
        for other in group:
            if name in group and other in new:
                notes.append(Note("renamed", name, f"is --{other} now"))
                return {other: _values(other, words, new, notes)}
    for pair in renames["opposite"]:
        if name in pair:
            other = pair[1 - pair.index(name)]
            if other in new:
                turned = "false" if not words or words[0].lower() == "true" else "true"
                notes.append(Note("opposite", name, f"is --{other} {turned} now"))
                return {other: [turned]}
    if name in renames["told"]:
        why = renames["told"][name]
    else:
        near = difflib.get_close_matches(name, new, n=1, cutoff=0.7)
        having = [line for line in matrix.rows() if name in matrix.typed_flags(line).get(verb, {})]
        why = f"lines that have it: {', '.join(having)}" if having else "no line has it"
        why += f"; did you mean --{near[0]}?" if near else ""
    notes.append(Note("dropped", name, why))
    return {}


def _meant(flags: Mapping[str, list[str]], source: str, to: str) -> list[Note]:
    """Names that mean something else on the other side of a line."""
    order = list(matrix.rows())
    found = []
    for case in _renames()["meant"]:
        words = flags.get(case["flag"])
        last = order.index(case["until"])
        crossed = (order.index(source) <= last) != (order.index(to) <= last)
        if words is not None and crossed and ("value" not in case or case["value"] in words):
            found.append(Note("note", case["flag"], case["text"]))
    return found


def _values(name: str, words: list[str], new: Mapping[str, str], notes: list[Note]) -> list[str]:
    """Words of a flag, called as the line calls them."""
    kind = new[name]

    def called(word: str) -> str:
        for pair in _renames()["values"].get(name, ()):
            other = pair[1 - pair.index(word)] if word in pair else word
            if f"'{word}'" not in kind and f"'{other}'" in kind:
                return str(other)
        return word

    result = [called(word) for word in words]
    notes += [
        Note("value", name, f"{word} is {other} now")
        for word, other in zip(words, result, strict=True)
        if word != other
    ]
    return result


def _defaults(
    old: Mapping[str, str], new: Mapping[str, str], given: Mapping[str, Any]
) -> list[Note]:
    """Flags that were not given, whose default is another now."""
    found = []
    for name, kind in new.items():
        before, after = (text.partition(" = ")[2] for text in (old.get(name, ""), kind))
        plain = re.compile(r"None|True|False|-?[\d.e-]+|'[^']*'")
        if name in given or not before or before == after or before == after.removesuffix(".0"):
            continue
        if plain.fullmatch(before) and plain.fullmatch(after):
            found.append(Note("default", name, f"was {before}, is {after}; say which you want"))
    return found
