"""Every form in which hotwords come gives the same list; what cannot be heard is named."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from dataclasses import replace

import pytest
import torch

from paraformer.backends.engines import recognition_engine
from paraformer.data.audio.read import read_audio
from paraformer.data.text.tokenizer import CharTokenizer, SentencepieceTokenizer
from paraformer.decode import hotwords as module
from paraformer.decode.hotwords import (
    BOOST,
    Hotword,
    HotwordMemo,
    own_boost,
    read_hotwords,
    remember,
)
from paraformer.decode.recognize import Recognizer, Search
from paraformer.errors import ConfigError, DataError
from paraformer.models.release import load_directory
from tests import tiny
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
TOKENS = ["<blank>", "<s>", "</s>", *"一二三你好n", "b", "a", "1", "he@@", "llo", "ok", "<unk>"]
SEG_DICT = {"hello": ["he@@", "llo"], "ok": ["ok"], **{c: [c] for c in "一二三你好nba1"}}
TOKENIZER = CharTokenizer(TOKENS, SEG_DICT)


def texts(given, tokenizer=TOKENIZER):
    return [word.text for word in read_hotwords(given, tokenizer).words]


def tokens(given, tokenizer=TOKENIZER):
    return [tokenizer.ids_to_tokens(ids) for ids in read_hotwords(given, tokenizer).ids]


@pytest.mark.parametrize(
    "given",
    [
        "一二 hello",
        "一二,hello",
        "一二，hello；",
        " 一二\nhello\t",
        "一二 hello 一二 HELLO",
        ["一二", "hello"],
        ("一二", " hello ", "", "一二"),
        {"一二": 20, "hello": None},
        '{"一二": 20, "hello": 5.5}',
        '["一二", "hello"]',
    ],
    ids=str,
)
def test_forms_of_the_argument(given):
    assert tokens(given) == [["一", "二"], ["he@@", "llo"]]


@pytest.mark.parametrize("given", [None, "", "  ", [], {}, "，、", ["", " "]], ids=repr)
def test_nothing_to_listen_for(given, caplog):
    with caplog.at_level(logging.INFO):
        assert read_hotwords(given, TOKENIZER) == ([], [])
    assert not caplog.records


# files


LINES = "一二 20\n\nhello ok\n 你 好 \n1\n好 -3.5\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030"])
@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file(tmp_path, encoding, as_text, line_end):
    """A line is a phrase, a number behind it its weight; a number alone is a hotword."""
    path = tmp_path / "words.txt"
    path.write_bytes(LINES.replace("\n", line_end).encode(encoding))
    found = read_hotwords(str(path) if as_text else path, TOKENIZER)
    assert found.left_out == []
    assert [(word.text, word.weight) for word in found.words] == [
        ("一二", 20.0),
        ("hello ok", None),
        ("你 好", None),
        ("1", None),
        ("好", -3.5),
    ]
    assert found.words[1].ids == tuple(TOKENIZER.tokens_to_ids(["he@@", "llo", "ok"]))


def test_any_name_of_a_path_is_a_file(tmp_path):
    path = tmp_path / "words"
    path.write_text("一二\n", "utf-8")
    assert texts(path) == ["一二"]


def test_a_string_that_names_a_file_is_never_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_text("一二 hello\n", "utf-8")
    (tmp_path / "words.json").write_text('{"一二": 20, "hello": 5}', "utf-8")
    (tmp_path / "lists").mkdir()
    assert texts("words") == ["一二 hello"]
    assert texts("words.json") == ["一二", "hello"]
    for missing in ("none.json", "none.list", "lists/none", "../none", "~/none", "a.wav"):
        with pytest.raises(DataError, match=f"{missing}: No such file"):
            read_hotwords(missing, TOKENIZER)
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0")
    with pytest.raises(DataError, match=r"a\.wav: neither UTF-8 nor GB18030"):
        read_hotwords("a.wav", TOKENIZER)
    (tmp_path / "words.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"words\.json is not JSON"):
        read_hotwords("words.json", TOKENIZER)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: No such file .*give a file of hotwords"):
        read_hotwords(str(tmp_path / "none.txt"), TOKENIZER)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"words\.txt: neither UTF-8 nor GB18030"):
        read_hotwords(path, TOKENIZER)


@pytest.fixture
def address(tmp_path):
    (tmp_path / "words.txt").write_text(LINES, "utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address(address):
    assert texts(f"{address}/words.txt") == ["一二", "hello ok", "你 好", "1", "好"]
    with pytest.raises(DataError, match=r"none\.txt: HTTP Error 404.*check the address"):
        read_hotwords(f"{address}/none.txt", TOKENIZER)


# words


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("HELLO", ["he@@", "llo"]),
        ("一hello二", ["一", "he@@", "llo", "二"]),
        ("NBA", ["n", "b", "a"]),
        ("a1好", ["a", "1", "好"]),
        ("ＯＫ", ["ok"]),
        ("你好！", ["你", "好"]),
        ("《你·好》", ["你", "好"]),
    ],
)
def test_pieces_of_a_word(word, pieces):
    assert tokens([word]) == [pieces]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("zzz", "the model does not know 'zzz'"),
        ("一丐", "the model does not know '丐'"),
        ("nba", "the model does not know 'nba'"),
        ("hello你x", "the model does not know 'x'"),
        ("1+1", r"the model does not know '\+'"),
        ("<s>", "the model does not know '<'"),
        ("<unk>", "the model does not know '<'"),
        ("？！", "nothing in it is a word of this model"),
        ("一" * 65, "65 tokens, more than 64"),
    ],
)
def test_words_that_are_left_out(word, reason, caplog):
    found = read_hotwords([word, "你好"], TOKENIZER)
    assert [w.text for w in found.words] == ["你好"]
    (message,) = found.left_out
    assert message.startswith(f"'{word}' is left out: ")
    pytest.raises(DataError, module._encode, word, TOKENIZER).match(reason)
    assert f"hotword {message}" in caplog.text


def test_without_seg_dict():
    plain = CharTokenizer(TOKENS)
    assert tokens(["你好", "OK", "一ok"], plain) == [["你", "好"], ["ok"], ["一", "ok"]]


def test_sentencepiece():
    bpe = FIXTURES / "bpe"
    tokenizer = SentencepieceTokenizer(bpe / "bpe.model")
    case = json.loads((bpe / "expected.json").read_text("utf-8"))[0]
    found = read_hotwords([case["text"]], tokenizer)
    assert found.ids == [tuple(case["ids"])]


def test_what_is_heard_is_said(caplog):
    with caplog.at_level(logging.INFO):
        read_hotwords("一二 hello zzz", TOKENIZER)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "2 hotwords: 一二, hello"),
        ("WARNING", "hotword 'zzz' is left out: the model does not know 'zzz'"),
    ]


def test_of_long_lists_the_first_are_named(caplog):
    numbers = [f"{i:05b}".replace("0", "一").replace("1", "二") for i in range(32)]
    with caplog.at_level(logging.INFO):
        read_hotwords([*numbers, *(f"z{'z' * i}" for i in range(30))], TOKENIZER)
    messages = [r.getMessage() for r in caplog.records]
    assert messages[0].startswith("32 hotwords: 一一一一一, ")
    assert messages[0].endswith(" and 12 more")
    assert len(messages) == 22
    assert messages[-1] == "10 more hotwords are left out"


def test_too_many(monkeypatch):
    monkeypatch.setattr(module, "MOST_HOTWORDS", 3)
    assert len(read_hotwords("一 二 三", TOKENIZER).words) == 3
    with pytest.raises(DataError, match="hotword: 4 hotwords; at most 3 are heard: give fewer"):
        read_hotwords("一 二 三 你", TOKENIZER)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "hotword: int holds no words"),
        (b"abc", "hotword: bytes holds no words"),
        ([1], "hotword: 1 in the list is no text"),
        ({"一": "x"}, "the weight 'x' of '一' is no number"),
        ({"一": True}, "the weight True of '一' is no number"),
        ('{"一": 1', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"一": ' + "9" * 5000 + "}", "is not JSON"),
        ("a\0.txt", "embedded null"),
    ],
)
def test_arguments_that_are_wrong(given, message):
    with pytest.raises(DataError, match=message):
        read_hotwords(given, TOKENIZER)


# models


def test_a_model_without_a_decoder_for_them_prefers_them_by_its_posteriors():
    def engine(**config):
        release = tiny.release()
        return recognition_engine(replace(release, config={**release.config, **config}))

    assert remember(engine(), read_hotwords("", TOKENIZER)) is None
    assert remember(engine(), read_hotwords("一", TOKENIZER)) is None
    assert own_boost(engine()) == BOOST
    assert own_boost(engine(hotword_boost=2)) == 2.0
    with pytest.raises(ConfigError, match="hotword_boost=-1: give a number from 0 to"):
        own_boost(engine(hotword_boost=-1))


@pytest.mark.parametrize("kind", ["seaco", "contextual"])
def test_more_than_a_decoder_takes_are_heard_by_posteriors(kind, monkeypatch, caplog):
    monkeypatch.setattr(module, "MOST_ATTENDED", 1)
    release = load_directory(FIXTURES / "oracle" / kind)
    recognizer = Recognizer(release)
    chinese = [t for t in release.tokenizer.tokens if "\u4e00" <= t <= "\u9fa5"]
    wave = read_audio(FIXTURES / "oracle" / "inputs" / "clip_a.flac")
    memo = HotwordMemo(recognition_engine(release))
    with caplog.at_level(logging.WARNING):
        listening = memo.listening(chinese[:2])
        assert memo.listening(chinese[:2]) is listening  # named and encoded once
    assert listening.memory is None
    assert caplog.messages == [
        "hotword: 2 hotwords, more than the 1 that this model's decoder for them takes: they are "
        "heard by posteriors alone (hotword_boost)"
    ]
    plain, off, usual, near, far = (
        recognizer.recognize([wave], Search(hotwords=heard, hotword_boost=bonus))[0].best.tokens
        for heard, bonus in ((None, None), *((listening, b) for b in (0.0, None, BOOST, 50.0)))
    )
    assert (plain, usual) == (off, near)
    assert set(far) <= set(chinese[:2]) and far != plain


@pytest.mark.parametrize("kind", ["seaco", "contextual"])
def test_models_that_hear_them(kind):
    release = load_directory(FIXTURES / "oracle" / kind)
    words = "".join(token for token in release.tokenizer.tokens if "\u4e00" <= token <= "\u9fa5")
    assert own_boost(recognition_engine(release)) == 0.0  # as the reference
    found = read_hotwords([words[:2], words[2:5]], release.tokenizer)
    assert [type(word) for word in found.words] == [Hotword, Hotword]
    with torch.no_grad():
        memory = remember(release.model, found)
    assert memory is not None
    assert memory.embeds.shape == (3, 32)
    assert {kv.shape for kv in memory.projected} == {(3, 64)}
