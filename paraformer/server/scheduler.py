"""One scheduler for all doors: what is due of all streams is one batch, and goes before recordings,
which go in batches too. Nothing is computed on the event loop, and no more waits than is allowed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paraformer.api.live import FINAL
from paraformer.api.service import DUE_MS, Answer, Fed, News, ServedModel, Wishes
from paraformer.errors import ParaformerError
from paraformer.options import ServeOptions
from paraformer.server.metrics import Metrics
from paraformer.server.turns import StoppedError, Turns

# Of each stream no more is heard at a time, so that one that comes faster than it is spoken does
# not hold up the others; no more streams than these are one batch.
TURN_SECONDS, MOST_STREAMS = 0.96, 128
# Recordings that are decoded together: as many as have so many seconds together.
TOGETHER_SECONDS, MOST_TOGETHER = 60.0, 16
BROKEN = "the server failed at this; its log says why"


class BusyError(ParaformerError):
    """As much waits already as is allowed; `retry_seconds`: when it is worth another try."""

    def __init__(self, message: str, retry_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class BrokenError(ParaformerError):
    """A fault of ours, not of the client's."""


class _Ended(NamedTuple):
    """Nothing more comes of a stream behind the last segment, if there is one at its very end;
    error: why it ended before its sound did.
    """

    last: News | None = None
    error: ParaformerError | None = None


class LiveStream:
    """A stream of one client: samples go in as they come, and what has happened comes out."""

    def __init__(self, scheduler: Scheduler, wishes: Wishes) -> None:
        self._scheduler, self.wishes = scheduler, wishes
        self._waiting: deque[Tensor] = deque()
        self._news: asyncio.Queue[News | _Ended] = asyncio.Queue()
        self.state: Any = None
        self.wanted = scheduler.model.rate * DUE_MS // 1000  # samples that make it due
        self.backlog = 0  # samples that wait
        self.heard = 0  # samples that were given
        self.ended = self.over = self.queued = False
        self.last: News | None = None  # of all news: what ends with the sound, once it is over

    def put(self, samples: Tensor) -> None:
        """Samples (N,) at the model's rate; `BusyError` where too many wait already."""
        if len(samples) and not self.over:
            self._scheduler.admit(self, len(samples))
            self._waiting.append(samples)
            self.heard += len(samples)
            self._scheduler.due(self)

    def end(self) -> None:
        """The sound is at its end; the last news are on their way."""
        self.ended = True
        self._scheduler.due(self)

    def drop(self) -> None:
        """Nobody listens any more."""
        self.over = True
        self._scheduler.forget(self.backlog)
        self._waiting.clear()
        self.backlog = 0

    async def news(self) -> AsyncIterator[News]:
        """All that happens, but for the `last`; the error that ended the stream is raised."""
        while not isinstance(found := await self._news.get(), _Ended):
            yield found
        if found.error is not None:
            raise found.error
        self.last = found.last

    def take(self, samples: int) -> Fed:
        """The next samples, at most so many."""
        parts, left = list[Tensor](), samples
        while self._waiting and left:
            part = self._waiting.popleft()
            if len(part) > left:
                self._waiting.appendleft(part[left:])
            parts.append(part[:left])
            left -= len(parts[-1])
        self.backlog -= samples - left
        self._scheduler.forget(samples - left)
        wave = torch.cat(parts) if parts else torch.zeros(0)
        return Fed(self.wishes, self.state, wave, self.ended and not self._waiting)

    def give(self, fed: Fed) -> None:
        """Take back where the stream stands behind samples that were taken, and tell its news."""
        self.state = fed.state
        self.wanted = fed.lacks or self.wanted
        over = fed.final or fed.error is not None
        last = fed.news.pop() if over and fed.news and fed.news[-1].kind == FINAL else None
        for news in fed.news:
            self._news.put_nowait(news)
        if over:
            self.drop()
            self.state = None
            self._news.put_nowait(_Ended(last, fed.error))
        else:
            self._scheduler.due(self)


@dataclass(eq=False)
class _Recording:
    """A recording that waits to be decoded."""

    wave: Tensor  # (N,)
    wishes: Wishes
    answer: asyncio.Future[Answer] = field(default_factory=asyncio.Future)


