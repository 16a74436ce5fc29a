"""Flag tables of release lines, one file a generation: neutral name -> the line's flag.

A new line is a new entry in one of the files; nothing else asks which line it is. What a line
cannot do is found here, and so is which line can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pyswiftops import matrix
from pyswiftops.errors import Finding, MatrixError
from pyswiftops.stages.command import Late
from pyswiftops.stages.keys import KEYS

_LITERAL = re.compile(r"(?:Optional\[)?Literal\[(.*)\]\]? = .*")


@dataclass(frozen=True)
class Verb:
    """A verb of a release line, and what settings are called there.

    Attributes:
        program: For instance ``megatron {task}``.
        flags: Neutral name of a setting -> flag without dashes.
        values: Neutral name -> value -> what the line calls it; None leaves the flag out. A tuple
            is a whole list of values, anything else one of them.
        instead: Neutral name -> value -> flags that say it together.
        without: Neutral name -> values that the verb has no flag for and acts on all the same.
        derives: Neutral names that the verb finds out by itself.
        always: Flags of every command, which no one else may set.
        usual: Flags of every command where ``extra_args`` do not say otherwise.
        cpu: Flags that it needs on a fleet without GPUs; None where it cannot run there.
    """

    program: str
    flags: Mapping[str, str]
    values: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    instead: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    without: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    derives: frozenset[str] = frozenset()
    always: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    cpu: Mapping[str, Any] | None = None

    def named(self, settings: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
        """Neutral settings -> flags of this verb, None left out.

        Args:
            settings: Neutral name -> value.
            known: Flag -> its ``type = default`` in the line.

        Raises:
            UnsayableError: the verb has no flag for a setting, or the flag takes no such value.
        """
        found: dict[str, Any] = {}
        for name, value in settings.items():
            if value is None or name in self.derives:
                continue
            if _hashable(value) in self.instead.get(name, ()):
                found |= self.instead[name][value]
                continue
            flag = self.flags.get(name)
            if flag is None:
                if _hashable(value) not in self.without.get(name, ()):
                    raise UnsayableError(name, value)
                continue
            called = self._called(name, value)
            if called is not None and not accepts(known.get(flag, ""), called):
                raise UnsayableError(name, value)
            found[flag] = called
        return found

    def _called(self, name: str, value: Any) -> Any:
        names = self.values.get(name)
        if names is None:
            return value
        whole = _hashable(value)
        if whole in names:
            return names[whole]
        return [names.get(item, item) for item in value] if isinstance(value, list) else value


class UnsayableError(Exception):
    """A verb cannot say a setting."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__(name, value)
        self.name, self.value = name, value


@dataclass(frozen=True)
class Line:
    """What the commands of one release line are called.

    Attributes:
        name: The line.
        verbs: What is to be done -> the verb that does it: ``train`` with Megatron, ``plain``
            training without, ``convert``, ``export``, ``merge``, ``infer``, ``deploy``,
            ``eval``, ``rollout``, ``sample``.
    """

    name: str
    verbs: Mapping[str, Verb]

    def verb(self, what: str) -> Verb:
        """The verb that does something.

        Raises:
            MatrixError: the line has none; it says which line has.
        """
        if what not in self.verbs:
            having = [name for name, table in rendered().items() if what in table.verbs]
            raise _cannot(what, f"ms-swift {self.name} has no verb for it", "the run file", having)
        return self.verbs[what]

    def flags(self, what: str, task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Neutral settings -> flags of the verb that does ``what``.

        Args:
            what: A key of ``verbs``.
            task: For instance ``sft``, for verbs that train.
            settings: Neutral name -> value; None is left out.

        Raises:
            MatrixError: the line cannot do it; it says which line can.
        """
        verb = self.verb(what)
        program = verb.program.format(task=task)
        known = matrix.typed_flags(self.name).get(program)
        if known is None:
            having = [name for name in rendered() if program in matrix.typed_flags(name)]
            raise _cannot(program, f"ms-swift {self.name} has no such verb", "method.task", having)
        try:
            return verb.named(settings, known)
        except UnsayableError as problem:
            having = list(_lines_that_can(what, task, problem.name, problem.value))
            raise _cannot(
                f"a setting that `{program}` of ms-swift {self.name} has",
                f"{problem.name} {problem.value!r}",
                KEYS.get(problem.name, problem.name),
                having,
            ) from None


def _lines_that_can(what: str, task: str, name: str, value: Any) -> Iterator[str]:
    for line_name, table in rendered().items():
        verb = table.verbs.get(what)
        if verb is None:
            continue
        known = matrix.typed_flags(line_name).get(verb.program.format(task=task))
        if known is None:
            continue
        try:
            verb.named({name: value}, known)
        except UnsayableError:
            continue
        yield line_name


def _cannot(expected: str, found: str, where: str, having: list[str]) -> MatrixError:
    remedy = f"lines that can: {', '.join(having)}" if having else "no known line can; leave it out"
    return MatrixError(Finding(expected, found, where, remedy))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def accepts(kind: str, value: Any) -> bool:
    """Whether a flag takes a value, as far as its type lists values.

    Args:
        kind: ``type = default`` of an inventory.
        value: A value or a list of them.
    """
    found = _LITERAL.fullmatch(kind)
    if found is None or isinstance(value, Late):
        return True
    values = value if isinstance(value, list | tuple) else [value]
    literals = {word.strip().strip("'") for word in found[1].split(",")}
    return all(str(item) in literals for item in values)


@cache
def rendered() -> dict[str, Line]:
    """Release line -> its flag tables, for all lines whose commands this version can render."""
    from pyswiftops.stages.lines import v2, v3, v4  # noqa: PLC0415 tables import Line

    return {table.name: table for table in (*v2.LINES, *v3.LINES, *v4.LINES)}


def line(name: str) -> Line:
    """The flag tables of a release line.

    Raises:
        MatrixError: this version of pyswiftops cannot render the line.
    """
    known = rendered()
    if name not in known:
        raise MatrixError(
            Finding(
                f"a release line that commands can be rendered for: {', '.join(known)}",
                repr(name),
                "line of the fleet file",
                "use a node with one of these lines, or add a table in pyswiftops/stages/lines/",
            )
        )
    return known[name]
