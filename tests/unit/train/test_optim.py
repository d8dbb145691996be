"""The learning rate follows its schedule, and weight decay reaches matrices alone."""

from __future__ import annotations

import pytest
import torch

from paraformer.errors import ConfigError
from paraformer.train.optim import Optim
from tests import tiny


def test_warm_up_then_inverse_square_root():
    optim = Optim(lr=2.0, warmup_steps=100)
    rates = [optim.rate(step) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == rates[99] == 2.0
    assert rates[399] == pytest.approx(1.0)
    assert rates[:100] == sorted(rates[:100])
    assert rates[99:] == sorted(rates[99:], reverse=True)


def test_the_formula_of_the_reference():
    """warmuplr: lr * warmup^0.5 * min(step^-0.5, step * warmup^-1.5)."""
    optim = Optim(lr=5e-4, warmup_steps=30000)
    for step in (1, 7, 29999, 30000, 30001, 10**6):
        expected = 5e-4 * 30000**0.5 * min(step**-0.5, step * 30000**-1.5)
        assert optim.rate(step) == pytest.approx(expected)


def test_cosine_falls_to_its_final_share_and_stays_there():
    optim = Optim(lr=1.0, schedule="cosine", warmup_steps=10, total_steps=110, final_share=0.1)
    assert optim.rate(5) == 0.5
    assert optim.rate(10) == 1.0
    assert optim.rate(60) == pytest.approx(0.55)
    assert optim.rate(110) == optim.rate(500) == pytest.approx(0.1)


def test_no_warm_up():
    assert Optim(lr=1.0, schedule="cosine", warmup_steps=0, total_steps=10).rate(1) < 1.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ConfigError, match="optim.schedule=linear: not known; warmuplr or cosine"):
        Optim(schedule="linear")


def test_decay_reaches_matrices_and_filters_alone():
    model = tiny.release().model
    decayed, plain = Optim(weight_decay=0.1).optimizer(model).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, plain = ({names[id(p)] for p in g["params"]} for g in (decayed, plain))
    assert decayed | plain == set(names.values())
    assert not decayed & plain
    assert "encoder.encoders0.0.self_attn.fsmn_block.weight" in decayed
    assert {"decoder.embed.0.weight", "encoder.after_norm.weight"} <= plain
    assert all(name.endswith("weight") for name in decayed)


def test_a_step_with_zero_gradient_shrinks_decayed_weights_alone():
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = Optim(lr=0.1, weight_decay=0.5).optimizer(layer)
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(layer.weight, before[0] * 0.95)
    torch.testing.assert_close(layer.bias, before[1])


@pytest.mark.parametrize(
    "options", [{"warmup_steps": -1}, {"schedule": "cosine", "warmup_steps": 5, "total_steps": 5}]
)
def test_schedules_that_never_train_are_refused(options):
    with pytest.raises(ConfigError, match="optim"):
        Optim(**options)