class Scheduler:
    """The work of one device. All of its methods are called on the event loop, where `run` runs;
    two threads compute in turn.
    """

    def __init__(self, load: Callable[[Callable[[], None]], ServedModel], options: ServeOptions):
        """load: makes the model, given what it calls between the batches of recordings."""
        self._load, self.options = load, options
        self.model: ServedModel  # once it is loaded, see `run`
        self.ready = asyncio.Event()
        self.metrics = Metrics()
        self._turns = Turns()
        self._live = ThreadPoolExecutor(1, "streams")
        self._whole = ThreadPoolExecutor(1, "recordings")
        self._due: deque[LiveStream] = deque()
        self._recordings: deque[_Recording] = deque()
        self._stream_due, self._recording_due = asyncio.Event(), asyncio.Event()
        self._backlog = 0  # samples of all streams
        # Seconds of a stream that wait at most before it is due: a turn, and never all that may.
        self._patience = min(TURN_SECONDS, options.max_backlog_s / 2)
        self._group: Sequence[_Recording] = ()  # those that are decoded

    async def run(self) -> None:
        """Load the model, then work until cancelled."""
        loop = asyncio.get_running_loop()
        self.model = await loop.run_in_executor(self._live, self._loaded)
        self.metrics.watch(
            lambda: self._backlog / self.model.rate,
            lambda: len(self._recordings) + len(self._group),
        )
        self.ready.set()
        await asyncio.gather(self._streams(), self._whole_ones())

    def _loaded(self) -> ServedModel:
        """The model, which has heard a second of silence in every way that it hears."""
        model = self._load(self._between)
        silence = torch.zeros(model.rate)
        with self._turns.streams():
            model.recognise([silence], Wishes())
            for plain in (False, True) if not model.deaf else ():
                model.feed([Fed(Wishes(plain=plain), None, silence, True)])
        return model

    def close(self) -> None:
        """Let the threads end behind the batch that they compute."""
        self._turns.stop()
        self._live.shutdown(wait=False, cancel_futures=True)
        self._whole.shutdown(wait=False, cancel_futures=True)

    # Streams.

    def stream(self, wishes: Wishes) -> LiveStream:
        """A stream that has not begun."""
        return LiveStream(self, self.model.allowed(wishes))

    def admit(self, stream: LiveStream, samples: int) -> None:
        """Count samples that wait, or refuse them."""
        most = self.options.max_backlog_s * self.model.rate
        if stream.backlog + samples > most or self._backlog + samples > 4 * most:
            raise BusyError("more sound waits than max_backlog_s allows; send it more slowly", 5)
        stream.backlog += samples
        self._backlog += samples

    def forget(self, samples: int) -> None:
        """Samples that wait no more."""
        self._backlog -= samples

    def due(self, stream: LiveStream) -> None:
        """A stream has more samples, or has ended."""
        most = int(self._patience * self.model.rate)
        wanted = stream.ended or stream.backlog >= min(stream.wanted, most)
        if wanted and not stream.queued and not stream.over:
            stream.queued = True
            self._due.append(stream)
            self._stream_due.set()

    async def _streams(self) -> None:
        while True:
            await self._stream_due.wait()
            self._stream_due.clear()
            while self._due:
                await self._step()

    async def _step(self) -> None:
        """One batch: the next samples of the streams that are due."""
        turn = [self._due.popleft() for _ in range(min(len(self._due), MOST_STREAMS))]
        for stream in turn:
            stream.queued = False
        turn = [stream for stream in turn if not stream.over]
        fed = [stream.take(int(TURN_SECONDS * self.model.rate)) for stream in turn]
        failed = await self._computed(self._live, self._feed, fed)
        for stream, each in zip(turn, fed, strict=True):
            each.error = failed or each.error
            if not stream.over:
                stream.give(each)

    def _feed(self, fed: Sequence[Fed]) -> None:
        with self._turns.streams():
            begun = time.perf_counter()
            self.model.feed(fed)
            seconds = sum(len(each.samples) for each in fed) / self.model.rate
            self.metrics.computed("stream", seconds, time.perf_counter() - begun)

    # Recordings.

    async def recognise(self, wave: Tensor, wishes: Wishes) -> Answer:
        """The answer to a recording (N,) when its turn has come; `BusyError` if too many wait."""
        self.check_room()
        recording = _Recording(wave, wishes)
        self._recordings.append(recording)
        self._recording_due.set()
        try:
            answer = await recording.answer
        finally:
            if recording in self._recordings:  # nobody waits for it any more
                self._recordings.remove(recording)
        if answer.error is not None:
            raise answer.error
        return answer

    def check_room(self) -> None:
        """Refuse a recording where as many wait as are allowed."""
        if len(self._recordings) >= self.options.max_queue:
            seconds = sum(len(each.wave) for each in self._recordings) / self.model.rate
            raise BusyError(
                f"{len(self._recordings)} recordings wait already (max_queue); try again later",
                max(1, round(seconds / 20)),
            )

    async def _whole_ones(self) -> None:
        while True:
            await self._recording_due.wait()
            self._recording_due.clear()
            while self._recordings:
                await self._decode(self._next_group())

    def _next_group(self) -> list[_Recording]:
        """The recording that has waited longest, and others of its wishes."""
        group, most = [self._recordings.popleft()], int(TOGETHER_SECONDS * self.model.rate)
        left = most - len(group[0].wave)
        for each in list(self._recordings):
            if len(group) < MOST_TOGETHER and each.wishes == group[0].wishes:
                left -= len(each.wave)
                if left < 0:
                    break
                self._recordings.remove(each)
                group.append(each)
        return group

    async def _decode(self, group: Sequence[_Recording]) -> None:
        answers: list[Answer] = []
        self._group = group
        failed = await self._computed(self._whole, self._recognise, group, answers)
        self._group = ()
        answers = answers or [Answer("", error=failed) for _ in group]
        for recording, answer in zip(group, answers, strict=True):
            if not recording.answer.done():
                recording.answer.set_result(answer)

    def _recognise(self, group: Sequence[_Recording], answers: list[Answer]) -> None:
        with self._turns.recordings():
            begun = time.perf_counter()
            answers += self.model.recognise([each.wave for each in group], group[0].wishes)
            pairs = zip(group, answers, strict=True)
            samples = sum(len(each.wave) for each, answer in pairs if answer.error is None)
            took = time.perf_counter() - begun
            self.metrics.computed("recording", samples / self.model.rate, took)

    def _between(self) -> None:
        """Ahead of each batch of recordings, in their thread: nothing more is computed for a group
        of which nobody waits any more, and streams go first.
        """
        if self._group and all(each.answer.done() for each in self._group):
            raise StoppedError("nobody waits for it any more")
        self._turns.give_way()

    async def _computed(
        self, pool: ThreadPoolExecutor, work: Callable[..., None], *given: Any
    ) -> ParaformerError | None:
        """Work in a thread; why it failed, or None."""
        future = asyncio.get_running_loop().run_in_executor(pool, work, *given)
        await asyncio.wait([future])
        error = future.exception()
        if error is None or isinstance(error, ParaformerError):
            return error
        self.metrics.broken(error)
        return BrokenError(BROKEN)
