"""Results as lines: text to read, Kaldi tables, or JSON; `timed_formats` has those with times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from paraformer.errors import ConfigError
from paraformer.files import check_folder, unwritable
from paraformer.output.resume import FAILED, Finished, Made, row_id

LINES = ("text", "json")
TIMED_FILES = ("srt", "vtt", "textgrid", "lrc", "tsv")  # one for each recording
TIMED_TABLES = ("ctm", "stm")  # one for all
FORMATS = (*LINES, *TIMED_FILES, *TIMED_TABLES)
TABLES = ("text", "token", "timestamp")
Result = Mapping[str, Any]


def format_result(result: Result, output_format: str = "text", alone: bool = False) -> str:
    """One line: `key text`, only the text of what stands `alone`, or a JSON object.

    >>> format_result({"key": "a b", "text": "你好"}), format_result({"text": "你好"}, alone=True)
    ('a_b 你好', '你好')
    """
    check_format(output_format, LINES)
    if output_format == "json":
        return json.dumps(result, ensure_ascii=False)
    # A VAD has segments in place of a text.
    shown = result["text"] if "text" in result else json.dumps(result["value"])
    text = " ".join(str(shown).split())
    return text if alone else table_line(str(result["key"]), text)


def check_format(output_format: str, known: Sequence[str] = FORMATS) -> None:
    """Refuse a format that is not known, before any work is done."""
    if output_format not in known:
        choice = f"{', '.join(known[:-1])} or {known[-1]}"
        raise ConfigError(f"output_format={output_format}: not known; use {choice}")


def table_line(key: str, value: str) -> str:
    """A line of a Kaldi table; see `row_id`."""
    return f"{row_id(key)} {value}".rstrip()


def find_finished(
    folder: str | Path, whole: Sequence[str], others: Sequence[str], made: Made | None = None
) -> Finished:
    """The utterances that an earlier run has finished in a folder of tables; see `Finished`. made:
    what this run makes its results with.
    """
    path = check_folder(folder)
    try:
        if made is not None:
            made.refuse_other(path, whole)
        return Finished(path, whole, others)
    except OSError as error:
        raise unwritable(path, error) from error


class GrowingTables:
    """Kaldi tables of one folder, each line on disk as soon as it is added, in that order.

    stale: patterns of what earlier runs may have left in the folder, which goes first. names: the
    tables, relative to the folder, there from the start though empty. finished: what is finished
    there, which stays; then nothing is stale. made: what the results are made with.
    """

    def __init__(
        self,
        folder: str | Path,
        stale: Sequence[str],
        names: Sequence[str],
        finished: Finished | None = None,
        made: Made | None = None,
    ) -> None:
        self.folder = check_folder(folder)
        self._files: dict[str, TextIO] = {}
        self._finished = finished
        mode: Literal["w", "a"] = "w"
        if finished is not None:
            mode, stale = "a", ()
        try:
            for path in [path for pattern in stale for path in self.folder.glob(pattern)]:
                self._remove(path)
            for name in names:
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                # A file name in a message need not be text of any encoding.
                self._files[name] = path.open(mode, encoding="utf-8", errors="backslashreplace")
            if made is not None:  # not before there is nothing left that was made otherwise
                made.write(self.folder)
        except OSError as error:
            self.close()
            raise unwritable(path, error) from error

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
            raise unwritable(self.folder / name, error) from error

    @property
    def finished(self) -> int:
        """How many utterances an earlier run has finished here."""
        return len(self._finished) if self._finished is not None else 0

    def take(self, key: str) -> bool:
        """Whether an utterance is finished; see `Finished.take`."""
        return self._finished is not None and self._finished.take(key)

    def pending(self, keys: Iterable[str]) -> list[bool]:
        """Which utterances are still to be done."""
        return [not self.take(key) for key in keys]

    def finish(self, keys: Iterable[str]) -> None:
        """Close the files of a run that has come to its end: lines stand in the order of the ids,
        however often the run was stopped.
        """
        self.close()
        if self._finished is not None:
            self._finished.sort(keys)

    def close(self) -> None:
        """Close the files; they are complete at any time before."""
        for name, file in self._files.items():
            try:
                file.close()
            except OSError as error:
                raise unwritable(self.folder / name, error) from error


class ResultFolder:
    """`output_dir` as the reference lays it out: 1best_recog/{text,token}, 2best_recog/..., and
    `failed`: a line `key reason` for each utterance without a result. timed: also `timestamp`, a
    line `key [[start, end], ...]`, in ms. resume: what is finished stays. beside: a table that
    somebody else writes there, before a result is added here. place: the folder of the tables of
    each rank. made: what the results are made with.
    """

    def __init__(
        self,
        folder: str | Path,
        nbest: int = 1,
        timed: bool = False,
        *,
        names: Sequence[str] = TABLES[:2],
        resume: bool = False,
        beside: Sequence[str] = (),
        place: str = "{}best_recog",
        made: Made | None = None,
    ) -> None:
        self.nbest, self.place = nbest, place
        self.names = TABLES if timed else names
        stale = [f"{place.format('[0-9]*')}/{name}" for name in {*TABLES, *names}] + [FAILED]
        tables = [f"{place.format(n)}/{name}" for n in range(1, nbest + 1) for name in self.names]
        best, others = tables[: len(self.names)], [*tables[len(self.names) :], *beside]
        finished = find_finished(folder, best, others, made) if resume else None
        self._tables = GrowingTables(folder, stale, [*tables, FAILED], finished, made)
        self.finished, self.take = self._tables.finished, self._tables.take
        self.finish = self._tables.finish

    def add(self, key: str, readings: Sequence[Sequence[Any]], error: str = "") -> None:
        """Text, tokens and, if timed, times of each reading of one utterance, the best first; none:
        an empty one.
        """
        if error:
            self._tables.add(FAILED, key, error)
        ranked = list(enumerate(readings[: self.nbest] or [("", [], [])], 1))
        for rank, (text, tokens, *times) in reversed(ranked):  # the best one last: see `Finished`
            values = (text, " ".join(tokens), *map(str, times))
            for name, value in zip(self.names, values, strict=False):
                self._tables.add(f"{self.place.format(rank)}/{name}", key, value)

    def close(self) -> None:
        """Close the files; they are complete at any time before."""
        self._tables.close()
