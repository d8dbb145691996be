"""Live speech to finished sentences: a VAD cuts the stream, a streaming model shows the words of a
segment while they come, and at its end its text is written anew, with marks.

Any number of streams share the models of a `LivePipeline`. Where one stands is a value,
`LiveState`, which does not grow with the stream. A final text depends on the audio of its segment
alone: not on the blocks that the audio came in, and not on what was shown before.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paraformer.api.live_speakers import LiveVoices, VoiceTrack
from paraformer.api.streaming import manner_of
from paraformer.data.audio.arrays import check_sound
from paraformer.data.inputs.pieces import Pieces, staying_refused
from paraformer.decode.detector import Detector, WholeStream, reach_ms
from paraformer.decode.endpoint import OPEN, Span
from paraformer.decode.itn import shared_numerals
from paraformer.decode.longform import Cutting, Tape, limited
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.recognize import Reading, Recognizer, Search, sound_job
from paraformer.decode.streaming import (
    Chunking,
    Stream,
    StreamingRecognizer,
    Token,
    read_samples,
)
from paraformer.decode.text import join_texts
from paraformer.decode.timestamps import clip
from paraformer.decode.vad import VoiceActivity
from paraformer.errors import ConfigError, ParaformerError
from paraformer.hub.directories import find_model
from paraformer.models.release import RECOGNISER, load, load_punctuation, load_vad

log = logging.getLogger(__name__)

START, PARTIAL, FINAL = "start", "partial", "final"
# Audio is worked on in whole steps, so that tiny blocks cost little, and no more at a time than a
# second, so that little is computed again where a segment turns out to have ended before.
STEP_MS, MOST_MS = 60, 960
DEAF = "hotword: streams hear none; give second_pass, which does"


class Event(NamedTuple):
    """Something that has happened in a stream; times are in ms from its start.

    start: speech began at `start_ms`. partial: what was said in the segment so far, the last token
    ending at `end_ms`; it may still change. final: the whole segment, with its text, maybe empty.
    """

    kind: str
    start_ms: int
    end_ms: int
    text: str = ""
    tokens: tuple[Token, ...] = ()
    settled: str = ""  # of a partial: the start of the text, which no later token changes
    speaker: str = ""  # of a final: a known name, else SPK0, SPK1, ...; it does not change later


class Mark(NamedTuple):
    """A place in a segment from which the streaming model can go on."""

    stream: Stream
    tokens: tuple[Token, ...] = ()  # of the segment up to here, their times from the stream's start


class OpenSegment(NamedTuple):
    """One that has begun; its marks are as far back as its end may turn out to be."""

    start_ms: int
    marks: tuple[Mark, ...]  # the newest is the last


class LiveState(NamedTuple):
    """Where a stream stands; a value that may be stored, copied, pickled and continued."""

    waiting: Tensor  # samples (N,): less than a step
    tape: Tape
    detector: Any  # `VadState`, or what the detector has
    segment: OpenSegment | None = None
    pieces: Pieces = Pieces()  # bytes that wait
    voices: VoiceTrack = VoiceTrack()  # heard so far


class _Job(NamedTuple):
    """Audio for the streaming model, from a mark of a segment on."""

    place: int  # of its stream
    segment: OpenSegment
    begins: bool  # the segment was not there before
    mark: Mark
    audio: Tensor  # (N,)
    end_ms: int = OPEN  # of the segment, if this is its rest
    parts: tuple[Tensor, ...] = ()  # what the second pass is to hear

    @property
    def closed(self) -> bool:
        return self.end_ms != OPEN


# The events that samples bring, or why they bring none.
Outcome = list[Event] | ParaformerError


class _Done(NamedTuple):
    """The outcome of a job: events and, if it goes on, its segment with a new mark."""

    events: list[Event]
    segment: OpenSegment | None = None


@dataclass
class _Turn:
    """A stream that is given samples, as far as it has come."""

    before: LiveState
    state: LiveState
    final: bool
    parts: deque[Tensor] = field(default_factory=deque)  # still to be heard
    result: Outcome = field(default_factory=list)

    def fail(self, error: ParaformerError) -> None:
        """Nothing more comes of these samples."""
        self.result, self.parts = error, deque()


class LivePipeline:
    """The models of live recognition; holds no state of any stream.

    Each is a name, a directory or what was made of one. model: whose words are shown as they come;
    vad_model ends segments, without it a stream is one; second_pass: a model of whole recordings
    that writes the final text of a segment, whose audio is kept until then; punc_model puts marks
    into it; voices tell its speaker. chunking, device and dtype are those of models to be loaded;
    search is that of the second pass; itn writes numbers in digits in final texts, not in tokens.
    """

    def __init__(
        self,
        model: str | Path | StreamingRecognizer,
        vad_model: str | Path | Detector | None = None,
        punc_model: str | Path | Punctuator | None = None,
        second_pass: str | Path | Recognizer | None = None,
        *,
        chunking: Chunking | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        search: Search | None = None,
        itn: bool = False,
        voices: LiveVoices | None = None,
    ) -> None:
        self.search, self.voices = search, voices
        self.numerals = shared_numerals() if itn else None
        if isinstance(model, (str, Path)):
            release = load(RECOGNISER, find_model(model), mapped=True)
            manner = manner_of(release.config, chunking or Chunking())
            model = StreamingRecognizer(release, manner.chunking, device, dtype, manner.lm)
        if isinstance(vad_model, (str, Path)):
            vad_model = VoiceActivity(load_vad(find_model(vad_model)))
        if isinstance(punc_model, (str, Path)):
            punc_model = Punctuator(load_punctuation(find_model(punc_model)), device)
        if isinstance(second_pass, (str, Path)):
            whole = load(RECOGNISER, find_model(second_pass), mapped=True)
            second_pass = Recognizer(whole, device, dtype)
        self.recognizer, self.punctuator, self.second = model, punc_model, second_pass
        self.rate = model.release.frontend.fs
        self.detector = WholeStream(self.rate) if vad_model is None else vad_model
        self.reach_ms = reach_ms(self.detector)
        self._piece_ms: int | None = None
        if isinstance(vad_model, VoiceActivity):
            _same_rate("vad_model", vad_model.frontend.fs, self.rate)
            # Dynamic silence counts pieces: they must not be the blocks of the caller.
            self._piece_ms = STEP_MS if vad_model.dynamic else None
        if second_pass is not None:
            _same_rate("second_pass", second_pass.release.frontend.fs, self.rate)
        _same_rate("spk_model", self.rate if voices is None else voices.rate, self.rate)
        self._keeps = not (self.second is None and voices is None)  # the audio of a segment

    def session(self) -> LiveSession:
        """A stream to feed step by step."""
        return LiveSession(self)

    def open(self) -> LiveState:
        """The state of a stream that has not begun."""
        return LiveState(torch.zeros(0), Tape(self.rate), self.detector.initial_state())

    def feed(
        self, state: LiveState, samples: Any, final: bool = False
    ) -> tuple[list[Event], LiveState]:
        """The events that more samples (N,) or bytes (see `Pieces.take`) bring, and the stream as
        it stands then; after `final`, at the start of another.
        """
        (events,), (state,) = self.feed_all([state], [samples], [final])
        if isinstance(events, ParaformerError):
            raise events
        return events, state

    def feed_all(
        self, states: Sequence[LiveState], blocks: Sequence[Any], final: Sequence[bool]
    ) -> tuple[list[Outcome], list[LiveState]]:
        """The same for many streams, whose models compute together what is due at a time. Where one
        fails, the error stands in the place of its events, and the stream where it was before these
        samples.
        """
        turns = [
            self._turn(state, block, end)
            for state, block, end in zip(states, blocks, final, strict=True)
        ]
        while any(turn.parts for turn in turns):
            jobs: list[_Job] = []
            for place, turn in enumerate(turns):
                if turn.parts:
                    jobs += self._hear(turn, place)
            for job, found in self._work(jobs):
                turn = turns[job.place]
                if isinstance(found, ParaformerError):
                    turn.fail(found)
                elif not isinstance(turn.result, ParaformerError):
                    turn.result += self._spoken(turn, job, found.events)
                    if found.segment:
                        turn.state = self._forget(turn.state, found.segment)
        return [turn.result for turn in turns], [self._place(turn) for turn in turns]

    def _spoken(self, turn: _Turn, job: _Job, events: list[Event]) -> list[Event]:
        """The same events, a final one that says something with its speaker."""
        if self.voices is None or not job.closed or not events[-1].text:
            return events
        speaker, track = self.voices.tell(turn.state.voices, job.parts)
        turn.state = turn.state._replace(voices=track)
        return [*events[:-1], events[-1]._replace(speaker=speaker)]

    def _turn(self, state: LiveState, block: Any, final: bool) -> _Turn:
        """A stream and the parts of its samples that are to be worked on."""
        turn = _Turn(state, state, final)
        heard = (state.tape.end + len(state.waiting)) / self.rate
        try:
            wave, pieces = state.pieces.take(block, self.rate, final)
            check_sound(wave, "stream", self.rate, heard)
        except ParaformerError as error:
            turn.before = state._replace(pieces=state.pieces.behind(error))
            turn.fail(error)
            return turn
        parts, waiting = self._steps(torch.cat((state.waiting, wave)), final)
        turn.state, turn.parts = state._replace(waiting=waiting, pieces=pieces), deque(parts)
        return turn

    def _place(self, turn: _Turn) -> LiveState:
        """Where a stream stands after its turn."""
        if isinstance(turn.result, ParaformerError):
            return turn.before
        return self.open() if turn.final else turn.state

    def _steps(self, samples: Tensor, final: bool) -> tuple[Sequence[Tensor], Tensor]:
        """Samples in parts to work on, and those that wait for more."""
        step, most = (self.rate * ms // 1000 for ms in (STEP_MS, MOST_MS))
        whole = len(samples) if final else len(samples) // step * step
        parts = samples[:whole].split(most) if whole or final else ()
        return parts, samples[whole:].clone()

    def _hear(self, turn: _Turn, place: int) -> list[_Job]:
        """The detector hears the next part; what the streaming model has to do about it."""
        state, part = turn.state, turn.parts.popleft()
        final = turn.final and not turn.parts
        tape = state.tape.add(part)
        try:
            spans, detector = self.detector.feed(part, state.detector, final, self._piece_ms)
        except ParaformerError as error:
            turn.fail(error)
            return []
        segment, begins, jobs = state.segment, False, list[_Job]()
        for start_ms, end_ms in spans:
            if start_ms != OPEN:
                segment, begins = OpenSegment(start_ms, (Mark(self.recognizer.open()),)), True
            if end_ms != OPEN and segment:
                parts = self._parts(segment, end_ms, tape)
                jobs.append(_job(place, segment, begins, tape, end_ms)._replace(parts=parts))
                segment = None
        if segment:
            jobs.append(_job(place, segment, begins, tape))
        state = state._replace(tape=tape, detector=detector, segment=segment)
        turn.state = state if segment else self._forget(state, None)
        return jobs

    def _parts(self, segment: OpenSegment, end_ms: int, tape: Tape) -> tuple[Tensor, ...]:
        """The audio of a segment for the second pass and the voices."""
        if not self._keeps:
            return ()
        spans = limited(Span(segment.start_ms, end_ms), tape, Cutting())
        return tuple(tape.cut(*span) for span in spans)

    def _forget(self, state: LiveState, segment: OpenSegment | None) -> LiveState:
        """Without the audio and the marks that nothing to come can need."""
        tape = state.tape
        reached = tape.end - tape.sample(self.reach_ms)
        if segment is None:
            return state._replace(tape=tape.drop_before(reached))
        marks = segment.marks
        while len(marks) > 1 and _position(segment, marks[1], tape) <= reached:
            marks = marks[1:]
        kept = segment._replace(marks=marks)
        needed = min(reached, _position(kept, marks[0], tape))
        if self._keeps:
            needed = min(needed, tape.sample(segment.start_ms))
        return state._replace(tape=tape.drop_before(needed), segment=kept)

    def _work(self, jobs: Sequence[_Job]) -> list[tuple[_Job, _Done | ParaformerError]]:
        """Each job with what came of it."""
        if not jobs:
            return []
        streams, audio = [job.mark.stream for job in jobs], [job.audio for job in jobs]
        found, streams = self.recognizer.feed_all(streams, audio, [job.closed for job in jobs])
        readings = self._second_readings(jobs)
        done: list[tuple[_Job, _Done | ParaformerError]] = []
        for number, (job, tokens, stream) in enumerate(zip(jobs, found, streams, strict=True)):
            if isinstance(tokens, ParaformerError):
                done.append((job, tokens))
                continue
            begin = job.segment.start_ms
            mark = Mark(stream, (*job.mark.tokens, *(_later(token, begin) for token in tokens)))
            events = [Event(START, begin, begin)] if job.begins else []
            if job.closed:
                done.append((job, _Done([*events, self._final(job, mark, readings.get(number))])))
                continue
            if tokens:
                end_ms = mark.tokens[-1].end_ms
                text = stream.text
                events.append(Event(PARTIAL, begin, end_ms, text.text, mark.tokens, text.settled))
            going_on = job.segment._replace(marks=_with(job.segment.marks, mark))
            done.append((job, _Done(events, going_on)))
        return done

    def _second_readings(self, jobs: Sequence[_Job]) -> dict[int, list[Reading]]:
        """Readings of the second pass, if there is one, of the segments that have ended, by the
        number of the job; not where it failed.
        """
        if self.second is None:
            return {}
        frontend = self.second.release.frontend
        numbered = ((number, part) for number, job in enumerate(jobs) for part in job.parts)
        parts = (sound_job(number, part, frontend) for number, part in numbered)
        readings = {number: list[Reading]() for number, job in enumerate(jobs) if job.closed}
        for done in self.second.stream(parts, self.search):
            if not isinstance(done.outcome, ParaformerError):
                readings.get(done.payload, []).append(done.outcome.best)
            elif readings.pop(done.payload, None) is not None:
                log.warning(
                    "second_pass: segment at %d ms: %s; the text of the stream is used",
                    jobs[done.payload].segment.start_ms,
                    done.outcome,
                )
        return readings

    def _final(self, job: _Job, mark: Mark, readings: list[Reading] | None) -> Event:
        text, tokens = mark.stream.text.text, mark.tokens
        if readings is not None:
            text = join_texts(reading.tight for reading in readings)
            span = Span(job.segment.start_ms, job.end_ms)
            own = self._own_times(job, readings)
            tokens = tuple(_timed(readings, tokens, span) if own is None else own)
        if self.punctuator is not None and text:
            text = self._marked(self.punctuator, text, job)
        if self.numerals is not None:
            text = self.numerals.rewrite(text)
        return Event(FINAL, job.segment.start_ms, job.end_ms, text, tokens)

    def _marked(self, punctuator: Punctuator, text: str, job: _Job) -> str:
        try:
            return punctuator.punctuate(text).text
        except ParaformerError as error:
            log.warning(
                "punc_model: segment at %d ms: %s; it has no marks", job.segment.start_ms, error
            )
            return text

    def _own_times(self, job: _Job, readings: Sequence[Reading]) -> list[Token] | None:
        """The tokens of the second pass with the times that it gives them itself, if it does."""
        tokens, heard = list[Token](), 0  # samples of the segment before each part
        for part, reading in zip(job.parts, readings, strict=True):
            if reading.token_times is None:
                return None
            begin = job.segment.start_ms + 1000 * heard // self.rate
            heard += len(part)
            end = min(job.segment.start_ms + 1000 * heard // self.rate, job.end_ms)
            times = clip([[begin + s, begin + e] for s, e in reading.token_times], end)
            rows = zip(reading.tokens, times, reading.confidences, strict=True)
            tokens += [Token(text, start, stop, c) for text, (start, stop), c in rows]
        return tokens


def _same_rate(name: str, rate: int, expected: int) -> None:
    if rate != expected:
        raise ConfigError(
            f"{name}: works at {rate} Hz, the model at {expected} Hz; take two of one rate"
        )


def _job(place: int, segment: OpenSegment, begins: bool, tape: Tape, end_ms: int = OPEN) -> _Job:
    """Audio of a segment that the streaming model has not heard yet; if it has ended, from the
    newest mark before its end.
    """
    end = tape.end if end_ms == OPEN else tape.sample(end_ms)
    before = [mark for mark in segment.marks if _position(segment, mark, tape) <= end]
    mark = before[-1] if before else segment.marks[0]
    audio = tape.between(_position(segment, mark, tape), end)
    return _Job(place, segment, begins, mark, audio, end_ms)


def _position(segment: OpenSegment, mark: Mark, tape: Tape) -> int:
    """The sample of the stream up to which the streaming model has heard."""
    return tape.sample(segment.start_ms) + mark.stream.heard


def _with(marks: tuple[Mark, ...], new: Mark) -> tuple[Mark, ...]:
    """One more mark; of those between two chunks the first and the newest are kept."""
    frames = [mark.stream.frames for mark in marks[-2:]]
    between = len(frames) == 2 and frames[0] == frames[1]
    return (*(marks[:-1] if between else marks), new)


def _later(token: Token, ms: int) -> Token:
    return token._replace(start_ms=token.start_ms + ms, end_ms=token.end_ms + ms)


def _timed(readings: Sequence[Reading], heard: Sequence[Token], span: Span) -> list[Token]:
    """The tokens of the second pass with the times at which the streaming model heard the same;
    those between that it did not hear share the time between evenly.
    """
    texts = [token for reading in readings for token in reading.tokens]
    confidences = [c for reading in readings for c in reading.confidences]
    times: list[tuple[int, int]] = []
    matcher = SequenceMatcher(None, texts, [token.text for token in heard], autojunk=False)
    for first, place, size in matcher.get_matching_blocks():
        start = times[-1][1] if times else span.start_ms
        end = heard[place].start_ms if size else span.end_ms
        times += _shared(start, max(start, end), first - len(times))
        times += [(token.start_ms, token.end_ms) for token in heard[place : place + size]]
    return [Token(text, *time, c) for text, time, c in zip(texts, times, confidences, strict=True)]


def _shared(start: int, end: int, count: int) -> list[tuple[int, int]]:
    """A stretch of time in equal parts."""
    edges = [start + (end - start) * n // max(count, 1) for n in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


class LiveSession:
    """One stream of live recognition, fed step by step.

    feed -> events; `flush` ends the stream, and the next block begins another. `state` may be
    taken, stored and put back, also into another session of the same models.
    """

    def __init__(
        self,
        model: str | Path | StreamingRecognizer | LivePipeline,
        vad_model: str | Path | Detector | None = None,
        punc_model: str | Path | Punctuator | None = None,
        second_pass: str | Path | Recognizer | None = None,
        *,
        chunking: Chunking | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        """As for `LivePipeline`, or a pipeline alone."""
        if isinstance(model, LivePipeline):
            self.pipeline = model
        else:
            beside = (vad_model, punc_model, second_pass)
            self.pipeline = LivePipeline(
                model, *beside, chunking=chunking, device=device, dtype=dtype
            )
        self.state = self.pipeline.open()

    def feed(self, samples: Any) -> list[Event]:
        """Events of more samples of the model's rate, in a form that `read_samples` takes."""
        piece = read_samples(samples, self.pipeline.rate)
        with staying_refused(self):
            events, self.state = self.pipeline.feed(self.state, piece)
        return events

    def events(self, blocks: Iterable[Any]) -> Iterator[Event]:
        """Those of a whole stream of blocks, each as soon as it is known."""
        for block in blocks:
            yield from self.feed(block)
        yield from self.flush()

    def flush(self) -> list[Event]:
        """The last events; what is fed next belongs to a new stream."""
        state, self.state = self.state, self.pipeline.open()
        return self.pipeline.feed(state, b"", final=True)[0]
