"""The risk of errors equals its definition, written again here by loops, and has the properties
that follow from it.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import yaml

from paraformer.data.batches.dataset import Batch
from paraformer.errors import ConfigError
from paraformer.models.release import build_any
from paraformer.nn.chunks import make_plan, streaming_rule
from paraformer.programs.training import make_objective
from paraformer.train.chunking import DynamicChunk
from paraformer.train.losses import Weights, paraformer_losses
from paraformer.train.mwer import (
    Mwer,
    count_errors,
    draw_paths,
    error_risk,
    mwer_losses,
    path_scores,
)
from paraformer.train.objective import AlignerObjective, Objective
from tests import tiny
from tests.conftest import ROOT
from tests.unit.models.test_aligner import ALIGNER
from tests.unit.train.test_hotwords import SEACO

VOCAB = len(tiny.TOKENS)
SPECIAL = (0, 1, 2)
WEIGHTS = Weights(lsm_weight=0.1, length_normalized_loss=True, predictor_weight=1.0)


def risk_of(scores, errors, kept=None):
    kept = torch.ones_like(scores, dtype=torch.bool) if kept is None else kept
    return error_risk(scores, errors, kept)[0]


def test_a_small_example_by_hand():
    """Two paths, three times as likely and with one error, or with three errors; a third one that
    is equal to the first counts for nothing.
    """
    scores = torch.tensor([[math.log(3.0), 0.0, math.log(3.0)]], requires_grad=True)
    kept = torch.tensor([[True, True, False]])
    risk, expected = error_risk(scores, torch.tensor([[1, 3, 1]]), kept)
    risk.backward()
    assert float(risk.detach()) == pytest.approx(0.75 * (1 - 2) + 0.25 * (3 - 2))
    assert float(expected.detach()) == pytest.approx(0.75 * 1 + 0.25 * 3)
    assert scores.grad.tolist() == [pytest.approx([0.75 * (1 - 1.5), 0.25 * (3 - 1.5), 0.0])]


def test_equal_errors_give_neither_loss_nor_gradient():
    scores = torch.randn(3, 4, requires_grad=True)
    risk = risk_of(scores, torch.full((3, 4), 2))
    risk.sum().backward()
    assert risk.detach().tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    assert float(scores.grad.abs().max()) < 1e-6


def test_the_gradient_is_the_share_times_what_errors_exceed_the_expected_ones():
    torch.manual_seed(0)
    scores = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    errors = torch.randint(0, 9, (5, 4))
    risk_of(scores, errors).sum().backward()
    for row in range(5):
        weights = [math.exp(value) for value in scores[row].tolist()]
        shares = [weight / sum(weights) for weight in weights]
        mean = sum(p * w for p, w in zip(shares, errors[row].tolist(), strict=True))
        wanted = [p * (w - mean) for p, w in zip(shares, errors[row].tolist(), strict=True)]
        assert scores.grad[row].tolist() == pytest.approx(wanted)


def test_one_path_gives_nothing():
    scores = torch.randn(3, 1, requires_grad=True)
    risk = risk_of(scores, torch.tensor([[4], [0], [1]]))
    risk.sum().backward()
    assert not risk.any()
    assert not scores.grad.any()


def test_a_constant_changes_nothing():
    torch.manual_seed(1)
    scores, errors = torch.randn(3, 4, dtype=torch.float64), torch.randint(0, 9, (3, 4))
    moved = scores + torch.tensor([[5.0], [-700.0], [1e4]])
    assert torch.allclose(risk_of(scores, errors), risk_of(moved, errors), atol=1e-10)


def test_a_step_makes_paths_with_fewer_errors_likelier():
    torch.manual_seed(2)
    scores = torch.randn(1, 5, requires_grad=True)
    errors = torch.tensor([[3, 0, 4, 1, 7]])
    before = scores.softmax(-1).detach()
    risk_of(scores, errors).sum().backward()
    after = (scores - 0.1 * scores.grad).softmax(-1).detach()
    expected = float((before * errors).sum())
    assert float((after * errors).sum()) < expected
    best, worst = errors.argmin(), errors.argmax()
    assert after[0, best] > before[0, best]
    assert after[0, worst] < before[0, worst]


def distance(a, b):
    """Levenshtein by its recursion."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            ways = table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (x != y)
            table[i][j] = min(ways)
    return table[-1][-1]


def said(path):
    """A path up to its first end symbol, without special ids."""
    path = path[: path.index(2)] if 2 in path else path
    return [token for token in path if token not in SPECIAL]


