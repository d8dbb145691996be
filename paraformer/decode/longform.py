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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from paraformer.data.corpus.archives import StoredFbank
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.blocks import read_up_to
from paraformer.data.inputs.sources import Cache, Item
from paraformer.decode.endpoint import OPEN, Span
from paraformer.decode.pool import Batching, Done, Job
from paraformer.decode.recognize import Outcome, Recognizer, Search, feats_job
from paraformer.decode.token_ends import loud_frames, stretches
from paraformer.decode.vad import VoiceActivity
from paraformer.decode.voices import Voice
from paraformer.errors import ConfigError, ParaformerError
from paraformer.limits import check_fields
from paraformer.options import as_option

log = logging.getLogger(__name__)

# Behind the last segment so much audio is kept for the start of the next: the detector's look-back,
# its window and what waits in it are well below.
KEPT_MS = 10_000
# A cut may move so far from the limit to find a quiet frame.
QUIET_SHARE = 0.3
FRAME_MS = 10
LEAST_PAUSE = 5  # frames
FAINTEST = 1e-10  # power of a sample: a step of 16 bits has ten times that
Payload = TypeVar("Payload")


@dataclass(frozen=True)
class Cutting:
    """Rules by which the segments of the detector are cut or joined before they are recognised."""

    max_segment_s: float = as_option("max_segment_s")
    merge_vad: bool = as_option("merge_vad")
    merge_length_s: float = as_option("merge_length_s")
    max_whole_s: float = as_option("max_whole_s")  # without a detector

    def __post_init__(self) -> None:
        check_fields(self)


class CutSegment(NamedTuple):
    """A stretch of a recording, in ms from its start, and its samples (N,)."""

    start_ms: int
    end_ms: int
    wave: Tensor
    voices: tuple[Voice, ...] = ()  # in it, of a segmenter that hears them


class HeardSegment(NamedTuple):
    """A segment and what was said in it, or why that is not known."""

    start_ms: int
    end_ms: int
    outcome: Outcome


class HeardRecording(NamedTuple):
    """All that was heard in one recording, in order."""

    segments: list[HeardSegment]
    seconds: float
    error: ParaformerError | None = None  # its audio could not be read (to the end)
    whole: bool = False  # it was not cut: one segment, or only the error
    voices: Sequence[Voice] = ()  # see `CutSegment`


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

    def segments(
        self, blocks: Iterable[Tensor], known: Sequence[Span] | None = None
    ) -> Iterator[CutSegment]:
        """Segments of a recording that comes in blocks (N,), each as soon as its end is known;
        known: where somebody speaks, in the place of what the detector finds.
        """
        if known is not None:
            yield from _at(known, blocks, self.rate, self.cutting)
            return
        held = _Held(Tape(self.rate))
        for span in self._merged(self._spans(blocks, held), held):
            for start_ms, end_ms in limited(span, held.tape, self.cutting):
                yield CutSegment(start_ms, end_ms, held.tape.cut(start_ms, end_ms))

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
        speech before it would be longer than `merge_length_s`; the first begins at 0.
        """
        if not self.cutting.merge_vad:
            yield from spans
            return
        limit = round(1000 * self.cutting.merge_length_s)
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

    def segments(
        self, blocks: Iterable[Tensor], known: Sequence[Span] | None = None
    ) -> Iterator[CutSegment]:
        """As those of a `Segmenter`."""
        if known is not None:
            yield from _at(known, blocks, self.rate, self.cutting)
            return
        tape, start = Tape(self.rate), 0
        for block in blocks:
            tape = tape.add(block)
            parts = list(limited(_from(start, tape), tape, self.cutting))
            for part in parts[:-1]:
                yield CutSegment(*part, tape.cut(*part))
                start = part[1]
            tape = tape.drop_before(tape.sample(start))
        for part in limited(_from(start, tape), tape, self.cutting):
            yield CutSegment(*part, tape.cut(*part))


def _at(
    spans: Sequence[Span], blocks: Iterable[Tensor], rate: int, cutting: Cutting
) -> Iterator[CutSegment]:
    """The segments at known times, in their order; the audio between them is dropped."""
    tape, left = Tape(rate), deque(spans)
    for block in chain(blocks, (None,)):
        tape = tape if block is None else tape.add(block)
        while left and (block is None or tape.sample(left[0].end_ms) <= tape.end):
            for part in limited(left.popleft(), tape, cutting):
                yield CutSegment(*part, tape.cut(*part))
        tape = tape.drop_before(tape.sample(left[0].start_ms) if left else tape.end)


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


class Features(NamedTuple):
    """The network's input (T, D) of a recording, and how long that is."""

    feats: Tensor
    seconds: float


