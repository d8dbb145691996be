"""Which hotwords training draws, and what their decoder is to say."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer.errors import ConfigError
from paraformer.train.hotwords import (
    IGNORED,
    Hotwords,
    Sampler,
    Sampling,
    attention_loss,
    label,
)
from paraformer.train.losses import Weights
from paraformer.train.objective import Objective
from tests import tiny

NO_BIAS = 2
SEACO = {
    "model": "SeacoParaformer",
    "model_conf": {"inner_dim": 16, "NO_BIAS": NO_BIAS},
    "seaco_decoder": "ParaformerSANMDecoder",
    "seaco_decoder_conf": {
        "attention_heads": 2,
        "linear_units": 16,
        "num_blocks": 2,
        "att_layer_num": 2,
        "kernel_size": 5,
    },
}


def drawn(sampling, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    text = torch.arange(10, 10 + len(lengths) * width).view(len(lengths), width)
    sizes = torch.tensor(lengths)
    text[torch.arange(width) >= sizes[:, None]] = -1
    return text, Sampler(sampling).draw(text, sizes, NO_BIAS, generator)


def test_spans_are_pieces_of_the_texts_and_labels_say_where():
    text, found = drawn(Sampling(probability=1.0, length=(2, 4)), [7, 9, 5])
    assert len(found.words) == 3
    for row in range(3):
        (place,) = {*found.places[row].tolist()} - {len(found.words)}
        inside = found.places[row] == place
        assert text[row, inside].tolist() == found.words[place]
        assert 2 <= int(inside.sum()) <= 4
        assert found.labels[row, inside].tolist() == found.words[place]
        rest = found.labels[row, ~inside & (text[row] >= 0)]
        assert rest.unique().tolist() in ([], [NO_BIAS])
        assert found.labels[row, text[row] < 0].unique().tolist() in ([], [IGNORED])


def test_long_texts_may_give_two_spans_that_do_not_meet():
    sampling = Sampling(probability=1.0, length=(2, 3), second_probability=1.0, long=4)
    _, found = drawn(sampling, [9] * 8)
    assert len(found.words) == 16
    assert len({token for word in found.words for token in word}) == sum(map(len, found.words))


def test_how_often_a_text_gives_a_hotword():
    lengths = [6] * 600
    _, found = drawn(Sampling(probability=0.75), lengths)
    assert 0.7 < len(found.words) / 600 < 0.8
    _, none = drawn(Sampling(probability=1.0, length=(7, 8)), lengths)
    assert none.words == []  # texts that are shorter than any span


def test_a_hotword_is_labelled_wherever_it_stands_the_longest_first():
    found = label([[5, 6, 7, 5, 6], [6, 7, 8, 0, 0]], [[5, 6], [5, 6, 7], [6, 7]], 5, NO_BIAS)
    assert found.words == [[5, 6, 7], [5, 6], [6, 7]]
    assert found.places.tolist() == [[0, 0, 0, 1, 1], [2, 2, 3, 3, 3]]
    assert found.labels.tolist() == [[5, 6, 7, 5, 6], [6, 7, 2, 2, 2]]


def test_attention_loss_is_the_mean_of_both_kinds_of_tokens():
    labels = torch.tensor([[5, NO_BIAS, NO_BIAS, IGNORED]])
    places = torch.tensor([[0, 1, 1, 1]])
    attention = torch.tensor([0.25, 0.75]).expand(2, 3, 5, 2)
    loss = float(attention_loss(attention, Hotwords([[5]], labels, places)))
    assert loss == pytest.approx((-math.log(0.25) - math.log(0.75)) / 2)


def test_the_token_for_none_must_be_one_of_the_model():
    release = tiny.release({**SEACO, "model_conf": {"inner_dim": 16, "NO_BIAS": 8377}})
    with pytest.raises(ConfigError, match="NO_BIAS=8377: the model has 16 tokens"):
        Objective(release.model, Weights())


def test_frozen_parts_get_no_gradient_and_no_dropout():
    release = tiny.release({**SEACO, "encoder_conf": {"dropout_rate": 0.5}})
    frozen = ["encoder", "decoder", "predictor"]
    objective = Objective(release.model, Weights(), frozen=frozen).train()
    trained = {
        name.split(".")[0] for name, p in release.model.named_parameters() if p.requires_grad
    }
    assert trained == {"bias_encoder", "seaco_decoder", "hotword_output_layer"}
    assert not release.model.encoder.training
    assert release.model.seaco_decoder.training
    with pytest.raises(ConfigError, match="no parameter's name begins with 'encode'"):
        Objective(release.model, Weights(), frozen=["encode"])
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        Objective(release.model, Weights(), frozen=[*trained, *frozen])
    assert objective.training
