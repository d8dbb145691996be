"""The diarisation error rate of NIST: which share of what is spoken is missed, heard where nobody
speaks, or given to a wrong speaker.

Speakers of the hypothesis stand for those of the reference with which they share most time, one
for one. A collar is left out on either side of each border of the reference, as NIST's md-eval
does it: 0.25 s there are 0.5 s of pyannote, whose collar is the whole width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from paraformer.data.corpus.rttm import NamedTurn, Stretch
from paraformer.extras import load_extra


class DiarizationErrors(NamedTuple):
    """Seconds of errors, and of the reference; where two speak both count."""

    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0
    total: float = 0.0

    def plus(self, other: DiarizationErrors) -> DiarizationErrors:
        """Those of both."""
        return DiarizationErrors(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def wrong(self) -> float:
        """Seconds of all errors."""
        return self.missed + self.false_alarm + self.confusion

    def line(self, name: str = "DER") -> str:
        """The rates in percent.

        >>> DiarizationErrors(1, 2, 3, 50).line()
        '%DER 12.00 [ missed 2.00, false alarm 4.00, confusion 6.00 of 50.000 s ]'
        """
        if not self.total:
            return f"%{name} - [ nobody speaks; false alarm {self.false_alarm:.3f} s ]"
        missed, alarm, confused = (100 * part / self.total for part in self[:3])
        parts = f"missed {missed:.2f}, false alarm {alarm:.2f}, confusion {confused:.2f}"
        return f"%{name} {100 * self.wrong / self.total:.2f} [ {parts} of {self.total:.3f} s ]"


class _Interval(NamedTuple):
    """A time in which nobody begins or ends."""

    seconds: float
    said: frozenset[str]
    heard: frozenset[str]


def score_turns(
    ref: Sequence[NamedTurn],
    hyp: Sequence[NamedTurn],
    scored: Sequence[Stretch] | None = None,
    collar: float = 0.0,
    overlap: bool = True,
) -> DiarizationErrors:
    """The errors of one recording. scored: where it counts, else everywhere. collar: seconds before
    and after each border of the reference that do not count. overlap: False leaves out where
    several speak in the reference.
    """
    stretches = list(_stretches(ref, hyp, scored, collar))
    if not overlap:
        stretches = [stretch for stretch in stretches if len(stretch.said) < 2]
    shared: Counter[tuple[str, str]] = Counter()
    for seconds, said, heard in stretches:
        for pair in ((one, other) for one in said for other in heard):
            shared[pair] += seconds  # type: ignore[assignment]  # of seconds, not of things
    standing = _standing(shared)
    errors = DiarizationErrors()
    for seconds, said, heard in stretches:
        right = sum((one, other) in standing for one in said for other in heard)
        both = min(len(said), len(heard))
        counts = (len(said) - both, len(heard) - both, both - right, len(said))
        errors = errors.plus(DiarizationErrors(*(seconds * count for count in counts)))
    return errors


def best_pairs(gains: np.ndarray) -> list[tuple[int, int]]:
    """Gains (R, C) -> row and column of as many pairs as can be, none twice, of most gain."""
    optimize: Any = load_extra("scipy.optimize", "speakers")
    rows, columns = optimize.linear_sum_assignment(gains, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _standing(shared: Counter[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which speakers stand for each other."""
    ours = sorted({one for one, _ in shared})
    theirs = sorted({other for _, other in shared})
    gains = np.array([[shared[one, other] for other in theirs] for one in ours], float)
    return {(ours[a], theirs[b]) for a, b in best_pairs(gains)} if shared else set()


def _stretches(
    ref: Sequence[NamedTurn],
    hyp: Sequence[NamedTurn],
    scored: Sequence[Stretch] | None,
    collar: float,
) -> Iterator[_Interval]:
    """All that counts, between one border and the next."""
    borders = [time for turn in ref for time in turn[:2]]
    collars = [(time - collar, time + collar) for time in borders if collar > 0]
    everything = [(0.0, max((turn.end for turn in (*ref, *hyp)), default=0.0))]
    marks = [
        *_marks("said", ((turn.start, turn.end, turn.speaker) for turn in ref)),
        *_marks("heard", ((turn.start, turn.end, turn.speaker) for turn in hyp)),
        *_marks("scored", ((*span, "") for span in (everything if scored is None else scored))),
        *_marks("collar", ((*span, "") for span in collars)),
    ]
    marks.sort(key=lambda mark: mark[0])
    now: Counter[tuple[str, str]] = Counter()
    for (time, kind, name, by), (after, *_) in pairwise([*marks, (float("inf"), "", "", 0)]):
        now[kind, name] += by
        counts = now["scored", ""] and not now["collar", ""]
        if after > time and counts:
            said, heard = (frozenset(_names(now, kind)) for kind in ("said", "heard"))
            yield _Interval(after - time, said, heard)


def _marks(
    kind: str, spans: Iterable[tuple[float, float, str]]
) -> Iterator[tuple[float, str, str, int]]:
    for start, end, name in spans:
        yield start, kind, name, 1
        yield end, kind, name, -1


def _names(now: Counter[tuple[str, str]], wanted: str) -> Iterator[str]:
    return (name for (kind, name), count in now.items() if kind == wanted and count)
