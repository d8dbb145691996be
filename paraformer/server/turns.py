"""One device, two threads, of which one computes at a time: streams go before recordings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from paraformer.errors import ParaformerError


class StoppedError(ParaformerError):
    """The server ends before this could be done."""


class Turns:
    """Whose turn it is to compute. A recording gives way between its batches, see `give_way`."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._busy = False
        self._streams_wait = 0
        self._recording = False  # whether it is one that computes
        self._stopped = False

    @contextmanager
    def streams(self) -> Iterator[None]:
        """The turn of streams, as soon as the batch that is computed now is done."""
        with self._changed:
            self._streams_wait += 1
            self._changed.wait_for(lambda: not self._busy)
            self._streams_wait -= 1
            self._busy = True
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def recordings(self) -> Iterator[None]:
        """The turn of recordings, when no stream wants one."""
        self._take()
        try:
            yield
        finally:
            self._end()

    def stop(self) -> None:
        """End the work on recordings at the next batch."""
        self._stopped = True

    def give_way(self) -> None:
        """Let streams that wait go first, if a recording has the turn."""
        if self._stopped:
            raise StoppedError("the server ends; send it again later")
        with self._changed:
            wanted = self._recording and self._streams_wait > 0
        if wanted:
            self._end()
            self._take()

    def _take(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and not self._streams_wait)
            self._busy = self._recording = True

    def _end(self) -> None:
        with self._changed:
            self._busy = self._recording = False
            self._changed.notify_all()
