"""Lists that are no tables of ours: the metadata.csv beside audio, and tars that hold audio, as
WebDataset and `make_shards` write them.
"""

from __future__ import annotations

import csv
import re
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from paraformer.data.audio import cloud
from paraformer.data.audio.media import AUDIO
from paraformer.data.corpus.tables import iter_lines
from paraformer.data.inputs.audio_items import Item, named
from paraformer.data.inputs.lists import Entry, ListFile
from paraformer.errors import DataError, ParaformerError

CSV, TAR = ".csv", ".tar"
METADATA = ("metadata.csv", "metadata.jsonl")
COLUMN = "file_name"
_QUOTED = re.compile("%(25|2F|5C)")  # what `make_shards` writes for % / \ in an id


class CsvFile(ListFile):
    """The metadata of a folder of Hugging Face's datasets: a table with a column `file_name`."""

    def entries(self) -> Iterator[Entry]:
        """See `ListFile`."""
        lines = iter_lines(self.path, self.shown)
        rows = csv.reader(line.removeprefix("\ufeff") for _, line in lines)
        try:
            head = next(rows, [])
            if COLUMN not in head:
                raise DataError(f"{self.shown}: has no column {COLUMN}; name that of the audio so")
            place = head.index(COLUMN)
            for row in rows:
                if row:
                    name = row[place].strip() if place < len(row) else ""
                    yield Entry(rows.line_num, "", name or f"{self.shown}:{rows.line_num}", name)
        except csv.Error as error:
            raise DataError(f"{self.shown}:{rows.line_num}: {error}; mend this line") from error

    def item(self, entry: Entry) -> Item:
        """See `ListFile`."""
        source: Any = self.locate(entry.source)
        if not source:
            source = DataError(f"{self.shown}:{entry.line}: no {COLUMN}; mend this line")
        elif source.rstrip().endswith("|"):
            source = self._no_command(entry, "`id command |`, never from a csv")
        return named(entry.path, source)


class TarFile(ListFile):
    """The audio in a tar, read member by member where it lies; what else is in it is passed over.

    Ids are the names of the members without their ends, so an audio file beside x.txt or x.json is
    x. Nothing is unpacked.
    """

    def entries(self) -> Iterator[Entry]:
        """See `ListFile`."""
        number = 0
        try:
            with self._opened() as file, tarfile.open(fileobj=file, mode="r:") as opened:
                tar: Any = opened
                while (member := tar.next()) is not None:
                    tar.members.clear()  # which holds all that it has seen
                    number += 1
                    name = PurePosixPath(member.name.removeprefix("./"))
                    if member.isreg() and not member.issparse() and name.suffix.lower() in AUDIO:
                        key = _QUOTED.sub(
                            lambda code: chr(int(code[1], 16)), str(name)[: -len(name.suffix)]
                        )
                        yield Entry(number, key, "", (member.offset_data, member.size))
                # tarfile takes a head that is none for the end.
                self._end(tar)
        except ParaformerError as error:
            yield Entry(number + 1, f"{self.shown}:{number + 1}", "", DataError(str(error)))
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            fault = DataError(
                f"{self.shown}: cannot be read as a tar that is not compressed ({reason}), from "
                f"member {number + 1} on; make it again"
            )
            yield Entry(number + 1, f"{self.shown}:{number + 1}", "", fault)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            yield file

    @staticmethod
    def _end(tar: Any) -> None:
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("damaged head")

    def item(self, entry: Entry) -> Item:
        """See `ListFile`."""
        if isinstance(entry.source, DataError):
            return Item(entry.key, entry.source)
        start, size = entry.source
        with self._opened() as file:
            file.seek(start)
            return Item(entry.key, file.read(size))


class RemoteTar(TarFile):
    """A tar at an address, of which a part is held: each pass over its members reads it once."""

    def __init__(self, url: str) -> None:
        super().__init__(Path(url), url)
        self._file: cloud.Parts | None = None  # of the pass that is under way

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if self._file is not None:
            yield self._file
            return
        with closing(cloud.Parts(self.shown)) as file:
            self._file = file
            try:
                yield file
            finally:
                self._file = None

    def item(self, entry: Entry) -> Item:
        """See `ListFile`."""
        try:
            return super().item(entry)
        except ParaformerError as error:
            return Item(entry.key, DataError(str(error)))


def is_remote_tar(url: str) -> bool:
    """Whether an address is that of a tar."""
    return urlsplit(url).path.lower().endswith(TAR)


def metadata_of(folder: Path) -> Path | None:
    """The metadata of a folder of audio, if it has some."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)
