"""Words and their times as people use them: the words of a result, the lines of a subtitle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple
from unicodedata import combining, east_asian_width

from paraformer.data.text.words import CLOSERS, OPENERS, STOPS, TAG
from paraformer.decode.text import postprocess
from paraformer.errors import ConfigError, DataError
from paraformer.limits import check_fields, limited

SENTENCE_ENDS = frozenset("。．！？；…!?;｡؟")
FULL_STOP = "."  # ends a sentence too, but not inside `U.S.`
SILENCE_MS = 1000  # so much of it ends a line
PAUSE_MS = 300  # so much is a good place to end one
# Costs of a line's end that is no sentence's: the lower the sooner a long sentence is cut there.
AT_PAUSE, ANYWHERE, UNEVEN = 0.3, 1.0, 0.5
INSIDE = 9.0  # of a number or of a word with a hyphen
_OPENING = re.compile("[" + re.escape("".join(OPENERS)) + r"]+\s*$|(?<=\s)[\"']+$")
_CLOSING = "".join(CLOSERS)
_LAST_TAGS = re.compile(rf"(?:{TAG.pattern}\s*)+$")
_TOGETHER = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{2}")


class Word(NamedTuple):
    """A word or a Chinese character, with its times in ms from the start of the recording."""

    text: str
    start: int
    end: int
    confidence: float | None = None  # 0 to 1
    speaker: str = ""


class Line(NamedTuple):
    """A stretch of the text as it is shown, marks and all, with its times in ms."""

    text: str
    start: int
    end: int
    speaker: str = ""
    words: tuple[Word, ...] = ()  # () where only the times of the whole are known


@dataclass(frozen=True)
class LineLimits:
    """How long a line may be; a word that is longer stands alone."""

    max_line_chars: int = limited(42, 1)  # columns: a Chinese character takes two
    max_line_s: float = limited(7.0, 0, above=True)

    def __post_init__(self) -> None:
        check_fields(self)


class Transcript(NamedTuple):
    """A recording's words, each with the stretch of the text that is its own, or only lines."""

    key: str
    milliseconds: int  # length of the recording
    words: list[Word]
    pieces: list[str]  # of each word: joined and stripped they are the text
    stretches: list[Line]  # what has times where no word has
    channel: str = "1"  # of the recording
    speaker: str = ""  # of all of it
    turns: tuple[Line, ...] = ()  # who speaks when, without what, where that is known

    def moved(self, by: int) -> Transcript:
        """The same in a recording in which it begins so many ms after the start."""
        words = [w._replace(start=w.start + by, end=w.end + by) for w in self.words]
        stretches = [s._replace(start=s.start + by, end=s.end + by) for s in self.stretches]
        turns = tuple(t._replace(start=t.start + by, end=t.end + by) for t in self.turns)
        length = self.milliseconds + by
        return self._replace(words=words, stretches=stretches, turns=turns, milliseconds=length)

    def speakers(self) -> list[str]:
        """Who speaks, in the order in which they begin; none where that is not known."""
        spoken: list[Word | Line] = [*self.turns, *self.words, *self.stretches]
        begun = sorted(spoken, key=lambda span: span.start)
        return [name for name in dict.fromkeys(span.speaker for span in begun) if name]

    def sentences(self) -> list[Line]:
        """Lines that end with a sentence, a change of speaker or a second of silence."""
        if self.stretches:
            return self.stretches
        ends = [i for i in range(1, len(self.words)) if self._ends(i)]
        return [self._line(*span) for span in pairwise([0, *ends, len(self.words)]) if self.words]

    def lines(self, limits: LineLimits) -> list[Line]:
        """Lines for the screen: sentences, the long ones cut between words, at marks and pauses
        where there are any, else evenly.
        """
        if self.stretches:
            return self.stretches
        lines: list[Line] = []
        begin = 0
        for sentence in self.sentences():
            end = begin + len(sentence.words)
            lines += [self._line(*span) for span in self._cut(begin, end, limits)]
            begin = end
        return lines

    def _line(self, begin: int, end: int) -> Line:
        words = self.words[begin:end]
        text = "".join(self.pieces[begin:end]).strip()
        return Line(text, words[0].start, words[-1].end, words[0].speaker, tuple(words))

    def _ends(self, place: int) -> bool:
        """Whether a sentence ends before word `place`."""
        before, after = self.words[place - 1 : place + 1]
        if before.speaker != after.speaker or after.start - before.end >= SILENCE_MS:
            return True
        piece = self.pieces[place - 1]
        mark = _last_mark(piece)
        blank = piece[-1:].isspace() or _sticks(self.pieces[place][:1])
        return mark in SENTENCE_ENDS or (mark == FULL_STOP and blank)

    def _cut(self, begin: int, end: int, limits: LineLimits) -> list[tuple[int, int]]:
        """Words begin:end as lines at the least cost, found from the left (dynamic programming)."""
        widths = list(accumulate(map(columns, self.pieces[begin:end]), initial=0))
        best, origin = [0.0], [0]
        for stop in range(1, end - begin + 1):
            spare = columns(self.pieces[begin + stop - 1]) - columns(
                self.pieces[begin + stop - 1].rstrip()
            )
            choices: list[tuple[float, int]] = []
            for start in range(stop - 1, -1, -1):
                width = widths[stop] - widths[start] - spare
                first, last = self.words[begin + start], self.words[begin + stop - 1]
                long = last.end - first.start > 1000 * limits.max_line_s
                if choices and (width > limits.max_line_chars or long):
                    break
                slack = max(0.0, 1 - width / limits.max_line_chars)
                choices.append((best[start] + 1 + UNEVEN * slack**2, start))
            cost, start = min(choices)
            best.append(cost + (self._break_cost(begin + stop) if begin + stop < end else 0.0))
            origin.append(start)
        spans = []
        stop = end - begin
        while stop:
            spans.append((begin + origin[stop], begin + stop))
            stop = origin[stop]
        return spans[::-1]

    def _break_cost(self, place: int) -> float:
        before, after = self.pieces[place - 1][-1:], self.pieces[place][:1]
        if before.strip() and not (_sticks(before) or _sticks(after)):
            return INSIDE
        if _last_mark(self.pieces[place - 1]) in STOPS:
            return 0.0
        pause = self.words[place].start - self.words[place - 1].end
        return AT_PAUSE if pause >= PAUSE_MS else ANYWHERE


