"""Kaldi data directories (`wav.scp text utt2spk …`), joined by id, never by line.

Standard library only: the programs in `utils/` are doors to this module and start at once.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from itertools import chain
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
    Table,
    find_dropped,
    find_faults,
    find_missing_tables,
    in_all,
    in_any,
    keyed_by_utterance,
    open_tables,
    wrong_value,
)
from paraformer.data.corpus.companions import (
    DROPPED,
    RECORDING,
    SPEAKER,
    UTTERANCE,
    Companion,
    Ids,
    read_companions,
    row_lines,
)
from paraformer.data.corpus.repair import Repair, save_old, write_mended
from paraformer.data.corpus.segments import Place, parse_place
from paraformer.data.corpus.tables import (
    Row,
    fields,
    invert,
    iter_rows,
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

Contents = Mapping[str, Mapping[str, str]]  # of tables by their names
EVERY_TABLE = (*KNOWN_TABLES, *DERIVED_TABLES, DROPPED)
# Readers open one of these first: they are moved last, and none is there without all the others.
INDEX = ("wav.scp", "feats.scp", "text")


class Utterance(NamedTuple):
    """One utterance as the tables describe it; "" or None where there is no such table."""

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

    @cached_property
    def tables(self) -> dict[str, dict[str, str]]:
        """Name to table, for each known table that is there; read once."""
        return {name: read_table(self.path / name) for name in KNOWN_TABLES if name in self}

    @cached_property
    def opened(self) -> dict[str, Table]:
        """The known tables, of which only the ids are in memory; read once."""
        opened = open_tables(self.path)
        for table in opened.values():
            if table.repeated:
                read_table(table.path)  # says which id, and where
        return opened

    @cached_property
    def _beside(self) -> tuple[dict[str, Companion], list[str]]:
        return read_companions(self.path, self.opened)

    @property
    def companions(self) -> dict[str, Companion]:
        """Files beside the known tables that follow the same ids."""
        return self._beside[0]

    @property
    def uncarried(self) -> list[str]:
        """Names of files that are in no copy, since nobody can tell what their lines are of."""
        return self._beside[1]

    def __contains__(self, name: str) -> bool:
        return name in KNOWN_TABLES and (self.path / name).exists()

    def table(self, name: str) -> dict[str, str]:
        """One table, which must be there."""
        if name not in self:
            raise DataError(
                f"{self.path / name}: no such file; make it with the stage before this one"
            )
        return self._read(name) if "opened" in self.__dict__ else read_table(self.path / name)

    def _read(self, name: str) -> dict[str, str]:
        """A table that has been `opened`, so that no id stands twice in it."""
        return {row.key: row.value for row in iter_rows(self.path / name)}

    @cached_property
    def utterances(self) -> list[str]:
        """Sorted ids of the utterances that stand in every table of utterances there is."""
        names = keyed_by_utterance(self.opened)
        if not names:
            expected = " ".join(UTTERANCE_TABLES)
            raise DataError(f"{self.path}: holds no data; make at least one of {expected}")
        return sorted(in_all([self.opened[name].ids for name in names]))

    def iter_utterances(self) -> Iterator[Utterance]:
        """Every complete utterance, sorted by id."""
        empty: dict[str, str] = {}
        wavs, feats, texts, speakers = (
            self.tables.get(name, empty) for name in ("wav.scp", "feats.scp", "text", "utt2spk")
        )
        places = self.tables.get("segments")
        for key in self.utterances:
            recording, start, end, _ = self._place(key, places) if places else Place(key, 0.0, None)
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

    def _place(self, key: str, segments: Mapping[str, str]) -> Place:
        """The stretch of its recording that an utterance is."""
        wrong = wrong_value("segments", segments[key])
        if wrong:
            remedy = f"correct it or run utils/fix_data_dir.py {self.path}"
            raise DataError(f"{self.path / 'segments'}: '{key}': {wrong}; {remedy}")
        return parse_place(segments[key])

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
        tables = open_tables(self.path, checked=True)
        options = {"files": files, "order": order, "empty_text": empty_text}
        return [
            *find_missing_tables(self.path, tables, wav, feats, text),
            *find_faults(self.path, tables, **options),
        ]

    def fix(self, *, files: bool = True, empty_text: bool = False) -> Repair:
        """Keep the utterances that are sound in all tables, sort, and make spk2utt again.

        The old tables go to `.backup/N`, the dropped ids and their reasons to `dropped.txt`. An id
        with two different entries is dropped: nobody can know which is right. To fix twice is the
        same as once.
        """
        tables = open_tables(self.path, checked=True)
        faults = find_faults(self.path, tables, files=files, empty_text=empty_text)
        dropped = find_dropped(tables, faults)
        known = in_any([tables[name].ids for name in keyed_by_utterance(tables)])
        kept = known - dropped.keys()
        if not kept:
            counts = Counter(dropped.values()).most_common()
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
            raise DataError(
                f"{self.path}: no utterance would remain ({reasons or 'it is empty'}); nothing was "
                f"changed, look at utils/validate_data_dir.py {self.path}"
            )
        index, removed = list[str](), list[str]()
        with together(self.path, index, removed) as draft:
            left = write_mended(draft, self.path, tables, kept)
            rewritten = [name for name in left if (draft / name).exists()]
            removed += [name for name in tables if name not in left]
            index += [name for name in INDEX if name in rewritten]
            if not rewritten and not removed:
                return Repair(len(kept), dropped, [], [], None)
            backup = save_old(self.path, rewritten)
            if dropped:
                record = self.path / DROPPED
                earlier = read_table(record) if record.exists() else {}
                write_table(draft / DROPPED, {**earlier, **dropped})
        for name in ("tables", "opened", "utterances", "_beside"):
            self.__dict__.pop(name, None)
        return Repair(len(kept), dropped, rewritten, removed, backup)

    def choose(self, count: int, by: str = "random", seed: int = 0) -> list[str]:
        """`count` ids: the "first", the "shortest", or "random" ones.

        Random goes by a hash of seed and id: the same on every machine, and n are among any m > n.
        """
        utterances = list(self.utterances)
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
            table = self._read(name) if name in self else {}
            if all(key in table and not wrong_value(name, table[key]) for key in utterances):
                return {key: float(table[key]) for key in utterances}
        if "segments" in self:
            segments = self._read("segments")
            places = ((key, self._place(key, segments)) for key in utterances)
            seconds = {key: p.end - p.start for key, p in places if p.end is not None}
            return seconds if len(seconds) == len(utterances) else {}
        return {}

    def subset(self, utterances: Collection[str], destination: str | Path) -> DataDir:
        """A directory with these utterances only; ids that are not here are passed over."""
        self.refuse_same(destination)
        kept = {*utterances}.intersection(self.utterances)
        if not kept:
            raise DataError(f"{self.path}: has none of the wanted utterances; compare the ids")
        return self._write_parts({Path(destination): kept})[0]

    def _write_parts(self, parts: Mapping[Path, set[str]]) -> list[DataDir]:
        """Directories of some of the utterances each. A table is read once for all of them, and
        forgotten before the next one.
        """
        with ExitStack() as stack:
            drafts = {
                stack.enter_context(together(path, INDEX, EVERY_TABLE)): Ids(utterances)
                for path, utterances in parts.items()
            }
            for name in self.opened:
                table = self._read(name)
                for draft, ids in drafts.items():
                    _write_chosen(draft, name, table, ids, "utt2spk" in self)
            for name, file in self.companions.items():
                for draft, ids in drafts.items():
                    _write_rows(draft / name, file.chosen(ids))
        return [DataDir(path) for path in parts]

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
        return self._write_parts({folder / str(n): {*part} for n, part in enumerate(parts, 1)})

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
        if "segments" not in self:  # recordings are utterances, their files are not
            ids = Ids.of(self.opened).utterances
            names[RECORDING] = lambda name: utterance(name) if name in ids else name
        kinds = dict.fromkeys((*keyed_by_utterance(self.opened), *OPTIONAL_TABLES), UTTERANCE)
        kinds |= dict.fromkeys(SPEAKER_TABLES, SPEAKER)
        kinds = {**dict.fromkeys(RECORDING_TABLES, RECORDING), **kinds}

        def renamed(name: str) -> dict[str, str]:
            change, table = names.get(kinds[name], str), self._read(name)
            who: Callable[[str], str] = speaker if name == "utt2spk" else str
            return {change(key): who(value) for key, value in table.items()}

        rows = {name: file.renamed(names) for name, file in self.companions.items()}
        return write_data_dir(destination, ((name, renamed(name)) for name in self.opened), rows)

    def perturb_speed(self, destination: str | Path, speeds: Sequence[float]) -> DataDir:
        """Text and speakers of what `make_fbank.py speeds=[…]` makes of this directory.

        Utterances and speakers of a speed other than 1 get the prefix `sp0.9-`. The tables of the
        audio are left out, since that keeps its speed.
        """
        self.refuse_same(destination)
        prefixes = ["" if speed == 1.0 else f"sp{speed:g}-" for speed in speeds]

        def perturbed(name: str) -> dict[str, str]:
            table, speakers = self._read(name), name == "utt2spk"
            return {
                prefix + key: prefix + value if speakers else value
                for prefix in prefixes
                for key, value in table.items()
            }

        names = ("text", "utt2lang", "utt2spk", "utt2uniq", "spk2gender")
        tables = ((name, perturbed(name)) for name in names if name in self.opened)
        units = self.companions.get("text_units")
        changes = [{UTTERANCE: prefix.__add__} for prefix in prefixes if units]
        rows = chain.from_iterable(units.renamed(change) for change in changes if units)
        return write_data_dir(destination, tables, {"text_units": rows})

    def refuse_same(self, destination: str | Path) -> None:
        """Refuse to write a directory over itself."""
        if Path(destination).resolve() == self.path.resolve():
            raise DataError(f"{destination}: is also the source; give another destination")


def _write_chosen(
    draft: Path, name: str, table: Mapping[str, str], ids: Ids, has_speakers: bool
) -> None:
    """Write the rows of a table that are of these utterances, their recordings and speakers."""
    keys = ids.of_table(name)
    chosen = {key: table[key] for key in table.keys() & keys}
    if name == "spk2utt":
        if has_speakers:  # utt2spk, which comes first, has made it
            return
        own = {who: sorted(ids.utterances.intersection(fields(table[who]))) for who in table}
        chosen = {who: " ".join(utterances) for who, utterances in own.items() if utterances}
    elif name in SPEAKER_TABLES and not ids.speakers:
        chosen = dict(table)
    ids.learn(name, chosen.items())
    _write_with_speakers(draft, name, chosen)


def _write_with_speakers(draft: Path, name: str, table: Mapping[str, str]) -> None:
    """Write a table, and beside utt2spk the spk2utt."""
    write_table(draft / name, table)
    if name == "utt2spk":
        write_table(draft / "spk2utt", invert(table))


def _write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows of a file beside the known tables; nothing if there are none."""
    write_text(path, row_lines(rows))
    if not path.stat().st_size:
        path.unlink()


def write_data_dir(
    destination: str | Path,
    tables: Contents | Iterable[tuple[str, Mapping[str, str]]],
    companions: Mapping[str, Iterable[Row]] | None = None,
    others: Mapping[str, str | None] | None = None,
) -> DataDir:
    """Write the tables, with spk2utt, as a data directory, of which nothing older is left.

    tables: by name, or one after another, so that they need not be in memory together.
    companions: rows of files beside the known tables. others: texts of files that go with them, by
    name; None: there is none any more.
    """
    pairs = tables.items() if isinstance(tables, Mapping) else tables
    companions, others = companions or {}, others or {}
    with together(destination, INDEX, (*EVERY_TABLE, *others)) as draft:
        has_speakers = False
        for name, table in pairs:
            has_speakers = has_speakers or name == "utt2spk"
            if name != "spk2utt" or not has_speakers:
                _write_with_speakers(draft, name, table)
        for name, rows in companions.items():
            _write_rows(draft / name, rows)
        for name, text in others.items():
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
