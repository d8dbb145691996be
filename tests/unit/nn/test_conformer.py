"""A batch of conformer input is each utterance alone, in all variants; short input is no error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paraformer.errors import ConfigError
from paraformer.nn.conformer import ConformerEncoder, FrameBatchNorm
from paraformer.nn.mask import length_mask

BINS, WIDTH = 20, 16
VARIANTS = [
    {"rel_pos_type": "legacy"},
    {"rel_pos_type": "latest"},
    {"pos_enc_layer_type": "abs_pos"},
    {"macaron_style": False},
    {"use_cnn_module": False},
    {"input_layer": "conv2d8"},
    {"input_layer": "linear"},
]


def tiny(**options):
    torch.manual_seed(0)
    settings = {"macaron_style": True, "cnn_module_kernel": 5, "dropout_rate": 0.0}
    settings |= {"positional_dropout_rate": 0.0, **options}
    model = ConformerEncoder(BINS, WIDTH, 2, 24, 2, **settings)
    for name, value in model.named_buffers():
        if "running" in name:
            value.add_(torch.rand_like(value))
    return model


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: "-".join(map(str, o.values())))
@torch.no_grad()
def test_a_batch_gives_what_each_alone_gives(options):
    model = tiny(**options).eval()
    lengths = torch.tensor([50, 7, 31, 44, 6, 0])
    x = torch.randn(6, 50, BINS)  # padding is noise, not zeros
    out, out_lengths = model(x, lengths)
    for row, count in enumerate(lengths.tolist()):
        alone, kept = model(x[row : row + 1, :count], lengths[row : row + 1])
        assert out_lengths[row] == kept
        torch.testing.assert_close(out[row, :kept], alone[0, :kept], atol=1e-5, rtol=1e-5)


def test_padding_does_not_change_a_training_step():
    """Neither gradients nor the statistics of batch normalisation, dropout being off.

    In float64: the bias before a batch normalisation has no gradient but rounding.
    """
    results = []
    for padding in (0, 13):
        model = tiny().train().double()
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(2, 40, BINS, generator=generator).double()
        x = torch.cat((x, x.new_full((2, padding, BINS), 3.0)), dim=1)
        out, lengths = model(x, torch.tensor([40, 23]))
        out[length_mask(lengths, out.size(1))].pow(3).sum().backward()
        statistics = [b for n, b in model.named_buffers() if "running" in n]
        results.append([*statistics, *(p.grad for p in model.parameters())])
    for without, with_padding in zip(*results, strict=True):
        torch.testing.assert_close(without, with_padding, atol=1e-10, rtol=1e-5)


@pytest.mark.parametrize("frames", [0, 1, 6])
def test_fewer_than_seven_frames_give_no_output(frames):
    model = tiny()
    out, lengths = model(torch.randn(1, frames, BINS), torch.tensor([frames]))
    assert lengths.tolist() == [0]
    assert out.shape == (1, 1, WIDTH)
    assert out.isfinite().all()


def test_batch_norm_counts_real_frames_only():
    ours, theirs = FrameBatchNorm(3), nn.BatchNorm1d(3)
    lengths = torch.tensor([4, 2])
    frames = length_mask(lengths, 4)
    x = torch.randn(2, 4, 3)
    expected = theirs(torch.cat((x[0], x[1, :2])))
    torch.testing.assert_close(ours(x, frames)[frames], expected)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_batch_norm_of_a_single_frame_uses_what_it_knows():
    norm = FrameBatchNorm(3).train()
    x = torch.randn(1, 2, 3)
    torch.testing.assert_close(norm(x, torch.tensor([[True, False]])), norm.eval()(x, None))
    assert norm.num_batches_tracked == 0


def test_taps_are_the_outputs_of_the_layers():
    model = tiny().eval()
    x, lengths = torch.randn(1, 30, BINS), torch.tensor([30])
    out, _, (last,) = model.forward_with_taps(x, lengths, taps=(2,))
    torch.testing.assert_close(model.after_norm(last), out)


@pytest.mark.parametrize(
    "options",
    [
        {"activation_type": "sine"},
        {"rel_pos_type": "newest"},
        {"pos_enc_layer_type": "none"},
        {"input_layer": "conv3d"},
    ],
)
def test_an_unknown_option_names_the_known_ones(options):
    (key,) = options
    with pytest.raises(ConfigError, match=rf"encoder_conf\.{key}: .* known: "):
        tiny(**options)
