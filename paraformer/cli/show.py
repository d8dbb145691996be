"""Printing of results by `funasr`: lines as they come, or a table once it is whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paraformer.output.manifests import MANIFESTS
from paraformer.output.result import shown_text
from paraformer.output.sink import Results
from paraformer.output.subtitle_lines import LineLimits
from paraformer.output.tables import TIMED_TABLES, format_result
from paraformer.output.timed_folder import TimedFolder
from paraformer.output.timed_formats import format_timed, is_timed


@contextmanager
def printing(
    results: Results, settings: Mapping[str, Any], alone: bool
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that prints one of these results; the table of a list comes in the end, sorted."""
    output_format = str(settings.get("output_format", "text"))
    if alone or settings.get("output_dir") or output_format not in TIMED_TABLES:
        yield lambda result: print(shown(result, settings, alone), end="", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        table = TimedFolder(folder, output_format, origins=results.origins)
        try:
            yield table.add
        finally:
            table.close()
            print(Path(folder, output_format).read_text(encoding="utf-8"), end="", flush=True)


def shown(result: dict[str, Any], settings: Mapping[str, Any], alone: bool) -> str:
    """The text that is printed of a result; why one failed stands in the log."""
    output_format = settings.get("output_format", "text")
    if is_timed(output_format):
        if settings.get("output_dir") or "error" in result:
            return ""
        keys = ("max_line_chars", "max_line_s")
        limits = LineLimits(**{key: settings[key] for key in keys if key in settings})
        return format_timed(result, output_format, limits)
    manifest = output_format in MANIFESTS
    if "error" in result and (manifest or (output_format == "text" and alone)):
        return ""
    if output_format == "text" and "text" in result:
        result = {**result, "text": shown_text(result)}
    return format_result(result, output_format, alone) + "\n"
