"""The session that a client asks for: what it does not name stays, what cannot be is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from paraformer.options import ServeOptions
from tests.serving import Service

from paraformer.server.realtime_messages import (  # isort: skip
    RequestError,
    Wanted,
    effective,
    read_session,
)

assert Service
TURNS = {"threshold": 0.5, "prefix_padding_ms": 200, "silence_duration_ms": 800}
MODEL = SimpleNamespace(name="mine", languages={"zh"}, turns=TURNS)


def read(wanted, **sound):
    return read_session(wanted, {"audio": {"input": sound}}, MODEL, ServeOptions())


def test_what_is_not_named_stays():
    wanted = read(Wanted(), format={"type": "audio/pcmu"}, turn_detection=None)
    wanted = read(wanted, transcription={"model": "whisper-1", "language": "zh-CN"})
    wanted = read(wanted, transcription={"keywords": ["阿里", "x"], "prompt": "p"})
    assert (
        wanted
        == Wanted("audio/pcmu", 8000, False, "whisper-1", "zh-CN", "p", ("阿里", "x"))
        == read(wanted)
    )
    assert read(wanted, turn_detection={"type": "semantic_vad"}).turns


def test_the_session_is_told_as_it_is_in_effect():
    sound = effective(Wanted(), "sess_1", MODEL)["audio"]["input"]
    assert sound["format"] == {"type": "audio/pcm", "rate": 24000}
    assert sound["turn_detection"] == {"type": "server_vad", **TURNS}
    assert sound["transcription"]["model"] == "mine"
    without = SimpleNamespace(name="mine", turns=None)
    assert effective(Wanted(), "sess_1", without)["audio"]["input"]["turn_detection"] is None


@pytest.mark.parametrize(
    ("sound", "param"),
    [
        ({"format": {"type": "audio/mp3"}}, "format"),
        ({"format": {"type": "audio/pcm", "rate": "24k"}}, "format"),
        ({"transcription": {"model": "tts-1"}}, "transcription.model"),
        ({"transcription": {"language": "fr"}}, "transcription.language"),
        ({"transcription": {"keywords": [*map(str, range(2000))]}}, "transcription.keywords"),
        ({"transcription": "whisper-1"}, "transcription"),
    ],
)
def test_what_cannot_be_is_refused(sound, param):
    with pytest.raises(RequestError) as refused:
        read(Wanted(), **sound)
    assert refused.value.param == f"session.audio.input.{param}"
