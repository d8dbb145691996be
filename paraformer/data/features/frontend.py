"""Makes encoder input of samples: log-mel filter banks, low frame rate stacking, CMVN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from paraformer.data.features.cmvn import Cmvn
from paraformer.errors import ConfigError
from paraformer.limits import Limits, check_values

PRE_EMPHASIS = 0.97
MEL = 1127.0
LOWEST_HZ = 20.0
# Energies below float32's epsilon are silence: log(1.19e-07) = -15.9424.
ENERGY_FLOOR = torch.finfo(torch.float32).eps
# Frames worked on at a time: they stay in the processor's cache, and an hour needs no more memory.
CPU_BLOCK, GPU_BLOCK = 1024, 65536
# Mel filters worked on at a time on a CPU.
CPU_BAND = 16
LIMITS = {
    "fs": Limits(1, 1_000_000, whole=True),
    "n_mels": Limits(1, 1000, whole=True),
    "frame_length": Limits(0, 10_000, above=True),  # milliseconds
    "frame_shift": Limits(0, 10_000, above=True),
    "lfr_m": Limits(1, 1000, whole=True),
    "lfr_n": Limits(1, 1000, whole=True),
    "dither": Limits(0),
}
WINDOWS = ("hamming", "hanning", "povey", "rectangular", "blackman")


class Frontend:
    """Features of one waveform by Kaldi's conventions, exactly those of the released models.

    Samples are floats in [-1, 1). `fbank` and `features` are the steps that a call does in turn:
    wave (N,) -> (T', n_mels * lfr_m).

    >>> Frontend(lfr_m=7, lfr_n=6)(torch.zeros(16000)).shape
    torch.Size([17, 560])
    """

    def __init__(
        self,
        fs: int = 16000,
        window: str = "hamming",
        n_mels: int = 80,
        frame_length: float = 25.0,
        frame_shift: float = 10.0,
        lfr_m: int = 1,
        lfr_n: int = 1,
        dither: float = 0.0,
        snip_edges: bool = True,
        upscale_samples: bool = True,
        cmvn: Cmvn | None = None,
    ) -> None:
        if window not in WINDOWS:
            raise ConfigError(f"frontend: no window '{window}'; one of {', '.join(WINDOWS)}")
        lengths = {"frame_length": frame_length, "frame_shift": frame_shift, "dither": dither}
        sizes = {"fs": fs, "n_mels": n_mels, "lfr_m": lfr_m, "lfr_n": lfr_n}
        check_values({**sizes, **lengths}, LIMITS, "frontend")
        if int(fs * frame_shift * 0.001) < 1 or int(fs * frame_length * 0.001) < 2:
            raise ConfigError(
                f"frontend: frame_shift={frame_shift}, frame_length={frame_length}: too few "
                f"samples at fs={fs}; give more milliseconds"
            )
        self.fs = fs
        self.window = window
        self.n_mels = n_mels
        self.frame_length = frame_length
        self.frame_shift = frame_shift
        self.lfr_m = lfr_m
        self.lfr_n = lfr_n
        self.dither = dither
        self.snip_edges = snip_edges
        self.upscale_samples = upscale_samples
        self.cmvn = cmvn

    @property
    def cmvn(self) -> Cmvn | None:
        """Mean and variance of stacked features, if they are normalised."""
        return self._cmvn

    @cmvn.setter
    def cmvn(self, cmvn: Cmvn | None) -> None:
        self._cmvn = cmvn
        self._frame_cmvn = None if cmvn is None else cmvn.of_one(self.n_mels, self.lfr_m)
        self._stacked_cmvn = cmvn if self._frame_cmvn is None else None

    @property
    def output_size(self) -> int:
        """Width of the features, the encoder's `input_size`."""
        return self.n_mels * self.lfr_m

    def __call__(self, wave: Tensor) -> Tensor:
        """wave (N,) -> features (T', n_mels * lfr_m)."""
        return self.features(self.fbank(wave))

    @torch.no_grad()
    def fbank(self, wave: Tensor) -> Tensor:
        """wave (N,) -> log-mel energies (T, n_mels).

        An input shorter than a frame is one short frame, as in the reference; fewer than 2 samples
        are no frame.
        """
        if wave.dim() != 1:
            raise ConfigError(f"frontend: one channel (N,) is needed, not {tuple(wave.shape)}")
        wave = wave.float()
        shift = int(self.fs * self.frame_shift * 0.001)
        length = int(self.fs * min(self.frame_length, len(wave) / self.fs * 1000) * 0.001)
        if length < 2:
            return wave.new_zeros(0, self.n_mels)
        if self.upscale_samples:
            wave = wave * 32768.0
        if not self.snip_edges:
            wave = _reflect_edges(wave, length, shift)
        if len(wave) < length:
            return wave.new_zeros(0, self.n_mels)
        frames = wave.unfold(0, length, shift)  # (T, length), a view
        block = CPU_BLOCK if wave.device.type == "cpu" else GPU_BLOCK
        parts = [self._log_mel(part) for part in frames.split(block)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def frames(self, samples: int) -> int:
        """The number of frames that `fbank` makes of so many samples.

        >>> Frontend().frames(16000)
        98
        """
        shift = int(self.fs * self.frame_shift * 0.001)
        length = int(self.fs * min(self.frame_length, samples / self.fs * 1000) * 0.001)
        if length < 2:
            return 0
        whole = 1 + (samples - length) // shift
        return whole if self.snip_edges else (samples + shift // 2) // shift

    def _log_mel(self, frames: Tensor) -> Tensor:
        """frames (T, length) of raw samples -> (T, n_mels)."""
        count, length = frames.shape
        n_fft = 1 << (length - 1).bit_length()
        if self.dither:
            frames = frames + self.dither * torch.randn_like(frames)
        frames = frames - frames.mean(1, keepdim=True)
        window = _window(self.window, length, frames.device)
        padded = frames.new_empty(count, n_fft)
        padded[:, length:] = 0.0
        samples = padded[:, :length]
        # Rounded after each operation, as in the reference: a fused multiply-add shifts features
        # by 1e-4, which adds up in the predictor's sum of weights.
        torch.mul(frames[:, :-1], PRE_EMPHASIS, out=samples[:, 1:])
        torch.mul(frames[:, 0], PRE_EMPHASIS, out=samples[:, 0])
        torch.sub(frames, samples, out=samples).mul_(window)
        squares = torch.view_as_real(torch.fft.rfft(padded)[:, : n_fft // 2]).square()
        power = squares[..., 0] + squares[..., 1]  # (T, n_fft / 2); six times faster than a sum
        mels = power.new_empty(count, self.n_mels)
        for bins, band, filters in _mel_bands(self.n_mels, n_fft, self.fs, frames.device):
            torch.mm(power[:, bins], filters, out=mels[:, band])
        return mels.clamp_(min=ENERGY_FLOOR).log_()

    def features(self, fbank: Tensor) -> Tensor:
        """fbank (T, n_mels) -> (T', n_mels * lfr_m): see `low_frame_rate`; normalised by the CMVN,
        where there is one.
        """
        frames = self.normalize_frames(fbank)
        return self.normalize_stacked(low_frame_rate(frames, self.lfr_m, self.lfr_n))

    # Where the CMVN is the same for all frames of a stack, as it is in releases, each is normalised
    # once, before it is copied into several.

    def normalize_frames(self, fbank: Tensor) -> Tensor:
        """Apply the part of the CMVN that comes before stacking: (T, n_mels) of the same shape."""
        return fbank if self._frame_cmvn is None else self._frame_cmvn.apply(fbank)

    def normalize_stacked(self, x: Tensor) -> Tensor:
        """Apply the part that comes after stacking: (T', n_mels * lfr_m) of the same shape."""
        return x if self._stacked_cmvn is None else self._stacked_cmvn.apply(x)

    def batch(self, waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Waves -> features (B, T, D), each made alone, then padded with zeros; lengths (B,)."""
        feats = [self(wave) for wave in waves]
        lengths = torch.tensor([len(x) for x in feats], dtype=torch.int64)
        return torch.nn.utils.rnn.pad_sequence(feats, batch_first=True), lengths


def low_frame_rate(x: Tensor, m: int, n: int) -> Tensor:
    """Join m frames into one, every n frames: x (T, D) -> (ceil(T / n), m * D).

    Row i holds frames `i * n - (m - 1) // 2 ...`; past the ends, the first or last is repeated.

    >>> low_frame_rate(torch.arange(8.0)[:, None], 7, 6).int().tolist()
    [[0, 0, 0, 0, 1, 2, 3], [3, 4, 5, 6, 7, 7, 7]]
    """
    frames, width = x.shape
    if frames == 0 or m == n == 1:
        return x.new_zeros(0, m * width) if frames == 0 else x
    rows = -(-frames // n)
    left = (m - 1) // 2
    right = max(0, (rows - 1) * n + m - left - frames)
    padded = torch.cat([x[:1].expand(left, -1), x, x[-1:].expand(right, -1)])
    return padded.flatten().unfold(0, m * width, n * width)[:rows].contiguous()


def _reflect_edges(wave: Tensor, length: int, shift: int) -> Tensor:
    """Mirror both ends so that frames are centred and there are round(N / shift) of them."""
    count = (len(wave) + shift // 2) // shift
    mirrored = wave.flip(0)
    pad = length // 2 - shift // 2
    start = torch.cat([mirrored[-pad:], wave]) if pad > 0 else wave[-pad:]
    return torch.cat([start, mirrored])[: max(0, (count - 1) * shift + length)]


@lru_cache(maxsize=64)
def _window(name: str, length: int, device: torch.device) -> Tensor:
    """The window (length,), symmetric, by Kaldi's formulas."""
    if name == "rectangular":
        window = torch.ones(length)
    elif name == "hamming":
        window = torch.hamming_window(length, periodic=False)
    elif name == "blackman":
        window = torch.blackman_window(length, periodic=False)
    else:
        window = torch.hann_window(length, periodic=False)
    return (window**0.85 if name == "povey" else window).to(device)


@lru_cache(maxsize=64)
def _mel_bands(
    n_mels: int, n_fft: int, fs: int, device: torch.device
) -> list[tuple[slice, slice, Tensor]]:
    """The filters by bands of neighbours: frequencies that they hear, which they are, triangles.

    Most of the whole table is zeros, so parts of it take half the time.
    """
    whole = _mel_filters(n_mels, n_fft, fs, device)
    width = CPU_BAND if device.type == "cpu" else n_mels
    bands = []
    for first in range(0, n_mels, width):
        band = slice(first, min(first + width, n_mels))
        heard = whole[:, band].any(dim=1).nonzero().flatten().tolist() or [0]
        bins = slice(heard[0], heard[-1] + 1)
        bands.append((bins, band, whole[bins, band].contiguous()))
    return bands


@lru_cache(maxsize=64)
def _mel_filters(n_mels: int, n_fft: int, fs: int, device: torch.device) -> Tensor:
    """Triangles (n_fft / 2, n_mels), linear in mel, from 20 Hz to half the sampling rate."""

    low, high = (MEL * math.log(1.0 + hz / 700.0) for hz in (LOWEST_HZ, fs / 2))
    step = (high - low) / (n_mels + 1)
    edges = torch.arange(n_mels + 2)
    bins = MEL * torch.log(1.0 + torch.arange(n_fft // 2) * (fs / n_fft) / 700.0)[:, None]
    # In float32 throughout: what is rounded otherwise shifts the energies all one way.
    left, centre, right = (low + edges[i : i + n_mels] * step for i in range(3))
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).to(device)
