from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraformer.data.corpus.tables import (
    fields,
    format_table,
    invert,
    read_rows,
    read_table,
    revert,
    write_table,
    write_text,
)
from paraformer.errors import DataError

SAME_LIST = {
    "LF": b"u1 a.wav\nu2 b c.wav\n",
    "CRLF": b"u1 a.wav\r\nu2 b c.wav\r\n",
    "BOM, blank line, no final line end": b"\xef\xbb\xbfu1 a.wav\n\nu2 b c.wav",
    "tabs": b"u1\ta.wav\nu2\tb c.wav\n",
    "blanks at the ends": b"  u1  a.wav  \n\t\n \r\nu2 \t b c.wav \t\r\n",
    "two files with a BOM, joined": b"\xef\xbb\xbfu1 a.wav\r\n\xef\xbb\xbfu2 b c.wav\r\n",
}


@pytest.mark.parametrize("content", SAME_LIST.values(), ids=SAME_LIST)
def test_the_editor_that_wrote_a_list_does_not_matter(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wav.scp"
    path.write_bytes(content)
    assert read_table(path) == {"u1": "a.wav", "u2": "b c.wav"}


def test_only_blank_and_tab_separate(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("话\u3000一 你\u3000好\x0b吗\u2028嗯\u00a0 \n", encoding="utf-8")
    assert read_table(path) == {"话\u3000一": "你\u3000好\x0b吗\u2028嗯\u00a0"}
    assert fields(" a\u3000b \t c ") == ["a\u3000b", "c"]


def test_names_with_blanks_brackets_and_chinese_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "wav.scp"
    path.write_text("说话人1_句 空 格=名字(1),[2].wav\nu2 sox 'a b.mp3' -t wav - |\n", "utf-8")
    assert read_table(path) == {
        "说话人1_句": "空 格=名字(1),[2].wav",
        "u2": "sox 'a b.mp3' -t wav - |",
    }


def test_a_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("u1 你\n\nu2 好\nu1 你\n", "utf-8")
    with pytest.raises(DataError, match=r"text:4: id 'u1' stands already in line 1; keep one"):
        read_table(path)
    assert [row.line for row in read_rows(path)] == [1, 3, 4]


def test_an_id_alone_has_an_empty_value(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("u1\nu2 \n", "utf-8")
    assert read_table(path) == {"u1": "", "u2": ""}


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_table(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)
    assert read_table(tmp_path / "text") == {}


def test_a_missing_file_names_the_path_that_was_tried(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no such file .looked for {tmp_path}/text"):
        read_table(tmp_path / "text")
    with pytest.raises(DataError, match="directory"):
        read_table(tmp_path)


def test_another_encoding_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("u1 ok\nu2 你好\n".encode("gb18030"))
    with pytest.raises(DataError, match=r"text:2: not UTF-8; convert .*iconv -f gb18030"):
        read_table(path)


def test_keys_are_written_in_the_order_of_bytes(tmp_path: Path) -> None:
    keys = ["二", "b", "a-1", "a", "A", "a1", "\U00020000", "\uffee", "一"]
    write_table(tmp_path / "x", dict.fromkeys(keys, "v"))
    written = (tmp_path / "x").read_bytes().splitlines()
    assert written == sorted(written)


ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" \t\r\n"), min_size=1)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))


@given(st.dictionaries(ids.filter(lambda key: not key.startswith("\ufeff")), values))
def test_what_is_written_is_read(table: dict[str, str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder, "x"), table)
        stripped = {key: table[key].lstrip(" \t").rstrip(" \t\r") for key in table}
        assert read_table(Path(folder, "x")) == stripped


@pytest.mark.parametrize("table", [{"a b": "x"}, {"": "x"}, {"a\tb": ""}, {"a": "x\ny"}])
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, table: dict[str, str]) -> None:
    with pytest.raises(DataError):
        write_table(tmp_path / "x", table)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    write_table(path, {"u1": "old"})

    def full(old: Path, new: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_table(path, {"u1": "new"})
    assert read_table(path) == {"u1": "old"}
    assert os.listdir(tmp_path) == ["text"]


def test_parts_of_a_text_are_written_as_they_come_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "text", (f"u{i} 好\n" for i in range(3)))
    assert (tmp_path / "text").read_text("utf-8") == "u0 好\nu1 好\nu2 好\n"
    with pytest.raises(DataError, match=r"text: a name in it is not UTF-8 \('u2 x.udcff'\)"):
        write_text(tmp_path / "text", iter(["u1 new\n", "u2 x\udcff\n"]))
    assert read_table(tmp_path / "text") == {"u0": "好", "u1": "好", "u2": "好"}
    assert os.listdir(tmp_path) == ["text"]


def test_spk2utt_and_utt2spk_are_two_forms_of_one_table() -> None:
    utt2spk = {"u2": "乙", "u1": "甲", "u3": "甲"}
    assert invert(utt2spk) == {"甲": "u1 u3", "乙": "u2"}
    assert revert(invert(utt2spk)) == utt2spk
    with pytest.raises(DataError, match="'u1' has the speakers 'a' and 'b'"):
        revert({"a": "u1", "b": "u1"})


def test_a_table_ends_each_line_and_only_these() -> None:
    assert format_table({}) == ""
    assert format_table({"b": "", "a": "x "}) == "a x\nb\n"
