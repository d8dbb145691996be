"""The speakers of a pipeline equal the reference's: windows, turns, and those of sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="clustering is an extra: pip install scikit-learn scipy")

from paraformer.api import diarization  # noqa: E402
from paraformer.api.auto import AutoModel  # noqa: E402
from paraformer.decode.clustering import by_first  # noqa: E402
from paraformer.decode.turns import turns  # noqa: E402
from tests.conftest import SHARED, needs_shared  # noqa: E402

pytestmark = needs_shared
ORACLE = SHARED / "oracle"
PIPELINE = ORACLE / "pipeline"
CLIP = str(PIPELINE / "two_speakers.wav")


@pytest.fixture(scope="module")
def facts():
    return json.loads((PIPELINE / "expected.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def model():
    return AutoModel(
        str(PIPELINE / "asr-bicif"),
        vad_model=str(SHARED / "models/fsmn-vad"),
        punc_model=str(ORACLE / "ct-punc"),
        spk_model=str(ORACLE / "campplus"),
        device="cpu",
    )


@pytest.fixture
def heard(monkeypatch):
    """Windows and embeddings of the call, and the reference's labels in the place of ours."""
    seen, given = [], []

    def labels(rows, bounds):
        seen.append((rows, bounds))
        return by_first(np.array(given[0]))

    monkeypatch.setattr(diarization, "cluster", labels)
    return seen, given


@pytest.mark.parametrize("number", [None, 2, 3])
def test_sentences_of_the_reference(number, model, facts, heard):
    seen, given = heard
    name = "punc_segment" + (f", preset_spk_num={number}" if number else "")
    inside = facts[f"speaker internals, {name}"]
    given.append(inside["labels"])
    (found,) = model.generate(CLIP, preset_spk_num=number)
    rows, bounds = seen[0]
    stored = np.load(PIPELINE / "expected.npz")["two_speakers/embeddings"]
    np.testing.assert_allclose(rows, stored, atol=1e-3, rtol=1e-4)
    assert bounds.number == number
    ours = turns(inside["segments"], by_first(np.array(inside["labels"])).tolist())
    assert [[*turn] for turn in ours] == [pytest.approx(turn) for turn in inside["turns"]]
    (expected,) = facts["cases"][f"two_speakers.wav, {name}"]
    told = found["sentence_info"]
    # The end of the text, where marks alone are a sentence to the reference, is cut otherwise.
    for theirs in expected["sentence_info"][:3]:
        inside = [s for s in told if theirs["start"] <= s["start"] and s["end"] <= theirs["end"]]
        assert [inside[0]["start"], inside[-1]["end"]] == [theirs["start"], theirs["end"]]
        assert theirs["spk"] in {s["spk"] for s in inside}
    # Where the reference's sentence has several speakers, ours ends with the words of each.
    assert "".join(s["text"] for s in told) == found["text"]
    spoken = [s["spk"] for s in told for _ in s["timestamp"]]
    assert spoken == [word["spk"] for word in found["words"]]
    assert len(found["words"]) == len(found["timestamp"])
    assert {word["spk"] for word in found["words"]} <= set(range(number or 2))


def test_centres_are_the_reference_s(model, facts, heard):
    _, given = heard
    given.append(facts["speaker internals, punc_segment, preset_spk_num=2"]["labels"])
    (found,) = model.generate(CLIP, preset_spk_num=2, return_spk_center=True)
    (expected,) = facts["cases"]["two_speakers.wav, return_spk_center, preset_spk_num=2"]
    torch.testing.assert_close(
        torch.tensor(found["spk_embedding_center"]),
        torch.tensor(expected["spk_embedding_center"]),
        atol=1e-3,
        rtol=1e-3,
    )


def test_segments_of_the_reference_where_they_are_asked_for(model, facts, heard):
    _, given = heard
    given.append(facts["speaker internals, punc_segment, preset_spk_num=2"]["labels"])
    other = AutoModel(
        str(PIPELINE / "asr-bicif"),
        vad_model=str(SHARED / "models/fsmn-vad"),
        spk_model=str(ORACLE / "campplus"),
        spk_mode="vad_segment",
        device="cpu",
    )
    (expected,) = facts["cases"]["two_speakers.wav, vad_segment, preset_spk_num=2"]
    (found,) = other.generate(CLIP, preset_spk_num=2)
    assert [(s["start"], s["end"], s["spk"]) for s in found["sentence_info"]] == [
        (s["start"], s["end"], s["spk"]) for s in expected["sentence_info"]
    ]
