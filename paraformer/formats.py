"""Results as lines: text to read, Kaldi tables, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paraformer.errors import ConfigError, DataError

FORMATS = ("text", "json")
Result = Mapping[str, Any]


def format_result(result: Result, output_format: str = "text", alone: bool = False) -> str:
    """One line: `key text`, only the text of what stands `alone`, or a JSON object.

    >>> format_result({"key": "a b", "text": "你好"}), format_result({"text": "你好"}, alone=True)
    ('a_b 你好', '你好')
    """
    check_format(output_format)
    if output_format == "json":
        return json.dumps(result, ensure_ascii=False)
    text = " ".join(str(result["text"]).split())
    return text if alone else table_line(str(result["key"]), text)


def check_format(output_format: str) -> None:
    """Refuse a format that is not known, before any work is done."""
    if output_format not in FORMATS:
        raise ConfigError(f"output_format={output_format}: not known; use {' or '.join(FORMATS)}")


def table_line(key: str, value: str) -> str:
    """A line of a Kaldi table: blanks in the id become `_`, so that its first blank ends it."""
    return f"{'_'.join(key.split())} {value}".rstrip()


class ResultFolder:
    """`output_dir` as the reference lays it out: 1best_recog/{text,token}, 2best_recog/..."""

    def __init__(self, folder: str | Path, nbest: int = 1) -> None:
        self.folder = Path(folder)
        self.nbest = nbest
        self._lines: dict[tuple[int, str], list[str]] = {}

    def add(self, key: str, readings: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Text and tokens of each reading of one utterance, the best first; none: an empty one."""
        for rank in range(self.nbest):
            if rank and rank >= len(readings):
                break
            text, tokens = readings[rank] if readings else ("", [])
            for name, value in (("text", text), ("token", " ".join(tokens))):
                self._lines.setdefault((rank, name), []).append(table_line(key, value))

    def write(self) -> None:
        """Write all files, lines in the order of the input."""
        for (rank, name), lines in self._lines.items():
            path = self.folder / f"{rank + 1}best_recog" / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            except OSError as error:
                raise DataError(f"{path}: {error.strerror}; give another output_dir") from error
