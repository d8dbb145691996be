"""Losses of the second head of CifPredictorV3."""

from __future__ import annotations

import pytest
import torch

from paraformer.decode.timestamps import Clock, milliseconds
from paraformer.nn.cif_v3 import Timeline, scale_to, single_fire_peaks
from paraformer.train.times import LAG, second_head_losses


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
    weights = torch.full((1, 40), 0.1)  # 4 tokens in 0.8 s, 3 counted: one token in 13.3 steps
    error, distance = losses(weights, [3], [[[0.1, 1.0], [0.5, 2.0], [0.0, 0.0]]])
    assert float(error) == pytest.approx(1.0)
    at = [(seconds / 0.02 + LAG) * 0.075 for seconds in (0.1, 0.5)]
    assert float(distance) == pytest.approx((abs(at[0] - 1) + abs(at[1] - 2)) / 2, abs=1e-5)


def test_without_marks():
    error, distance = losses(torch.full((2, 10), 0.1), [2, 1], [[[0.0, 0.0]], [[0.0, 0.0]]])
    assert float(error) == pytest.approx(1.0)
    assert distance is None


def test_marks_where_the_clock_says_tokens_begin_cost_nearly_nothing():
    """The lag is that of `ts_prediction`: where it says that tokens begin, the loss is small."""
    random = torch.Generator().manual_seed(4)
    weights = torch.rand(1, 300, generator=random) * 0.14
    count = 17
    scaled = scale_to(weights, torch.tensor([count + 1]))
    timeline = Timeline(scaled, single_fire_peaks(scaled), torch.tensor([300]), 3)
    tokens = ["好"] * count
    starts = [start / 1000 for start, _ in milliseconds(Clock(timeline, 0.06).spans(0, tokens))]
    marks = [[[start, n + 1.0] for n, start in enumerate(starts)]]
    _, distance = losses(weights, [count + 1], marks)
    late = [[[start + 0.06, n] for start, n in marks[0]]]
    assert float(distance) < 0.04  # a step, of which a token has 17, is read off whole
    assert float(losses(weights, [count + 1], late)[1]) > 3 * float(distance)
