"""Integrate-and-fire: a target gets all its tokens, and the products equal the paper's loop."""

from __future__ import annotations

import pytest
import torch

from paraformer.nn.cif import (
    TOKENS,
    CifPredictor,
    fire_peaks,
    integrate,
    running_sum,
    scaled_running_sum,
)

WIDTH = 6


def by_loop(weights, hidden, count):
    """The first `count` tokens of one utterance, weights (T,), hidden (T, D), as the paper says:
    frames are added until their weights reach 1; what a frame has left goes to the next token.
    """
    tokens, held = [], 0.0
    token = torch.zeros_like(hidden[0])
    for weight, frame in zip(weights, hidden, strict=True):
        while held + weight >= 1.0:
            part = 1.0 - held
            tokens.append(token + part * frame)
            weight, held, token = weight - part, 0.0, torch.zeros_like(frame)
        held, token = held + weight, token + weight * frame
    tokens.append(token)  # rounding may leave the last token a hair short
    return torch.stack(tokens[:count])


def teach(weights, hidden, counts):
    return integrate(scaled_running_sum(weights, counts), hidden, int(counts.max()))


def whole(weights, counts):
    """The integral of constant frames of 1: exactly 1 for a token that fired."""
    frames = torch.ones(*weights.shape, 1)
    return teach(weights, frames, counts)[..., 0]


@pytest.mark.parametrize("seed", range(100))
def test_every_target_gets_all_its_tokens(seed):
    """The reference's rounding loses the last token of four utterances in ten."""
    generator = torch.Generator().manual_seed(seed)
    frames = int(torch.randint(1, 400, (), generator=generator))
    weights = torch.rand(16, frames, generator=generator) ** (1 + seed % 4)
    weights = weights.clamp(min=1e-6)
    counts = torch.randint(1, 60, (16,), generator=generator)
    sums = scaled_running_sum(weights, counts)
    assert sums[:, -1].tolist() == counts.tolist()
    assert (sums.diff(dim=1) >= 0).all()
    tokens = whole(weights, counts)
    for row, count in enumerate(counts.tolist()):
        torch.testing.assert_close(tokens[row, :count], torch.ones(count), atol=1e-5, rtol=0)
        assert tokens[row, count:].sum() == 0


@pytest.mark.parametrize(
    "weights",
    [
        torch.full((30,), 0.1),
        torch.full((300,), 1 / 3),
        torch.full((7,), 1e-10),
        torch.tensor([1.0] + [0.0] * 20),
        torch.tensor([0.0] * 20 + [1.0]),
        torch.tensor([1e-8, 1.0, 1e8, 1e-8]),
        torch.cat((torch.full((50,), 0.3), torch.zeros(50))),
        torch.linspace(0, 1, 101),
    ],
    ids=["tenths", "thirds", "tiny", "first", "last", "unequal", "padded", "ramp"],
)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 29])
def test_every_target_gets_all_its_tokens_in_hard_cases(weights, count):
    tokens = whole(weights[None], torch.tensor([count]))[0]
    torch.testing.assert_close(tokens, torch.ones(count), atol=1e-5, rtol=0)


def test_no_weight_at_all_gives_zeros_and_finite_gradients():
    weights = torch.zeros(1, 5, requires_grad=True)
    hidden = torch.randn(1, 5, WIDTH, requires_grad=True)
    tokens = teach(weights, hidden, torch.tensor([2]))
    tokens.sum().backward()
    assert tokens.abs().sum() == 0
    assert weights.grad.isfinite().all()
    assert hidden.grad.isfinite().all()


def test_a_silent_predictor_gives_finite_outputs_and_gradients():
    predictor = CifPredictor(WIDTH, noise_threshold=1.0).eval()
    taught = predictor.forward_to(torch.randn(1, 5, WIDTH), torch.tensor([5]), torch.tensor([4]))
    taught.embeds.sum().backward()
    assert all(x.isfinite().all() for x in taught)
    assert all(p.grad.isfinite().all() for p in predictor.parameters() if p.grad is not None)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("per_frame", [0.25, 0.9, 2.5])
def test_values_and_gradients_equal_the_loop(seed, per_frame):
    """From sparse tokens to more tokens than frames, where weights are above 1."""
    generator = torch.Generator().manual_seed(seed)
    frames, size = 24, int(24 * per_frame)
    weights = torch.rand(3, frames, generator=generator)
    hidden = torch.randn(3, frames, WIDTH, generator=generator)
    counts = torch.tensor([size, max(size - 3, 1), 1])
    pull = torch.randn(3, size, WIDTH, generator=generator)

    def gradients(function, dtype):
        inputs = [x.to(dtype).requires_grad_() for x in (weights, hidden)]
        tokens = function(*inputs)
        return tokens, *torch.autograd.grad((tokens * pull.to(dtype)).sum(), inputs)

    def loop(weights, hidden):
        rows = []
        for w, h, count in zip(weights, hidden, counts.tolist(), strict=True):
            tokens = by_loop(w * (count / w.sum()), h, count)
            rows.append(torch.nn.functional.pad(tokens, (0, 0, 0, size - count)))
        return torch.stack(rows)

    ours = gradients(lambda w, h: teach(w, h, counts), torch.float32)
    theirs = gradients(loop, torch.float64)
    for value, expected in zip(ours, theirs, strict=True):
        scale = max(1.0, expected.detach().abs().max().item())
        torch.testing.assert_close(
            value.detach() / scale, expected.detach().float() / scale, atol=1e-5, rtol=0
        )


