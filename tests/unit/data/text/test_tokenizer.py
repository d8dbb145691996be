"""Tokenizers and their files; what the reference says is in tests/parity/test_text_functions.py."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraformer.data.corpus.transcripts import clean_transcript
from paraformer.data.text.tokenizer import (
    CharTokenizer,
    SentencepieceTokenizer,
    read_seg_dict,
    read_token_list,
    write_seg_dict,
    write_token_list,
)
from paraformer.decode.text import postprocess
from paraformer.errors import CheckpointError, DataError
from tests.conftest import ROOT

TOKENS = ["<blank>", "<s>", "</s>", "欢", "迎", "he@@", "llo", "h", "e", "<unk>"]
SEG_DICT = {"欢": ["欢"], "迎": ["迎"], "hello": ["he@@", "llo"], "h": ["h"], "e": ["e"]}
BPE_MODEL = ROOT / "tests/fixtures/bpe/bpe.model"

lines = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1)


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u3000"])
@pytest.mark.parametrize("seg_dict", [None, SEG_DICT])
def test_blank_text_has_no_tokens(text, seg_dict):
    assert CharTokenizer(TOKENS, seg_dict).encode(text) == []


def test_blanks_of_any_kind_and_number_only_separate():
    tokenizer = CharTokenizer(TOKENS, SEG_DICT)
    assert tokenizer.encode(" 欢迎  hello\u3000迎\t") == [3, 4, 5, 6, 4]


def test_unlisted_word_is_spelled_and_a_mark_is_one_unknown():
    tokenizer = CharTokenizer(TOKENS, SEG_DICT)
    assert tokenizer.tokenize("HEX") == ["h", "e", "<unk>"]
    assert tokenizer.tokenize("，欢迎") == ["<unk>"]


MIXED = ["打", "开", "o@@", "pen", "sp@@", "ee@@", "ch", *"openspchba", "'s", "1", "<unk>"]
MIXED = list(dict.fromkeys([*MIXED, "it's", "<noise>", "'@@"]))
MIXED_DICT = {"open": ["o@@", "pen"], "打": ["打"], "开": ["开"], "<noise>": ["<noise>"]}
MIXED_DICT |= {char: [char] for char in "openspchba1"}


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("打开 open speech", "打 开 o@@ pen sp@@ ee@@ ch"),
        ("打开open speech", "打 开 o@@ pen sp@@ ee@@ ch"),
        ("打开Open Speech打开", "打 开 o@@ pen sp@@ ee@@ ch 打 开"),
        ("open1打<noise>开", "o@@ pen 1 打 <noise> 开"),
        ("打 ABC 开", "打 a b c 开"),
        ("xy", "<unk> <unk>"),
        ("", ""),
    ],
)
def test_english_beside_chinese_has_the_pieces_that_are_read_as_it(text, pieces):
    tokenizer = CharTokenizer(MIXED, MIXED_DICT)
    ids = tokenizer.encode_transcript(text)
    assert tokenizer.ids_to_tokens(ids) == pieces.split()
    assert tokenizer.unknown(text) == (["x", "y"] if text == "xy" else [])


def test_without_seg_dict_words_are_cut_where_there_are_pieces():
    assert CharTokenizer(MIXED).encode_transcript("打开open ABC") == [
        0,
        1,
        2,
        3,
        *[MIXED.index("<unk>")] * 3,
    ]
    spelled = CharTokenizer(["h", "e", "欢", "<unk>"])
    assert spelled.encode_transcript("欢he he") == spelled.encode("欢he he") == [2, 0, 1, 0, 1]


WORDS = ["open", "speech", "we", "zebra", "it's", "meeting", "打开", "的", "大会"]


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_a_transcript_is_read_back_from_its_tokens(words):
    """With all letters as pieces and as ends of words, as the released vocabulary has them."""
    letters = "abcdefghijklmnopqrstuvwxyz'"
    tokens = [*"打开的大会", *letters, *(f"{x}@@" for x in letters), "sp@@", "ee@@", "ing", "<unk>"]
    tokenizer = CharTokenizer(tokens, {char: [char] for char in "打开的大会" + letters})
    text = " ".join(words)
    written = postprocess(tokens_of := tokenizer.ids_to_tokens(tokenizer.encode_transcript(text)))
    assert "<unk>" not in tokens_of
    assert written.tight.replace(" ", "") == text.replace(" ", "")
    assert [w for w in written.words if w.isascii()] == [w for w in words if w.isascii()]
    assert tokenizer.encode_transcript(clean_transcript(text)) == tokenizer.encode_transcript(text)


def test_a_long_word_is_no_harder_than_its_length_for_transcripts():
    tokenizer = CharTokenizer(["a", "a@@", "<unk>"], {"a": ["a"]})
    assert tokenizer.encode_transcript("a" * 1_000_000) == [0] * 1_000_000


def test_symbols_stay_whole_and_the_longest_wins():
    tokens = [*TOKENS, "<noise>", "<noise>!"]
    tokenizer = CharTokenizer(tokens, non_linguistic_symbols=["<noise>", "<noise>!"])
    assert tokenizer.tokenize("欢<noise>!迎 <noise>") == ["欢", "<noise>!", "迎", "<noise>"]


@pytest.mark.parametrize("seg_dict", [None, {"a": ["a"]}])
def test_a_word_of_a_million_letters_is_no_harder_than_its_length(seg_dict):
    # Cutting the rest off again for each letter would copy 10^12 characters: it would not return.
    tokenizer = CharTokenizer(["a", "<unk>"], seg_dict, non_linguistic_symbols=["<noise>"])
    assert tokenizer.encode("a" * 1_000_000 + "b") == [0] * 1_000_000 + [1]


@given(st.text())
def test_every_character_but_blanks_is_one_token_without_seg_dict(text):
    tokenizer = CharTokenizer(TOKENS)
    assert "".join(tokenizer.tokenize(text)) == "".join(text.split())
    assert len(tokenizer.encode(text)) == len("".join(text.split()))


@given(st.lists(st.sampled_from(range(len(TOKENS)))))
def test_ids_and_tokens_are_each_others_inverse(ids):
    tokenizer = CharTokenizer(TOKENS)
    assert tokenizer.tokens_to_ids(tokenizer.ids_to_tokens(ids)) == ids
    assert (len(tokenizer), tokenizer.unk_id) == (10, 9)


def test_a_token_list_needs_unk_and_no_token_twice():
    with pytest.raises(DataError, match="no <unk> among 2"):
        CharTokenizer(["a", "b"])
    with pytest.raises(DataError, match="'a' stands at places 0 and 2"):
        CharTokenizer(["a", "<unk>", "a"])


def test_sentencepiece_ids_are_those_of_the_given_tokens():
    own = SentencepieceTokenizer(BPE_MODEL)
    turned = SentencepieceTokenizer(BPE_MODEL, own.tokens[::-1])
    text = "the speaker wrote 数"
    assert turned.encode(text) == [len(own) - 1 - i for i in own.encode(text)]
    assert turned.ids_to_tokens(turned.encode(text)) == own.ids_to_tokens(own.encode(text))


@pytest.mark.parametrize("line", (BPE_MODEL.parent / "text").read_text("utf-8").splitlines())
def test_sentencepiece_gives_back_its_training_text(line):
    tokenizer = SentencepieceTokenizer(BPE_MODEL)
    text = line.split(" ", 1)[1]
    assert tokenizer.detokenize(tokenizer.ids_to_tokens(tokenizer.encode(text))) == text


def test_sentencepiece_says_what_is_wrong_with_the_model_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        SentencepieceTokenizer(tmp_path / "bpe.model")
    (tmp_path / "bpe.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="not a sentencepiece model"):
        SentencepieceTokenizer(tmp_path / "bpe.model")


@pytest.mark.parametrize("name", ["tokens.json", "tokens.txt"])
@given(tokens=st.lists(lines, min_size=1, unique=True))
def test_token_list_written_and_read_is_the_same(tmp_path_factory, name, tokens):
    path = tmp_path_factory.mktemp("tokens") / name
    write_token_list(path, tokens)
    assert read_token_list(path) == tokens


def test_token_list_from_windows_and_from_kaldi(tmp_path):
    (tmp_path / "tokens.txt").write_bytes("\ufeff<blank>\r\n你 \r\n<unk>\r\n".encode())
    assert read_token_list(tmp_path / "tokens.txt") == ["<blank>", "你", "<unk>"]
    (tmp_path / "tokens.txt").write_text("<blank> 0\n你 1\n<unk> 2\n", encoding="utf-8")
    assert read_token_list(tmp_path / "tokens.txt") == ["<blank>", "你", "<unk>"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokens.json", '["a", "b", "a"]', "'a' stands at places 0 and 2"),
        ("tokens.json", '["a", 1]', "not a list of texts"),
        ("tokens.json", '{"a": 1}', "not a list of texts"),
        ("tokens.json", '["a",', "not JSON"),
        ("tokens.json", "[]", "no tokens"),
        ("tokens.txt", "\n\n", "no tokens"),
        ("tokens.txt", "a\na\n", "'a' stands at places 0 and 1"),
    ],
)
def test_a_bad_token_list_is_refused_by_name(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        read_token_list(path)


def test_a_missing_or_foreign_file_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"tokens\.txt: no such file"):
        read_token_list(tmp_path / "tokens.txt")
    (tmp_path / "seg_dict").write_bytes("欢 欢\n".encode("gb18030"))
    with pytest.raises(DataError, match="seg_dict: not UTF-8"):
        read_seg_dict(tmp_path / "seg_dict")


def test_seg_dict_written_and_read_is_the_same_and_the_later_line_wins(tmp_path):
    write_seg_dict(tmp_path / "seg_dict", SEG_DICT)
    assert read_seg_dict(tmp_path / "seg_dict") == SEG_DICT
    (tmp_path / "seg_dict").write_text("a b\n\nA\tc  d\r\na c\n", encoding="utf-8")
    assert read_seg_dict(tmp_path / "seg_dict") == {"a": ["c"], "A": ["c", "d"]}


def test_json_token_list_can_be_read_by_a_human(tmp_path):
    write_token_list(tmp_path / "tokens.json", ["你", "<unk>"])
    assert (tmp_path / "tokens.json").read_text("utf-8") == '[\n"你",\n"<unk>"\n]\n'
    assert json.loads((tmp_path / "tokens.json").read_text("utf-8")) == ["你", "<unk>"]
