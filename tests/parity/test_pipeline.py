"""VAD, recognition and punctuation one behind the other equal the reference's AutoModel."""

from __future__ import annotations

import json

import pytest

from paraformer.auto import AutoModel
from tests.conftest import SHARED, needs_shared

pytestmark = needs_shared
PIPELINE = SHARED / "oracle" / "pipeline"
EXAMPLE = SHARED / "audio" / "vad_example.wav"
VAD = SHARED / "models" / "fsmn-vad"


@pytest.fixture(scope="module")
def cases():
    return json.loads((PIPELINE / "expected.json").read_text(encoding="utf8"))["cases"]


@pytest.fixture(scope="module")
def model():
    return AutoModel(str(PIPELINE / "asr-paraformer"), vad_model=str(VAD))


@pytest.fixture(scope="module")
def marked():
    punc = SHARED / "oracle" / "ct-punc"
    return AutoModel(str(PIPELINE / "asr-paraformer"), vad_model=str(VAD), punc_model=str(punc))


def without_blanks(text):
    return "".join(text.split()).lower()


def test_text_of_segments_joined(model, cases):
    (expected,) = cases["paraformer + vad(800), sentence_timestamp, no punc"]
    (found,) = model.generate(str(EXAMPLE))
    assert found["text"] == expected["text"]
    sentences = expected["sentence_info"]
    if sentences:  # one a segment
        spans = [[s["start"], s["end"]] for s in sentences]
        assert [[s["start"], s["end"]] for s in found["segments"]] == spans


def test_text_with_marks(marked, cases):
    """Blanks and case are set aside: ours keeps the case, and blanks between English words."""
    (expected,) = cases["paraformer + vad(800) + punc"]
    (found,) = marked.generate(str(EXAMPLE), return_raw_text=True)
    assert without_blanks(found["text"]) == without_blanks(expected["text"])
    (plain,) = cases["paraformer + vad(800), sentence_timestamp, no punc"]
    assert found["raw_text"] == plain["text"]


def test_segments_are_those_of_the_detector_alone(model):
    (heard,) = model.generate(str(EXAMPLE))
    (found,) = AutoModel(str(VAD)).generate(str(EXAMPLE))
    assert [[s["start"], s["end"]] for s in heard["segments"]] == found["value"]


def test_a_list_and_its_file_give_a_result_each(model, tmp_path):
    lines = f"a {EXAMPLE}\nb {SHARED / 'audio' / 'mid.wav'}\n"
    (tmp_path / "wav.scp").write_text(lines, encoding="utf8")
    out = tmp_path / "out"
    results = model.generate(str(tmp_path / "wav.scp"), output_dir=str(out))
    alone = [model.generate(line.split()[1])[0]["text"] for line in lines.splitlines()]
    assert [r["key"] for r in results] == ["a", "b"]
    assert [r["text"] for r in results] == alone
    table = (out / "1best_recog" / "text").read_text(encoding="utf8").splitlines()
    assert [line.split()[0] for line in table] == ["a", "b"]


def test_bytes_are_what_the_file_is(model):
    content = (SHARED / "audio" / "mid.wav").read_bytes()
    assert (
        model.generate(content)[0]["text"]
        == model.generate(str(SHARED / "audio" / "mid.wav"))[0]["text"]
    )
