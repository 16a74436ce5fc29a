# -*- coding: utf-8 -*-
# Apache License 2.0 (see LICENSE)
"""The streams of a gather, opened in good time, and what is said of one that breaks.

Standard library only, Python 3.9 and later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue

from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints import stream
from ansible_collections.pyswiftops.fleet.plugins.module_utils.checkpoints.errors import GatherError

_REMEDIES = {
    "lost": "see that the node is up and the way to it (swiftops preflight --mesh), then gather "
    "again: what has arrived is kept",
    "changed": "training may still write this checkpoint: wait for its tracker, then gather again",
    "short": "the file lost bytes at its source: gather another iteration (swiftops ckpt ls)",
    "unreadable": "let the login user read the file on that node, or see to its disk",
    "damaged": "bytes changed on their way: see to the memory and network of both nodes, then "
    "gather again",
    "full": "free space on this node, then gather again: what has arrived is kept",
}


def explained(error: stream.StreamError) -> GatherError:
    """The error of a gather that a broken stream ends."""
    return GatherError(
        "files as their node listed them", str(error), error.node, _REMEDIES[error.kind]
    )


class Doors:
    """Streams to each source, begun before it is known what to ask for, as ssh takes its time.

    Args:
        sources: Where files will be asked for; those of this machine need no door.
        count: Streams a source.
    """

    def __init__(self, sources: Iterable[stream.Source] = (), count: int = 1) -> None:
        begun = [source for source in sources if source.remote is not None] * count
        self._pool = ThreadPoolExecutor(max(1, len(begun)))
        self._begun: dict[str, SimpleQueue[Future[stream.Stream]]] = {}
        for source in begun:
            queue = self._begun.setdefault(source.node, SimpleQueue())
            queue.put(self._pool.submit(_open, source))

    def close(self) -> None:
        """Close what nobody came through."""
        for queue in self._begun.values():
            while not queue.empty():
                with contextlib.suppress(Exception):
                    queue.get().result().close()
        self._pool.shutdown()

    @contextlib.contextmanager
    def opened(self, source: stream.Source) -> Iterator[stream.Stream]:
        """A stream of that source: who asks first gets one that was begun.

        Raises:
            GatherError: It cannot be opened, or breaks.
        """
        try:
            one = self._next(source)
        except stream.StreamError as error:
            raise explained(error) from error
        except OSError as error:
            raise explained(stream.StreamError("lost", str(error), source.node)) from error
        try:
            yield one
        except stream.StreamError as error:
            raise explained(error) from error
        finally:
            one.close()

    def _next(self, source: stream.Source) -> stream.Stream:
        try:
            begun = self._begun[source.node].get_nowait()
        except (KeyError, Empty):
            return _open(source)
        return begun.result()


def _open(source: stream.Source) -> stream.Stream:
    return stream.Near(source) if source.remote is None else stream.Stream(source)
