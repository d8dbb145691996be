"""Arabic numerals in Chinese text (inverse text normalisation), words and times kept in step.

Numbers are found by their shape among the words that are left when those of the dictionary in which
a numeral counts nothing are hidden; where a shape may be two things, the characters stay: a wrong
digit is worse than a number in words. Nothing is written in digits by half.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from paraformer.decode.number_value import value, written
from paraformer.decode.number_words import HIDDEN, NumberWords

LONGEST = 24  # characters of one number; longer runs stay as they are

_DIGIT = "零〇一二三四五六七八九幺"
_NUMERAL = f"[{_DIGIT}两十百千万亿]"
_TO_ARABIC = str.maketrans(_DIGIT, "001234567891")
# Other signs for what is looked at; each for one, so that places stay.
_SIMPLE = str.maketrans(
    "萬億兩點負個號時幾數來塊歲條張頁種週後錢鐘鍾銀樣會邊陣間級層節對雙隻輛萬華體業點聲場隊組單統專禮",
    "万亿两点负个号时几数来块岁条张页种周后钱钟钟银样会边阵间级层节对双只辆万华体业点声场队组单统专礼",
)
_FOREIGN = re.compile(
    "[壹贰貳叁參肆伍陆陸柒捌玖拾佰仟廿卅卌]"
)  # one beside a number: all of it stays
_SMALL = "(?:三十一?|二?十[一二三四五六七八九]?|[一二三四五六七八九])"  # of a month or a day
_HOUR = "(?:二十[一二三四]?|十[一二三四五六七八九]?|[零一二两三四五六七八九])"
_MINUTE = "(?:[一二三四五]?十[一二三四五六七八九]?|[零〇][一二三四五六七八九])"
_TIME_OF_DAY = "(?:[上下中]午|[早晚]上|[今明昨当][早晚]|凌晨|清晨|早晨|傍晚|夜里|半夜|午夜)"
_COUNTED = (
    "个|人|年|月|日|号|点|岁|块|元|天|次|公|米|斤|倍|名|位|分钟|小时|页|件|家|种|条|张|本|度|秒|周"
)
_MEASURE = "[个块元人名岁斤米公度家张条只位次件种页本天年倍]"
# Things that are told in whole numbers, and quarters of an hour: no tenths of them behind 点.
_WHOLE = (
    "[丛朵只位名条件家张本册辆座棵根枚株颗粒把口匹段节堂课场群双对套间所栋幢排队组批项种类样门处道面副幅封句"
    "篇首章页支枝盏杯碗瓶盒箱包袋桌刻次回遍趟声步人]|个(?!小时|月|百分点|亿|多)"
)
# Set phrases and names, and what only looks like a number.
_FIXED = "|".join(
    (
        "一五一十|十有八九|八九不离十|三七二十一|五十步笑百步|十万火急|十万八千里|十万个为什么",
        "三十而立|四十不惑|十八般|十八罗汉|十八层地狱|三十六计|三十六行|三百六十行|七十二变|七十二行",
        "八十一难|十二生肖|二十四节气|二十四史|二十四孝|二十八宿|一千零一夜|一百零八将|百分之百",
        "二百五(?![十块元万个])|双十[一二]?|十一(?=黄金周|长假|假期|国庆)|八月十五(?![日号])|第?一点一[点滴]",
        "(?:十[一二三四五六七八九]|二十)大(?=[的报代精召以])|七十古来稀|五百罗汉|退一万步|[百千万]儿八[百千十]",
        "十分钟情|十二分(?=[的地感满殷])|大[一二三四](?=一年|[上下]学期)",
        f"[正腊冬]月{_NUMERAL}+|初(?:十[一二三四五]?|[一二三四五六七八九])(?!{_NUMERAL})",
        f"(?<!{_NUMERAL})(?<![几每])(?:周|星期|礼拜)[一二三四五六日天]",
        # A point of a speech, a bit of a thing.
        f"(?<=[这那哪第]){_NUMERAL}点",
        "(?<=[有差快早晚多要没每好大小高低少慢轻重近远长短强弱深浅冷热])一点",
        f"{_NUMERAL}+点(?=[一二三四五六七八九](?:[是要]|{_WHOLE}))",
        "十(?P<measure>[年天个张块斤次回里家])八(?P=measure)",
    )
)
_DATE = (
    f"(?<![{_DIGIT}])(?:[{_DIGIT}]{{4}}|[{_DIGIT}]{{2}})年{_SMALL}月(?:{_SMALL}[日号])?|{_SMALL}月{_SMALL}[日号]"
    f"|{_SMALL}月(?:三十一?|二?十[一二三四五六七八九]|二十)(?!{_NUMERAL}|[几来余多]|{_COUNTED})"
)
_CLOCK = (
    f"(?P<said>{_TIME_OF_DAY})?(?P<hour>{_HOUR})点(?:(?P<minute>{_MINUTE})"
    f"(?!{_NUMERAL}|分[之钟]|[几来余多]|(?!分){_MEASURE})"
    f"|(?P<single>[一二三四五六七八九])(?=分(?![之钟]))|(?(said)(?![{_DIGIT}]+[万亿])|(?!)))"
)
_FOUND = re.compile(
    f"(?P<fixed>{_FIXED})|(?P<date>{_DATE})|(?P<clock>{_CLOCK})"
    f"|(?P<number>百分之{_NUMERAL}+(?:点[{_DIGIT}]+)?|{_NUMERAL}+分之{_NUMERAL}+"
    f"|(?:(?<![胜抱])负)?{_NUMERAL}+(?:点[{_DIGIT}]+(?:万亿|[万亿])?)?)"
)
_DATE_PART = re.compile(f"([{_DIGIT}]{{2,4}})年|({_SMALL})([月日号]?)")
_PLAIN = re.compile(f"[{_DIGIT}]+")
_ZERO = re.compile("[零〇幺]")
_YEARS = "年"
_ROUGHLY = re.compile("[几数好上成]$")  # 几十, 数百
_COUNTED_NEXT = re.compile(f"{_COUNTED}|两[银白黄重酒茶肉]")
_CODE_BEFORE = re.compile(
    "(?:拨打?|打|呼叫|电话|热线|房间|教室|尾号|编号|密码|验证码|号码|航班|分机|区号|邮编|工号|学号)(?:通|了|过|号|是|为|号是){,2}$"
)
_CODE_BEHIND = re.compile("号?(?:房|房间|教室|室)(?!子)")
_PAIRS = re.compile(r"(.)\1(.)\2")  # 七七八八
_SCORE = re.compile("(?:[得扣加减评打考差高低均][了到出过]?|评分|分数)$")
_AGAIN = re.compile("一[定直旦律共经向致]")  # adverbs: the number before them ends there
_TIGHT = re.compile("(?<=[\u4e00-\u9fff])[ \u3000]+(?=[\u4e00-\u9fff])")
_END = "$|[，。！？、；,.!?的了吧呢吗啊]|左右|以[上下]"
_REST = re.compile(
    f"(?:[块元角毛度斤米分]|小时|分钟)([一二三四五六七八九])(?=[角毛分两钱秒]|一[斤个件本张袋瓶盒只条天]|{_END})"
)
_HOURS = re.compile(f"(?<![点几第每半]|{_NUMERAL})([一二两三四五六七八九])(?:个?小时|分钟?)$")
_UNIT = "个小时|小时|分钟|个月|公里|公斤|点半|[点月日号年天岁度块元人个米斤层楼次倍分秒页]"
_FROM = re.compile(
    f"(?<![点第几每周期拜初百千万]|{_NUMERAL})((?<=[从由在])一|[零二两三四五六七八九十]|一(?=[至比]))({_UNIT})?"
    f"[到至比](?:{_TIME_OF_DAY})?$"
)
_SCORE_END = re.compile(f"{_END}|[战领落输赢胜击]")
_TO = re.compile(
    f"({_UNIT})?([到至比])([零一二两三四五六七八九十])(?!{_NUMERAL}|[几多来]|点[{_DIGIT}])"
)

Result = dict[str, Any]


class Edit(NamedTuple):
    """text[start:end] becomes `written`; also counted in letters (`str.isalnum`) of a text."""

    start: int
    end: int
    written: str


class Numerals:
    """Writes the numbers of Chinese texts in digits; single ones, rough ones and set phrases stay.

    >>> Numerals().rewrite("二十五个人一起来了，这一点一定要说")
    '25个人一起来了，这一点一定要说'
    """

    def __init__(self) -> None:
        """Needs the package jieba, whose dictionary tells a number from a word."""
        self._words = NumberWords()

    def rewrite(self, text: str) -> str:
        """The text with digits; linear in its length."""
        return _apply(text, self.edits(text))

    def edits(self, text: str) -> list[Edit]:
        """Places to be written otherwise, from left to right; blanks in Chinese do not count."""
        tight, places = _without_blanks(text.translate(_SIMPLE))
        hidden = self._words.hide(tight)
        found = [edit for match in _FOUND.finditer(hidden) for edit in _read(match, tight)]
        return [
            _in_place(edit, places[edit.start], places[edit.end - 1] + 1, text)
            for edit in _completed(found, hidden)
        ]


def _in_place(edit: Edit, start: int, end: int, text: str) -> Edit:
    """An edit where its characters stand in the text, with the sign behind the number as it is."""
    sign = edit.written[-1:]
    same = not sign.isdigit() and text[end - 1].translate(_SIMPLE) == sign
    return Edit(start, end, edit.written[:-1] + text[end - 1] if same else edit.written)


def _read(match: re.Match[str], text: str) -> Iterator[Edit]:
    """The edits that a match stands for; `text` is the one in which no word is hidden."""
    if match.end() - match.start() > LONGEST or match["fixed"]:
        return
    if match["date"]:
        yield from _date(match)
    elif match["clock"]:
        yield from _clock(match)
    elif not _is_cut(match, text):
        yield from _number(match, text)


def _is_cut(match: re.Match[str], text: str) -> bool:
    """Whether a numeral of a hidden word, or one of another kind, stands beside a number: where the
    number ends is not certain then.
    """
    before, behind = text[max(0, match.start() - 1) : match.start()], text[match.end() :][:1]
    if _FOREIGN.search(before + behind):
        return True
    hidden = match.string[match.start() - 1 : match.start()] == HIDDEN
    left = hidden and re.match(_NUMERAL, before) and not text.endswith("万一", 0, match.start())
    return bool(left or (re.match(_NUMERAL, behind) and not _AGAIN.match(text, match.end())))


def _date(match: re.Match[str]) -> Iterator[Edit]:
    """Year, month and day, each with its sign."""
    for part in _DATE_PART.finditer(match[0]):
        digits = f"{part[1].translate(_TO_ARABIC)}年" if part[1] else _small(part[2]) + part[3]
        yield Edit(match.start() + part.start(), match.start() + part.end(), digits)


def _clock(match: re.Match[str]) -> Iterator[Edit]:
    """三点零五 may be 3.05, 三点五分 a score; but not behind 上午, nor 三点零五 before 分."""
    hour, minute, single = match["hour"], match["minute"], match["single"]
    behind = match.string[match.end() : match.end() + 1]
    if minute and minute[0] in "零〇" and not match["said"] and behind != "分":
        yield Edit(match.start(), match.end(), f"{_small(hour)}.{minute.translate(_TO_ARABIC)}")
    elif not match["said"] and single:
        before = match.string[max(0, match.start() - 3) : match.start()]
        if _SCORE.search(before):
            yield Edit(match.start(), match.end(), f"{_small(hour)}.{_small(single)}")
    elif minute or single or len(hour) > 1 or hour == "十":
        middle = match.end("hour") + 1
        yield Edit(match.start("hour"), middle, f"{_small(hour)}点")
        if minute or single:
            zero = "0" * bool(minute and minute[0] in "零〇")
            yield Edit(middle, match.end(), zero + _small(minute or single))


def _small(number: str) -> str:
    """Digits of a month, day, hour or minute, single ones too."""
    return str(value(number.lstrip("零〇") or "零"))


def _number(match: re.Match[str], text: str) -> Iterator[Edit]:
    """The number in digits; nothing where it stays."""
    start, end = match.span()
    number = match[0].removeprefix("负")
    sign = "-" if number != match[0] else ""
    if len(number) > 1 and number[-1] == "两":  # 一百两银子
        number, end = number[:-1], end - 1
        if text[end + 1 : end + 2] in tuple("个位只三半几"):
            return
    before, behind = text[max(0, start - 8) : start], text[end : end + 4]
    if _stays(number, before, behind):
        return
    digits = number.translate(_TO_ARABIC) if _PLAIN.fullmatch(number) else _digits(number)
    if digits:
        year = behind[:1] == _YEARS and _PLAIN.fullmatch(number)
        yield Edit(start, end + bool(year), sign + digits + _YEARS * bool(year))


def _digits(number: str) -> str:
    """A number that is no row of digits; "" where it is none."""
    whole, fraction, part = number.partition("分之")
    if fraction and whole != "百":
        values = value(part), value(whole)
        return "" if None in values else "/".join(map(str, values))
    body = part or number
    whole, point, decimals = body.partition("点")
    found = value(whole)
    if found is None:
        return ""
    places = decimals.rstrip("万亿")
    tail = f".{places.translate(_TO_ARABIC)}{decimals[len(places) :]}" if point else ""
    return f"{found}{tail}%" if fraction else f"{found}{tail}" if point else written(found)


def _stays(number: str, before: str, behind: str) -> bool:
    """Whether a number, its sign left out, is left in Chinese characters."""
    roughly = number[0] == "十" and _ROUGHLY.search(before)
    if roughly or before[-1:].isdigit() or behind[:1].isdigit() or behind[:1] in ("几", "来"):
        return True
    if len(number) == 1:
        return number != "十" or before[-1:] == "第" or not _COUNTED_NEXT.match(behind)
    if _PLAIN.fullmatch(number):
        return not _is_code(number, before, behind)
    return number[0] in "百千万亿" and not number.startswith("百分之")


def _is_code(digits: str, before: str, behind: str) -> bool:
    """Whether digits without 十 or 百 are said one by one: years, telephone and room numbers.

    五四, 九一八 and 一二三四 stay, and 三五年 is three to five years.
    """
    steps = [b - a for a, b in pairwise(map(int, digits.translate(_TO_ARABIC)))]
    if len(digits) == 2:
        return behind[:1] == _YEARS and digits != "三五" and steps[0] != 1
    if all(step == 1 for step in steps):
        return len(digits) > 3 and bool(_CODE_BEFORE.search(before))
    if _CODE_BEFORE.search(before) or _CODE_BEHIND.match(behind):
        return True
    if _PAIRS.fullmatch(digits) and behind[:1] != _YEARS:
        return False
    return len(digits) > 3 or bool(_ZERO.search(digits))


def _completed(found: list[Edit], text: str) -> list[Edit]:
    """The edits, and those of single numbers that belong to them: 38度5, 10到15, 11比5."""
    edits = {edit.start: edit for edit in found}
    for edit in found:
        for start, digits in [*_rests(edit, text), *_starts(edit, text), *_ends(edit, text)]:
            edits.setdefault(start, Edit(start, start + 1, digits))
    edits.update({edit.start: edit for edit in _percentages(edits, text)})
    return [edits[start] for start in sorted(edits)]


def _rests(edit: Edit, text: str) -> Iterator[tuple[int, str]]:
    """Single numbers of smaller units behind one, or before it."""
    end = edit.end
    while match := _REST.match(text, end):
        yield match.start(1), _small(match[1])
        end = match.end(1)
    first = max(0, edit.start - 6)
    if text[edit.end : edit.end + 1] in tuple("分秒") and (
        hours := _HOURS.search(text[first : edit.start])
    ):
        yield first + hours.start(1), _small(hours[1])


def _starts(edit: Edit, text: str) -> Iterator[tuple[int, str]]:
    """The single number that a range, or a score, begins with."""
    first = max(0, edit.start - 10)
    match = _FROM.search(text[first : edit.start])
    behind = edit.written[-1:] if edit.written[-1:] == "点" else text[edit.end : edit.end + 1]
    if match and (not match[2] or match[2][0] == behind):
        yield first + match.start(1), _small(match[1])


def _ends(edit: Edit, text: str) -> Iterator[tuple[int, str]]:
    """The single number that a range, or a score, ends with; with a percentage it is one, too."""
    match = _TO.match(text, edit.end)
    if not match or (match[3] == "一" and match[2] != "比"):
        return
    unit = "点" if edit.written[-1] == "点" else match[1]
    percent = edit.written[-1] == "%" and not _COUNTED_NEXT.match(text, match.end())
    score = match[2] == "比" and not unit and _SCORE_END.match(text, match.end())
    if percent or score or (unit and text[match.end()] == unit[0]):
        yield match.start(3), _small(match[3]) + "%" * percent


def _percentages(edits: Mapping[int, Edit], text: str) -> Iterator[Edit]:
    """Numbers that are percentages because one stands before 到: 百分之五十到六十."""
    for edit in edits.values():
        second = edits.get(edit.end + 1)
        if not second or edit.written[-1] != "%" or text[edit.end] not in "到至":
            continue
        if second.written.isdigit() and not _COUNTED_NEXT.match(text, second.end):
            yield second._replace(written=f"{second.written}%")


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
    """The one of this process: reading the dictionary takes a second."""
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
