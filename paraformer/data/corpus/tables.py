"""Kaldi tables: lines `key value`, read from whatever editor made them, written sorted.

Standard library only: the programs in `utils/` start with it.
"""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from paraformer.errors import DataError
from paraformer.files import replacing

_LINE = re.compile(r"([^ \t]+)[ \t]*(.*)", re.DOTALL)
_BOM = "\ufeff"
_ENDS = " \t\r\n"
_BLANK = re.compile("[ \t\r\n]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Row(NamedTuple):
    """One line of a table; `line` counts from 1, blank lines included."""

    line: int
    key: str
    value: str


def read_rows(path: str | Path) -> list[Row]:
    """All rows in file order, duplicate ids included; see `iter_rows`."""
    return list(iter_rows(path))


def iter_rows(path: str | Path, shown: str = "") -> Iterator[Row]:
    """The rows one after another, so that a table of any size takes no memory.

    Only the blank and the tab separate: U+3000 and its like belong to the value. Line ends may be
    CRLF, a byte order mark may open any line (`cat` of two files), the last line may lack its end.
    """
    return _rows(iter_lines(path, shown))


def iter_lines(path: str | Path, shown: str = "") -> Iterator[tuple[int, str]]:
    """Pairs (number from 1, text) of the lines of a UTF-8 file, of x.gz unpacked.

    shown: the name of the file in messages, where that is not its path.
    """
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    with _explained(path, shown), opened(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = decoded(line, f"{shown or path}:{number}: ")  # says what is wrong
            yield number, text


def read_whole(path: str | Path) -> str:
    """The text of a UTF-8 file, its byte order mark left out."""
    with _explained(Path(path)):
        return decoded(Path(path).read_bytes(), f"{path}: ").removeprefix(_BOM)


@contextmanager
def _explained(path: Path, shown: str = "") -> Iterator[None]:
    """Turn the reason why a file cannot be read into a line for the user."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file (looked for {path.absolute()}); check the path"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{shown or path}: {reason}; give a readable text file") from None
    except ValueError as error:  # a name that no file can have
        raise DataError(f"{path}: {error}; check the path") from None


def decoded(content: bytes, where: str) -> str:
    """UTF-8 as text; `where` begins the line that says what is wrong, and ends with `: `."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        what = f"{where}not UTF-8"
        if _is_binary(content):
            raise DataError(f"{what}, with bytes that no text has; give a text file") from None
        coding = "utf-16" if content.startswith(_UTF16) else "gb18030"
        raise DataError(
            f"{what}; convert the file, for instance: iconv -f {coding} -t utf-8"
        ) from None


def _is_binary(content: bytes) -> bool:
    """Whether bytes are of audio or the like; UTF-16 has such bytes too."""
    return b"\0" in content and not content.startswith(_UTF16)


def parse_rows(text: str) -> list[Row]:
    """The rows of a text."""
    return list(_rows(enumerate(text.split("\n"), 1)))


def _rows(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    new = tuple.__new__
    for number, line in lines:
        text = line.strip(_ENDS)
        key, _, value = text.partition(" ")
        if value and value[0] not in " \t" and "\t" not in key and line[0] != _BOM:
            yield new(Row, (number, key, value))
            continue
        match = _LINE.match(text.lstrip(_BOM + _ENDS))
        if match:
            yield Row(number, match[1], match[2])


def read_table(path: str | Path) -> dict[str, str]:
    """Key to value in file order; an id with nothing behind it gives the empty string.

    A duplicate id is an error that names both lines: which of the two is meant, nobody can know.
    The tables of a directory share their keys, so that each takes little more than its values.
    """
    table: dict[str, str] = {}
    for row in iter_rows(path):
        if row.key in table:
            earlier = next((other.line for other in iter_rows(path) if other.key == row.key), 0)
            where = f"in line {earlier}" if earlier else "before"  # a pipe is read once
            raise DataError(
                f"{path}:{row.line}: id '{row.key}' stands already {where}; "
                f"keep one of the two, or run utils/fix_data_dir.py {Path(path).parent}"
            )
        table[sys.intern(row.key)] = row.value
    return table


def fields(value: str) -> list[str]:
    """The words of a value; unlike `str.split`, only blanks and tabs separate."""
    return [word for word in value.replace("\t", " ").split(" ") if word]


def format_table(table: Mapping[str, str]) -> str:
    """The text of a table, sorted by key as `LC_ALL=C sort` does and Kaldi's tools expect."""
    return "".join(_table_lines(table))


def _table_lines(table: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(table):
        value = table[key]
        if not key or key.startswith(_BOM) or _BLANK.search(key):
            raise DataError(f"id '{key}': empty or holds a blank; give an id that is one word")
        if "\n" in value:
            raise DataError(f"id '{key}': its value holds a line end; a table has one line an id")
        yield f"{key} {value}".rstrip(" \t\r") + "\n"


def write_text(path: str | Path, text: str | Iterable[str]) -> None:
    """Write a file whole or not at all: no reader ever sees half of it. Parts of a text are written
    as they come.
    """
    parts = [text] if isinstance(text, str) else text
    try:
        with replacing(path) as draft, draft.open("wb") as file:
            file.writelines(part.encode("utf-8") for part in parts)
    except UnicodeEncodeError as error:
        name = error.object[max(0, error.start - 30) : error.end].split("\n")[-1]
        raise DataError(
            f"{path}: a name in it is not UTF-8 ({ascii(name)}); rename that file or folder"
        ) from error


def write_table(path: str | Path, table: Mapping[str, str]) -> None:
    """Write a table sorted by key, whole or not at all; `read_table` gives it back."""
    write_text(path, _table_lines(table))


def readable(name: str) -> str:
    r"""Text that can be written: bytes of a file name that are not UTF-8 become `\xff`.

    >>> print(readable(b"a\xffb".decode("utf-8", "surrogateescape")))
    a\xffb
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def invert(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """`spk2utt` of a `utt2spk`.

    >>> invert({"u1": "anna", "u2": "bo", "u3": "anna"})
    {'anna': 'u1 u3', 'bo': 'u2'}
    """
    spk2utt: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        spk2utt.setdefault(utt2spk[utterance], []).append(utterance)
    return {speaker: " ".join(utterances) for speaker, utterances in spk2utt.items()}


def revert(spk2utt: Mapping[str, str]) -> dict[str, str]:
    """`utt2spk` of a `spk2utt`; an utterance of two speakers is an error.

    >>> revert({"anna": "u1 u3", "bo": "u2"})
    {'u1': 'anna', 'u3': 'anna', 'u2': 'bo'}
    """
    utt2spk: dict[str, str] = {}
    for speaker, utterances in spk2utt.items():
        for utterance in fields(utterances):
            if utt2spk.setdefault(utterance, speaker) != speaker:
                raise DataError(
                    f"spk2utt: utterance '{utterance}' has the speakers '{utt2spk[utterance]}' and "
                    f"'{speaker}'; keep one"
                )
    return utt2spk
