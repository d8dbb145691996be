"""A word is an id only where its file is a table; what names a file is told in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraformer.data.corpus.texts import has_ids, read_texts
from paraformer.data.inputs.names import names_file
from paraformer.errors import DataError

PLAIN = {
    "Chinese without blanks": "今天天气很好\n明天见\n",
    "one Chinese line": "今天天气很好",
    "Chinese with blanks": "欢 迎 大 家\n再 见\n",
    "English": "hello world\ngood morning everyone\nyes\n",
    "one English line": "hello world, how are you\n",
    "one line with a product": "mp3 players are old\n",
    "mixed": "打开 open speech\nok 我知道了\n",
    "all begin in English": "ok 我知道了\nhello 大家好\n",
    "numbers that count nothing": "3 apples fell\n5 pears too\n",
    "a year": "2024 was good\n2025 is better\n",
    "times": "12:30 lunch\n14:00 tea\n",
    "letters as tokens": "a p i\nb c\n",
    "I": "I am\nA man\n",
    "tokens that repeat": "a 你\na 好\n",
}
TABLES = {
    "Kaldi": "u1 今天天气很好\nu2 hello world\n",
    "without text": "u1 今天\nu2\n",
    "AISHELL": "BAC009S0764W0121 甚至 出现 交易\n",
    "one line": "utt1 今天天气很好\n",
    "names with underlines": "anna_b hello world\nbo_c good morning\n",
    "speeds": "sp0.9-u1 好\nsp1.1-u1 好\n",
    "tabs": "1\t跨境河流\n7\t中方 人员\n",
    "tabs after words": "anna\thello world\nbob\tgood morning\n",
    "numbers of the lines": "1 hello\n2 good morning\n3 yes\n",
    "padded numbers": "0007 hello\n0021 good morning\n",
    "letters": "a 你好 吗\nb\n",
    "ids alone": "u1\nu2\n",
}


@pytest.fixture
def file(tmp_path):
    def write(content, name="x.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    return write


@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_lines_of_plain_files_are_texts(file, content):
    found = read_texts(file(content))
    lines = content.splitlines()
    assert not found.has_ids
    assert found.table == {f"text_{n}": line for n, line in enumerate(lines, 1)}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_lines_of_tables_have_ids(file, content):
    found = read_texts(file(content))
    parts = [line.split(maxsplit=1) for line in content.splitlines()]
    assert found.has_ids
    assert found.table == {key: "".join(rest) for key, *rest in parts}


def test_blank_lines_marks_of_byte_order_and_line_ends_tell_nothing(file):
    plain = read_texts(file("\ufeff今天  天气\r\n\r\n \t\r\n明天见"))
    assert [(row.line, row.value) for row in plain.rows] == [(1, "今天  天气"), (4, "明天见")]
    table = read_texts(file("\ufeffu1 今天\r\n\r\nu2 明天  见\r\n"))
    assert [tuple(row) for row in table.rows] == [(1, "u1", "今天"), (3, "u2", "明天  见")]
    assert read_texts(file("\n")).rows == []


@pytest.mark.parametrize("name", ["text", "text_marks", "a.scp", "TEXT"])
def test_names_of_kaldi_tables(file, name):
    assert read_texts(file("anna hello world\nbob hello\n", name)).table["anna"] == "hello world"
    assert read_texts(file("今天天气\n明天\n", name)).table["text_1"] == "今天天气"
    assert read_texts(file("anna\nbob\n", name)).table == {"anna": "", "bob": ""}


def test_ids_that_are_looked_for_make_a_table(file):
    path = file("anna hello\nbob good morning\n")
    assert read_texts(path, ["bob"]).table == {"anna": "hello", "bob": "good morning"}
    assert not read_texts(path, ["carl"]).has_ids
    assert has_ids(["a 欢 迎"], "x.txt", ["a"])


def test_an_id_that_stands_twice_and_json_are_refused(file):
    with pytest.raises(DataError, match=r"x.txt:2: id 'u1' stands already in line 1"):
        read_texts(file("u1 今天\nu1 明天\n"))
    with pytest.raises(DataError, match=r"x.jsonl: is JSON; give a file with one text a line"):
        read_texts(file('{"key": "a"}\n', "x.jsonl"))


def test_what_names_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "words").write_text("阿里\n", encoding="utf-8")
    (tmp_path / "my words").write_text("阿里\n", encoding="utf-8")
    files = ["words", "my words", "no.txt", "no.SCP", "no.json", "no.csv", "no.wav", "data/no"]
    files += ["./no", "../no", "/no/such", "~/no", r"C:\no", "data/no/such"]
    for name in files:
        assert names_file(name), name
    for words in [
        "阿里 no.txt",
        "and/or",
        "24/7",
        "no",
        "node.js",
        "3.14",
        "data",
        "",
        "/",
        "a\n.txt",
    ]:
        assert not names_file(words), words
    assert names_file(Path("no"))
    assert not names_file(["no.txt"])
