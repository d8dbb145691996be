"""A run that was stopped goes on: which lines of its tables stay, and in what order they end up."""

from __future__ import annotations

import json
import logging
import re
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from operator import le
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from paraformer.documents import parse_json
from paraformer.errors import ConfigError
from paraformer.files import replacing

log = logging.getLogger(__name__)

FAILED = "failed"
# Options of records that were written before these were in them.
IMPLIED = {"dtype": "fp32"}
MADE_WITH = "made_with.json"
BLANKS = r"[ \t\r\n]+"  # other blanks, such as U+3000, separate nothing in a Kaldi table


def row_id(key: str) -> str:
    """An id as it stands in a Kaldi table: blanks become `_`, so that the first blank ends it.

    >>> row_id("a b")
    'a_b'
    """
    return re.sub(BLANKS, "_", key)


class Made(NamedTuple):
    """The record of what results were made with, as it stands beside them: options with their
    values, those at their defaults left out but for the number format; and where the models were,
    which is not compared.
    """

    options: dict[str, Any]
    places: dict[str, str]

    def write(self, folder: Path, name: str = MADE_WITH) -> None:
        """Say it in a folder of results, in a file of that name."""
        text = json.dumps({**self._asdict()}, ensure_ascii=False, indent=1, sort_keys=True)
        with replacing(folder / name) as draft:
            draft.write_text(text + "\n", encoding="utf-8", errors="backslashreplace", newline="\n")

    @staticmethod
    def read(folder: Path, name: str = MADE_WITH) -> Made | None:
        """The record of a folder, None where it has none."""
        try:
            told = parse_json((folder / name).read_text(encoding="utf-8"))
            return Made(dict(told["options"]), dict(told["places"]))
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def refuse_other(self, folder: Path, whole: Sequence[str], name: str = MADE_WITH) -> None:
        """Refuse to go on with what was made with anything else; whole: as of `Finished`."""
        if not any(finished_keys(folder, whole).values()):
            return
        there = self.read(folder, name)
        if there is None:
            log.warning(
                "%s: does not say what its results were made with (%s); those that are there stay",
                *(folder, name),
            )
            return
        said = self.differences(there)
        if said:
            raise ConfigError(
                f"{folder}: its results were made otherwise ({said}), and one table would mix "
                "both; give another folder, or begin anew with resume=false"
            )

    def differences(self, there: Made) -> str:
        """How another record differs from this one, "" if it does not."""
        mine = IMPLIED | json.loads(json.dumps(self.options, ensure_ascii=False))
        others = IMPLIED | there.options
        names = sorted(mine.keys() | others.keys())
        other = [name for name in names if mine.get(name) != others.get(name)]
        said = "; ".join(
            f"{name} was {there._said(name)}, is {self._said(name)}" for name in other[:3]
        )
        return said + (f" and {len(other) - 3} more" if len(other) > 3 else "")

    def _said(self, name: str) -> str:
        value = json.dumps(
            self.options.get(name, IMPLIED.get(name, "not given")), ensure_ascii=False
        )
        place = self.places.get(name)
        return f"{value} ({place})" if place else value


class Line(NamedTuple):
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
        left = finished_keys(folder, whole)
        for name in whole:
            _keep(folder / name, left.copy())
        for name in others:
            _keep(folder / name, Counter(dict.fromkeys(left, _ALL)))
        # Last: without it what has failed would pass for finished.
        _keep(folder / FAILED, Counter())
        self._left = left
        self._count = sum(left.values())

    def __len__(self) -> int:
        """How many there were."""
        return self._count

    def take(self, key: str) -> bool:
        """Whether the utterance of this id is finished; one that stands there once is so once."""
        place = encoded(key)
        self._left[place] -= 1
        return self._left[place] >= 0

    def sort(self, keys: Iterable[str]) -> None:
        """Bring the lines of all tables into the order of these ids; others stay in front."""
        sort_tables(self._tables, keys)


_ALL = 1 << 62


def sort_tables(tables: Iterable[Path], keys: Iterable[str]) -> None:
    """Bring the lines of tables into the order of these ids; others stay in front."""
    first: dict[bytes, int] = {}
    later: dict[bytes, list[int]] = {}  # of ids that stand more than once
    for place, key in enumerate(keys):
        known = first.setdefault(encoded(key), place)
        if known != place:
            later.setdefault(encoded(key), []).append(place)
    for path in tables:
        _sort(path, first, later)


def finished_keys(folder: Path, whole: Sequence[str]) -> Counter[bytes]:
    """The ids that have a line in each of these tables, and how many, less what has failed."""
    counts = [Counter(line.key for line in table_lines(folder / name)) for name in whole]
    left = counts[0]
    for other in counts[1:]:
        left &= other
    for line in table_lines(folder / FAILED):
        left.pop(line.key, None)
    return left


def encoded(key: str) -> bytes:
    """An id as the bytes that stand in a table."""
    return row_id(key).encode("utf-8", "backslashreplace")


def table_lines(path: Path) -> Iterator[Line]:
    """The lines of a table that are whole; none where it is not there."""
    if not path.is_file():
        return
    start, find = 0, _key_of_object if path.suffix == ".jsonl" else _key_of_row
    find = _key_of_turn if path.name == "rttm" else find
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield Line(find(line), start, len(line))
            start += len(line)


def _key_of_row(line: bytes) -> bytes:
    return line.rstrip(b"\n").split(b" ", 1)[0]


def _key_of_turn(line: bytes) -> bytes:
    """The file of `SPEAKER file channel ...`."""
    return line.split(b" ", 2)[1] if line.count(b" ") > 1 else b""


def _key_of_object(line: bytes) -> bytes:
    """The `key`, or the `id`, of a JSON object as it stands in a table; none of what is no such
    object.
    """
    try:
        told = parse_json(line)
        return encoded(str(told["key"] if "key" in told else told["id"]))
    except (ValueError, KeyError, TypeError):
        return b""


def _keep(path: Path, most: Counter[bytes]) -> None:
    """Only the lines of some ids, so many of each; `most` is used up."""
    if path.is_file():
        _rewrite(path, (line for line in table_lines(path) if _counts(line.key, most)))


def _counts(key: bytes, most: Counter[bytes]) -> bool:
    most[key] -= 1
    return most[key] >= 0


def _sort(path: Path, first: dict[bytes, int], later: dict[bytes, list[int]]) -> None:
    """By the place of each id; a further line of one that stands more than once has the next."""
    waiting = {key: deque(places) for key, places in later.items()}
    known = set[bytes]()
    places, starts, sizes = array("q"), array("q"), array("q")
    for key, start, size in table_lines(path):
        place = first.get(key, -1)
        if key in waiting and key not in known:
            known.add(key)
        elif waiting.get(key):
            place = waiting[key].popleft() if len(waiting[key]) > 1 else waiting[key][0]
        places.append(place)
        starts.append(start)
        sizes.append(size)
    if all(map(le, places, places[1:])):
        return
    order = sorted(range(len(places)), key=places.__getitem__)
    _rewrite(path, (Line(b"", starts[n], sizes[n]) for n in order))


def _rewrite(path: Path, lines: Iterable[Line]) -> None:
    """These lines of a file in place of all, at once or not at all."""
    with replacing(path) as draft, path.open("rb") as old, draft.open("wb") as new:
        for line in lines:
            new.write(_read(old, line))


def _read(file: BinaryIO, line: Line) -> bytes:
    file.seek(line.start)
    return file.read(line.size)
