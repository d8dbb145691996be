"""Mends the tables of a data directory so that they fit each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.checks import (
    SPEAKER_TABLES,
    keyed_by_utterance,
    side_tables,
    wrong_value,
)
from paraformer.data.corpus.tables import revert
from paraformer.errors import DataError

Tables = dict[str, dict[str, str]]


class Repair(NamedTuple):
    """A report of what `DataDir.fix` did."""

    kept: int
    dropped: dict[str, str]  # utterance -> reason
    rewritten: list[str]
    removed: list[str]  # tables that were stale; made again when needed
    backup: Path | None  # None: nothing had to be changed

    def counts(self) -> dict[str, int]:
        """Reason to number of dropped utterances, the most frequent first."""
        return dict(Counter(self.dropped.values()).most_common())


def with_speakers(tables: Tables) -> Tables:
    """With the utt2spk that spk2utt tells; without spk2utt where it does not tell all."""
    if "utt2spk" in tables or "spk2utt" not in tables:
        return tables
    try:
        speakers = revert(tables["spk2utt"])
    except DataError:
        speakers = {}
    if all(key in speakers for name in keyed_by_utterance(tables) for key in tables[name]):
        return {**tables, "utt2spk": speakers}
    return {name: table for name, table in tables.items() if name not in SPEAKER_TABLES}


def without_stale(tables: Tables) -> Tables:
    """Less the tables beside others that lack one of their ids or hold nonsense."""
    followed = dict(side_tables(tables))

    def is_stale(name: str, table: Mapping[str, str]) -> bool:
        lacking = name in followed and bool(followed[name].everywhere - table.keys())
        return not table or lacking or any(wrong_value(name, value) for value in table.values())

    deciding = {*keyed_by_utterance(tables), "wav.scp", "spk2utt"}
    return {k: table for k, table in tables.items() if k in deciding or not is_stale(k, table)}


def new_backup(folder: Path) -> Path:
    """The next free folder: `.backup/1`, `.backup/2`, …; an older backup is never touched."""
    number = 1 + max((int(p.name) for p in folder.glob("*") if p.name.isdecimal()), default=0)
    backup = folder / str(number)
    backup.mkdir(parents=True)
    return backup
