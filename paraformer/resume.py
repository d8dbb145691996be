"""A run that was stopped goes on: which lines of its tables stay, and in what order they end up."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

FAILED = "failed"
BLANKS = r"[ \t\r\n]+"  # other blanks, such as U+3000, separate nothing in a Kaldi table


def row_id(key: str) -> str:
    """An id as it stands in a Kaldi table: blanks become `_`, so that the first blank ends it.

    >>> row_id("a b")
    'a_b'
    """
    return re.sub(BLANKS, "_", key)


class _Line(NamedTuple):
    """A whole line of a table: its id, and where it stands in the file."""

    key: bytes
    start: int
    size: int


class Finished:
    """The utterances that an earlier run of the same work has finished in a folder of tables.

    whole: the tables in which each of them has one line. others: those in which it has any number,
    written before those of `whole`. What stands in `failed`, and what the last kill left by halves,
    is not finished: it leaves all tables. Only ids are held in memory.
    """

    def __init__(self, folder: Path, whole: Sequence[str], others: Sequence[str] = ()) -> None:
        self._tables = [folder / name for name in (*whole, *others, FAILED)]
        counts = [Counter(line.key for line in _lines(folder / name)) for name in whole]
        left = counts[0]
        for other in counts[1:]:
            left &= other
        for line in _lines(folder / FAILED):
            left.pop(line.key, None)
        for name in whole:
            _keep(folder / name, left.copy())
        for name in others:
            _keep(folder / name, Counter(dict.fromkeys(left, _ALL)))
        # Last: without it what has failed would pass for finished.
        _keep(folder / FAILED, Counter())
        self._left = left

    def take(self, key: str) -> bool:
        """Whether the utterance of this id is finished; one that stands there once is so once."""
        place = _encoded(row_id(key))
        self._left[place] -= 1
        return self._left[place] >= 0

    def sort(self, keys: Iterable[str]) -> None:
        """Bring the lines of all tables into the order of these ids; others stay in front."""
        places: dict[bytes, list[int]] = defaultdict(list)
        for place, key in enumerate(keys):
            places[_encoded(row_id(key))].append(place)
        for path in self._tables:
            _sort(path, places)


_ALL = 1 << 62


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "backslashreplace")


def _lines(path: Path) -> Iterator[_Line]:
    """The lines of a table that are whole; none where it is not there."""
    if not path.is_file():
        return
    start, find = 0, _key_of_object if path.suffix == ".jsonl" else _key_of_row
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _Line(find(line), start, len(line))
            start += len(line)


def _key_of_row(line: bytes) -> bytes:
    return line.rstrip(b"\n").split(b" ", 1)[0]


def _key_of_object(line: bytes) -> bytes:
    """The `key` of a JSON object as it stands in a table; none of what is no such object."""
    try:
        return _encoded(row_id(str(json.loads(line)["key"])))
    except (ValueError, KeyError, TypeError):
        return b""


def _keep(path: Path, most: Counter[bytes]) -> None:
    """Only the lines of some ids, so many of each; `most` is used up."""
    if path.is_file():
        _rewrite(path, (line for line in _lines(path) if _counts(line.key, most)))


def _counts(key: bytes, most: Counter[bytes]) -> bool:
    most[key] -= 1
    return most[key] >= 0


def _sort(path: Path, places: dict[bytes, list[int]]) -> None:
    seen: defaultdict[bytes, count[int]] = defaultdict(count)
    placed = []
    for line in _lines(path):
        of_key = places.get(line.key, [-1])
        placed.append((of_key[min(next(seen[line.key]), len(of_key) - 1)], line))
    if any(a > b for (a, _), (b, _) in zip(placed, placed[1:], strict=False)):
        placed.sort(key=lambda pair: pair[0])
        _rewrite(path, (line for _, line in placed))


def _rewrite(path: Path, lines: Iterable[_Line]) -> None:
    """These lines of a file in place of all, at once or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    with path.open("rb") as old, draft.open("wb") as new:
        for line in lines:
            new.write(_read(old, line))
    draft.replace(path)


def _read(file: BinaryIO, line: _Line) -> bytes:
    file.seek(line.start)
    return file.read(line.size)