def test_without_scaling_the_rest_below_1_is_dropped():
    weights = torch.rand(2, 40, generator=torch.Generator().manual_seed(1))
    hidden = torch.randn(2, 40, WIDTH)
    sums = running_sum(weights)
    counts = sums[:, -1].floor().long().tolist()
    tokens = integrate(sums, hidden, max(counts))
    for row, count in enumerate(counts):
        expected = by_loop(weights[row].double(), hidden[row].double(), count).float()
        torch.testing.assert_close(tokens[row, :count], expected, atol=1e-5, rtol=0)


def test_the_tokens_of_a_long_utterance_are_the_loop_in_blocks_too():
    frames = 3 * TOKENS * 3 + 7
    weights, hidden = torch.rand(2, frames) * 0.6, torch.randn(2, frames, WIDTH)
    sums = running_sum(weights)
    count = int(sums[:, -1].min())
    assert count > 2 * TOKENS
    tokens = integrate(sums, hidden, count)
    for row in range(2):
        exact = by_loop(weights[row].double(), hidden[row].double(), count).float()
        torch.testing.assert_close(tokens[row], exact, atol=1e-4, rtol=0)
    whole = integrate(sums, hidden.requires_grad_(), count)  # all at once, as training does
    torch.testing.assert_close(tokens, whole.detach(), atol=1e-6, rtol=0)


def test_peaks_reach_1_where_a_token_fires():
    peaks = fire_peaks(torch.tensor([[0.5, 1.25, 1.75, 2.0, 2.5, 4.75]]))
    assert peaks.tolist() == [[0.5, 1.25, 0.75, 1.0, 0.5, 1.75]]


# predictor


@pytest.fixture(params=[False, True], ids=["v2", "v1"])
def predictor(request):
    torch.manual_seed(0)
    return CifPredictor(WIDTH, tail_threshold=0.45, depthwise=request.param).eval()


@torch.no_grad()
def test_a_batch_is_each_alone(predictor):
    lengths = torch.tensor([9, 1, 5, 0, 20])
    hidden = torch.randn(5, 20, WIDTH)  # garbage past the lengths
    batch = predictor(hidden, lengths)
    taught = predictor.forward_to(hidden, lengths.clamp(min=1), torch.tensor([4, 1, 2, 1, 9]))
    for row, length in enumerate(lengths.tolist()):
        if length == 0:
            continue
        own, own_length = hidden[row : row + 1, :length], lengths[row : row + 1]
        alone = predictor(own, own_length)
        count = int(alone.token_lengths)
        assert count == int(batch.token_lengths[row])
        torch.testing.assert_close(batch.alphas[row, : length + 1], alone.alphas[0])
        torch.testing.assert_close(batch.peaks[row, : length + 1], alone.peaks[0])
        torch.testing.assert_close(batch.embeds[row, :count], alone.embeds[0])
        assert batch.embeds[row, count:].abs().sum() == 0
        again = predictor.forward_to(own, own_length, taught.token_lengths[row : row + 1])
        torch.testing.assert_close(
            taught.embeds[row, : again.embeds.size(1)], again.embeds[0], atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_an_empty_utterance_has_no_token_and_the_tail_alone(predictor):
    heard = predictor(torch.randn(2, 3, WIDTH), torch.tensor([0, 3]))
    assert heard.token_lengths[0] == 0
    assert heard.alphas[0].tolist() == pytest.approx([0.45, 0.0, 0.0, 0.0])


@torch.no_grad()
def test_the_tail_stands_right_after_the_utterance(predictor):
    hidden, lengths = torch.randn(2, 6, WIDTH), torch.tensor([6, 4])
    with_tail = predictor(hidden, lengths)
    predictor.tail_threshold = 0.0
    without = predictor(hidden, lengths)
    extra = with_tail.alphas - torch.nn.functional.pad(without.alphas, (0, 1))
    assert extra[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 0.45])
    assert extra[1].tolist() == pytest.approx([0, 0, 0, 0, 0.45, 0, 0])


def test_teaching_fires_all_tokens_and_tells_the_unscaled_total(predictor):
    hidden, lengths = torch.randn(3, 30, WIDTH), torch.tensor([30, 12, 4])
    counts = torch.tensor([11, 5, 1])
    taught = predictor.forward_to(hidden, lengths, counts, size=13)
    assert taught.embeds.shape == (3, 13, WIDTH)
    assert (taught.peaks >= 1).sum(1).tolist() == counts.tolist()
    torch.testing.assert_close(taught.alphas.sum(1), counts.float())
    alphas = predictor.weights(hidden * (torch.arange(30) < lengths[:, None])[..., None], lengths)
    torch.testing.assert_close(taught.total, alphas.sum(1))


def test_half_precision_counts_as_single_does(predictor):
    """Weights and sums stay in float32 under autocast, so that no token is lost."""
    hidden, lengths = torch.randn(1, 300, WIDTH), torch.tensor([300])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        taught = predictor.forward_to(hidden, lengths, torch.tensor([70]))
    assert taught.embeds.dtype == taught.alphas.dtype == torch.float32
    assert int((taught.peaks >= 1).sum()) == 70


def test_smoothing_and_noise_threshold():
    """alpha = relu(smooth * sigmoid - noise)."""
    torch.manual_seed(0)
    plain = CifPredictor(WIDTH).eval()
    bent = CifPredictor(WIDTH, smooth_factor=1.5, noise_threshold=0.8).eval()
    bent.load_state_dict(plain.state_dict())
    hidden, lengths = torch.randn(1, 8, WIDTH), torch.tensor([8])
    expected = torch.relu(1.5 * plain.weights(hidden, lengths) - 0.8)
    torch.testing.assert_close(bent.weights(hidden, lengths), expected)
