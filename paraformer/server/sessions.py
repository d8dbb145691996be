"""The sessions that are open: no more than are allowed, and an orderly end of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from paraformer.options import ServeOptions
from paraformer.server.metrics import Metrics
from paraformer.server.scheduler import BusyError

# Of the time to end, the share in which clients may end by themselves.
OWN_SHARE = 0.8
Found = TypeVar("Found")


class GoneError(Exception):
    """The client has left before its answer was there."""


async def unless_gone(work: Coroutine[Any, Any, Found], gone: Awaitable[Any]) -> Found:
    """The result of the work, which is stopped with a `GoneError` where `gone` comes first."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise GoneError
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Sessions:
    """Counts sessions. When the server is to end, `draining` is set: none begins, and those between
    two utterances end; then `flush`: all give what they have, and end.
    """

    def __init__(self, options: ServeOptions, metrics: Metrics) -> None:
        self.options, self._metrics = options, metrics
        self.open = 0
        self.draining, self.flush = asyncio.Event(), asyncio.Event()
        self.listeners: set[asyncio.Event] = set()  # which are set when one of these is
        self._ended = asyncio.Event()

    @contextmanager
    def enter(self, door: str) -> Iterator[None]:
        """A session, or a `BusyError` where there is no room for it."""
        if self.draining.is_set():
            raise BusyError("the server is about to end; try another one", 10)
        if self.open >= self.options.max_sessions:
            raise BusyError(f"{self.open} sessions are open (max_sessions); try again later", 5)
        self.open += 1
        gauge = self._metrics.sessions.labels(door)
        gauge.inc()
        try:
            yield
        finally:
            self.open -= 1
            gauge.dec()
            self._ended.set()

    async def drain(self) -> None:
        """Wait for the sessions to end, and make those end that do not."""
        self._tell(self.draining)
        most = self.options.drain_s
        await self._empty(OWN_SHARE * most)
        self._tell(self.flush)
        await self._empty((1 - OWN_SHARE) * most)

    def _tell(self, what: asyncio.Event) -> None:
        what.set()
        for listener in self.listeners:
            listener.set()

    async def _empty(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while self.open:
            self._ended.clear()
            left = end - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._ended.wait(), left)
            except asyncio.TimeoutError:
                return
