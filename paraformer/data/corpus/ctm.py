"""Reads a `ctm` of a data directory, the known times of words, which teach when tokens begin.

Any aligner may have written it (`key channel begin duration word [confidence]`, NIST's CTM), or
a program that knows where the clips of a recording begin. Keys are utterances, or recordings under
the names that Kaldi's get_ctm gives them, whose words `segments` shares out.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.companions import COMMENT
from paraformer.data.corpus.origins import Origins
from paraformer.data.corpus.segments import Place, read_places
from paraformer.data.corpus.tables import Row, fields, read_rows
from paraformer.errors import DataError

log = logging.getLogger(__name__)

# Start and end in seconds, and text.
Spoken = tuple[float, float, str]
WordTimes = dict[str, list[Spoken]]
# Other names of channels in NIST's tables.
_CHANNELS = {"A": "1", "B": "2"}


class TimedWord(NamedTuple):
    """A word, or a whole phrase of which only the ends are known."""

    start: float  # seconds
    end: float
    tokens: int


class Mark(NamedTuple):
    """The number of tokens that have begun at a time; past the last token their end counts."""

    seconds: float
    begun: int


def read_ctm(path: str | Path) -> WordTimes:
    """Key -> start and end in seconds and text of each word, in the order of time."""
    return ctm_words(read_rows(path), str(path))


def ctm_words(rows: Sequence[Row], name: str) -> WordTimes:
    """The words of rows, as `read_ctm` gives them; errors call the rows `name`."""
    words: WordTimes = defaultdict(list)
    for key, _, spoken in _lines(rows, name):
        words[key].append(spoken)
    return {key: sorted(found) for key, found in words.items()}


def _lines(rows: Sequence[Row], name: str) -> Iterator[tuple[str, str, Spoken]]:
    """Key, channel and word of each line that is no comment."""
    for row in rows:
        if row.key.startswith(COMMENT):
            continue
        try:
            channel, begin, duration, word, *_ = fields(row.value)
            start, length = float(begin), float(duration)
        except ValueError:
            start = length = math.nan
        if not (0 <= start < math.inf and 0 <= length < math.inf):
            raise DataError(
                f"{name}:{row.line}: '{row.key} {row.value}' is no line of a CTM; give "
                "`key channel begin duration word`, times in seconds"
            )
        yield row.key, channel, (start, start + length, word)


def read_times(folder: Path, utterances: Collection[str]) -> WordTimes:
    """The words in the `ctm` of a data directory by utterance, with times from where each begins;
    none where there is none. Keys that are neither utterances nor recordings are counted; if all
    are so, it is another directory's.
    """
    path = folder / "ctm"
    if not path.is_file():
        return {}
    of_utterances: WordTimes = defaultdict(list)
    of_recordings: dict[tuple[str, str], list[Spoken]] = defaultdict(list)
    for key, channel, spoken in _lines(read_rows(path), str(path)):
        if key in utterances:
            of_utterances[key].append(spoken)
        else:
            of_recordings[key, _CHANNELS.get(channel, channel)].append(spoken)
    times = {key: sorted(found) for key, found in of_utterances.items()}
    if of_recordings:
        places = _places(folder, utterances)
        for name in of_recordings.keys() & places.keys():
            for key, found in _shared_out(of_recordings[name], places[name]):
                times.setdefault(key, found)
        _report(path, sorted(of_recordings.keys() - places.keys()), bool(times))
        if not times:
            log.warning("%s: none of its words lies in an utterance", path)
    return times


def _places(
    folder: Path, utterances: Collection[str]
) -> dict[tuple[str, str], list[tuple[str, Place]]]:
    """File and channel of a recording -> its utterances, and where they lie."""
    segments = folder / "segments"
    own = read_places(segments) if segments.is_file() else {}
    origins = Origins([folder])
    found: dict[tuple[str, str], list[tuple[str, Place]]] = defaultdict(list)
    for key in utterances:
        place = own.get(key) or Place(key, 0.0, None)
        file, channel = origins.file_and_channel(place.recording, place.channel)
        found[file, _CHANNELS.get(channel, channel)].append((key, place))
    return found


def _shared_out(
    words: list[Spoken], places: Sequence[tuple[str, Place]]
) -> Iterator[tuple[str, list[Spoken]]]:
    """The words of a recording that each utterance has: those whose middle lies in it."""
    words = sorted(words, key=_middle)
    middles = [_middle(word) for word in words]
    for key, place in places:
        begin = bisect_left(middles, place.start)
        end = len(words) if place.end is None else bisect_left(middles, place.end)
        own = [(max(0.0, a - place.start), b - place.start, w) for a, b, w in words[begin:end]]
        if own:
            yield key, sorted(own)


def _middle(word: Spoken) -> float:
    return (word[0] + word[1]) / 2


def _report(path: Path, unknown: Sequence[tuple[str, str]], used: bool) -> None:
    """Say which keys are of nothing here."""
    if not unknown:
        return
    (name, channel), more = unknown[0], len(unknown) - 1
    what = f"{path}: '{name} {channel}'" + (f" and {more} more are" if more else " is")
    what += " of no utterance and no recording"
    if not used:
        raise DataError(
            f"{what} of {path.parent}; give the ids of its utterances, or of its recordings with "
            "segments and, if they have other names, reco2file_and_channel"
        )
    log.warning("%s here: their words are not used", what)


def report_unfit(folder: Path, keys: Sequence[str]) -> None:
    """Say which utterances have other words in the ctm than in the text."""
    if keys:
        log.warning(
            "%s: the words of %d utterances are not their text, first '%s': they have no times",
            *(folder / "ctm", len(keys), keys[0]),
        )


def timed_words(
    table: Mapping[str, Sequence[Spoken]],
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
