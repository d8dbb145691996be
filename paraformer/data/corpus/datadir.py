"""Kaldi data directories (`wav.scp text utt2spk …`), joined by id, never by line.

Standard library only: the programs in `utils/` are doors to this module and start at once.
"""

from __future__ import annotations

import hashlib
import heapq
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.checks import (
    DERIVED_TABLES,
    KNOWN_TABLES,
    OPTIONAL_TABLES,
    RECORDING_TABLES,
    SPEAKER_TABLES,
    UTTERANCE_TABLES,
    Fault,
    find_dropped,
    find_faults,
    find_missing_tables,
    first_rows,
    keyed_by_utterance,
    read_all,
    wrong_value,
)
from paraformer.data.corpus.companions import (
    DROPPED,
    RECORDING,
    SPEAKER,
    UTTERANCE,
    Companion,
    Ids,
    format_rows,
    read_companions,
)
from paraformer.data.corpus.repair import Repair, new_backup, with_speakers, without_stale
from paraformer.data.corpus.segments import Place, parse_place
from paraformer.data.corpus.tables import (
    Row,
    fields,
    format_table,
    invert,
    read_table,
    write_table,
    write_text,
)
from paraformer.errors import DataError
from paraformer.files import together

__all__ = [
    "DROPPED",
    "DataDir",
    "Repair",
    "Utterance",
    "read_table",
    "remove_tables",
    "write_data_dir",
    "write_table",
]

Tables = dict[str, dict[str, str]]
Rows = Mapping[str, Sequence[Row]]
EVERY_TABLE = (*KNOWN_TABLES, *DERIVED_TABLES, DROPPED)
# Of these readers open one first: they come last, and none is there without all the others.
INDEX = ("wav.scp", "feats.scp", "text")


class Utterance(NamedTuple):
    """What the tables say of one utterance; "" or None where there is no such table."""

    id: str
    text: str
    speaker: str
    wav: str  # file, `command |` or URL: of the whole recording where there are segments
    feats: str  # x.ark:offset
    start_seconds: float
    end_seconds: float | None  # None: to the end of the recording
    duration_seconds: float | None
    frames: int | None


