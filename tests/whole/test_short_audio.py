"""Next to nothing through every pipeline: no sample, one, a few milliseconds, silence. Nothing
fails, keys and order stay, no time lies outside of the audio, and of nothing comes nothing.
"""

from __future__ import annotations

import numpy as np
import pytest

from paraformer import AutoModel
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
CLIPS = {
    "nothing": NOISE[:0],
    "sample": NOISE[:1],
    "10 ms": NOISE[:160],
    "frame": NOISE[:400],
    "40 ms": NOISE[:640],
    "100 ms": NOISE[:1600],
    "silence": np.zeros(2 * RATE, np.float32),
    "zeros": np.zeros(RATE, np.int16),
}
PARTS = {"vad_model": str(ORACLE / "fsmn_vad"), "punc_model": str(ORACLE / "ct_punc")}
MODELS = {
    "whole": {"model": ORACLE / "bicif"},
    "beam": {"model": ORACLE / "conformer", "decoding_ctc_weight": 0.4, "nbest": 3},
    "hotwords": {"model": ORACLE / "seaco", "hotword": "好", **PARTS},
    "segments": {"model": ORACLE / "bicif", "sentence_timestamp": True, **PARTS},
    "stream": {"model": ORACLE / "paraformer-streaming"},
    "live": {
        "model": ORACLE / "paraformer-streaming",
        "second_pass": str(ORACLE / "bicif"),
        **PARTS,
    },
    "vad": {"model": ORACLE / "fsmn_vad"},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return AutoModel(device="cpu", disable_pbar=True, **MODELS[request.param])


def spans(result):
    """All [start, end] of a result, in ms."""
    timed = [*result.get("words", ()), *result.get("segments", ())]
    timed += result.get("sentence_info", ())
    return [[one["start"], one["end"]] for one in timed] + result.get("value", [])


def said(result):
    return result.get("value", result.get("text"))


def test_a_list_of_next_to_nothing(model):
    results = model.generate(list(CLIPS.values()), key=list(CLIPS))
    assert [result["key"] for result in results] == list(CLIPS)
    for result, clip in zip(results, CLIPS.values(), strict=True):
        assert "error" not in result
        assert all(0 <= s <= e <= 1000 * len(clip) / RATE + 1 for s, e in spans(result))
        assert said(model.generate(clip)[0]) == said(result)
    quiet = ["nothing"] + (["silence", "zeros"] if "segments" in results[0] else [])
    assert not any(said(result) for result in results if result["key"] in quiet)


@pytest.mark.parametrize("name", ["stream", "live"])
def test_streams_of_next_to_nothing(name):
    model = AutoModel(device="cpu", disable_pbar=True, **MODELS[name])
    for clip in CLIPS.values():
        session = model.live()
        events = session.feed(clip) + session.flush()
        assert all(0 <= e.start_ms <= e.end_ms <= 1000 * len(clip) / RATE + 1 for e in events)
        assert session.flush() == []
        cache = {}
        (whole,) = model.generate(clip, cache=cache, is_final=True)
        assert cache == {}
        assert whole["text"] == "".join(e.text for e in events if e.kind == "final")


@pytest.mark.parametrize("text", ["", "。，", "你好"])
def test_texts_of_next_to_nothing(text):
    model = AutoModel(ORACLE / "fa-zh", device="cpu", disable_pbar=True)
    for clip in CLIPS.values():
        (result,) = model.generate((clip, text), data_type=("sound", "text"))
        assert all(0 <= s <= e <= 1000 * len(clip) / RATE for s, e in spans(result))
        assert ("error" in result) == (text == "你好" and len(clip) < 2)
        assert [word["text"] for word in result["words"]] == (
            [] if "error" in result else [c for c in text if c.isalpha()]
        )
