"""The start of a speaker model: transits that pass channels on, discriminants, a last layer."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from paraformer.data.batches.augment import Augment
from paraformer.models.kinds import SPEAKER
from paraformer.models.release import build
from paraformer.train.speaker_start import (
    MIXING,
    SETTLING,
    begin,
    discriminants,
    open_transits,
    settle,
)
from paraformer.train.speakers import CropLoader
from tests.unit.train.test_speakers import CONFIG, PLAIN, voices


def test_a_transit_passes_its_first_channels_on():
    torch.manual_seed(0)
    model = build(CONFIG, SPEAKER).model
    open_transits(model)
    x = torch.randn(2, 28, 50)  # 4 channels and 12 layers of 2
    passed = model.xvector.transit1.linear(x)
    assert passed.shape == (2, 14, 50)
    assert float((passed - x[:, :14]).detach().std()) < 2 * MIXING * math.sqrt(28)


def test_discriminants_are_the_axes_along_which_speakers_differ():
    """Means at (0, 3) and (0, -3), the same square of rows around each: the second axis."""
    square = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    x = torch.cat([square + torch.tensor([5.0, 3]), square + torch.tensor([5.0, -3])])
    speakers = torch.tensor([0] * 4 + [2] * 4)  # of number 1 there is nothing
    found, centre = discriminants(x, speakers, 2)
    torch.testing.assert_close(centre, torch.tensor([5.0, 0.0]))
    # Within: 1, and the ridge; between: 9.
    expected = 1 / math.sqrt(1.3 + 9)
    torch.testing.assert_close(found.abs()[0], torch.tensor([0.0, expected]), atol=1e-5, rtol=1e-4)
    assert abs(abs(float(found[1, 0])) - 1 / math.sqrt(1.3)) < 1e-4


def test_statistics_settle_at_the_mean_of_batches():
    norm = torch.nn.BatchNorm1d(3)
    batches = list(CropLoader(voices(), PLAIN, Augment(), 0).epoch(0))
    parts = [batch._replace(feats=batch.feats[:, 0, :3]) for batch in batches]
    settle(norm, parts)
    expected = torch.stack([part.feats.mean(0) for part in parts]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected)
    assert norm.momentum == 0.1


def test_embeddings_of_the_crops_of_the_start_are_discriminants_around_their_centre():
    torch.manual_seed(0)
    model = build(CONFIG, SPEAKER).model
    batches = list(CropLoader(voices(), replace(PLAIN, per_speaker=40), Augment(), 0).epoch(0))
    begin(model, batches)
    heard = batches[SETTLING:]
    with torch.no_grad():
        embeddings = torch.cat([model(batch.feats) for batch in heard])
    speakers = torch.cat([batch.speakers for batch in heard])
    means = torch.stack([embeddings[speakers == speaker].mean(0) for speaker in range(4)])
    torch.testing.assert_close(means.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    inner = (embeddings - means[speakers]).square().mean(0)
    share = means.square().mean(0) / inner
    # Four speakers differ along three directions: the clearest are the first.
    assert share[:3].min() > 2 * share[3:].max()