def test_errors_are_edit_distances_of_what_a_path_says():
    random = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 7, (40, 4, 9), generator=random)
    lengths = torch.randint(0, 10, (40,), generator=random)
    text = torch.randint(3, 7, (40, 8), generator=random)
    text_lengths = torch.randint(0, 9, (40,), generator=random)
    found = count_errors(ids, lengths, text, text_lengths, SPECIAL)
    for row in range(40):
        reference = text[row, : text_lengths[row]].tolist()
        for n in range(4):
            path = ids[row, n, : lengths[row]].tolist()
            assert found[row, n] == distance(said(path), reference)


class TestPaths:
    lengths = torch.tensor([10, 3, 0, 1])

    def logits(self):
        return torch.randn(4, 10, VOCAB, generator=torch.Generator().manual_seed(4))

    @pytest.mark.parametrize(("ratio", "changed"), [(0.2, 2), (0.0, 1), (0.5, 5), (1.0, 10)])
    def test_second_best_tokens_at_a_share_of_the_positions(self, ratio, changed):
        logits = self.logits()
        ids, kept = draw_paths(logits, self.lengths, Mwer(nbest=6, mask_ratio=ratio))
        best, second = logits.topk(2, -1).indices.unbind(-1)
        assert torch.equal(ids[:, 0], best)
        differs = ids[0] != best[0]
        assert differs[1:].sum(-1).tolist() == [changed] * 5
        assert torch.equal(ids[0][differs], second[0].expand(6, -1)[differs])
        for row, length in enumerate(self.lengths.tolist()):
            paths = [tuple(path[:length]) for path in ids[row].tolist()]
            fresh = [path not in paths[:n] for n, path in enumerate(paths)]
            assert kept[row].tolist() == fresh
        assert kept[2].tolist() == [True] + [False] * 5  # nothing was said

    def test_samples_follow_the_probabilities_of_the_other_tokens(self):
        logits = torch.tensor([[[1.0, 3.0, 2.0, 0.0]]])
        generator = torch.Generator().manual_seed(5)
        mwer = Mwer(nbest=20001, draw="sample")
        ids = _sampled(logits, mwer, generator)
        shares = [float((ids == token).float().mean()) for token in range(4)]
        total = math.e**1 + math.e**2 + 1
        wanted = [math.e / total, 0.0, math.e**2 / total, 1 / total]
        assert shares == pytest.approx(wanted, abs=0.015)

    @pytest.mark.parametrize("number", [2, 4, 9, 40])
    def test_the_closest_are_the_most_likely_ones_with_second_tokens(self, number):
        """All sets of positions are tried; of ten the two surest never differ."""
        logits = self.logits()
        ids, kept = draw_paths(logits, self.lengths, Mwer(nbest=number, draw="closest"))
        best, second = logits.topk(2, -1).indices.unbind(-1)
        for row, length in enumerate(self.lengths.tolist()):
            pairs = [(int(best[row, u]), int(second[row, u])) for u in range(length)]
            gaps = sorted(
                float(logits[row, u, a] - logits[row, u, b]) for u, (a, b) in enumerate(pairs)
            )
            costs = sorted(
                sum(gap for gap, taken in zip(gaps[:8], chosen, strict=True) if taken)
                for chosen in itertools.product((0, 1), repeat=min(8, length))
            )
            found = path_scores(logits, self.lengths, ids)[row][kept[row]]
            wanted = [float(found[0]) - cost for cost in costs[:number]]
            assert found.tolist() == pytest.approx(wanted, abs=1e-4)

    def test_a_generator_repeats_them(self):
        mwer = Mwer(nbest=8, draw="sample")
        pair = [
            draw_paths(self.logits(), self.lengths, mwer, torch.Generator().manual_seed(6)).ids
            for _ in range(2)
        ]
        assert torch.equal(*pair)
        assert len(draw_paths(self.logits(), self.lengths, mwer).ids[0, :, :10].unique(dim=0)) > 2


def _sampled(logits, mwer, generator):
    """What stands instead of the best token, in many paths of one position."""
    from paraformer.train import mwer as module

    best = logits.argmax(-1)
    return module._sample_others(logits, best, mwer.nbest - 1, generator)[0, :, 0]


@pytest.fixture
def model():
    built = tiny.release({"model_conf": {"sampling_ratio": 0.0}}).model
    return built.eval()


@pytest.fixture
def batch():
    """Features of 3 utterances with garbage in the padding, and their text."""
    torch.manual_seed(1)
    lengths, text_lengths = torch.tensor([20, 7, 13]), torch.tensor([5, 1, 3])
    text = torch.randint(3, VOCAB, (3, 6))
    text = text.masked_fill(torch.arange(6) >= text_lengths[:, None], -1)
    return torch.randn(3, 20, 56), lengths, text, text_lengths


