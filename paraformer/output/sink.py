"""Where the results of a call go: to whoever asked for them, and into `output_dir` before that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

from paraformer.data.corpus.origins import Origins
from paraformer.data.inputs.sources import Item
from paraformer.options import CallOptions
from paraformer.output.manifests import MANIFESTS, ORIGIN
from paraformer.output.result import Fields, Result, shown_text
from paraformer.output.resume import Made
from paraformer.output.shards import Claim, claim
from paraformer.output.subtitle_lines import LineLimits
from paraformer.output.tables import Layout, ResultFolder
from paraformer.output.timed_folder import TimedFolder
from paraformer.output.timed_formats import is_timed

log = logging.getLogger(__name__)


class Results(Iterator[Fields]):
    """Results one after another, as dicts; `found` gives the values themselves."""

    def __init__(self, found: Iterator[Result], output: Output | None = None) -> None:
        self.found, self._output = found, output

    def __next__(self) -> Fields:
        result = next(self.found)
        if result.error is not None:
            log.error("'%s': %s", result.key, result.error.replace("\n", " "))
        return result.to_dict() if self._output is None else self._output.told(result)

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
        if isinstance(self.found, Generator):
            self.found.close()


class Output:
    """The folders of one call, if it names one, and which of its inputs are still to be done."""

    def __init__(
        self,
        call: CallOptions,
        total: int,
        layout: Layout,
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
        self._claim: Claim | None = None
        self._manifest = call.output_format in MANIFESTS
        if not call.output_dir:
            return
        self._claim = claim(call.output_dir, call.part) if call.part else None
        # First, for what it lacks is said before an earlier run's tables are emptied.
        timed_format = layout.timed or call.output_format
        has_lines = self._manifest or (timed_format == "json" and layout.with_json)
        if is_timed(timed_format) or has_lines:
            limits = LineLimits(call.max_line_chars, call.max_line_s)
            where = (call.folder, timed_format, limits, call.resume)
            self.timed = TimedFolder(*where, self.origins, bool(layout.timed), layout.joined)
        beside = self.timed.beside if self.timed is not None else ()
        self.folder = ResultFolder(call.folder, layout, call.nbest, call.resume, beside, made)

    def told(self, result: Result) -> Fields:
        """The dict of a result, for manifests with where it comes from."""
        found = result.to_dict()
        if not self._manifest or "text" not in found:
            return found
        return {**found, "text": shown_text(found), ORIGIN: result.origin}

    @property
    def left(self) -> int:
        """How many inputs are to be done, if those that are finished all belong to them."""
        return max(0, self.total - (self.folder.finished if self.folder is not None else 0))

    def pending(self, keyed: Iterable[tuple[str, Callable[[], Item]]]) -> Iterator[Item]:
        """Those of the inputs that are to be done, one after another, each with the ids of those
        left out before it; keyed: the id of each and what makes it.
        """
        skipped: list[str] = []
        for key, make in keyed:
            if self._order is not None:
                self._order.append(key)
            if self.folder is not None and self.folder.take(key):
                skipped.append(key)
                self.skipped += 1
            else:
                item = make()
                yield replace(item, skipped=tuple(skipped)) if skipped else item
                skipped = []

    def stream(self, results: Iterator[Result]) -> Results:
        """The results of the pending inputs, each in its folders before it is given out."""
        return Results(self._written(results), self)

    def _written(self, results: Iterator[Result]) -> Iterator[Result]:
        with ExitStack() as stack:
            for folder in (self._claim, self.folder, self.timed):
                if folder is not None:
                    stack.enter_context(closing(folder))
            if isinstance(results, Generator):
                stack.enter_context(closing(results))
            for result in results:
                # What has a line in the tables is finished, so these come last.
                if self.timed is not None:
                    for key in result.skipped:
                        self.timed.keep(key)
                    self.timed.add(self.told(result))
                if self.folder is not None:
                    self.folder.add(result)
                yield result
            if self.skipped:
                log.info(
                    "%d of %d utterances were finished already",
                    self.skipped,
                    len(self._order or ()),
                )
            if self.folder is not None:
                self.folder.finish(self._order or ())
