"""Where speech begins and ends: posteriors of silence become segments, frame by frame, exact to the
released FSMN-VAD.

Decisions of single frames are made on arrays. Of what follows them only the changes are walked
through: runs of equal frames between two changes of the window detector are taken in one step.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from paraformer.backends.face import VadOptions

# The end that a span lacks: it was, or will be, reported by another call.
OPEN = -1
# Frames searched at a time: what comes after a change is then near.
BLOCK = 1024
# The level of noise before any was heard, and below it there was none (decibel).
NO_NOISE, HEARD = -100.0, -99.9


class Span(NamedTuple):
    """A segment in ms from the start of the stream; an end that other calls report is OPEN."""

    start_ms: int
    end_ms: int


class Phase(IntEnum):
    """DONE: one segment was asked for and found, or none began in time."""

    WAITING = 0
    SPEAKING = 1
    DONE = 2


class EndpointState(NamedTuple):
    """Where a stream stands; frames count from its start."""

    frames: int = 0  # seen so far
    phase: Phase = Phase.WAITING
    in_speech: bool = False  # of the window detector
    window: bytes = b""  # its last decisions, a byte each
    noise_db: float = NO_NOISE
    free: int = 0  # first frame that no segment holds yet
    first: int = -1  # of the open segment
    last_voice: int = 0
    silence: int = 0  # frames of silence in a row


def advance(
    options: VadOptions,
    silence: np.ndarray,
    decibels: np.ndarray,
    state: EndpointState,
    final: bool = False,
) -> tuple[list[Span], EndpointState]:
    """Take the next frames, their probability of silence (T,) and level (T,): the spans they begin,
    end or hold whole.

    `final` closes an open segment at the last frame; the state that comes back is then a fresh one.

    >>> silent, level = np.repeat([1.0, 0.0, 1.0], [30, 50, 99]), np.zeros(179)
    >>> advance(VadOptions(), silent, level, EndpointState())[0]
    [Span(start_ms=40, end_ms=960)]
    """
    voiced, noise_db = decide(options, silence, decibels, state.noise_db)
    state = state._replace(noise_db=noise_db)
    spans: list[Span] = []
    for begin in range(0, len(voiced), BLOCK):
        state = _walk(options, voiced[begin : begin + BLOCK], state, spans)
    if not final:
        return spans, state
    if state.phase is Phase.SPEAKING:
        _end(options, state, state.frames - 1, spans)
    return spans, EndpointState()


def join(spans: Iterable[Span]) -> list[Span]:
    """Whole segments of what successive calls have reported.

    >>> join([Span(70, -1), Span(-1, 900), Span(1200, 1800)])
    [Span(start_ms=70, end_ms=900), Span(start_ms=1200, end_ms=1800)]
    """
    whole: list[Span] = []
    for span in spans:
        if span.start_ms == OPEN:
            _mark_end(whole, span.end_ms)
        else:
            whole.append(span)
    return whole


def decide(
    options: VadOptions, silence: np.ndarray, decibels: np.ndarray, noise_db: float = NO_NOISE
) -> tuple[np.ndarray, float]:
    """Which frames are speech, (T,) uint8, and the level of noise after them.

    The level is a running mean over frames of noise; speech must exceed by `snr_thres` what it was
    before the frame.
    """
    silence = np.clip(silence.astype(np.float64), 0.0, 1.0)
    heard = decibels >= options.decibel_thres
    likely = 1.0 - silence >= silence**options.speech_2_noise_ratio + options.speech_noise_thres
    noise = heard & ~likely
    share = options.noise_frame_num_used_for_snr

    def mean(level: float, new: float) -> float:
        return new if level < HEARD else (new + (share - 1) * level) / share

    levels = list(accumulate(decibels[noise].tolist(), mean, initial=noise_db))
    before = np.array(levels)[np.cumsum(noise) - noise]
    return (heard & likely & (decibels - before >= options.snr_thres)).view(np.uint8), levels[-1]


class _Windows:
    """How many frames are speech in the window that ends at each frame of a block."""

    def __init__(self, past: bytes, voiced: np.ndarray, width: int) -> None:
        self.width = width
        self.past = len(past)
        self.start = 0
        self.voiced = np.concatenate([np.frombuffer(past, np.uint8), voiced])
        self.total = np.concatenate([[0], np.cumsum(self.voiced, dtype=np.int64)])
        self.counts = self.total[1:].copy()
        self.counts[width:] -= self.total[1:-width]

    def restart(self, frame: int) -> None:
        """Forget all before this frame of the block."""
        self.start = start = self.past + frame
        end = start + self.width
        self.counts[start:end] = self.total[start + 1 : end + 1] - self.total[start]

    def change(self, frame: int, in_speech: bool, count: int) -> int:
        """The first frame from `frame` on where the detector turns; else the block's length."""
        ahead = self.counts[self.past + frame :]
        turns = ahead <= count if in_speech else ahead >= count
        place = int(turns.argmax()) if turns.any() else len(turns)
        return frame + place

    def last(self) -> bytes:
        """The decisions that the windows of the next block still hold."""
        return self.voiced[max(self.start, len(self.voiced) - self.width + 1) :].tobytes()


