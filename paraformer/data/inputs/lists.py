"""Lists of recordings: tables `id source`, JSON, and Kaldi segments. They are read line by line, as
often as they are asked for, so that a list of millions begins at once and is not held in memory.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paraformer.data.audio import cloud
from paraformer.data.audio.channels import MIX
from paraformer.data.corpus.ids import URL, distinct_keys
from paraformer.data.corpus.segments import parse_place, wrong_place
from paraformer.data.corpus.tables import iter_lines, iter_rows
from paraformer.data.inputs.audio_items import Item, Segment, named, taken
from paraformer.data.inputs.manifests import foreign_item, is_foreign
from paraformer.documents import parse_json
from paraformer.errors import DataError
from paraformer.limits import RATE

TABLES = (".scp", ".txt", ".text")
JSON = (".json", ".jsonl")
PACKED = ".gz"  # behind the name of a list of JSON, as lhotse writes it
_OWN_KEYS = {"key", "source", "fs"}
# Keys that lists to train with have besides; `text` and others are those of newer ones.
_KNOWN_KEYS = _OWN_KEYS | {
    *("source_len", "target", "target_len", "text", "text_language", "text_len", "speech_length"),
    *("emo_target", "event_target", "with_or_wo_itn", "prompt", "hotword"),
}
_SEPARATOR = re.compile(r"[/\\]")


# The name of an entry: the id that it has, "" before the path that gives it one.
Name = tuple[str, str]


# An item that is made when it is wanted: what is finished never is.
Later = tuple[Name, Callable[[], Item]]


class Entry(NamedTuple):
    """An entry of a list file; its place is not looked for before it is wanted."""

    line: int
    key: str
    path: str  # see `Name`
    source: Any
    fs: int | None = None  # see `Item`, as are these
    segment: Segment | None = None
    channel: str | int = MIX


class ListFile(ABC):
    """A file that lists recordings; each line is an item, in order.

    An id that stands a second time is refused, the first is kept.
    """

    def __init__(self, path: Path, shown: str = "") -> None:
        """shown: its name in messages, where that is not its path."""
        self.path, self.shown = path, shown or str(path)
        self.fetched: cloud.Copy | None = None  # of a list at an address
        # Hashes of ids that stand more than once: ids themselves would be ten times as much.
        self._repeated: frozenset[int] = frozenset()

    def names(self) -> Iterator[Name]:
        """The names of the entries; this pass also finds which ids are repeated."""
        hashes = array("q")
        for _, key, path, *_ in self.entries():
            if not path:
                hashes.append(hash(key))
            yield key, path
        self._repeated = _repeated(hashes)

    def items(self) -> Iterator[Later]:
        """The entries, after one pass of `names`; a file is looked for when its item is made."""
        for entry, error in self.checked():
            if error is None:
                yield (entry.key, entry.path), partial(self.item, entry)
            else:
                yield (entry.key, ""), partial(Item, entry.key, error)

    def checked(self) -> Iterator[tuple[Entry, DataError | None]]:
        """The entries, each with the error of one whose id has stood before."""
        first: dict[str, int] = {}
        for entry in self.entries():
            line, key, path, *_ = entry
            known = line
            if not path and self._repeated and hash(key) in self._repeated:
                known = first.setdefault(key, line)
            yield entry, None if known == line else self._twice(line, key, known)

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """The entries as they stand there."""

    @abstractmethod
    def item(self, entry: Entry) -> Item:
        """The item of an entry."""

    def _twice(self, line: int, key: str, first: int) -> DataError:
        where = f"{self.shown}:{line}"
        return DataError(f"{where}: id '{key}' stands already in line {first}; give it another")

    def _no_command(self, entry: Entry, where: str) -> DataError:
        place = f"{self.shown}:{entry.line}"
        return DataError(f"{place}: a command is run only from a list of lines {where}")

    def locate(self, source: str) -> str:
        """A relative path counts from the current folder, as in Kaldi; else from the list's."""
        if source.endswith("|") or URL.match(source) or os.path.exists(source):
            return source
        if self.fetched is not None:
            return source if os.path.isabs(source) else self.fetched.beside(source)
        beside = self.path.parent / source
        place = re.sub(r":\d+(\[[\d:,]*\])?$", "", str(beside))
        return str(beside) if os.path.isfile(place) else source


