"""Words in which a numeral counts nothing (一定, 千万, 三心二意) by the dictionary of jieba."""

from __future__ import annotations

import re
from collections.abc import Iterator

from paraformer.data.text.words import load_jieba

HIDDEN = "\0"  # stands for each character of such a word
_NUMERAL = "零〇一二两三四五六七八九十百千万亿"
_LARGE = "一百千万亿"  # 一时, 百度
_HAS_NUMERAL = re.compile(f"[{_NUMERAL}]")
_LEADING = re.compile(f"([{_NUMERAL}]+)([^{_NUMERAL}]+)")
_COUNT_TAG = "m"  # of jieba: a numeral, or one with its measure
# They count, though the dictionary calls them names or set phrases; so do dates and ordinals.
_MEASURES = re.compile(
    "人|人次|个|元|块|年|年代|世纪|月|月份|日|号|天|时|点|分|秒|期|幅|度|届|代|大|中|强|岁|行|级|周|年度"
    "|位|成"
)
_NUMBER = re.compile(
    f"第|周|星期|礼拜|[{_NUMERAL}]+分之|(?:[{_NUMERAL}]+[年月日号点时分元块角毛])+[{_NUMERAL}]*$"
)
# Tagged as counts, but usually words of their own: what stands before 一样 is another number.
_OWN_WORDS = re.compile(
    "一(?:些|起|样|下|下子|边|面|旁|阵|番|会|会儿|点点|半|口气|再|道|路|同|方面|带|时间|系列|部分|大|步|手|心"
    "|头|眼|把)"
)
# Behind 点: quantities that are told in tenths, so that 三点五公里 is a number, 两点一个 is not.
_DIVIDED = re.compile(
    "元|块|万|亿|美元|欧元|公里|里|千米|米|厘米|毫米|英寸|寸|尺|丈|平方米|平米|平方公里|亩|公顷|顷|吨|公斤"
    "|斤|千克|克|毫克|升|毫升|度|倍|成|小时|年|岁|秒|天|级|折|分|兆|瓦|千瓦|伏|海里|光年|周|万元|亿元|亿美元"
    "|万吨|个月|分钟"
)
_NAMED = re.compile(f"[高大长宽重深][{_NUMERAL}]")  # 高三, but 高三十米
_CASES = re.compile("案|事[故件]|车祸|火灾|交通|诉讼|纠纷|命案|投诉|刑事|民事")  # 二十一起案件
_OF_WHOLE = re.compile("小时|月|百分点|半月|亿|多")


class NumberWords:
    """Hides words of a text whose numerals are no numbers.

    Needs the package jieba, which cuts the text into words, without its HMM.
    """

    def __init__(self) -> None:
        jieba = load_jieba("itn", "itn")
        self._cut = jieba.Tokenizer().cut
        self._tags: dict[str, str] = {}
        with jieba.get_dict_file() as lines:
            for line in lines:
                word, _, tag = line.decode("utf-8").split(" ")
                if len(word) > 1 and _HAS_NUMERAL.search(word):
                    self._tags[word] = tag.strip()

    def hide(self, text: str) -> str:
        """The text with HIDDEN for each character of such words; of the same length."""
        return "".join(
            HIDDEN * len(word) if counts_nothing else word
            for word, counts_nothing in self._judged(text)
        )

    def _judged(self, text: str) -> Iterator[tuple[str, bool]]:
        place = 0
        for word in self._cut(text, HMM=False):
            tag = self._tags.get(word)
            before, behind = text[max(0, place - 1) : place], text[place + len(word) :][:3]
            yield word, tag is not None and _counts_nothing(word, tag, before, behind)
            place += len(word)


def _counts_nothing(word: str, tag: str, before: str, behind: str) -> bool:
    """Whether a word of the dictionary, one with a numeral, is no number with its measure."""
    if _NUMBER.match(word) and word != "百分之百":
        return False
    if _NAMED.fullmatch(word) and behind[:1] in tuple("十百千万亿"):
        return False
    if word == "一起" and _HAS_NUMERAL.fullmatch(before or " ") and _CASES.match(behind):
        return False
    parts = _LEADING.fullmatch(word)
    if parts is None:  # nothing but numerals, or some behind others: 三心二意, 统一
        alone = not _HAS_NUMERAL.fullmatch(before or " ")
        return word == "万一" and alone if not word.strip(_NUMERAL) else tag != _COUNT_TAG
    number, measure = parts[1], parts[2]
    if len(number) > 1:
        return tag != _COUNT_TAG and not _MEASURES.fullmatch(measure)
    if before == "点":
        whole = measure == "个" and _OF_WHOLE.match(behind)
        return not whole and not _DIVIDED.fullmatch(measure)
    follows = _HAS_NUMERAL.fullmatch(before or " ") or number not in _LARGE
    counted = tag == _COUNT_TAG or (follows and _MEASURES.fullmatch(measure))
    return bool(_OWN_WORDS.fullmatch(word)) or not counted
