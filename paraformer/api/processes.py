"""Processes of this machine as the hands of a crew: `nj`."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

from paraformer.api.workers import Hand, Order, begin_log, prepare, usable_cpus
from paraformer.data.inputs.sources import Item
from paraformer.errors import ParaformerError
from paraformer.output.result import Result

log = logging.getLogger(__name__)

# A process that is asked to end has so long to end its commands and remove its temporary files.
GRACE_SECONDS = 2.0
# Results that come within so long are sent together.
GATHERED_SECONDS = 0.05
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class OfProcess:
    """A process of this machine as a hand."""

    def __init__(self, rank: int, order: Order) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, rank, order), daemon=True)
        with _without_ctrl_c():
            self.process.start()
        theirs.close()

    def send(self, items: list[Item]) -> None:
        """See `Hand`."""
        with contextlib.suppress(OSError):
            self.connection.send(items)

    def receive(self) -> list[Any]:
        """See `Hand`."""
        told = self.connection.recv()
        return told if isinstance(told, list) else [told]

    def stop(self) -> None:
        """See `Hand`."""
        _stop(self.process, signal.SIGTERM)

    def bury(self) -> str:
        """See `Hand`."""
        self.process.join(GRACE_SECONDS)
        _stop(self.process, KILL)
        self.process.join()
        self.connection.close()
        return _why(self.process.exitcode)


class Processes:
    """Processes of this machine."""

    one, all, tries = "a process", "the processes", 1

    def begin(self, order: Order) -> Order:
        """See `Hands`."""
        usable = usable_cpus()
        if order.processes > usable:
            log.warning(
                "nj=%d: more processes than the %d CPUs usable here, which share them",
                *(order.processes, usable),
            )
        return order

    def start(self, rank: int, order: Order) -> OfProcess:
        """See `Hands`."""
        return OfProcess(rank, order)

    def heard(self, hands: list[OfProcess]) -> list[Hand]:
        """See `Hands`."""
        talking = wait([hand.connection for hand in hands])
        return [hand for hand in hands if hand.connection in talking]

    def end(self) -> None:
        """See `Hands`."""


def _stop(process: BaseProcess, number: int) -> None:
    """End a process with the commands that it runs, where the system has groups of processes."""
    kill_group = getattr(os, "killpg", None)
    if kill_group is not None:
        with contextlib.suppress(OSError):  # there is none, or not yet
            kill_group(process.pid, number)
    if number == KILL:
        process.kill()
    else:
        process.terminate()


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", as a system does that has no memory left" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    return f"exit code {code}"


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """A process that is started here does not hear Ctrl-C: its parent does, and ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def serve(connection: Connection, rank: int, order: Order) -> None:
    """A process of a crew: items in, results out, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # the commands of the list end with this process: see `_stop`
    begin_log(rank, order)
    # The other end is closed where the parent has ended.
    with _ended_in_order(), contextlib.suppress(EOFError, OSError):
        try:
            ready, work = prepare(rank, order)
        except ParaformerError as error:
            connection.send(error)
            return
        connection.send(ready)
        told, given = Telling(connection), received(connection)
        while (items := given.get()) is not None:
            for result in work(told.before(items), len(items)):
                told.add(result)
            told.send()


class Telling:
    """Results on their way to who gave the work: some at a time, none of which waits while more
    audio is read.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._results, self._sent = connection, list[Result](), 0.0

    def add(self, result: Result) -> None:
        """Take the next one."""
        self._results.append(result)
        if time.monotonic() - self._sent >= GATHERED_SECONDS:
            self.send()

    def send(self) -> None:
        """Send all that are here."""
        if self._results:
            self._connection.send(self._results)
            self._results, self._sent = [], time.monotonic()

    def before(self, items: list[Item]) -> Iterator[Item]:
        """The items, before each of which all is sent."""
        for item in items:
            self.send()
            yield item


def received(connection: Connection) -> SimpleQueue[list[Item] | None]:
    """All that is given from now on, taken from the pipe at once so that the giver need not wait;
    None where it has ended.
    """
    given: SimpleQueue[list[Item] | None] = SimpleQueue()

    def take() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                given.put(connection.recv())
        given.put(None)

    threading.Thread(target=take, daemon=True).start()
    return given


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the process here so that it removes its temporary files: what ffmpeg decodes
    may be gigabytes.
    """

    def leave(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would stop that
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
