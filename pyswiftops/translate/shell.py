"""Shell text -> statements with their variables filled in. Reads, and never executes.

A part of bash's grammar that launch scripts use: quotes, continued lines, comments, assignments,
arrays, ``$NAME`` and ``${NAME:-default}``, arithmetic on whole numbers, redirections, lists of
commands. What only a shell could know (``$(...)``, ``$1``) stays in the text as it is and is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyswiftops.translate.arithmetic import whole

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=")
_NAME = re.compile(r"[A-Za-z_]\w*")
_BRACED = re.compile(r"([A-Za-z_]\w*)(\[[@*]\])?(?::?-([^}]*))?")
_ENDS = ";&|()\n"
_KEYWORDS = {"then", "do", "else", "elif", "if", "while", "until", "!", "{", "}", "time"}
_DECLARES = {"export", "declare", "local", "readonly", "typeset"}


@dataclass
class Statement:
    """One command as a shell would start it.

    Attributes:
        line: Where it begins, from 1.
        words: Program and arguments.
        env: Variables that are set for it, or exported before it.
        unknown: Texts that only a shell could fill in, as they stand in the words.
    """

    line: int
    words: list[str]
    env: dict[str, str]
    unknown: list[str] = field(default_factory=list)


@dataclass
class _Reader:
    """Goes through the text once."""

    text: str
    at: int = 0
    line: int = 1
    variables: dict[str, list[str]] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)

    def statements(self) -> Iterator[Statement]:
        """All statements in the order of the text."""
        while self.at < len(self.text):
            self._blanks()
            begin, self.unknown = self.line, []
            words = self._words()
            statement = self._statement(begin, words)
            if statement is not None:
                yield statement

    def _statement(self, line: int, words: list[tuple[str, list[str]]]) -> Statement | None:
        """Take assignments away; remember those that are for all that follows."""
        while words and words[0][0] in _KEYWORDS:
            words = words[1:]
        exports = bool(words) and words[0][0] in _DECLARES
        own: dict[str, list[str]] = {}
        rest = words[1:] if exports else words
        while rest and (found := _ASSIGNMENT.match(rest[0][0])):
            raw, values = rest[0]
            name = found[1]
            first = values[0][found.end() :] if values else ""
            given = values[1:] if raw.endswith("=(") else [first]
            own[name] = (self.variables.get(name, []) + given) if found[2] else given
            rest = rest[1:]
        if exports:
            self.exported |= {*own, *(raw for raw, _ in rest if _NAME.fullmatch(raw))}
        if exports or not rest:
            self.variables |= own
            return None
        env = {name: " ".join(self.variables[name]) for name in self.exported & {*self.variables}}
        env |= {name: " ".join(values) for name, values in own.items()}
        flat = [value for _, values in rest for value in values]
        return Statement(line, flat, env, self.unknown) if flat else None

    def _blanks(self) -> None:
        """Pass spaces, comments and what ends statements."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                self._skip_line()
            elif self.text.startswith("\\\n", self.at):
                self._step(2)
            elif char.isspace() or char in _ENDS:
                self._step()
            else:
                return

    def _words(self) -> list[tuple[str, list[str]]]:
        """Words up to the end of a statement: as written, and filled in."""
        found: list[tuple[str, list[str]]] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if self.text.startswith("\\\n", self.at):
                self._step(2)
            elif char in "<>" or self.text[self.at : self.at + 2] in {"&>", ">&"}:
                self._redirection()
            elif char in _ENDS:
                return found
            elif char.isspace():
                self._step()
            elif char == "#":
                self._skip_line()
            else:
                begin = self.at
                values = self._word()
                raw = self.text[begin : self.at]
                if _ASSIGNMENT.fullmatch(raw) and self.text[self.at : self.at + 1] == "(":
                    self._step()
                    found.append((f"{raw}(", ["", *self._array()]))
                elif raw.isdigit() and self.text[self.at : self.at + 1] in {"<", ">"}:
                    continue  # the number of a redirected file
                else:
                    found.append((raw, values))
        return found

    def _array(self) -> list[str]:
        values: list[str] = []
        while self.at < len(self.text) and self.text[self.at] != ")":
            before = self.at
            self._blanks_in_array()
            if self.at < len(self.text) and self.text[self.at] not in _ENDS:
                values += self._word()
            elif self.at == before:
                break
        self._step()
        return values

    def _blanks_in_array(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] == "#":
                self._skip_line()
            elif self.text.startswith("\\\n", self.at):
                self._step(2)
            elif self.text[self.at].isspace():
                self._step()
            else:
                return

    def _redirection(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in "<>&|":
            self._step()
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self._step()
        if self.at < len(self.text) and self.text[self.at] not in _ENDS:
            self._word()

    def _word(self) -> list[str]:
        """One word; several values where a variable without quotes, or an array, holds them."""
        values, some = [""], False
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "'":
                end = self.text.find("'", self.at + 1)
                end = len(self.text) if end < 0 else end
                values[-1] += self.text[self.at + 1 : end]
                self._step(end + 1 - self.at)
                some = True
            elif char == '"':
                self._quoted(values)
                some = True
            elif char == "\\" and self.at + 1 < len(self.text):
                if self.text[self.at + 1] == "\n":
                    return values if some or values != [""] else []
                values[-1] += self.text[self.at + 1]
                self._step(2)
            elif char in "$`":
                left = len(self.unknown)
                filled = self._expansion()
                if len(self.unknown) == left:
                    filled = [part for value in filled for part in value.split()]
                if filled:
                    values[-1] += filled[0]
                    values += filled[1:]
            elif char.isspace() or char in _ENDS or char in "<>":
                break
            else:
                values[-1] += char
                self._step()
        return values if some or values != [""] else []

    def _quoted(self, values: list[str]) -> None:
        self._step()
        while self.at < len(self.text) and self.text[self.at] != '"':
            char = self.text[self.at]
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in {'"', "\\", "$", "`"}:
                values[-1] += self.text[self.at + 1]
                self._step(2)
            elif self.text.startswith("\\\n", self.at):
                self._step(2)
            elif char in "$`":
                filled = self._expansion()
                if filled:
                    values[-1] += filled[0]
                    values += filled[1:]
            else:
                values[-1] += char
                self._step()
        self._step()

    def _expansion(self) -> list[str]:
        """What stands for ``$...``; itself where only a shell knows."""
        begin, text = self.at, self.text
        if text[begin] == "`" or text.startswith("$(", begin):
            return self._substituted()
        if text.startswith("${", begin):
            end = self._closing(begin + 1, "{", "}")
            found = _BRACED.fullmatch(text[begin + 2 : end - 1])
        else:
            found = _BRACED.match(text, begin + 1)
            end = begin + 1 + len(found[1]) if found else min(begin + 2, len(text))
        if found is None:
            return self._left(end)
        known = self.variables.get(found[1])
        if known is None and not (text[begin + 1] == "{" and found[3] is not None):
            return self._left(end)
        self._step(end - begin)
        if known is None:
            return [found[3]]
        return known if found[2] and text[begin + 1] == "{" else [" ".join(known)]

    def _substituted(self) -> list[str]:
        """What stands for a command's output: a number, where it is arithmetic."""
        begin, text = self.at, self.text
        if text[begin] == "`":
            end = text.find("`", begin + 1)
            return self._left(len(text) if end < 0 else end + 1)
        end = self._closing(begin + 1, "(", ")")
        number = whole(text[begin:end], self.variables)
        if number is None:
            return self._left(end)
        self._step(end - begin)
        return [str(number)]

    def _closing(self, at: int, opens: str, closes: str) -> int:
        deep = 0
        for place in range(at, len(self.text)):
            deep += (self.text[place] == opens) - (self.text[place] == closes)
            if deep == 0:
                return place + 1
        return len(self.text)

    def _left(self, end: int) -> list[str]:
        """Leave a text as it is, and remember it."""
        text = self.text[self.at : end]
        self._step(end - self.at)
        self.unknown.append(text)
        return [text]

    def _skip_line(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _step(self, count: int = 1) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count


def statements(text: str) -> list[Statement]:
    """All commands of a script.

    Args:
        text: The script, or one command.
    """
    return list(_Reader(text.replace("\r\n", "\n")).statements())