def transcript(result: Mapping[str, Any], exact: bool = False) -> Transcript:
    """The times of a result of recognition: `words`, else `timestamp`, else `sentence_info`, else
    `segments`, in ms; put in order, inside the recording, none shorter than 1 ms, unless they are
    to stay exact.
    """
    key = str(result.get("key", ""))
    turns = _turns(result)
    if "text" not in result and "turns" in result:
        length = int(1000 * float(result.get("audio_seconds") or 0.0))
        return Transcript(key, length, [], [], [], turns=turns)
    if "text" not in result:
        raise ConfigError(f"'{key}': no text; subtitles and tables are of a recogniser's results")
    script = str(result.get("script", ""))
    text = script or str(result["text"])
    words = _words(result)
    stretches = [] if words is not None else _stretches(result)
    if words is None and not stretches and text.strip():
        raise DataError(
            f"'{key}': the model gives no times; take one that does (BiCifParaformer, "
            "SeacoParaformer), or add vad_model for those of segments"
        )
    words = words or []
    timed = [(word.start, word.end) for word in words]
    timed += [(line.start, line.end) for line in stretches]
    last = max((end for _, end in timed), default=0)
    most = int(1000 * float(result.get("audio_seconds") or 0.0)) or last
    times = timed if exact else in_order(timed, most, key)
    pairs = list(zip(words, times, strict=False))
    words = [word._replace(start=start, end=end) for word, (start, end) in pairs]
    stretches = [
        line._replace(start=start, end=end)
        for line, (start, end) in zip(stretches, times[len(words) :], strict=True)
    ]
    # What a person wrote has blanks on purpose, unless they part all characters.
    pieces = cut_text(text, [w.text for w in words], _TOGETHER.search(script) is not None)
    return Transcript(key, most, words, pieces, stretches, turns=turns)


def _words(result: Mapping[str, Any]) -> list[Word] | None:
    """Words with times, None where there are none."""
    if "words" in result:
        found = [(w["text"], (w["start"], w["end"]), w) for w in result["words"]]
    elif "timestamp" in result:
        times, texts = result["timestamp"], str(result.get("text", "")).split()
        if len(times) != len(texts):
            tokens = result.get("tokens", ())
            if len(times) != len(tokens):
                return None
            readable = postprocess(tokens, times, pieces_wait=False)
            times, texts = readable.timestamps, readable.words
        found = [(text, time, {}) for text, time in zip(texts, times, strict=True)]
    else:
        return None
    return [
        Word(text, round(time[0]), round(time[1]), more.get("confidence"), _speaker(more))
        for text, time, more in found
        if text.strip()
    ]


def _stretches(result: Mapping[str, Any]) -> list[Line]:
    parts = result.get("sentence_info") or result.get("segments") or ()
    lines = [Line(tidy(p["text"]), round(p["start"]), round(p["end"]), _speaker(p)) for p in parts]
    return [line for line in lines if line.text]


