"""Targets, the sampler and the stages of Paraformer."""

from __future__ import annotations

import pytest
import torch

from paraformer.models.paraformer import CtcHead, Paraformer
from paraformer.models.release import load_directory
from paraformer.nn.chunks import streaming_rule
from paraformer.nn.cif import CifOutput
from paraformer.nn.position import sinusoid
from tests import tiny
from tests.parity.oracle import FIXTURES


@pytest.fixture
def model():
    return tiny.release().model.eval()


TEXT = torch.tensor([[5, 6, 7, -1], [8, -1, -1, -1], [3, 4, 5, 6]])
SIZES = torch.tensor([3, 1, 4])


def test_targets_end_with_the_end_symbol(model):
    targets, lengths = model.targets(TEXT, SIZES)
    assert targets.tolist() == [[5, 6, 7, 2, -1], [8, 2, -1, -1, -1], [3, 4, 5, 6, 2]]
    assert lengths.tolist() == [4, 2, 5]


def test_targets_of_a_model_that_predicts_no_end(model):
    model.predictor_bias = 0
    targets, lengths = model.targets(TEXT, SIZES)
    assert targets is TEXT
    assert lengths is SIZES


def test_targets_do_not_change_the_text(model):
    before = TEXT.clone()
    model.targets(TEXT, SIZES)
    assert torch.equal(TEXT, before)


def sampled(model, guesses, targets, lengths, ratio):
    model.sampling_ratio = ratio
    embeds = torch.full((*targets.shape, 16), 9.0)
    blank = torch.zeros(len(targets), 1)
    heard = CifOutput(embeds, lengths, blank, blank, blank[:, 0])
    return model.sample(heard, guesses, targets)


@pytest.mark.parametrize(
    ("wrong", "ratio", "shown"),
    [(0, 0.75, 0), (1, 0.75, 0), (2, 0.75, 1), (4, 0.75, 3), (10, 0.75, 7), (10, 1.0, 10)],
)
def test_the_sampler_shows_a_share_of_the_wrong_tokens(model, wrong, ratio, shown):
    """trunc(ratio * wrong), as the reference; the paper would round up."""
    targets = torch.full((1, 10), 5)
    guesses = targets.clone()
    guesses[0, :wrong] = 6
    mixed = sampled(model, guesses, targets, torch.tensor([10]), ratio)
    known = model.embed_tokens(targets)
    is_known = (mixed == known).all(-1)
    assert int(is_known.sum()) == shown
    assert (mixed[~is_known] == 9.0).all()


def test_the_sampler_may_show_any_place(model):
    targets = torch.full((1, 6), 5)
    guesses = torch.full_like(targets, 5)
    guesses[0, :2] = 6  # only the first two are wrong
    places = set()
    for seed in range(60):
        torch.manual_seed(seed)
        mixed = sampled(model, guesses, targets, torch.tensor([6]), 0.75)
        places |= set((mixed != 9.0).all(-1).nonzero()[:, 1].tolist())
    assert places == set(range(6))


def test_the_sampler_draws_within_each_utterance(model):
    """Wrong guesses in the padding do not count, and nothing is shown there."""
    targets = torch.tensor([[5, 5, 5, 5], [5, -1, -1, -1]])
    guesses = torch.full_like(targets, 6)
    mixed = sampled(model, guesses, targets, torch.tensor([4, 1]), 1.0)
    assert (mixed[0] == model.embed_tokens(torch.tensor([5]))).all()
    assert mixed[1, 1:].abs().sum() == 0


def test_nothing_is_drawn_when_all_is_right(model):
    targets = torch.full((2, 5), 5)
    before = torch.get_rng_state()
    sampled(model, targets, targets, torch.tensor([5, 5]), 0.75)
    assert torch.equal(before, torch.get_rng_state())


def test_gradients_pass_the_sampler_to_both_kinds_of_embedding(model):
    model.sampling_ratio = 0.75
    memory, lengths = model.encode(torch.randn(2, 20, 56), torch.tensor([20, 15]))
    taught = model.teach(memory, lengths, TEXT[:2], SIZES[:2])
    taught.logits.sum().backward()
    assert model.decoder.embed[0].weight.grad.abs().sum() > 0
    assert model.predictor.cif_output.weight.grad.abs().sum() > 0
    assert not taught.first_guess.requires_grad


def test_without_the_sampler_the_first_guess_is_that_of_the_only_pass(model):
    model.sampling_ratio = 0.0
    memory, lengths = model.encode(torch.randn(1, 20, 56), torch.tensor([20]))
    taught = model.teach(memory, lengths, TEXT[:1], SIZES[:1])
    assert torch.equal(taught.first_guess, taught.logits.argmax(-1))


def test_shared_embeddings_are_rows_of_the_output_layer(model):
    model.share_embedding = True
    ids = torch.tensor([[3, 4]])
    assert torch.equal(model.embed_tokens(ids)[0], model.decoder.output_layer.weight[3:5])


def test_log_probabilities_sum_to_one(model):
    memory, lengths = model.encode(torch.randn(2, 30, 56), torch.tensor([30, 12]))
    logp = model.decode(torch.randn(2, 3, 16), torch.tensor([3, 2]), memory, lengths)
    torch.testing.assert_close(logp.exp().sum(-1), torch.ones(2, 3))


def test_encoder_output_is_zero_in_the_padding(model):
    memory, lengths = model.encode(torch.randn(2, 9, 56), torch.tensor([9, 4]))
    assert lengths.tolist() == [9, 4]
    assert memory[1, 4:].abs().sum() == 0


def test_the_ctc_head_is_there_where_it_was_given(model):
    assert model.ctc_head is None
    head = CtcHead(16, 5)
    with_head = Paraformer(model.encoder, model.predictor, model.decoder, head)
    assert with_head.ctc_head is head
    assert "ctc.ctc_lo.weight" in with_head.state_dict()


@torch.no_grad()
def test_a_chunk_alone_is_that_of_a_stream_that_looks_nowhere_back():
    """A runtime adds the position codes, sums the weights and holds the decoder's memory."""
    model = load_directory(FIXTURES / "oracle/paraformer-streaming").model
    width, rule = model.encoder.input_size, streaming_rule((0, 10, 0), 0, 0)
    feats = torch.randn(1, 20, width, generator=torch.Generator().manual_seed(1)) * 3
    coded = feats * model.encoder.output_size**0.5 + sinusoid(1, 20, width)
    state = model.initial_state(rule)
    pasts, cif, counted = state.decoder.pasts, state.cif, 0
    length, final = torch.tensor([10]), torch.tensor([False])
    for first in (0, 10):
        chunk = slice(first, first + 10)
        logp, fired, state = model.forward_chunk(feats[:, chunk], length, final, state, rule)
        memory, weights = model.hear_chunk(coded[:, chunk], length)
        own, cif = model.predictor.forward_chunk(memory, length, final, cif, rule)
        torch.testing.assert_close(own.sums.diff(dim=1)[:, :10], weights.double())
        logits, pasts = model.say_chunk(memory, length, own.embeds, own.counts, pasts)
        torch.testing.assert_close(logits.log_softmax(-1), logp, atol=1e-5, rtol=1e-5)
        assert own.counts.tolist() == fired.counts.tolist()
        counted += int(own.counts)
    assert counted > 0
