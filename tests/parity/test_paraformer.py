"""Offline Paraformer equals the reference: SAN-M models, and those of the AISHELL recipe
(conformer).
"""

from __future__ import annotations

import pytest
import torch

from paraformer.decode.search import greedy_search
from tests.parity.oracle import CONFORMER, SANM, close, losses, pad, recognise

pytestmark = pytest.mark.parametrize("oracle", SANM + CONFORMER, indirect=True, scope="module")

TOLERANCES = [
    ("encoder_out", 1e-4),
    ("alphas", 1e-5),
    ("cif_peak", 1e-4),
    ("acoustic_embeds", 1e-4),
    ("logp", 5e-4),
]


def test_parameters_have_the_released_names_and_shapes(oracle):
    ours = {name: list(v.shape) for name, v in oracle.release.model.state_dict().items()}
    assert ours == oracle.facts["parameters"]


def test_features(oracle):
    """To 1e-3 as the README of the oracles says, and in truth ten times closer."""
    for tag, ours in zip(oracle.tags, oracle.feats(), strict=True):
        if f"{tag}/feats" in oracle.arrays:
            close(ours, oracle.arrays[f"{tag}/feats"], 1e-4)


@pytest.mark.parametrize(("name", "atol"), TOLERANCES)
def test_a_padded_batch_equals_the_reference_on_each_alone(oracle, decoded, name, atol):
    """Where no features were stored ours count, and logp as in the next test."""
    for tag in oracle.tags:
        own = name == "logp" and f"{tag}/feats" not in oracle.arrays
        close(decoded[tag][name], oracle.arrays[f"{tag}/{name}"], 1e-3 if own else atol)


@pytest.mark.parametrize(("name", "atol"), TOLERANCES)
def test_the_whole_way_from_samples(oracle, heard, name, atol):
    """Fourier transforms of two processors differ by 5e-5, which doubles what logp may be off."""
    atol = 1e-3 if name == "logp" else atol
    for tag in oracle.tags:
        close(heard[tag][name], oracle.arrays[f"{tag}/{name}"], atol)


@pytest.mark.parametrize(("name", "atol"), TOLERANCES)
def test_the_order_and_company_of_a_batch_change_nothing(oracle, heard, name, atol):
    feats = dict(zip(oracle.tags, oracle.feats(), strict=True))
    alone = {tag: recognise(oracle, [x])[0] for tag, x in feats.items()}
    turned = list(feats)[::-1]
    mixed = dict(zip(turned, recognise(oracle, [feats[tag] for tag in turned]), strict=True))
    for tag in oracle.tags:
        close(alone[tag][name], heard[tag][name], atol)
        close(mixed[tag][name], heard[tag][name], atol)


def test_greedy_text(oracle, heard):
    readings = greedy_search(*pad([heard[tag]["logp"] for tag in oracle.tags]))
    facts = [oracle.facts["utt"][tag] for tag in oracle.tags]
    for tag, reading, fact in zip(oracle.tags, readings, facts, strict=True):
        assert heard[tag]["logp"].argmax(-1).tolist() == fact["argmax_ids"]
        assert oracle.release.tokenizer.ids_to_tokens(reading.ids) == fact["tokens"]
        assert oracle.texts([reading.ids]) == [fact["result"][0]["text"]]


# training


@pytest.mark.parametrize("mode", ["no_sampler", "sampler"])
def test_losses_of_each_utterance(oracle, lessons, mode, monkeypatch):
    """The places that the reference's sampler drew were recorded, and are drawn again."""
    for number in oracle.sound_lessons():
        expected = oracle.single(number)[mode]
        drawn = iter(expected["permutations"])
        monkeypatch.setattr(torch, "randperm", lambda n, drawn=drawn: torch.tensor(next(drawn)))
        ours = losses(oracle, [lessons[number]], expected["sampling_ratio"])
        assert ours.weight == expected["weight"]
        for name, value in expected["stats"].items():
            if name != "batch_size":
                assert float(ours.stats[name]) == pytest.approx(value, rel=1e-4), name
        assert next(drawn, None) is None


def test_gradients(oracle, lessons):
    if 0 not in oracle.sound_lessons():
        pytest.skip("the reference lost tokens of the utterance whose gradients were recorded")
    expected = oracle.single(0)["no_sampler"]["grad_norm"]
    losses(oracle, lessons[:1], 0.0)
    parameters = oracle.release.model.named_parameters()
    ours = {name: float(p.grad.norm()) for name, p in parameters if p.grad is not None}
    assert ours == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_teaching(oracle, lessons):
    model = oracle.release.model
    model.sampling_ratio = 0.0
    text, text_lengths = pad([ids for _, ids in lessons], model.ignore_id)
    with torch.no_grad():
        memory, lengths = model.encode(*pad([feats for feats, _ in lessons]))
        taught = model.teach(memory, lengths, text, text_lengths)
    for row in oracle.sound_lessons():
        t, u = int(lengths[row]), int(taught.target_lengths[row])
        arrays = {k: v for k, v in oracle.arrays.items() if k.startswith(f"train{row}/")}
        close(taught.predicted.alphas[row, :t], arrays[f"train{row}/alphas_scaled"], 1e-4)
        close(taught.predicted.embeds[row, :u], arrays[f"train{row}/acoustic_embeds"], 1e-4)
        close(taught.logits[row, :u], arrays[f"train{row}/logits"], 5e-4)


def test_the_loss_of_a_batch_is_the_weighted_mean_of_each_alone(oracle, lessons):
    batch = losses(oracle, lessons, 0.0)
    gradients = [p.grad for p in oracle.release.model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    alone = [losses(oracle, [lesson], 0.0) for lesson in lessons]
    assert batch.weight == sum(one.weight for one in alone)
    for name in ("loss", "loss_att", "loss_pre"):
        mean = sum(float(one.stats[name]) * one.weight for one in alone) / batch.weight
        assert float(batch.stats[name]) == pytest.approx(mean, rel=1e-4), name