def _walk(
    options: VadOptions, voiced: np.ndarray, state: EndpointState, spans: list[Span]
) -> EndpointState:
    """A block of decisions (T,), a step for each run between changes of the detector."""
    windows = _Windows(state.window, voiced, options.in_frames(options.window_size_ms))
    offset, place = state.frames, 0
    onset, release = map(
        options.in_frames, (options.sil_to_speech_time_thres, options.speech_to_sil_time_thres)
    )
    while place < len(voiced) and state.phase is not Phase.DONE:
        before = state
        change = windows.change(place, state.in_speech, release if state.in_speech else onset)
        if state.in_speech:
            until = min(change + 1, len(voiced))
            state, taken = _speech(options, state, offset + place, until - place, spans)
            state = state._replace(in_speech=state.in_speech and change == len(voiced))
        elif change > place:
            state, taken = _silence(options, state, offset + place, change - place, spans)
        else:
            state, taken = _onset(options, state, offset + place, spans)
        place += taken
        if before.phase is Phase.SPEAKING and state.phase is not Phase.SPEAKING:
            windows.restart(place)
    return state._replace(frames=offset + len(voiced), window=windows.last())


# Each of these takes frames of one kind from `frame` on, as far as the first that ends the segment,
# and returns the state with how many it took.


def _onset(
    options: VadOptions, state: EndpointState, frame: int, spans: list[Span]
) -> tuple[EndpointState, int]:
    """The frame at which the detector turns to speech."""
    if state.phase is Phase.SPEAKING:
        state = _voice(state, state.last_voice + 1, frame - 1)._replace(in_speech=True)
        return _speech(options, state, frame, 1, spans)
    first = max(state.free, frame - _latency(options))
    spans.append(Span(first * options.frame_in_ms, OPEN))
    state = state._replace(
        phase=Phase.SPEAKING, in_speech=True, first=first, free=first + 1, silence=0
    )
    return _voice(state, first + 1, frame), 1


def _speech(
    options: VadOptions, state: EndpointState, frame: int, count: int, spans: list[Span]
) -> tuple[EndpointState, int]:
    """Speech in a segment, the frame at which it turns to silence included."""
    room = max(0, _longest(options, state) - frame)
    voiced = _voice(state._replace(silence=0), frame, frame + min(count, room) - 1)
    if room >= count:
        return voiced, count
    return _end(options, voiced, frame + room, spans), room + 1


def _silence(
    options: VadOptions, state: EndpointState, frame: int, count: int, spans: list[Span]
) -> tuple[EndpointState, int]:
    """Silence before a segment, or in it until it has lasted long enough."""
    if state.phase is Phase.WAITING:
        return _wait(options, state, frame, count), count
    limit = max(0, options.max_end_silence_time - options.speech_to_sil_time_thres)
    patience = max(1, -(-limit // options.frame_in_ms) - state.silence)
    room = max(0, _longest(options, state) - frame) + 1
    taken = min(count, patience, room)
    # Silence up to the look-ahead still belongs to the speech before it.
    ahead = options.in_frames(options.lookahead_time_end_point)
    if options.do_extend:
        ended = taken == min(patience, room)
        kept = min(taken - ended, ahead - state.silence)
        state = _voice(state, frame, frame + kept - 1)
    last = frame + taken - 1
    if taken == patience:
        back = options.in_frames(limit)
        back = max(0, back - ahead - 1) if options.do_extend else back
        return _end(options, state, last - back, spans), taken
    if taken == room:
        return _end(options, state, last, spans), taken
    return state._replace(silence=state.silence + taken), taken


def _wait(options: VadOptions, state: EndpointState, frame: int, count: int) -> EndpointState:
    """Silence before a segment: what lies further back than a start may reach is given up."""
    silence = state.silence + count
    if options.detect_mode == 0 and silence * options.frame_in_ms > options.max_start_silence_time:
        return state._replace(phase=Phase.DONE)
    reach = frame + count - 1 - _latency(options)
    return state._replace(silence=silence, free=max(state.free, reach))


def _voice(state: EndpointState, frame: int, last: int) -> EndpointState:
    """Give the frames from `frame` to `last`, if any, to the open segment."""
    if last < frame:
        return state
    return state._replace(free=max(state.free, frame) + last - frame + 1, last_voice=last)


def _end(options: VadOptions, state: EndpointState, frame: int, spans: list[Span]) -> EndpointState:
    """Close the segment with this frame and listen for the next."""
    state = _voice(state, state.last_voice + 1, frame - 1)
    _mark_end(spans, (frame + 1) * options.frame_in_ms)
    return state._replace(
        phase=Phase.WAITING if options.detect_mode else Phase.DONE,
        in_speech=False,
        free=max(state.free, frame) + 1,
        first=-1,
        last_voice=0,
        silence=0,
    )


def _mark_end(spans: list[Span], end_ms: int) -> None:
    if spans and spans[-1].end_ms == OPEN:
        spans[-1] = Span(spans[-1].start_ms, end_ms)
    else:
        spans.append(Span(OPEN, end_ms))


def _latency(options: VadOptions) -> int:
    """How far a start lies before the frame at which it is found."""
    reach = options.lookback_time_start_point if options.do_extend else 0
    return options.in_frames(options.window_size_ms) + options.in_frames(reach)


def _longest(options: VadOptions, state: EndpointState) -> int:
    """The frame at which the open segment is too long."""
    return state.first + options.in_frames(options.max_single_segment_time)
