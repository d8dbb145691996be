"""The folders of shards become one, as of a single run: its tables in the order of the list."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import islice
from operator import and_
from pathlib import Path
from typing import Any, NamedTuple

from paraformer.data.audio.channels import MIX
from paraformer.data.corpus.origins import Origins
from paraformer.data.corpus.texts import read_texts
from paraformer.data.inputs.data_folder import data_items, stored_items
from paraformer.data.inputs.lists import JSON
from paraformer.data.inputs.sources import Inputs
from paraformer.errors import ConfigError, DataError
from paraformer.files import replacing
from paraformer.output.resume import FAILED, MADE_WITH, Made, encoded, sort_tables, table_lines
from paraformer.output.shards import claim, shard_folders
from paraformer.output.subtitle_lines import LineLimits
from paraformer.output.tables import FORMATS, TIMED_FILES, TIMED_TABLES
from paraformer.output.timed_folder import LINE_FILES, TABLE_FILES, TimedFolder
from paraformer.shard import PREFIX, read_shard

log = logging.getLogger(__name__)

MISSING = "missing"
STATS = "stats.json"
SHOWN = 5  # ids of what is missing or has failed
# Tables of programs in which an utterance may have any number of lines, or none.
_SEVERAL = ("intervals", *TIMED_TABLES, FAILED)
# Tables of programs that write times alone, as they are.
_EXACT = ("intervals", "delay")


class Merged(NamedTuple):
    """Counts of the utterances of a list."""

    total: int
    done: int
    failed: int
    missing: int  # neither done nor failed: their shard was stopped, or has not begun

    def code(self, min_success: float) -> int:
        """The exit code: 1 if a smaller share is done."""
        return 0 if self.done >= min_success * self.total else 1


class Shards:
    """The shards that lie in a folder: parts of one list by the same models and options, which
    nobody writes now.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = {path: Made.read(path) for path in shard_folders(folder).values()}
        self.made = {path: record for path, record in made.items() if record is not None}
        self.parts = {path: read_shard(m.options.get("shard")) for path, m in self.made.items()}
        if not self.made or None in self.parts.values():
            raise ConfigError(
                f"{folder}: holds no results of shards ({PREFIX}1 ...); give the output_dir of "
                "runs with shard=i/n"
            )
        for path, part in self.parts.items():
            if part is not None:
                claim(folder, part).close()
            said = self.record.differences(_of_all(self.made[path]))
            if said:
                raise ConfigError(f"{path}: its results were made otherwise ({said}); make it anew")
        self.names = sorted({name for path in self.made for name in _files(path)})
        if "segments" in self.names:
            raise ConfigError(
                f"{folder}: its shards are data directories; give them to utils/combine_data.py"
            )

    @property
    def record(self) -> Made:
        """The record of a run of all."""
        return _of_all(next(iter(self.made.values())))

    @property
    def of_command(self) -> bool:
        """Whether `funasr` wrote them, whose tables stand in folders of ranks."""
        return any("/" in name and not name.startswith("nbest/") for name in self.names)

    @property
    def tables(self) -> list[str]:
        """Tables with lines of utterances, in the order of the list."""
        known = {*LINE_FILES.values(), FAILED}
        return [n for n in self.names if n in known or not (Path(n).suffix or n in TIMED_TABLES)]

    @property
    def whole(self) -> list[str]:
        """The tables in which each utterance that is done has a line."""
        if self.of_command:
            return [n for n in self.tables if n.startswith(("1best_recog/", "tp_res/"))]
        return [n for n in self.tables if not {"/", "."} & {*n} and n not in _SEVERAL]

    def absent(self) -> list[int]:
        """The numbers of those that are not there."""
        parts = [part for part in self.parts.values() if part is not None]
        return sorted({*range(1, parts[0].shards + 1)} - {part.number for part in parts})

    def write(self, keys: Sequence[str], origins: Origins) -> Merged:
        """Write tables and files of all into their folder; keys: the ids of the list."""
        wanted = Counter(map(encoded, keys))
        done, failed = Counter[bytes](), Counter[bytes]()
        for path in self.made:
            lost = _keys(path / FAILED)
            mine = reduce(and_, (_keys(path / name) for name in self.whole))
            if self.of_command:  # which writes an empty line of what has failed
                mine -= lost
            for key in (mine + lost) - wanted:
                raise DataError(
                    f"{path}: '{key.decode()}' is not in the list; give that of the shards"
                )
            done += mine
            failed += lost
        missing = wanted - done - failed
        (self.folder / MADE_WITH).unlink(missing_ok=True)
        for name in self.tables:
            _join(self.folder, name, self.made, done.keys() | failed.keys())
        sort_tables([self.folder / name for name in self.tables], keys)
        self._write_timed(origins)
        _write_missing(self.folder / MISSING, (key for key in keys if missing[encoded(key)] > 0))
        _add_up(self.folder / STATS, [path / STATS for path in self.made])
        self.record.write(self.folder)
        return Merged(len(keys), *(each.total() for each in (done, failed, missing)))

    def _write_timed(self, origins: Origins) -> None:
        """Files and tables of times: those of segments are made anew of all results."""
        exact = any(name in self.names for name in _EXACT)
        options = self.record.options
        output_format = "ctm" if exact else options.get("output_format", FORMATS[0])
        if output_format in TIMED_TABLES or output_format in TIMED_FILES:
            if TABLE_FILES["json"] in self.names:
                given = {n: options[n] for n in ("max_line_chars", "max_line_s") if n in options}
                limits = LineLimits(**given)
                where = (self.folder, output_format, limits, True, origins)
                TimedFolder(*where, exact=exact).close()
                return
            for name in self.names:
                if name in TIMED_TABLES:
                    _join(self.folder, name, self.made)
                    _sort_by_recording(self.folder / name)
                elif Path(name).suffix and name not in (TABLE_FILES["json"], STATS):
                    _copy(self.folder / name, [path / name for path in self.made])


