"""Own filter banks against torchaudio's, and the edges: short, silent, long, batched."""

from __future__ import annotations

import pytest
import torch
from torchaudio.compliance import kaldi

from paraformer.data.features import frontend as module
from paraformer.data.features.cmvn import Cmvn
from paraformer.data.features.frontend import WINDOWS, Frontend, low_frame_rate
from paraformer.errors import ConfigError, DataError


def speech_like(samples, seed=0):
    """Noise that swells and fades, with an offset."""
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * torch.sin(torch.arange(samples) / 900.0) + 0.01


def torchaudio_fbank(wave, **options):
    settings = {
        "num_mel_bins": 80,
        "window_type": "hamming",
        "energy_floor": 0.0,
        "sample_frequency": 16000,
    }
    return kaldi.fbank(wave[None] * 32768, **{**settings, **options})


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("snip_edges", [True, False])
def test_fbank_equals_torchaudio(window, snip_edges):
    wave = speech_like(7001)
    ours = Frontend(window=window, snip_edges=snip_edges).fbank(wave)
    theirs = torchaudio_fbank(wave, window_type=window, snip_edges=snip_edges)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_fbank_of_another_rate_and_shape_equals_torchaudio():
    wave = speech_like(5000)
    ours = Frontend(fs=8000, n_mels=40, frame_length=32.0, frame_shift=12.5).fbank(wave)
    theirs = torchaudio_fbank(
        wave, sample_frequency=8000, num_mel_bins=40, frame_length=32.0, frame_shift=12.5
    )
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_every_input_shorter_than_a_frame_is_one_frame():
    wave = speech_like(400)
    for samples in range(2, 401):
        part = wave[:samples]
        theirs = torchaudio_fbank(part, frame_length=min(25.0, samples / 16000 * 1000))
        ours = Frontend().fbank(part)
        assert ours.shape == (1, 80)
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples", [0, 1])
def test_no_samples_are_no_frames(samples):
    frontend = Frontend(lfr_m=7, lfr_n=6, cmvn=Cmvn(torch.zeros(560), torch.ones(560)))
    assert frontend.fbank(torch.zeros(samples)).shape == (0, 80)
    assert frontend(torch.zeros(samples)).shape == (0, 560)


def test_no_samples_are_no_frames_with_mirrored_edges():
    assert Frontend(snip_edges=False).fbank(torch.zeros(10)).shape == (0, 80)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_constant_is_silence(level):
    feats = Frontend().fbank(torch.full((4000,), level))
    torch.testing.assert_close(feats, torch.full((23, 80), -15.9424), atol=1e-4, rtol=0)


@pytest.mark.parametrize("snip_edges", [True, False])
def test_the_blocks_do_not_show(monkeypatch, snip_edges):
    wave = speech_like(16000)
    whole = Frontend(snip_edges=snip_edges).fbank(wave)
    monkeypatch.setattr(module, "CPU_BLOCK", 7)
    blocks = Frontend(snip_edges=snip_edges).fbank(wave)
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=0)


def test_double_samples_and_gradients_do_not_matter():
    wave = speech_like(2000)
    assert torch.equal(Frontend()(wave.double().requires_grad_()), Frontend()(wave))


def test_samples_may_come_at_the_scale_of_16_bits():
    wave = speech_like(2000)
    scaled = Frontend(upscale_samples=False)(wave * 32768)
    assert torch.equal(scaled, Frontend()(wave))


def test_dither_fills_silence_and_follows_the_seed():
    frontend = Frontend(dither=1.0)
    torch.manual_seed(3)
    first = frontend(torch.zeros(4000))
    torch.manual_seed(3)
    assert torch.equal(frontend(torch.zeros(4000)), first)
    assert first.min() > -12


def test_a_batch_is_each_alone():
    waves = [speech_like(n, seed=n) for n in (5000, 1, 9000, 300)]
    frontend = Frontend(lfr_m=7, lfr_n=6)
    feats, lengths = frontend.batch(waves)
    assert feats.shape == (4, int(lengths.max()), 560)
    assert lengths.dtype == torch.int64
    for row, length, wave in zip(feats, lengths.tolist(), waves, strict=True):
        assert torch.equal(row[:length], frontend(wave))
        assert not row[length:].any()


def test_low_frame_rate_by_the_formula():
    for frames in range(1, 30):
        x = torch.randn(frames, 3)
        for m, n in ((7, 6), (5, 1), (4, 3), (1, 2), (2, 5), (3, 3)):
            rows = -(-frames // n)
            index = torch.arange(rows)[:, None] * n + torch.arange(m) - (m - 1) // 2
            expected = x[index.clamp(0, frames - 1)].flatten(1)
            assert torch.equal(low_frame_rate(x, m, n), expected), (frames, m, n)


def test_cmvn_is_applied_with_its_first_columns():
    wave, plain = speech_like(4000), Frontend()
    cmvn = Cmvn(torch.arange(100.0), torch.full((100,), 2.0))
    expected = (plain(wave) + torch.arange(80.0)) * 2
    torch.testing.assert_close(Frontend(cmvn=cmvn)(wave), expected)


@pytest.mark.parametrize("same", [True, False])
def test_cmvn_of_stacked_frames(same):
    """Whether it is the same for all of a stack, and is then applied before, does not show."""
    generator = torch.Generator().manual_seed(0)
    shift, scale = torch.rand(2, 560, generator=generator)
    if same:
        shift, scale = shift[:80].repeat(7), scale[:80].repeat(7)
    wave, cmvn = speech_like(8000), Cmvn(shift, scale)
    stacked = low_frame_rate(Frontend().fbank(wave), 7, 6)
    made = Frontend(lfr_m=7, lfr_n=6, cmvn=cmvn)
    assert torch.equal(made(wave), (stacked + shift) * scale)


def test_cmvn_of_too_few_columns_is_refused():
    with pytest.raises(DataError, match="80 columns for features of 560"):
        Frontend(lfr_m=7, lfr_n=6, cmvn=Cmvn(torch.zeros(80), torch.ones(80)))(torch.zeros(4000))


def test_output_size_is_the_width():
    frontend = Frontend(n_mels=40, lfr_m=5, lfr_n=3)
    assert frontend.output_size == frontend(speech_like(4000)).shape[1] == 200


@pytest.mark.parametrize("wrong", [{"window": "square"}, {"n_mels": 0}, {"lfr_n": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="frontend"):
        Frontend(**wrong)


def test_two_channels_are_refused():
    with pytest.raises(ConfigError, match="one channel"):
        Frontend()(torch.zeros(2, 4000))
