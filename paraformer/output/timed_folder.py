"""A folder of files with times: one for each recording, or a table of all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from paraformer.data.corpus.origins import Origins
from paraformer.errors import DataError
from paraformer.files import check_folder, replacing
from paraformer.output.manifests import LHOTSE, NEMO
from paraformer.output.subtitle_lines import LineLimits, Transcript, transcript
from paraformer.output.tables import TIMED_FILES, TIMED_TABLES, format_result, row_id
from paraformer.output.timed_formats import check_extra, format_parts, is_timed, refuse_stretches

# What ends the names of files that hold one recording.
SUFFIXES = {name: name for name in TIMED_FILES} | {"textgrid": "TextGrid"}
# One that holds all.
LINE_FILES = {"json": "results.jsonl", NEMO: "manifest.jsonl", LHOTSE: "cuts.jsonl"}
TABLE_FILES = {name: name for name in TIMED_TABLES} | LINE_FILES
SPEAKER_TABLES = ("stm", "rttm")  # say who speaks
# What some system takes in no name of a file.
_UNSAFE = re.compile(r"""[/\\:*?"<>|\0-\x1f]|^\.+$""")
LONGEST_STEM = 200
# A group of results -> where their rows begin in a table, and how long they are.
Places = dict[tuple[str, ...], list[tuple[int, int]]]