def _repeated(hashes: array[int]) -> frozenset[int]:
    ordered = np.sort(np.array(hashes, dtype=np.int64))
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


class TableFile(ListFile):
    """Lines `id source` or `source`; a file name with blanks may stand alone too.

    trusted: whether commands run: who names such a list owns it; a pattern may find any.
    """

    def __init__(self, path: Path, trusted: bool = True) -> None:
        super().__init__(path)
        self.trusted = trusted
        self._spaced = _SpacedNames(".", str(path.parent))

    def entries(self) -> Iterator[Entry]:
        """See `ListFile`."""
        for line, key, value in iter_rows(self.path, self.shown):
            if value and not self._is_one_name(key, value):
                yield Entry(line, key, "", value)
            else:
                alone = f"{key} {value}" if value else key
                yield Entry(line, "", alone, alone)

    def _is_one_name(self, key: str, value: str) -> bool:
        """Whether a line is the name of a file with a blank in it rather than an id and a file."""
        if not self._spaced.may_hold(key, value):
            return False
        alone = self.locate(f"{key} {value}")
        return not os.path.exists(self.locate(value)) and os.path.isfile(alone)

    def item(self, entry: Entry) -> Item:
        """See `ListFile`."""
        source: Any = self.locate(entry.source)
        if not self.trusted and source.rstrip().endswith("|"):
            named_one = "that is named, not of one that a pattern finds; name it"
            far = "that lies on this machine; copy it here"
            source = self._no_command(entry, named_one if self.fetched is None else far)
        if entry.path:
            return named(entry.path, source, from_list=self.trusted)
        return Item(entry.key, source, from_list=self.trusted)


class _SpacedNames:
    """The names with blanks in some folders, each read once: one look at the file system for each
    line would take longer than all else.
    """

    def __init__(self, *places: str) -> None:
        self._places = places
        self._known: dict[str, frozenset[str]] = {"": self._read("")}

    def may_hold(self, key: str, value: str) -> bool:
        """Whether one of the places may have a path `key value`; False is certain."""
        before, name = os.path.split(key) if _SEPARATOR.search(key) else ("", key)
        if before not in self._known:
            self._known[before] = self._read(before)
        names = self._known[before]
        return bool(names) and _folded(f"{name} {_SEPARATOR.split(value, 1)[0]}") in names

    def _read(self, folder: str) -> frozenset[str]:
        return frozenset().union(
            *(_names_with_blanks(os.path.join(place, folder)) for place in self._places)
        )


