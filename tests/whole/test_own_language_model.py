"""A model with n-grams in its folder recognises with them, unless the call says otherwise."""

from __future__ import annotations

import shutil

import pytest
import soundfile

from paraformer import AutoModel
from paraformer.api.record import made_with
from paraformer.data.text.ngram import estimate
from paraformer.data.text.ngram_table import write_ngrams
from paraformer.decode.language_model import own_weight
from paraformer.errors import ConfigError
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "oracle"
CLIP = str(FIXTURES / "inputs" / "clip_a.flac")


@pytest.fixture(scope="module")
def listed():
    """Readings of the clip as long as the best one, which comes first."""
    readings = AutoModel(str(FIXTURES / "paraformer"), device="cpu").generate(CLIP, nbest=32)
    found = [each["tokens"] for each in readings[0]["nbest"]]
    return [tokens for tokens in found if len(tokens) == len(found[0])]


@pytest.fixture(scope="module")
def folder(listed, tmp_path_factory):
    """The model with n-grams that have heard the third reading alone."""
    folder = shutil.copytree(FIXTURES / "paraformer", tmp_path_factory.mktemp("lm") / "model")
    write_ngrams(folder / "ngrams.lm", estimate([listed[2]], 3))
    with (folder / "config.yaml").open("a") as config:
        config.write("lm_weight: 20.0\n")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return AutoModel(str(folder), device="cpu")


def tokens_of(model, **call):
    return model.generate(CLIP, **call)[0]["tokens"]


def test_its_own_n_grams_are_heard_with(model, listed):
    assert tokens_of(model) == listed[2] != listed[0]
    found = model.generate(CLIP, nbest=3)[0]["nbest"]
    assert found[0]["tokens"] == listed[2]
    assert [each["score"] for each in found] == sorted((f["score"] for f in found), reverse=True)


def test_none_and_no_weight_turn_them_off(model, listed):
    assert tokens_of(model, lm_file="none") == listed[0]
    assert tokens_of(model, lm_weight=0.0) == listed[0]


def test_a_file_of_the_call_comes_before_them(model, listed, tmp_path):
    write_ngrams(tmp_path / "other.lm", estimate([listed[1]], 3))
    assert tokens_of(model, lm_file=str(tmp_path / "other.lm")) == listed[1]


def test_a_hotword_stays_where_it_was_put(model, listed):
    places = [n for n, token in enumerate(listed[2]) if token != listed[0][n]]
    word = listed[0][places[0]]
    found = tokens_of(model, hotword=word, hotword_boost=0.1)
    assert found[places[0]] == word
    assert found != listed[0] or len(places) == 1


def test_streams_are_heard_with_them_and_the_same_in_blocks_of_any_size(tmp_path):
    plain = AutoModel(str(FIXTURES / "paraformer-streaming"), device="cpu").generate(CLIP)
    own = shutil.copytree(FIXTURES / "paraformer-streaming", tmp_path / "model")
    others = [token for token in plain[0]["tokens"] if token != plain[0]["tokens"][0]]
    write_ngrams(own / "ngrams.lm", estimate([others], 3))
    model = AutoModel(str(own), device="cpu", lm_weight=20.0)
    (found,) = model.generate(CLIP)
    assert found["tokens"] != plain[0]["tokens"]
    assert len(found["tokens"]) == len(plain[0]["tokens"])
    assert found["timestamp"] == plain[0]["timestamp"]
    wave, _ = soundfile.read(CLIP, dtype="float32")
    for size in (1234, 9600):
        streamer = model.streamer()
        tokens = [t for n in range(0, len(wave), size) for t in streamer.feed(wave[n : n + size])]
        assert [t.text for t in tokens + streamer.flush()] == found["tokens"]
    assert model.generate(CLIP, lm_file="none") == plain


def test_the_record_of_results_tells_them(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    before = made_with({"model": other}, {}, False)
    assert before.options == made_with({"model": folder}, {}, False).options
    write_ngrams(other / "ngrams.lm", estimate([["x"]], 2))
    assert before.options != made_with({"model": other}, {}, False).options


def test_a_wrong_weight_is_refused():
    assert own_weight({}) == 0.3
    with pytest.raises(ConfigError, match=r"config\.yaml: lm_weight=-1"):
        own_weight({"lm_weight": -1})
