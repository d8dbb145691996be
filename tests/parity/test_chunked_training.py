"""Training in the chunks of a released online model equals the reference, masks to gradients.

The reference draws a choice of chunks but trains with the first always; its numbers here were made
with the choice honoured.
"""

from __future__ import annotations

import pytest
import torch

from paraformer.nn.chunks import make_plan
from paraformer.train.losses import Weights, paraformer_losses
from tests.parity.oracle import ONLINE, close, pad, released_chunks

pytestmark = pytest.mark.parametrize("oracle", ONLINE, indirect=True, scope="module")
GAP = 5  # rows of zeros that the reference puts before each chunk, half a memory block


def without_gaps(x, rows, dim):
    """Drop the reference's rows of zeros: along `dim`, GAP rows stand before every `rows` rows."""
    place = torch.arange(x.size(dim))
    return x.index_select(dim, place[place % (rows + GAP) >= GAP])


def fit(x, size, dim):
    """Ours end with a whole chunk, theirs with the longest utterance."""
    missing = size - x.size(dim)
    shape = list(x.shape)
    shape[dim] = missing
    return torch.cat((x, x.new_zeros(shape)), dim)


def sound_rows(oracle, choice):
    """Utterances without padding (beside them it leaks into the last frame's weight) in which the
    reference fires all tokens.
    """
    embeds = oracle.arrays[f"train/ind{choice}/acoustic_embeds"]
    fires = (embeds != 0).any(-1).sum(1)
    lengths = oracle.arrays["train/feat_lens"]
    whole = (fires == oracle.arrays["train/text_lens"] + 1) & (lengths == lengths.max())
    return whole.nonzero().flatten().tolist()


@pytest.fixture(scope="module")
def lessons(oracle):
    first_two = [oracle.release.frontend(oracle.wave(tag)) for tag in oracle.tags[:2]]
    feats, lengths = pad(first_two)
    assert lengths.tolist() == oracle.arrays["train/feat_lens"].tolist()
    return feats, lengths, oracle.arrays["train/text"], oracle.arrays["train/text_lens"]


@pytest.mark.parametrize("choice", [0, 1])
def test_masks(oracle, choice):
    rule = released_chunks(oracle).rule(choice)
    lengths = torch.tensor([41, 23])
    plan = make_plan(lengths, rule, 41)
    expected = {
        name: without_gaps(oracle.arrays[f"masks/ind{choice}/lens41,23/{name}"], rule.rows, 0)
        for name in ("x_add_mask", "mask_chunk_predictor", "mask_att_chunk_encoder")
    }
    size = plan.frames.size(1)
    # Row n of x_add_mask is 1 at the frame that stands there.
    theirs = fit(expected["x_add_mask"], size, 0)
    ours = torch.nn.functional.one_hot(plan.frames[0], 42)[:, :41]
    assert torch.equal(ours, theirs.long())
    current = fit(expected["mask_chunk_predictor"][:, 0], size, 0).bool()
    assert torch.equal(plan.current[0], current & plan.real[0])
    seen = without_gaps(expected["mask_att_chunk_encoder"], rule.rows, 1).bool()
    inside = len(seen)
    real = plan.real[0, :inside]
    assert torch.equal(plan.visible[0, 0, :inside, :inside][real][:, real], seen[real][:, real])
    theirs = oracle.arrays[f"masks/ind{choice}/lens41,23/x_len_chunk"].tolist()
    last = [(n - 1) // rule.stride for n in lengths.tolist()]  # chunks before the last one
    assert [int(n) + GAP * (k + 1) for n, k in zip(plan.real.sum(1), last, strict=True)] == theirs


@pytest.mark.parametrize("choice", [0, 1])
def test_encoder(oracle, lessons, choice):
    model, (feats, lengths, _, _) = oracle.release.model, lessons
    rule = released_chunks(oracle).rule(choice)
    plan = make_plan(lengths, rule, feats.size(1))
    with torch.no_grad():
        memory, _ = model.encode_in_chunks(feats, lengths, plan)
    theirs = without_gaps(oracle.arrays[f"train/ind{choice}/encoder_out_0"], rule.rows, 0)
    real = plan.real[0, : len(theirs)]
    close(memory[0, : len(theirs)][real], theirs[real], 1e-4, 1e-4)


@pytest.mark.parametrize("choice", [0, 1])
def test_tokens_and_what_they_see(oracle, lessons, choice):
    model, (feats, lengths, text, text_lengths) = oracle.release.model, lessons
    rule = released_chunks(oracle).rule(choice)
    plan = make_plan(lengths, rule, feats.size(1))
    model.sampling_ratio = 0.0
    with torch.no_grad():
        memory, _ = model.encode_in_chunks(feats, lengths, plan)
        taught = model.teach(memory, lengths, text, text_lengths, plan)
    embeds = oracle.arrays[f"train/ind{choice}/acoustic_embeds"]
    rows = sound_rows(oracle, choice)
    if not rows:
        pytest.skip("the reference lost tokens of these utterances")
    close(taught.predicted.embeds[rows], embeds[rows], 1e-4, 1e-4)
    seen = plan.token_keys(taught.predicted.sums, taught.target_lengths, 19)[:, 0]
    theirs = without_gaps(oracle.arrays[f"train/ind{choice}/scama_mask"], rule.rows, 2).bool()
    for row in rows:
        count = int(taught.target_lengths[row])
        assert torch.equal(seen[row, :count, : theirs.size(2)], theirs[row, :count])


@pytest.mark.parametrize("choice", [0, 1])
@pytest.mark.parametrize("ratio", [0.0, 0.75])
def test_losses_and_gradients(oracle, lessons, choice, ratio, monkeypatch):
    model, (feats, lengths, text, text_lengths) = oracle.release.model, lessons
    if len(sound_rows(oracle, choice)) < 2:
        pytest.skip("the reference's losses hold a padding leak or a lost token here")
    expected = oracle.facts[f"train/ind{choice}/sampling_ratio{ratio}"]
    plan = make_plan(lengths, released_chunks(oracle).rule(choice), feats.size(1))
    monkeypatch.setattr(torch, "randperm", torch.arange)
    conf = oracle.release.config["model_conf"]
    weights = Weights(**{k: v for k, v in conf.items() if k in Weights._fields})
    model.sampling_ratio = ratio
    model.zero_grad()
    memory, _ = model.encode_in_chunks(feats, lengths, plan)
    result = paraformer_losses(model, weights, (memory, lengths), text, text_lengths, plan)
    result.loss.backward()
    assert result.weight == expected["weight"]
    for name, value in expected["stats"].items():
        assert float(result.stats[name]) == pytest.approx(value, rel=1e-4), name
    parameters = dict(model.named_parameters())
    ours = {name: float(parameters[name].grad.norm()) for name in expected["grad_norm"]}
    assert ours == pytest.approx(expected["grad_norm"], rel=1e-3, abs=1e-4)
