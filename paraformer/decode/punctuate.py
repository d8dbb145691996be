"""Punctuation of recognised text: windows over any length, marks between words that stay as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from paraformer.backends.engines import mark_engine
from paraformer.backends.face import NO_MARK, PunctuationRelease
from paraformer.data.text.words import (
    CLOSERS,
    HALF_WIDTH,
    OPENERS,
    STOPS,
    Segmenter,
    Word,
    breakable,
    jieba_segmenter,
    split_words,
)
from paraformer.errors import ConfigError

SPLIT_SIZE = 20  # new words in one window: the reference's
LONG = 200  # words; a longer sentence without an end is closed at its last comma
ENDLESS = 2 * LONG  # words; a longer one without a comma is given out as it is
NOT_MARKS = ("<unk>", NO_MARK)  # of a released punc_list
ENDS = ("。", "？")
COMMA = "，"
_CLOSING, _STOPPING = "".join(CLOSERS), "".join(STOPS)


class PunctuatedText(NamedTuple):
    """A text with marks, and the same as a list."""

    text: str
    words: list[str]  # of the input, none changed, left out or moved
    marks: list[str]  # the mark written behind each word, "" for none
    punc_array: list[int]  # the reference's: places in punc_list, one a token of the model


class PunctuationState(NamedTuple):
    """The memory of a stream: the end of the text so far, from the last closed sentence on."""

    text: str = ""


class _Decision(NamedTuple):
    """A word of the model and what it says of it."""

    word: Word
    mark: int  # place in punc_list


class _Reading(NamedTuple):
    """Words of a text and the marks behind them, and the model's own view of both."""

    words: list[Word]
    marks: list[str]
    decided: list[_Decision]


