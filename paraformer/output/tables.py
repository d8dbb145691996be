"""Results as lines: text to read, Kaldi tables, or JSON; `timed_formats` has those with times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

from paraformer.errors import ConfigError
from paraformer.files import check_folder, unwritable
from paraformer.output.manifests import MANIFESTS, manifest_line
from paraformer.output.resume import FAILED, Finished, Made, row_id

if TYPE_CHECKING:
    from paraformer.output.result import Result

LINES = ("text", "json")
TIMED_FILES = ("srt", "vtt", "textgrid", "lrc", "tsv")  # one for each recording
TIMED_TABLES = ("ctm", "stm", "rttm")  # one for all
# What of a result is printed as text: the first that it has.
SHOWN = ("text", "value", "turns", "spk_embedding")
FORMATS = (*LINES, *TIMED_FILES, *MANIFESTS, *TIMED_TABLES)


def format_result(
    result: Mapping[str, Any], output_format: str = "text", alone: bool = False
) -> str:
    """One line: `key text`, only the text of what stands `alone`, or a JSON object.

    >>> format_result({"key": "a b", "text": "你好"}), format_result({"text": "你好"}, alone=True)
    ('a_b 你好', '你好')
    """
    if output_format in MANIFESTS:
        return manifest_line(result, output_format)
    check_format(output_format, LINES)
    if "spk_embedding" in result:
        result = {**result, "spk_embedding": numbers_of(result["spk_embedding"][0])}
    if output_format == "json":
        return json.dumps(result, ensure_ascii=False)
    # A VAD has segments in place of a text; a speaker model an embedding, and with a VAD turns.
    shown = next((result[name] for name in SHOWN if name in result), "")
    text = " ".join(
        (shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)).split()
    )
    return text if alone else table_line(str(result["key"]), text)


def numbers_of(embedding: Any) -> list[float]:
    """An embedding (E,) to six digits, all that float32 has to say of it.

    >>> import torch
    >>> numbers_of(torch.tensor([1 / 3, -2.0]))
    [0.333333, -2.0]
    """
    return [float(f"{x:.6g}") for x in embedding.tolist()]


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


class Layout(NamedTuple):
    """How the results of a task lie in a folder.

    columns: table -> the column of `Result.rows` that it keeps, in the order of writing. several:
    tables of any number of lines for an utterance. place: the folder of each rank, with the number
    of it; of the best one also `best`, if that is a folder, and then the others' are there only if
    several readings are wanted.
    """

    columns: Mapping[str, str]
    place: str = "{}best_recog/"
    best: str | None = None
    several: tuple[str, ...] = ()
    keeps_failed: bool = True  # what has failed has an empty line in each table
    names_failed: bool = True  # and one with the reason in `failed`
    stale: tuple[str, ...] = ()  # what of an earlier run goes besides the tables
    timed: str = (
        ""  # what has times, ctm or stm, whose times stay exact; else as output_format says
    )
    with_json: bool = False  # output_format=json is a file too
    joined: bool = False  # the channels of a recording are written as one

    def places(self, nbest: int) -> list[str]:
        """The folders of so many readings, the best one's first."""
        ranks = [self.place.format(rank) for rank in range(1, nbest + 1)]
        return ranks if self.best is None else [self.best, *(ranks if nbest > 1 else ())]


TEXT = Layout({"text": "text"})
SPEECH = Layout({"text": "text", "token": "token"})
TIMED_SPEECH = Layout({**SPEECH.columns, "timestamp": "timestamp"})
# Tables in output_dir/tp_res, the reference's.
ALIGNED = Layout({name: name for name in ("timestamp_list", "timestamp_str")}, "tp_res/")
# What a row that has no such column leaves in a table.
_EMPTY = {"timestamp": "[]"}


class ResultFolder:
    """A folder of tables as a `Layout` says; those of `output_dir` are as the reference has them:
    1best_recog/{text,token}, 2best_recog/..., and `failed`: a line `key reason` for each utterance
    without a result.
    """

    def __init__(
        self,
        folder: str | Path,
        layout: Layout,
        nbest: int = 1,
        resume: bool = False,
        beside: Sequence[str] = (),
        made: Made | None = None,
    ) -> None:
        """resume: what is finished stays. beside: a table that somebody else writes there, before
        a result is added here. made: what the results are made with.
        """
        self.layout, self.places = layout, layout.places(nbest)
        names = [f"{place}{name}" for place in self.places for name in layout.columns]
        best, rest = names[: len(layout.columns)], names[len(layout.columns) :]
        whole = [name for name in best if name not in layout.several]
        everywhere = {layout.place.format("[0-9]*")} | ({layout.best} - {None})
        known = {*TIMED_SPEECH.columns, *layout.columns} if layout.best is None else layout.columns
        stale = [f"{place}{name}" for place in everywhere for name in known]
        failed = [FAILED] if layout.names_failed else []
        others = [*layout.several, *rest, *beside]
        finished = find_finished(folder, whole, others, made) if resume else None
        stale += [*failed, *layout.stale]
        self._tables = GrowingTables(folder, stale, [*names, *failed], finished, made)
        self.finished, self.take = self._tables.finished, self._tables.take
        self.finish = self._tables.finish

    def add(self, result: Result) -> None:
        """Write what the tables keep of each reading; of none an empty one."""
        if result.error is not None and self.layout.names_failed:
            self._tables.add(FAILED, result.key, result.error)
        if result.error is not None and not self.layout.keeps_failed:
            return
        rows = result.rows or [{}]
        rows = rows if self.layout.best is None else [rows[0], *rows]
        ranked = list(zip(self.places, rows, strict=False))
        for place, row in reversed(ranked):  # the best one last: see `Finished`
            for name, column in self.layout.columns.items():
                lines = row.get(column, _EMPTY.get(column, ""))
                for line in [lines] if isinstance(lines, str) else lines:
                    self._tables.add(f"{place}{name}", result.key, line)

    def close(self) -> None:
        """Close the files; they are complete at any time before."""
        self._tables.close()
