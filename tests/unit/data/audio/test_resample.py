"""Resampling against torchaudio's, and both ways of computing it against each other."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio

from paraformer.data.audio import resample as module
from paraformer.data.audio.resample import resample
from paraformer.errors import AudioError

RATES = [
    (44100, 16000),
    (48000, 16000),
    (8000, 16000),
    (11025, 16000),
    (14400, 16000),
    (16000, 9600),
]


def noise(samples):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("orig", "new"), RATES)
@pytest.mark.parametrize("samples", [1, 2, 57, 4410, 10007])
def test_equal_to_torchaudio(orig, new, samples):
    wave = noise(samples)
    ours = resample(wave, orig, new)
    assert len(ours) == math.ceil(new * samples / orig)
    torch.testing.assert_close(
        ours, torchaudio.transforms.Resample(orig, new)(wave), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(("orig", "new"), RATES)
def test_both_ways_and_any_block_give_the_same(monkeypatch, orig, new):
    wave = noise(9000)
    usual = resample(wave, orig, new)
    monkeypatch.setattr(module, "BLOCK_VALUES", 5000)
    torch.testing.assert_close(resample(wave, orig, new), usual, atol=1e-6, rtol=0)
    monkeypatch.setattr(module, "DENSE_LIMIT", 0)
    torch.testing.assert_close(resample(wave, orig, new), usual, atol=1e-6, rtol=0)


def test_a_tone_keeps_its_height_at_coprime_rates():
    """440 Hz sampled at 44101 Hz, heard at 16000 Hz: the sine itself, away from the ends."""

    def tone(rate):
        return torch.sin(2 * math.pi * 440 * torch.arange(rate, dtype=torch.float64) / rate).float()

    ours = resample(tone(44101), 44101, 16000)
    torch.testing.assert_close(ours[100:-100], tone(16000)[100:-100], atol=2e-3, rtol=0)


def test_the_same_rate_and_no_samples_change_nothing():
    wave = noise(10)
    assert resample(wave, 16000, 16000) is wave
    assert resample(wave[:0], 8000, 16000).shape == (0,)


@pytest.mark.parametrize(("orig", "new"), [(0, 16000), (16000, -1), (16000.5, 16000)])
def test_impossible_rates_are_refused(orig, new):
    with pytest.raises(AudioError, match="whole numbers"):
        resample(noise(10), orig, new)
