"""SeACo: each utterance's shortlist is its own, and where no hotword is heard nothing changes."""

from __future__ import annotations

import pytest
import torch

from paraformer.backends.packed import for_inference
from paraformer.errors import ConfigError
from paraformer.models.builders import build_seaco
from paraformer.models.release import merge
from paraformer.nn.bias import NOTHING
from tests import tiny

V, WIDTH = len(tiny.TOKENS), 16
CONFIG = merge(
    tiny.CONFIG,
    {
        "model": "SeacoParaformer",
        "model_conf": {"inner_dim": WIDTH, "NO_BIAS": 5},
        "seaco_decoder": "ParaformerSANMDecoder",
        "seaco_decoder_conf": {
            "attention_heads": 2,
            "linear_units": 24,
            "num_blocks": 4,
            "kernel_size": 5,
            "use_output_layer": False,
            "wo_input_layer": True,
        },
        "predictor": "CifPredictorV3",
        "predictor_conf": {"upsample_times": 3, "upsample_type": "cnn_blstm"},
    },
)
WORDS = [[3, 4], [5], [6, 7, 8], [9, 10], [11, 12], [4, 3]]
COUNTS = torch.tensor([4, 2, 5])


@pytest.fixture
def model():
    torch.manual_seed(3)
    return build_seaco(CONFIG, V, 56).eval()


@pytest.fixture
def heard():
    """Acoustic embeddings, counts, encoder output, lengths of three utterances."""
    torch.manual_seed(4)
    return torch.randn(3, 5, WIDTH), COUNTS, torch.randn(3, 9, WIDTH), torch.tensor([9, 4, 7])


def each(heard, row):
    """One utterance of the batch, without padding."""
    embeds, counts, memory, lengths = heard
    u, t = int(counts[row]), int(lengths[row])
    return (
        embeds[row : row + 1, :u],
        counts[row : row + 1],
        memory[row : row + 1, :t],
        lengths[row : row + 1],
    )


def listens_always(model):
    """No token is the one that says that there is no hotword."""
    model.no_bias = V + 1
    return model