class DataDir:
    """A data directory on disk. Reading refuses duplicate ids; `fix` is for mending."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(
                f"{path}: no such directory (looked for {self.path.absolute()}); "
                "check the path or the stage that makes it"
            )
        self._tables: Tables | None = None

    @property
    def tables(self) -> Tables:
        """Name to table, for each known table that is there; read once."""
        if self._tables is None:
            self._tables = {
                name: read_table(self.path / name)
                for name in KNOWN_TABLES
                if (self.path / name).exists()
            }
        return self._tables

    @cached_property
    def _beside(self) -> tuple[dict[str, Companion], list[str]]:
        return read_companions(self.path, self.tables)

    @property
    def companions(self) -> dict[str, Companion]:
        """Files beside the known tables that follow the same ids."""
        return self._beside[0]

    @property
    def uncarried(self) -> list[str]:
        """Names of files that are in no copy, since nobody can tell what their lines are of."""
        return self._beside[1]

    def _carried(self, tables: Tables) -> Rows:
        """The rows of the companions that are of ids in these tables."""
        ids = Ids.of(tables)
        return {name: file.chosen(ids) for name, file in self.companions.items()}

    def __contains__(self, name: str) -> bool:
        return name in self.tables

    def table(self, name: str) -> dict[str, str]:
        """One table, which must be there."""
        if name not in self.tables:
            raise DataError(
                f"{self.path / name}: no such file; make it with the stage before this one"
            )
        return self.tables[name]

    @property
    def utterances(self) -> list[str]:
        """Sorted ids of the utterances that stand in every table of utterances there is."""
        names = keyed_by_utterance(self.tables)
        if not names:
            expected = " ".join(UTTERANCE_TABLES)
            raise DataError(f"{self.path}: holds no data; make at least one of {expected}")
        return sorted(set.intersection(*(set(self.tables[name]) for name in names)))

    def iter_utterances(self) -> Iterator[Utterance]:
        """Every complete utterance, sorted by id."""
        empty: dict[str, str] = {}
        wavs, feats, texts, speakers = (
            self.tables.get(name, empty) for name in ("wav.scp", "feats.scp", "text", "utt2spk")
        )
        for key in self.utterances:
            recording, start, end, _ = self._place(key)
            seconds, frames = self._told("utt2dur", key), self._told("utt2num_frames", key)
            yield Utterance(
                id=key,
                text=texts.get(key, ""),
                speaker=speakers.get(key, ""),
                wav=wavs.get(recording, ""),
                feats=feats.get(key, ""),
                start_seconds=start,
                end_seconds=end,
                duration_seconds=float(seconds) if seconds else (end - start if end else None),
                frames=int(frames) if frames else None,
            )

    def _told(self, name: str, key: str) -> str:
        """The number that a table tells of an utterance, "" if none."""
        value = self.tables.get(name, {}).get(key)
        wrong = "" if value is None else wrong_value(name, value)
        if wrong:
            raise DataError(
                f"{self.path / name}: '{key}': {wrong}; make the file again or remove it"
            )
        return value or ""

    def _place(self, key: str) -> Place:
        """Where an utterance lies: without segments it is a whole recording."""
        if "segments" not in self.tables:
            return Place(key, 0.0, None)
        value = self.tables["segments"][key]
        wrong = wrong_value("segments", value)
        if wrong:
            remedy = f"correct it or run utils/fix_data_dir.py {self.path}"
            raise DataError(f"{self.path / 'segments'}: '{key}': {wrong}; {remedy}")
        return parse_place(value)

    def validate(
        self,
        *,
        wav: bool | None = None,
        feats: bool | None = None,
        text: bool = True,
        files: bool = True,
        order: bool = True,
        empty_text: bool = False,
    ) -> list[Fault]:
        """Everything that is wrong, in one list; none means valid.

        `wav`, `feats`, `text`: whether the table is needed (None: wav.scp or feats.scp will do);
        one that is there is checked in any case. `files`: look whether the audio is there.
        """
        rows = read_all(self.path)
        options = {"files": files, "order": order, "empty_text": empty_text}
        return [
            *find_missing_tables(self.path, rows, wav, feats, text),
            *find_faults(self.path, rows, **options),
        ]

    def fix(self, *, files: bool = True, empty_text: bool = False) -> Repair:
        """Keep the utterances that are sound in all tables, sort, and make spk2utt again.

        The old tables go to `.backup/N`, the dropped ids and their reasons to `dropped.txt`. An id
        with two different entries is dropped: nobody can know which is right. To fix twice is the
        same as once.
        """
        rows = read_all(self.path)
        dropped = find_dropped(
            rows, list(find_faults(self.path, rows, files=files, empty_text=empty_text))
        )
        first = first_rows(rows)
        tables = {name: {key: row.value for key, row in first[name].items()} for name in first}
        names = keyed_by_utterance(tables)
        kept = {key for name in names for key in tables[name]} - dropped.keys()
        if not kept:
            counts = Counter(dropped.values()).most_common()
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
            raise DataError(
                f"{self.path}: no utterance would remain ({reasons or 'it is empty'}); nothing was "
                f"changed, look at utils/validate_data_dir.py {self.path}"
            )
        selected = without_stale(_select(with_speakers(tables), kept))
        texts = {name: format_table(table) for name, table in selected.items()}
        ids = Ids.of(selected)
        for name, file in read_companions(self.path, tables)[0].items():
            chosen = file.chosen(ids)
            if len(chosen) < len(file.rows):
                texts[name] = format_rows(chosen)
        return self._replace(texts, len(kept), dropped)

    def _replace(self, texts: Mapping[str, str], kept: int, dropped: dict[str, str]) -> Repair:
        """Write the tables that differ from those on disk, after a copy of the old ones."""
        old = {
            name: (self.path / name).read_bytes()
            for name in dict.fromkeys((*KNOWN_TABLES, *texts))
            if (self.path / name).exists()
        }
        rewritten = [name for name, text in texts.items() if text.encode() != old.get(name)]
        removed = [name for name in old if name not in texts]
        if not rewritten and not removed:
            return Repair(kept, dropped, [], [], None)
        backup = new_backup(self.path / ".backup")
        for name in old:
            shutil.copy2(self.path / name, backup / name)
        with together(self.path, [n for n in INDEX if n in rewritten], removed) as draft:
            for name in rewritten:
                write_text(draft / name, texts[name])
            if dropped:
                record = self.path / DROPPED
                earlier = read_table(record) if record.exists() else {}
                write_table(draft / DROPPED, {**earlier, **dropped})
        self._tables = None
        self.__dict__.pop("_beside", None)
        return Repair(kept, dropped, rewritten, removed, backup)

    def choose(self, count: int, by: str = "random", seed: int = 0) -> list[str]:
        """`count` ids: the "first", the "shortest", or "random" ones.

        Random goes by a hash of seed and id: the same on every machine, and n are among any m > n.
        """
        utterances = self.utterances
        if not 0 < count <= len(utterances):
            raise DataError(
                f"{self.path}: {count} utterances asked for, {len(utterances)} there; ask for "
                f"1 to {len(utterances)}"
            )
        if by == "random":
            utterances.sort(key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
        elif by == "shortest":
            weights = self._weights(utterances)
            if not weights:
                raise DataError(
                    f"{self.path}: no length known; make utt2dur or utt2num_frames first"
                )
            utterances.sort(key=lambda key: (weights[key], key))
        return sorted(utterances[:count])

    def _weights(self, utterances: Sequence[str]) -> dict[str, float]:
        """Length of each utterance, in whichever unit all have it; empty if none does."""
        for name in ("utt2num_frames", "utt2dur"):
            table = self.tables.get(name, {})
            if all(key in table and not wrong_value(name, table[key]) for key in utterances):
                return {key: float(table[key]) for key in utterances}
        if "segments" in self.tables:
            places = {key: self._place(key) for key in utterances}
            seconds = {k: p.end - p.start for k, p in places.items() if p.end is not None}
            return seconds if len(seconds) == len(places) else {}
        return {}

    def subset(self, utterances: Collection[str], destination: str | Path) -> DataDir:
        """A directory with these utterances only; ids that are not here are passed over."""
        self.refuse_same(destination)
        kept = set(utterances) & set(self.utterances)
        if not kept:
            raise DataError(f"{self.path}: has none of the wanted utterances; compare the ids")
        selected = _select(self.tables, kept)
        return write_data_dir(destination, selected, self._carried(selected))

    def split(self, jobs: int, by: str = "speaker") -> list[DataDir]:
        """`jobs` parts of about equal length, a "speaker" or an "utterance" never in two of them.

        As Kaldi: data/train/split4/{1,2,3,4}, or split4utt/… by utterance.
        """
        utterances = self.utterances
        groups: dict[str, list[str]] = {}
        speakers = self.table("utt2spk") if by == "speaker" else {}
        for key in utterances:
            groups.setdefault(speakers.get(key, key), []).append(key)
        if not 0 < jobs <= len(groups):
            remedy = " or split by utterance (--per-utt)" if by == "speaker" else ""
            raise DataError(
                f"{self.path}: {len(groups)} {by}s cannot make {jobs} parts; ask for 1 to "
                f"{len(groups)} parts{remedy}"
            )
        parts = _deal(groups, self._weights(utterances), jobs)
        folder = self.path / (f"split{jobs}" if by == "speaker" else f"split{jobs}utt")
        chosen = [_select(self.tables, set(part)) for part in parts]
        return [
            write_data_dir(folder / str(number), tables, self._carried(tables))
            for number, tables in enumerate(chosen, 1)
        ]

    def copy(
        self,
        destination: str | Path,
        *,
        utt_prefix: str = "",
        utt_suffix: str = "",
        spk_prefix: str = "",
        spk_suffix: str = "",
    ) -> DataDir:
        """A copy with other ids; recordings of a directory with segments keep theirs."""
        self.refuse_same(destination)

        def speaker(name: str) -> str:
            return f"{spk_prefix}{name}{spk_suffix}"

        def utterance(name: str) -> str:
            return f"{utt_prefix}{name}{utt_suffix}"

        names = {UTTERANCE: utterance, SPEAKER: speaker}
        if "segments" not in self.tables:  # recordings are utterances, their files are not
            ids = Ids.of(self.tables).utterances
            names[RECORDING] = lambda name: utterance(name) if name in ids else name
        kinds = dict.fromkeys((*keyed_by_utterance(self.tables), *OPTIONAL_TABLES), UTTERANCE)
        kinds |= dict.fromkeys(SPEAKER_TABLES, SPEAKER)
        kinds = {**dict.fromkeys(RECORDING_TABLES, RECORDING), **kinds}

        def same(name: str) -> str:
            return name

        tables: Tables = {}
        for name, table in self.tables.items():
            change: Callable[[str], str] = names.get(kinds[name], same)
            tables[name] = {change(key): table[key] for key in table}
        if "utt2spk" in tables:
            tables["utt2spk"] = {key: speaker(name) for key, name in tables["utt2spk"].items()}
        rows = {name: file.renamed(names) for name, file in self.companions.items()}
        return write_data_dir(destination, tables, rows)

    def perturb_speed(self, destination: str | Path, speeds: Sequence[float]) -> DataDir:
        """Text and speakers of what `make_fbank.py speeds=[…]` makes of this directory.

        Utterances and speakers of a speed other than 1 get the prefix `sp0.9-`. The tables of the
        audio are left out, since that keeps its speed.
        """
        self.refuse_same(destination)
        tables: Tables = {}
        units: list[Row] = []
        for speed in speeds:
            prefix = "" if speed == 1.0 else f"sp{speed:g}-"
            for name in ("text", "utt2lang", "utt2spk", "utt2uniq", "spk2gender"):
                for key, value in self.tables.get(name, {}).items():
                    value = prefix + value if name == "utt2spk" else value
                    tables.setdefault(name, {})[prefix + key] = value
            for row in self.companions.get("text_units", Companion(UTTERANCE, [])).rows:
                units.append(row._replace(key=prefix + row.key))
        return write_data_dir(destination, tables, {"text_units": units})

    def refuse_same(self, destination: str | Path) -> None:
        """Refuse to write a directory over itself."""
        if Path(destination).resolve() == self.path.resolve():
            raise DataError(f"{destination}: is also the source; give another destination")


def _select(tables: Mapping[str, Mapping[str, str]], utterances: set[str]) -> Tables:
    """The rows of these utterances, their recordings and their speakers."""

    def only(name: str, keys: Collection[str]) -> dict[str, str]:
        return {key: value for key, value in tables[name].items() if key in keys}

    by_utterance = [*keyed_by_utterance(tables), *OPTIONAL_TABLES]
    selected = {name: only(name, utterances) for name in by_utterance if name in tables}
    recordings = utterances
    if "segments" in tables:
        recordings = {fields(value)[0] for value in selected["segments"].values()}
    selected.update({name: only(name, recordings) for name in RECORDING_TABLES if name in tables})
    if "utt2spk" in selected:
        selected["spk2utt"] = invert(selected["utt2spk"])
    elif "spk2utt" in tables:
        said = {who: set(fields(line)) for who, line in tables["spk2utt"].items()}
        own = {who: " ".join(sorted(said[who] & utterances)) for who in said}
        selected["spk2utt"] = {who: line for who, line in own.items() if line}
    for name in {*SPEAKER_TABLES} & {*tables} - {"spk2utt"}:
        selected[name] = only(name, selected.get("spk2utt", tables[name]))
    return selected


def write_data_dir(
    destination: str | Path,
    tables: Tables,
    companions: Rows | None = None,
    others: Mapping[str, str | None] | None = None,
) -> DataDir:
    """Write the tables, with spk2utt, as a data directory, of which nothing older is left.

    companions: rows of files beside the known tables. others: texts of files that go with them, by
    name; None: there is none any more.
    """
    if "utt2spk" in tables:
        tables = {**tables, "spk2utt": invert(tables["utt2spk"])}
    beside = {name: format_rows(rows) for name, rows in (companions or {}).items() if rows}
    texts = {**beside, **(others or {})}
    with together(destination, INDEX, (*EVERY_TABLE, *texts)) as draft:
        for name, table in tables.items():
            write_table(draft / name, table)
        for name, text in texts.items():
            if text is not None:
                write_text(draft / name, text)
    return DataDir(Path(destination))


def remove_tables(folder: Path, but: Collection[str] = ()) -> None:
    """Take away what an earlier run left of a data directory, and what was made of it since: where
    other recordings are written, an old `segments` or feats.scp would belong to none of them.
    """
    for name in EVERY_TABLE:
        if name not in but:
            (folder / name).unlink(missing_ok=True)


def _deal(
    groups: Mapping[str, list[str]], weights: Mapping[str, float], parts: int
) -> list[list[str]]:
    """Groups to parts, the heaviest first and always to the lightest part, ties by name."""
    loads = {name: sum(weights.get(key, 1.0) for key in keys) for name, keys in groups.items()}
    heap = [(0.0, 0, number) for number in range(parts)]
    dealt: list[list[str]] = [[] for _ in range(parts)]
    for name in sorted(groups, key=lambda name: (-loads[name], name)):
        load, count, number = heapq.heappop(heap)
        dealt[number].extend(groups[name])
        heapq.heappush(heap, (load + loads[name], count + 1, number))
    return dealt
