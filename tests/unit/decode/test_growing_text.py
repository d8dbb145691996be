"""Text that grows with its tokens is at any time the text of all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paraformer.decode.text import GrowingText, postprocess

TOKENS = ["你", "好", "hel@@", "lo", "world", "a", "b", "i", "7", "1@@", "0", "&", "'s", "<unk>"]
tokens = st.lists(st.sampled_from(TOKENS), max_size=24)
PIECES = ["▁he", "llo", "▁wor", "ld", "▁a", "s", "▁"]


def bit_by_bit(parts, text):
    for part in parts:
        text = text.add(part)
        yield text


@given(st.lists(tokens, max_size=6))
def test_it_is_the_text_of_all_tokens(parts):
    everything = []
    for part, text in zip(parts, bit_by_bit(parts, GrowingText()), strict=True):
        everything += part
        assert text.text == postprocess(everything).tight.strip()


@given(st.lists(tokens, max_size=6))
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
