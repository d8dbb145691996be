"""How text becomes words, and where their marks are."""

from __future__ import annotations

import importlib
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraformer.data.text.words import (
    breakable,
    jieba_segmenter,
    read_marks,
    split_words,
    strip_marks,
)
from paraformer.errors import DataError


def texts(words):
    return [word.text for word in words]


@given(st.text())
def test_words_are_all_that_is_no_blank(text):
    words = split_words(text)
    assert "".join(texts(words)) == "".join(text.split())
    assert all(text[word.start : word.end] == word.text for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "我有3个苹果和12345元 3.14",
            ["我", "有", "3", "个", "苹", "果", "和", "12345", "元", "3.14"],
        ),
        ("it's é ok，", ["it's", "é", "ok", "，"]),
        ("a\u3000b\x1cc\u00a0d", ["a", "b", "c", "d"]),
        ("", []),
    ],
)
def test_words_of_the_reference(text, words):
    assert texts(split_words(text)) == words


def test_a_flag_is_two_signs_and_a_third_begins_the_next():
    text = "🇨🇳🇺🇸"
    assert [breakable(text, place) for place in (1, 2, 3)] == [False, True, False]


def test_the_ends_of_a_text_are_breakable():
    assert breakable("12", 0)
    assert breakable("12", 2)


def test_marks_in_a_row_and_at_the_start():
    assert strip_marks("，好。，吗", "，。") == (["好", "吗"], ["。", ""])
    assert strip_marks("", "，") == ([], [])


@given(st.lists(st.tuples(st.sampled_from("我们好吗"), st.sampled_from(["", "，", "。"]))))
def test_marks_are_read_where_they_were_written(pairs):
    text = "".join(word + mark for word, mark in pairs)
    words, marks = strip_marks(text, "，。")
    assert list(zip(words, marks, strict=True)) == pairs
    assert read_marks(words, text, "，。") == marks


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (["好"], "坏", "'好' should stand here"),
        (["好"], "", "'好' should stand here"),
        (["好"], "好。坏", "no more words should stand here"),
        (["好"], "好！", "no more words"),
    ],
)
def test_texts_with_other_words_are_not_compared(words, text, message):
    with pytest.raises(DataError, match=message):
        read_marks(words, text, "，。")


def test_jieba_cuts_what_lies_between_english_words(tmp_path):
    pytest.importorskip("jieba")
    (tmp_path / "dict").write_text("苹果园 1000000\n", encoding="utf8")
    segment = jieba_segmenter(tmp_path / "dict")
    text = "苹 果园 it's 天气3.14"
    words = segment(text)
    assert texts(words) == ["苹果园", "it's", "天气", "3", ".", "14"]
    assert [(word.start, word.end) for word in words][:3] == [(0, 4), (5, 9), (10, 12)]
    assert segment("") == []


def test_what_jieba_warns_of_at_its_import_is_no_matter_of_the_user(tmp_path, monkeypatch):
    pytest.importorskip("jieba")
    (tmp_path / "dict").write_text("苹果园 1000000\n", encoding="utf8")

    def load(module, what, extra=""):
        warnings.warn("pkg_resources is deprecated", UserWarning, stacklevel=2)
        return importlib.import_module(module)

    monkeypatch.setattr("paraformer.data.text.words.load_extra", load)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        jieba_segmenter(tmp_path / "dict")
        assert said == []
        warnings.warn("others are heard", UserWarning, stacklevel=1)
    assert len(said) == 1
