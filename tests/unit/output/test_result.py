"""A result is a value; its dict has the documented keys, in their order."""

from __future__ import annotations

import pytest

from paraformer.data.inputs.sources import Item, Segment
from paraformer.decode.endpoint import Span
from paraformer.decode.longform import HeardRecording, HeardSegment
from paraformer.decode.recognize import Reading, Recognition
from paraformer.errors import AudioError, DataError
from paraformer.output.result import (
    Result,
    outcome_result,
    recording_result,
    silence,
    text_result,
    vad_result,
)

ITEM = Item("a", None)
PART = Item("a-1", None, Segment(1.5, 2.0), recording="a", channel=1, skipped=("x", "y"))


def reading(text, score=-1.5):
    return Reading([1] * len(text), list(text), text, text, score, [0.25] * len(text))


def recognition(*texts):
    nbest = [reading(text) for text in texts]
    return Recognition(nbest[0], nbest)


def test_what_says_where_a_result_is_from_comes_first():
    found = outcome_result(PART, recognition("你好"), 0.5)
    assert found.to_dict() == {
        "key": "a-1",
        "channel": 1,
        "recording": "a",
        "start": 1500,
        "text": "你好",
        "confidence": 0.25,
        "tokens": ["你", "好"],
        "token_confidence": [0.25, 0.25],
        "audio_seconds": 0.5,
    }
    assert list(found.to_dict())[:5] == ["key", "channel", "recording", "start", "text"]
    assert found.skipped == ("x", "y")


def test_several_readings():
    found = outcome_result(ITEM, recognition("你", "好"), 0.12345, nbest=2)
    assert [(row["text"], row["score"]) for row in found.nbest] == [("你", -1.5), ("好", -1.5)]
    assert [row["score"] for row in found.rows] == ["-1.5000 0.2500"] * 2
    assert (found.audio_seconds, found.seconds) == (0.123, 0.12345)


@pytest.mark.parametrize("timed", [False, True])
def test_what_failed_has_the_keys_of_silence_and_why(timed):
    found = silence(timed, cut=True).failed(PART, AudioError("cut off"), 0.25).to_dict()
    assert found["error"] == "cut off" and found["audio_seconds"] == 0.25
    nothing = {"text": "", "confidence": 0.0, "tokens": [], "token_confidence": [], "segments": []}
    nothing |= {"timestamp": [], "words": []} if timed else {}
    assert {key: found[key] for key in nothing} == nothing
    more = {"key", "channel", "recording", "start", "audio_seconds", "error"}
    assert found.keys() == nothing.keys() | more
    assert Result(value=[]).failed(ITEM, "lost").to_dict() == {
        "key": "a",
        "value": [],
        "error": "lost",
    }


def test_two_that_failed_share_nothing():
    one = silence()
    first, second = (one.failed(ITEM, "lost") for _ in range(2))
    first.tokens.append("你")
    assert second.tokens == one.tokens == []


def test_segments_of_a_recording_are_joined_and_a_broken_one_is_named():
    heard = [
        HeardSegment(0, 500, recognition("你好")),
        HeardSegment(600, 900, DataError("lost")),
        HeardSegment(1000, 1500, recognition("我")),
    ]
    found = recording_result(ITEM, HeardRecording(heard, 2.0))
    assert found.text == "你好 我" and found.error == "lost"
    assert [(s["start"], s["end"], s["text"]) for s in found.segments] == [
        (0, 500, "你好"),
        (1000, 1500, "我"),
    ]
    (row,) = found.rows
    assert (row["tight"], row["token"], row["score"]) == ("你好我", "你 好 我", "-3.0000 0.2500")


def test_spans_and_texts():
    found = vad_result(ITEM, [Span(10, 250)], 1.25)
    assert found.to_dict() == {"key": "a", "value": [[10, 250]]}
    assert found.rows == [{"text": "[[10, 250]]", "found": "[1.25, [10, 250]]"}]
    assert text_result(ITEM, "好。", [3]).to_dict() == {
        "key": "a",
        "text": "好。",
        "punc_array": [3],
    }
