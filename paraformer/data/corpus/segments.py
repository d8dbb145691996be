"""Lines of a Kaldi `segments`: `utterance recording start end [channel]`.

Standard library only: the programs in `utils/` start with it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.tables import fields, read_table
from paraformer.errors import DataError


class Place(NamedTuple):
    """The stretch of a recording that an utterance is."""

    recording: str
    start: float  # seconds
    end: float | None  # None: the end of the recording
    channel: int | None = None  # from 0; None: all of them


def wrong_place(value: str) -> str:
    """The fault of the value of a line, or the empty string.

    >>> wrong_place("call 3.5 4 1"), wrong_place("call 3.5 4 B")
    ('', 'segment channel is no whole number from 0')
    """
    words = fields(value)
    if len(words) not in (3, 4):
        return "not of the form: utterance recording start end [channel]"
    start, end = number(words[1]), number(words[2])
    if not 0 <= start < math.inf or math.isnan(end) or end == math.inf:
        return "segment times are not seconds"
    # Kaldi: -1 means the end of the recording.
    if end <= start and end != -1:
        return "segment without length"
    channel = words[3] if len(words) == 4 else "-1"
    known = channel == "-1" or (channel.isascii() and channel.isdigit())
    return "" if known else "segment channel is no whole number from 0"


def parse_place(value: str) -> Place:
    """The place that a line tells, in which nothing is wrong.

    >>> parse_place("call 3.5 -1 1")
    Place(recording='call', start=3.5, end=None, channel=1)
    """
    recording, start, end, *more = fields(value)
    channel = int(more[0]) if more and more[0] != "-1" else None
    return Place(recording, float(start), float(end) if float(end) >= 0 else None, channel)


def read_places(path: str | Path) -> dict[str, Place]:
    """The places of the utterances of a `segments`, in its order; a wrong line is an error."""
    places: dict[str, Place] = {}
    for key, value in read_table(path).items():
        wrong = wrong_place(value)
        if wrong:
            folder = Path(path).parent
            remedy = f"correct it or run utils/fix_data_dir.py {folder}"
            raise DataError(f"{path}: '{key}': {wrong}; {remedy}")
        places[key] = parse_place(value)
    return places


def number(word: str) -> float:
    """The number that a word is, NaN if it is none."""
    try:
        return float(word)
    except ValueError:
        return math.nan