class Spanned(NamedTuple):
    """A function that gives the blocks of a recording, and where somebody speaks in it."""

    blocks: Callable[[], Iterator[Tensor]]
    spans: Sequence[Span]


# A wave (N,), or features, are recognised as a whole; what gives blocks is cut; what cannot be read
# says why.
Source = Tensor | Features | Spanned | Callable[[], Iterator[Tensor]] | ParaformerError


def read_sources(
    items: Iterable[Item],
    cutting: Cutting,
    frontend: Frontend,
    raw_fs: int | None = None,
    nbest: int = 1,
) -> Iterator[tuple[Item, Source]]:
    """The items with their audio, to be cut where it has more than `max_whole_s`, unless several
    readings are wanted, or with their stored features; the first that is long is named in a
    warning.
    """
    cache, unsaid = Cache(), True
    for item in items:
        most = cutting.max_whole_s if nbest == 1 else math.inf
        text = ""
        try:
            source: Source
            if isinstance(item.source, StoredFbank):
                source = _stored(item.source, frontend)
                text = _UNCUT if source.seconds > cutting.max_whole_s else ""
            else:
                source = read_up_to(most, item, frontend.fs, raw_fs, cache)
                text = _CUT
        except ParaformerError as error:
            source = error
        if isinstance(source, Tensor):
            text = _TOO_LONG if len(source) > cutting.max_whole_s * frontend.fs else ""
        if text and unsaid:
            unsaid = False
            log.warning(text, item.key, cutting.max_whole_s)
        yield item, source


def _stored(place: StoredFbank, frontend: Frontend) -> Features:
    fbank = torch.from_numpy(place.read(frontend.n_mels))
    return Features(frontend.features(fbank), len(fbank) * frontend.frame_shift / 1000)


_CUT = (
    "'%s': has more than %g s (max_whole_s) and there is no detector: it is cut at pauses, and so "
    "are others like it; to hear speech alone, give vad_model=fsmn-vad"
)
_TOO_LONG = (
    "'%s': has more than %g s and is heard as one, since nbest is above 1: time and memory grow "
    "with the square of its length; give vad_model=fsmn-vad"
)
_UNCUT = (
    "'%s': has more than %g s; features are not cut: time and memory grow with the square of the "
    "length; make segments with bin/segment.py, or give use_feats=false"
)


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
        recordings: Iterable[tuple[Payload, Source]],
        search: Search | None = None,
        batching: Batching | None = None,
    ) -> Iterator[tuple[Payload, HeardRecording]]:
        """Each payload with what was heard in its recording, in their order.

        Segments of a recording that breaks off in the middle are recognised; the error goes along.
        """
        heard: list[HeardSegment] = []
        for done in self.recognizer.stream(self._parts(recordings), search, batching):
            if isinstance(done.payload, Span):
                heard.append(HeardSegment(*done.payload, done.outcome))
            else:
                payload, end = done.payload
                yield payload, end._replace(segments=heard)
                heard = []

    def _parts(
        self, recordings: Iterable[tuple[Payload, Source]]
    ) -> Iterator[Job[Any, Tensor] | Done[Any, None]]:
        """The segments of all recordings, known by their spans, and behind those of each its end,
        known by its payload.
        """
        frontend = self.recognizer.release.frontend
        for payload, source in recordings:
            error, whole, voices = None, True, list[Voice]()
            if isinstance(source, ParaformerError):
                seconds, error = 0.0, source
            elif isinstance(source, Features):
                feats, seconds = source
                yield feats_job(Span(0, round(1000 * seconds)), feats)
            elif isinstance(source, Tensor):
                seconds = len(source) / frontend.fs
                yield feats_job(Span(0, 1000 * len(source) // frontend.fs), frontend(source))
            else:
                blocks, known = source if isinstance(source, Spanned) else (source, None)
                counted, whole = Counted(blocks), False
                try:
                    for segment in self.segmenter.segments(counted, known):
                        span = Span(segment.start_ms, segment.end_ms)
                        voices += segment.voices
                        yield feats_job(span, frontend(segment.wave))
                except ParaformerError as reason:
                    error = reason
                seconds = counted.samples / frontend.fs
            yield Done((payload, HeardRecording([], seconds, error, whole, voices)), None)


class Counted:
    """Blocks, and how many samples they had."""

    def __init__(self, blocks: Callable[[], Iterator[Tensor]]) -> None:
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[Tensor]:
        for block in self.blocks():
            self.samples += len(block)
            yield block
