"""The faults of a data directory: `validate` lists them, `fix` removes the ids that they name.

Tables are read in passes: in memory stay their ids, once where several tables have the same.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.segments import number, wrong_place
from paraformer.data.corpus.tables import Row, fields, invert, iter_rows

# Utterances stand in all of these that exist; with `segments`, wav.scp has recordings instead.
UTTERANCE_TABLES = ("segments", "wav.scp", "feats.scp", "text", "utt2spk")
# Made from the others, or for information: an incomplete one goes, not the utterances it lacks.
OPTIONAL_TABLES = ("utt2dur", "utt2num_frames", "utt2lang", "utt2uniq", "utt2warp", "vad.scp")
RECORDING_TABLES = ("wav.scp", "reco2dur", "reco2file_and_channel")
SPEAKER_TABLES = ("spk2utt", "spk2gender", "spk2warp", "cmvn.scp")
KNOWN_TABLES = tuple(
    dict.fromkeys(UTTERANCE_TABLES + OPTIONAL_TABLES + RECORDING_TABLES + SPEAKER_TABLES)
)

# Files that programs put beside the tables, and training reads; nothing checks them.
DERIVED_TABLES = ("ctm", "text_units")

_REPEATED = "repeated line"
_ARK_SUFFIX = re.compile(r"(?::(\d+))?(?:\[[\d:,]*\])?$")


class Fault(NamedTuple):
    """One thing that is wrong; `str` is the line for the user, `reason` its kind for the counts."""

    reason: str
    path: Path
    line: int  # 0: the whole file
    key: str  # of an utterance, or of a recording (wav.scp beside segments); "": no single one
    what: str
    remedy: str

    @property
    def drops(self) -> bool:
        """Whether the id must go for the fault to go."""
        return bool(self.key) and self.path.name in UTTERANCE_TABLES and self.reason != _REPEATED

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.what}; {self.remedy}"


class Table:
    """A table on disk, which is read in passes; in memory are its ids alone."""

    def __init__(self, path: Path, checked: bool = False) -> None:
        """checked: its values are looked at too, by the way."""
        self.path = path
        self.ids: set[str] = set()
        self.wrong: list[tuple[int, str, str]] = []  # lines of wrong values, their ids and faults
        self.repeated: set[str] = set()  # those of the ids that stand in several lines
        self.disorder: tuple[int, str, str] | None = (
            None  # first unsorted line, its id, that before
        )
        before, check = "", _CHECKS.get(path.name) if checked else None
        for line, key, value in iter_rows(path):
            if key in self.ids:
                self.repeated.add(key)
            self.ids.add(key)
            if key < before and self.disorder is None:
                self.disorder = line, key, before
            before = key
            if check and (fault := check(value)):
                self.wrong.append((line, key, fault))

    def first_rows(self) -> Iterator[Row]:
        """The first row of each id, in the order of the file."""
        rows = iter_rows(self.path)
        return _first_of_each(rows, self.repeated) if self.repeated else rows


def _first_of_each(rows: Iterable[Row], repeated: Collection[str]) -> Iterator[Row]:
    expected = {*repeated}
    for row in rows:
        if row.key not in repeated or row.key in expected:
            expected.discard(row.key)
            yield row


Tables = Mapping[str, Table]


def open_tables(folder: Path, checked: bool = False) -> dict[str, Table]:
    """The known tables that the folder has; checked: for `find_faults`."""
    tables: dict[str, Table] = {}
    for name in KNOWN_TABLES:
        if (folder / name).exists():
            table = Table(folder / name, checked)
            table.ids = shared(table.ids, [other.ids for other in tables.values()])
            tables[name] = table
    return tables


def shared(ids: set[str], others: Iterable[set[str]]) -> set[str]:
    """One of the other sets if it is equal, so that memory holds it once; else the set itself."""
    return next((other for other in others if other == ids), ids)


def in_all(sets: Collection[set[str]]) -> set[str]:
    """The ids that stand in each of some sets; the set itself where they are the same."""
    first, *others = {id(each): each for each in sets}.values() or [set()]
    return first.intersection(*others) if others else first


def in_any(sets: Collection[set[str]]) -> set[str]:
    """The ids that stand in one of some sets; the set itself where they are the same."""
    first, *others = {id(each): each for each in sets}.values() or [set()]
    return first.union(*others) if others else first


def keyed_by_utterance(names: Collection[str]) -> list[str]:
    """The tables among `names` that decide which utterances there are."""
    has_segments = "segments" in names
    return [
        name
        for name in UTTERANCE_TABLES
        if name in names and not (name == "wav.scp" and has_segments)
    ]


def find_missing_tables(
    folder: Path, names: Collection[str], wav: bool | None, feats: bool | None, text: bool
) -> Iterator[Fault]:
    """Tables that must be there; None for both kinds of speech means that either will do."""

    def missing(name: str, what: str, remedy: str) -> Fault:
        return Fault("table missing", folder / name, 0, "", what, remedy)

    if wav is None and feats is None and not {"wav.scp", "feats.scp"} & set(names):
        yield missing("wav.scp", "neither this nor feats.scp is there", "make one of the two")
    if wav and "wav.scp" not in names:
        yield missing("wav.scp", "no such file", "make it, or say --no-wav if none is needed")
    if feats and "feats.scp" not in names:
        yield missing("feats.scp", "no such file", "run steps/make_fbank.sh, or say --no-feats")
    if text and "text" not in names:
        yield missing("text", "no such file", "make it, or say --no-text if none is needed")


def find_faults(
    folder: Path,
    tables: Tables,
    *,
    files: bool = True,
    order: bool = True,
    empty_text: bool = False,
) -> Iterator[Fault]:
    """All faults. `files`: look at the audio, `order`: must be sorted, `empty_text`: is allowed."""
    fix = f"run utils/fix_data_dir.py {folder}"
    for table in tables.values():
        yield from _find_repeated(table, fix)
        yield from _find_wrong_values(table, empty_text, fix)
        if order and table.disorder:
            line, key, before = table.disorder
            what = f"'{key}' stands behind '{before}': not sorted (LC_ALL=C sort)"
            yield Fault("not sorted", table.path, line, "", what, fix)
    yield from _find_lost_recordings(tables, fix)
    if files:
        yield from _find_lost_files(tables, fix)
    yield from _find_strangers(tables, fix)
    yield from _find_stale(tables, fix)
    yield from _find_speaker_faults(folder, tables, fix)


def _find_repeated(table: Table, fix: str) -> Iterator[Fault]:
    if not table.repeated:
        return
    path, seen = table.path, dict[str, Row]()
    for row in (row for row in iter_rows(path) if row.key in table.repeated):
        first = seen.setdefault(row.key, row)
        if first is row:
            continue
        what = f"'{row.key}' stands already in line {first.line}"
        if first.value == row.value:
            yield Fault(_REPEATED, path, row.line, row.key, what, fix)
        else:
            reason = f"two entries in {path.name}"
            remedy = (
                f"keep the right one of the two; utils/fix_data_dir.py {path.parent} drops both"
            )
            yield Fault(reason, path, row.line, row.key, f"{what} with another value", remedy)


def _find_wrong_values(table: Table, empty_text: bool, fix: str) -> Iterator[Fault]:
    path = table.path
    if not table.ids:
        yield Fault("table empty", path, 0, "", "holds no line", "make it again or remove it")
    for line, key, wrong in table.wrong:
        if not (empty_text and path.name == "text"):
            yield Fault(wrong, path, line, key, f"'{key}': {wrong}", f"correct it, or {fix}")


def wrong_value(name: str, value: str) -> str:
    """The fault of a value of that table, or the empty string.

    >>> wrong_value("segments", "rec1 3.5 3.5")
    'segment without length'
    """
    check = _CHECKS.get(name)
    return check(value) if check else ""


def _wrong_duration(value: str) -> str:
    return "" if 0 < number(value) < math.inf else "not a positive number of seconds"


def _is_word(value: str) -> bool:
    return bool(value) and " " not in value and "\t" not in value


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "text": lambda value: "" if value else "empty transcript",
    "wav.scp": lambda value: "" if value else "no file named",
    "feats.scp": lambda value: "" if value else "no file named",
    "utt2spk": lambda value: "" if _is_word(value) else "not of the form: utterance speaker",
    "segments": wrong_place,
    "utt2dur": _wrong_duration,
    "reco2dur": _wrong_duration,
    "utt2uniq": lambda value: "" if _is_word(value) else "not of the form: utterance id",
    "vad.scp": lambda value: "" if value else "no file named",
    "cmvn.scp": lambda value: "" if value else "no file named",
    "reco2file_and_channel": lambda value: (
        "" if len(fields(value)) == 2 else "not of the form: recording file channel"
    ),
    "utt2num_frames": lambda value: (
        "" if value.isdecimal() and int(value) > 0 else "not a positive whole number"
    ),
}


def _find_lost_recordings(tables: Tables, fix: str) -> Iterator[Fault]:
    """Recordings that only one of segments and wav.scp knows."""
    if "segments" not in tables or "wav.scp" not in tables:
        return
    segments, wavs, used = tables["segments"], tables["wav.scp"], set()
    for line, key, value in segments.first_rows():
        recording = _first(value)
        used.add(recording)
        if recording and recording not in wavs.ids:
            reason = "recording not in wav.scp"
            what = f"'{key}' is of recording '{recording}', which is not in wav.scp"
            yield Fault(reason, segments.path, line, key, what, f"add it, or {fix}")
    for line, key, _ in wavs.first_rows():
        if key not in used:
            what = f"no segment is of recording '{key}'"
            yield Fault("recording without segments", wavs.path, line, key, what, fix)


def _find_lost_files(tables: Tables, fix: str) -> Iterator[Fault]:
    """Audio and feature files that are not there or empty; pipes and URLs are taken on trust."""
    size_of = lru_cache(maxsize=1024)(_size)  # an archive holds many entries
    for name in [name for name in ("wav.scp", "feats.scp") if name in tables]:
        for line, key, value in tables[name].first_rows():
            file, offset = entry_file(value)
            if not file or (size := size_of(file)) > offset:
                continue
            if size < 0:
                reason, what = f"no file for {name}", f"no file {Path(file).absolute()}"
            elif size == 0:
                reason, what = f"empty file in {name}", f"{file} is empty"
            else:
                reason, what = f"cut file in {name}", f"{file} has {size} bytes, none at {offset}"
            remedy = (
                "correct the path (relative ones start at the current directory), make the file, "
                f"or {fix}"
            )
            yield Fault(reason, tables[name].path, line, key, f"'{key}': {what}", remedy)


def entry_file(value: str) -> tuple[str, int]:
    """File and byte offset of an entry of wav.scp or feats.scp; no file ("") for a pipe or a URL.

    >>> entry_file("fbank/train.1.ark:4711"), entry_file("sox a.mp3 -t wav - |")
    (('fbank/train.1.ark', 4711), ('', 0))
    """
    if not value or value == "-" or "://" in value or value.endswith("|") or value.startswith("|"):
        return "", 0
    if os.path.isfile(value):
        return value, 0
    match = _ARK_SUFFIX.search(value)
    if match is None:
        return value, 0
    return value[: match.start()], int(match[1] or 0)


def _size(file: str) -> int:
    """Bytes of a file; -1 if there is none."""
    return os.path.getsize(file) if os.path.isfile(file) else -1


def _find_strangers(tables: Tables, fix: str) -> Iterator[Fault]:
    """Utterances that stand in some of the tables only."""
    names = keyed_by_utterance(tables)
    sets = [tables[name].ids for name in names]
    strangers = in_any(sets) - in_all(sets)
    homes = {key: next(name for name in names if key in tables[name].ids) for key in strangers}
    lines = {
        row.key: row.line
        for name in {*homes.values()}
        for row in tables[name].first_rows()
        if homes.get(row.key) == name
    }
    for key in sorted(strangers):
        lacking = ", ".join(name for name in names if key not in tables[name].ids)
        reason, path = f"not in {lacking}", tables[homes[key]].path
        what = f"'{key}' is not in {lacking}"
        yield Fault(reason, path, lines[key], key, what, f"add it, or {fix}")


class Known(NamedTuple):
    """Ids of one kind that tables beside them must have, and those that they may have."""

    what: str
    everywhere: set[str]
    anywhere: set[str]


def _side_tables(tables: Tables) -> Iterator[tuple[Table, Known]]:
    """The tables that follow others, each with the ids that it follows."""
    names = keyed_by_utterance(tables)
    sets = [tables[name].ids for name in names]
    utterances = recordings = Known("utterances", in_all(sets), in_any(sets))
    yield from ((tables[name], utterances) for name in OPTIONAL_TABLES if name in tables)
    if "segments" in tables:
        recordings = _named_by(tables["segments"], "recordings", utterances.everywhere)
        if "wav.scp" in tables:
            recordings.anywhere.update(tables["wav.scp"].ids)
    for name in RECORDING_TABLES:
        if name != "wav.scp" and name in tables:
            yield tables[name], recordings
    of_speakers = [name for name in SPEAKER_TABLES if name != "spk2utt" and name in tables]
    if of_speakers and "utt2spk" in tables:
        speakers = _named_by(tables["utt2spk"], "speakers", utterances.everywhere)
        yield from ((tables[name], speakers) for name in of_speakers)


def _named_by(table: Table, what: str, utterances: Collection[str]) -> Known:
    """The first words of a table, and those of them that these utterances have."""
    own, named = set[str](), set[str]()
    for _, key, value in table.first_rows():
        word = _first(value) if table.path.name == "segments" else value
        named.add(word)
        if key in utterances:
            own.add(word)
    return Known(what, own, named)


def _first(value: str) -> str:
    return next(iter(fields(value)), "")


def _find_stale(tables: Tables, fix: str) -> Iterator[Fault]:
    """Tables made from the others, of which they know too few or too many."""
    for table, (ids, everywhere, anywhere) in _side_tables(tables):
        for kind, keys in (
            ("lacks", everywhere - table.ids),
            ("has unknown", table.ids - anywhere),
        ):
            if keys:
                few = ", ".join(sorted(keys)[:5])
                what = f"{kind} {len(keys)} {ids} ({few}{', …' if len(keys) > 5 else ''})"
                reason = f"{table.path.name} is stale"
                yield Fault(reason, table.path, 0, "", what, f"make it again, or {fix}")


def _find_speaker_faults(folder: Path, tables: Tables, fix: str) -> Iterator[Fault]:
    if "spk2utt" not in tables:
        return
    path = folder / "spk2utt"
    if "utt2spk" not in tables:
        remedy = f"run utils/spk2utt_to_utt2spk.py {path} {folder / 'utt2spk'}"
        yield Fault("table missing", path, 0, "", "there is no utt2spk beside it", remedy)
        return
    expected = invert({row.key: row.value for row in tables["utt2spk"].first_rows()})
    found = {row.key: " ".join(sorted(fields(row.value))) for row in tables["spk2utt"].first_rows()}
    if found != expected:
        key = min(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        what = f"does not fit utt2spk (first at speaker '{key}')"
        yield Fault("spk2utt is stale", path, 0, "", what, fix)


def find_dropped(tables: Tables, faults: Iterable[Fault]) -> dict[str, str]:
    """Utterance to the first reason why it must go; that of a recording goes to its segments."""
    segments = tables.get("segments")
    dropped: dict[str, str] = {}
    lost_recordings: dict[str, str] = {}
    for fault in faults:
        if fault.drops:
            of_recordings = segments is not None and segments.ids and fault.path.name == "wav.scp"
            (lost_recordings if of_recordings else dropped).setdefault(fault.key, fault.reason)
    if segments is not None and lost_recordings:
        for _, utterance, value in segments.first_rows():
            if (recording := _first(value)) in lost_recordings:
                dropped.setdefault(utterance, lost_recordings[recording])
    return dropped
