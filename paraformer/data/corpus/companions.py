"""Files that stand in a data directory beside the tables that are checked: a ctm, an stm, units of
a text, tables of others. They are carried with the utterances, recordings or speakers they are of.

Standard library only: the programs in `utils/` start with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.checks import KNOWN_TABLES, entry_file, keyed_by_utterance
from paraformer.data.corpus.tables import Row, fields, read_rows
from paraformer.errors import DataError

DROPPED = "dropped.txt"  # ids that were taken away, and why
UTTERANCE, RECORDING, SPEAKER, WHOLE = "utterance", "recording", "speaker", "whole"
# What rows of these are of, whichever ids stand there.
_KINDS = {"text_units": UTTERANCE, "glm": WHOLE, "frame_shift": WHOLE}
_PREFIXES = {"utt2": UTTERANCE, "reco2": RECORDING, "spk2": SPEAKER}
_TIMED = ("ctm", "stm")  # of recordings by any of their names, or of utterances
COMMENT = ";;"
_ARCHIVES = (".ark", ".gz")  # scp files say where they are
Rows = Sequence[Row]


class Ids(NamedTuple):
    """The names that stand in the tables of a directory."""

    utterances: Collection[str]
    recordings: Collection[str]
    files: Collection[str]  # of recordings, in NIST's tables
    speakers: Collection[str]

    @classmethod
    def of(cls, tables: Mapping[str, Mapping[str, str]]) -> Ids:
        """Those of some tables."""
        utterances = {key for name in keyed_by_utterance(tables) for key in tables[name]}
        recordings = utterances
        if "segments" in tables:
            places = map(fields, tables["segments"].values())
            recordings = {place[0] for place in places if place} | {*tables.get("wav.scp", ())}
        named = map(fields, tables.get("reco2file_and_channel", {}).values())
        speakers = {*tables.get("utt2spk", {}).values(), *tables.get("spk2utt", ())}
        return cls(utterances, recordings, {name[0] for name in named if name}, speakers)

    def by(self, kind: str) -> Collection[str]:
        """The ids of one kind."""
        return {UTTERANCE: self.utterances, RECORDING: self.recordings, SPEAKER: self.speakers}[
            kind
        ]


class Companion(NamedTuple):
    """A file and what its rows are of."""

    kind: str
    rows: Rows

    def chosen(self, ids: Ids) -> list[Row]:
        """The rows of what is in a directory; comments stay."""
        if self.kind == WHOLE:
            return list(self.rows)
        wanted = {*ids.by(self.kind), *(ids.files if self.kind == RECORDING else ())}
        return [row for row in self.rows if row.key in wanted or is_comment(row)]

    def renamed(self, names: Mapping[str, Callable[[str], str]]) -> list[Row]:
        """The rows with other ids; names: of each kind, how an id is changed."""
        change = names.get(self.kind)
        if change is None:
            return list(self.rows)
        return [r if is_comment(r) else r._replace(key=change(r.key)) for r in self.rows]


def is_comment(row: Row) -> bool:
    """Whether a line of a ctm or an stm is one."""
    return row.key.startswith(COMMENT)


def read_companions(
    folder: Path, tables: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, Companion], list[str]]:
    """The files of a directory that can be carried with its tables, and the names of others."""
    ids, found, others = Ids.of(tables), dict[str, Companion](), list[str]()
    for path in _files(folder):
        try:
            rows = read_rows(path)
        except DataError:  # no text, so no table
            continue
        kind = _kind(path.name, rows, ids)
        if kind:
            found[path.name] = Companion(kind, rows)
        elif rows:
            others.append(path.name)
    named = _named(tables) if others else set()
    return found, [name for name in others if os.path.abspath(folder / name) not in named]


def _named(tables: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The files that the tables name, which are no tables."""
    entries = [value for name in tables if name.endswith(".scp") for value in tables[name].values()]
    return {os.path.abspath(entry_file(entry)[0]) for entry in entries}


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") or path.suffix in _ARCHIVES
        if path.is_file() and not hidden and path.name not in (*KNOWN_TABLES, DROPPED):
            yield path


def _kind(name: str, rows: Rows, ids: Ids) -> str:
    """The kind of thing that the rows of a file are of, "" where nobody can tell."""
    keys = {row.key for row in rows if not is_comment(row)}
    if name in _TIMED:
        return UTTERANCE if keys & {*ids.utterances} else RECORDING
    known = _KINDS.get(name) or next((_PREFIXES[p] for p in _PREFIXES if name.startswith(p)), "")
    if known or not keys:
        return known
    kinds = (UTTERANCE, RECORDING, SPEAKER)
    return next((kind for kind in kinds if keys <= {*ids.by(kind)}), "")


def format_rows(rows: Iterable[Row]) -> str:
    """The lines of some rows, in their order."""
    return "".join(f"{row.key} {row.value}".rstrip(" \t\r") + "\n" for row in rows)


def joined(files: Sequence[Companion]) -> tuple[list[Row], str]:
    """The rows of several files of one name; and an id of which they say different things."""
    rows: list[Row] = []
    told: dict[str, list[str]] = {}
    for file in files:
        own: dict[str, list[str]] = {}
        for row in file.rows:
            own.setdefault(row.key, []).append(row.value)
        for key, values in own.items():
            if told.get(key, values) != values and not key.startswith(COMMENT):
                return [], key
        rows += [row for row in file.rows if row.key not in told]
        told = {**own, **told}
    return rows, ""
