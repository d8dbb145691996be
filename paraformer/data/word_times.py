"""Known times of words, a `ctm` in a Kaldi data directory: what teaches a model when tokens begin.

Any aligner may have written it (`key channel begin duration word [confidence]`, NIST's CTM), or
a program that knows where the clips of a recording begin.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from paraformer.data.tables import Row, fields, read_rows
from paraformer.errors import DataError


class TimedWord(NamedTuple):
    """A word, or a whole phrase of which only the ends are known."""

    start: float  # seconds
    end: float
    tokens: int


class Mark(NamedTuple):
    """At a time, in seconds, how many tokens have begun; past the last token their end counts."""

    seconds: float
    begun: int


def read_ctm(path: str | Path) -> dict[str, list[tuple[float, float, str]]]:
    """Key -> start and end in seconds and text of each word, in the order of time."""
    return ctm_words(read_rows(path), str(path))


def ctm_words(rows: Sequence[Row], name: str) -> dict[str, list[tuple[float, float, str]]]:
    """The same of rows; `name` is what they are called in an error."""
    words: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for row in rows:
        columns = fields(row.value)
        try:
            _, begin, duration, word, *_ = columns
            start, length = float(begin), float(duration)
        except ValueError:
            start = length = math.nan
        if not (0 <= start < math.inf and 0 <= length < math.inf):
            raise DataError(
                f"{name}:{row.line}: '{row.key} {row.value}' is no line of a CTM; give "
                "`key channel begin duration word`, times in seconds"
            )
        words[row.key].append((start, start + length, word))
    return {key: sorted(found) for key, found in words.items()}


def timed_words(
    table: Mapping[str, Sequence[tuple[float, float, str]]],
    key: str,
    ids: Sequence[int],
    encode: Callable[[str], list[int]],
) -> list[TimedWord]:
    """The words of an utterance; nothing where there are none, or where they are not its text."""
    rows = table.get(key, [])
    pieces = [encode(word) for _, _, word in rows]
    if [token for piece in pieces for token in piece] != list(ids):
        return []
    return [
        TimedWord(start, end, len(piece))
        for (start, end, _), piece in zip(rows, pieces, strict=True)
    ]


def marks_of(parts: Sequence[tuple[float, int, Sequence[TimedWord]]]) -> list[Mark]:
    """Marks of utterances one after another: each its start in seconds, its number of tokens, and
    its words.

    A silence belongs to nobody: the end of a word is marked behind the last one alone, since
    elsewhere the next word begins where a token ends.

    >>> word = TimedWord(0.25, 0.5, 2)
    >>> [tuple(mark) for mark in marks_of([(0.0, 2, [word]), (1.0, 2, [word])])]
    [(0.25, 1), (1.25, 3), (1.5, 5)]
    """
    marks: list[Mark] = []
    begun, words = 0, list[TimedWord]()
    for offset, tokens, known in parts:
        told, words = begun, list(known)
        for word in words:
            marks.append(Mark(offset + word.start, told + 1))
            told += word.tokens
        begun += tokens
    if words:
        marks.append(Mark(offset + words[-1].end, begun + 1))
    return marks
