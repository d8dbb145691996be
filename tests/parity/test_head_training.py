"""Losses and gradients of models with times and hotwords equal the reference, utterance by
utterance, and a batch is the mean of its utterances.
"""

from __future__ import annotations

import pytest
import torch

from paraformer.data.batches.dataset import Batch
from paraformer.train.hotwords import Hotwords, SeacoWeights, seaco_losses
from paraformer.train.losses import Weights
from paraformer.train.objective import AlignerObjective, Heads, Objective
from paraformer.train.second_head import SecondHead
from tests.parity.oracle import ALIGNER, BICIF, SEACO, pad, read_lessons


def batch_of(lessons):
    """A training batch of features and ids."""
    feats, lengths = pad([x for x, _ in lessons])
    text, text_lengths = pad([ids for _, ids in lessons], -1)
    nothing = torch.zeros(len(lessons), 0, dtype=torch.int64)
    keys = [f"u{n}" for n in range(len(lessons))]
    return Batch(keys, feats, lengths, text, text_lengths, nothing, text_lengths * 0, 0.0)


def weights_of(oracle):
    conf = oracle.release.config["model_conf"]
    return Weights(**{k: v for k, v in conf.items() if k in Weights._fields})


def gradients(model):
    parameters = model.named_parameters()
    return {name: float(p.grad.norm()) for name, p in parameters if p.grad is not None}


def sound(oracle):
    """Utterances without a frame of more than one token, of which the reference loses some."""
    most = {row: oracle.arrays.get(f"train{row}/alphas_scaled") for row in oracle.sound_lessons()}
    rows = [row for row, alphas in most.items() if alphas is None or float(alphas.max()) < 1.0]
    assert rows
    return rows


@pytest.mark.parametrize("oracle", BICIF, indirect=True, scope="module")
class TestBiCif:
    def objective(self, oracle):
        oracle.release.model.sampling_ratio = 0.0
        return Objective(oracle.release.model, weights_of(oracle)).eval()

    def test_losses(self, oracle):
        lessons, objective = read_lessons(oracle), self.objective(oracle)
        for row in sound(oracle):
            fact = oracle.single(row)["no_sampler"]
            with torch.no_grad():
                result = objective(batch_of(lessons[row : row + 1]), 1)
            for name in ("loss_att", "loss_pre", "loss_pre2", "loss"):
                assert float(result.stats[name]) == pytest.approx(fact["stats"][name], rel=1e-4)
            assert float(result.loss) == pytest.approx(fact["loss"], rel=1e-4)
            assert result.weight == fact["weight"]

    def test_gradients(self, oracle):
        if 0 not in sound(oracle):
            pytest.skip("the reference lost a token of the utterance whose gradients were recorded")
        objective = self.objective(oracle)
        objective.zero_grad()
        objective(batch_of(read_lessons(oracle)[:1]), 1).loss.backward()
        expected = oracle.single(0)["no_sampler"]["grad_norm"]
        ours = gradients(oracle.release.model)
        assert ours == pytest.approx(expected, rel=1e-3, abs=1e-4)

    def test_a_batch_is_the_weighted_mean_of_its_utterances(self, oracle):
        lessons, objective = read_lessons(oracle), self.objective(oracle)
        with torch.no_grad():
            whole = objective(batch_of(lessons), 1)
            each = [objective(batch_of([lesson]), 1) for lesson in lessons]
        mean = sum(float(r.loss) * r.weight for r in each) / sum(r.weight for r in each)
        assert float(whole.loss) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("oracle", SEACO, indirect=True, scope="module")
class TestSeaco:
    def result(self, oracle, rows):
        """Losses of utterances with the reference's hotwords, each alone with those of all."""
        lessons, train = read_lessons(oracle), oracle.facts["train"]
        batch = batch_of([lessons[row] for row in rows])
        model, conf = oracle.release.model, oracle.release.config["model_conf"]
        model.sampling_ratio = 0.0
        seaco = SeacoWeights(**{k: v for k, v in conf.items() if k in SeacoWeights._fields})
        listed = zip(train["hotword_pad"], train["hotword_lengths"], strict=True)
        *words, nothing = [row[:count] for row, count in listed]
        assert nothing == [1]
        labels = torch.tensor([train["seaco_label_pad"][row] for row in rows])
        labels = labels[:, : batch.text.size(1)]
        encoded = model.encode(batch.feats, batch.lengths)
        model.zero_grad()
        text = (batch.text, batch.text_lengths)
        return seaco_losses(
            model, weights_of(oracle), seaco, encoded, text, Hotwords(words, labels, labels)
        )

    def test_losses(self, oracle):
        for row in sound(oracle):
            fact, result = oracle.single(row)["no_sampler"], self.result(oracle, [row])
            for ours, theirs in (("loss_att", "loss_att"), ("acc", "acc_att")):
                expected = fact["stats"][theirs]
                assert float(result.stats[ours]) == pytest.approx(expected, rel=1e-4)
            expected = fact["stats"]["loss_seaco"]
            assert float(result.stats["loss_seaco"]) == pytest.approx(expected, rel=1e-4)
            assert float(result.loss.detach()) == pytest.approx(fact["loss"], rel=1e-4)

    def test_gradients(self, oracle):
        if 0 not in sound(oracle):
            pytest.skip("the reference lost a token of the utterance whose gradients were recorded")
        self.result(oracle, [0]).loss.backward()
        expected = oracle.single(0)["no_sampler"]["grad_norm"]
        ours = gradients(oracle.release.model)
        assert ours == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("oracle", ALIGNER, indirect=True, scope="module")
class TestAligner:
    def test_losses(self, oracle):
        heads = Heads(second=SecondHead(time_weight=0.0))
        model = oracle.release.model
        objective = AlignerObjective(model, weights_of(oracle), heads=heads).eval()
        lessons = read_lessons(oracle)
        with torch.no_grad():
            for row in sound(oracle):
                fact = oracle.single(row)["no_sampler"]
                result = objective(batch_of(lessons[row : row + 1]), 1)
                assert float(result.loss) == pytest.approx(fact["loss"], rel=1e-4)
                assert result.weight == fact["weight"]
