"""Where the results of a call go: to whoever asked for them, and into `output_dir` before that."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import compress
from typing import Any, TypeVar

from paraformer.formats import TABLES, ResultFolder
from paraformer.options import CallOptions
from paraformer.results import WRITTEN, Result
from paraformer.timed_formats import TABLE_FILES, TimedFolder, is_timed
from paraformer.transcripts import LineLimits

log = logging.getLogger(__name__)

Input = TypeVar("Input")


class Results(Iterator[Result]):
    """Results one after another; `skipped` inputs are finished since an earlier run (`resume`)."""

    def __init__(self, results: Iterator[Result], skipped: int = 0) -> None:
        self._results, self.skipped = results, skipped

    def __next__(self) -> Result:
        return next(self._results)

    def close(self) -> None:
        """Stop the work; what is finished is in `output_dir`."""
        if isinstance(self._results, Generator):
            self._results.close()


class Output:
    """The folders of one call, if it names one, and which of its inputs are still to be done.

    keys: ids of all inputs. names: tables of `1best_recog`, or of another `place`; timed: those of
    readings with times.
    """

    def __init__(
        self,
        call: CallOptions,
        keys: Sequence[str],
        names: Sequence[str] = TABLES[:1],
        timed: bool = False,
        place: str = "{}best_recog",
    ) -> None:
        self.keys = keys
        self.folder: ResultFolder | None = None
        self.timed: TimedFolder | None = None
        self._pending = [True] * len(keys)
        if not call.output_dir:
            return
        beside = [name for kind, name in TABLE_FILES.items() if kind == call.output_format]
        self.folder = ResultFolder(
            call.output_dir,
            call.nbest,
            timed,
            names=names,
            resume=call.resume,
            beside=beside,
            place=place,
        )
        self._pending = self.folder.pending(keys)
        if is_timed(call.output_format):
            limits = LineLimits(call.max_line_chars, call.max_line_s)
            kept = [key for key, todo in zip(keys, self._pending, strict=True) if not todo]
            self.timed = TimedFolder(call.output_dir, call.output_format, limits, kept)

    def pending(self, inputs: Sequence[Input]) -> list[Input]:
        """Those of the inputs that are to be done."""
        return list(compress(inputs, self._pending))

    def stream(self, results: Iterator[Result]) -> Results:
        """The results of the pending inputs, each in its folders before it is given out."""
        skipped = len(self.keys) - sum(self._pending)
        if skipped:
            log.info("%d of %d utterances are finished already", skipped, len(self.keys))
        return Results(self._written(results), skipped)

    def _written(self, results: Iterator[Result]) -> Iterator[Result]:
        with ExitStack() as stack:
            for folder in (self.folder, self.timed):
                if folder is not None:
                    stack.enter_context(closing(folder))
            for result in results:
                self._write(result, result.pop(WRITTEN, []))
                yield result
            if self.folder is not None:
                self.folder.finish(self.keys)

    def _write(self, result: Result, readings: Sequence[Sequence[Any]]) -> None:
        error = str(result.get("error", ""))
        if error:
            log.error("'%s': %s", result["key"], error.replace("\n", " "))
        # What has a line in the first folder is finished, so that one comes last.
        if self.timed is not None:
            self.timed.add(result)
        if self.folder is not None:
            self.folder.add(result["key"], readings, error)
