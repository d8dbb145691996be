"""Tokens made from transcripts, and English words cut at syllables."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraformer.data.text.lexicon import build_lexicon, train_bpe
from paraformer.data.text.syllables import syllables
from paraformer.data.text.tokenizer import CharTokenizer
from paraformer.errors import ConfigError, DataError

# How many beats a speaker gives each word (counted by ear, not taken from the program).
BEATS = {
    1: "close speech print makes walked eye queen strength through have's",
    2: "process open speaker signal project table rhythm quiet going window something every",
    3: "computer idea area together beautiful animal december wonderful tomatoes",
    4: "information january television impossible",
    5: "university international",
}


@pytest.mark.parametrize(
    ("word", "beats"), [(word, n) for n, words in BEATS.items() for word in words.split()]
)
def test_pieces_are_as_many_as_spoken_syllables(word, beats):
    assert len(syllables(word)) == beats


@given(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1))
def test_pieces_join_to_the_word_and_none_is_empty(word):
    pieces = syllables(word)
    assert "".join(pieces) == word
    assert all(pieces)


def test_char_lexicon_of_two_lines():
    tokens, seg_dict = build_lexicon(["你好 Process close", "好 process 5 <noise>"])
    letters = list(string.ascii_lowercase)
    body = {*letters, "你", "好", "5", "pro@@", "cess", "close", "<noise>"}
    assert tokens == ["<blank>", "<s>", "</s>", *sorted(body), "<unk>"]
    singles = {unit: [unit] for unit in [*letters, "你", "好", "5", "<noise>", "close"]}
    assert seg_dict == {**singles, "process": ["pro@@", "cess"]}


@pytest.mark.parametrize(
    ("english", "pieces"),
    [
        ("syllables", ["pro@@", "cess"]),
        ("letters", ["p@@", "r@@", "o@@", "c@@", "e@@", "s@@", "s"]),
        ("words", ["process"]),
    ],
)
def test_ways_to_cut_english(english, pieces):
    assert build_lexicon(["process"], english).seg_dict["process"] == pieces


def test_rare_pieces_become_unknown_and_their_words_are_spelled():
    lexicon = build_lexicon(["好 好 你 project process process"], min_count=2)
    tokenizer = CharTokenizer(*lexicon)
    assert tokenizer.tokenize("好你 process") == ["好", "<unk>", "pro@@", "cess"]
    assert tokenizer.tokenize("project") == list("project")


def test_special_tokens_in_the_text_are_not_made_twice():
    tokens, _ = build_lexicon(["好 <unk> <s> <blank> </s>"])
    assert tokens == ["<blank>", "<s>", "</s>", "好", "<unk>"]


@given(
    st.lists(st.text("你好世界abé5 '", min_size=1), min_size=1),
    st.sampled_from(["syllables", "letters", "words"]),
)
def test_every_word_of_the_text_is_known_but_for_a_leading_mark(texts, english):
    lexicon = build_lexicon(["你", *texts], english)
    tokenizer = CharTokenizer(*lexicon)
    for word in " ".join(texts).split():
        if word[0] in "你好世界ab5":
            assert "<unk>" not in tokenizer.tokenize(word)
            assert "".join(tokenizer.tokenize(word)).replace("@@", "") == word


def test_nothing_to_count_and_unknown_ways_are_refused():
    with pytest.raises(DataError, match="no words"):
        build_lexicon([" ", "<unk>"])
    with pytest.raises(ConfigError, match="english=morphemes: unknown; choose one of syllables"):
        build_lexicon(["a"], "morphemes")


def test_bpe_size_that_does_not_fit_names_the_bound():
    with pytest.raises(ConfigError, match="bpe_size=5: too small .* at least 12"):
        train_bpe(["hello world"], 5)
    with pytest.raises(ConfigError, match="bpe_size=300: the text gives fewer pieces"):
        train_bpe(["hello world"], 300)
