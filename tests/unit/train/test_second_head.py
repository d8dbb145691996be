"""Losses of the second head of CifPredictorV3."""

from __future__ import annotations

import pytest
import torch

from paraformer.decode.timestamps import Clock, milliseconds
from paraformer.nn.cif_v3 import Timeline, scale_to, single_fire_peaks
from paraformer.train.second_head import LAG, second_head_losses


class Given:
    """A predictor whose weights are known."""

    upsample_times = 3

    def __init__(self, weights):
        self.weights = weights

    def fine_weights(self, memory, lengths):
        return self.weights


def losses(weights, counts, marks):
    memory = (torch.zeros(len(weights), 1, 1), torch.ones(len(weights), dtype=torch.int64))
    head = Given(weights)
    return second_head_losses(head, memory, torch.tensor(counts), torch.tensor(marks), 0.06)


def test_by_hand():
    weights = torch.full((1, 40), 0.1)  # 4 tokens in 0.8 s, 3 counted: 0.075 of one in each step
    error, distance = losses(weights, [3], [[[0.1, 1.0], [0.5, 2.0], [0.0, 0.0]]])
    assert float(error) == pytest.approx(1.0)
    first = 1.3 - (0.1 / 0.02 + LAG + 2) * 0.075  # too low even two steps later
    second = (2.3 - (25 + LAG + 2) * 0.075) + ((25 + LAG - 2) * 0.075 - 1.7)
    assert second == pytest.approx(0.6 - 4 * 0.075)  # rises too slowly
    assert float(distance) == pytest.approx((first + second) / 2, abs=1e-5)


def test_a_sum_that_rests_at_a_whole_number_is_no_beginning():
    """Silence after one token: where the next one begins, it has to pass, not to have arrived."""
    steps = torch.zeros(1, 60)
    steps[0, :10] = 0.1
    steps[0, 40:50] = 0.1
    rising, resting = 0.1, 0.0
    place = (40 - LAG) * 0.02
    _, arrived = losses(steps + resting, [2], [[[place, 1.0]]])
    shifted = steps.clone()
    shifted[0, 5:10] = 0.0
    shifted[0, 38:43] += rising
    _, passing = losses(shifted, [2], [[[place, 1.0]]])
    assert float(passing) < float(arrived)
    assert float(arrived) == pytest.approx(0.3 + 0.1, abs=1e-4)


def test_without_marks():
    error, distance = losses(torch.full((2, 10), 0.1), [2, 1], [[[0.0, 0.0]], [[0.0, 0.0]]])
    assert float(error) == pytest.approx(1.0)
    assert distance is None


def test_marks_where_the_clock_says_tokens_begin_cost_nearly_nothing():
    """The lag is that of `ts_prediction`: where it says that tokens begin, the loss is small."""
    random = torch.Generator().manual_seed(4)
    weights = torch.rand(1, 300, generator=random) * 0.05 + 0.115
    count = 41
    scaled = scale_to(weights, torch.tensor([count + 1]))
    timeline = Timeline(scaled, single_fire_peaks(scaled), torch.tensor([300]), 3)
    tokens = ["好"] * count
    starts = [start / 1000 for start, _ in milliseconds(Clock(timeline, 0.06).spans(0, tokens))]
    marks = [[[start, n + 1.0] for n, start in enumerate(starts)]]
    _, distance = losses(weights, [count + 1], marks)
    late = [[[start + 0.06, n] for start, n in marks[0]]]
    assert float(distance) < 0.15  # 4 steps hold 0.56 of a token on the average, 0.6 is asked for
    assert float(losses(weights, [count + 1], late)[1]) > float(distance) + 0.2
