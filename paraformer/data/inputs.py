"""What may be given as `input`: files, lists, folders, bytes, arrays; each becomes items, one a
result. Audio is read only when its turn comes.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from paraformer.data.audio import read_audio
from paraformer.data.faults import wrong_value
from paraformer.data.keys import distinct_keys, key_of
from paraformer.data.tables import Row, fields, read_rows
from paraformer.errors import AudioError, ConfigError, DataError

TABLES = (".scp", ".txt", ".text")
LISTS = (*TABLES, ".json", ".jsonl")
AUDIO = (
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".amr", ".wma"),
    *(".mp4", ".webm", ".pcm", ".raw"),
)
# A segment may end this much after its recording, as in Kaldi's extract-segments.
OVERSHOOT_SECONDS = 0.5
_URL = re.compile(r"https?://", re.IGNORECASE)


class Segment(NamedTuple):
    """A stretch of a recording, in seconds; None: to its end."""

    start: float
    end: float | None


@dataclass(frozen=True)
class Item:
    """One thing to recognise; `source` is what `read_audio` takes, or why there is nothing."""

    key: str
    source: Any
    segment: Segment | None = None
    from_list: bool = False  # a list may name commands, an input itself may not
    path: str = ""  # what `key` was taken from; "" for an id that was given, which stays

    def read(self, fs: int | None, target_fs: int, cache: Cache | None = None) -> Tensor:
        """Samples (N,) at `target_fs`; segments of one recording in a row read it once."""
        if isinstance(self.source, DataError):
            raise self.source
        if cache is not None and cache.source is self.source and cache.wave is not None:
            wave = cache.wave
        else:
            wave = read_audio(self.source, fs=fs, target_fs=target_fs, allow_pipe=self.from_list)
        if self.segment is None:
            return wave
        if cache is not None:
            cache.source, cache.wave = self.source, wave
        return cut(wave, target_fs, *self.segment)


@dataclass
class Cache:
    """The recording read last."""

    source: Any = None
    wave: Tensor | None = None


def cut(wave: Tensor, fs: int, start: float, end: float | None) -> Tensor:
    """The samples (N,) between two times in seconds, end None: to the end of the recording.

    A stretch that lies outside of its recording is an error.
    """
    seconds = len(wave) / fs
    late = end is not None and end > seconds + OVERSHOOT_SECONDS
    if late or start > seconds:
        until = "its end" if end is None else f"{end} s"
        raise AudioError(
            f"segment from {start} s to {until} in a recording of {seconds:.2f} s; "
            "mend the segments file"
        )
    return wave[round(start * fs) : None if end is None else round(end * fs)]


def is_single(source: object) -> bool:
    """Whether an input is one recording by itself rather than a list, a folder or a pattern."""
    if isinstance(source, (str, Path)):
        return not _is_list(source) and not os.path.isdir(source) and not _matches(str(source))
    return isinstance(source, (bytes, bytearray, memoryview, np.ndarray, Tensor, Mapping))


def list_items(source: object, key: object = "", segments: str = "") -> list[Item]:
    """Items of an input, in order. `key` renames them: an id, or as many ids as there are items.

    Else ids are those of the list; a file without one is known by its name (see `distinct_keys`).
    """
    if segments and not os.path.isfile(segments):
        raise DataError(f"{segments}: no such file of segments; check the path")
    items = [
        item if item.key else replace(item, key=f"audio_{place}", path=f"audio_{place}")
        for place, item in enumerate(_expand(source, segments), 1)
    ]
    items = _with_distinct_keys(items)
    if key in ("", None):
        return items
    keys = [str(k) for k in key] if isinstance(key, (list, tuple)) else [str(key)]
    if len(keys) != len(items):
        raise ConfigError(f"key: {len(keys)} ids for {len(items)} inputs; give one id for each")
    return [replace(item, key=name) for item, name in zip(items, keys, strict=True)]


def _with_distinct_keys(items: list[Item]) -> list[Item]:
    given = [item.key for item in items if not item.path]
    keys = iter(distinct_keys([item.path for item in items if item.path], given))
    return [replace(item, key=next(keys)) if item.path else item for item in items]


def _expand(source: object, segments: str) -> Iterator[Item]:
    if isinstance(source, (str, Path)):
        yield from _expand_path(source, segments)
    elif isinstance(source, (bytes, bytearray, memoryview, np.ndarray, Tensor)):
        yield Item("", source)
    elif hasattr(source, "read"):
        yield Item("", source.read())
    elif isinstance(source, Mapping):
        yield _from_object(source, "input")
    elif isinstance(source, Iterable):
        for one in source:
            if isinstance(one, (int, float)):
                raise DataError("input: a list of numbers; give numpy.array(...) of it, and fs")
            yield from _expand(one, segments)
    else:
        raise DataError(
            f"input: {type(source).__name__} holds no audio; give a path, a list, bytes or an array"
        )


def _expand_path(source: str | Path, segments: str) -> Iterator[Item]:
    path = Path(source)
    if not str(source).strip():
        raise DataError("input: is empty; give an audio file, a list or a folder")
    if isinstance(source, str) and (_URL.match(source) or source.rstrip().endswith("|")):
        yield _named(source, source)
    elif os.path.isdir(path):  # False where the system refuses the name, unlike Path.is_dir
        yield from _read_folder(path, segments)
    elif _is_list(path):
        yield from _read_list(path, segments)
    elif found := _matches(str(source)):
        for name in found:
            yield from _expand_path(name, segments)
    else:
        yield _named(str(source), source)


def _is_list(source: str | Path) -> bool:
    is_url = isinstance(source, str) and _URL.match(source)
    return not is_url and Path(source).suffix.lower() in LISTS


def _matches(pattern: str) -> list[str]:
    """Files that a pattern names, where there is no file of that very name."""
    if not glob.has_magic(pattern) or _URL.match(pattern) or os.path.exists(pattern):
        return []
    return sorted(glob.glob(pattern))


def _named(path: str, source: Any, from_list: bool = False) -> Item:
    """An item that is known by the name of its file."""
    return Item(key_of(path), source, None, from_list, path)


def _read_folder(folder: Path, segments: str) -> Iterator[Item]:
    """A data directory by its wav.scp, another one by all the audio files in and below it."""
    if (folder / "wav.scp").is_file():
        yield from _read_list(folder / "wav.scp", segments)
        return
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO and p.is_file())
    if not files:
        raise DataError(f"{folder}: no audio file and no wav.scp in it; give another folder")
    for path in files:
        yield _named(str(path), path)


def _read_list(path: Path, segments: str) -> Iterator[Item]:
    """Each line is an item; an id that stands a second time is refused, the first is kept."""
    objects = path.suffix.lower() in (".json", ".jsonl")
    items = list(_read_objects(path) if objects else _read_table(path))
    if not items:
        raise DataError(f"{path}: holds no lines; give `id file` a line")
    beside = path.with_name("segments")
    if segments or (path.name == "wav.scp" and beside.is_file()):
        recordings = _with_distinct_keys(items)
        items = list(_cut_up(recordings, Path(segments) if segments else beside))
    yield from items


def _read_table(path: Path) -> Iterator[Item]:
    first: dict[str, int] = {}
    for row in read_rows(path):
        item = _row_item(row, path)
        if not item.path and item.key in first:
            item = Item(item.key, _twice(path, row.line, item.key, first[item.key]))
        elif not item.path:
            first[item.key] = row.line
        yield item


def _row_item(row: Row, path: Path) -> Item:
    """An item of `id source` or `source`; a file name with blanks may stand alone too."""
    if not row.value:
        return _named(row.key, _locate(row.key, path), from_list=True)
    located = _locate(row.value, path)
    alone = f"{row.key} {row.value}"
    if not os.path.exists(located) and os.path.isfile(_locate(alone, path)):
        return _named(alone, _locate(alone, path), from_list=True)
    return Item(row.key, located, from_list=True)


def _locate(source: str, path: Path) -> str:
    """A relative path counts from the current folder, as in Kaldi; else from that of the list."""
    if source.endswith("|") or _URL.match(source) or os.path.exists(source):
        return source
    beside = path.parent / source
    place = re.sub(r":\d+(\[[\d:,]*\])?$", "", str(beside))
    return str(beside) if os.path.isfile(place) else source


def _twice(path: Path, line: int, key: str, first: int) -> DataError:
    return DataError(f"{path}:{line}: id '{key}' stands already in line {first}; give it another")


def _read_objects(path: Path) -> Iterator[Item]:
    """A JSON list, a JSON object of ids, or one JSON value (or `id source`) a line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file (looked for {path.absolute()})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    first: dict[str, int] = {}
    for line, value in _values(path, text):
        item = _from_object(value, f"{path}:{line}")
        if isinstance(item.source, str):
            item = replace(item, source=_locate(item.source, path), from_list=True)
        if not item.path and item.key in first:
            item = replace(item, source=_twice(path, line, item.key, first[item.key]))
        elif not item.path:
            first[item.key] = line
        yield item


