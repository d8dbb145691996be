"""Arabic numerals in Chinese text (inverse text normalisation), words and times kept in step.

Numbers are found here, and read one by one by the grammars of WeTextProcessing: over a whole text
those need more than linear time, and rewrite dates, hours, units and money too (`2026/11/25`,
`3:20p.m.`).
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from paraformer.extras import load_extra

LONGEST = 24  # characters of one number; longer runs stay as they are

_DIGIT = "零〇一二三四五六七八九幺"
_NUMERAL = f"[{_DIGIT}两十百千万亿]"
_TO_ARABIC = str.maketrans(_DIGIT, "001234567891")
_SMALL = "(?:三十一?|二?十[一二三四五六七八九]?|[一二三四五六七八九])"  # of a month or a day
_HOUR = "(?:二十[一二三四]?|十[一二三四五六七八九]?|[零一二两三四五六七八九])"
_MINUTE = "(?:[二三四五]?十[一二三四五六七八九]?|[零〇][一二三四五六七八九])"
_TIME_OF_DAY = "(?:[上下中]午|[早晚]上|[今明昨当][早晚]|凌晨|清晨|早晨|傍晚|夜里|半夜)"
# Set phrases and names, and what only looks like a number.
_FIXED = "|".join(
    (
        "一五一十|十有八九|八九不离十|三七二十一|五十步笑百步|十万火急|十万八千里|十万个为什么",
        "三十而立|四十不惑|十八般|十八罗汉|十八层地狱|三十六计|三十六行|三百六十行|七十二变|七十二行",
        "八十一难|十二生肖|二十四节气|二十四史|二十四孝|二十八宿|一千零一夜|一百零八将|百分之百",
        "二百五(?![十块元万个])|双十[一二]?|十一(?=黄金周|长假|假期|国庆)|八月十五(?![日号])|第?一点一[点滴]",
        "(?:十[一二三四五六七八九]|二十)大(?=[的报代精召以])",
        f"[正腊冬]月{_NUMERAL}+|初(?:十[一二三四五]?|[一二三四五六七八九])(?!{_NUMERAL})",
        f"(?<!{_NUMERAL})(?<![几每])(?:周|星期|礼拜)[一二三四五六日天]",
    )
)
_FOUND = re.compile(
    f"(?P<fixed>{_FIXED})"
    f"|(?P<date>(?:[{_DIGIT}]{{4}}年{_SMALL}月(?:{_SMALL}[日号])?|{_SMALL}月{_SMALL}[日号]))"
    f"|(?P<clock>{_HOUR}点{_MINUTE}(?!{_NUMERAL}))"
    f"|(?P<number>百分之{_NUMERAL}+(?:点[{_DIGIT}]+)?|{_NUMERAL}+分之{_NUMERAL}+"
    f"|(?:(?<![胜抱])负)?{_NUMERAL}+(?:点[{_DIGIT}]+[万亿]?)?)"
)
_IN_DATE = re.compile(f"([{_DIGIT}]{{4}}(?=年))|({_SMALL})(?=[月日号])")
_SAID_HOUR = re.compile(f"{_TIME_OF_DAY}$")
_READ = re.compile(r"\d+(?:\.\d+)?[万亿]?(?:\d+万)?%?|\d+/\d+")  # what counts as a number
_PLAIN = re.compile(f"[{_DIGIT}]+")
_ZERO = re.compile("[零〇幺]")
_ROUGHLY = re.compile("[几数好上成第]$")  # 几十, 数百, 第十
_COUNTED = re.compile(
    "个|人|年|月|日|号|点|岁|块|元|天|次|公|米|斤|倍|名|位|分钟|小时|页|件|家|种|条|张|本|度|秒|周"
)
_TIGHT = re.compile("(?<=[\u4e00-\u9fff])[ \u3000]+(?=[\u4e00-\u9fff])")
_YEARS = "年"

Result = dict[str, Any]
Reader = Callable[[str], str]


class Edit(NamedTuple):
    """text[start:end] becomes `written`; also counted in letters (`str.isalnum`) of a text."""

    start: int
    end: int
    written: str


class Numerals:
    """Writes the numbers of Chinese texts in digits; single ones, rough ones and set phrases stay.

    >>> Numerals(lambda number: {"二十五": "25"}[number]).rewrite("一起来了二十五个人")
    '一起来了25个人'
    """

    def __init__(self, read: Reader | None = None) -> None:
        """read: what writes one number in digits; WeTextProcessing by default."""
        self._read = lru_cache(maxsize=4096)(read or _grammar())

    def rewrite(self, text: str) -> str:
        """The text with digits; linear in its length."""
        return _apply(text, self.edits(text))

    def edits(self, text: str) -> list[Edit]:
        """What is to be written otherwise, from left to right; blanks in Chinese do not count."""
        tight, places = _without_blanks(text)
        return [
            Edit(places[edit.start], places[edit.end - 1] + 1, edit.written)
            for edit in self._find(tight)
        ]

    def _find(self, text: str) -> Iterator[Edit]:
        for match in _FOUND.finditer(text):
            start, end = match.span()
            if end - start > LONGEST or match.lastgroup == "fixed":
                continue
            if match.lastgroup == "date":
                yield from self._date(match)
            elif match.lastgroup == "clock" and self._is_clock(match):
                yield from self._clock(match)
            elif written := self._number(match):
                year = text[end : end + 1] == _YEARS and _PLAIN.fullmatch(match[0])
                yield Edit(start, end + 1, written + _YEARS) if year else Edit(start, end, written)

    def _date(self, match: re.Match[str]) -> Iterator[Edit]:
        """Year, month and day, each with its sign."""
        for part in _IN_DATE.finditer(match[0]):
            written = part[1].translate(_TO_ARABIC) if part[1] else self._value(part[2])
            sign = match[0][part.end()]
            start = match.start() + part.start()
            yield Edit(start, match.start() + part.end() + 1, written + sign)

    def _is_clock(self, match: re.Match[str]) -> bool:
        """三点零五 may be 3.05, but not behind 上午 or before 分."""
        behind = match.string[match.end() : match.end() + 1]
        before = match.string[max(0, match.start() - 2) : match.start()]
        return (
            "十" in match[0].partition("点")[2] or behind == "分" or bool(_SAID_HOUR.search(before))
        )

    def _clock(self, match: re.Match[str]) -> Iterator[Edit]:
        hour, _, minute = match[0].partition("点")
        middle = match.start() + len(hour) + 1
        yield Edit(match.start(), middle, f"{self._value(hour)}点")
        value = f"{int(self._value(minute)):02d}" if minute[0] in "零〇" else self._value(minute)
        yield Edit(middle, match.end(), value)

    def _value(self, number: str) -> str:
        """Digits of a month, day, hour or minute, single ones too."""
        number = number.lstrip("零〇") or "零"
        if len(number) == 1 and number != "十":
            return str("零一二三四五六七八九".find(number.replace("两", "二")))
        return self._read(number)

    def _number(self, match: re.Match[str]) -> str:
        """The number in digits, "" where it stays."""
        before = match.string[max(0, match.start() - 1) : match.start()]
        behind = match.string[match.end() : match.end() + 2]
        number = match[0].removeprefix("负")
        sign = "-" if number != match[0] else ""
        if _stays(number, before, behind):
            return ""
        if _PLAIN.fullmatch(number):
            return sign + number.translate(_TO_ARABIC)
        written = self._read(number.replace("〇", "零"))
        return sign + written if _READ.fullmatch(written) else ""


def _stays(number: str, before: str, behind: str) -> bool:
    """Whether a number, its sign left out, is left in Chinese characters."""
    roughly = number[0] == "十" and _ROUGHLY.search(before)
    if roughly or before.isdigit() or behind[:1].isdigit() or behind[:1] in ("几", "来"):
        return True
    if len(number) == 1:
        return number != "十" or not _COUNTED.match(behind)
    if _PLAIN.fullmatch(number):
        return not _is_code(number, behind)
    return number[0] in "百千万亿" and not number.startswith("百分之")


def _is_code(digits: str, behind: str) -> bool:
    """Whether digits without 十 or 百 are said one by one: years, telephone and room numbers.

    五四, 九一八 and 一二三四 stay, and 三五年 is three to five years.
    """
    steps = [b - a for a, b in pairwise(map(int, digits.translate(_TO_ARABIC)))]
    if len(digits) == 2:
        return behind[:1] == _YEARS and digits != "三五" and steps[0] != 1
    if all(step == 1 for step in steps):
        return False
    return len(digits) > 3 or bool(_ZERO.search(digits))


def _grammar() -> Reader:
    """Reading of one number by WeTextProcessing."""
    reader = load_extra("itn.chinese.inverse_normalizer", "itn").InverseNormalizer
    logging.getLogger("wetext").setLevel(logging.ERROR)  # it tells which files it reads
    read: Reader = reader().normalize
    return read


def _without_blanks(text: str) -> tuple[str, list[int]]:
    """A text without the blanks between Chinese characters, and where each character stood."""
    places: list[int] = []
    begin = 0
    for match in _TIGHT.finditer(text):
        places += range(begin, match.start())
        begin = match.end()
    places += range(begin, len(text))
    return "".join(text[place] for place in places), places


def _apply(text: str, edits: Sequence[Edit]) -> str:
    parts, begin = [], 0
    for edit in edits:
        parts += [text[begin : edit.start], edit.written]
        begin = edit.end
    return "".join([*parts, text[begin:]])


@lru_cache(maxsize=1)
def shared_numerals() -> Numerals:
    """The one of this process: reading its grammars takes a second."""
    return Numerals()


def rewrite_result(result: Mapping[str, Any], numerals: Numerals) -> Result:
    """A result of recognition with its numbers in digits.

    The words of a number become one, from the start of the first to the end of the last, its
    confidence their mean; `timestamp` and the texts of `segments` follow. A number that goes over
    the border of two segments stays, and so does a result whose words are not those of its text.
    """
    text, words = str(result["text"]), list(result.get("words", ()))
    sizes = [_count(word["text"]) for word in words]
    segments = list(result.get("segments", ()))
    borders = [0, *accumulate(_count(segment["text"]) for segment in segments)]
    letters = _letters(text)
    if (words and sum(sizes) != len(letters)) or (segments and borders[-1] != len(letters)):
        return dict(result)
    edits = [
        edit
        for edit in _in_letters(numerals.edits(text), letters)
        if bisect_right(borders, edit.start) == bisect_right(borders, edit.end - 1)
    ]
    changed = {**result, "text": _apply_letters(text, edits)}
    groups = _groups(sizes, edits)
    if "words" in result:
        changed["words"] = [_joined(words[a:b], _within(edits, *s)) for (a, b), s in groups]
    timed = len(words) == len(result.get("timestamp", ())) > 0
    if timed:
        spans = result["timestamp"]
        changed["timestamp"] = [[spans[a][0], spans[b - 1][1]] for (a, b), _ in groups]
    if segments:
        starts = [start for _, (start, _) in groups]
        times = list(zip(starts, changed["timestamp"], strict=True)) if timed else []
        changed["segments"] = [
            _segment(segment, edits, times, *span)
            for segment, span in zip(segments, pairwise(borders), strict=True)
        ]
    return changed


def _segment(
    segment: Mapping[str, Any], edits: Sequence[Edit], times: Any, start: int, end: int
) -> Result:
    """A segment, which has the letters start:end of the text."""
    text = _apply_letters(segment["text"], _within(edits, start, end))
    changed = {**segment, "text": text}
    if "timestamp" in segment and times:
        changed["timestamp"] = [time for place, time in times if start <= place < end]
    return changed


def _joined(words: Sequence[Mapping[str, Any]], edits: Sequence[Edit]) -> Result:
    """One word of several."""
    text = _apply_letters("".join(word["text"] for word in words), edits)
    word = {**words[0], "text": text, "end": words[-1]["end"]}
    if len(words) > 1 and "confidence" in word:
        word["confidence"] = round(sum(w["confidence"] for w in words) / len(words), 4)
    return word


def _groups(
    sizes: Sequence[int], edits: Sequence[Edit]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Words that become one, as places (a, b) and their letters (start, end): those of one edit,
    or a word alone.
    """
    starts = [0, *accumulate(sizes)]
    groups: list[tuple[tuple[int, int], tuple[int, int]]] = []
    place = 0
    waiting = iter([*edits, None])
    edit = next(waiting)
    while place < len(sizes):
        end = place + 1
        while edit is not None and edit.start < starts[end]:
            while starts[end] < edit.end:
                end += 1
            edit = next(waiting)
        groups.append(((place, end), (starts[place], starts[end])))
        place = end
    return groups


def _within(edits: Sequence[Edit], start: int, end: int) -> list[Edit]:
    """The edits of the letters start:end, counted from `start`."""
    first = bisect_left(edits, start, key=lambda edit: edit.start)
    last = bisect_left(edits, end, key=lambda edit: edit.start)
    return [Edit(e.start - start, e.end - start, e.written) for e in edits[first:last]]


def _letters(text: str) -> list[int]:
    return [place for place, char in enumerate(text) if char.isalnum()]


def _count(text: str) -> int:
    return sum(map(str.isalnum, text))


def _in_letters(edits: Sequence[Edit], letters: Sequence[int]) -> list[Edit]:
    """Edits of a text, counted in letters; what they replace begins and ends with one."""
    return [
        Edit(bisect_left(letters, e.start), bisect_left(letters, e.end - 1) + 1, e.written)
        for e in edits
    ]


def _apply_letters(text: str, edits: Sequence[Edit]) -> str:
    """The text with edits that are counted in letters."""
    letters = _letters(text) if edits else []
    return _apply(text, [Edit(letters[e.start], letters[e.end - 1] + 1, e.written) for e in edits])
