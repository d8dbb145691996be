"""Results as lines: text to read, Kaldi tables, or JSON."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from paraformer.errors import ConfigError, DataError

FORMATS = ("text", "json")
TABLES = ("text", "token")
BLANKS = r"[ \t\r\n]+"  # other blanks, such as U+3000, separate nothing in a Kaldi table
Result = Mapping[str, Any]


def format_result(result: Result, output_format: str = "text", alone: bool = False) -> str:
    """One line: `key text`, only the text of what stands `alone`, or a JSON object.

    >>> format_result({"key": "a b", "text": "你好"}), format_result({"text": "你好"}, alone=True)
    ('a_b 你好', '你好')
    """
    check_format(output_format)
    if output_format == "json":
        return json.dumps(result, ensure_ascii=False)
    # A VAD has segments in place of a text.
    shown = result["text"] if "text" in result else json.dumps(result["value"])
    text = " ".join(str(shown).split())
    return text if alone else table_line(str(result["key"]), text)


def check_format(output_format: str) -> None:
    """Refuse a format that is not known, before any work is done."""
    if output_format not in FORMATS:
        raise ConfigError(f"output_format={output_format}: not known; use {' or '.join(FORMATS)}")


def table_line(key: str, value: str) -> str:
    """A line of a Kaldi table: blanks in the id become `_`, so that its first blank ends it."""
    return f"{re.sub(BLANKS, '_', key)} {value}".rstrip()


def check_folder(folder: str | Path) -> Path:
    """A folder for results, made if it is not there; refused where nothing can be written."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    reason = "is a file" if isinstance(error, FileExistsError) else error.strerror or error
    return DataError(f"{path}: {reason}; give another folder for the results")


class GrowingTables:
    """Kaldi tables of one folder, each line on disk as soon as it is added, in that order.

    stale: patterns of what earlier runs may have left in the folder, which goes first. names: the
    tables, relative to the folder, there from the start though empty.
    """

    def __init__(self, folder: str | Path, stale: Sequence[str], names: Sequence[str]) -> None:
        self.folder = check_folder(folder)
        self._files: dict[str, TextIO] = {}
        try:
            for path in [path for pattern in stale for path in self.folder.glob(pattern)]:
                self._remove(path)
            for name in names:
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                # A file name in a message need not be text of any encoding.
                self._files[name] = path.open("w", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            self.close()
            raise _unwritable(path, error) from error

    def _remove(self, path: Path) -> None:
        """A file, and the folders below ours that it leaves empty."""
        path.unlink()
        for parent in path.relative_to(self.folder).parents[:-1]:
            if any((self.folder / parent).iterdir()):
                break
            (self.folder / parent).rmdir()

    def add(self, name: str, key: str, value: str) -> None:
        """Write a line of the table `name`."""
        try:
            self._files[name].write(table_line(key, " ".join(value.splitlines())) + "\n")
            self._files[name].flush()
        except OSError as error:
            raise _unwritable(self.folder / name, error) from error

    def close(self) -> None:
        """Close the files; they are complete at any time before."""
        for file in self._files.values():
            file.close()


class ResultFolder:
    """`output_dir` as the reference lays it out: 1best_recog/{text,token}, 2best_recog/..., and
    `failed`: a line `key reason` for each utterance without a result.
    """

    def __init__(self, folder: str | Path, nbest: int = 1) -> None:
        self.nbest = nbest
        stale = [f"[0-9]*best_recog/{name}" for name in TABLES] + ["failed"]
        tables = [f"{n}best_recog/{name}" for n in range(1, nbest + 1) for name in TABLES]
        self._tables = GrowingTables(folder, stale, [*tables, "failed"])

    def add(self, key: str, readings: Sequence[tuple[str, Sequence[str]]], error: str = "") -> None:
        """Text and tokens of each reading of one utterance, the best first; none: an empty one."""
        for rank, (text, tokens) in enumerate(readings[: self.nbest] or [("", [])], 1):
            for name, value in zip(TABLES, (text, " ".join(tokens)), strict=True):
                self._tables.add(f"{rank}best_recog/{name}", key, value)
        if error:
            self._tables.add("failed", key, error)

    def close(self) -> None:
        """Close the files; they are complete at any time before."""
        self._tables.close()