def _names_with_blanks(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {_folded(entry.name) for entry in entries if " " in entry.name}
    except (OSError, ValueError):
        return set()


def _folded(name: str) -> str:
    """A name as file systems that know no case, or another form of accents, compare it."""
    return unicodedata.normalize("NFC", name).casefold()


class JsonFile(ListFile):
    """A JSON list, a JSON object of ids, or one JSON value (or `id source`) a line.

    Such a file may come from others, so it runs no commands.
    """

    def entries(self) -> Iterator[Entry]:
        """See `ListFile`."""
        for line, value in self._values():
            item = from_object(value, f"{self.shown}:{line}")
            key = "" if item.path else item.key
            told = item.fs, item.segment, item.channel
            yield Entry(line, key, item.path, item.source, *told)

    def item(self, entry: Entry) -> Item:
        """See `ListFile`."""
        _, key, path, source, fs, segment, channel = entry
        if isinstance(source, str):
            source = self.locate(source)
            source = sys.intern(source) if segment else source  # see `Cache`
            if source.rstrip().endswith("|"):
                source = self._no_command(
                    entry, "`id command |`, never from JSON; write such a list"
                )
        item = named(path, source) if path else Item(key, source)
        return replace(item, fs=fs, segment=segment, channel=channel)

    def _values(self) -> Iterator[tuple[int, object]]:
        """Pairs (line, value) of JSON lines, or of the entries of one JSON document."""
        lines = self._lines()
        first = list(islice(lines, 2))
        # A line behind a whole value: these are JSON lines.
        if len(first) < 2 or not _is_json(first[0][1]):
            whole = _document("\n".join(line for _, line in self._lines()))
            if whole is not None:
                yield from enumerate(whole, 1)
                return
        for number, line in chain(first, lines):
            yield number, _parse(line)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank."""
        for number, line in iter_lines(self.path, self.shown):
            text = line.strip("\ufeff \t\r\n")
            if text:
                yield number, text


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _document(text: str) -> list[object] | None:
    """The entries of a JSON document, None for what is none."""
    try:
        whole = parse_json(text)
    except ValueError:
        return None
    if isinstance(whole, dict) and "source" not in whole and not is_foreign(whole):
        return [{"key": key, "source": source} for key, source in whole.items()]
    return whole if isinstance(whole, list) else [whole]


def _parse(line: str) -> object:
    """A line of JSON; in a .json file of the reference it may be `id source` as well."""
    try:
        return parse_json(line)
    except ValueError:
        if line[0] in '{["':
            return None
        key, _, source = line.replace("\t", " ").partition(" ")
        return {"key": key, "source": source.strip()} if source.strip() else key


def from_object(value: object, where: str) -> Item:
    """An item of `{"key": ..., "source": ...}`, or of a source alone."""
    if isinstance(value, str) and value.strip():
        return named(value, value)
    if (foreign := foreign_item(value, where)) is not None:
        return foreign
    if not isinstance(value, Mapping) or "source" not in value:
        remedy = "give the array alone, its rate as fs" if _is_array(value) else "mend this entry"
        return Item(where, DataError(f'{where}: not {{"key": ..., "source": ...}}; {remedy}'))
    key, fs = value.get("key"), value.get("fs")
    key = "" if key is None else str(key)
    if wrong := _wrong_entry(value):
        return Item(key or where, DataError(f"{where}: {wrong}"))
    source, own = taken(value["source"])
    item = named(source, source) if isinstance(source, str) and not key else Item(key, source)
    return replace(item, fs=fs if own is None else own)


def _wrong_entry(value: Mapping[str, Any]) -> str:
    """The fault of the keys beside `source`, "" if there is none."""
    for name in value:
        if name not in _KNOWN_KEYS:
            listed = ", ".join(sorted(_OWN_KEYS))
            return f"unknown key '{name}'; an entry has {listed}, and of a training list its text"
    fs = value.get("fs")
    return "" if fs is None or RATE.allow(fs) else f"fs={fs!r}; give {RATE}"


def _is_array(value: object) -> bool:
    """Whether an object is `{"array": ..., "sampling_rate": ...}`, as data sets have."""
    return isinstance(value, Mapping) and isinstance(value.get("array"), np.ndarray)


class SegmentsFile(ListFile):
    """Stretches of the recordings of a list, by a Kaldi segments file: `utterance recording start
    end [channel]`, end -1: to the end, channels counted from 0.
    """

    def __init__(self, path: Path, recordings: ListFile) -> None:
        super().__init__(path)
        self.recordings = recordings
        self._by_key: dict[str, tuple[Entry, DataError | None]] = {}
        self._last: tuple[str, Item] | None = None

    def entries(self) -> Iterator[Entry]:
        """See `ListFile`."""
        return (Entry(row.line, row.key, "", row.value) for row in iter_rows(self.path))

    def items(self) -> Iterator[Later]:
        """See `ListFile`."""
        names = list(self.recordings.names())
        given = [key for key, path in names if not path]
        own = iter(distinct_keys([path for _, path in names if path], given))
        for entry, error in self.recordings.checked():
            key = next(own) if entry.path else entry.key
            self._by_key.setdefault(key, (entry, error))
        return super().items()

    def item(self, entry: Entry) -> Item:
        """See `ListFile`."""
        line, key, _, value, *_ = entry
        where, wrong = f"{self.path}:{line}", wrong_place(value)
        if wrong:
            return Item(key, DataError(f"{where}: {wrong}; mend this line"))
        name, start, end, channel = parse_place(value)
        if name not in self._by_key:
            return Item(key, DataError(f"{where}: no recording '{name}' in the list; add it"))
        own, segment = MIX if channel is None else channel, Segment(start, end)
        whole = self._recording(name)
        return replace(whole, key=key, path="", recording=name, segment=segment, channel=own)

    def _recording(self, name: str) -> Item:
        """A recording as one item for all its segments in a row, which then read it once."""
        if self._last is None or self._last[0] != name:
            entry, error = self._by_key[name]
            item = self.recordings.item(entry) if error is None else Item(name, error)
            self._last = (name, item)
        return self._last[1]
