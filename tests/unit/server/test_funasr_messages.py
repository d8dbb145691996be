"""The messages of FunASR's protocol: what clients write, in every way that they do."""

from __future__ import annotations

import pytest

from paraformer.api.service import Answer, Wishes
from paraformer.errors import DataError
from paraformer.server import funasr_messages as messages
from paraformer.server.funasr_messages import Start, read_hotwords, read_start


def test_what_is_left_out_is_as_in_the_servers_of_funasr():
    assert read_start({}, False, True, 9) == Start("2pass", "microphone", "pcm", 16000, Wishes())


def test_a_first_message_of_the_official_client():
    given = {
        "mode": "2pass",
        "chunk_size": [5, 10, 5],
        "chunk_interval": 10,
        "encoder_chunk_look_back": 4,
        "decoder_chunk_look_back": 0,
        "audio_fs": 8000,
        "wav_name": "demo",
        "wav_format": "pcm",
        "is_speaking": True,
        "hotwords": '{"阿里巴巴": 20}',
        "itn": True,
    }
    wishes = Wishes(("阿里巴巴",), True, False, (5, 10, 5))
    assert read_start(given, False, True, 9) == Start("2pass", "demo", "pcm", 8000, wishes)
    assert not read_start(given, False, False, 9).wishes.itn
    assert read_start({**given, "mode": "online"}, False, True, 9).wishes.plain


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{"阿里巴巴": 20, "达摩院": 30}', ["阿里巴巴", "达摩院"]),
        ('{"阿里巴巴": "100"}', ["阿里巴巴"]),
        ("阿里巴巴 达摩院", ["阿里巴巴", "达摩院"]),
        ("阿里巴巴,达摩院，通义", ["阿里巴巴", "达摩院", "通义"]),
        ("阿里巴巴 20\n达摩院 30", ["阿里巴巴", "达摩院"]),
        ('["阿里巴巴", "hello world"]', ["阿里巴巴", "hello world"]),
        ({"阿里巴巴": 20}, ["阿里巴巴"]),
        ("{half", ["half"]),
        ("", []),
        (None, []),
        (7, []),
        ("x" * 65 + " a a", ["a"]),
    ],
)
def test_hotwords_in_every_spelling(given, words):
    assert read_hotwords(given, 9) == words


def test_more_hotwords_than_allowed_are_refused():
    with pytest.raises(DataError, match="max_hotwords"):
        read_hotwords(" ".join("abcd"), 3)


@pytest.mark.parametrize("text", ["{half", "[1]", "3", '"x"', "START", "[" * 100_000])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(DataError):
        messages.read_message(text)


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        ({"is_speaking": False}, True),
        ({"is_finished": True}, True),
        ({"is_speaking": True}, False),
        ({"is_speaking": 0}, False),
        ({}, False),
    ],
)
def test_the_end_of_the_sound(given, ends):
    assert messages.ends(given) is ends


@pytest.mark.parametrize("rate", ["x", -1, 0.0 - 5, [1], 10**9])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(DataError, match="audio_fs"):
        read_start({"audio_fs": rate}, False, True, 9)


def test_stamps_cut_the_words_into_sentences():
    """Keys as C++ writes them; a mark with the words before it."""
    words = [{"text": t, "start": s, "end": s + 1, "confidence": 1} for s, t in enumerate("你好吗")]
    sentences = [
        {"text": "你好，", "start": 0, "end": 2, "timestamp": [[0, 1], [1, 2]]},
        {"text": "吗", "start": 2, "end": 3, "timestamp": [[2, 3]]},
    ]
    found = messages.whole(Start("offline"), Answer("你好，吗", words, sentences))
    assert found["timestamp"] == "[[0, 1], [1, 2], [2, 3]]"
    assert found["stamp_sents"] == [
        {"text_seg": "你 好", "punc": "，", "start": 0, "end": 2, "ts_list": [[0, 1], [1, 2]]},
        {"text_seg": "吗", "punc": "", "start": 2, "end": 3, "ts_list": [[2, 3]]},
    ]


def test_a_failure_is_a_last_message_with_an_object():
    assert messages.failed(Start("online", "n"), "busy", "x") == {
        "mode": "online",
        "text": "",
        "wav_name": "n",
        "is_final": True,
        "error": {"code": "busy", "message": "x"},
    }
