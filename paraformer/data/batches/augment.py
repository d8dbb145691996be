"""Augmentation of log-mel features (T, n_mels) of one utterance: other voices, loudness, noise,
masks; and SpecAugment of stacked batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.limits import check_fields, limited

Features = np.ndarray
Random = np.random.Generator
FRAME_SECONDS = 0.01
# What is left of the mel axis up to 8 kHz, shares of it: a telephone (300 to 3400 Hz), recordings
# at 8 kHz, and codecs of few bits (to 5.5 and to 7 kHz).
BANDS = ((0.13, 0.7), (0.0, 0.75), (0.0, 0.87), (0.0, 0.95))


def warp_voice(x: Features, factor: float) -> Features:
    """Stretch the mel axis by `factor` about its low end: a longer or shorter vocal tract (VTLP).

    >>> warp_voice(np.array([[0.0, 1.0, 2.0, 3.0]]), 0.5).tolist()
    [[0.0, 0.5, 1.0, 1.5]]
    """
    size = x.shape[1]
    place = np.clip(np.arange(size) * factor, 0, size - 1)
    low = np.minimum(place.astype(int), size - 2)
    share = (place - low).astype(x.dtype)
    return x[:, low] * (1 - share) + x[:, low + 1] * share


def add_noise(x: Features, snr_db: float, random: Random) -> Features:
    """Add stationary noise of a random spectral tilt to the power, `snr_db` below its mean."""
    frames, size = x.shape
    level = np.log(np.mean(np.exp(x)) + 1e-10) - snr_db * np.log(10) / 10
    tilt = random.uniform(-1.5, 1.5) * np.linspace(-1, 1, size)
    # The power of noise in one cell is nearly chi-squared; 4 degrees of freedom is a mel filter of
    # two bins.
    power = random.standard_gamma(2.0, (frames, size)) / 2.0
    noise = level + tilt + np.log(power + 1e-6)
    return np.logaddexp(x, noise).astype(x.dtype)


def add_room(x: Features, seconds: float, ratio_db: float) -> Features:
    """Let the sound ring on, as in a small room whose impulse response is decaying noise: echoes
    add up in power, `ratio_db` of the direct sound in all, and fall by 60 dB in `seconds`, high
    tones twice as fast as low ones.

    A room keeps the power that it is given where sound goes on, so the mean rises by the ratio.
    """
    size = x.shape[1]
    each = 10.0 ** (-6.0 * FRAME_SECONDS / seconds * np.linspace(0.75, 1.5, size))
    power = np.exp(x)
    tail = np.zeros_like(power)
    for frame in range(1, len(x)):  # each needs the one before
        tail[frame] = each * (tail[frame - 1] + power[frame - 1])
    share = 10.0 ** (ratio_db / 10.0) * (1.0 - each) / each
    return np.log(power + share * tail).astype(x.dtype)


def limit_band(x: Features, low: float, high: float, drop_db: float) -> Features:
    """Take away `drop_db` of what lies below and above two places of the mel axis (shares of it),
    as a telephone or a codec does: not more than down to the quietest cell of the utterance.
    """
    size = x.shape[1]
    outside = np.r_[: round(low * size), round(high * size) : size]
    x = x.copy()
    x[:, outside] = np.maximum(x[:, outside] - drop_db * np.log(10) / 10, x.min(initial=0.0))
    return x


def mask_bands(x: Features, count: int, width: int, value: Features, random: Random) -> Features:
    """Set `count` bands of at most `width` mel bins to `value` (n_mels,), in place."""
    for _ in range(count):
        size = int(random.integers(0, width + 1))
        start = int(random.integers(0, max(1, x.shape[1] - size)))
        x[:, start : start + size] = value[start : start + size]
    return x


def mask_times(
    x: Features, count: int, width: int, share: float, value: Features, random: Random
) -> Features:
    """Set `count` spans of at most `width` frames and `share` of the utterance to `value`, in
    place.
    """
    for _ in range(count):
        size = int(random.integers(0, min(width, int(share * len(x))) + 1))
        start = int(random.integers(0, max(1, len(x) - size)))
        x[start : start + size] = value
    return x


def quiet_frames(x: Features, count: int, random: Random) -> Features:
    """`count` frames drawn from the quietest tenth of an utterance: room sound to join with."""
    quietest = np.argsort(x.mean(1))[: max(1, len(x) // 10)]
    return x[random.choice(quietest, size=count)]


@dataclass(frozen=True)
class Augment:
    """Changes each training utterance at random; every kind of change can be switched off by 0."""

    gain_db: float = limited(0.0, 0, 100)  # loudness up or down by at most this
    warp: float = limited(0.0, 0, 1, below=True)  # voices from 1 - warp to 1 + warp
    noise_probability: float = limited(0.0, 0, 1)
    noise_snr_db: tuple[float, float] = limited((5.0, 30.0), -200, 200, rising=True)
    room_probability: float = limited(0.0, 0, 1)
    room_seconds: tuple[float, float] = limited((0.15, 0.6), 0.05, 5, rising=True)  # until -60 dB
    room_ratio_db: tuple[float, float] = limited((-15.0, 0.0), -60, 20, rising=True)  # of echoes
    band_probability: float = limited(0.0, 0, 1)  # that a telephone's or a codec's band is left
    band_drop_db: tuple[float, float] = limited((20.0, 60.0), 0, 200, rising=True)
    freq_masks: int = limited(0, 0)
    freq_width: int = limited(20, 0)  # mel bins
    time_masks: int = limited(0, 0)
    time_width: int = limited(30, 0)  # frames of 10 ms
    time_share: float = limited(0.15, 0, 1)  # of the utterance, one mask

    def __post_init__(self) -> None:
        check_fields(self, "augment")

    def __call__(self, x: Features, mean: Features, random: Random) -> Features:
        """x (T, n_mels) log-mel, `mean` (n_mels,) what a mask writes -> a new array like x."""
        x = x.copy()
        if self.warp > 0:
            x = warp_voice(x, 1.0 + random.uniform(-self.warp, self.warp))
        if self.room_probability and self.room_probability > random.random():
            x = add_room(x, random.uniform(*self.room_seconds), random.uniform(*self.room_ratio_db))
        if self.band_probability and self.band_probability > random.random():
            low, high = BANDS[int(random.integers(len(BANDS)))]
            x = limit_band(x, low, high, random.uniform(*self.band_drop_db))
        if self.noise_probability > random.random():
            x = add_noise(x, random.uniform(*self.noise_snr_db), random)
        if self.gain_db > 0:
            x += random.uniform(-self.gain_db, self.gain_db) * np.log(10) / 10
        mask_bands(x, self.freq_masks, self.freq_width, mean, random)
        return mask_times(x, self.time_masks, self.time_width, self.time_share, mean, random)


def _spans(count: int, low: int, high: int, size: int) -> list[tuple[int, int]]:
    if not count:
        return []
    widths = torch.randint(low, max(high, low + 1), (count,))
    starts = torch.randint(0, max(1, size - int(widths.max())), (count,))
    return [(s, s + w) for s, w in zip(starts.tolist(), widths.tolist(), strict=True)]


def time_warp(x: Tensor, window: int) -> Tensor:
    """Move one moment of x (T, D) by at most `window` frames, both sides resized bicubically.

    Utterances of fewer than two windows stay as they are.
    """
    frames = x.size(0)
    if frames - window <= window:
        return x
    centre = int(torch.randint(window, frames - window, ()))
    moved = centre + int(torch.randint(-window, window, ())) + 1

    def resized(part: Tensor, size: int) -> Tensor:
        sizes = (size, part.size(1))
        return F.interpolate(part[None, None], sizes, mode="bicubic", align_corners=False)[0, 0]

    return torch.cat((resized(x[:centre], moved), resized(x[centre:], frames - moved)))


@dataclass(frozen=True)
class SpecAugLfr:
    """SpecAugment on stacked frames, as the released configs name it: the same mask in each stacked
    part.

    Ranges are [low, high) in mel bins and stacked frames; a time mask comes lfr_rate + 1 times.
    """

    lfr_rate: int = limited(6, 0)
    apply_freq_mask: bool = True
    freq_mask_width_range: tuple[int, int] = limited((0, 30), 0, rising=True)
    apply_time_mask: bool = True
    time_mask_width_range: tuple[int, int] = limited((0, 12), 0, rising=True)

    def __post_init__(self) -> None:
        check_fields(self, "specaug_conf")

    def __call__(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalised features (B, T, D) -> the same with masked cells 0; lengths do not matter."""
        parts = self.lfr_rate + 1
        x = x.clone()
        for row in x:
            if self.apply_freq_mask:
                self._mask(row.transpose(0, 1), parts, *self.freq_mask_width_range)
            if self.apply_time_mask:
                self._mask(row, parts, *self.time_mask_width_range)
        return x

    @staticmethod
    def _mask(x: Tensor, parts: int, low: int, high: int) -> None:
        each = x.size(0) // parts
        ((start, end),) = _spans(1, low, high, each)
        for part in range(parts):
            x[start + part * each : end + part * each] = 0.0


