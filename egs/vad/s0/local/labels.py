"""Where in a clip somebody speaks, by energy: only for clips whose pauses are clearly quieter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from paraformer.decode.token_ends import loud_frames, stretches

RATE = 16000
FRAME, SHIFT = 400, 160
PRE_EMPHASIS = 0.9  # lifts hissed sounds to the level of vowels


class Rule(NamedTuple):
    """Decibels and ms of the decision.

    `range_db`, `share` and `least_db` say which frames are loud (`loud_frames`). Speech shorter
    than `burst_ms` is a click; silence up to `gap_ms` belongs to the speech around it (a stop's
    closure), and so does `hold_ms` behind it: a detector that looks back cannot tell such a gap
    from an end before it is over.
    """

    range_db: float = 35.0
    share: float = 0.3
    least_db: float = 30.0  # less is too noisy to be labelled
    burst_ms: float = 40.0
    gap_ms: float = 100.0
    hold_ms: float = 80.0


Spans = list[tuple[int, int]]  # begin and end in samples


def levels(samples: np.ndarray) -> np.ndarray:
    """Decibels of each 25 ms of pre-emphasised samples (N,), one every 10 ms: (T,)."""
    lifted = np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1])
    if len(lifted) < FRAME:
        return np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(np.square(lifted, dtype=np.float64))])
    starts = np.arange(0, len(lifted) - FRAME + 1, SHIFT)
    power = np.maximum(sums[starts + FRAME] - sums[starts], 0.0) / FRAME
    decibels: np.ndarray = 10.0 * np.log10(power + 1e-10)
    return decibels


def speech_spans(samples: np.ndarray, rule: Rule | None = None) -> Spans:
    """Spans of speech in a clip (N,), empty where it is too noisy, or too short, to tell."""
    rule = rule or Rule()
    level = levels(samples)
    if len(level) < 10:
        return []
    loud = loud_frames(torch.from_numpy(level), rule.range_db, rule.share, rule.least_db)
    # The centre of a frame stands for its 10 ms.
    offset = (FRAME - SHIFT) // 2
    found = stretches(loud, int(rule.gap_ms * RATE / 1000 / SHIFT))
    spans = [(begin * SHIFT + offset, end * SHIFT + offset) for begin, end in found]
    spans = [(a, b) for a, b in spans if b - a >= rule.burst_ms * RATE / 1000]
    hold = int(rule.hold_ms * RATE / 1000)
    return join([(a, min(b + hold, len(samples))) for a, b in spans], 0.0)


def join(spans: Spans, gap_ms: float) -> Spans:
    """Spans in order, those that are no further apart than `gap_ms` made one.

    >>> join([(0, 160), (480, 800), (9000, 9900)], 20)
    [(0, 800), (9000, 9900)]
    """
    joined: Spans = []
    for begin, end in sorted(spans):
        if joined and begin - joined[-1][1] <= gap_ms * RATE / 1000:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined


def pauses(samples: np.ndarray, spans: Spans, margin_ms: float = 60.0) -> list[np.ndarray]:
    """The pieces between, before and behind the spans, without a margin at each side of speech."""
    margin = int(margin_ms * RATE / 1000)
    bounds = [0, *(x for span in spans for x in span), len(samples)]
    begins, ends = bounds[0::2], bounds[1::2]
    pieces = []
    for begin, end in zip(begins, ends, strict=True):
        begin, end = begin + margin * (begin > 0), end - margin * (end < len(samples))
        if end - begin >= 3 * FRAME:
            pieces.append(samples[begin:end])
    return pieces
