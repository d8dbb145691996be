"""Several Kaldi data directories become one.

Standard library only: `utils/combine_data.py` is a door to this module and starts at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paraformer.data.corpus.checks import KNOWN_TABLES, keyed_by_utterance
from paraformer.data.corpus.companions import WHOLE, Ids, joined
from paraformer.data.corpus.datadir import DataDir, Tables, write_data_dir
from paraformer.data.corpus.tables import Row
from paraformer.errors import DataError


def combine(destination: str | Path, sources: Sequence[DataDir]) -> list[str]:
    """One directory of several; returns the names of tables left out because a source lacks them.

    An id that two sources share must have the same entry in both. If only some sources have
    segments, the others get one segment a recording, which needs their utt2dur.
    """
    for source in sources:
        source.refuse_same(destination)
    segmented = any("segments" in source for source in sources)
    parts = [_with_segments(source) if segmented else source.tables for source in sources]
    parts = _with_uniq(parts)
    present = {name for part in parts for name in part}
    shared = [name for name in KNOWN_TABLES if all(name in part for part in parts)]
    merged: Tables = {}
    for name in shared:
        if name != "spk2utt":
            found = _merged(name, sources, parts)
            if found is not None:
                merged[name] = found
    if not keyed_by_utterance(merged):
        raise DataError(f"{destination}: the sources share no table; combine like with like")
    rows = _joined(sources)
    write_data_dir(destination, merged, rows)
    present |= {name for source in sources for name in source.companions}
    return sorted(present - merged.keys() - rows.keys() - {"spk2utt"})


def _merged(
    name: str, sources: Sequence[DataDir], parts: Sequence[Tables]
) -> dict[str, str] | None:
    """A table of all sources; None where statistics of one speaker differ, which belong to none."""
    table: dict[str, str] = {}
    for source, part in zip(sources, parts, strict=True):
        for key, value in part[name].items():
            if table.setdefault(key, value) == value:
                continue
            if name == "cmvn.scp":
                return None
            raise DataError(
                f"{source.path / name}: '{key}' has another entry in an earlier source; "
                "give the ids a prefix with utils/copy_data_dir.py"
            )
    return table


def _joined(sources: Sequence[DataDir]) -> dict[str, list[Row]]:
    """The files beside the tables that all sources have, of one kind."""
    rows: dict[str, list[Row]] = {}
    for name, first in sources[0].companions.items():
        files = [source.companions[name] for source in sources if name in source.companions]
        if len(files) < len(sources) or any(file.kind != first.kind for file in files):
            continue
        if first.kind == WHOLE and any(file.rows != first.rows for file in files):
            continue
        rows[name], wrong = joined(files)
        if wrong:
            raise DataError(
                f"{sources[-1].path / name}: '{wrong}' has other lines in another source; give the "
                "ids a prefix with utils/copy_data_dir.py"
            )
    return rows


def _with_uniq(parts: Sequence[Tables]) -> list[Tables]:
    """If one source has utt2uniq, in the others each utterance is its own, as with Kaldi."""
    if not any("utt2uniq" in part for part in parts):
        return list(parts)
    return [{"utt2uniq": {key: key for key in Ids.of(part).utterances}, **part} for part in parts]


def _with_segments(source: DataDir) -> Tables:
    """The tables of a source; each whole recording becomes a segment where it has none."""
    if "segments" in source or "wav.scp" not in source:
        return source.tables
    durations = source.tables.get("utt2dur", {})
    lacking = [key for key in source.utterances if key not in durations]
    if lacking:
        raise DataError(
            f"{source.path}: has no segments, other sources do, and utt2dur lacks '{lacking[0]}'; "
            "make its utt2dur"
        )
    segments = {key: f"{key} 0 {durations[key]}" for key in source.utterances}
    return {**source.tables, "segments": segments}