def _values(path: Path, text: str) -> Iterator[tuple[int, object]]:
    """(line, value) of JSON lines, or of the entries of one JSON document."""
    try:
        whole = json.loads(text) if text.strip() else []
    except json.JSONDecodeError:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _parse(line.strip())
        return
    if isinstance(whole, dict) and "source" not in whole:
        yield from enumerate(({"key": k, "source": v} for k, v in whole.items()), 1)
    else:
        yield from enumerate(whole if isinstance(whole, list) else [whole], 1)


def _parse(line: str) -> object:
    """A line of JSON; in a .json file of the reference it may be `id source` as well."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        key, _, source = line.replace("\t", " ").partition(" ")
        return {"key": key, "source": source.strip()} if source.strip() else key


def _from_object(value: object, where: str) -> Item:
    if isinstance(value, str):
        return _named(value, value)
    if not isinstance(value, Mapping) or "source" not in value:
        return Item(
            where, DataError(f'{where}: not {{"key": ..., "source": ...}}; mend this entry')
        )
    source = value["source"]
    if not value.get("key") and isinstance(source, str):
        return _named(source, source)
    return Item(str(value.get("key") or ""), source)


def _cut_up(recordings: Sequence[Item], path: Path) -> Iterator[Item]:
    """Items of a Kaldi segments file: `utterance recording start end`, end -1: to the end."""
    by_key = {item.key: item for item in reversed(recordings)}
    first: dict[str, int] = {}
    for row in read_rows(path):
        wrong = wrong_value("segments", row.value)
        where = f"{path}:{row.line}"
        if row.key in first:
            yield Item(row.key, _twice(path, row.line, row.key, first[row.key]))
            continue
        first[row.key] = row.line
        if wrong:
            yield Item(row.key, DataError(f"{where}: {wrong}; mend this line"))
            continue
        name, start, end = fields(row.value)
        if name not in by_key:
            yield Item(row.key, DataError(f"{where}: no recording '{name}' in the list; add it"))
            continue
        segment = Segment(float(start), float(end) if float(end) >= 0 else None)
        yield replace(by_key[name], key=row.key, segment=segment, path="")
