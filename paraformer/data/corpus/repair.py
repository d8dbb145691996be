"""Mends the tables of a data directory so that they fit each other."""

from __future__ import annotations

import filecmp
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.checks import (
    KNOWN_TABLES,
    SPEAKER_TABLES,
    UTTERANCE_TABLES,
    Tables,
    in_any,
    keyed_by_utterance,
    wrong_value,
)
from paraformer.data.corpus.companions import Ids, read_companions, row_lines
from paraformer.data.corpus.tables import invert, revert, write_table, write_text
from paraformer.errors import DataError

# An incomplete one of the others goes; of these the utterances go that one of them lacks.
_DECIDING = (*UTTERANCE_TABLES, "spk2utt")


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


def write_mended(draft: Path, folder: Path, tables: Tables, kept: set[str]) -> list[str]:
    """Write into `draft` those files of the mended directory that differ from the ones in `folder`;
    returns the names of all that it has.
    """
    ids, names = Ids(kept), list[str]()
    for name, table in _with_speakers(tables):
        keys = ids.of_table(name)
        # Without utt2spk the speakers are not known.
        chosen = {k: table[k] for k in table.keys() & keys} if keys else table
        ids.learn(name, chosen.items())
        if name not in _DECIDING and _is_stale(name, chosen, keys):
            continue
        names.append(name)
        write_table(draft / name, chosen)
        if name == "utt2spk":
            names.append("spk2utt")
            write_table(draft / "spk2utt", invert(chosen))
    for name, file in read_companions(folder, tables)[0].items():
        rows = sum(1 for _ in file.rows())
        if sum(1 for _ in file.chosen(ids)) < rows:
            names.append(name)
            write_text(draft / name, row_lines(file.chosen(ids)))
    for name in names:
        if (folder / name).exists() and filecmp.cmp(draft / name, folder / name, shallow=False):
            (draft / name).unlink()
    return names


def _with_speakers(tables: Tables) -> Iterator[tuple[str, dict[str, str]]]:
    """The tables one after another, each with the first of its rows of an id; less spk2utt, which
    is made of utt2spk, or makes it where it tells all, else no table of speakers is right.
    """
    left_out: tuple[str, ...] = ("spk2utt",)
    if "utt2spk" not in tables and "spk2utt" in tables:
        speakers = _reverted({row.key: row.value for row in tables["spk2utt"].first_rows()})
        if in_any([tables[n].ids for n in keyed_by_utterance(tables)]) <= speakers.keys():
            yield "utt2spk", speakers
        else:
            left_out = SPEAKER_TABLES
    for name, table in tables.items():
        if name not in left_out:
            yield name, {row.key: row.value for row in table.first_rows()}


def _reverted(spk2utt: Mapping[str, str]) -> dict[str, str]:
    try:
        return revert(spk2utt)
    except DataError:
        return {}


def _is_stale(name: str, table: Mapping[str, str], ids: set[str]) -> bool:
    """Whether a table beside others lacks one of their ids, or holds nonsense."""
    return not table or len(table) < len(ids) or any(wrong_value(name, v) for v in table.values())


def save_old(folder: Path, names: list[str]) -> Path:
    """Copy the known tables and these files to the next free folder: `.backup/1`, `.backup/2`, …;
    an older one is never touched.
    """
    home = folder / ".backup"
    number = 1 + max((int(p.name) for p in home.glob("*") if p.name.isdecimal()), default=0)
    backup = home / str(number)
    backup.mkdir(parents=True)
    for name in dict.fromkeys((*KNOWN_TABLES, *names)):
        if (folder / name).exists():
            shutil.copy2(folder / name, backup / name)
    return backup
