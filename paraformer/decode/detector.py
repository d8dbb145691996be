"""Detectors end the segments of a stream: at pauses of the voice, or at the end of the stream."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from paraformer.decode.endpoint import OPEN, Span
from paraformer.decode.longform import KEPT_MS
from paraformer.decode.vad import VoiceActivity

# What a detector needs beside its silence to know of a begin or an end: frames that overlap, and
# those its network looks ahead.
FRAMES_MS = 500


class Detector(Protocol):
    """Ends segments: a `VoiceActivity`, or anything that reports spans as it does."""

    def initial_state(self) -> Any:
        """The state of a stream that has not begun."""

    def feed(
        self, samples: Tensor, state: Any, final: bool = False, piece_ms: int | None = None
    ) -> tuple[list[Span], Any]:
        """See `VoiceActivity.feed`."""


class WholeStream:
    """In place of a detector: all that comes is one segment, which ends with the stream."""

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def initial_state(self) -> int:
        """Nothing heard yet; the state counts samples."""
        return 0

    def feed(
        self, samples: Tensor, state: int, final: bool = False, piece_ms: int | None = None
    ) -> tuple[list[Span], int]:
        """Begins with the first sample; the last millisecond may be begun only."""
        now = state + len(samples)
        first = OPEN if state or not now else 0
        if final and now:
            return [Span(first, -(-1000 * now // self.rate))], 0
        return ([Span(first, OPEN)] if first != OPEN else []), now


def reach_ms(detector: Detector) -> int:
    """How far back a begin or an end may lie when a detector reports it."""
    if isinstance(detector, WholeStream):
        return 0
    if not isinstance(detector, VoiceActivity):
        return KEPT_MS
    options, dynamic = detector.options, detector.dynamic
    schedule = [silence for _, silence in dynamic.schedule] if dynamic else []
    silence = max(options.max_end_silence_time, *schedule, 0)
    return silence + options.window_size_ms + options.lookback_time_start_point + FRAMES_MS
