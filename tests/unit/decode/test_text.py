"""Readable text from tokens; the reference's answers are in tests/parity/test_text_functions.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraformer.decode.text import GrowingText, postprocess


def timed(tokens: str):
    words = tokens.split()
    return postprocess(words, [[100 * i, 100 * i + 80] for i in range(len(words))])


def test_unspoken_tokens_go_with_their_times():
    result = timed("<s> 好 <unk> 的 </s>")
    assert result.words == ["好", "的"]
    assert result.timestamps == [[100, 180], [300, 380]]


def test_symbol_keeps_its_place_and_time():
    result = timed("hello & 好")
    assert (result.text, result.words) == ("hello & 好", ["hello", "&", "好"])
    assert result.timestamps == [[0, 80], [100, 180], [200, 280]]
    assert postprocess(["好", "&", "好"]).text == "好&好"


def test_pieces_of_a_number_are_joined():
    result = timed("第 0@@ 1 名")
    assert (result.tight, result.words) == ("第01名", ["第", "01", "名"])
    assert result.timestamps == [[0, 80], [100, 280], [300, 380]]
    assert postprocess(["0@@", "好"]).words == ["0", "好"]
    assert postprocess(["0@@"]).words == ["0"]


def test_waiting_piece_is_a_word_on_request():
    tokens = ["我", "he@@", "好", "llo", "x@@"]
    assert postprocess(tokens).words == ["我", "好", "hello"]
    result = postprocess(tokens, [[i, i + 1] for i in range(5)], pieces_wait=False)
    assert result.words == ["我", "he", "好", "llo", "x"]
    assert result.timestamps == [[i, i + 1] for i in range(5)]


def test_tight_text_has_blanks_only_around_english_words():
    result = timed("我 用 a p i 写 hel@@ lo world 好")
    assert result.text == "我 用 API 写 hello world 好"
    assert result.tight == "我用API写hello world好"
    assert result.words == ["我", "用", "API", "写", "hello", "world", "好"]
    assert result.timestamps == [
        [0, 80], [100, 180], [200, 480], [500, 580], [600, 780], [800, 880], [900, 980]
    ]  # fmt: skip


def test_characters_outside_the_basic_block_are_chinese():
    assert postprocess(["hello", "㐀", "𠀀"]).text == "hello㐀𠀀"


def test_timestamps_must_be_as_many_as_tokens():
    with pytest.raises(ValueError, match="shorter"):
        postprocess(["好", "的"], [[0, 1]])


PIECES = ["he@@", "llo", "0@@", "-@@", "@@"]
VOCABULARY = [*PIECES, "好", "9", "a", "hello", "&", "〇", "<unk>", "it's"]


@given(st.lists(st.sampled_from(VOCABULARY)))
def test_times_stay_with_words_and_in_order(tokens):
    times = [[10 * i, 10 * i + 8] for i in range(len(tokens))]
    for wait in (True, False):
        result = postprocess(tokens, times, pieces_wait=wait)
        assert len(result.timestamps) == len(result.words)
        assert result.text == " ".join(result.words)
        assert result.tight == postprocess(tokens, pieces_wait=wait).text
        starts = [start for start, _ in result.timestamps]
        assert starts == sorted(starts)
    spoken = [t.replace("@@", "") for t in tokens if t != "<unk>"]
    assert "".join(result.words).lower() == "".join(spoken)


# text that grows with its tokens

GROWN = ["你", "好", "hel@@", "lo", "world", "a", "b", "i", "7", "1@@", "0", "&", "'s", "<unk>"]
grown = st.lists(st.sampled_from(GROWN), max_size=24)
PIECES = ["▁he", "llo", "▁wor", "ld", "▁a", "s", "▁"]


def bit_by_bit(parts, text):
    for part in parts:
        text = text.add(part)
        yield text


@given(st.lists(grown, max_size=6))
def test_growing_text_is_the_text_of_all_tokens(parts):
    everything = []
    for part, text in zip(parts, bit_by_bit(parts, GrowingText()), strict=True):
        everything += part
        assert text.text == postprocess(everything).tight.strip()


@given(st.lists(grown, max_size=6))
def test_what_is_settled_stays(parts):
    last = ""
    for text in bit_by_bit(parts, GrowingText()):
        assert text.settled.startswith(last)
        assert text.text.startswith(text.settled)
        last = text.settled


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8), max_size=6))
def test_sentencepiece(parts):
    everything, last = [], ""
    pairs = zip(parts, bit_by_bit(parts, GrowingText(sentencepiece=True)), strict=True)
    for part, text in pairs:
        everything += part
        assert text.text == "".join(everything).replace("▁", " ").strip()
        assert text.settled.startswith(last)
        assert text.text.startswith(text.settled.rstrip())
        last = text.settled


def test_a_chinese_word_shows_at_once_and_an_english_one_when_it_is_whole():
    text = GrowingText().add(["你", "hel@@"])
    assert (text.text, text.settled) == ("你", "你")
    text = text.add(["lo"])
    assert text.text == "你hello"


def test_letters_of_a_name_are_settled_when_the_name_ends():
    text = GrowingText().add(["用", "a", "p"])
    assert (text.text, text.settled) == ("用AP", "用")
    assert text.add(["i", "写"]).settled == "用API写"


def test_a_long_stream_keeps_few_tokens():
    text = GrowingText()
    for _ in range(2000):
        text = text.add(["你", "hello", "world", "7"])
    assert len(text.open) <= 4
    assert len(text.text) == 2000 * len("你hello world7")
