"""The FSMN network: names and shapes of the release, the memory worked out by hand, chunks."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.errors import CheckpointError, ConfigError
from paraformer.models.fsmn_vad import (
    FsmnEncoder,
    FsmnVad,
    MemoryFilter,
    SilenceNetwork,
    VadOptions,
)
from paraformer.models.kinds import VAD
from paraformer.models.release import build, load_vad
from paraformer.models.weights import read_weights
from tests.conftest import ROOT, SHARED, needs_shared

MODEL = ROOT / "tests" / "fixtures" / "oracle" / "fsmn_vad"
TINY = {
    "input_dim": 12,
    "input_affine_dim": 5,
    "fsmn_layers": 3,
    "linear_dim": 7,
    "proj_dim": 4,
    "lorder": 6,
    "output_affine_dim": 5,
    "output_dim": 9,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FsmnVad(FsmnEncoder(**TINY)).eval()


@pytest.fixture
def directory(tmp_path):
    """A copy of the project's own VAD, to be spoilt."""
    return shutil.copytree(MODEL, tmp_path / "vad")


def change(directory, **values):
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def features(batch, frames, seed=0):
    return torch.randn(batch, frames, 12, generator=torch.Generator().manual_seed(seed))


def close(ours, expected, atol=1e-6):
    torch.testing.assert_close(ours, expected, atol=atol, rtol=0)


def test_names_and_shapes_are_those_of_the_release():
    """../shared/spec/vad.md, "Parameters"."""
    with torch.device("meta"):
        found = {k: tuple(v.shape) for k, v in FsmnVad(FsmnEncoder()).state_dict().items()}
    linear = {"in_linear1": (140, 400), "in_linear2": (250, 140)}
    linear |= {"out_linear1": (140, 250), "out_linear2": (248, 140)}
    expected = {f"encoder.{name}.linear.weight": shape for name, shape in linear.items()}
    expected |= {f"encoder.{name}.linear.bias": shape[:1] for name, shape in linear.items()}
    for layer in range(4):
        stem = f"encoder.fsmn.{layer}"
        expected |= {
            f"{stem}.linear.linear.weight": (128, 250),
            f"{stem}.fsmn_block.conv_left.weight": (128, 1, 20, 1),
            f"{stem}.affine.linear.weight": (250, 128),
            f"{stem}.affine.linear.bias": (250,),
        }
    assert found == expected


def test_the_memory_is_the_frame_and_a_sum_of_the_last_ones():
    """Taps of two channels, the last of which is the current frame; zeros before the start."""
    memory = MemoryFilter(2, 3)
    taps = torch.tensor([[1.0, 10.0, 100.0], [0.5, 0.0, -1.0]])
    memory.conv_left.weight.data = taps[:, None, :, None]
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]]])
    remembered, past = memory(torch.cat([torch.zeros(1, 2, 2), x], dim=2))
    expected = [
        [1 + 100, 2 + 200 + 10, 3 + 300 + 20 + 1, 4 + 400 + 30 + 2],
        [2 - 2, 4 - 4, 6 - 6 + 1, 8 - 8 + 2],
    ]
    assert remembered[0].tolist() == expected
    assert past[0].tolist() == [[3, 4], [6, 8]]


@pytest.mark.parametrize("classes", [[0], [3], [3, 1]])
def test_silence_alone_is_what_its_classes_have_of_all_posteriors(model, classes):
    for bias in (p for name, p in model.named_parameters() if name.endswith("bias")):
        bias.data.normal_()
    x = features(1, 30)
    expected = model(x)[0][:, classes].sum(-1)
    network = SilenceNetwork(model, classes)
    for sizes in ([30], [1, 0, 7, 22]):
        state, parts = network.initial_state, []
        for part in x[0].split(sizes):
            silence, state = network(part, state)
            parts.append(silence)
        torch.testing.assert_close(torch.cat(parts), expected)


def test_certain_speech_is_no_silence(model):
    """The exponential of the difference has no float."""
    model.encoder.out_linear2.linear.bias.data[1] = 200.0
    network = SilenceNetwork(model, [0])
    silence, _ = network(features(1, 5)[0], network.initial_state)
    assert silence.tolist() == [0.0] * 5


def test_layers_are_affine_maps_with_a_rectified_one_last(model):
    """The network once more, frame by frame, in plain products."""
    weights = {k.removeprefix("encoder."): v.double() for k, v in model.state_dict().items()}

    def affine(name, x):
        bias = weights.get(f"{name}.linear.bias", torch.zeros(1).double())
        return x @ weights[f"{name}.linear.weight"].T + bias

    x = features(1, 11)[0].double()
    h = affine("in_linear2", affine("in_linear1", x)).clamp(min=0)
    for layer in range(3):
        p = affine(f"fsmn.{layer}.linear", h)
        taps = weights[f"fsmn.{layer}.fsmn_block.conv_left.weight"][:, 0, :, 0]
        seen = [
            p[t] + sum(taps[:, 5 - back] * p[t - back] for back in range(6) if t >= back)
            for t in range(len(p))
        ]
        h = affine(f"fsmn.{layer}.affine", torch.stack(seen)).clamp(min=0)
    expected = affine("out_linear2", affine("out_linear1", h)).softmax(-1)
    close(model(x.float()[None])[0].double(), expected)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_chunks_of_any_sizes_equal_the_whole(sizes):
    torch.manual_seed(0)
    model = FsmnVad(FsmnEncoder(**TINY)).eval()
    x = features(2, sum(sizes))
    state, parts = model.initial_state(2), []
    for part in x.split(sizes, dim=1):
        posteriors, state = model.forward_chunk(part, state)
        parts.append(posteriors)
        assert state.memory.shape == (2, 3, 4, 5)
    close(torch.cat(parts, dim=1), model(x))


