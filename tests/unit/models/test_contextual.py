"""CLAS: hotwords are heard beside the recording, in each utterance as if it were alone."""

from __future__ import annotations

import pytest
import torch

from paraformer.errors import ConfigError
from paraformer.models.builders import build_contextual
from paraformer.models.release import merge
from tests import tiny

V, WIDTH = len(tiny.TOKENS), 16
CONFIG = merge(
    tiny.CONFIG,
    {
        "model": "ContextualParaformer",
        "model_conf": {"inner_dim": WIDTH},
        "decoder": "ContextualParaformerDecoder",
        "decoder_conf": {"num_blocks": 3, "att_layer_num": 2},
    },
)
WORDS = [[3, 4], [5], [6, 7, 8]]


@pytest.fixture
def model():
    torch.manual_seed(3)
    return build_contextual(CONFIG, V, 56).eval()


@pytest.fixture
def heard():
    torch.manual_seed(4)
    return (
        torch.randn(2, 5, WIDTH),
        torch.tensor([5, 2]),
        torch.randn(2, 9, WIDTH),
        torch.tensor([9, 4]),
    )


@torch.no_grad()
def test_each_utterance_of_a_batch_as_if_alone(model, heard):
    hotwords = model.remember(WORDS)
    embeds, counts, memory, lengths = heard
    batch = model.decode(*heard, hotwords)
    alone = model.decode(embeds[1:, :2], counts[1:], memory[1:, :4], lengths[1:], hotwords)
    torch.testing.assert_close(batch[1, :2], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_no_list_is_the_list_with_the_entry_for_nothing(model, heard):
    assert torch.equal(model.decode(*heard), model.decode(*heard, model.remember([])))


@torch.no_grad()
def test_at_scale_0_hotwords_are_not_heard(model, heard):
    few, many = model.remember(WORDS), model.remember(WORDS[::-1] * 3)
    one = model.decode(*heard, few, clas_scale=0.0)
    assert torch.equal(one, model.decode(*heard, many, clas_scale=0.0))
    assert not torch.allclose(one, model.decode(*heard, few))


def test_the_layer_that_hears_hotwords_is_one_of_the_number(model):
    """att_layer_num counts it, num_blocks counts all."""
    assert len(model.decoder.decoders) == 1
    assert len(model.decoder.decoders2) == 1


def test_it_does_not_stream(model):
    assert not model.streams


def test_the_decoder_alone_knows_no_hotwords(model, heard):
    with pytest.raises(ConfigError, match="decodes with a list of hotwords; give one"):
        model.decoder(*heard)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": "ParaformerSANMDecoder"}, "decoder ParaformerSANMDecoder is not known"),
        ({"model_conf": {"inner_dim": 8}}, "inner_dim=8: the decoder is 16 wide"),
    ],
)
def test_configurations_that_do_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        build_contextual(merge(CONFIG, change), V, 56)
