"""Reads files of texts: tables `id text`, or plain lines, of which no word is an id.

Standard library only, like the tables that it reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.tables import Row, iter_lines, read_table
from paraformer.errors import DataError

_EDGES = "\ufeff \t\r\n"
_FIRST = re.compile(r"([^ \t]+)([ \t]*)(.*)", re.DOTALL)
# Kaldi's `text`, `text_marks`; wav.scp and its like.
_TABLE_NAME = re.compile(r"text(_\w+)?|.*\.scp", re.IGNORECASE)
# An id: u1, BAC009S0764W0121, spk_a, sp0.9-u1; not 3.5, 12:30.
_ID = re.compile(r"(?=.*_|.*[A-Za-z].*\d|.*\d.*[A-Za-z])[A-Za-z0-9][\w.:@#/+-]*", re.ASCII)
_LETTER = re.compile("[A-HJ-Za-z]")
# One that is told from a word of a sentence without other lines beside it: not mp3.
_CERTAIN_ID = re.compile(r".*_.*|[A-Za-z].*\d{3}.*")
_JSON = (".json", ".jsonl")


class Texts(NamedTuple):
    """The texts of a file; those of plain lines have the ids `text_1` ... by their lines."""

    rows: list[Row]
    has_ids: bool

    @property
    def table(self) -> dict[str, str]:
        """Id to text, in file order."""
        return {row.key: row.value for row in self.rows}


def read_texts(path: str | Path, ids: Iterable[str] = ()) -> Texts:
    """The texts of a file, blank lines left out. ids: those that its table may have.

    An id is taken only where the file is a table, see `has_ids`; an id that stands twice in one is
    an error.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix.lower() in _JSON:
        raise DataError(f"{path}: is JSON; give a file with one text a line, or `id text` a line")
    lines = [(number, line.strip(_EDGES)) for number, line in iter_lines(path)]
    lines = [(number, line) for number, line in lines if line]
    if has_ids([line for _, line in lines], path.name, ids):
        table = read_table(path)
        numbers = [number for number, _ in lines]
        return Texts([Row(n, *row) for n, row in zip(numbers, table.items(), strict=True)], True)
    return Texts([Row(number, f"text_{number}", line) for number, line in lines], False)


def has_ids(lines: Sequence[str], name: str = "", ids: Iterable[str] = ()) -> bool:
    """Whether lines, none of them blank, are a table `id text` rather than plain texts.

    They are one if any of these holds: one of the first words is among the `ids` that are looked
    for; the file has a name of Kaldi's tables (`text`, `text_marks`, `x.scp`); a tab stands behind
    each first word; the first words of all lines look like ids, that is, have letters and digits or
    an underline, are letters before Chinese, or are the numbers of the lines.

    >>> has_ids(["u1 你好", "u2 世界"]), has_ids(["hello world", "good morning"]), has_ids(["你好"])
    (True, False, False)
    """
    parts = [(m[1], m[2], m[3]) for m in map(_FIRST.match, lines) if m]
    words = [word for word, _, _ in parts]
    if not {*words}.isdisjoint(ids):
        return True
    is_named = _TABLE_NAME.fullmatch(name) is not None
    if not any(rest for _, _, rest in parts):
        return all(_ID.fullmatch(word) or (is_named and word.isascii()) for word in words)
    tabbed = all(gap.startswith("\t") or not rest for _, gap, rest in parts)
    return is_named or tabbed or _look_like_ids(words, [rest for _, _, rest in parts])


def _look_like_ids(words: Sequence[str], texts: Sequence[str]) -> bool:
    if len(words) == 1:
        certain = _CERTAIN_ID.fullmatch(words[0]) or not texts[0][:1].isascii()
        return bool(_ID.fullmatch(words[0]) and certain)
    if all(word.isascii() and word.isdigit() for word in words):
        first = int(words[0])
        padded = words[0].startswith("0") and len({len(word) for word in words}) == 1
        counted = [int(word) for word in words] == list(range(first, first + len(words)))
        return padded or (counted and first < 2)
    if all(map(_LETTER.fullmatch, words)):
        return len({*words}) == len(words) and not any(text[:1].isascii() for text in texts if text)
    return all(map(_ID.fullmatch, words))