@dataclass(frozen=True)
class SpecAug:
    """SpecAugment (arXiv 1904.08779): masks, and a time warp, of its own for each utterance."""

    apply_time_warp: bool = False
    time_warp_window: int = limited(5, 1)
    apply_freq_mask: bool = True
    freq_mask_width_range: tuple[int, int] = limited((0, 30), 0, rising=True)
    num_freq_mask: int = limited(2, 0)
    apply_time_mask: bool = True
    time_mask_width_range: tuple[int, int] = limited((0, 40), 0, rising=True)
    num_time_mask: int = limited(2, 0)

    def __post_init__(self) -> None:
        check_fields(self, "specaug_conf")

    def __call__(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalised features (B, T, D), lengths (B,) -> the same, masked cells 0."""
        x = x.clone()
        sizes = [x.size(1)] * len(x) if lengths is None else lengths.tolist()
        for row, size in zip(x, sizes, strict=True):
            if self.apply_time_warp:
                row[:size] = time_warp(row[:size], self.time_warp_window)
            if self.apply_freq_mask:
                for a, b in _spans(self.num_freq_mask, *self.freq_mask_width_range, x.size(2)):
                    row[:, a:b] = 0.0
            if self.apply_time_mask:
                for a, b in _spans(self.num_time_mask, *self.time_mask_width_range, x.size(1)):
                    row[a:b] = 0.0
        return x