def _turns(result: Mapping[str, Any]) -> tuple[Line, ...]:
    told = result.get("turns") or ()
    return tuple(Line("", round(t["start"]), round(t["end"]), _speaker(t)) for t in told)


def _speaker(part: Mapping[str, Any]) -> str:
    found = part.get("speaker", part.get("spk"))
    if isinstance(found, int):
        return f"SPK{found}"
    return "" if found is None else str(found)


def in_order(times: Sequence[tuple[int, int]], most: int, key: str = "") -> list[tuple[int, int]]:
    """[start, end] in ms -> each 1 ms or longer, none before the end of the one before, all from 0
    to `most`; what is so already stays.

    >>> in_order([(0, 200), (150, 150), (300, 500)], 400)
    [(0, 200), (200, 201), (300, 400)]
    """
    if len(times) > most:
        raise DataError(f"'{key}': {len(times)} words in {most} ms; is it the right recording?")
    laid: list[tuple[int, int]] = []
    for start, end in times:
        start = max(start, laid[-1][1] if laid else 0)
        laid.append((start, max(end, start + 1)))
    latest = most
    for place in range(len(laid) - 1, -1, -1):
        end = min(laid[place][1], latest)
        latest = min(laid[place][0], end - 1)
        laid[place] = (latest, end)
    return laid


def cut_text(text: str, words: Sequence[str], blanks: bool = False) -> list[str]:
    """A text as one piece for each word, marks with the word that they belong to; joined, the
    pieces are the text without the blanks that Chinese has none of, or with all `blanks`.

    Where the words are not those of the text, as after a rewriting, the pieces are the words.

    >>> cut_text("他 说，“API OK.”", ["他", "说", "API", "OK"])
    ['他', '说，', '“API ', 'OK.”']
    """
    if not words:
        return []
    bare = TAG.sub(lambda tag: "-" * len(tag[0]), text)  # <noise> is no word, <unk> may be one
    cuts = _cuts(text, words, text) or _cuts(text, words, bare)
    if cuts is None:
        text = " ".join(words)
        cuts = _cuts(text, words, text) or []
    raw = [text[begin:end] for begin, end in pairwise(cuts)]
    if blanks:
        return [re.sub(r"\s+", " ", piece) for piece in raw]
    following = [*(piece.lstrip()[:1] for piece in raw[1:]), ""]
    return [_close(piece, sign) for piece, sign in zip(raw, following, strict=True)]


def _cuts(text: str, words: Sequence[str], plain: str) -> list[int] | None:
    """Where the pieces begin and the last one ends; None: these are not the text's words. plain:
    the text as it is between words.
    """
    cuts, place = [0], 0
    for number, word in enumerate(words):
        start = (text if TAG.fullmatch(word) else plain).find(word, place)
        gap = plain[place:start]
        if start < 0 or any(char.isalnum() for char in gap):
            return None
        if number:
            opening = _OPENING.search(gap)
            cuts.append(place + (opening.start() if opening else len(gap)))
        place = start + len(word)
    return None if any(char.isalnum() for char in plain[place:]) else [*cuts, len(text)]


def _close(piece: str, sign: str) -> str:
    """A piece with a blank behind it only if there was one and it parts words that need it."""
    bare = piece.strip()
    inner = re.sub(r"\s+", " ", bare)
    blank = piece[-1:].isspace() and bare and not _sticks(bare[-1]) and not _sticks(sign)
    return inner + " " if blank and sign else inner


def tidy(text: str) -> str:
    """A text with one blank between words that need it, and none in and around Chinese.

    >>> tidy("用 API  v 2 写 程序 ， ok ?")
    '用API v 2写程序，ok ?'
    """
    parts = text.split()
    following = [*parts, ""][1:]
    return "".join(_close(p + " ", after[:1]) for p, after in zip(parts, following, strict=False))


def columns(text: str) -> int:
    """Width on a screen: two for a Chinese character, none for an accent."""
    return sum(
        0 if combining(char) else 1 + (east_asian_width(char) in ("W", "F")) for char in text
    )


def _sticks(char: str) -> bool:
    """Whether a character of a script without blanks, or a mark of one."""
    return bool(char) and east_asian_width(char) in ("W", "F") and not "\uac00" <= char <= "\ud7a3"


def _last_mark(piece: str) -> str:
    """The mark that ends a piece, brackets and quotes behind it aside; "" if a word does."""
    mark = _LAST_TAGS.sub("", piece).rstrip().rstrip(_CLOSING)[-1:]
    return "" if mark.isalnum() else mark
