"""CAM++: names and shapes of the release, what its layers hear, and the directory around them."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from paraformer.errors import CheckpointError, ConfigError
from paraformer.models.campplus import CamLayer, StatsPool
from paraformer.models.kinds import SPEAKER
from paraformer.models.release import build, load_speakers, merge, save_directory
from tests import tiny

RELEASED = {"embedding_size": 192, "growth_rate": 32, "bn_size": 4, "init_channels": 128}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_names_and_shapes_of_the_release():
    """7 M parameters; the names are those of campplus_cn_common.bin."""
    model = build(merge(tiny.SPEAKER_CONFIG, {"model_conf": RELEASED}), SPEAKER).model
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    expected = {
        "head.conv1.weight": (32, 1, 3, 3),
        "head.layer1.0.shortcut.0.weight": (32, 32, 1, 1),
        "head.layer2.1.conv2.weight": (32, 32, 3, 3),
        "head.conv2.weight": (32, 32, 3, 3),
        "xvector.tdnn.linear.weight": (128, 320, 5),
        "xvector.tdnn.nonlinear.batchnorm.weight": (128,),
        "xvector.block1.tdnnd12.nonlinear1.batchnorm.weight": (128 + 11 * 32,),
        "xvector.block2.tdnnd24.linear1.weight": (128, 256 + 23 * 32, 1),
        "xvector.block3.tdnnd16.cam_layer.linear_local.weight": (32, 128, 3),
        "xvector.block1.tdnnd1.cam_layer.linear1.weight": (64, 128, 1),
        "xvector.block1.tdnnd1.cam_layer.linear1.bias": (64,),
        "xvector.block1.tdnnd1.cam_layer.linear2.weight": (32, 64, 1),
        "xvector.transit1.linear.weight": (256, 512, 1),
        "xvector.transit2.linear.weight": (512, 1024, 1),
        "xvector.transit3.linear.weight": (512, 1024, 1),
        "xvector.out_nonlinear.batchnorm.bias": (512,),
        "xvector.dense.linear.weight": (192, 1024, 1),
        "xvector.dense.nonlinear.batchnorm.running_var": (192,),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert {f"head.layer1.0.shortcut.1.{part}" for part in NORM} <= set(shapes)
    dense = {name for name in shapes if name.startswith("xvector.dense.nonlinear")}
    assert {name.rpartition(".")[2] for name in dense} == set(NORM[2:])
    # head 4, then (C1 + 3 + 3 shortcuts...): counted by hand from the table of the release
    layers = 12 + 24 + 16
    assert len(shapes) == 6 * 2 + 4 * 12 + 2 * 6 + 6 + layers * 16 + 3 * 6 + 5 + 4
    assert 6.5e6 < sum(p.numel() for p in model.parameters()) < 7.5e6


def test_a_layer_weighs_by_the_means_of_whole_and_pieces():
    """Written out frame by frame, as the paper has it; the last piece is short."""
    torch.manual_seed(0)
    layer, x = CamLayer(8, 4, 2), torch.randn(2, 8, 250)
    expected = torch.zeros(2, 4, 250)
    local = F.conv1d(x, layer.linear_local.weight, padding=2, dilation=2)
    for t in range(250):
        piece = x[..., t // 100 * 100 : t // 100 * 100 + 100].mean(-1)
        context = (x.mean(-1) + piece)[..., None]
        weight = torch.sigmoid(layer.linear2(torch.relu(layer.linear1(context))))
        expected[..., t] = local[..., t] * weight[..., 0]
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)


def test_statistics_are_mean_and_unbiased_deviation():
    found = StatsPool()(torch.tensor([[[1.0, 3.0]]]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 2.0**0.5]]))


@pytest.mark.parametrize("frames", [3, 4, 99, 200, 201, 420])
@torch.no_grad()
def test_any_number_of_frames_has_an_embedding(frames):
    found = tiny.voices().model(torch.randn(2, frames, 80))
    assert found.shape == (2, 24)
    assert found.isfinite().all()


def test_a_folded_head_hears_the_same_and_the_model_stays():
    torch.manual_seed(0)
    model = build(tiny.SPEAKER_CONFIG, SPEAKER).model.eval()
    for norm in (m for m in model.modules() if hasattr(m, "running_var")):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    before = tuple(model.state_dict())
    x = torch.randn(3, 40, model.feat_dim)
    with torch.inference_mode():
        torch.testing.assert_close(model.folded()(x), model(x), atol=1e-6, rtol=1e-5)
    assert tuple(model.state_dict()) == before
    folded = model.folded()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.head.modules())
    assert folded.xvector is model.xvector


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_saved_and_loaded_is_the_same(dtype, tmp_path):
    release = tiny.voices()
    again = load_speakers(save_directory(tmp_path / "a", release, dtype=dtype))
    for name, value in release.model.state_dict().items():
        kept = value if dtype is None or not value.is_floating_point() else value.to(dtype).float()
        assert torch.equal(again.model.state_dict()[name], kept)
    frontend = again.frontend
    assert (frontend.window, frontend.upscale_samples, frontend.cmvn) == ("povey", False, None)
    assert not again.model.training
    listing = json.loads((tmp_path / "a/configuration.json").read_text("utf-8"))
    assert listing["task"] == "speaker-verification"


def test_the_released_layout_and_its_faults(tmp_path):
    folder = save_directory(tmp_path / "a", tiny.voices())
    state = torch.load(folder / "model.pt")["state_dict"]
    (folder / "model.pt").unlink()
    metas = {"init_param": "campplus_cn_common.bin", "config": "config.yaml"}
    (folder / "configuration.json").write_text(json.dumps({"file_path_metas": metas}))
    torch.save(state, folder / "campplus_cn_common.bin")  # bare, as released
    assert load_speakers(folder).model.embedding_size == 24
    del state["xvector.dense.linear.weight"]
    torch.save(state, folder / "campplus_cn_common.bin")
    with pytest.raises(CheckpointError, match="lacks 1 parameters .xvector.dense.linear.weight"):
        load_speakers(folder)


def test_another_width_of_features_is_one_line():
    with pytest.raises(ConfigError, match="feat_dim=80: the front end gives 40 features"):
        build(merge(tiny.SPEAKER_CONFIG, {"frontend_conf": {"n_mels": 40}}), SPEAKER)
