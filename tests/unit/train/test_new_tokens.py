"""Rows of new tokens: nothing changes before they learn, they learn faster, and beside adapters."""

from __future__ import annotations

import pytest
import torch

from paraformer.errors import ConfigError
from paraformer.train.lora import Lora, merged_state
from paraformer.train.losses import Weights
from paraformer.train.new_tokens import NewTokens, add_rows
from paraformer.train.objective import Added, Objective
from paraformer.train.optim import Optim
from tests import tiny

SIZE = len(tiny.TOKENS)
WITH_CTC = {"model_conf": {"ctc_weight": 0.3}}
GROWING = (
    "decoder.embed.0.weight",
    "decoder.output_layer.weight",
    "decoder.output_layer.bias",
    "ctc.ctc_lo.weight",
    "ctc.ctc_lo.bias",
)


def objective(added):
    return Objective(tiny.release(WITH_CTC).model, Weights(0.3, 0.1, True, 1.0), added=added)


def test_the_last_rows_of_whatever_has_a_row_a_token_are_tensors_of_their_own():
    model = tiny.release(WITH_CTC).model
    start = {name: value.clone() for name, value in model.state_dict().items()}
    extras = add_rows(model, NewTokens(2), SIZE)
    assert {name.replace(".parametrizations", "").removesuffix(".0.extra") for name in extras} == {
        *GROWING
    }
    assert tiny.equal(merged_state(model), start)
    for name in extras:
        torch.nn.init.ones_(model.get_parameter(name))
    after = merged_state(model)
    for name in GROWING:
        assert torch.equal(after[name][:-2], start[name][:-2])
        torch.testing.assert_close(after[name][-2:], start[name][-2:] + 1.0)
    assert all(torch.equal(after[name], start[name]) for name in start.keys() - {*GROWING})


def test_they_have_a_rate_of_their_own():
    made = objective(Added(tokens=NewTokens(2, rate=5.0), vocabulary=SIZE))
    *others, own = Optim(weight_decay=0.1).optimizer(made, made.faster).param_groups
    assert own["factor"] == 5.0 and own["weight_decay"] == 0.0
    assert sum(p.numel() for p in own["params"]) == 2 * (3 * 16 + 2)
    assert not any("factor" in group for group in others)
    known = {id(p) for group in (*others, own) for p in group["params"]}
    assert known == {id(p) for p in made.parameters()}


def test_beside_adapters_they_alone_learn():
    made = objective(Added(Lora(rank=2), NewTokens(1), SIZE))
    learning = {name.rpartition(".")[2] for name, p in made.named_parameters() if p.requires_grad}
    assert learning == {"A", "B", "extra"}


def test_what_is_frozen_stays_and_not_all_can_be_new():
    model = tiny.release(WITH_CTC).model
    model.decoder.embed.requires_grad_(False)
    assert len(add_rows(model, NewTokens(1), SIZE)) == len(GROWING) - 1
    with pytest.raises(ConfigError, match=f"new_tokens.count={SIZE}: give less than all {SIZE}"):
        add_rows(tiny.release().model, NewTokens(SIZE), SIZE)
