"""Aligners and BiCif models: built, saved, loaded; what has no times is refused."""

from __future__ import annotations

import json

import pytest
import torch

from paraformer.errors import CheckpointError, ConfigError
from paraformer.models import kinds
from paraformer.models.bicif import BiCifParaformer
from paraformer.models.release import (
    build,
    build_any,
    load_aligner,
    load_directory,
    merge,
    save_directory,
)
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
V3 = {
    "predictor": "CifPredictorV3",
    "predictor_conf": {"upsample_times": 3, "upsample_type": "cnn_blstm", "use_cif1_cnn": False},
}
BICIF = merge(tiny.CONFIG, {"model": "BiCifParaformer", **V3})
ALIGNER = merge(tiny.CONFIG, {"model": "MonotonicAligner", **V3})


def test_a_bicif_model_is_a_paraformer_with_times():
    model = build(BICIF).model.eval()
    assert isinstance(model, BiCifParaformer)
    assert model.times_tokens
    with torch.no_grad():
        memory, lengths = model.encode(torch.randn(2, 9, 56), torch.tensor([9, 5]))
        timeline = model.timeline(memory, lengths, torch.tensor([4, 2]))
    assert timeline.weights.shape == timeline.peaks.shape == (2, 27)
    assert timeline.lengths.tolist() == [27, 15]
    torch.testing.assert_close(timeline.weights.sum(1), torch.tensor([4.0, 2.0]).double())


@torch.no_grad()
def test_the_end_of_the_text_fires_too():
    """predictor_bias 1: as many tokens as the text has, and the end symbol behind."""
    model = build_any(ALIGNER).model.eval()
    timeline = model(torch.randn(2, 9, 56), torch.tensor([9, 5]), torch.tensor([3, 1]))
    torch.testing.assert_close(timeline.weights.sum(1), torch.tensor([4.0, 2.0]).double())


@pytest.mark.parametrize(
    ("kind", "load"), [("bicif", load_directory), ("fa-zh", load_aligner)], ids=["bicif", "fa-zh"]
)
def test_saved_and_loaded_is_the_same(kind, load, tmp_path):
    release = load(ORACLE / kind)
    folder = save_directory(tmp_path / "model", release)
    again = load(folder)
    assert tiny.equal(dict(again.model.state_dict()), dict(release.model.state_dict()))
    assert again.config["model"] == release.config["model"]
    listing = json.loads((folder / "configuration.json").read_text("utf8"))
    timing = listing["task"] == "speech-timestamp"
    assert timing == (kind == "fa-zh")


def test_weights_must_be_all_there(tmp_path):
    folder = save_directory(tmp_path / "model", load_aligner(ORACLE / "fa-zh"))
    state = torch.load(folder / "model.pt", weights_only=True)["state_dict"]
    del state["predictor.blstm.weight_hh_l0_reverse"]
    torch.save(state, folder / "model.pt")
    with pytest.raises(CheckpointError, match="lacks 1 parameters .predictor.blstm.weight_hh_l0_r"):
        load_aligner(folder)


@pytest.mark.parametrize(
    ("make", "config", "message"),
    [
        (
            lambda config: build(config, kinds.ALIGNER),
            tiny.CONFIG,
            "is a recogniser .Paraformer., not a forced aligner",
        ),
        (
            build_any,
            merge(tiny.CONFIG, {"model": "MonotonicAligner"}),
            "predictor CifPredictorV2 gives no times, which MonotonicAligner needs",
        ),
        (
            build,
            merge(tiny.CONFIG, {"model": "BiCifParaformer"}),
            "predictor CifPredictorV2 gives no times, which BiCifParaformer needs",
        ),
        (build, ALIGNER, "is a forced aligner .MonotonicAligner., not a recogniser"),
        (
            build,
            merge(BICIF, {"predictor_conf": {"upsample_times": 0}}),
            "predictor_conf.upsample_times=0: give a whole number from 1 to 100",
        ),
    ],
)
def test_configurations_without_times(make, config, message):
    with pytest.raises(ConfigError, match=message):
        make(config)