def losses(model, mwer, batch, weights=WEIGHTS, seed=0):
    feats, lengths, *text = batch
    generator = torch.Generator().manual_seed(seed)
    encoded = model.encode(feats, lengths)
    return mwer_losses(model, weights, mwer, encoded, tuple(text), None, generator)


def brute_force(logits, lengths, ids, batch, normalized):
    """The loss by its definition, a path and a token at a time, in float64."""
    logp = logits.double().log_softmax(-1)
    total, size = 0.0, 0
    for row, length in enumerate(lengths.tolist()):
        paths = []
        for path in ids[row].tolist():
            if path[:length] not in paths:
                paths.append(path[:length])
        scores = [sum(logp[row, u, token] for u, token in enumerate(path)) for path in paths]
        shares = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        reference = batch[2][row, : batch[3][row]].tolist()
        errors = [distance(said(path), reference) for path in paths]
        mean = sum(errors) / len(errors)
        total = total + sum(p * (w - mean) for p, w in zip(shares, errors, strict=True))
        size += len(reference) + 1 if normalized else 1
    return total / size


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("draw", ["second", "sample", "closest"])
def test_loss_and_gradient_equal_the_definition(model, batch, draw, normalized):
    mwer = Mwer(weight=1.0, nbest=5, mask_ratio=0.4, gamma=0.0, draw=draw)
    weights = Weights(length_normalized_loss=normalized)
    result = losses(model, mwer, batch, weights)
    result.loss.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    taught = model.teach(*model.encode(*batch[:2]), *batch[2:])
    generator = torch.Generator().manual_seed(0)
    ids = draw_paths(taught.logits, taught.target_lengths, mwer, generator).ids
    expected = brute_force(taught.logits, taught.target_lengths, ids, batch, normalized)
    expected.backward()
    assert float(result.stats["loss_werr"]) == pytest.approx(float(expected.detach()), abs=1e-6)
    assert abs(float(expected.detach())) > 1e-4
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(ours[name], parameter.grad, atol=1e-6), name


def test_the_sum_is_gamma_cross_entropy_count_error_and_the_weighted_risk(model, batch):
    result = losses(model, Mwer(weight=2.0, gamma=0.25), batch)
    plain = paraformer_losses(model, WEIGHTS, model.encode(*batch[:2]), *batch[2:])
    parts = {name: float(value) for name, value in result.stats.items()}
    assert parts["loss_att"] == pytest.approx(float(plain.stats["loss_att"]), rel=1e-6)
    wanted = 0.25 * parts["loss_att"] + parts["loss_pre"] + 2.0 * parts["loss_werr"]
    assert parts["loss"] == pytest.approx(wanted, rel=1e-6)
    assert result.weight == plain.weight


def test_a_batch_is_the_weighted_mean_of_its_utterances(model, batch):
    """Whatever stands in the padding. Every position is changed, so nothing is left to chance."""
    mwer = Mwer(weight=1.0, nbest=2, mask_ratio=1.0)
    whole = losses(model, mwer, batch)
    total = 0.0
    for row, (t, u) in enumerate(zip(batch[1].tolist(), batch[3].tolist(), strict=True)):
        one = slice(row, row + 1)
        alone = (batch[0][one, :t], batch[1][one], batch[2][one, :u], batch[3][one])
        result = losses(model, mwer, alone)
        total += float(result.loss.detach()) * result.weight / whole.weight
    assert float(whole.loss.detach()) == pytest.approx(total, rel=1e-5)


def test_padding_changes_neither_scores_nor_errors():
    random = torch.Generator().manual_seed(7)
    logits, ids = torch.randn(2, 6, 9), torch.randint(0, 9, (2, 3, 6), generator=random)
    lengths, text = torch.tensor([4, 6]), torch.randint(3, 9, (2, 5), generator=random)
    sizes = torch.tensor([5, 2])
    wide, more = torch.full((2, 9, 9), torch.inf), torch.full((2, 3, 9), 5)
    wide[:, :6], more[..., :6] = logits, ids
    text_more = torch.cat((text, torch.full((2, 3), -1)), 1)
    assert torch.allclose(path_scores(logits, lengths, ids), path_scores(wide, lengths, more))
    narrow = count_errors(ids, lengths, text, sizes, SPECIAL)
    assert torch.equal(narrow, count_errors(more, lengths, text_more, sizes, SPECIAL))


def test_with_the_sampler_the_paths_are_of_a_pass_that_sees_no_true_token(model, batch):
    mwer = Mwer(weight=1.0)
    without = losses(model, mwer, batch)
    model.sampling_ratio = 0.9
    torch.manual_seed(0)
    beside = losses(model, mwer, batch)
    assert float(beside.stats["loss_werr"]) == pytest.approx(float(without.stats["loss_werr"]))
    assert float(beside.stats["loss_att"]) != pytest.approx(float(without.stats["loss_att"]))


