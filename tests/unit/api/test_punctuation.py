"""What a punctuation model takes as input, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paraformer.api.punctuation import list_texts
from paraformer.decode.align import pair_texts
from paraformer.errors import ConfigError, DataError


def test_texts_of_every_form(tmp_path):
    file = tmp_path / "two texts.txt"
    file.write_text("a 你好 吗\nb\n", encoding="utf8")
    lines = [("a", "你好 吗"), ("b", "")]
    assert list_texts(file) == list_texts(str(file)) == lines
    assert list_texts("") == [("text", "")]
    assert list_texts(["好", "a.txt"]) == [("text_1", "好"), ("text_2", "a.txt")]
    assert list_texts(text for text in ("好", "")) == [("text_1", "好"), ("text_2", "")]
    assert list_texts([]) == []


def test_lines_of_a_plain_file_are_texts(tmp_path):
    file = tmp_path / "plain.txt"
    file.write_text("今天天气很好\nhello world\n", encoding="utf8")
    assert list_texts(file) == [("text_1", "今天天气很好"), ("text_2", "hello world")]


def test_a_file_in_a_folder_is_no_text(tmp_path, monkeypatch):
    """Kaldi's `text` has no ending; a recording is refused, not marked as if its name were said."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text").write_text("a 你好\n", encoding="utf8")
    (tmp_path / "data" / "a.wav").write_bytes(b"RIFF\xf0\0\0\0")
    monkeypatch.chdir(tmp_path)
    assert list_texts("data/text") == list_texts(Path("data/text")) == [("a", "你好")]
    assert pair_texts("data/text", ["a"]) == ["你好"]
    assert list_texts("and/or") == [("text", "and/or")]
    assert pair_texts("and/or", ["a"]) == ["and/or"]
    for missing in ("data/txet", "data/none/text", "../text", "none.csv"):
        for use in (list_texts, lambda name: pair_texts(name, ["a"])):
            with pytest.raises(DataError, match=f"{missing}: no such file"):
                use(missing)
    with pytest.raises(DataError, match="a.wav:1: not UTF-8, with bytes that no text"):
        list_texts("data/a.wav")


def test_a_text_may_end_as_the_name_of_a_file():
    assert list_texts("打开 readme.txt") == [("text", "打开 readme.txt")]
    assert list_texts("长" * 5000 + " .txt")[0][0] == "text"


@pytest.mark.parametrize(
    "source", ["no/such.txt", "no_such.text", Path("no such"), Path("."), "a\0.txt"]
)
def test_a_file_that_is_not_there_is_no_text(source):
    with pytest.raises(DataError, match=str(source)):
        list_texts(source)


def test_ids_are_given_as_those_of_recordings_are():
    assert list_texts("好", key="a") == list_texts(["好"], key=["a"]) == [("a", "好")]
    assert list_texts("好", key=5) == [("5", "好")]
    assert list_texts(["好", "坏"], key=("a", 2)) == [("a", "好"), ("2", "坏")]
    with pytest.raises(ConfigError, match="key: 1 ids for 2 inputs; give one id for each"):
        list_texts(["好", "坏"], key="a")


@pytest.mark.parametrize("source", [None, 5, b"abc", {"a": "b"}, ["a", None], [["a"]], np.zeros(3)])
def test_what_is_no_text_is_one_clear_error(source):
    with pytest.raises(ConfigError, match="input: is no text; give a text"):
        list_texts(source)
