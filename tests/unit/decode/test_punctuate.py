"""Marks come between the words of a text, and nothing else about it changes."""

from __future__ import annotations

import re
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paraformer.data.text.tokenizer import Vocabulary
from paraformer.data.text.words import split_words
from paraformer.decode.punctuate import ENDLESS, LONG, PunctuationState, Punctuator
from paraformer.errors import ConfigError
from paraformer.models.release import PunctuationRelease, load_punctuation
from tests.parity.oracle import FIXTURES

MARKS = ["<unk>", "_", "，", "。", "？", "、"]
WRITTEN = "，。？、,.?"
TIGHT = "[\u3000-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]"  # no blanks between words
NONE, COMMA, PERIOD, QUESTION, PAUSE = range(1, 6)


class Table(nn.Module):
    """A model that knows one mark for each word, whatever stands beside it."""

    def __init__(self, marks: list[int]) -> None:
        super().__init__()
        self.marks = torch.tensor(marks)
        self.lengths: list[int] = []

    def forward(self, ids, lengths, decided):
        self.lengths.append(ids.size(1))
        return nn.functional.one_hot(self.marks[ids], len(MARKS)).float()


def punctuator(other: int = NONE, **marks: int) -> Punctuator:
    """`marks` says the mark of each word, `other` that of all the rest."""
    words = [*marks, "<unk>"]
    model = Table([*marks.values(), other])
    vocabulary = Vocabulary(words)
    conf = {"punc_list": MARKS, "sentence_end_id": PERIOD}
    return Punctuator(PunctuationRelease(model, None, vocabulary, {"model_conf": conf}))


@pytest.fixture(scope="module")
def random_model():
    """A transformer of random weights that writes marks of every kind."""
    return Punctuator(load_punctuation(FIXTURES / "oracle/ct_punc"))


@pytest.fixture(scope="module")
def streaming_model():
    return Punctuator(load_punctuation(FIXTURES / "oracle/ct_punc_streaming"))


def added(text: str, result: str) -> list[tuple[int, str]]:
    """Marks that `result` has more than `text`, and behind how many characters of it they stand."""
    places, done = [], 0
    for char in result:
        if done < len(text) and char == text[done]:
            done += 1
        else:
            assert char in WRITTEN, f"{char!r} is new in {result!r}"
            places.append((done, char))
    assert done == len(text), f"{text[done:]!r} is lost in {result!r}"
    return places


chinese = st.text("我们有三个苹果，。？、吗好天气", min_size=1, max_size=12)
english = st.sampled_from(["hello", "World", "it's", "OK", "3.14", "1,000", "e-mail", "U.S.", "?"])
others = st.sampled_from(
    ["１２３", "２．５", "éclair", "naïve", "Москва", "سلام", "हिन्दी", "한국어", "カタカナ", "𠮷野"]
    + [
        "👨‍👩‍👧",
        "👍🏽",
        "🇨🇳🇺🇸",
        "1️⃣",
        "😀",
        "a\u0301",
        "50％",
        "（括号）",
        "“引”",
        "……",
        "——",
        "\x1b",
    ]
)
blanks = st.sampled_from(["", "", " ", "  ", "\t", "\n", "\u3000", "\u00a0"])
mixed = st.lists(st.tuples(st.one_of(chinese, english, others), blanks), max_size=30).map(
    lambda pairs: "".join(piece + blank for piece, blank in pairs)
)
anything = st.one_of(mixed, st.text(max_size=60))


@given(anything)
def test_without_the_marks_the_text_is_the_input(random_model, text):
    result = random_model.punctuate(text)
    places = added(text, result.text)
    assert all(place > 0 for place, _ in places)
    assert result.words == [word.text for word in split_words(text)]
    shown = {word.end: m for word, m in zip(split_words(text), result.marks, strict=True) if m}
    assert shown == dict(places)


@given(anything)
def test_no_mark_stands_inside_what_belongs_together(text):
    for place, _ in added(text, punctuator(COMMA).punctuate(text).text):
        if place == len(text):
            continue
        left, right = text[place - 1], text[place]
        assert not (left.isdigit() and right.isdigit())
        assert not unicodedata.category(right).startswith("M") and left != "\u200d"
        assert not (left + right).isalpha() or re.search(TIGHT, left + right)


@given(anything)
def test_a_mark_of_the_input_gets_no_neighbour(text):
    for place, _ in added(text, punctuator(COMMA).punctuate(text).text):
        assert text[place - 1] not in WRITTEN
        assert not re.match(r"\s*[，。？、]", text[place:])


@given(st.lists(st.one_of(chinese, english, others, blanks), max_size=20))
def test_a_list_of_words_gets_a_mark_for_each(random_model, words):
    marks = random_model.punctuate_words(words)
    assert len(marks) == len(words)
    assert all(mark in ["", *WRITTEN] for mark in marks)
    assert not any(mark for word, mark in zip(words, marks, strict=True) if not word.strip())


@given(st.lists(anything, max_size=8))
def test_pieces_of_a_stream_are_its_text(streaming_model, pieces):
    state, shown = PunctuationState(), []
    for piece in pieces:
        written, after = streaming_model.punctuate_chunk(piece, state)
        assert streaming_model.punctuate_chunk(piece, state) == (written, after)  # a value
        shown.append(written)
        state = after
    whole = "".join(shown) + streaming_model.finish(state)
    assert (
        not whole or not pieces or whole[0] not in "，、" or "".join(pieces).strip()[0] in WRITTEN
    )
    words = [word.text for piece in pieces for word in split_words(piece)]
    added("".join(words), "".join(whole.split()))


