"""CTC over two views of an utterance."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer.data.batches.augment import SpecAug, SpecAugLfr
from paraformer.data.batches.dataset import Batch
from paraformer.errors import ConfigError
from paraformer.train.consistency import Consistency, two_views
from paraformer.train.losses import Weights, view_distances
from paraformer.train.objective import Objective
from tests.tiny import LFR, N_MELS, release

MASKS = SpecAugLfr(lfr_rate=0, freq_mask_width_range=(2, 6), time_mask_width_range=(2, 5))
WIDTH = N_MELS * LFR[0]


def batch(rows: int = 3, frames: int = 20, width: int = WIDTH) -> Batch:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([frames, frames - 4, frames - 7])[:rows]
    text = torch.tensor([[3, 4, 5], [6, 7, -1], [4, -1, -1]])[:rows]
    return Batch(
        [f"u{i}" for i in range(rows)],
        torch.randn(rows, frames, width, generator=generator),
        lengths,
        text,
        (text >= 0).sum(1),
        torch.zeros(rows, 0, dtype=torch.int64),
        torch.zeros(rows, dtype=torch.int64),
        1.0,
    )


def test_the_distance_is_the_divergence_of_each_frame_from_its_other_view():
    one, two = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    logp = torch.stack((one, two)).log()[:, None].expand(2, 3, 2)
    from_two = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    from_one = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    found = view_distances(logp, torch.tensor([2, 2]))  # of three frames two are real
    assert found.tolist() == pytest.approx([2 * from_two, 2 * from_one])


def test_equal_views_have_no_distance_and_pull_at_nothing():
    scores = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0))
    scores = torch.cat((scores, scores)).requires_grad_()
    distance = view_distances(scores.log_softmax(-1), torch.tensor([5, 4, 3, 5] * 2)).sum()
    distance.backward()
    assert float(distance.detach()) == pytest.approx(0.0, abs=1e-6)
    assert scores.grad is not None
    assert float(scores.grad.abs().max()) < 1e-6


def test_each_view_is_drawn_to_the_other_which_is_taken_for_given():
    """The gradient of KL(q || softmax(x)) in x is softmax(x) - q."""
    scores = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(2)).requires_grad_()
    view_distances(scores.log_softmax(-1), torch.tensor([4, 4])).sum().backward()
    p = scores.detach().softmax(-1)
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, p - p.flip(0))


def test_views_have_their_own_masks_and_one_time_warp():
    whole = batch()
    torch.manual_seed(0)
    views = two_views(whole, MASKS)
    assert views.feats.shape == (6, 20, WIDTH)
    first, second = views.feats.chunk(2)
    assert not torch.equal(first, second)
    for view in (first, second):  # only cells of masks are changed
        changed = view != whole.feats
        assert int(changed.sum()) > 0 and int(view[changed].abs().sum()) == 0
    for name in ("lengths", "text", "text_lengths"):
        one, two = getattr(views, name).chunk(2)
        assert torch.equal(one, two) and torch.equal(one, getattr(whole, name))
    warped = two_views(
        whole, SpecAug(apply_time_warp=True, apply_freq_mask=False, apply_time_mask=False)
    )
    first, second = warped.feats.chunk(2)
    assert torch.equal(first, second) and not torch.equal(first, whole.feats)


def test_the_loss_of_training_has_the_distance_beside_ctc():
    weights = Weights(ctc_weight=0.3, predictor_weight=1.0)
    objective = Objective(
        release({"model_conf": {"ctc_weight": 0.3}}).model,
        weights,
        specaug=MASKS,
        consistency=Consistency(weight=0.2),
    )
    torch.manual_seed(0)
    result = objective.train()(batch(), 1)
    stats = {name: float(value) for name, value in result.stats.items()}
    heard = stats["loss_ctc"] + 0.2 * stats["loss_cr"]
    whole = 0.3 * heard + 0.7 * stats["loss_att"] + stats["loss_pre"]
    assert stats["loss_cr"] > 0
    assert float(result.loss.detach()) == pytest.approx(whole, rel=1e-5)
    assert "loss_cr" not in objective.eval()(batch(), 1).stats


@pytest.mark.parametrize(
    ("weights", "masks", "alone", "line"),
    [
        (Weights(ctc_weight=0.0), MASKS, True, "ctc_weight"),
        (Weights(ctc_weight=0.3), None, True, "model.specaug"),
        (Weights(ctc_weight=0.3), MASKS, False, "mwer"),
    ],
)
def test_what_gives_nothing_to_compare_is_refused(weights, masks, alone, line):
    with pytest.raises(ConfigError, match=line):
        Consistency(weight=0.2).check(weights, masks, alone)
    Consistency().check(weights, masks, alone)
