"""Position codes are the sines and cosines of their papers."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer.nn.position import interleaved_sinusoid, sinusoid, sinusoid_at


@pytest.mark.parametrize(("position", "place"), [(1, 0), (7, 2), (50, 3)])
def test_halves_hold_sines_and_cosines_of_one_angle(position, place):
    """w_k = 10000^(-k / (width / 2 - 1)), as the SAN-M encoder counts."""
    width = 8
    angle = position * 10000 ** (-place / (width // 2 - 1))
    code = sinusoid(position, 1, width)[0]
    assert float(code[place]) == pytest.approx(math.sin(angle), abs=1e-5)
    assert float(code[width // 2 + place]) == pytest.approx(math.cos(angle), abs=1e-5)


def test_a_run_of_positions_is_each_of_them():
    assert torch.equal(sinusoid(3, 4, 6), sinusoid_at(torch.tensor([3, 4, 5, 6]), 6))


@pytest.mark.parametrize(("position", "pair"), [(0, 1), (5, 0), (-5, 2)])
def test_interleaved_codes_hold_pairs(position, pair):
    """Attention is all you need, 3.5: sine in place 2k, cosine in 2k + 1."""
    angle = position / 10000 ** (2 * pair / 8)
    code = interleaved_sinusoid(torch.tensor([position]), 8)[0]
    assert float(code[2 * pair]) == pytest.approx(math.sin(angle), abs=1e-5)
    assert float(code[2 * pair + 1]) == pytest.approx(math.cos(angle), abs=1e-5)
