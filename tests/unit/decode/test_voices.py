"""Embeddings: a batch gives what each gives alone, and what cannot be heard says why."""

from __future__ import annotations

import pytest
import torch

from paraformer.decode.voices import Voices, similarity
from paraformer.errors import AudioError, CheckpointError
from tests import tiny


@pytest.fixture(scope="module")
def voices():
    return Voices(tiny.voices())


def noise(seconds, seed=0):
    return 0.1 * torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(seed))


def test_a_batch_gives_what_each_gives_alone(voices):
    waves = [noise(n, seed) for seed, n in enumerate((1.5, 0.4, 1.5, 3.1, 1.5, 0.4))]
    for wave, found in zip(waves, voices.embed(waves), strict=True):
        assert found.shape == (24,)
        torch.testing.assert_close(found, voices.embed([wave])[0], atol=5e-5, rtol=1e-5)


def test_more_than_one_pass_keeps_the_order(voices):
    waves = [noise(1.5, seed) for seed in range(19)]  # eight windows of 148 frames a pass
    together = torch.stack(voices.embed(waves))
    alone = torch.stack([voices.embed([wave])[0] for wave in waves])
    torch.testing.assert_close(together, alone, atol=5e-5, rtol=1e-5)


def test_features_have_no_mean(voices):
    feats = voices.features(noise(1.0) + 0.0)
    assert feats.shape == (98, 80)
    torch.testing.assert_close(feats.mean(0), torch.zeros(80), atol=1e-4, rtol=0)


def test_loudness_alone_changes_nothing(voices):
    """Without the scale of 16-bit samples, a factor is a constant of the logarithm."""
    one, other = voices.embed([noise(2.0), 0.5 * noise(2.0)])
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_one_that_cannot_be_heard_leaves_the_others(voices):
    bad = noise(1.5)
    bad[100] = float("nan")
    short, nothing, broken, good, silent = voices.embed(
        [noise(0.044), torch.zeros(0), bad, noise(1.5), torch.zeros(24000)]
    )
    assert str(short) == "44 ms are too short to hear a voice in; give 45 ms or more"
    assert isinstance(nothing, AudioError)
    assert "1 of 24000 samples are NaN or infinite" in str(broken)
    torch.testing.assert_close(good, voices.embed([noise(1.5)])[0], atol=1e-5, rtol=1e-5)
    assert silent.isfinite().all()
    assert voices.embed([noise(0.045)])[0].shape == (24,)


def test_weights_that_give_no_numbers_are_said():
    release = tiny.voices()
    with torch.no_grad():
        release.model.xvector.dense.linear.weight[0, 0] = float("nan")
    (found,) = Voices(release).embed([noise(1.5)])
    assert isinstance(found, CheckpointError)
    assert "output is not finite" in str(found)


def test_similarity_is_the_cosine():
    assert similarity(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])) == pytest.approx(0.96)
    assert similarity(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0])) == pytest.approx(-1.0)
