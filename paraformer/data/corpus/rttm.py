"""Reads who speaks when from NIST's RTTM, and where it is to be scored from UEM.

`SPEAKER file channel start duration <NA> <NA> name <NA> <NA>`, in seconds; lines of other types, as
`SPKR-INFO`, say nothing of when.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.tables import fields, iter_rows
from paraformer.errors import DataError

SPEAKER = "SPEAKER"
COMMENT = ";"


class NamedTurn(NamedTuple):
    """A stretch in which a speaker speaks, in seconds."""

    start: float
    end: float
    speaker: str


Stretch = tuple[float, float]  # start and end in seconds


def read_rttm(path: str | Path) -> dict[str, list[NamedTurn]]:
    """File -> its turns in the order of time, those of one speaker that touch joined; all channels
    of a file are one.
    """
    found: dict[str, dict[str, list[Stretch]]] = defaultdict(lambda: defaultdict(list))
    for row in iter_rows(path):
        if row.key != SPEAKER:
            continue
        try:
            file, _, start, length, _, _, name, *_ = fields(row.value)
            span = _stretch(float(start), float(start) + float(length))
        except ValueError as error:
            raise DataError(
                f"{path}:{row.line}: no line of an RTTM; write `SPEAKER file channel start "
                "duration <NA> <NA> name <NA> <NA>`, times in seconds"
            ) from error
        if span[1] > span[0]:
            found[file][name].append(span)
    return {
        file: sorted(NamedTurn(*span, name) for name in own for span in joined(own[name]))
        for file, own in found.items()
    }


def read_uem(path: str | Path) -> dict[str, list[Stretch]]:
    """File -> the stretches of it that are scored: lines `file channel start end`, in seconds."""
    found: dict[str, list[Stretch]] = defaultdict(list)
    for row in iter_rows(path):
        if row.key.startswith(COMMENT):
            continue
        try:
            _, start, end = fields(row.value)
            found[row.key].append(_stretch(float(start), float(end)))
        except ValueError as error:
            raise DataError(
                f"{path}:{row.line}: no line of a UEM; write `file channel start end`, in seconds"
            ) from error
    return {file: joined(spans) for file, spans in found.items()}


def joined(spans: Iterable[Stretch], gap: float = 0.0) -> list[Stretch]:
    """Stretches in the order of time, those that overlap, touch or are no further apart made one.

    >>> joined([(3, 4), (0, 1), (1, 2)]), joined([(0, 1), (1.4, 2)], gap=0.5)
    ([(0, 2), (3, 4)], [(0, 2)])
    """
    found: list[Stretch] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def speech(turns: Sequence[NamedTurn], gap: float = 0.0) -> list[Stretch]:
    """Where anybody speaks."""
    return joined(((turn.start, turn.end) for turn in turns), gap)


def _stretch(start: float, end: float) -> Stretch:
    if not 0 <= start <= end < math.inf:
        raise ValueError("a stretch that ends before it begins")
    return start, end
