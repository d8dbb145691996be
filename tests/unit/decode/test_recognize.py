"""Recognition of many utterances: as the reference, and each as if it were alone."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from paraformer.data.audio.read import read_audio
from paraformer.decode.pool import Batching, Done
from paraformer.decode.recognize import Recognition, Recognizer, Search, feats_job
from paraformer.errors import AudioError, CheckpointError, ConfigError
from paraformer.models.release import load_directory
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
MODELS = ["paraformer", "conformer", "transformer_conv2d"]
CLIPS = ["clip_a", "clip_b", "clip_c"]


def facts(kind):
    path = FIXTURES / "oracle" / kind / "expected.json"
    return json.loads(path.read_text(encoding="utf-8"))


def clips():
    return [read_audio(FIXTURES / "oracle" / "inputs" / f"{name}.flac") for name in CLIPS]


@pytest.fixture(scope="module", params=MODELS)
def recognizer(request):
    return Recognizer(load_directory(FIXTURES / "oracle" / request.param))


@pytest.fixture(scope="module")
def paraformer():
    return Recognizer(load_directory(FIXTURES / "oracle" / "paraformer"))


@pytest.fixture(scope="module")
def conformer():
    return Recognizer(load_directory(FIXTURES / "oracle" / "conformer"))


@pytest.mark.parametrize("kind", ["paraformer", "conformer"])
def test_texts_are_those_of_the_reference(kind):
    ours = Recognizer(load_directory(FIXTURES / "oracle" / kind)).recognize(clips())
    expected = [facts(kind)["utt"][name] for name in CLIPS]
    assert [r.best.tokens for r in ours] == [e["tokens"] for e in expected]
    assert [r.best.text for r in ours] == [e["result"][0]["text"] for e in expected]
    assert [r.best.tight for r in ours] == [r.best.text for r in ours]


def random_clips(count=16, seed=8):
    """K08: pieces of speech of 0.5 to 12 s."""
    generator = np.random.default_rng(seed)
    speech = torch.cat(clips() * 6)
    waves = []
    for seconds in generator.uniform(0.5, 12.0, count):
        length = int(seconds * 16000)
        start = int(generator.integers(0, len(speech) - length))
        waves.append(speech[start : start + length])
    return waves


def ids(outcomes):
    return [outcome.best.ids for outcome in outcomes]


def test_a_batch_gives_what_each_alone_gives(recognizer):
    waves = random_clips()
    alone = [ids(recognizer.recognize([wave]))[0] for wave in waves]
    assert len({tuple(row) for row in alone}) == len(waves)
    for batching in (Batching(1), Batching(16, 1e4), Batching(64, 20.0), Batching(3)):
        assert ids(recognizer.recognize(waves, batching=batching)) == alone
    shuffled = np.random.default_rng(1).permutation(len(waves)).tolist()
    mixed = ids(recognizer.recognize([waves[i] for i in shuffled]))
    assert mixed == [alone[i] for i in shuffled]


def test_too_short_audio_is_an_empty_text_and_harms_no_other(recognizer):
    wave = clips()[0]
    short = [torch.zeros(n) for n in (0, 1, 2, 10, 160, 400, 1200)]
    alone = recognizer.recognize([wave])[0]
    outcomes = recognizer.recognize([*short, wave, *short])
    assert outcomes[7].best.ids == alone.best.ids
    assert all(isinstance(o, Recognition) for o in outcomes)
    assert [outcomes[0].best.text, outcomes[0].best.confidence] == ["", 0.0]
    assert len(outcomes) == 15
    for one in short:
        assert isinstance(recognizer.recognize([one])[0], Recognition)


def test_a_failed_utterance_keeps_its_place(paraformer):
    jobs = [feats_job(n, paraformer.release.frontend(wave)) for n, wave in enumerate(clips())]
    jobs[1] = Done(1, AudioError("lost"))
    found = list(paraformer.stream(jobs))
    assert [type(done.outcome) for done in found] == [Recognition, AudioError, Recognition]
    assert [done.payload for done in found] == [0, 1, 2]


def test_a_stream_is_decoded_as_it_comes(paraformer):
    taken = []

    def source():
        for wave in clips() * 10:
            taken.append(1)
            yield feats_job(None, paraformer.release.frontend(wave))

    results = paraformer.stream(source(), batching=Batching(1, 1.0))
    next(results)
    assert len(taken) < 30
    assert len(list(results)) == 29


def test_beam_search_is_that_of_the_reference(conformer):
    expected = facts("conformer")["beam"]
    settings = expected["settings"]
    outcomes = conformer.recognize(clips(), Search(**settings))
    for outcome, results in zip(outcomes, expected["results"], strict=False):
        assert [r.text for r in outcome.nbest] == [r["text"] for r in results]


def test_options_hold_for_one_call(conformer):
    before = ids(conformer.recognize(clips()))
    conformer.recognize(clips(), Search(nbest=3, decoding_ctc_weight=0.4, beam_size=5))
    assert ids(conformer.recognize(clips())) == before


def test_nbest_is_ranked_and_opens_with_the_best(paraformer):
    single = paraformer.recognize(clips())
    several = paraformer.recognize(clips(), Search(nbest=4))
    for one, many in zip(single, several, strict=True):
        assert many.best.ids == one.best.ids
        scores = [r.score for r in many.nbest]
        assert len(many.nbest) == 4 and all(a >= b for a, b in pairwise(scores))


def test_a_ctc_weight_without_a_ctc_head_is_refused(paraformer):
    with pytest.raises(ConfigError, match="no CTC head"):
        paraformer.recognize(clips(), Search(decoding_ctc_weight=0.3))


@pytest.mark.parametrize("options", [{"nbest": 0}, {"beam_size": 0}])
def test_impossible_searches_are_refused(options):
    with pytest.raises(ConfigError, match="from 1 to 10000"):
        Search(**options)


def test_confidences_are_probabilities(paraformer):
    for outcome in paraformer.recognize(clips()):
        best = outcome.best
        assert len(best.confidences) == len(best.tokens) == len(best.ids)
        assert all(0.0 < c <= 1.0 for c in best.confidences)
        assert best.confidence == pytest.approx(np.mean(best.confidences))


def test_output_that_is_not_finite_is_an_error_not_a_text():
    release = load_directory(FIXTURES / "oracle" / "paraformer")
    recognizer = Recognizer(release)
    with torch.no_grad():
        release.model.decoder.output_layer.bias[3] = float("nan")
    outcomes = recognizer.recognize(clips())
    assert all(isinstance(o, CheckpointError) and "not finite" in str(o) for o in outcomes)
    with torch.no_grad():
        release.model.encoder.after_norm.weight[0] = float("nan")
    assert all(isinstance(o, CheckpointError) for o in recognizer.recognize(clips()))


def test_a_batch_too_large_for_memory_is_halved(paraformer, monkeypatch):
    expected = ids(paraformer.recognize(clips()))
    engine = type(paraformer.engine)
    listen = engine._listen

    def small(self, feats, asked):
        if len(feats) > 1:
            raise torch.OutOfMemoryError("no room")
        return listen(self, feats, asked)

    monkeypatch.setattr(engine, "_listen", small)
    assert ids(paraformer.recognize(clips())) == expected

    def none(self, feats, asked):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(engine, "_listen", none)
    assert all("memory" in str(o) for o in paraformer.recognize(clips()))


def test_a_search_without_memory_for_a_batch_is_halved(paraformer, monkeypatch):
    expected = ids(paraformer.recognize(clips()))
    search = Recognizer._search

    def small(self, heard, *rest):
        if len(heard.logp) > 1:
            raise torch.OutOfMemoryError("no room")
        return search(self, heard, *rest)

    monkeypatch.setattr(Recognizer, "_search", small)
    assert len(clips()) > 1 and ids(paraformer.recognize(clips())) == expected


def test_bfloat16_counts_the_same_tokens(paraformer):
    half = Recognizer(paraformer.release, dtype=torch.bfloat16)
    pairs = zip(ids(half.recognize(clips())), ids(paraformer.recognize(clips())), strict=True)
    assert all(abs(len(a) - len(b)) <= 1 for a, b in pairs)
