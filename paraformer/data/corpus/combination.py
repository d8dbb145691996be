"""Several Kaldi data directories become one.

Standard library only: `utils/combine_data.py` is a door to this module and starts at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from paraformer.data.corpus.checks import KNOWN_TABLES, keyed_by_utterance
from paraformer.data.corpus.companions import WHOLE, Ids, joined
from paraformer.data.corpus.datadir import DataDir, write_data_dir
from paraformer.data.corpus.tables import Row
from paraformer.errors import DataError


def combine(destination: str | Path, sources: Sequence[DataDir]) -> list[str]:
    """One directory of several; returns the names of tables left out because a source lacks them.

    An id that two sources share must have the same entry in both. If only some sources have
    segments, the others get one segment a recording, which needs their utt2dur.
    """
    for source in sources:
        source.refuse_same(destination)
    made = _made(sources)
    parts = [{*source.opened, *own} for source, own in zip(sources, made, strict=True)]
    shared = [name for name in KNOWN_TABLES if all(name in part for part in parts)]
    if not keyed_by_utterance(shared):
        raise DataError(f"{destination}: the sources share no table; combine like with like")
    rows, merged = _joined(sources), set[str]()

    def tables() -> Iterator[tuple[str, dict[str, str]]]:
        for name in shared:
            if name != "spk2utt":
                found = _merged(name, sources, made)
                if found is not None:
                    merged.add(name)
                    yield name, found

    write_data_dir(destination, tables(), rows)
    present = {*(name for part in parts for name in part)}
    present |= {name for source in sources for name in source.companions}
    return sorted(present - merged - rows.keys() - {"spk2utt"})


def _merged(
    name: str, sources: Sequence[DataDir], made: Sequence[dict[str, dict[str, str]]]
) -> dict[str, str] | None:
    """A table of all sources; None where statistics of one speaker differ, which belong to none."""
    table: dict[str, str] = {}
    for source, own in zip(sources, made, strict=True):
        part = own[name] if name in own else source.table(name)
        for key, value in part.items():
            if table.setdefault(key, value) == value:
                continue
            if name == "cmvn.scp":
                return None
            raise DataError(
                f"{source.path / name}: '{key}' has another entry in an earlier source; "
                "give the ids a prefix with utils/copy_data_dir.py"
            )
    return table


def _joined(sources: Sequence[DataDir]) -> dict[str, Iterable[Row]]:
    """The files beside the tables that all sources have, of one kind."""
    rows: dict[str, Iterable[Row]] = {}
    for name, first in sources[0].companions.items():
        files = [source.companions[name] for source in sources if name in source.companions]
        if len(files) < len(sources) or any(file.kind != first.kind for file in files):
            continue
        rows_of_all = zip_longest(*(file.rows() for file in files))
        if first.kind != WHOLE or all(len({*same}) == 1 for same in rows_of_all):
            rows[name] = joined(files)
    return rows


def _made(sources: Sequence[DataDir]) -> list[dict[str, dict[str, str]]]:
    """The tables that sources lack and get, since others have them: a segment a recording, and
    utterances that are each their own, as with Kaldi.
    """
    segmented = any("segments" in source for source in sources)
    unique = any("utt2uniq" in source for source in sources)
    made: list[dict[str, dict[str, str]]] = [{} for _ in sources]
    for source, own in zip(sources, made, strict=True):
        if segmented and "segments" not in source and "wav.scp" in source:
            own["segments"] = _whole_recordings(source)
        if unique and "utt2uniq" not in source:
            own["utt2uniq"] = {key: key for key in Ids.of(source.opened).utterances}
    return made


def _whole_recordings(source: DataDir) -> dict[str, str]:
    """The `segments` of a source that has none."""
    durations = source.table("utt2dur") if "utt2dur" in source else {}
    lacking = [key for key in source.utterances if key not in durations]
    if lacking:
        raise DataError(
            f"{source.path}: has no segments, other sources do, and utt2dur lacks '{lacking[0]}'; "
            "make its utt2dur"
        )
    return {key: f"{key} 0 {durations[key]}" for key in source.utterances}
