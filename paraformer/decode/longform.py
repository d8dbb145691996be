"""Recordings of any length: voice activity detection, recognition of the segments, results joined.
Without a detector long ones are cut at pauses, for the time of a model grows with the square of
what it hears at once.

Audio comes in blocks and is dropped once its segments are cut, so memory does not grow with the
recording; segments of all recordings share batches.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from paraformer.data.inputs.blocks import read_up_to
from paraformer.data.inputs.sources import Cache, Item
from paraformer.decode.endpoint import OPEN, Span
from paraformer.decode.recognize import (
    Batching,
    Outcome,
    Reading,
    Recognition,
    Recognizer,
    Search,
)
from paraformer.decode.text import join_texts
from paraformer.decode.token_ends import loud_frames, stretches
from paraformer.decode.vad import VoiceActivity
from paraformer.errors import ConfigError, ParaformerError

log = logging.getLogger(__name__)

# Behind the last segment so much audio is kept for the start of the next: the detector's look-back,
# its window and what waits in it are well below.
KEPT_MS = 10_000
# A cut may move so far from the limit to find a quiet frame.
QUIET_SHARE = 0.3
FRAME_MS = 10
LEAST_PAUSE = 5  # frames
FAINTEST = 1e-10  # power of a sample: a step of 16 bits has ten times that


@dataclass(frozen=True)
class Cutting:
    """What happens to the segments of the detector before they are recognised."""

    max_segment_s: float = 60.0  # longer ones are cut where they are quietest
    merge: bool = False  # join neighbours, the gaps between them included, up to `merge_s`
    merge_s: float = 15.0
    whole_s: float = 720.0  # without a detector: longer recordings are cut

    def __post_init__(self) -> None:
        if self.max_segment_s < 1 or self.merge_s <= 0:
            raise ConfigError(
                f"max_segment_s={self.max_segment_s:g}, merge_length_s={self.merge_s:g}: give 1 s "
                "or more, and a number above 0"
            )


class Segment(NamedTuple):
    """A stretch of a recording, in ms from its start, and its samples (N,)."""

    start_ms: int
    end_ms: int
    wave: Tensor


class Heard(NamedTuple):
    """A segment and what was said in it, or why that is not known."""

    start_ms: int
    end_ms: int
    outcome: Outcome


class Recording(NamedTuple):
    """All that was heard in one recording, in order."""

    segments: list[Heard]
    seconds: float
    error: ParaformerError | None = None  # its audio could not be read (to the end)
    whole: bool = False  # it was not cut: one segment, or only the error


class Tape(NamedTuple):
    """The newest audio of a recording."""

    rate: int
    wave: Tensor = torch.zeros(0)  # (N,)
    first: int = 0  # sample of the recording at which `wave` begins

    @property
    def end(self) -> int:
        """Samples of the recording so far."""
        return self.first + len(self.wave)

    def sample(self, ms: int) -> int:
        """The sample of the recording at a time."""
        return ms * self.rate // 1000

    def add(self, block: Tensor) -> Tape:
        """With the samples that came next."""
        return self._replace(wave=torch.cat((self.wave, block)))

    def between(self, start: int, end: int) -> Tensor:
        """Samples of the recording, as far as they are held."""
        return self.wave[max(0, start - self.first) : max(0, end - self.first)].clone()

    def cut(self, start_ms: int, end_ms: int) -> Tensor:
        """The same between two times."""
        return self.between(self.sample(start_ms), self.sample(end_ms))

    def drop_before(self, sample: int) -> Tape:
        """Without what came before this sample of the recording."""
        spare = min(sample, self.end) - self.first
        if spare <= 0:
            return self
        return self._replace(wave=self.wave[spare:].clone(), first=self.first + spare)


@dataclass
class _Held:
    """A tape that several generators work on."""

    tape: Tape
    needed_ms: int | None = None  # what a merged piece has begun with


class Segmenter:
    """Cuts recordings into segments of speech."""

    def __init__(self, vad: VoiceActivity, cutting: Cutting | None = None) -> None:
        self.vad, self.cutting = vad, cutting or Cutting()
        self.rate = vad.frontend.fs

    def segments(self, blocks: Iterable[Tensor]) -> Iterator[Segment]:
        """Segments of a recording that comes in blocks (N,), each as soon as its end is known."""
        held = _Held(Tape(self.rate))
        for span in self._merged(self._spans(blocks, held), held):
            for start_ms, end_ms in limited(span, held.tape, self.cutting):
                yield Segment(start_ms, end_ms, held.tape.cut(start_ms, end_ms))

    def _spans(self, blocks: Iterable[Tensor], held: _Held) -> Iterator[Span]:
        """Spans of the detector; what no later span can hold leaves the tape."""
        state, open_ms = self.vad.initial_state(), OPEN
        for block in blocks:
            held.tape = held.tape.add(block)
            found, state = self.vad.feed(block, state)
            for span in found:
                open_ms = span.start_ms if span.start_ms != OPEN else open_ms
                if span.end_ms != OPEN:
                    yield Span(open_ms, span.end_ms)
                    open_ms = OPEN
            self._forget(held, open_ms)
        found, _ = self.vad.feed(torch.zeros(0), state, final=True)
        for span in found:
            open_ms = span.start_ms if span.start_ms != OPEN else open_ms
            yield Span(open_ms, span.end_ms)

    def _forget(self, held: _Held, open_ms: int) -> None:
        tape = held.tape
        keep = 1000 * tape.end // self.rate - KEPT_MS if open_ms == OPEN else open_ms
        keep = keep if held.needed_ms is None else min(keep, held.needed_ms)
        held.tape = tape.drop_before(tape.sample(keep))

    def _merged(self, spans: Iterable[Span], held: _Held) -> Iterator[Span]:
        """Neighbours joined as the reference does it: a piece ends at the last begin or end of
        speech before it would be longer than `merge_s`; the first begins at 0.
        """
        if not self.cutting.merge:
            yield from spans
            return
        limit = round(1000 * self.cutting.merge_s)
        begun, last = 0, OPEN
        held.needed_ms = begun
        for span in spans:
            for ms in span:
                if last != OPEN and ms - begun >= limit and last > begun:
                    yield Span(begun, last)
                    begun = held.needed_ms = last
                last = ms
        if last > begun:
            yield Span(begun, last)


class PauseSegmenter:
    """Cuts recordings at pauses, by their level alone; the segments hold all of the audio."""

    def __init__(self, rate: int, cutting: Cutting | None = None) -> None:
        self.rate, self.cutting = rate, cutting or Cutting()

    def segments(self, blocks: Iterable[Tensor]) -> Iterator[Segment]:
        """As those of a `Segmenter`."""
        tape, start = Tape(self.rate), 0
        for block in blocks:
            tape = tape.add(block)
            parts = list(limited(_from(start, tape), tape, self.cutting))
            for part in parts[:-1]:
                yield Segment(*part, tape.cut(*part))
                start = part[1]
            tape = tape.drop_before(tape.sample(start))
        for part in limited(_from(start, tape), tape, self.cutting):
            yield Segment(*part, tape.cut(*part))


def _from(start_ms: int, tape: Tape) -> Span:
    """All of a tape from a time on."""
    return Span(start_ms, 1000 * tape.end // tape.rate)


def limited(span: Span, tape: Tape, cutting: Cutting) -> Iterator[tuple[int, int]]:
    """A span of a tape in parts of at most `max_segment_s`, in ms, cut where it is quietest."""
    start, end = span.start_ms, min(span.end_ms, 1000 * tape.end // tape.rate)
    limit = round(1000 * cutting.max_segment_s)
    while end - start > limit:
        first = start + round(limit * (1 - QUIET_SHARE))
        middle = _pause(tape.cut(first, start + limit), tape.rate, first)
        yield start, middle
        start = middle
    if end > start:
        yield start, end


def _pause(wave: Tensor, rate: int, first_ms: int) -> int:
    """The ms in the middle of the longest pause of samples (N,) that begin at `first_ms`: a stretch
    well below their loud frames. A short one may be part of a sound; what has none of 50 ms is cut
    where it is quietest.
    """
    size = rate * FRAME_MS // 1000
    power = wave[: len(wave) // size * size].view(-1, size).square().mean(1)
    pauses = stretches(~loud_frames(10 * power.clamp(min=FAINTEST).log10()))
    begin, end = max(pauses, key=lambda pause: pause[1] - pause[0], default=(0, 0))
    if end - begin >= LEAST_PAUSE:
        return first_ms + (begin + end) * FRAME_MS // 2
    smooth = torch.nn.functional.avg_pool1d(power[None], 5, 1, 2, count_include_pad=False)[0]
    return first_ms + int(smooth.argmin()) * FRAME_MS + FRAME_MS // 2


# A wave (N,) is recognised as a whole; what gives blocks is cut; what cannot be read says why.
Source = Tensor | Callable[[], Iterator[Tensor]] | ParaformerError


def read_sources(
    items: Iterable[Item],
    cutting: Cutting,
    rate: int,
    raw_fs: int | None = None,
    nbest: int = 1,
    remedy: str = "cut it at pauses first",
) -> Iterator[Source]:
    """The audio of each item, to be cut where it has more than `whole_s`, unless several readings
    are wanted; the first such item is named in a warning, with the remedy.
    """
    cache, unsaid = Cache(), True
    for item in items:
        most = cutting.whole_s if nbest == 1 else math.inf
        try:
            source: Source = read_up_to(most, item, rate, raw_fs, cache)
        except ParaformerError as error:
            source = error
        if isinstance(source, Tensor):
            text = _TOO_LONG if len(source) > cutting.whole_s * rate else ""
        else:
            text = "" if isinstance(source, ParaformerError) else _CUT
        if text and unsaid:
            unsaid = False
            log.warning(text, item.key, cutting.whole_s, remedy)
        yield source


_CUT = (
    "'%s': has more than %g s (max_whole_s) and there is no detector: it is cut at pauses, and so "
    "are others like it; to hear speech alone, %s"
)
_TOO_LONG = (
    "'%s': has more than %g s and is heard as one, since nbest is above 1: time and memory grow "
    "with the square of its length; %s"
)


def joined(recording: Recording) -> Outcome:
    """The segments of a recording as one outcome; the error of a part is that of all."""
    outcomes = [segment.outcome for segment in recording.segments]
    errors = [outcome for outcome in outcomes if isinstance(outcome, ParaformerError)]
    if recording.error or errors:
        return recording.error or errors[0]
    if recording.whole:
        return outcomes[0]
    best = [each.best for each in outcomes if not isinstance(each, ParaformerError)]
    parts = list(zip([segment.start_ms for segment in recording.segments], best, strict=True))
    times = [[[at + a, at + b] for a, b in part.token_times or ()] for at, part in parts]
    words = [
        [word._replace(start=at + word.start, end=at + word.end) for word in part.words or ()]
        for at, part in parts
    ]
    timed = any(part.token_times is not None for part in best)
    reading = Reading(
        ids=list(chain.from_iterable(part.ids for part in best)),
        tokens=list(chain.from_iterable(part.tokens for part in best)),
        text=" ".join(part.text for part in best if part.text),
        tight=join_texts(part.tight for part in best),
        score=sum(part.score for part in best),
        confidences=list(chain.from_iterable(part.confidences for part in best)),
        token_times=list(chain.from_iterable(times)) if timed else None,
        words=list(chain.from_iterable(words)) if timed else None,
    )
    return Recognition(reading, [reading])


class LongRecognizer:
    """Recognises recordings segment by segment."""

    def __init__(self, recognizer: Recognizer, segmenter: Segmenter | PauseSegmenter) -> None:
        self.recognizer, self.segmenter = recognizer, segmenter
        if segmenter.rate != recognizer.release.frontend.fs:
            raise ConfigError(
                f"vad_model: works at {segmenter.rate} Hz, the model at "
                f"{recognizer.release.frontend.fs} Hz; take two of one rate"
            )

    def stream(
        self,
        recordings: Iterable[Source],
        search: Search | None = None,
        batching: Batching | None = None,
    ) -> Iterator[Recording]:
        """A result for each recording, in their order.

        Segments of a recording that breaks off in the middle are recognised; the error goes along.
        """
        waiting: deque[tuple[int, int] | Recording] = deque()
        feats = self._features(recordings, waiting)
        heard: list[Heard] = []
        for outcome in self.recognizer.stream(feats, search, batching):
            yield from self._ended(waiting, heard)
            span = waiting.popleft()
            assert isinstance(span, tuple) and not isinstance(span, Recording)
            heard.append(Heard(*span, outcome))
            yield from self._ended(waiting, heard)
        yield from self._ended(waiting, heard)

    def _features(
        self,
        recordings: Iterable[Source],
        waiting: deque[tuple[int, int] | Recording],
    ) -> Iterator[Tensor]:
        """Features of all segments; their spans, and the ends of recordings, go into `waiting`."""
        frontend = self.recognizer.release.frontend
        for source in recordings:
            if isinstance(source, ParaformerError):
                waiting.append(Recording([], 0.0, source, whole=True))
                continue
            if isinstance(source, Tensor):
                waiting.append((0, 1000 * len(source) // frontend.fs))
                waiting.append(Recording([], len(source) / frontend.fs, whole=True))
                yield frontend(source)
                continue
            counted = _Counted(source)
            error = None
            try:
                for segment in self.segmenter.segments(counted):
                    waiting.append((segment.start_ms, segment.end_ms))
                    yield frontend(segment.wave)
            except ParaformerError as reason:
                error = reason
            waiting.append(Recording([], counted.samples / frontend.fs, error))

    @staticmethod
    def _ended(
        waiting: deque[tuple[int, int] | Recording], heard: list[Heard]
    ) -> Iterator[Recording]:
        while waiting and isinstance(waiting[0], Recording):
            end = waiting.popleft()
            assert isinstance(end, Recording)
            yield end._replace(segments=heard[:])
            heard.clear()


class _Counted:
    """Blocks, and how many samples they had."""

    def __init__(self, blocks: Callable[[], Iterator[Tensor]]) -> None:
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[Tensor]:
        for block in self.blocks():
            self.samples += len(block)
            yield block
