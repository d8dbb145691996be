"""The second head: its fires equal the reference's loop; no utterance sees another's padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paraformer.errors import ConfigError
from paraformer.nn.cif_v3 import FIRE, CifPredictorV3, scale_to, single_fire_peaks

WIDTH = 6
LENGTHS = torch.tensor([9, 4, 1, 0])


def by_loop(weights):
    """Float64 loop of the reference's rule: a step fires once at most."""
    held, peaks = 0.0, []
    for weight in weights:
        held += weight
        peaks.append(held)
        if held >= FIRE:
            held -= FIRE
    return peaks


weights_of_steps = st.lists(
    st.one_of(st.just(0.0), st.floats(0.0, 0.7), st.floats(0.7, 3.5)), min_size=1, max_size=60
)


@given(weights_of_steps)
def test_peaks_equal_the_loop(weights):
    ours = single_fire_peaks(torch.tensor([weights], dtype=torch.float64))[0]
    expected = torch.tensor(by_loop(weights), dtype=torch.float64)
    near = ((expected / FIRE) - (expected / FIRE).round()).abs().min() < 1e-9
    if not near:  # where a sum is a whole number of fires, rounding decides
        torch.testing.assert_close(ours, expected, atol=1e-9, rtol=0)


def test_no_steps():
    assert single_fire_peaks(torch.zeros(2, 0)).shape == (2, 0)


@pytest.mark.parametrize("count", [1, 7, 40, 300])
def test_scaled_weights_fire_as_many_tokens_as_asked(count):
    torch.manual_seed(count)
    weights = scale_to(torch.rand(8, 900), torch.full((8,), count))
    assert ((single_fire_peaks(weights) >= FIRE).sum(1) == count).all()
    torch.testing.assert_close(weights.sum(1), torch.full((8,), float(count)).double())


def test_silence_stays_silence():
    assert (scale_to(torch.zeros(1, 5), torch.tensor([3])) == 0).all()


@pytest.fixture(params=["cnn", "cnn_blstm"])
def predictor(request):
    torch.manual_seed(1)
    return CifPredictorV3(WIDTH, upsample_type=request.param, upsample_times=3).eval()


@torch.no_grad()
def test_padding_does_not_change_the_weights(predictor):
    hidden = torch.randn(4, 9, WIDTH)
    for row, length in enumerate(LENGTHS.tolist()):
        hidden[row, length:] = 0.0
    batch = predictor.fine_weights(hidden, LENGTHS)
    assert batch.shape == (4, 27)
    for row, length in enumerate(LENGTHS.tolist()):
        assert (batch[row, 3 * length :] == 0).all()
        if length:
            alone = predictor.fine_weights(hidden[row : row + 1, :length], LENGTHS[row : row + 1])
            torch.testing.assert_close(batch[row, : 3 * length], alone[0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_both_directions_equal_torch_on_packed_sequences():
    predictor = CifPredictorV3(WIDTH, upsample_type="cnn_blstm", upsample_times=3)
    x, steps = torch.randn(3, 8, WIDTH), torch.tensor([8, 5, 1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, steps, batch_first=True, enforce_sorted=False
    )
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(
        predictor.blstm(packed)[0], batch_first=True
    )
    ours = predictor._look_around(x, steps)
    for row, count in enumerate(steps.tolist()):
        torch.testing.assert_close(ours[row, :count], expected[row, :count], atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_frame_is_upsampled_into_its_own_steps():
    """Without convolution and LSTM no step sees another frame: frame t -> steps 3t to 3t + 2."""
    predictor = CifPredictorV3(WIDTH, upsample_type="cnn", upsample_times=3, use_cif1_cnn=False)
    hidden = torch.randn(1, 9, WIDTH)
    changed = hidden.clone()
    changed[0, 4] += 1.0
    lengths = torch.tensor([9])
    before, after = (predictor.fine_weights(x, lengths)[0] for x in (hidden, changed))
    assert (before != after).nonzero().flatten().tolist() == [12, 13, 14]


def test_smoothing_and_noise_bound_the_weights():
    predictor = CifPredictorV3(WIDTH, smooth_factor2=0.25, noise_threshold2=0.1)
    with torch.no_grad():
        weights = predictor.fine_weights(10 * torch.randn(1, 50, WIDTH), torch.tensor([50]))
    assert float(weights.min()) == 0.0
    assert 0.1 < float(weights.max()) <= 0.15


def test_gradients_reach_the_second_head(predictor):
    hidden = torch.randn(4, 9, WIDTH)
    predictor.fine_weights(hidden, LENGTHS).sum(1).sub(2.0).abs().sum().backward()
    for name, parameter in predictor.named_parameters():
        own = not name.startswith("cif_output.")  # the first head's
        assert (parameter.grad is not None) == own, name
        assert not own or parameter.grad.isfinite().all()


def test_the_first_head_is_that_of_the_released_v2(predictor):
    """`forward` gives what a predictor without second head gives."""
    hidden = torch.randn(1, 9, WIDTH)
    first = super(CifPredictorV3, predictor).forward(hidden, LENGTHS[:1])
    assert torch.equal(predictor(hidden, LENGTHS[:1]).embeds, first.embeds)


def test_an_upsampler_that_is_not_there():
    with pytest.raises(ConfigError, match="upsample_type=cnn_attn: not known; known: cnn, cnn_bl"):
        CifPredictorV3(WIDTH, upsample_type="cnn_attn")
