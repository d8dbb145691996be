"""Where tokens fire becomes when they were spoken: token times, word times, sentence times.

The rules, with their numbers, are the reference's (`ts_prediction_lfr6_standard`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from paraformer.backends.face import Timeline
from paraformer.data.text.words import CLOSERS
from paraformer.decode.text import postprocess
from paraformer.errors import DataError

SILENCE = "<sil>"
# In steps of a timeline.
FIRE_SHIFT = -1.5  # a token begins before it fires
LONGEST = 12  # a token that lasts longer ends here, and silence follows
LEAST_SILENCE = 5  # before the first token and behind the last

MARKS = frozenset("，。？！、；,.?!;")
_CLOSING = "".join(CLOSERS)

Times = list[list[int]]  # [start, end] of each word or token in ms


class Span(NamedTuple):
    """A token or a silence, in seconds."""

    text: str
    start: float
    end: float


class SpokenWord(NamedTuple):
    """A word of a text, when it was spoken, in ms, and the mean confidence of its tokens."""

    text: str
    start: int
    end: int
    confidence: float


class Sentence(NamedTuple):
    """A stretch of the text and when it was spoken, in ms."""

    text: str
    start: int
    end: int
    timestamp: Times  # of its words


class Clock:
    """Token times of a batch.

    >>> weights = torch.tensor([[0.0] * 10 + [1.0] + [0.0] * 9 + [1.0]])
    >>> timeline = Timeline(weights, weights, torch.tensor([21]), 3)
    >>> milliseconds(Clock(timeline, 0.06).spans(0, ["好"]))
    [[170, 420]]
    """

    def __init__(
        self,
        timeline: Timeline,
        frame_seconds: float,
        ends: Callable[[int, list[Span]], list[Span]] | None = None,
    ) -> None:
        """frame_seconds: shift of an encoder frame, 0.06 in released models. ends: what moves the
        ends of the spans of a row, see `decode.sound`.
        """
        self._ends = ends
        self.step_seconds = frame_seconds / timeline.rate
        self._timeline = timeline.cpu()

    def spans(self, row: int, tokens: Sequence[str], offset_ms: float = 0.0) -> list[Span]:
        """The tokens of utterance `row` and the silences between, in order, each token once.

        tokens: those of the text, without blank, start and end symbols. offset_ms: when the
        utterance begins in its recording.
        """
        if not tokens:
            return []
        fires, size = _fires(self._timeline, row, len(tokens) + 1)
        unit, begin = self.step_seconds, offset_ms / 1000.0
        laid = _lay_out(tokens, fires, size)
        spans = [Span(text, start * unit, end * unit) for text, start, end in laid]
        if self._ends is not None:
            spans = self._ends(row, spans)
        return [Span(text, start + begin, end + begin) for text, start, end in spans]

    def fires(self, row: int, count: int) -> list[float]:
        """Seconds at which `count` tokens of utterance `row` fire; each begins a little before."""
        begins, _ = _fires(self._timeline, row, count)
        return [(begin - FIRE_SHIFT) * self.step_seconds for begin in begins]


def _fires(timeline: Timeline, row: int, count: int) -> tuple[list[float], int]:
    """Where `count` tokens of a row begin, in steps, rising, and how many steps it has. Of more
    tokens than steps they are spread by the weights.
    """
    places, weights = timeline.places(row, count)
    if len(places) != count:
        return _spread(weights, count), len(weights)
    return [max(place + FIRE_SHIFT, 0.0) for place in places.tolist()], len(weights)


def _spread(weights: Tensor, count: int) -> list[float]:
    """Where the running sum of weights (S,) passes each of `count` equal parts; all 0: evenly."""
    size = len(weights)
    if size == 0:
        return [0.0] * count
    weights = weights.double() if bool(weights.sum() > 0) else torch.ones(size).double()
    sums = torch.cat((weights.new_zeros(1), weights.cumsum(0)))
    wanted = torch.arange(1, count + 1).double() * (sums[-1] / count)
    step = (torch.searchsorted(sums, wanted) - 1).clamp(0, size - 1)
    part = ((wanted - sums[step]) / weights[step].clamp(min=1e-12)).clamp(0.0, 1.0)
    # A token fires within a step: half a step before its end, on average.
    return (step + part - 0.5 + FIRE_SHIFT).clamp(0.0, float(size)).tolist()


def _lay_out(tokens: Sequence[str], fires: Sequence[float], size: int) -> list[Span]:
    """Tokens between their fires, in steps. The end of the last entry, token or silence, moves."""
    laid = [Span(SILENCE, 0.0, fires[0])] if fires[0] > LEAST_SILENCE else []
    for token, start, following in zip(tokens, fires, fires[1:], strict=False):
        if following - start <= LONGEST:
            laid.append(Span(token, start, following))
            continue
        laid.append(Span(token, start, start + LONGEST))
        laid.append(Span(SILENCE, start + LONGEST, following))
    end = float(size)
    if size - fires[-1] > LEAST_SILENCE:
        end = (size + fires[-1]) * 0.5
        laid[-1] = laid[-1]._replace(end=end)
        return [*laid, Span(SILENCE, end, float(size))]
    laid[-1] = laid[-1]._replace(end=end)
    return laid


def milliseconds(spans: Iterable[Span]) -> Times:
    """[start, end] of each token, silences left out; cut off, not rounded, as the reference's."""
    return [
        [int(span.start * 1000), int(span.end * 1000)] for span in spans if span.text != SILENCE
    ]


