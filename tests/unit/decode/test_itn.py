"""Numbers of Chinese text in digits: which become them, which stay, and what goes with them."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.api.auto import AutoModel
from paraformer.decode import number_value
from paraformer.decode.itn import LONGEST, Numerals, rewrite_result, shared_numerals
from paraformer.errors import ConfigError
from paraformer.output.result import Result, in_digits
from tests.conftest import ROOT

DIGITS = "零一二三四五六七八九"
CONVERTED = {
    "今天是二零二六年十一月二十五日": "今天是2026年11月25日",
    "一九九七年七月一日": "1997年7月1日",
    "二〇〇八年": "2008年",
    "九八年的夏天": "98年的夏天",
    "四月一号见": "4月1号见",
    "二零二六年五月": "2026年5月",
    "八月十五日": "8月15日",
    "二十三个人": "23个人",
    "一千二百三十四": "1234",
    "一万两千": "12000",
    "一百零二": "102",
    "一百二": "120",
    "两百三十块": "230块",
    "三亿五千万": "3亿5000万",
    "一百五十万": "150万",
    "一点五亿": "1.5亿",
    "百分之三十五": "35%",
    "百分之五": "5%",
    "百分之三点五": "3.5%",
    "三分之二": "2/3",
    "三点五": "3.5",
    "圆周率是三点一四一五九": "圆周率是3.14159",
    "零点五": "0.5",
    "两点五公里": "2.5公里",
    "负二十度": "-20度",
    "负三点五": "-3.5",
    "下午三点二十分": "下午3点20分",
    "早上八点四十五": "早上8点45",
    "三点零五分": "3点05分",
    "上午三点零五": "上午3点05",
    "三点零五": "3.05",
    "十点半": "10点半",
    "周二十点开会": "周二10点开会",
    "电话一三八零零一三八零零零": "电话13800138000",
    "幺幺零": "110",
    "房间三零五": "房间305",
    "第二十三章": "第23章",
    "二十一世纪": "21世纪",
    "七十年代": "70年代",
    "三十多岁": "30多岁",
    "五十七分": "57分",
    "十个人": "10个人",
    "iPhone十五": "iPhone15",
    "五萬五千": "55000",
    "百分之五十點五": "50.5%",
    "早上八點四十五": "早上8點45",
    "三点一十五分": "3点15分",
    "早上八点五分": "早上8点5分",
    "上午八点八十块": "上午八点80块",
    "一百两银子": "100两银子",
    "三十八度五": "38度5",
    "十二块五毛": "12块5毛",
    "十到十五分钟": "10到15分钟",
    "二十一比九": "21比9",
    "一百二十万零五百": "1200500",
    "打一一九": "打119",
    "一百五十一定": "150一定",
    "万一有两百个": "万一有200个",
    "二 零 二 六 年": "2026年",
    "we had 二十五 个 people": "we had 25 个 people",
}
STAYS = """
一起 一些 万一 一个人 三心二意 一心一意 十全十美 千万不要 万万没想到 百分之百 十分高兴 一带一路
三体 二维码 四川 六安 九寨沟 五四运动 九一八事变 一二三木头人 七七事变 双十一 八零后 周五 星期三
第一 第十名 正月十五 八月十五 初一 一点 有一点 一点一点地 三点半 三五个 一两个 二三十 五六百人
十几个 二十来个 几十个人 数十万 上百人 三五年 一百零八将 不管三七二十一 一五一十 二百五 二十四节气
这一点一定要注意 要一点零钱 有一点一直没有说 我讲三点一是时间 主要有两点一个是人 两点一线 差一点一起
下午三点一刻 八点三刻 三点五分 五仟五百 二十五廿 之一千万 统一百货 七零八落 七七八八 十年八年
二十大报告 一月 三块五 五比三 半个小时 千分之三 负五度 5二十个 二十5 2026年11月25日 hello
"""


@pytest.fixture(scope="module")
def numerals() -> Numerals:
    pytest.importorskip("jieba", reason="jieba is not installed: the extra itn")
    return shared_numerals()


@pytest.mark.parametrize(("spoken", "written"), CONVERTED.items())
def test_numbers_become_digits(numerals, spoken, written):
    assert numerals.rewrite(spoken) == written
    assert numerals.rewrite(f"他说，{spoken}。") == f"他说，{written}。"


@pytest.mark.parametrize("text", STAYS.split())
def test_set_phrases_rough_and_single_numbers_stay(numerals, text):
    assert numerals.rewrite(text) == text
    assert numerals.rewrite(f"他说，{text}。") == f"他说，{text}。"


def pairs() -> list[list[str]]:
    lines = (ROOT / "tests/fixtures/numbers" / "digits.tsv").read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def test_of_prose_without_numbers_nothing_changes(numerals):
    sentences = (ROOT / "tests/fixtures/numbers" / "stay.txt").read_text("utf-8").splitlines()
    assert len(sentences) >= 500
    assert {s: numerals.rewrite(s) for s in sentences if numerals.rewrite(s) != s} == {}


def test_numbers_of_every_kind_are_in_digits(numerals):
    assert len(pairs()) >= 300
    assert {s: numerals.rewrite(s) for s, right in pairs() if numerals.rewrite(s) != right} == {}


@pytest.mark.parametrize(
    "number", [0, 10, 15, 110, 1005, 20030, 10**6, 123456, 35 * 10**7, 10**8 + 5 * 10**6]
)
def test_a_value_is_that_of_another_reader(number):
    """WeTextProcessing, where it writes a number alone."""
    reader = pytest.importorskip("itn.chinese.inverse_normalizer", reason="WeTextProcessing")
    said = chinese(number)
    assert number_value.value(said) == number
    written = number_value.written(number)
    assert written == reader.InverseNormalizer().normalize(said).replace("零", "0")


def chinese(number: int) -> str:
    """A number in Chinese, by the rules of arithmetic."""
    if number >= 10**8:
        rest = number % 10**8
        zero = "零" if 0 < rest < 10**7 else ""
        return f"{chinese(number // 10**8)}亿{zero}{chinese(rest) if rest else ''}"
    if number >= 10000:
        rest = number % 10000
        zero = "零" if 0 < rest < 1000 else ""
        return f"{chinese(number // 10000)}万{zero}{chinese(rest) if rest else ''}"
    text, pending = "", False
    for power, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // power % 10
        if digit:
            text += ("零" if pending and text else "") + DIGITS[digit] + unit
        pending = digit == 0
    return text or "零"


@given(st.integers(10, 99999))
def test_any_number_is_read_as_it_was_spoken(numerals, number):
    # 一万 alone may also be written so by the grammar; everything else is the plain number.
    assert numerals.rewrite(f"共{chinese(number)}吨") == f"共{number}吨"


@given(st.integers(1000, 2999), st.integers(1, 12), st.integers(1, 31))
def test_any_date_is_read_as_it_was_spoken(numerals, year, month, day):
    spoken = "".join(DIGITS[int(digit)] for digit in str(year))
    small = [chinese(n).removeprefix("一") if 10 <= n < 20 else chinese(n) for n in (month, day)]
    text = f"到{spoken}年{small[0]}月{small[1]}日为止"
    assert numerals.rewrite(text) == f"到{year}年{month}月{day}日为止"


SPOKEN = "零〇一二两三四五六七八九十百千万亿幺点分之负年月日号"
words = st.one_of(
    st.text(
        "零〇一二两三四五六七八九十百千万亿点分之负年月日号个人周初第几", min_size=1, max_size=12
    ),
    st.sampled_from(["今天", "hello", "OK", "上午", "，", "。", "3", "👍", "百分之", "𠮷"]),
)
texts = st.lists(st.tuples(words, st.sampled_from(["", "", " "])), max_size=12).map(
    lambda pairs: "".join(word + blank for word, blank in pairs)
)


@given(texts)
def test_all_but_the_numbers_stays_as_it_is(numerals, text):
    edits = numerals.edits(text)
    begin = 0
    for start, end, written in edits:
        assert begin <= start < end <= len(text)
        assert re.fullmatch(
            "[零〇一二两三四五六七八九十百千万亿幺点分之负年月日号 ]+", text[start:end]
        )
        assert re.fullmatch(r"-?[0-9./]+万?亿?(\d+万)?[%年月日号点]?", written)
        begin = end
    changed = text
    for start, end, written in reversed(edits):
        changed = changed[:start] + written + changed[end:]
    assert numerals.rewrite(text) == changed


@given(st.text(max_size=60).filter(lambda t: not set(t) & set("一二三四五六七八九十")))
def test_a_text_without_numbers_stays(numerals, text):
    assert numerals.rewrite(text) == text


def test_a_long_text_takes_linear_time_and_a_long_number_stays(numerals):
    text = "今天有一千二百三十四个人来了，一起吃了二十斤三心二意的苹果。"
    begin = time.perf_counter()
    assert numerals.rewrite(text * 5000) == numerals.rewrite(text) * 5000
    assert time.perf_counter() - begin < 30
    digits = "一三五七零二" * LONGEST
    assert numerals.rewrite(digits) == digits


def timed(words: str | list[str], step: int = 100) -> dict:
    """A result with words of `step` ms each, and a pause of 10 ms between them."""
    times = [[i * step, (i + 1) * step - 10] for i in range(len(words))]
    return {
        "text": " ".join(words),
        "words": [
            {"text": word, "start": start, "end": end, "confidence": round(0.5 + 0.01 * i, 4)}
            for i, (word, (start, end)) in enumerate(zip(words, times, strict=True))
        ],
        "timestamp": times,
    }


def test_the_words_of_a_number_become_one(numerals):
    result = rewrite_result(timed("在二零二六年十一月一起"), numerals)
    assert result["text"] == "在 2026年 11月 一 起"
    assert [word["text"] for word in result["words"]] == ["在", "2026年", "11月", "一", "起"]
    assert result["timestamp"] == [[0, 90], [100, 590], [600, 890], [900, 990], [1000, 1090]]
    assert [[w["start"], w["end"]] for w in result["words"]] == result["timestamp"]
    # 0.51 to 0.55, and 0.56 to 0.58.
    assert [w["confidence"] for w in result["words"]] == [0.5, 0.53, 0.57, 0.59, 0.6]


def test_words_of_several_characters_and_marks_between(numerals):
    result = timed(["我们", "有", "一百", "二十", "三个", "OK"])
    result["text"] = "我们有一百二十三个，OK。"
    changed = rewrite_result(result, numerals)
    assert changed["text"] == "我们有123个，OK。"
    assert [w["text"] for w in changed["words"]] == ["我们", "有", "123个", "OK"]
    assert changed["timestamp"] == [[0, 90], [100, 190], [200, 490], [500, 590]]


def test_segments_follow_and_no_number_goes_over_their_border(numerals):
    result = timed("有二十三个二十三个")
    parts = [slice(0, 3), slice(3, 7), slice(7, 9)]
    result["segments"] = [
        {
            "start": result["timestamp"][part][0][0],
            "end": result["timestamp"][part][-1][1],
            "text": "有二十三个二十三个"[part],
            "timestamp": result["timestamp"][part],
        }
        for part in parts
    ]
    changed = rewrite_result(result, numerals)
    assert changed["text"] == "有 二 十 三 个 二 十 三 个"
    result["segments"][0]["text"], result["segments"][1]["text"] = "有二十三", "个二十"
    result["segments"][0]["timestamp"] = result["timestamp"][:4]
    result["segments"][1]["timestamp"] = result["timestamp"][4:7]
    changed = rewrite_result(result, numerals)
    assert changed["text"] == "有 23 个 二 十 三 个"
    assert [s["text"] for s in changed["segments"]] == ["有23", "个二十", "三个"]
    assert [len(s["timestamp"]) for s in changed["segments"]] == [2, 3, 2]
    assert changed["segments"][0]["timestamp"] == [[0, 90], [100, 390]]


def test_a_result_whose_words_are_others_stays(numerals):
    result = {**timed("二十三个"), "text": "二十三四个"}
    assert rewrite_result(result, numerals) == result
    bare = rewrite_result({"text": "二十三个"}, numerals)
    assert bare == {"text": "23个"}


@settings(max_examples=200)
@given(st.lists(words.filter(lambda w: w not in "，。"), min_size=1, max_size=12))
def test_words_times_and_text_stay_in_step(numerals, pieces):
    result = timed(pieces)
    changed = rewrite_result(result, numerals)
    bare = "".join(changed["text"].split())
    assert "".join(word["text"] for word in changed["words"]) == bare
    assert bare == "".join(rewrite_result({"text": result["text"]}, numerals)["text"].split())
    times = changed["timestamp"]
    assert len(times) == len(changed["words"])
    assert (times[0][0], times[-1][1]) == (result["timestamp"][0][0], result["timestamp"][-1][1])
    flat = [t for time in times for t in time]
    assert flat == sorted(flat)
    assert {t for time in times for t in time} <= {t for time in result["timestamp"] for t in time}


def test_a_model_of_punctuation_writes_digits(numerals):
    model = AutoModel(model="ct-punc-mini", disable_log=True)
    text = "二零二六年十一月我们二十三个人一起去了"
    (plain,), (found,) = model.generate(text), model.generate(text, itn=True)
    assert (
        "".join(c for c in found["text"] if c not in "，。？、") == "2026年11月我们23个人一起去了"
    )
    assert found["punc_array"] == plain["punc_array"]
    assert found["text"] == numerals.rewrite(plain["text"])
    assert model.generate(text, use_itn=True, cache={}) == [found]
    streaming = AutoModel(str(ROOT / "tests/fixtures/oracle/ct_punc_streaming"))
    with pytest.raises(ConfigError, match="itn: a number may go on in the next piece"):
        streaming.generate(text, itn=True, cache={})


def test_every_reading_and_what_is_kept_of_it_have_digits(numerals):
    other = {**timed("二十四个"), "tokens": list("二十四个"), "score": -2.0}
    result = {**timed("二十三个"), "tokens": list("二十三个"), "raw_text": "二十三个"}
    nbest = [{**result, "score": -1.0}, other]
    rows = [{"text": r["text"], "tight": r["text"], "token": "-", "timestamp": ""} for r in nbest]
    changed = in_digits(Result(**result, nbest=nbest, rows=rows), numerals)
    assert changed.text == "23 个" and changed.tokens == list("二十三个")
    assert [row["text"] for row in changed.nbest] == ["23 个", "24 个"]
    assert changed.rows == [
        {"text": text, "tight": text, "token": "-", "timestamp": "[[0, 290], [300, 390]]"}
        for text in ("23 个", "24 个")
    ]
    assert changed.raw_text == "二十三个"