class Punctuator:
    """Puts marks into texts with one model; has no state of its own.

    Blanks, case, digits and marks of the input stay. A mark stands neither inside a number, a word
    or an emoji nor beside a mark of the input.
    """

    def __init__(
        self,
        release: PunctuationRelease,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        """Models with a jieba_usr_dict need the package jieba. dtype: as of a `Recognizer`."""
        self.engine = mark_engine(release, device, dtype)
        self.tokenizer, self.device = release.tokenizer, self.engine.device
        self.marks = ["" if mark in NOT_MARKS else mark for mark in release.marks]
        self.sentence_end = release.sentence_end
        self._no_mark = release.marks.index(NO_MARK)
        self._ends = {number for number, mark in enumerate(release.marks) if mark in ENDS}
        self._commas = {number for number, mark in enumerate(release.marks) if mark == COMMA}
        self._segment: Segmenter = split_words
        if release.jieba_dict is not None:
            self._segment = jieba_segmenter(release.jieba_dict)

    def punctuate(self, text: str, split_size: int = SPLIT_SIZE) -> PunctuatedText:
        """A whole text, which gets a final mark where it has none.

        split_size: new words of one window. Linear time, whatever the length of the text.
        """
        read = _in_width(self._read(text, 0, split_size, closed=True))
        words = [word.text for word in read.words]
        array = _punc_array(read.decided, self._no_mark)
        return PunctuatedText(_write(text, read), words, read.marks, array)

    def punctuate_words(self, words: Sequence[str], split_size: int = SPLIT_SIZE) -> list[str]:
        """The mark behind each word of a list, "" for none; no mark stands inside one of them."""
        text, spans = "", []
        for body in (word.strip() for word in words):
            spans.append((len(text), len(text) + len(body)))
            text += f"{body} "
        read = _in_width(self._read(text, 0, split_size, closed=True))
        behind = {word.end: mark for word, mark in zip(read.words, read.marks, strict=True)}
        return [behind[end] if end > start else "" for start, end in spans]

    def punctuate_chunk(
        self, text: str, state: PunctuationState, split_size: int = SPLIT_SIZE
    ) -> tuple[str, PunctuationState]:
        """The next piece of a stream with its marks, and the state for the piece after it.

        The mark behind the last word of a piece is decided when the words behind it are known: it
        opens the next piece, or is what `finish` returns. So the pieces joined, and `finish` at
        the end, are the text of the stream. Blanks at the end of a piece come with the next. As in
        the reference, marks are full width behind English too.
        """
        if not text.strip():
            blanks = text if state.text and not state.text[-1].isspace() else ""
            return "", PunctuationState(state.text + blanks)
        joint = " " if _need_blank(state.text, text) else ""
        whole = f"{state.text}{joint}{text}"
        before = len(split_words(state.text))
        context = len(self._segment(state.text))
        read = self._read(whole, context, split_size, closed=False)
        shown = read.marks[max(before - 1, 0) : -1]
        kept = read._replace(marks=[""] * (len(read.marks) - 1 - len(shown)) + [*shown, ""])
        begin = read.words[before - 1].end if before else 0
        piece = _write(whole, kept, begin, read.words[-1].end)
        return piece, PunctuationState(whole[self._keep_from(read.decided) :])

    def finish(self, state: PunctuationState, split_size: int = SPLIT_SIZE) -> str:
        """The end of a stream: its final mark, and the blanks that were held back."""
        context = len(self._segment(state.text))
        read = self._read(state.text, context, split_size, closed=True)
        return read.marks[-1] + state.text[read.words[-1].end :] if read.words else ""

    def _read(self, text: str, context: int, split_size: int, closed: bool) -> _Reading:
        """Marks of a text; the last word of a closed one ends a sentence."""
        decided = self._decide(self._segment(text), context, split_size)
        if closed and decided and decided[-1].mark not in self._ends:
            decided[-1] = decided[-1]._replace(mark=self.sentence_end)
        words = split_words(text)
        return _Reading(words, _place(text, words, self._behind(words, decided)), decided)

    def _decide(self, words: Sequence[Word], context: int, split_size: int) -> list[_Decision]:
        """A mark for every word of the model, window by window.

        context: the words that open the text and were seen in an earlier call.
        """
        if split_size < 1:
            raise ConfigError(f"split_size={split_size}: give at least one word")
        ids = self.tokenizer.tokens_to_ids(word.text for word in words)
        marks: list[int] = []
        for end in range(split_size, len(ids) + split_size, split_size):
            found = self.engine.marks(ids[len(marks) : end], context)
            marks += found if end >= len(ids) else self._finished(found)
        return [_Decision(word, mark) for word, mark in zip(words, marks, strict=True)]

    def _finished(self, marks: list[int]) -> list[int]:
        """The part of a window up to the end of its last sentence; the rest is read again.

        The first two words and the last never end one (the reference's rule).
        """
        place = _last_of(marks, self._ends)
        if place is None and len(marks) > LONG:
            place = _last_of(marks, self._commas)
            if place is not None:
                return [*marks[:place], self.sentence_end]
        if place is None:
            return marks[: len(marks) - LONG] if len(marks) > ENDLESS else []
        return marks[: place + 1]

    def _behind(self, words: Sequence[Word], decided: Sequence[_Decision]) -> list[str]:
        """The model's marks at the words of the text, which may be finer or coarser."""
        marks = [""] * len(words)
        place = 0
        for word, mark in decided:
            while words[place].end < word.end:
                place += 1
            marks[place] = self.marks[mark] or marks[place]
        return marks

    def _keep_from(self, decided: Sequence[_Decision]) -> int:
        """Where the text begins that the next piece of a stream is read together with."""
        place = _last_of([d.mark for d in decided], self._ends)
        first = 0 if place is None else place + 1
        if len(decided) - first > ENDLESS:
            first = len(decided) - LONG
        return decided[first].word.start


def _last_of(marks: Sequence[int], wanted: set[int]) -> int | None:
    """The last place of one of the marks, the first two places and the last one left out."""
    places = (place for place in range(len(marks) - 2, 1, -1) if marks[place] in wanted)
    return next(places, None)


def _place(text: str, words: Sequence[Word], wanted: Sequence[str]) -> list[str]:
    """Those of the wanted marks that may stand; one inside a number or a word moves to its end."""
    follows = _stop_follows(words)
    marks = []
    held, blocked = "", True
    for number, (word, mark) in enumerate(zip(words, wanted, strict=True)):
        held = mark or held
        blocked = _blocks(word.text, blocked)
        placed = ""
        if breakable(text, word.end):
            placed = "" if blocked or follows[number] else held
            held = ""
        blocked = blocked or placed != ""
        marks.append(placed)
    return marks


def _blocks(word: str, before: bool) -> bool:
    """Whether a mark of the input, or an opening bracket, stands at the end of a word; closing
    brackets do not count, so that behind them it is as `before`.
    """
    core = word.rstrip(_CLOSING)
    return core[-1] in STOPS or core[-1] in OPENERS if core else before


def _stop_follows(words: Sequence[Word]) -> list[bool]:
    """For each word whether a mark of the input comes next, closing brackets or not."""
    follows = [False] * len(words)
    for number in range(len(words) - 2, -1, -1):
        core = words[number + 1].text.lstrip(_CLOSING)
        rest = core.lstrip(_STOPPING)
        if not core:
            follows[number] = follows[number + 1]
        elif len(rest) < len(core):  # but `.5` and `.net` are words
            follows[number] = not rest[:1].isalnum()
    return follows


def _in_width(read: _Reading) -> _Reading:
    """Half width behind English: , . ? but 、 has no such form."""
    marks = [
        HALF_WIDTH.get(mark, mark) if word.text[-1].isascii() else mark
        for word, mark in zip(read.words, read.marks, strict=True)
    ]
    return read._replace(marks=marks)


def _write(text: str, read: _Reading, begin: int = 0, end: int | None = None) -> str:
    """text[begin:end] with the marks put in."""
    parts = []
    for word, mark in zip(read.words, read.marks, strict=True):
        if mark:
            parts += [text[begin : word.end], mark]
            begin = word.end
    return "".join([*parts, text[begin:end]])


def _need_blank(left: str, right: str) -> bool:
    """Two one-byte runs that would melt into one word."""
    both = left[-1:].strip() + right[:1].strip()
    return len(both) == 2 and both.isascii()


def _punc_array(decided: Sequence[_Decision], no_mark: int) -> list[int]:
    """One entry a word of the model, and one more for each further character of a Chinese one."""
    array: list[int] = []
    for word, mark in decided:
        if "\u0e00" <= word.text[0] <= "\u9fa5":
            array += [no_mark] * (len(word.text) - 1)
        array.append(mark)
    return array