class TimedFolder:
    """A folder that results go to as they come: for ctm, stm and rttm one table of that name,
    sorted in the end as sclite wants it; for json results.jsonl; else a file `key.suffix` for each
    recording. resume: what is there stays.

    Results of segments, or of recordings that have other names in ctm and stm (origins), are
    gathered in results.jsonl, of which close makes files and tables of whole recordings.

    Which file is whose depends on the order of all ids, so those that failed are added too, and
    those whose lines or files are there are kept.
    """

    def __init__(
        self,
        folder: str | Path,
        output_format: str,
        limits: LineLimits | None = None,
        resume: bool = False,
        origins: Origins | None = None,
        exact: bool = False,
        joined: bool = False,
    ) -> None:
        """exact: see `transcript`. joined: results are of channels of recordings, which are
        gathered too.
        """
        check_extra(output_format)
        self.folder = check_folder(folder)
        self.output_format, self.limits = output_format, limits or LineLimits()
        self.origins, self.exact = origins or Origins(), exact
        self._names: set[str] = set()
        is_table = output_format in TIMED_TABLES
        # Read before any work is done, since they may be none.
        renamed = is_table and bool(self.origins.files)
        if output_format in SPEAKER_TABLES:
            self.origins.speaker("")
        self._gathers = is_timed(output_format) and (self.origins.segmented or renamed or joined)
        name = TABLE_FILES["json"] if self._gathers else TABLE_FILES.get(output_format)
        self._table = self.folder / name if name else None
        if self._table:
            self._write(self._table, "", resume)
        if self._gathers and is_table and not resume:
            self._write(self.folder / output_format, "")

    @property
    def beside(self) -> list[str]:
        """The table that grows here with each result, if there is one."""
        return [self._table.name] if self._table else []

    def keep(self, key: str) -> None:
        """The next recording is that of this id, whose lines or file are there."""
        if not self._table:
            self._name(key)

    def add(self, result: Mapping[str, Any]) -> None:
        """Write one result; one that failed has nothing to write."""
        if "error" in result:
            self.keep(str(result["key"]))
            return
        if is_timed(self.output_format):
            found = self._placed(result)
        if self._gathers or self.output_format in LINE_FILES:
            form = "json" if self._gathers else self.output_format
            text = format_result(result, form) + "\n"
        else:
            text = format_parts([found], self.output_format, self.limits)
        if self._table:
            self._write(self._table, text, more=True)
        else:
            self._write(self.folder / self._name(str(result["key"])), text)

    def close(self) -> None:
        """Sort the table by id; lines of one recording stay in their order."""
        if self._gathers:
            self._make_recordings()
        elif self._table and self.output_format in TIMED_TABLES:
            lines = self._table.read_bytes().splitlines(keepends=True)
            place = 1 if self.output_format == "rttm" else 0  # of the id
            lines.sort(key=lambda line: line.split(b" ", 2)[place])
            with replacing(self._table) as draft:
                draft.write_bytes(b"".join(lines))

    def _placed(self, result: Mapping[str, Any]) -> Transcript:
        """When and by whom the words of a result were spoken in its recording."""
        found = transcript(result, self.exact)
        refuse_stretches(found, self.output_format)
        if self.output_format not in TIMED_TABLES:
            return found.moved(int(result.get("start", 0)))
        recording, *channel = _recording(result)
        file, name = self.origins.file_and_channel(row_id(recording), *channel)
        named = self.output_format in SPEAKER_TABLES
        speaker = self.origins.speaker(row_id(found.key)) if named else ""
        placed = found._replace(key=file, channel=name, speaker=speaker)
        return placed.moved(int(result.get("start", 0)))

    def _make_recordings(self) -> None:
        """Of the results that were gathered make the file or the lines of each recording."""
        assert self._table is not None
        self._names.clear()
        is_table = self.output_format in TIMED_TABLES
        places = _places(self._table, self._table_order if is_table else self._file_order)
        if is_table:
            texts = (text for _, text in self._texts(sorted(places), places))
            self._write(self.folder / self.output_format, texts)
            return
        for (recording, *_), text in self._texts(places, places):
            self._write(self.folder / self._name(recording), text)

    def _texts(
        self, groups: Iterable[tuple[str, ...]], places: Places
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        """Each of these groups of results with its text."""
        assert self._table is not None
        with self._table.open("rb") as gathered:
            for group in groups:
                parts = [self._placed(_read_row(gathered, place)) for place in places[group]]
                yield group, format_parts(parts, self.output_format, self.limits)

    def _file_order(self, result: Mapping[str, Any]) -> tuple[str, ...]:
        return (_recording(result)[0],)

    def _table_order(self, result: Mapping[str, Any]) -> tuple[str, ...]:
        recording, channel = _recording(result)
        return self.origins.file_and_channel(row_id(recording), channel)

    def _name(self, key: str) -> str:
        """A file name that no other recording has."""
        stem = _short(_UNSAFE.sub("_", row_id(key))) or "_"
        suffix = SUFFIXES[self.output_format]
        name, number = f"{stem}.{suffix}", 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}.{suffix}"
        self._names.add(name)
        return name

    @staticmethod
    def _write(path: Path, text: str | Iterable[str], more: bool = False) -> None:
        parts = [text] if isinstance(text, str) else text
        whole = nullcontext(path) if more else replacing(path)
        try:
            with whole as place, place.open("ab" if more else "wb") as file:
                for part in parts:  # a key need not be text of any encoding
                    file.write(part.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give another output_dir") from error


def _recording(result: Mapping[str, Any]) -> tuple[str, int | None]:
    """The recording that a result is of, and which channel of it where the result is a segment."""
    if "recording" not in result:
        return str(result["key"]), None
    return str(result["recording"]), result.get("channel")


def _places(table: Path, group: Callable[[Mapping[str, Any]], tuple[str, ...]]) -> Places:
    """The places of the results of a table, by the group that each belongs to."""
    places: Places = {}
    start = 0
    with table.open("rb") as file:
        for line in file:
            places.setdefault(group(json.loads(line)), []).append((start, len(line)))
            start += len(line)
    return places


def _read_row(file: BinaryIO, place: tuple[int, int]) -> dict[str, Any]:
    file.seek(place[0])
    return dict(json.loads(file.read(place[1])))


def _short(stem: str) -> str:
    """A file name that is not too long for a file system, which counts bytes.

    >>> len(_short("a" * 300)), _short("好" * 100) == "好" * 66
    (200, True)
    """
    content = stem.encode("utf-8", "surrogatepass")
    return content[:LONGEST_STEM].decode("utf-8", "ignore") if len(content) > LONGEST_STEM else stem
