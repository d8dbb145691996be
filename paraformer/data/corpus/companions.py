"""Files that stand in a data directory beside the tables that are checked: a ctm, an stm, units of
a text, tables of others. They are carried with the utterances, recordings or speakers they are of.

They are read line by line, as often as they are wanted. Standard library only: the programs in
`utils/` start with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.checks import (
    KNOWN_TABLES,
    RECORDING_TABLES,
    SPEAKER_TABLES,
    Tables,
    entry_file,
    in_any,
    keyed_by_utterance,
)
from paraformer.data.corpus.tables import Row, fields, iter_rows
from paraformer.errors import DataError

DROPPED = "dropped.txt"  # ids that were taken away, and why
UTTERANCE, RECORDING, SPEAKER, WHOLE = "utterance", "recording", "speaker", "whole"
# Files whose rows are known to be of one kind, whichever ids stand there.
_KINDS = {"text_units": UTTERANCE, "glm": WHOLE, "frame_shift": WHOLE}
_PREFIXES = {"utt2": UTTERANCE, "reco2": RECORDING, "spk2": SPEAKER}
_TIMED = ("ctm", "stm")  # of recordings by any of their names, or of utterances
COMMENT = ";;"
_ARCHIVES = (".ark", ".gz")  # scp files say where they are
_LONGEST_LINE = 1 << 24  # bytes; a file that begins with a longer one is no table


class Ids:
    """Utterances, and the recordings, files of recordings (in NIST's tables) and speakers that the
    tables name for them: those are learned table by table, in the order of `KNOWN_TABLES`.
    """

    def __init__(self, utterances: set[str]) -> None:
        self.utterances = self.recordings = utterances
        self.files: set[str] = set()
        self.speakers: set[str] = set()

    @classmethod
    def of(cls, tables: Tables) -> Ids:
        """All ids that stand in the tables of a directory."""
        ids = cls(in_any([tables[name].ids for name in keyed_by_utterance(tables)]))
        for name in ("segments", "wav.scp", "utt2spk", "spk2utt", "reco2file_and_channel"):
            if name in tables:
                ids.learn(name, ((row.key, row.value) for row in tables[name].first_rows()))
        return ids

    def learn(self, name: str, rows: Iterable[tuple[str, str]]) -> None:
        """Note what the rows of a table, keys and values, tell of recordings and speakers."""
        if name == "segments":
            self.recordings = {place[0] for _, value in rows if (place := fields(value))}
        elif name == "wav.scp" and self.recordings is not self.utterances:
            self.recordings.update(key for key, _ in rows)
        elif name == "utt2spk":
            self.speakers.update(value for _, value in rows)
        elif name == "spk2utt":
            self.speakers.update(key for key, _ in rows)
        elif name == "reco2file_and_channel":
            self.files.update(named[0] for _, value in rows if (named := fields(value)))

    def of_table(self, name: str) -> set[str]:
        """The ids that a known table has as its keys."""
        if name in SPEAKER_TABLES:
            return self.speakers
        return self.recordings if name in RECORDING_TABLES else self.utterances

    def by(self, kind: str) -> set[str]:
        """The ids of one kind."""
        by_kind = {UTTERANCE: self.utterances, RECORDING: self.recordings, SPEAKER: self.speakers}
        return by_kind[kind]


class Companion(NamedTuple):
    """A file and what its rows are of."""

    kind: str
    path: Path

    def rows(self) -> Iterator[Row]:
        """All rows, read anew."""
        return iter_rows(self.path)

    def chosen(self, ids: Ids) -> Iterator[Row]:
        """The rows of what is in a directory; comments stay."""
        if self.kind == WHOLE:
            return self.rows()
        wanted, files = ids.by(self.kind), ids.files if self.kind == RECORDING else ()
        return (r for r in self.rows() if r.key in wanted or r.key in files or is_comment(r))

    def renamed(self, names: Mapping[str, Callable[[str], str]]) -> Iterator[Row]:
        """The rows with other ids; names: of each kind, how an id is changed."""
        change = names.get(self.kind)
        if change is None:
            return self.rows()
        return (r if is_comment(r) else r._replace(key=change(r.key)) for r in self.rows())


def is_comment(row: Row) -> bool:
    """Whether a line of a ctm or an stm is one."""
    return row.key.startswith(COMMENT)


def read_companions(folder: Path, tables: Tables) -> tuple[dict[str, Companion], list[str]]:
    """The files of a directory that can be carried with its tables, and the names of others."""
    found, others = dict[str, Companion](), list[Path]()
    files = list(_files(folder))
    ids = Ids.of(tables) if files else Ids(set())
    for path in files:
        try:
            kind, has_rows = _kind(path, ids)
        except DataError:  # no text, so no table
            continue
        if kind:
            found[path.name] = Companion(kind, path)
        elif has_rows:
            others.append(path)
    return found, _unnamed(others, tables)


def _unnamed(paths: Sequence[Path], tables: Tables) -> list[str]:
    """The names of files which no table names: archives and the like are no tables."""
    left = {os.path.abspath(path): path.name for path in paths}
    for name in tables:
        if name.endswith(".scp") and left:
            for row in tables[name].first_rows():
                left.pop(os.path.abspath(entry_file(row.value)[0]), None)
    return [*left.values()]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") or path.suffix in _ARCHIVES
        if path.is_file() and not hidden and path.name not in (*KNOWN_TABLES, DROPPED):
            yield path


def _kind(path: Path, ids: Ids) -> tuple[str, bool]:
    """The kind of thing that the rows of a file are of, "" where nobody can tell; and whether there
    are rows. Nothing is read of a file that begins with bytes that no text has, or an endless line.
    """
    with path.open("rb") as file:
        start = file.read(1 << 16)
        if b"\0" in start:
            return "", False
        if len(start + file.readline(_LONGEST_LINE)) >= _LONGEST_LINE:
            return "", True
    has_rows = has_keys = of_utterances = False
    fitting = [UTTERANCE, RECORDING, SPEAKER]
    for row in iter_rows(path):
        has_rows = True
        if not is_comment(row):
            has_keys = True
            of_utterances = of_utterances or row.key in ids.utterances
            fitting = [kind for kind in fitting if row.key in ids.by(kind)]
    if path.name in _TIMED:
        return UTTERANCE if of_utterances else RECORDING, has_rows
    known = _KINDS.get(path.name, "")
    known = known or next((_PREFIXES[p] for p in _PREFIXES if path.name.startswith(p)), "")
    return known or (fitting[0] if fitting and has_keys else ""), has_rows


def row_lines(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of some rows, in their order."""
    return (f"{row.key} {row.value}".rstrip(" \t\r") + "\n" for row in rows)


def joined(files: Sequence[Companion]) -> Iterator[Row]:
    """The rows of several files of one name; an id of which two say different things is an error.

    Rows of an id are compared by their hashes, so that they take no memory.
    """
    told: dict[str, int] = {}
    for file in files:
        own: dict[str, int] = {}
        for row in file.rows():
            own[row.key] = hash((own.get(row.key), row.value))
        for key, lines in own.items():
            if told.get(key, lines) != lines and not key.startswith(COMMENT):
                raise DataError(
                    f"{file.path}: '{key}' has other lines in another source; give the ids a "
                    "prefix with utils/copy_data_dir.py"
                )
        yield from (row for row in file.rows() if row.key not in told)
        told = {**own, **told}
