"""Words of mixed text as punctuation models count them, and the marks that may stand behind."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import category

from paraformer.data.corpus.tables import read_whole
from paraformer.errors import DataError
from paraformer.extras import load_extra

# Between blanks a run of one-byte characters is a word, and so is every other character.
_WORD = re.compile(r"[\x00-\x08\x0e-\x1b!-\x7f]+|\S")
_ENGLISH = re.compile(r"[A-Za-z']+")

TAG = re.compile(r"<[^<>\s]+>")  # of what is no word: <noise>
HALF_WIDTH = {"，": ",", "。": ".", "？": "?"}  # behind English words
STOPS = frozenset("，。？！、；：…—―,.?!;:．｡､؟،؛।")
OPENERS = frozenset("“‘「『《〈（【〔［｛([{<")
CLOSERS = frozenset("”’」』》〉）】〕］｝)]}>\"'")
# Written without blanks between words: a mark may stand behind any of their characters.
_TIGHT = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af]"
)
_JOINER = "\u200d"
_UNITS = frozenset("％‰°℃℉′″")


class Word(NamedTuple):
    """A word and its place in the text: text[start:end]."""

    text: str
    start: int
    end: int


Segmenter = Callable[[str], list[Word]]


def split_words(text: str) -> list[Word]:
    """One-byte runs and single other characters, blanks left out; no character is changed.

    >>> [word.text for word in split_words("我有3个 it's 3.14")]
    ['我', '有', '3', '个', "it's", '3.14']
    """
    return [Word(m[0], m.start(), m.end()) for m in _WORD.finditer(text)]


def jieba_segmenter(user_dict: str | Path) -> Segmenter:
    """Words of jieba's dictionary and `user_dict`, for models that have a jieba_usr_dict.

    Pieces of Latin letters stay whole; what lies between them is joined and cut without jieba's
    HMM. Needs the package jieba.
    """
    cutter = load_jieba(f"{user_dict}: this model cuts words").Tokenizer()
    cutter.load_userdict(io.StringIO(read_whole(user_dict)))
    return lambda text: list(_cut(text, cutter))


def load_jieba(what: str, extra: str = "") -> Any:
    """The package jieba, which says nothing while it works; `what` and `extra` as `load_extra`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at import, of how jieba finds its own dictionary
        jieba = load_extra("jieba", what, extra)
    jieba.setLogLevel("WARNING")
    return jieba


def _cut(text: str, cutter: Any) -> Iterator[Word]:
    pieces = [(m[0], m.start()) for m in re.finditer(r"\S+", text)]
    for english, run in groupby(pieces, key=lambda p: _ENGLISH.fullmatch(p[0]) is not None):
        if english:
            yield from (Word(piece, start, start + len(piece)) for piece, start in run)
            continue
        joined = [(char, start + i) for piece, start in run for i, char in enumerate(piece)]
        done = 0
        for token in cutter.cut("".join(char for char, _ in joined), HMM=False):
            first, last = joined[done][1], joined[done + len(token) - 1][1]
            yield Word(token, first, last + 1)
            done += len(token)


def breakable(text: str, place: int) -> bool:
    """Whether a mark may stand between text[place - 1] and text[place].

    Not inside a number, a word of a script with blanks, or one visible sign of several characters
    (accents, joined emoji, flags).

    >>> [breakable(text, 1) for text in ("我们", "我a", "１２", "é9", "3 4")]
    [True, True, False, False, True]
    """
    if not 0 < place < len(text):
        return True
    left, right = text[place - 1], text[place]
    if right.isspace():
        return True
    if left == _JOINER or category(right) in ("Mn", "Mc", "Me", "Cf"):
        return False
    if "\U0001f3fb" <= right <= "\U0001f3ff":  # skin tones
        return False
    if _is_flag(left) and _is_flag(right):
        return _flags_before(text, place) % 2 == 0
    if (left.isdigit() and right in _UNITS) or (right.isdigit() and category(left) == "Sc"):
        return False
    return not (_spelled(left) and _spelled(right))


def _is_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flags_before(text: str, place: int) -> int:
    start = place
    while start > 0 and _is_flag(text[start - 1]):
        start -= 1
    return place - start


def _spelled(char: str) -> bool:
    """Letters and digits of scripts that put blanks between words."""
    if char.isascii():
        return char.isalnum()
    return (char.isalnum() or category(char)[0] == "M") and not _TIGHT.match(char)


def strip_marks(text: str, marks: Iterable[str]) -> tuple[list[str], list[str]]:
    """Words of a text without the given marks, and behind each word its mark ("" for none).

    Of several marks in a row the first counts; marks before the first word have no word and go.

    >>> strip_marks("好，ok 吗？", "，？")
    (['好', 'ok', '吗'], ['，', '', '？'])
    """
    known = frozenset(marks)
    words: list[str] = []
    found: list[str] = []
    for word in split_words(text):
        if word.text not in known:
            words.append(word.text)
            found.append("")
        elif found and not found[-1]:
            found[-1] = word.text
    return words, found


def read_marks(words: Iterable[str], text: str, marks: Iterable[str]) -> list[str]:
    """The mark behind each of `words` in `text`, which may have no other words.

    `marks` are full width; the comma, period and question mark of English count as theirs.

    >>> read_marks(["ok", "3.5", "好"], "ok, 3.5.好", "，。")
    ['，', '。', '']
    """
    behind = {mark: mark for mark in marks}
    behind |= {half: full for full, half in HALF_WIDTH.items() if full in behind}
    found = []
    place = 0
    for word in words:
        place = _next_word(text, place)
        if not text.startswith(word, place):
            raise DataError(
                f"'{text[place : place + 12]}': '{word}' should stand here; compare the same texts"
            )
        place += len(word)
        mark = behind.get(text[place : place + 1], "")
        place += len(mark)
        found.append(mark)
    if rest := text[place:].strip():
        raise DataError(f"'{rest[:12]}': no more words should stand here; compare the same texts")
    return found


def _next_word(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place