@torch.no_grad()
@pytest.mark.parametrize("shortlist", [2, 50])
def test_each_utterance_of_a_batch_as_if_alone(model, heard, shortlist):
    listens_always(model)
    hotwords = model.remember(WORDS)
    batch = model.decode(*heard, hotwords, shortlist)
    for row, count in enumerate(COUNTS.tolist()):
        alone = model.decode(*each(heard, row), hotwords, shortlist)
        torch.testing.assert_close(batch[row, :count], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_shortlists_of_a_batch_differ(model, heard):
    embeds, counts, memory, lengths = heard
    hidden = 3.0 * model.decoder.hidden(embeds, counts, memory, lengths)
    hotwords = model.remember(WORDS)
    chosen = model.choose(hidden, counts, hotwords, 2)
    assert chosen.shape == (3, 3)
    assert chosen[:, -1].tolist() == [len(WORDS)] * 3  # the entry for no hotword
    scores = model.seaco_decoder.scores(hidden, counts, hotwords.projected)
    heads = 2
    torch.testing.assert_close(scores.sum(1), heads * counts.float())  # softmax: 1 a head and token
    for row, best in enumerate(chosen[:, :-1].tolist()):
        assert best == scores[row].argsort(descending=True)[:2].tolist()


@torch.no_grad()
def test_a_shortlist_is_as_if_only_those_were_given(model, heard):
    listens_always(model)
    one = each(heard, 0)
    hotwords = model.remember(WORDS)
    hidden = model.decoder.hidden(*one)
    kept = model.choose(hidden, one[1], hotwords, 3)[0, :-1].tolist()
    few = model.remember([WORDS[i] if i < len(WORDS) else [NOTHING] for i in kept])
    expected = model.decode(*one, few)
    torch.testing.assert_close(model.decode(*one, hotwords, 3), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_order_of_hotwords_is_of_no_account(model, heard):
    listens_always(model)
    forward = model.decode(*heard, model.remember(WORDS))
    backward = model.decode(*heard, model.remember(WORDS[::-1]))
    torch.testing.assert_close(forward, backward, atol=1e-5, rtol=0)


@torch.no_grad()
def test_where_no_hotword_is_heard_nothing_changes(model, heard):
    hotwords = model.remember(WORDS)
    plain = model.decode(*heard)
    hidden = model.decoder.hidden(*heard)
    biased = model.listen(heard[0], hidden, heard[1], hotwords.projected)
    merged = model.decode(*heard, hotwords)
    silent = biased.argmax(-1) == model.no_bias
    torch.testing.assert_close(merged[silent], plain[silent])
    torch.testing.assert_close(merged[~silent], biased[~silent])
    torch.testing.assert_close(model.decode(*heard, hotwords, weight=0.0), plain)


@torch.no_grad()
def test_a_weight_between_mixes(model, heard):
    """(1 - weight) of the decoder, weight of the hotword decoder, where it hears something."""
    listens_always(model)
    hotwords = model.remember(WORDS)
    plain, biased = model.decode(*heard), model.decode(*heard, hotwords)
    mixed = model.decode(*heard, hotwords, weight=0.25)
    torch.testing.assert_close(mixed, 0.75 * plain + 0.25 * biased)


@torch.no_grad()
def test_the_twin_of_recognisers_gives_the_same(model, heard):
    listens_always(model)
    twin = for_inference(model, torch.device("cpu"))
    for words in (WORDS, WORDS * 9):
        expected = model.decode(*heard, model.remember(words))
        ours = twin.decode(*heard, twin.remember(words))
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_half_precision(model, heard):
    twin = for_inference(model, torch.device("cpu"), torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        logp = twin.decode(*heard, twin.remember(WORDS), 2)
    assert logp.dtype == torch.float32
    assert logp.isfinite().all()


@torch.no_grad()
def test_five_thousand_hotwords(model, heard):
    """As the few that each utterance keeps; no matrix of hotwords by hotwords."""
    listens_always(model)
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(3, V - 1, (4999, 4), generator=generator).tolist()
    hotwords = model.remember(words)
    assert len(hotwords.embeds) == 5000
    batch = model.decode(*heard, hotwords)
    alone = model.decode(*each(heard, 1), hotwords)
    torch.testing.assert_close(batch[1, :2], alone[0], atol=1e-5, rtol=0)


def test_gradients_reach_the_hotword_decoder(model, heard):
    hotwords = model.remember(WORDS)
    hidden = model.decoder.hidden(*heard).detach()
    model.listen(heard[0], hidden, heard[1], hotwords.projected)[..., 3].sum().backward()
    for part in (model.bias_encoder, model.seaco_decoder, model.hotword_output_layer):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


# building


def test_six_attention_layers_whatever_num_blocks_says(model):
    """att_layer_num is not in released configurations, and 6 where it is not."""
    assert len(model.seaco_decoder.decoders) == 6
    assert not hasattr(model.seaco_decoder, "embed")
    assert not hasattr(model.seaco_decoder, "output_layer")


def test_no_bias_is_the_configuration_s(model):
    assert model.no_bias == 5
    released = build_seaco(merge(CONFIG, {"model_conf": {"NO_BIAS": 8377}}), V, 56)
    assert released.no_bias == 8377


def test_a_predictor_without_times():
    config = merge(CONFIG, {"predictor": "CifPredictorV2"})
    config["predictor_conf"] = {"tail_threshold": 0.45}
    model = build_seaco(config, V, 56)
    assert not model.times_tokens
    with pytest.raises(ConfigError, match="this model has no times"):
        model.timeline(torch.zeros(1, 2, WIDTH), torch.tensor([2]), torch.tensor([1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_conf": {"inner_dim": 8}}, "inner_dim=8: the decoder is 16 wide"),
        ({"model_conf": {"bias_encoder_type": "mean"}}, "bias_encoder_type=mean: give lstm"),
        ({"seaco_decoder": "Other"}, "seaco_decoder Other is not known"),
        ({"seaco_decoder_conf": {"attention_heads": 3}}, "seaco_decoder_conf.attention_heads=3"),
        (
            {"decoder": "ParaformerSANDecoder", "decoder_conf": {"num_blocks": 1}},
            "needs decoder ParaformerSANMDecoder",
        ),
    ],
)
def test_configurations_that_do_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        build_seaco(merge(CONFIG, change), V, 56)
