"""Lanes: utterances that go through the models of live recognition side by side, those that have a
chunk ready together, as audio of many speakers comes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from paraformer.api.live import FINAL, Event, LivePipeline, LiveState
from paraformer.data.inputs.sources import Cache, Item
from paraformer.decode.streaming import Token
from paraformer.decode.text import join_texts
from paraformer.errors import ParaformerError
from paraformer.output.result import Result, silence


@dataclass
class Lane:
    """One utterance on its way through the models."""

    item: Item
    wave: Tensor
    state: LiveState
    begun: float  # by the clock
    fed: int = 0  # samples
    free: float = 0.0  # seconds since `begun` at which the last chunk was done
    spent: float = 0.0  # seconds of computing, those of its whole batch
    texts: list[str] = field(default_factory=list)  # of the segments that have ended
    tokens: list[Token] = field(default_factory=list)
    first_delay: float | None = None
    ended: bool = False
    error: ParaformerError | None = None  # why it has no text
    seconds: float = 0.0  # of the audio, once it has ended

    def take(self, stride: int) -> Tensor:
        """The next chunk of the audio, maybe short or empty at the end."""
        block = self.wave[self.fed : self.fed + stride]
        self.fed += len(block)
        self.ended = len(block) < stride
        return block

    def close(self, rate: int) -> None:
        """It has ended; its audio need not be held until its turn comes."""
        self.seconds, self.wave = len(self.wave) / rate, self.wave[:0]

    def note(self, events: list[Event], rate: int, seconds: float, now: float | None) -> None:
        """Events of a chunk that took so long; `now` by a clock that keeps real time, if any."""
        heard = self.fed / rate
        self.free = max(self.free, heard) + seconds if now is None else now - self.begun
        self.spent += seconds
        for event in events:
            if event.tokens and self.first_delay is None:
                self.first_delay = 1000 * self.free - event.tokens[0].end_ms
            if event.kind == FINAL:
                self.texts.append(event.text)
                self.tokens += event.tokens

    def result(self) -> Result:
        """The tokens of an utterance that has ended, their times, and how late they came."""
        if self.error is not None:
            return silence().failed(self.item, self.error)
        words = [
            {"text": t.text, "start": t.start_ms, "end": t.end_ms, "confidence": t.confidence}
            for t in self.tokens
        ]
        last = 1000 * (self.free - self.seconds)
        first = "-" if self.first_delay is None else f"{self.first_delay:.0f}"
        rtf = self.spent / self.seconds if self.seconds else 0.0
        text = join_texts(self.texts)
        return Result.of(
            self.item,
            text=text,
            words=words,
            audio_seconds=self.seconds,
            seconds=self.seconds,
            delays_ms=(self.first_delay, last),
            rows=[{"text": text, "delay": f"{first} {last:.0f} {rtf:.4f}"}],
        )


class Lanes:
    """Feeds utterances chunk by chunk, so many side by side; simulate: each in real time."""

    def __init__(
        self, pipeline: LivePipeline, most: int = 1, simulate: bool = False, fs: int | None = None
    ) -> None:
        """fs: the sampling rate of samples without a header."""
        self.pipeline, self.most, self.simulate, self.fs = pipeline, most, simulate, fs
        self.rate, self.stride = pipeline.rate, pipeline.recognizer.stride

    def results(self, items: Iterator[Item], total: int) -> Iterator[Result]:
        """A result for each item, in their order."""
        lanes, unwritten = list[Lane](), deque[Lane]()
        coming = self._opened(items)
        with tqdm(total=total, desc="decode", unit="utt", disable=None, leave=False) as bar:
            while True:
                while len(lanes) < self.most and (lane := next(coming, None)) is not None:
                    unwritten.append(lane)
                    lanes += [] if lane.ended else [lane]
                if not unwritten:
                    return
                for lane in self._step(lanes) if lanes else ():
                    lane.close(self.rate)
                    bar.update()
                while unwritten and unwritten[0].ended:
                    yield unwritten.popleft().result()
                lanes = [lane for lane in lanes if not lane.ended]

    def _opened(self, items: Iterator[Item]) -> Iterator[Lane]:
        """A lane for each utterance, whose speaker begins when its turn comes; that of one that
        cannot be read has ended.
        """
        cache = Cache()
        for item in items:
            error, wave = None, torch.zeros(0)
            try:
                wave = item.read(self.fs, self.rate, cache)
            except ParaformerError as reason:
                error = reason
            lane = Lane(item, wave, self.pipeline.open(), time.perf_counter(), error=error)
            lane.ended = error is not None
            yield lane

    def _step(self, lanes: list[Lane]) -> list[Lane]:
        """Give the next chunk to the lanes that are due; returns those that ended."""
        due = self._wait(lanes) if self.simulate else lanes
        blocks = [lane.take(self.stride) for lane in due]
        began = time.perf_counter()
        events, states = self.pipeline.feed_all(
            [lane.state for lane in due], blocks, [lane.ended for lane in due]
        )
        done = time.perf_counter()
        for lane, new, state in zip(due, events, states, strict=True):
            lane.state = state
            if isinstance(new, ParaformerError):
                lane.error, lane.ended = new, True
                continue
            lane.note(new, self.rate, done - began, done if self.simulate else None)
        return [lane for lane in due if lane.ended]

    def _wait(self, lanes: list[Lane]) -> list[Lane]:
        """Sleep until the speaker of a lane has said its next chunk."""
        heard = [min(lane.fed + self.stride, len(lane.wave)) / self.rate for lane in lanes]
        due = [lane.begun + seconds for lane, seconds in zip(lanes, heard, strict=True)]
        time.sleep(max(0.0, min(due) - time.perf_counter()))
        now = time.perf_counter()
        return [lane for lane, when in zip(lanes, due, strict=True) if when <= now]
