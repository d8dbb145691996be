"""A file that is not UTF-8 is one line that says where, what and what to do, whoever reads it."""

from __future__ import annotations

import pytest

from paraformer.data.batches.shards import ShardList
from paraformer.data.corpus.ctm import read_ctm
from paraformer.data.corpus.tables import read_table, read_whole
from paraformer.data.corpus.texts import read_texts
from paraformer.data.features.cmvn import read_cmvn
from paraformer.data.inputs.jsonl import jsonl_to_data
from paraformer.data.inputs.sources import list_items
from paraformer.data.inputs.textgrid import read_textgrid
from paraformer.data.text.tokenizer import CharTokenizer, read_seg_dict, read_token_list
from paraformer.data.text.words import jieba_segmenter
from paraformer.decode.hotwords import read_hotwords
from paraformer.decode.language_model import LanguageModel
from paraformer.errors import ParaformerError
from paraformer.models.release import read_listing, read_yaml

TOKENIZER = CharTokenizer(["好", "<unk>"])
# Name of the file -> its reader.
READERS = {
    "text": read_table,
    "texts.txt": read_texts,
    "wav.scp": list_items,
    "list.jsonl": list_items,
    "list.json": list_items,
    "train.jsonl": lambda path: jsonl_to_data([path], path.parent / "data"),
    "ctm": read_ctm,
    "tokens.json": read_token_list,
    "tokens.txt": read_token_list,
    "seg_dict": read_seg_dict,
    "am.mvn": read_cmvn,
    "jieba_usr_dict": jieba_segmenter,
    "config.yaml": read_yaml,
    "configuration.json": read_listing,
    "shards.list": lambda path: list(ShardList(path).order(None)),
    "lm.arpa": LanguageModel,
    "a.TextGrid": read_textgrid,
    "hotwords.txt": lambda path: read_hotwords(path, TOKENIZER),
}
CONTENTS = {
    "utf-16": "\\data\\ u1 好.wav\n第二\n".encode("utf-16"),
    "gb18030": "\\data\\ u1 好.wav\n第二\n".encode("gb18030"),
    "binary": b"RIFF\xf0\0\0\0WAVEfmt \xff\xfe\n",
    "late": b"".join(b"u%d a.wav\n" % n for n in range(9)) + "u9 好\n".encode("gb18030"),
}
# Lists of FunASR for Windows come so; Praat writes so.
READ = {("hotwords.txt", "gb18030"), ("hotwords.txt", "late"), ("a.TextGrid", "utf-16")}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_encoding_is_one_line(tmp_path, name, content):
    if name == "jieba_usr_dict":
        pytest.importorskip("jieba")
    path = tmp_path / name
    path.write_bytes(CONTENTS[content])
    if (name, content) in READ:
        try:
            READERS[name](path)
        except ParaformerError as error:
            assert "UTF" not in str(error)
        return
    with pytest.raises(ParaformerError) as caught:
        READERS[name](path)
    line = str(caught.value)
    assert name in line and "\n" not in line
    assert "UTF" in line or "utf-8" in line or "no text has" in line, line
    assert ";" in line, line


def test_a_mark_of_byte_order_is_no_text(tmp_path):
    path = tmp_path / "a"
    path.write_bytes("\ufeff好\n".encode())
    assert read_whole(path) == "好\n"
    (tmp_path / "list").write_bytes("\ufeffa.tar\n".encode())
    assert list(ShardList(tmp_path / "list").order(None)) == ["a.tar"]
