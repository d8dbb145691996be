"""ContextualParaformer (CLAS) equals the reference with and without hotwords, in a padded batch.

tests/fixtures/make_contextual.py made the fixture; PARAFORMER_ORACLES may list others of its kind.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from paraformer.backends.packed import for_inference
from paraformer.decode.hotwords import read_hotwords, remember
from paraformer.decode.search import greedy_search
from paraformer.models.release import load_directory
from tests.parity.oracle import FIXTURES, Oracle, close, load_arrays, pad

CASES = ("none", "few", "scaled", "many")


def folders():
    listed = map(Path, filter(None, os.environ.get("PARAFORMER_ORACLES", "").split(os.pathsep)))
    others = [path for path in listed if facts_of(path).get("kind") == "contextual"]
    return [FIXTURES / "oracle" / "contextual", *others]


def facts_of(path):
    return json.loads((path / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=folders(), ids=lambda path: path.name)
def oracle(request):
    arrays, facts = load_arrays(request.param), facts_of(request.param)
    return Oracle(load_directory(request.param), arrays, facts, FIXTURES)


@torch.no_grad()
def decode(oracle, feats, case):
    """Memory of the hotwords, and log-probabilities of the batch with their lengths."""
    model = for_inference(oracle.release.model, torch.device("cpu"))
    fact = oracle.facts["hotword"][case]
    hotwords = remember(model, read_hotwords(fact["hotword"], oracle.release.tokenizer))
    memory, lengths = model.encode(*pad(feats))
    heard = model.predict(memory, lengths)
    counts = heard.token_lengths
    logp = model.decode(heard.embeds, counts, memory, lengths, hotwords, **fact["options"])
    return hotwords or model.remember([]), logp, counts


def test_parameters_have_the_released_names_and_shapes(oracle):
    ours = {name: list(v.shape) for name, v in oracle.release.model.state_dict().items()}
    assert ours == oracle.facts["parameters"]


@pytest.mark.parametrize("case", CASES)
def test_hotwords_and_posteriors(oracle, case):
    hotwords, logp, counts = decode(oracle, oracle.feats(), case)
    close(hotwords.embeds, oracle.arrays[f"hotword/{case}/embeds"], 1e-5)
    close(logp[0, : int(counts[0])], oracle.arrays[f"hotword/{case}/logp"], 1e-3)


@pytest.mark.parametrize("case", CASES)
def test_texts(oracle, case):
    _, logp, counts = decode(oracle, oracle.feats(), case)
    readings = greedy_search(logp, counts)
    theirs = oracle.facts["hotword"][case]["texts"]
    assert oracle.texts([reading.ids for reading in readings]) == theirs


def test_each_alone(oracle):
    for row, feats in enumerate(oracle.feats()):
        _, logp, counts = decode(oracle, [feats], "many")
        (reading,) = greedy_search(logp, counts)
        assert oracle.texts([reading.ids]) == [oracle.facts["hotword"]["many"]["texts"][row]]
