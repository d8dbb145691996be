"""A language model chooses among readings by the sum that it says it does."""

from __future__ import annotations

import math

import pytest

from paraformer import AutoModel
from paraformer.data.audio.read import read_audio
from paraformer.data.text.ngram import arpa_lines, estimate
from paraformer.decode.language_model import LanguageModel, rescore, shared_language_model
from paraformer.decode.recognize import Recognizer, Search
from paraformer.decode.search import Hypothesis
from paraformer.errors import ConfigError
from paraformer.models.release import load_directory
from tests.conftest import ROOT

pytest.importorskip("kenlm", reason="needs kenlm: pip install .[lm]")
FIXTURES = ROOT / "tests" / "fixtures" / "oracle"


def write_lm(path, sentences, order=2):
    path.write_text("\n".join(arpa_lines(estimate(sentences, order))) + "\n")
    return path


@pytest.fixture
def small(tmp_path):
    """The model of `a b` and `a`, whose numbers `test_ngram.py` works out."""
    return LanguageModel(write_lm(tmp_path / "lm.arpa", [["a", "b"], ["a"]]))


def test_scores_are_natural_logarithms_of_whole_sentences(small):
    assert small.score(["a"]) == pytest.approx(math.log(0.625 * 0.4375), abs=1e-5)
    assert small.score(["a", "b"]) == pytest.approx(math.log(0.625 * 0.375 * 0.6875), abs=1e-5)


def test_the_order_is_that_of_the_weighted_sum(small):
    """`b` (0.5 * 0.25 * 0.6875) is read for certain, `a` with half its probability."""
    tokens_of = dict(enumerate(["a", "b"])).__getitem__
    readings = [
        Hypothesis([1], math.log(0.6), [0.6], [0]),
        Hypothesis([0], math.log(0.3), [0.3], [0]),
    ]

    def best(weight, bonus=0.0):
        return rescore(readings, lambda ids: [tokens_of(i) for i in ids], small, weight, bonus)

    assert [found.ids for found in best(0.0)] == [[1], [0]]
    found = best(1.0)
    assert [reading.ids for reading in found] == [[0], [1]]
    wanted = [math.log(0.3 * 0.625 * 0.4375), math.log(0.6 * 0.125 * 0.6875)]
    assert [reading.score for reading in found] == pytest.approx(wanted, abs=1e-5)
    assert found[0].confidences == [0.3]
    assert best(1.0, 2.0)[0].score == pytest.approx(wanted[0] + 2.0, abs=1e-5)


@pytest.fixture(scope="module", params=["paraformer", "conformer"])
def recognizer(request):
    return Recognizer(load_directory(FIXTURES / request.param))


def test_recognition_takes_what_the_sum_says(recognizer, tmp_path):
    """Worked out from the list of readings: the third one is what the language model knows."""
    waves = [read_audio(FIXTURES / "inputs" / "clip_a.flac")]
    weight = 0.5 if recognizer.engine.has_ctc else 0.0
    ctc = {"decoding_ctc_weight": weight, "beam_size": 8}
    (listed,) = recognizer.recognize(waves, Search(nbest=8, **ctc))
    known = listed.nbest[2].tokens
    lm = LanguageModel(write_lm(tmp_path / "lm.arpa", [known]))
    search = Search(nbest=2, lm=lm, lm_weight=0.7, lm_nbest=8, penalty=0.0, **ctc)
    (chosen,) = recognizer.recognize(waves, search)
    sums = {tuple(r.ids): r.score + 0.7 * lm.score(r.tokens) for r in listed.nbest}
    order = sorted(sums, key=lambda ids: -sums[ids])
    assert [tuple(r.ids) for r in chosen.nbest] == order[:2]
    assert chosen.best.score == pytest.approx(sums[order[0]], abs=1e-4)
    assert len(chosen.nbest) == 2


def test_without_a_weight_nothing_changes(recognizer, tmp_path):
    waves = [read_audio(FIXTURES / "inputs" / f"clip_{name}.flac") for name in "ab"]
    lm = LanguageModel(write_lm(tmp_path / "lm.arpa", [["x", "y"]]))
    plain = recognizer.recognize(waves)
    scored = recognizer.recognize(waves, Search(lm=lm, lm_weight=0.0))
    assert [r.best.ids for r in plain] == [r.best.ids for r in scored]


def test_auto_model_takes_a_file(tmp_path):
    model = AutoModel(str(FIXTURES / "paraformer"), device="cpu")
    clip = str(FIXTURES / "inputs" / "clip_a.flac")
    listed = model.generate(clip, nbest=4)[0]["nbest"]
    lm = write_lm(tmp_path / "lm.arpa", [listed[3]["tokens"]])
    told = model.generate(clip, lm_file=str(lm), lm_weight=20.0, lm_nbest=4)[0]
    assert told["tokens"] == listed[3]["tokens"]
    assert model.generate(clip)[0]["tokens"] == listed[0]["tokens"]


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path):
    path = str(write_lm(tmp_path / "lm.arpa", [["a", "b"]]))
    first = shared_language_model(path)
    assert shared_language_model(path) is first
    assert shared_language_model("") is None
    write_lm(tmp_path / "lm.arpa", [["c"]])
    assert shared_language_model(path) is not first


def test_faults_are_one_line(tmp_path):
    (tmp_path / "text").write_text("no model\n")
    with pytest.raises(ConfigError, match="nowhere: no such file; bin/make_arpa.py makes one"):
        shared_language_model(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="text: no language model"):
        LanguageModel(tmp_path / "text")


def test_no_stream_is_scored_by_kenlm(tmp_path):
    model = AutoModel()
    lm = write_lm(tmp_path / "lm.arpa", [["a", "b"]])
    with pytest.raises(ConfigError, match="lm_file=.*: streams want what make_arpa"):
        model.generate("x.wav", lm_file=str(lm), chunk_size=[0, 10, 5])
