"""Dropout from a pool of masks behaves as torch's; feed-forward layers and their norms."""

from __future__ import annotations

import pytest
import torch

from paraformer.nn import layers
from paraformer.nn.layers import Dropout, FeedForward, NormedFeedForward, layer_norm


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_dropout_drops_its_share_and_scales_the_rest(rate):
    torch.manual_seed(0)
    out = Dropout(rate)(torch.ones(400, 500))
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 1 / (1 - rate)])
    assert float((out == 0).float().mean()) == pytest.approx(rate, abs=0.005)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)


def test_dropout_of_each_call_differs():
    dropout, x = Dropout(0.5), torch.ones(64, 64)
    agreement = (dropout(x) == dropout(x)).float().mean()
    assert float(agreement) == pytest.approx(0.5, abs=0.05)


def test_dropout_repeats_under_the_same_seed():
    dropout, x = Dropout(0.3), torch.ones(8, 9, 10)
    torch.manual_seed(7)
    first = [dropout(x), dropout(x)]
    torch.manual_seed(7)
    assert all(torch.equal(a, dropout(x)) for a in first)


def test_dropout_repeats_in_another_process(monkeypatch):
    """A run that is resumed has other pools behind it: what was cut before must not matter."""
    dropout = Dropout(0.3)
    small, large = torch.ones(5, 7), torch.ones(300, 400)
    monkeypatch.setattr(layers, "POOL_SIZE", 1 << 12)

    def cut(before):
        monkeypatch.setattr(layers, "_POOL", layers._MaskPool())
        for x in before:
            dropout(x)
        torch.manual_seed(7)
        return [dropout(small), dropout(large), dropout(small)]

    fresh, used = cut([]), cut([large, small])
    assert all(torch.equal(a, b) for a, b in zip(fresh, used, strict=True))


def test_dropout_passes_the_gradient_of_what_it_keeps():
    x = torch.ones(20, 20, requires_grad=True)
    out = Dropout(0.25)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, out.detach())


def test_dropout_larger_than_the_pool(monkeypatch):
    monkeypatch.setattr(layers, "POOL_SIZE", 64)
    monkeypatch.setattr(layers, "_POOL", layers._MaskPool())
    out = Dropout(0.5)(torch.ones(100, 100))
    assert float((out == 0).float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_type(dtype):
    assert Dropout(0.5)(torch.ones(4, dtype=dtype)).dtype == dtype


def test_dropout_is_the_identity_outside_training_and_at_rate_0():
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_of_nothing():
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_layer_norm_has_the_released_epsilon():
    x = torch.tensor([[1e-5, -1e-5]])
    torch.testing.assert_close(layer_norm(2)(x), torch.tensor([[0.995037, -0.995037]]))


def test_feed_forward_is_two_layers_and_an_activation():
    ours = FeedForward(4, 8, 0.1, torch.tanh).eval()
    x = torch.randn(2, 3, 4)
    expected = torch.tanh(x @ ours.w_1.weight.T + ours.w_1.bias) @ ours.w_2.weight.T
    torch.testing.assert_close(ours(x), expected + ours.w_2.bias)


def test_feed_forward_of_the_decoder_normalises_inside_and_has_one_bias():
    ours = NormedFeedForward(4, 8, 0.1).eval()
    x = torch.randn(2, 3, 4)
    hidden = torch.relu(x @ ours.w_1.weight.T + ours.w_1.bias)
    hidden = (hidden - hidden.mean(-1, keepdim=True)) / hidden.var(-1, False, keepdim=True).sqrt()
    torch.testing.assert_close(ours(x), hidden @ ours.w_2.weight.T)
    assert ours.w_2.bias is None