def merge(out: str, data: str, segments: str = "") -> Merged:
    """Merge the shards in `out`; what is missing or has failed is named and counted. data: the list
    or the data directory that they were given, segments: the segments file.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise ConfigError(f"{out}: no such folder; give the one that holds the shards")
    shards = Shards(folder)
    merged = shards.write(*_list(data, segments, shards))
    if absent := shards.absent():
        log.warning("not there: shards %s", " ".join(map(str, absent)))
    for name in ("failed", MISSING):
        if count := getattr(merged, name):
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                ids = [line.split(" ", 1)[0].rstrip() for line in islice(file, SHOWN)]
            shown = " ".join(ids) + (" ..." if count > SHOWN else "")
            log.warning("%d utterances %s: %s (%s)", count, name, shown, folder / name)
    log.info("merged %d of %d utterances", merged.done, merged.total)
    return merged


def _list(data: str, segments: str, shards: Shards) -> tuple[list[str], Origins]:
    """The ids of all that the shards were given, in the order of one run, and their origins."""
    if (texts := _text_ids(Path(data), shards)) is not None:
        return texts, Origins()
    folder, options = Path(data), shards.record.options
    channel = options.get("channel", MIX)
    if shards.of_command or not folder.is_dir():
        inputs = Inputs(data, segments=segments, channel=channel)
        return [key for key, _ in inputs.keyed()], inputs.origins
    has_feats = "token" in shards.names and (folder / "feats.scp").is_file()
    stored = has_feats and options.get("use_feats", True) and "vad_model" not in options
    items = stored_items(folder) if stored else data_items(folder, channel)
    return [item.key for item in items], items.origins


def _text_ids(data: Path, shards: Shards) -> list[str] | None:
    """The ids of the texts in a file, of which the shards hold the first that they do; None of
    others.
    """
    if data.suffix.lower() in JSON or not data.is_file():
        return None
    if {Path(name).name for name in shards.names} - {"text", FAILED}:
        return None
    rows = (
        line.key
        for path in shards.made
        for name in shards.tables
        for line in table_lines(path / name)
    )
    ids = [*read_texts(data).table]
    if next(rows, b"") not in {*map(encoded, ids)}:
        return None
    return ids if shards.of_command else sorted(ids)


def _of_all(made: Made) -> Made:
    return made._replace(options={k: v for k, v in made.options.items() if k != "shard"})


def _files(folder: Path) -> Iterator[str]:
    """The files of results that a shard holds, relative to it."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and name not in (MADE_WITH, STATS):
            yield name


def _keys(table: Path) -> Counter[bytes]:
    return Counter(line.key for line in table_lines(table))


def _join(
    folder: Path, name: str, parts: Iterable[Path], keys: Iterable[bytes] | None = None
) -> None:
    """The whole lines of a table of some folders, one after another; keys: of these ids alone."""
    chosen = None if keys is None else {*keys}
    with replacing(folder / name) as draft, draft.open("wb") as new:
        for path in (part / name for part in parts):
            if not path.is_file():
                continue
            with path.open("rb") as old:
                for line in table_lines(path):
                    text = old.read(line.size)
                    if chosen is None or line.key in chosen:
                        new.write(text)


def _sort_by_recording(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines.sort(key=lambda line: line.split(b" ", 1)[0])
    with replacing(path) as draft:
        draft.write_bytes(b"".join(lines))


def _copy(path: Path, sources: Iterable[Path]) -> None:
    """A file of a recording, which one shard has."""
    found = [source for source in sources if source.is_file()]
    if len(found) > 1:
        raise DataError(
            f"{found[0]}: shards have several recordings of this name; give them other ids"
        )
    with replacing(path) as draft:
        shutil.copyfile(found[0], draft)


def _write_missing(path: Path, keys: Iterable[str]) -> None:
    path.unlink(missing_ok=True)
    lines = b"".join(encoded(key) + b"\n" for key in keys)
    if lines:
        with replacing(path) as draft:
            draft.write_bytes(lines)


def _add_up(path: Path, parts: Iterable[Path]) -> None:
    """Statistics of programs: counts and seconds are added, all else is that of each."""
    told = [json.loads(part.read_text("utf-8")) for part in parts if part.is_file()]
    if not told:
        return
    sums: dict[str, Any] = {}
    for name, value in told[0].items():
        same = [part[name] for part in told if name in part]
        is_count = isinstance(value, (int, float)) and name not in ("rtf", "streams", "simulate")
        sums[name] = round(sum(same), 3) if is_count else value
    sums = {name: value for name, value in sums.items() if not _is_spread(value)}
    if sums.get("audio_seconds"):
        sums["rtf"] = round(sums["elapsed_seconds"] / sums["audio_seconds"], 5)
    with replacing(path) as draft:
        text = json.dumps(sums, ensure_ascii=False, indent=1) + "\n"
        draft.write_text(text, encoding="utf-8", newline="\n")


def _is_spread(value: object) -> bool:
    """Whether a statistic is a median and the like, which those of parts do not tell."""
    return isinstance(value, Mapping) and "median" in value
