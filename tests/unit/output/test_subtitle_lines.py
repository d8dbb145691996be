"""Words of a result become lines: every word once, none cut, in order and inside the recording."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraformer.data.inputs.sources import Item
from paraformer.data.text.tokenizer import CharTokenizer
from paraformer.decode.align import Alignment, split_units
from paraformer.decode.timestamps import cut_sentences
from paraformer.errors import ConfigError, DataError
from paraformer.output.result import alignment_result
from paraformer.output.subtitle_lines import (
    SILENCE_MS,
    LineLimits,
    columns,
    cut_text,
    in_order,
    tidy,
    transcript,
)
from paraformer.output.timed_formats import format_timed

CHINESE = st.sampled_from("今天气很好我们去公园")
ENGLISH = st.text("abcdefgh", min_size=1, max_size=9)
MARKS = st.sampled_from(["", "", "", "，", "。", "？", ", ", ". ", "”", " "])


@st.composite
def results(draw):
    """A text of Chinese and English words and marks, and wild times for the words."""
    texts = draw(st.lists(st.one_of(CHINESE, ENGLISH), max_size=40))
    whole, at = "", 0
    words = []
    for text in texts:
        joined = whole and whole[-1].isascii() and whole[-1].isalnum() and text.isascii()
        whole += (" " if joined else "") + text + draw(MARKS)
        start = at + draw(st.integers(-300, 1500))
        at = start + draw(st.integers(-50, 900))
        words.append({"text": text, "start": start, "end": at, "confidence": 0.5})
    seconds = draw(st.integers(len(texts) + 1, 30_000)) / 1000
    return {"key": "a", "text": whole, "audio_seconds": seconds, "words": words}


def timed(texts, step=200, **more):
    """Words that follow each other without a gap."""
    return [
        {"text": text, "start": step * i, "end": step * (i + 1), **more}
        for i, text in enumerate(texts)
    ]


@given(results(), st.integers(1, 60), st.floats(0.1, 9))
def test_lines_partition_the_words(result, chars, seconds):
    limits = LineLimits(chars, seconds)
    found = transcript(result)
    lines = found.lines(limits)
    assert [word for line in lines for word in line.words] == found.words
    assert [word.text for word in found.words] == [word["text"] for word in result["words"]]
    for line in lines:
        # All of a word is in its line, so none is cut; what is too long is one word alone.
        place = 0
        for word in line.words:
            place = line.text.index(word.text, place) + len(word.text)
        within = columns(line.text) <= chars and line.end - line.start <= 1000 * seconds
        assert within or len(line.words) == 1
    letters = "".join(line.text for line in lines).replace(" ", "")
    assert letters == result["text"].replace(" ", "") or not lines


@given(results())
def test_times_rise_inside_the_recording(result):
    found = transcript(result)
    for spans in (found.words, found.sentences(), found.lines(LineLimits())):
        edges = [0, *(edge for span in spans for edge in (span.start, span.end))]
        assert edges == sorted(edges)
        assert edges[-1] <= 1000 * result["audio_seconds"]
        assert all(span.start < span.end for span in spans)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 50)), max_size=20))
def test_what_is_in_order_stays(steps):
    times, at = [], 0
    for gap, size in steps:
        times.append((at + gap, at + gap + size))
        at += gap + size
    assert in_order(times, at) == times


@given(results())
def test_pieces_joined_are_the_text(result):
    texts = [word["text"] for word in result["words"]]
    pieces = cut_text(result["text"], texts)
    assert len(pieces) == len(texts)
    assert all(text in piece for text, piece in zip(texts, pieces, strict=True))
    if texts:
        assert "".join(pieces) == tidy(result["text"])


def lines_of(text, words, **limits):
    seconds = max(word["end"] for word in words) / 1000
    result = {"key": "a", "text": text, "audio_seconds": seconds, "words": words}
    return [line.text for line in transcript(result).lines(LineLimits(**limits))]


def test_a_long_sentence_is_cut_at_its_commas():
    text = "今天天气很好，我们去公园玩，晚上再回家吃饭。明天见！"
    words = timed([char for char in text if char.isalnum()])
    one, two, three = "今天天气很好，", "我们去公园玩，", "晚上再回家吃饭。"
    assert lines_of(text, words, max_line_chars=16) == [one, two, three, "明天见！"]
    assert lines_of(text, words) == [one + two, three, "明天见！"]
    assert lines_of(text, words, max_line_chars=50) == [one + two + three, "明天见！"]


def test_without_marks_a_pause_is_the_place():
    words = timed("一二三四五六七八")
    for word in words[5:]:
        word["start"] += 400
        word["end"] += 400
    assert lines_of("一二三四五六七八", words, max_line_chars=12) == ["一二三四五", "六七八"]
    for word in words[5:]:
        word["start"] += SILENCE_MS
        word["end"] += SILENCE_MS
    assert lines_of("一二三四五六七八", words) == ["一二三四五", "六七八"]


def test_seconds_end_a_line_too():
    words = timed("一二三四", step=2000)
    assert lines_of("一二三四", words, max_line_s=4.0) == ["一二", "三四"]


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("欢 迎 使 用 API v 2", "欢 迎 使 用 API v 2", "欢迎使用API v 2"),  # the reference's blanks
        ("我用 iPhone 打 call", "我 用 iPhone 打 call", "我用iPhone打call"),
        ("Hello, world", "Hello world", "Hello, world"),
        ("it's 3.14 today", "it's 3.14 today", "it's 3.14 today"),
        ("한국 어", "한국 어", "한국 어"),  # Korean has blanks
        ("百分之五", "5 %", "5 %"),  # rewritten: the words themselves
    ],
)
def test_blanks_of_mixed_text(text, words, shown):
    assert lines_of(text, timed(words.split())) == [shown]


def test_abbreviations_and_quotes():
    words = timed(["U", "S", "A", "OK", "yes"])
    assert lines_of('U.S.A. "OK" (yes)', words) == ["U.S.A.", '"OK" (yes)']


def test_speakers_part_lines():
    words = [
        *timed(["你", "好"], speaker="1"),
        {"text": "嗯", "start": 400, "end": 500, "speaker": 2},
    ]
    result = {"key": "a", "text": "你好嗯", "audio_seconds": 1.0, "words": words}
    lines = transcript(result).lines(LineLimits())
    assert [(line.text, line.speaker) for line in lines] == [("你好", "1"), ("嗯", "SPK2")]


def test_times_of_other_results():
    plain = {"key": "a", "text": "用 API", "audio_seconds": 1.0, "timestamp": [[0, 99], [100, 300]]}
    assert [w[:3] for w in transcript(plain).words] == [("用", 0, 99), ("API", 100, 300)]
    stream = {**plain, "text": "用hello", "tokens": ["用", "he@@", "llo"]}
    stream["timestamp"] = [[0, 99], [100, 200], [200, 300]]
    assert [w[:3] for w in transcript(stream).words] == [("用", 0, 99), ("hello", 100, 300)]
    parts = [{"text": "你 好", "start": 10, "end": 500}, {"text": "", "start": 600, "end": 700}]
    long = {"key": "a", "text": "你 好", "audio_seconds": 1.0, "segments": parts}
    assert [line[:3] for line in transcript(long).lines(LineLimits())] == [("你好", 10, 500)]
    assert transcript({"key": "a", "text": "", "audio_seconds": 1.0}).lines(LineLimits()) == []


def test_what_has_no_times_is_refused():
    with pytest.raises(DataError, match="'a': the model gives no times; take one that does"):
        transcript({"key": "a", "text": "你好", "audio_seconds": 1.0})
    with pytest.raises(ConfigError, match="no text"):
        transcript({"key": "a", "value": [[0, 100]]})
    with pytest.raises(DataError, match="3 words in 2 ms"):
        transcript({"key": "a", "text": "一二三", "audio_seconds": 0.002, "words": timed("一二三")})
    with pytest.raises(ConfigError, match="max_line_chars=0"):
        LineLimits(0)


SCRIPTS = [
    ("“欢迎大家”，来体验：达摩院——推出的《语音识别》模型！", 1),
    ("3.5%的e-mail，1,000元；state-of-the-art 第２名。“走吧！”他说：（好）。", 4),
    ("我<unk>你。<noise>走走。no", 3),
]


@pytest.mark.parametrize(("script", "sentences"), SCRIPTS)
def test_a_script_comes_out_as_it_stands_cut_at_its_sentences(script, sentences):
    units = split_units(script, CharTokenizer(["<unk>"]))
    found = Alignment([u.text for u in units], [], [], [], [(u.start, u.end) for u in units])
    found = found._replace(timestamps=[[100 * n, 100 * n + 90] for n in range(len(units))])
    result = alignment_result(Item("a", None, text=script), found, 10.0).to_dict()
    assert "".join(line.text for line in transcript(result).sentences()) == script
    assert len(transcript(result).sentences()) == sentences
    for kind in ("tsv", "lrc"):
        written = format_timed(result, kind, LineLimits(1000, 100.0))
        assert all(line.text in written for line in transcript(result).sentences())
    cut = cut_sentences(script, found.words, found.timestamps, places=found.places)
    assert "".join(sentence.text for sentence in cut) == script


def test_blanks_that_part_all_characters_of_a_script_are_no_blanks():
    words = [
        {"text": char, "start": 100 * n, "end": 100 * n + 90} for n, char in enumerate("我走ok")
    ]
    result = {"key": "a", "text": "我 走 o k", "script": "我 走，  o k", "words": words}
    assert transcript(result).pieces == ["我", "走，", "o ", "k"]
    assert transcript({**result, "script": "我走，  o k"}).pieces == ["我", "走， ", "o ", "k"]


def test_no_line_ends_inside_a_number_or_a_word_with_a_hyphen():
    texts = ["涨", "了", "3", "5", "到", "e", "mail"]
    words = [{"text": t, "start": 100 * n, "end": 100 * n + 90} for n, t in enumerate(texts)]
    found = transcript({"key": "a", "text": "涨了3.5%到e-mail", "words": words})
    for width in range(6, 20):
        lines = [line.text for line in found.lines(LineLimits(width))]
        assert not [line for line in lines if line.endswith(("3.", "e-"))], (width, lines)
