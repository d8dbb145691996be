"""Where the results of a call go: to whoever asked for them, and into `output_dir` before that."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple, TypeVar

from paraformer.data.corpus.origins import Origins
from paraformer.options import CallOptions
from paraformer.output.result import WRITTEN, Result
from paraformer.output.resume import Made
from paraformer.output.subtitle_lines import LineLimits
from paraformer.output.tables import TABLES, ResultFolder
from paraformer.output.timed_folder import TimedFolder
from paraformer.output.timed_formats import is_timed

log = logging.getLogger(__name__)

Input = TypeVar("Input")


class Tables(NamedTuple):
    """The tables of a task: their names, those of readings with times, the folder of each rank."""

    names: Sequence[str] = TABLES[:1]
    timed: bool = False
    place: str = "{}best_recog"


class Results(Iterator[Result]):
    """Results one after another."""

    def __init__(self, results: Iterator[Result], output: Output | None = None) -> None:
        self._results, self._output = results, output

    def __next__(self) -> Result:
        return next(self._results)

    @property
    def skipped(self) -> int:
        """Inputs so far that are finished since an earlier run (`resume`)."""
        return self._output.skipped if self._output is not None else 0

    @property
    def origins(self) -> Origins:
        """Where the inputs come from."""
        return self._output.origins if self._output is not None else Origins()

    def close(self) -> None:
        """Stop the work; what is finished is in `output_dir`."""
        if isinstance(self._results, Generator):
            self._results.close()


class Output:
    """The folders of one call, if it names one, and which of its inputs are still to be done."""

    def __init__(
        self,
        call: CallOptions,
        total: int,
        tables: Tables,
        origins: Origins | None = None,
        made: Made | None = None,
    ) -> None:
        """total: how many inputs there are, or about so many. origins: where they come from. made:
        what results are made with.
        """
        self.total, self.skipped = total, 0
        self.origins = origins or Origins()
        # Ids of all inputs: what was finished and what is done now gets their order in the end.
        self._order: list[str] | None = [] if call.resume else None
        self.folder: ResultFolder | None = None
        self.timed: TimedFolder | None = None
        # Ids of what is finished before each of the inputs that are under way.
        self._kept: deque[list[str]] = deque()
        if not call.output_dir:
            return
        # First, for what it lacks is said before an earlier run's tables are emptied.
        if is_timed(call.output_format):
            limits = LineLimits(call.max_line_chars, call.max_line_s)
            where = (call.output_dir, call.output_format, limits, call.resume)
            self.timed = TimedFolder(*where, self.origins)
        self.folder = ResultFolder(
            call.output_dir,
            call.nbest,
            tables.timed,
            names=tables.names,
            resume=call.resume,
            beside=self.timed.beside if self.timed is not None else (),
            place=tables.place,
            made=made,
        )

    @property
    def left(self) -> int:
        """How many inputs are to be done, if those that are finished all belong to them."""
        return max(0, self.total - (self.folder.finished if self.folder is not None else 0))

    def pending(self, keyed: Iterable[tuple[str, Callable[[], Input]]]) -> Iterator[Input]:
        """Those of the inputs that are to be done, one after another; keyed: the id of each and
        what makes it.
        """
        kept: list[str] = []
        for key, make in keyed:
            if self._order is not None:
                self._order.append(key)
            if self.folder is not None and self.folder.take(key):
                kept.append(key)
                self.skipped += 1
            else:
                self._kept.append(kept)
                kept = []
                yield make()

    def stream(self, results: Iterator[Result]) -> Results:
        """The results of the pending inputs, each in its folders before it is given out."""
        return Results(self._written(results), self)

    def _written(self, results: Iterator[Result]) -> Iterator[Result]:
        with ExitStack() as stack:
            for folder in (self.folder, self.timed):
                if folder is not None:
                    stack.enter_context(closing(folder))
            if isinstance(results, Generator):
                stack.enter_context(closing(results))
            for result in results:
                self._write(result, result.pop(WRITTEN, []))
                yield result
            if self.skipped:
                log.info("%d of %d utterances were finished already", self.skipped, self.total)
            if self.folder is not None:
                self.folder.finish(self._order or ())

    def _write(self, result: Result, readings: Sequence[Sequence[Any]]) -> None:
        error = str(result.get("error", ""))
        if error:
            log.error("'%s': %s", result["key"], error.replace("\n", " "))
        # What has a line in the first folder is finished, so that one comes last.
        kept = self._kept.popleft()
        if self.timed is not None:
            for key in kept:
                self.timed.keep(key)
            self.timed.add(result)
        if self.folder is not None:
            self.folder.add(result["key"], readings, error)
