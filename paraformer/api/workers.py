"""A list shared by several processes: each has a model of its own and takes the next few
utterances when it has done its last; their results come in the order of the list.

What a process was at work on when it ended is tried again, utterance by utterance; the one that
ends a process by itself has failed. Only as much is under way as keeps all processes busy.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Any, NamedTuple, Protocol

from paraformer import options as opts
from paraformer.api.auto import held, layout_ahead, made_of
from paraformer.api.tasks import progress, stream_items
from paraformer.data.inputs.sources import Inputs, Item
from paraformer.errors import ConfigError, ParaformerError
from paraformer.files import check_folder
from paraformer.output.result import Result
from paraformer.output.sink import Results
from paraformer.output.tables import Layout, check_format

log = logging.getLogger(__name__)

# Most utterances that are handed out at once, and so decoded in batches together.
CHUNK = 64
# So many chunks for each process are under way, done ones that wait for an earlier one included.
AHEAD = 4
# So many chunks a worker is given, so that it need not wait for the next where it has done one.
AT_HAND = 2
# So many in a row that end without a single result, and there is no use in starting more.
MOST_ENDED = 10


class Order(NamedTuple):
    """The work that each process is started for."""

    model: str
    settings: Mapping[str, Any]  # keywords of `AutoModel`
    processes: int
    levels: Mapping[str, int]  # of loggers, by name
    whole: bool = False  # a streaming model hears recordings as a whole too


class Ready(NamedTuple):
    """The first message of a process, sent when its model is loaded."""

    layout: Layout
    silence: Result  # that of an utterance in which there is nothing


@dataclass
class Chunk:
    """Some utterances in a row, and their results as far as they have come."""

    items: list[Item]
    results: deque[Result] = field(default_factory=deque)
    done: int = 0
    owed: int = 0  # results that a worker owes of it
    alone: bool = False  # a process has ended over it: one at a time
    ended: int = 0  # so many have over its next one by itself

    def rest(self) -> list[Item]:
        """The items that are still to be handed out."""
        return self.items[self.done : self.done + 1] if self.alone else self.items[self.done :]

    def add(self, result: Result) -> None:
        """The next result."""
        self.results.append(result)
        self.done += 1
        self.owed -= 1
        self.ended = 0


class Hand(Protocol):
    """One that works for a crew somewhere else, such as a process."""

    def send(self, items: list[Item]) -> None:
        """Give it work, even while it has some; if it has ended, `receive` says so."""

    def receive(self) -> list[Any]:
        """Hear it: that it is ready, an error, or results. EOFError or OSError: it has ended."""

    def stop(self) -> None:
        """Ask it to end."""

    def bury(self) -> str:
        """Wait until it has ended, whatever that takes, and say why it did."""


class Hands(Protocol):
    """Where the hands of a crew come from."""

    one: str  # "a process"
    all: str  # "the processes"
    tries: int  # an utterance that has ended so many of them by itself has failed

    def begin(self, order: Order) -> Order:
        """Make ready for them; returns the order for each."""

    def start(self, rank: int, order: Order) -> Hand:
        """Start one."""

    def heard(self, hands: list[Any]) -> list[Hand]:
        """Those of them that have something to say, once one has."""

    def end(self) -> None:
        """Tidy up, after all have ended."""


@dataclass
class Worker:
    """One hand, and what it is given: the first it is at work on, the next lies ready."""

    hand: Hand
    ready: Ready | None = None
    chunks: deque[Chunk] = field(default_factory=deque)

    def has_room(self, chunk: Chunk) -> bool:
        """Whether it may have this one too. Only a whole one lies ready, of which more follow: the
        last of a list are for whoever has nothing.
        """
        if not self.ready:
            return False
        return not self.chunks or (
            len(self.chunks) < AT_HAND
            and len(chunk.items) == CHUNK
            and not (chunk.alone or self.chunks[0].alone)
        )

    def give(self, chunk: Chunk) -> None:
        """Have it work on what is left of this one."""
        self.chunks.append(chunk)
        chunk.owed = len(chunk.rest())
        self.hand.send(chunk.rest())


def stream_shared(
    source: Any,
    processes: int,
    model: str,
    settings: Mapping[str, Any],
    levels: Mapping[str, int],
    cluster: str = "",
) -> Results:
    """The results of `AutoModel(model, **settings).stream(source)`, made by so many processes, or
    actors of a cluster.

    levels: of loggers, for all processes. With resume they start only if something is left to do.
    """
    settings = held(settings)
    given = {name: settings[name] for name in opts.names(opts.CallOptions) if name in settings}
    call = opts.CallOptions(**given)
    check_format(call.output_format)
    if call.output_dir:
        check_folder(call.output_dir)
    inputs = Inputs(source, call.key, call.segments, call.channel)
    order = Order(model, settings, min(processes, inputs.total), levels)
    crew = Crew(order, hands_of(cluster))
    try:
        layout = (call.resume and layout_ahead(model, settings)) or crew.begin()

        def work(items: Iterator[Item], total: int) -> Iterator[Result]:
            return progress(crew.results(items, total), total, call)

        return stream_items(inputs, call, layout, work, made_of(model, settings))
    except BaseException:
        crew.end()
        raise


class Crew:
    """The processes that share a list, or what else does the work of each."""

    def __init__(self, order: Order, hands: Hands | None = None) -> None:
        self.order = order
        self.hands: Hands = hands or hands_of("")
        self.workers: list[Worker] = []
        self._ranks = count()
        self._ended = 0  # in a row, without a result
        self._under_way: deque[Chunk] = deque()  # in the order of the list
        self._waiting: deque[Chunk] = deque()  # those of them that no process is at work on

    def begin(self) -> Layout:
        """Start the first process, which finds what is wrong and fetches what is missing."""
        self.order = self.hands.begin(self.order)
        self._start()
        while self.workers[0].ready is None:
            self._listen()
        return self.workers[0].ready.layout

    def results(self, items: Iterator[Item], total: int) -> Iterator[Result]:
        """A result for each item, in their order; all processes have ended after the last."""
        chunks = _chunks(items, total, self.order.processes)
        if not self.workers:
            first = next(chunks, None)
            if first is None:
                return
            self.begin()
            chunks = chain([first], chunks)
        try:
            while self._hand_out(chunks):
                first = self._under_way[0]
                while first.results:
                    yield first.results.popleft()
                if first.done == len(first.items):
                    self._under_way.popleft()
                else:
                    self._listen()
        finally:
            self.end()

    def _hand_out(self, chunks: Iterator[Chunk]) -> bool:
        """Give the next chunks to the processes that have room for them; False: all is done."""
        most = AHEAD * self.order.processes - len(self._under_way)
        missing = self.order.processes - len(self.workers)
        given = sum(len(worker.chunks) for worker in self.workers)
        wanted = AT_HAND * len(self.workers) - given + missing - len(self._waiting)
        new = list(islice(chunks, max(0, min(most, wanted))))
        self._under_way += new
        self._waiting += new
        # Who has nothing comes first.
        for worker in sorted(self.workers * AT_HAND, key=lambda worker: len(worker.chunks)):
            if self._waiting and worker.has_room(self._waiting[0]):
                worker.give(self._waiting.popleft())
        for _ in range(min(missing, len(self._waiting))):
            self._start()
        return bool(self._under_way)

    def _start(self) -> None:
        self.workers.append(Worker(self.hands.start(next(self._ranks), self.order)))

    def _listen(self) -> None:
        """Take what the processes say, once there is anything."""
        heard = self.hands.heard([worker.hand for worker in self.workers])
        for worker in [w for w in self.workers if w.hand in heard]:
            try:
                messages = worker.hand.receive()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            for message in messages:
                self._take(worker, message)

    def _take(self, worker: Worker, message: Any) -> None:
        """Take what a process says."""
        if isinstance(message, ParaformerError):
            raise message
        if isinstance(message, Ready):
            worker.ready = message
            return
        chunk = worker.chunks[0]
        self._ended = 0
        chunk.add(message)
        if chunk.owed == 0:
            worker.chunks.popleft()
            if chunk.done < len(chunk.items):
                self._waiting.append(chunk)

    def _bury(self, worker: Worker) -> None:
        """A process has ended: what it was at work on goes to another one."""
        self.workers.remove(worker)
        why, one = worker.hand.bury(), self.hands.one
        self._ended += 1
        if self._ended >= MOST_ENDED or (worker.ready is None and not self.workers):
            raise ConfigError(
                f"nj={self.order.processes}: {self.hands.all} end one after another ({why}); give "
                "fewer, or leave nj out to see why"
            )
        if worker.ready is None:
            self.order = self.order._replace(processes=len(self.workers))
            log.warning("%s ended while it was loading (%s); the others go on", one, why)
            return
        if not worker.chunks:
            log.warning("%s ended (%s); another one takes its place", one, why)
            return
        chunk, *untouched = worker.chunks
        self._waiting.extendleft(reversed(untouched))
        lost = chunk.rest()[: chunk.owed]
        if len(lost) > 1:
            log.warning(
                "%s ended (%s) with '%s' and %d more; they are tried one by one",
                *(one, why, lost[0].key, len(lost) - 1),
            )
        elif chunk.ended + 1 < self.hands.tries:
            chunk.ended += 1
            log.warning("%s ended (%s) with '%s'; it is tried again", one, why, lost[0].key)
        else:
            noun = one.rpartition(" ")[2]
            reason = f"the {noun} at work on it ended ({why}); mend it, or try it with nj=1"
            chunk.add(worker.ready.silence.failed(lost[0], reason))
        chunk.alone = True
        if chunk.done < len(chunk.items):
            self._waiting.append(chunk)

    def end(self) -> None:
        """Stop all processes at once."""
        for worker in self.workers:
            worker.hand.stop()
        for worker in self.workers:
            worker.hand.bury()
        self.workers.clear()
        self.hands.end()


def hands_of(cluster: str) -> Hands:
    """The hands that an option `cluster` means."""
    if not cluster:
        from paraformer.api.processes import Processes

        return Processes()
    if cluster != "ray":
        raise ConfigError(f"cluster={cluster}: not known; use ray, or leave it out")
    from paraformer.api.actors import Actors

    return Actors()


def _chunks(items: Iterator[Item], total: int, processes: int) -> Iterator[Chunk]:
    """Items in a row; the fewer are left, the smaller, so that all processes end together."""
    while chunk := list(islice(items, max(1, min(CHUNK, total // (4 * processes))))):
        total -= len(chunk)
        yield Chunk(chunk)


def usable_cpus() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def device_of(rank: int, device: str, gpus: int) -> str:
    """The device of a process: where there are several GPUs and none is named, the next one.

    >>> [device_of(rank, "auto", 2) for rank in range(3)], device_of(1, "cuda:0", 2)
    (['cuda:0', 'cuda:1', 'cuda:0'], 'cuda:0')
    >>> device_of(1, "auto", 0)
    'auto'
    """
    return f"cuda:{rank % gpus}" if gpus and device.lower() in ("auto", "cuda") else device


def begin_log(rank: int, order: Order) -> None:
    """Messages go to stderr; what is the same for all processes, one says."""
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    for name, level in order.levels.items():
        logging.getLogger(name).setLevel(level if rank == 0 else max(level, logging.WARNING))


def prepare(rank: int, order: Order) -> tuple[Ready, Any]:
    """The model, loaded: what its process says of it, and its work."""
    import torch
    from tqdm import tqdm

    from paraformer.api.auto import AutoModel

    # Its own lock has a semaphore, which stays behind where a process is killed.
    tqdm.set_lock(threading.RLock())
    settings = {**order.settings, "disable_pbar": True}
    settings["ncpu"] = settings.get("ncpu") or max(1, usable_cpus() // order.processes)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    settings["device"] = device_of(rank, str(settings.get("device", "auto")), gpus)
    shared = AutoModel(order.model, **settings).shared_work(order.whole)
    return Ready(shared.layout, shared.silence), shared.results
