"""What can be wrong with a data directory: `validate` lists it, `fix` removes what it names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.segments import wrong_place
from paraformer.data.corpus.tables import Row, fields, invert, read_rows

# Utterances stand in all of these that exist; with `segments`, wav.scp has recordings instead.
UTTERANCE_TABLES = ("segments", "wav.scp", "feats.scp", "text", "utt2spk")
# Made from the others, or for information: an incomplete one goes, not the utterances it lacks.
OPTIONAL_TABLES = ("utt2dur", "utt2num_frames", "utt2lang", "utt2uniq", "utt2warp", "vad.scp")
RECORDING_TABLES = ("wav.scp", "reco2dur", "reco2file_and_channel")
SPEAKER_TABLES = ("spk2utt", "spk2gender", "spk2warp", "cmvn.scp")
KNOWN_TABLES = tuple(
    dict.fromkeys(UTTERANCE_TABLES + OPTIONAL_TABLES + RECORDING_TABLES + SPEAKER_TABLES)
)

# What programs put beside the tables, and training reads; nothing checks them.
DERIVED_TABLES = ("ctm", "text_units")

_REPEATED = "repeated line"
_ARK_SUFFIX = re.compile(r"(?::(\d+))?(?:\[[\d:,]*\])?$")
Rows = Mapping[str, list[Row]]
Index = Mapping[str, Mapping[str, Row]]


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


def read_all(folder: Path) -> dict[str, list[Row]]:
    """The rows of each known table that the folder has."""
    return {name: read_rows(folder / name) for name in KNOWN_TABLES if (folder / name).exists()}


def keyed_by_utterance(names: Collection[str]) -> list[str]:
    """Those of the tables that decide which utterances there are."""
    has_segments = "segments" in names
    return [
        name
        for name in UTTERANCE_TABLES
        if name in names and not (name == "wav.scp" and has_segments)
    ]


def first_rows(rows: Rows) -> dict[str, dict[str, Row]]:
    """Table to id to its first row."""
    return {name: {row.key: row for row in reversed(table)} for name, table in rows.items()}


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
    folder: Path, rows: Rows, *, files: bool = True, order: bool = True, empty_text: bool = False
) -> Iterator[Fault]:
    """All faults. `files`: look at the audio, `order`: must be sorted, `empty_text`: is allowed."""
    index = first_rows(rows)
    fix = f"run utils/fix_data_dir.py {folder}"
    for name, table in rows.items():
        yield from _find_repeated(folder / name, table, fix)
        yield from _find_wrong_values(folder / name, table, empty_text, fix)
        if order:
            yield from _find_disorder(folder / name, table, fix)
    yield from _find_lost_recordings(folder, index, fix)
    if files:
        yield from _find_lost_files(folder, index)
    yield from _find_strangers(folder, index, fix)
    yield from _find_stale(folder, index, fix)
    yield from _find_speaker_faults(folder, index, fix)


def _find_repeated(path: Path, rows: list[Row], fix: str) -> Iterator[Fault]:
    seen: dict[str, Row] = {}
    for row in rows:
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


def _find_disorder(path: Path, rows: list[Row], fix: str) -> Iterator[Fault]:
    for before, row in zip(rows, rows[1:], strict=False):
        if row.key < before.key:
            what = f"'{row.key}' stands behind '{before.key}': not sorted (LC_ALL=C sort)"
            yield Fault("not sorted", path, row.line, "", what, fix)
            return


def _find_wrong_values(path: Path, rows: list[Row], empty_text: bool, fix: str) -> Iterator[Fault]:
    if not rows:
        yield Fault("table empty", path, 0, "", "holds no line", "make it again or remove it")
    for row in rows:
        wrong = wrong_value(path.name, row.value)
        if wrong and not (empty_text and path.name == "text"):
            yield Fault(
                wrong, path, row.line, row.key, f"'{row.key}': {wrong}", f"correct it, or {fix}"
            )


def wrong_value(name: str, value: str) -> str:
    """What is wrong with a value of that table, or the empty string.

    >>> wrong_value("segments", "rec1 3.5 3.5")
    'segment without length'
    """
    check = _CHECKS.get(name)
    return check(value) if check else ""


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _wrong_duration(value: str) -> str:
    return "" if 0 < _number(value) < math.inf else "not a positive number of seconds"


def _wrong_count(value: str) -> str:
    return "" if value.isdecimal() and int(value) > 0 else "not a positive whole number"


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "text": lambda value: "" if value else "empty transcript",
    "wav.scp": lambda value: "" if value else "no file named",
    "feats.scp": lambda value: "" if value else "no file named",
    "utt2spk": lambda value: (
        "" if len(fields(value)) == 1 else "not of the form: utterance speaker"
    ),
    "segments": wrong_place,
    "utt2dur": _wrong_duration,
    "reco2dur": _wrong_duration,
    "utt2uniq": lambda value: "" if len(fields(value)) == 1 else "not of the form: utterance id",
    "vad.scp": lambda value: "" if value else "no file named",
    "cmvn.scp": lambda value: "" if value else "no file named",
    "reco2file_and_channel": lambda value: (
        "" if len(fields(value)) == 2 else "not of the form: recording file channel"
    ),
    "utt2num_frames": _wrong_count,
}


def _find_lost_recordings(folder: Path, index: Index, fix: str) -> Iterator[Fault]:
    """Recordings that only one of segments and wav.scp knows."""
    if "segments" not in index or "wav.scp" not in index:
        return
    used = set()
    for row in index["segments"].values():
        recording = _first(row)
        used.add(recording)
        if recording and recording not in index["wav.scp"]:
            reason = "recording not in wav.scp"
            what = f"'{row.key}' is of recording '{recording}', which is not in wav.scp"
            yield Fault(reason, folder / "segments", row.line, row.key, what, f"add it, or {fix}")
    for row in index["wav.scp"].values():
        if row.key not in used:
            what = f"no segment is of recording '{row.key}'"
            path = folder / "wav.scp"
            yield Fault("recording without segments", path, row.line, row.key, what, fix)


def _find_lost_files(folder: Path, index: Index) -> Iterator[Fault]:
    """Audio and feature files that are not there or empty; pipes and URLs are taken on trust."""
    sizes: dict[str, int] = {}
    for name in ("wav.scp", "feats.scp"):
        for row in index.get(name, {}).values():
            file, offset = entry_file(row.value)
            if not file:
                continue
            if file not in sizes:
                sizes[file] = _size(file)
            size = sizes[file]
            if size > offset:
                continue
            if size < 0:
                reason, what = f"no file for {name}", f"no file {Path(file).absolute()}"
            elif size == 0:
                reason, what = f"empty file in {name}", f"{file} is empty"
            else:
                reason, what = f"cut file in {name}", f"{file} has {size} bytes, none at {offset}"
            remedy = (
                "correct the path (relative ones start at the current directory), make the file, "
            )
            remedy += f"or run utils/fix_data_dir.py {folder}"
            yield Fault(reason, folder / name, row.line, row.key, f"'{row.key}': {what}", remedy)


def entry_file(value: str) -> tuple[str, int]:
    """File and byte offset of an entry of wav.scp or feats.scp; no file ("") for a pipe or a URL.

    >>> entry_file("fbank/train.1.ark:4711"), entry_file("sox a.mp3 -t wav - |")
    (('fbank/train.1.ark', 4711), ('', 0))
    """
    if not value or value == "-" or "://" in value or value.endswith("|") or value.startswith("|"):
        return "", 0
    if Path(value).is_file():
        return value, 0
    match = _ARK_SUFFIX.search(value)
    if match is None:
        return value, 0
    return value[: match.start()], int(match[1] or 0)


def _size(file: str) -> int:
    """Bytes of a file; -1 if there is none."""
    path = Path(file)
    return path.stat().st_size if path.is_file() else -1


def _find_strangers(folder: Path, index: Index, fix: str) -> Iterator[Fault]:
    """Utterances that stand in some of the tables only."""
    names = keyed_by_utterance(index)
    for key in sorted({key for name in names for key in index[name]}):
        lacking = ", ".join(name for name in names if key not in index[name])
        if lacking:
            home = next(name for name in names if key in index[name])
            what = f"'{key}' is not in {lacking}"
            line = index[home][key].line
            yield Fault(f"not in {lacking}", folder / home, line, key, what, f"add it, or {fix}")


class Known(NamedTuple):
    """Ids of one kind that tables beside them must have, and those that they may have."""

    what: str
    everywhere: set[str]
    anywhere: set[str]


def side_tables(tables: Mapping[str, Mapping[str, object]]) -> list[tuple[str, Known]]:
    """The tables that follow others, each with the ids that it follows."""
    names = keyed_by_utterance(tables)
    if not names:
        return []
    everywhere = set.intersection(*(set(tables[name]) for name in names))
    anywhere = {key for name in names for key in tables[name]}
    utterances = recordings = Known("utterances", everywhere, anywhere)
    if "segments" in tables:
        used = {key: _first(value) for key, value in tables["segments"].items()}
        own = {used[key] for key in everywhere}
        recordings = Known("recordings", own, {*used.values(), *tables.get("wav.scp", ())})
    found = [(name, utterances) for name in OPTIONAL_TABLES]
    found += [(name, recordings) for name in RECORDING_TABLES if name != "wav.scp"]
    if "utt2spk" in tables:
        spoken = {key: _value(value) for key, value in tables["utt2spk"].items()}
        speakers = Known("speakers", {spoken[key] for key in everywhere}, set(spoken.values()))
        found += [(name, speakers) for name in SPEAKER_TABLES if name != "spk2utt"]
    return [(name, known) for name, known in found if name in tables]


def _value(entry: object) -> str:
    return entry.value if isinstance(entry, Row) else str(entry)


def _first(entry: object) -> str:
    return next(iter(fields(_value(entry))), "")


def _find_stale(folder: Path, index: Index, fix: str) -> Iterator[Fault]:
    """Tables made from the others, of which they know too few or too many."""
    for name, (ids, everywhere, anywhere) in side_tables(index):
        for kind, keys in (
            ("lacks", everywhere - index[name].keys()),
            ("has unknown", index[name].keys() - anywhere),
        ):
            if keys:
                few = ", ".join(sorted(keys)[:5])
                what = f"{kind} {len(keys)} {ids} ({few}{', …' if len(keys) > 5 else ''})"
                yield Fault(
                    f"{name} is stale", folder / name, 0, "", what, f"make it again, or {fix}"
                )


def _find_speaker_faults(folder: Path, index: Index, fix: str) -> Iterator[Fault]:
    if "spk2utt" not in index:
        return
    path = folder / "spk2utt"
    if "utt2spk" not in index:
        remedy = f"run utils/spk2utt_to_utt2spk.py {path} {folder / 'utt2spk'}"
        yield Fault("table missing", path, 0, "", "there is no utt2spk beside it", remedy)
        return
    expected = invert({key: row.value for key, row in index["utt2spk"].items()})
    found = {key: " ".join(sorted(fields(row.value))) for key, row in index["spk2utt"].items()}
    if found != expected:
        key = min(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        what = f"does not fit utt2spk (first at speaker '{key}')"
        yield Fault("spk2utt is stale", path, 0, "", what, fix)


def find_dropped(rows: Rows, faults: Collection[Fault]) -> dict[str, str]:
    """Utterance to the first reason why it must go; that of a recording goes to its segments."""
    recording_of = {key: _first(row) for key, row in first_rows(rows).get("segments", {}).items()}
    dropped: dict[str, str] = {}
    lost_recordings: dict[str, str] = {}
    for fault in faults:
        if fault.drops:
            of_recordings = bool(recording_of) and fault.path.name == "wav.scp"
            (lost_recordings if of_recordings else dropped).setdefault(fault.key, fault.reason)
    for utterance, recording in recording_of.items():
        if recording in lost_recordings:
            dropped.setdefault(utterance, lost_recordings[recording])
    return dropped