def spoken_words(
    tokens: Sequence[str],
    times: Times,
    confidences: Sequence[float],
    sentencepiece: bool = False,
) -> list[SpokenWord]:
    """Tokens and their times become words, as `postprocess` joins them.

    sentencepiece: tokens are pieces, of which `▁` begins a word; else characters and `@@` pieces.

    >>> spoken_words(["he@@", "llo", "好"], [[0, 2], [2, 5], [5, 9]], [0.5, 1.0, 0.9])[0]
    SpokenWord(text='hello', start=0, end=5, confidence=0.75)
    """
    found = []
    for text, first, last in _pieces_joined(tokens) if sentencepiece else _words_of(tokens):
        own = confidences[first : last + 1]
        mean = sum(own) / len(own)
        found.append(SpokenWord(text, times[first][0], times[last][1], mean))
    return found


def _words_of(tokens: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Words with the places of their first and last tokens."""
    read = postprocess(tokens, [(place, place) for place in range(len(tokens))])
    for text, (first, last) in zip(read.words, read.timestamps or (), strict=True):
        yield text, first, last


def _pieces_joined(pieces: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The same of sentencepiece pieces."""
    begins = [place for place, piece in enumerate(pieces) if piece.startswith("▁") or place == 0]
    for first, end in zip(begins, [*begins[1:], len(pieces)], strict=True):
        text = "".join(pieces[first:end]).replace("▁", "")
        if text:
            yield text, first, end - 1


def clip(times: Times, most_ms: int) -> Times:
    """The same inside a recording of that length: its last frame may reach beyond its end."""
    return [[min(start, most_ms), min(end, most_ms)] for start, end in times]


def one_line(spans: Iterable[Span]) -> str:
    """`token start end;` of tokens and silences, in seconds to five signs, as the reference's.

    >>> one_line([Span("好", 0.39, 0.63)])
    '好 0.390 0.630;'
    """
    return "".join(f"{s.text} {_five_signs(s.start)} {_five_signs(s.end)};" for s in spans)


def _five_signs(seconds: float) -> str:
    return str(seconds + 0.0005)[:5]


def cut_sentences(
    text: str,
    words: Sequence[str],
    times: Times,
    marks: Iterable[str] = MARKS,
    places: Sequence[tuple[int, int]] | None = None,
    starts: Container[int] = (),
) -> list[Sentence]:
    """A punctuated text in sentences, which joined are the text again, each with its times.

    words: those of the text in their order, each as it stands there; times: theirs; places: where
    they stand, if that is known. A sentence ends behind a word that any of `marks` follows, and
    with the text; 3.5 and example.com are whole. starts: numbers of words, above 0, that
    begin one anyway.

    >>> [s[:3] for s in cut_sentences("你好，ok.", ["你", "好", "ok"], [[0, 2], [2, 5], [7, 9]])]
    [('你好，', 0, 5), ('ok.', 7, 9)]
    """
    if len(words) != len(times):
        raise DataError(f"{len(words)} words with {len(times)} times; give one time for each word")
    known = frozenset(marks)
    sentences: list[Sentence] = []
    begin = first = place = 0
    for number, word in enumerate(words):
        start = places[number][0] if places is not None else text.find(word, place)
        if start < 0:
            raise DataError(f"'{word}': not in '{text[place:]}'; give the words of the same text")
        cut = _cut_in_gap(text, place, start, known) if number else 0
        if cut or number in starts:
            end = place + cut if cut else start
            sentences.append(_sentence(text[begin:end], times[first:number]))
            begin, first = end, number
        place = start + len(word)
    if text[begin:]:
        sentences.append(_sentence(text[begin:], times[first:]))
    return sentences


def cut_behind(text: str, parts: Iterable[str], marks: Iterable[str] = MARKS) -> list[str]:
    """A text behind each of the parts that it was made of, blanks and marks aside; joined, the
    stretches are the text again.

    >>> cut_behind("你好，ok. 好", ["你好ok", "好"])
    ['你好，ok.', ' 好']
    """
    known = frozenset(marks)
    cuts, place = list[int](), 0
    for part in parts:
        signs = [sign for sign in part if not sign.isspace()]
        for number, sign in enumerate(signs):
            start = text.find(sign, place)
            if start < 0:
                raise DataError(f"'{part}': not in '{text[place:]}'; give the parts of this text")
            if number == 0:
                cuts.append(place + _cut_in_gap(text, place, start, known))
            place = start + 1
    return [text[begin:end] for begin, end in pairwise([0, *cuts[1:], len(text)]) if end]


def _cut_in_gap(text: str, begin: int, end: int, marks: frozenset[str]) -> int:
    """How much of what stands between two words, text[begin:end], belongs to the sentence before;
    0: no end there.
    """
    gap = text[begin:end]
    if _is_inside(gap, text[begin - 1 : begin], text[end : end + 1]):
        return 0
    last = max((place for place, sign in enumerate(gap) if sign in marks), default=-1)
    if last < 0:
        return 0
    return last + 1 + len(gap[last + 1 :]) - len(gap[last + 1 :].lstrip(_CLOSING))


def _is_inside(gap: str, before: str, after: str) -> bool:
    """Whether a mark belongs to the number or name in which it stands."""
    digits = before.isdigit() and after.isdigit()
    return (gap in (",", ":") and digits) or (gap == "." and (before + after).isascii())


def _sentence(text: str, times: Times) -> Sentence:
    start, end = (times[0][0], times[-1][1]) if times else (0, 0)
    return Sentence(text, start, end, times)