def test_marks_behind_words_and_at_the_end():
    model = punctuator(吗=QUESTION, 果=COMMA, 三=PAUSE)
    assert model.punctuate("你有三四个苹果好吗").text == "你有三、四个苹果，好吗？"
    assert model.punctuate("你有苹果").text == "你有苹果。"
    result = model.punctuate("好吗")
    assert (result.words, result.marks, result.punc_array) == (["好", "吗"], ["", "？"], [1, 4])


def test_english_keeps_its_blanks_and_case():
    model = punctuator(OK=COMMA, you=QUESTION, we=PAUSE)
    text = "iPhone OK  are you we go"
    assert model.punctuate(text).text == "iPhone OK,  are you? we、 go."
    assert model.punctuate("我们 send 提").text == "我们 send 提。"


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("12 3.14 1,000", "12, 3.14, 1,000."),
        ("１２３天", "１２３，天。"),
        ("２．５", "２．５。"),
        ("50％好", "50％，好。"),
        ("￥100", "￥100."),
        ("café好", "café，好。"),
        ("Москва", "Москва。"),
        ("हिन्दी", "हिन्दी。"),
        ("👨‍👩‍👧好", "👨‍👩‍👧，好。"),
        ("👍🏽👍", "👍🏽，👍。"),
        ("🇨🇳🇺🇸", "🇨🇳，🇺🇸。"),
        ("1️⃣好", "1️⃣，好。"),
        ("𠮷𠮷", "𠮷，𠮷。"),
        ("看 www.a-b.com/?x=1 吧", "看， www.a-b.com/?x=1, 吧。"),
        ("x y\u0301 z", "x, y\u0301， z."),
    ],
)
def test_with_a_comma_behind_every_word_those_that_belong_together_stay(text, marked):
    assert punctuator(COMMA).punctuate(text).text == marked


@pytest.mark.parametrize(
    "text",
    ["", "   ", "\n", "，", "。。。", "……", "？！", "，。 、", "“", "（", "()", "“”", " . "],
)
def test_a_text_without_words_stays(text):
    for model in (punctuator(), punctuator(COMMA)):
        assert model.punctuate(text).text == text


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("你好！", "你，好！"),
        ("你好。 ”", "你，好。 ”"),
        ("“你好。”他说，", "“你，好。”他，说，"),
        ("你好 ，世界：是", "你，好 ，世，界：是。"),
        ("ok, fine!", "ok, fine!"),
        ("（你）好", "（你，）好。"),
        ("我用 .net 写", "我，用， .net, 写。"),
        ("来——去……", "来——去……"),
    ],
)
def test_marks_of_the_input_stay_alone(text, marked):
    assert punctuator(COMMA).punctuate(text).text == marked


def test_an_unknown_class_and_no_class_write_nothing():
    assert punctuator(0, 是=NONE).punctuate("这是的吗").marks == ["", "", "", "。"]


def test_a_mark_at_the_end_of_a_window_is_not_lost():
    # 20 words a window; the mark is that of the 20th, which is decided in the second window.
    text = "一" * 19 + "二" + "一" * 5
    for mark, sign in ((PERIOD, "。"), (COMMA, "，"), (QUESTION, "？")):
        assert punctuator(二=mark).punctuate(text).text == "一" * 19 + f"二{sign}" + "一" * 5 + "。"


@pytest.mark.parametrize("model", [{}, {"other": COMMA}, {"other": PERIOD}, {"二": COMMA}])
def test_a_long_text_is_read_in_linear_time(model):
    text = ("一" * 37 + "二") * 2632
    marker = punctuator(**model)
    result = marker.punctuate(text)
    lengths = marker.engine.model.lengths
    assert len(text) > 100_000 and len(result.marks) == len(text)
    assert max(lengths) <= ENDLESS + 20
    assert sum(lengths) < 17 * len(text)  # 200 words are read again in at most 20 windows
    assert len(added(text, result.text)) == sum(mark != "" for mark in result.marks)


def test_a_stream_without_marks_remembers_no_more_than_its_last_words():
    model, state = punctuator(), PunctuationState()
    for _ in range(60):
        text, state = model.punctuate_chunk("好" * 30, state)
        assert text == "好" * 30
        assert len(state.text) <= ENDLESS
    assert len(state.text) >= LONG
    assert model.finish(state) == "。"


def test_a_stream_decides_its_last_mark_in_the_next_piece():
    model = punctuator(果=COMMA, 吗=QUESTION)
    first, state = model.punctuate_chunk("你有苹果", PunctuationState())
    second, later = model.punctuate_chunk("对吗 ", state)
    third, last = model.punctuate_chunk("OK", later)
    fourth, end = model.punctuate_chunk("fine", last)
    assert [first, second, third, fourth] == ["你有苹果", "，对吗", "？ OK", " fine"]
    assert state == PunctuationState("你有苹果")
    assert model.finish(end) == "。"
    assert model.finish(PunctuationState()) == ""


def test_a_piece_of_blanks_comes_with_the_next():
    model = punctuator()
    _, state = model.punctuate_chunk("你好", PunctuationState())
    nothing, state = model.punctuate_chunk("  ", state)
    assert (nothing, state) == ("", PunctuationState("你好  "))
    assert model.punctuate_chunk("\n", state) == ("", state)
    assert model.punctuate_chunk("ok", state)[0] == "  ok"
    assert model.punctuate_chunk(" ", PunctuationState()) == ("", PunctuationState())


def test_a_closed_sentence_leaves_the_memory_of_a_stream():
    model = punctuator(吗=QUESTION)
    _, state = model.punctuate_chunk("他来了吗好的", PunctuationState())
    assert state == PunctuationState("好的")


def test_a_window_needs_a_word():
    with pytest.raises(ConfigError, match="split_size=0"):
        punctuator().punctuate("好", split_size=0)