def test_with_the_predicted_number_of_tokens(model, batch):
    """The paths are those of recognition, and their gradient reaches the predictor."""
    result = losses(model, Mwer(weight=1.0, nbest=1, gamma=0.0, length="predicted"), batch)
    memory, lengths = model.encode(*batch[:2])
    heard = model.predict(memory, lengths)
    best = model.decode(heard.embeds, heard.token_lengths, memory, lengths).argmax(-1)
    errors = sum(
        distance(said(row[:count]), text[:size])
        for row, count, text, size in zip(
            best.tolist(), heard.token_lengths.tolist(), batch[2].tolist(), batch[3], strict=True
        )
    )
    assert float(result.stats["expected_errors"]) == pytest.approx(errors / int(batch[3].sum()))
    risk = losses(model, Mwer(weight=1.0, length="predicted"), batch, Weights())
    risk.loss.backward()
    assert model.predictor.cif_output.weight.grad.abs().sum() > 0


def training_batch(batch):
    feats, lengths, text, text_lengths = batch
    nothing = torch.zeros(3, 0, dtype=torch.int64)
    return Batch(["a", "b", "c"], feats, lengths, text, text_lengths, nothing, lengths * 0, 1.0)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_chunks(model, batch, ratio):
    """One chunk that holds all the utterance is the whole utterance."""
    model.sampling_ratio = ratio
    plan = make_plan(batch[1], streaming_rule((0, 40, 0), -1, -1), 20)
    rows, _ = model.encode_in_chunks(*batch[:2], plan)
    results = []
    for encoded, cut in (((rows, batch[1]), plan), (model.encode(*batch[:2]), None)):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        mwer = Mwer(weight=1.0)
        results.append(mwer_losses(model, WEIGHTS, mwer, encoded, batch[2:], cut, generator))
    werr = [float(result.stats["loss_werr"]) for result in results]
    assert werr[0] == pytest.approx(werr[1], abs=1e-5)


@pytest.mark.parametrize("chunking", [None, DynamicChunk(1.0)])
def test_the_objective_descends(model, batch, chunking):
    """Expected errors fall along the gradient of the risk alone, in chunks and without."""
    mwer = Mwer(weight=1.0, nbest=8, mask_ratio=0.5, gamma=0.0)
    weights = Weights(length_normalized_loss=True, predictor_weight=0.0)
    objective = Objective(model, weights, chunking=chunking, mwer=mwer)
    objective.train()
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    expected = []
    for _ in range(8):
        torch.manual_seed(0)
        result = objective(training_batch(batch), 1)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        expected.append(float(result.stats["expected_errors"]))
    assert expected[-1] < 0.9 * expected[0]


def test_off_it_is_cross_entropy(model, batch):
    results = [
        Objective(model, WEIGHTS, mwer=mwer).eval()(training_batch(batch), 1).stats
        for mwer in (None, Mwer())
    ]
    assert results[0] == results[1]
    assert "loss_werr" not in results[0]


def test_validation_draws_the_same_paths_each_time(model, batch):
    objective = Objective(model, WEIGHTS, mwer=Mwer(weight=1.0)).eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        pair = [objective(training_batch(batch), 1).stats["loss_werr"] for _ in range(2)]
    assert pair[0] == pair[1]
    assert torch.equal(state, torch.get_rng_state())


def test_a_model_of_hotwords_refuses_it():
    seaco = tiny.release({**SEACO, "predictor": "CifPredictorV3"}).model
    with pytest.raises(ConfigError, match=r"mwer.weight: .*; set 0"):
        Objective(seaco, WEIGHTS, mwer=Mwer(weight=1.0))


def test_an_aligner_refuses_it():
    """By the configuration of the package, with the weight that switches it on."""
    config = yaml.safe_load((ROOT / "paraformer/conf/train.yaml").read_text(encoding="utf-8"))
    config |= {"model": ALIGNER, "mwer": {"weight": 1.0}}
    with pytest.raises(ConfigError, match=r"mwer.weight: .*; set 0"):
        make_objective(config, build_any(ALIGNER))
    config["mwer"] = {"weight": 0.0}
    assert isinstance(make_objective(config, build_any(ALIGNER)), AlignerObjective)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"edit": "word"}, "mwer.edit=word"),
        ({"length": "true"}, "teacher or predicted"),
        ({"draw": "third"}, "second or sample or closest"),
        ({"nbest": 0}, "mwer.nbest=0: give"),
        ({"mask_ratio": 1.5}, "mwer.mask_ratio=1.5: give"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ConfigError, match=message):
        Mwer(**setting)
