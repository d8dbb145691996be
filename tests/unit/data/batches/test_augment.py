"""Augmentation keeps shapes, stays within its limits, and repeats under the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paraformer.data.batches.augment import (
    Augment,
    SpecAug,
    SpecAugLfr,
    add_noise,
    add_room,
    limit_band,
    mask_bands,
    mask_times,
    quiet_frames,
    time_warp,
    warp_voice,
)

FRAMES, MELS = 120, 40
EVERYTHING = Augment(
    gain_db=6.0,
    warp=0.1,
    noise_probability=1.0,
    room_probability=1.0,
    band_probability=1.0,
    freq_masks=2,
    freq_width=8,
    time_masks=2,
    time_width=20,
)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def x(random):
    return random.normal(-2.0, 3.0, (FRAMES, MELS)).astype(np.float32)


MEAN = np.linspace(-3, 3, MELS).astype(np.float32)


def test_nothing_asked_for_is_nothing_done(x, random):
    out = Augment()(x, MEAN, random)
    assert np.array_equal(out, x)
    assert out is not x


def test_the_input_is_left_alone_and_the_result_repeats(x):
    before = x.copy()
    first = EVERYTHING(x, MEAN, np.random.default_rng(1))
    assert np.array_equal(x, before)
    assert np.array_equal(first, EVERYTHING(x, MEAN, np.random.default_rng(1)))
    assert not np.array_equal(first, EVERYTHING(x, MEAN, np.random.default_rng(2)))
    assert first.shape == x.shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()


def test_gain_is_one_number_within_its_limit(x, random):
    limit = 6.0 * np.log(10) / 10
    for _ in range(50):
        change = Augment(gain_db=6.0)(x, MEAN, random) - x
        assert np.ptp(change) < 1e-5
        assert abs(change).max() <= limit + 1e-5


def test_a_click_in_a_room_falls_by_60_db_in_its_time_and_rings_with_its_share_of_power():
    click = np.full((60, 3), -200.0, np.float64)
    click[5] = 0.0  # the power 1
    seconds, ratio_db = 0.3, -4.0
    rung = add_room(click, seconds, ratio_db)
    power = np.exp(rung)
    assert np.allclose(power[5], 1.0)
    # 30 frames of the middle band, in which 60 dB are lost in 0.3 s / 1.125.
    fall = 10 * np.log10(power[6, 1] / power[26, 1])
    np.testing.assert_allclose(fall, 60 * 0.2 * 1.125 / seconds)
    np.testing.assert_allclose(power[6:, 1].sum(), 10 ** (ratio_db / 10), rtol=2e-3)
    assert (rung[:5] < -100).all()  # nothing sounds before it


def test_a_room_without_echoes_changes_nothing_and_one_frame_has_none(x):
    np.testing.assert_allclose(add_room(x, 0.3, -300.0), x, atol=1e-5)
    np.testing.assert_allclose(add_room(x[:1], 0.3, 0.0), x[:1], atol=1e-5)


def test_a_narrow_band_loses_what_is_outside_down_to_the_quietest_cell(x):
    narrow = limit_band(x, 0.1, 0.75, 10.0)
    assert np.array_equal(narrow[:, 4:30], x[:, 4:30])
    for outside in (slice(0, 4), slice(30, 40)):
        expected = np.maximum(x[:, outside] - np.log(10.0), x.min())
        np.testing.assert_allclose(narrow[:, outside], expected, rtol=1e-6)


def test_rooms_and_bands_that_are_off_draw_nothing(x):
    """So a training with a seed is the one that it was before there were rooms."""
    plain = Augment(gain_db=6.0, warp=0.1, noise_probability=0.5)
    off = Augment(gain_db=6.0, warp=0.1, noise_probability=0.5, room_seconds=(0.5, 0.9))
    one, two = (each(x, MEAN, np.random.default_rng(3)) for each in (plain, off))
    assert np.array_equal(one, two)
    wet = Augment(room_probability=1.0)(x, MEAN, np.random.default_rng(3))
    assert (wet >= x - 1e-5).all() and not np.allclose(wet, x)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_a_warped_ramp_is_a_ramp_of_another_slope(factor):
    ramp = np.arange(MELS, dtype=np.float32)[None]
    expected = np.minimum(ramp * factor, MELS - 1)
    np.testing.assert_allclose(warp_voice(ramp, factor), expected, rtol=1e-5)


def test_no_warp_is_the_identity(x):
    np.testing.assert_allclose(warp_voice(x, 1.0), x)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_noise_has_the_power_that_was_asked_for(snr_db):
    """Within what the tilt and the chance of one draw allow."""
    random = np.random.default_rng(3)
    flat = np.zeros((2000, MELS), np.float32)
    added = [np.exp(add_noise(flat, snr_db, random)).mean() - 1 for _ in range(40)]
    found = -10 * np.log10(np.mean(added))
    assert found == pytest.approx(snr_db, abs=3.0)


def test_noise_only_adds(x, random):
    assert (add_noise(x, 10.0, random) >= x - 1e-5).all()


def test_band_masks_are_few_narrow_and_the_mean(x, random):
    for _ in range(50):
        out = mask_bands(x.copy(), 2, 8, MEAN, random)
        changed = (out != x).all(0)
        assert (changed | (out == x).all(0)).all()
        assert changed.sum() <= 16
        assert (out[:, changed] == MEAN[changed]).all()


def test_time_masks_are_short_and_a_share_of_the_utterance(x, random):
    for _ in range(50):
        out = mask_times(x.copy(), 2, 50, 0.1, MEAN, random)
        changed = (out != x).all(1)
        assert changed.sum() <= 2 * 0.1 * FRAMES
        assert (out[changed] == MEAN).all()


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_very_short_utterances(random, frames):
    x = random.normal(size=(frames, MELS)).astype(np.float32)
    for _ in range(20):
        out = EVERYTHING(x, MEAN, random)
        assert out.shape == x.shape
        assert np.isfinite(out).all()
    assert quiet_frames(x, 3, random).shape == (3, MELS)


def test_quiet_frames_are_of_the_quietest_tenth(x, random):
    x = x + np.arange(FRAMES, dtype=np.float32)[:, None]
    drawn = quiet_frames(x, 50, random)
    assert len(drawn) == 50
    quietest = x[np.argsort(x.mean(1))[:12]]
    assert all((row == quietest).all(1).any() for row in drawn)


# on stacked batches, as the released configs name it


def test_specaug_lfr_repeats_its_masks_in_each_part():
    torch.manual_seed(0)
    x = torch.ones(4, 70, 560)
    out = SpecAugLfr(apply_time_mask=False)(x)
    for row in out:
        bands = row.unflatten(1, (7, 80))
        assert (bands == bands[:1, :1]).all()
        assert (bands[0, 0] == 0).sum() < 30
    out = SpecAugLfr(apply_freq_mask=False)(x)
    for row in out:
        spans = row[:, 0].view(7, 10)
        assert (spans == spans[:1]).all()
        assert (row == row[:, :1]).all()
    assert (x == 1).all()


@pytest.mark.parametrize("augment", [SpecAug(), SpecAugLfr()])
def test_specaug_masks_each_utterance_by_itself(augment):
    torch.manual_seed(0)
    x = torch.ones(6, 200, 560)
    out = augment(x)
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert len({row.numpy().tobytes() for row in out}) == 6


@pytest.mark.parametrize("augment", [SpecAug(), SpecAugLfr()])
def test_specaug_of_few_frames(augment):
    torch.manual_seed(0)
    for frames in (1, 3, 8):
        assert augment(torch.ones(2, frames, 560)).shape == (2, frames, 560)


def test_specaug_masks_are_as_wide_as_allowed():
    torch.manual_seed(0)
    augment = SpecAug(time_mask_width_range=(5, 6), num_time_mask=1, apply_freq_mask=False)
    out = augment(torch.ones(20, 100, 80))
    assert ((out[:, :, 0] == 0).sum(1) == 5).all()


def test_a_time_warp_keeps_the_shape_the_ends_and_the_order_of_events() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(40.0)[:, None].expand(40, 3)
    moved = False
    for _ in range(20):
        out = time_warp(ramp, 5)
        assert out.shape == ramp.shape
        assert out[0, 0].abs() < 1.5 and (out[-1, 0] - 39).abs() < 1.5
        assert (out.diff(dim=0) > -0.5).all()
        moved = moved or bool((out - ramp).abs().max() > 0.5)
    assert moved
    assert torch.equal(time_warp(ramp[:10], 5), ramp[:10])


def test_a_time_warp_of_a_batch_leaves_the_padding_zero() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 40, 8)
    x[1, 25:] = 0.0
    warp = SpecAug(apply_time_warp=True, apply_freq_mask=False, apply_time_mask=False)
    out = warp(x, torch.tensor([40, 25]))
    assert torch.equal(out[1, 25:], x[1, 25:])
    assert not torch.equal(out[0], x[0])