def test_no_output_depends_on_a_later_frame(model):
    x = features(1, 20).requires_grad_()
    model(x)[0, 9].sum().backward()
    changed = x.grad[0].abs().sum(1)
    assert not changed[10:].any()
    longer = features(1, 20)
    longer[:, 10:] = 0
    close(model(longer)[:, :10], model(features(1, 20))[:, :10])


def test_a_batch_is_each_alone(model):
    x = features(3, 15)
    close(model(x), torch.cat([model(row[None]) for row in x]))


def test_a_state_is_a_value(model):
    x = features(1, 20)
    _, state = model.forward_chunk(x[:, :8], model.initial_state())
    copy = pickle.loads(pickle.dumps(state))
    with torch.no_grad():
        first, _ = model.forward_chunk(x[:, 8:], state)
        again, _ = model.forward_chunk(x[:, 8:], copy)
    assert torch.equal(first, again)


def test_weights_of_the_directory_are_loaded_whole():
    release = load_vad(MODEL)
    stored = read_weights(MODEL / "model.pt")
    assert all(torch.equal(v, stored[k]) for k, v in release.model.state_dict().items())
    assert not release.model.training
    assert release.frontend.output_size == release.model.encoder.input_dim == 400
    assert release.options == VadOptions()


@pytest.mark.parametrize("wrap", [None, "state_dict", "model_state_dict", "model"])
def test_a_state_dict_may_be_wrapped(directory, wrap):
    state = read_weights(directory / "model.pt")
    torch.save({wrap: state} if wrap else state, directory / "model.pt")
    assert load_vad(directory).model.state_dict().keys() == state.keys()


@pytest.mark.parametrize("spoil", ["lacks", "holds unknown", "misshapes"])
def test_a_parameter_that_does_not_fit_is_named(directory, spoil):
    state = read_weights(directory / "model.pt")
    name = "encoder.fsmn.1.affine.linear.bias"
    value = state.pop(name)
    if spoil == "holds unknown":
        state |= {name: value, "encoder.more": value}
    elif spoil == "misshapes":
        state[name] = value[:-1]
    torch.save(state, directory / "model.pt")
    with pytest.raises(CheckpointError, match=rf"{spoil} 1 parameters \(encoder\."):
        load_vad(directory)


def test_options_may_stand_beside_model_conf():
    values_ = {"max_single_segment_time": 30000, "model_conf": {"max_end_silence_time": 500}}
    options = load_vad(MODEL, values_).options
    assert options == VadOptions(max_single_segment_time=30000, max_end_silence_time=500)


def test_keys_without_effect_are_silent_and_others_named(directory, caplog):
    conf = {"snr_mode": 0, "nn_eval_block_size": 8, "silence_pdf_num": 1, "frame_length_ms": 25}
    change(directory, model_conf=conf | {"max_silence": 3})
    load_vad(directory)
    assert [record.getMessage() for record in caplog.records] == [
        "config.yaml: model_conf.max_silence is not known and has no effect"
    ]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"model_conf": {"sil_pdf_ids": [0, 6]}}, r"sil_pdf_ids \[0, 6\]"),
        ({"model_conf": {"detect_mode": 7}}, "detect_mode=7"),
        ({"encoder_conf": {"rorder": 2}}, "rorder 2"),
    ],
)
def test_a_configuration_that_is_no_vad_is_refused(directory, values, what):
    change(directory, **values)
    with pytest.raises(ConfigError, match=what):
        load_vad(directory)


def test_another_model_is_no_vad():
    with pytest.raises(ConfigError, match="is a recogniser .Paraformer., not a VAD"):
        load_vad(MODEL.parent / "paraformer")


def test_a_model_may_be_built_without_weights():
    config = {"model": "FsmnVADStreaming", "encoder_conf": TINY, "frontend_conf": {"lfr_m": 5}}
    release = build(config, VAD)
    assert release.model.encoder.input_dim == 400  # as wide as the front end's features
    assert release.model(torch.zeros(1, 3, 400)).shape == (1, 3, 9)


@needs_shared
def test_the_released_directory_loads():
    release = load_vad(SHARED / "models" / "fsmn-vad")
    assert release.options == VadOptions()
    assert sum(p.numel() for p in release.model.parameters()) == 428_738
