"""Each loss equals its definition, and padding changes none of them."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer.models.paraformer import CtcHead
from paraformer.train.losses import Weights, ctc_losses, label_smoothed_sum, paraformer_losses
from tests import tiny

VOCAB = len(tiny.TOKENS)


@pytest.fixture
def model():
    built = tiny.release().model
    built.ctc = CtcHead(16, VOCAB)
    return built.eval()


@pytest.fixture
def batch():
    """Features of 3 utterances with garbage in the padding, and their text."""
    torch.manual_seed(1)
    lengths, text_lengths = torch.tensor([20, 7, 13]), torch.tensor([5, 1, 3])
    text = torch.randint(3, VOCAB, (3, 6))
    text = text.masked_fill(torch.arange(6) >= text_lengths[:, None], -1)
    return torch.randn(3, 20, 56), lengths, text, text_lengths


def losses(model, weights, feats, lengths, text, text_lengths):
    return paraformer_losses(model, weights, model.encode(feats, lengths), text, text_lengths)


def alone(batch):
    feats, lengths, text, text_lengths = batch
    for i, (t, u) in enumerate(zip(lengths.tolist(), text_lengths.tolist(), strict=True)):
        one = slice(i, i + 1)
        yield feats[one, :t], lengths[one], text[one, :u], text_lengths[one]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_the_divergence_from_smoothed_targets(smoothing):
    logits, targets = torch.randn(2, 3, 5), torch.tensor([[1, 4, 0], [2, -1, -1]])
    expected = 0.0
    for row, target in zip(logits.flatten(0, 1), targets.flatten().tolist(), strict=True):
        if target < 0:
            continue
        q = torch.full((5,), smoothing / 4)
        q[target] = 1 - smoothing
        expected += float(torch.nn.functional.kl_div(row.log_softmax(-1), q, reduction="sum"))
    ours = label_smoothed_sum(logits, targets, smoothing, -1)
    assert float(ours) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_of_a_perfect_model_is_zero():
    q = torch.tensor([0.9, 0.05, 0.05])
    assert float(label_smoothed_sum(q.log()[None, None], torch.tensor([[0]]), 0.1, -1)) < 1e-6


def test_label_smoothing_in_half_precision_is_summed_in_single():
    logits = torch.randn(1, 400, 30).bfloat16()
    targets = torch.randint(0, 30, (1, 400))
    half = label_smoothed_sum(logits, targets, 0.1, -1)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, label_smoothed_sum(logits.float(), targets, 0.1, -1))


def test_ctc_of_one_frame_and_one_token():
    logp = torch.tensor([[[0.2, 0.5, 0.3]]]).log()
    ours = ctc_losses(logp, torch.tensor([1]), torch.tensor([[1]]), torch.tensor([1]), 0)
    assert ours.tolist() == pytest.approx([-math.log(0.5)])


def test_ctc_of_a_text_that_does_not_fit_is_zero_without_gradient():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    text, sizes = torch.tensor([[1, 2, 3, 4], [1, -1, -1, -1]]), torch.tensor([4, 1])
    each = ctc_losses(logits.log_softmax(-1), torch.tensor([3, 3]), text, sizes, 0)
    each.sum().backward()
    assert each[0] == 0
    assert each[1] > 0
    assert logits.grad[0].abs().sum() == 0


@pytest.mark.parametrize("normalized", [True, False])
def test_the_total_is_the_weighted_sum_of_its_parts(model, batch, normalized):
    weights = Weights(0.3, 0.1, normalized, 0.7)
    result = losses(model, weights, *batch)
    parts = result.stats
    total = 0.3 * parts["loss_ctc"] + 0.7 * parts["loss_att"] + 0.7 * parts["loss_pre"]
    torch.testing.assert_close(result.loss, total)
    torch.testing.assert_close(parts["loss"], total)
    tokens = int(batch[3].sum()) + 3  # with an end symbol each
    assert result.weight == (tokens if normalized else 3)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_loss_of_a_batch_is_the_weighted_mean_of_each_alone(model, batch, normalized):
    model.sampling_ratio = 0.0
    weights = Weights(0.3, 0.1, normalized, 0.7)
    together = losses(model, weights, *batch)
    together.loss.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    single = [losses(model, weights, *one) for one in alone(batch)]
    assert together.weight == sum(s.weight for s in single)
    for name in ("loss", "loss_att", "loss_pre", "loss_ctc"):
        mean = sum(float(s.stats[name]) * s.weight for s in single) / together.weight
        assert float(together.stats[name]) == pytest.approx(mean, rel=1e-5), name
    sum(s.loss * (s.weight / together.weight) for s in single).backward()
    for ours, theirs in zip(
        gradients, [p.grad for p in model.parameters() if p.grad is not None], strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-3)


def test_what_stands_in_the_padding_does_not_matter(model, batch):
    model.sampling_ratio = 0.0
    feats, lengths, text, text_lengths = batch
    weights = Weights(0.3, 0.1, True, 1.0)
    first = losses(model, weights, *batch)
    noise = torch.where((torch.arange(20) < lengths[:, None])[..., None], feats, 99.0)
    wider = torch.nn.functional.pad(noise, (0, 0, 0, 9), value=-7.0)
    longer = torch.nn.functional.pad(text, (0, 4), value=-1)
    second = losses(model, weights, wider, lengths, longer, text_lengths)
    torch.testing.assert_close(first.loss, second.loss)


def test_the_count_error_has_a_gradient_to_the_unscaled_weights(model, batch):
    losses(model, Weights(0.0, 0.0, True, 1.0), *batch).loss.backward()
    assert model.predictor.cif_output.bias.grad.abs() > 0


def test_accuracy_is_that_of_the_first_guess(model, batch):
    """A model that always says the end symbol is right once an utterance."""
    with torch.no_grad():
        model.decoder.output_layer.weight.zero_()
        model.decoder.output_layer.bias.zero_()[model.eos] = 9.0
    result = losses(model, Weights(), *batch)
    assert float(result.stats["acc"]) == pytest.approx(3 / (int(batch[3].sum()) + 3))
