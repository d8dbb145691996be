"""Tokens of a character model become readable text: pieces joined, blanks placed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import groupby, pairwise
from typing import NamedTuple

_UNSPOKEN = frozenset(["<s>", "</s>", "<unk>", "<OOV>", "<blank>"])
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af0-9@]+")
_NO_TIME = (0, 0)
# In place of the start of a piece whose time went to another word.
_TAKEN = -1


class Readable(NamedTuple):
    """Tokens as text; `tight` is the one to show, with no blanks in Chinese.

    `text` is the same but, where there are timestamps, has one blank between all words, as in the
    reference: so it splits into what they belong to.

    `timestamps` are [start, end] of each of `words`, in the unit they came in; None if none came.
    """

    text: str
    words: list[str]
    timestamps: list[list[int]] | None
    tight: str


class _Kind(Enum):
    CHINESE = auto()  # digits too: no blank before or after
    ENGLISH = auto()  # a blank before the next, unless that is Chinese
    OTHER = auto()


class _Word(NamedTuple):
    text: str
    kind: _Kind
    start: int
    end: int


def postprocess(
    tokens: Sequence[str],
    timestamps: Sequence[Sequence[int]] | None = None,
    *,
    pieces_wait: bool = True,
) -> Readable:
    """Join `@@` pieces, single letters (`a p i` -> `API`) and Chinese characters.

    Tokens that are not spoken (`<unk>`, `</s>`) go together with their times. With `pieces_wait` an
    English piece before a Chinese word waits for the next English one, or is lost: a model
    writes so only by mistake, and that is what the reference makes of it. Without, it is a word.

    >>> postprocess(["我", "用", "a", "p", "i", "写", "pro@@", "gram", "s"]).text
    '我用API写program s'
    """
    times = timestamps if timestamps is not None else [_NO_TIME] * len(tokens)
    spoken = [
        (token, time) for token, time in zip(tokens, times, strict=True) if token not in _UNSPOKEN
    ]
    words = list(_gather_letters(_join_pieces(spoken, pieces_wait)))
    texts = [word.text for word in words]
    tight = _tight(words)
    if timestamps is None:
        return Readable(tight, texts, None, tight)
    return Readable(" ".join(texts), texts, [[word.start, word.end] for word in words], tight)


def _join_pieces(spoken: Iterable[tuple[str, Sequence[int]]], pieces_wait: bool) -> Iterator[_Word]:
    """Whole words; `held` gathers the pieces of the one that is not finished."""
    held: _Word | None = None
    for token, (start, end) in spoken:
        text = token.replace("@@", "")
        word = _Word(text, _kind(text), start, end)
        if text != token:
            held = _glue(held, word)
            continue
        if held and (word.kind is _Kind.ENGLISH or (held.text + text).isdigit()):
            word, held = _glue(held, word), None
        elif held and pieces_wait and not held.text.isdigit():
            word, held = _take_time(held, word)
        elif held:
            yield held
            held = None
        yield word
    if held and not (pieces_wait and not held.text.isdigit()):
        yield held


def _glue(held: _Word | None, word: _Word) -> _Word:
    if held is None:
        return word
    start = word.start if held.start == _TAKEN else held.start
    return _Word(held.text + word.text, word.kind, start, word.end)


def _take_time(held: _Word, word: _Word) -> tuple[_Word, _Word]:
    """The reference gives the word behind a piece the time of that, and keeps a blank before."""
    if held.start == _TAKEN:
        return word, held
    word = _Word(word.text, _Kind.OTHER, held.start, held.end)
    return word, held._replace(start=_TAKEN)


def _gather_letters(words: Iterable[_Word]) -> Iterator[_Word]:
    for is_letter, group in groupby(words, key=_is_letter):
        run = list(group)
        if not is_letter or len(run) == 1:
            yield from run
            continue
        name = "".join(word.text for word in run).upper()
        yield _Word(name, _Kind.ENGLISH, run[0].start, run[-1].end)


def _is_letter(word: _Word) -> bool:
    return _letter(word.text)


def _letter(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text.isalpha()


def _kind(text: str) -> _Kind:
    if _CHINESE.fullmatch(text):
        return _Kind.CHINESE
    if text and all(char.isalpha() or char == "'" for char in text):
        return _Kind.ENGLISH
    return _Kind.OTHER


def _tight(words: Sequence[_Word]) -> str:
    parts = [words[0].text] if words else []
    for before, word in pairwise(words):
        blank = before.kind is _Kind.ENGLISH and word.kind is not _Kind.CHINESE
        parts.append(" " + word.text if blank else word.text)
    return "".join(parts)


def join_texts(texts: Iterable[str]) -> str:
    """Texts of segments as one, with a blank where neither neighbour is Chinese.

    >>> join_texts(["你好", "世界", "hello", "", "world"])
    '你好世界hello world'
    """
    whole = ""
    for text in filter(None, (text.strip() for text in texts)):
        chinese = any(_CHINESE.fullmatch(char) for char in (*whole[-1:], text[0]))
        whole += text if chinese or not whole else f" {text}"
    return whole


class GrowingText(NamedTuple):
    """The text of tokens that come bit by bit: at any time that of all of them at once.

    Only the tokens behind the last certain boundary between two words are kept, so that a stream of
    hours costs no more than one of seconds.

    >>> text = GrowingText().add(["你", "好", "hel@@"])
    >>> text.text, text.add(["lo", "world"]).text
    ('你好', '你好hello world')
    """

    done: str = ""
    open: tuple[str, ...] = ()
    sentencepiece: bool = False  # pieces that begin with ▁, else characters and @@ pieces

    @property
    def text(self) -> str:
        """All of it; an English word shows when it is whole."""
        return (self.done + self._join(self.open)).strip()

    @property
    def settled(self) -> str:
        """The start of `text` that no later token changes: that of any moment begins that of each
        later one.
        """
        whole = 0 if self.sentencepiece else _settled(self.open)
        return (self.done + (postprocess(self.open[:whole]).tight if whole else "")).lstrip()

    def add(self, tokens: Sequence[str]) -> GrowingText:
        """With more tokens."""
        tokens = (*self.open, *(token for token in tokens if token not in _UNSPOKEN))
        cut = self._last_boundary(tokens)
        if cut == 0:
            return self._replace(open=tokens)
        following = tokens[cut].lstrip("▁") if self.sentencepiece else tokens[cut]
        joined = self._join(tokens[: cut + 1])
        done = self.done + joined[: len(joined) - len(following)]
        return self._replace(done=done, open=(following, *tokens[cut + 1 :]))

    def _join(self, tokens: Sequence[str]) -> str:
        if self.sentencepiece:
            return "".join(tokens).replace("▁", " ")
        return postprocess(tokens).tight

    def _last_boundary(self, tokens: Sequence[str]) -> int:
        """The last place at which no later token changes the text before it; 0: there is none."""
        if self.sentencepiece:
            return max((i for i, token in enumerate(tokens) if token.startswith("▁")), default=0)
        alone = list(_stand_alone(tokens))
        pairs = enumerate(pairwise(alone), start=1)
        return max((place for place, both in pairs if all(both)), default=0)


def _stand_alone(tokens: Iterable[str]) -> Iterator[bool]:
    """Of each token, whether it is a word by itself, whatever stands before and behind it."""
    held = digits = False
    for token in tokens:
        yield not held and "@@" not in token and not _letter(token)
        if "@@" in token:
            digits = (digits or not held) and token.replace("@@", "").isdigit()
            held = True
        elif held:
            held = not (digits or _kind(token) is _Kind.ENGLISH)


def _settled(tokens: Sequence[str]) -> int:
    """How many of the first tokens are words that no later token changes."""
    alone = enumerate(_stand_alone(tokens), start=1)
    return max((count for count, is_word in alone if is_word), default=0)
