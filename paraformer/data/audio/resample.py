"""Change of sampling rate by windowed sinc, equal to torchaudio's `Resample` with its defaults."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from paraformer.errors import AudioError

# Rates between which speech has been recorded; others are those of a damaged header.
LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000
ZERO_CROSSINGS = 6
ROLLOFF = 0.99
# Largest kernel (phases * input samples) that is applied as one convolution; above it, as with
# coprime rates, nearly all of it is zeros and only the windows that matter are gathered.
DENSE_LIMIT = 1 << 18
# Values worked on at a time: what is held besides input and output.
BLOCK_VALUES = 1 << 20
# Largest table of weights that is kept for the next recording at the same rates.
KEPT_VALUES = 1 << 20


def check_rate(rate: int, name: str) -> int:
    """The sampling rate of a recording, or an `AudioError` if it cannot be one of speech."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{name}: a sampling rate of {rate} Hz, not of {LOWEST_RATE} to {HIGHEST_RATE}; "
            "mend its header, or give the right fs"
        )
    return rate


@torch.no_grad()
def resample(x: Tensor, orig: int, new: int) -> Tensor:
    """x (N,) at rate `orig` -> (ceil(new * N / orig),) at rate `new`.

    Output sample k is a weighted sum of the input around k * orig / new; the weights repeat every
    new / gcd samples.

    >>> resample(torch.zeros(44100), 44100, 16000).shape
    torch.Size([16000])
    """
    if min(orig, new) <= 0 or orig != int(orig) or new != int(new):
        raise AudioError(f"resample: from {orig} to {new} Hz; rates are whole numbers above 0")
    if orig == new or not len(x):
        return x
    divisor = math.gcd(int(orig), int(new))
    orig, new = int(orig) // divisor, int(new) // divisor
    taps = 2 * _width(orig, new) + 2  # input samples that an output sample is made of
    small = new * taps <= KEPT_VALUES
    weights, starts = (_kept_weights if small else _polyphase_weights)(orig, new)
    weights, starts = weights.to(x), starts.to(x.device)
    wanted = -(-new * len(x) // orig)
    taps = weights.shape[1]
    padded = F.pad(x, (taps // 2 - 1, taps + orig))
    if new * (orig + taps) <= DENSE_LIMIT:
        return _convolve(padded, weights, starts, orig, wanted)
    return _gather(padded, weights, starts, orig, wanted)


class Resampling(NamedTuple):
    """A stream on its way from rate `orig` to rate `new`, as a value: the parts that come out are
    together what `resample` makes of the whole.

    >>> first, state = Resampling(8000, 16000).take(torch.zeros(100))
    >>> last, _ = state.take(torch.zeros(60), final=True)
    >>> len(first) + len(last)
    320
    """

    orig: int
    new: int
    held: Tensor = torch.zeros(0)  # (N,): what output to come is made of, and what stands before it
    begin: int = 0  # of `held`, in samples from the start of the stream
    done: int = 0  # samples that have come out

    def take(self, samples: Tensor, final: bool = False) -> tuple[Tensor, Resampling]:
        """The output that more samples (N,) complete, and the stream behind them."""
        if self.orig == self.new:
            return samples, self
        divisor = math.gcd(self.orig, self.new)
        orig, new = self.orig // divisor, self.new // divisor
        held = torch.cat((self.held, samples))
        end, width = self.begin + len(held), _width(orig, new)
        known = -(-new * end // orig) if final else -(-new * max(end - width - 1, 0) // orig)
        first = self.begin // orig * new
        found = resample(held, orig, new)[max(self.done - first, 0) : max(known - first, 0)]
        if final:
            return found, Resampling(self.orig, self.new)
        done = self.done + len(found)
        # A whole cycle before what the next sample is made of.
        begin = max(self.begin, (done * orig // new - width) // orig * orig)
        return found, self._replace(held=held[begin - self.begin :], begin=begin, done=done)


def _convolve(x: Tensor, weights: Tensor, starts: Tensor, orig: int, wanted: int) -> Tensor:
    """All phases of a cycle of `orig` input samples at once: one output channel for each phase."""
    phases, taps = weights.shape
    kernel = weights.new_zeros(phases, orig + taps)
    kernel.scatter_(1, starts[:, None] + torch.arange(taps, device=x.device), weights)
    cycles = -(-wanted // phases)
    block = max(1, BLOCK_VALUES // (orig + phases))
    parts = []
    for first in range(0, cycles, block):
        count = min(block, cycles - first)
        piece = x[first * orig : (first + count) * orig + taps]
        parts.append(F.conv1d(piece[None, None], kernel[:, None], stride=orig)[0].T.flatten())
    return torch.cat(parts)[:wanted]


def _gather(x: Tensor, weights: Tensor, starts: Tensor, orig: int, wanted: int) -> Tensor:
    """Only the samples inside each output sample's window."""
    phases, taps = weights.shape
    windows = x.unfold(0, taps, 1)  # (N', taps), a view
    block = max(1, BLOCK_VALUES // taps)
    parts = []
    for first in range(0, wanted, block):
        k = torch.arange(first, min(first + block, wanted), device=x.device)
        cycle, phase = k // phases, k % phases
        parts.append((windows[cycle * orig + starts[phase]] * weights[phase]).sum(1))
    return torch.cat(parts)


def _width(orig: int, new: int) -> int:
    return math.ceil(ZERO_CROSSINGS * orig / (min(orig, new) * ROLLOFF))


def _polyphase_weights(orig: int, new: int) -> tuple[Tensor, Tensor]:
    """Weights (new, taps) of each phase, and the input sample (new,) its window is counted from."""
    cutoff = min(orig, new) * ROLLOFF
    width = _width(orig, new)
    phase = torch.arange(new, dtype=torch.int64)
    starts = phase * orig // new
    offsets = torch.arange(-width, width + 2)
    rows = []
    for some in phase.split(max(1, BLOCK_VALUES // len(offsets))):
        # Where each input sample lies, seen from the output sample; exact before the division.
        samples = (some * orig // new)[:, None] + offsets
        distance = (samples * new - some[:, None] * orig).double() / (orig * new)
        t = (distance * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
        window = torch.cos(t * (math.pi / ZERO_CROSSINGS / 2)).square()
        rows.append((torch.sinc(t) * window * (cutoff / orig)).float())
    return torch.cat(rows), starts


_kept_weights = lru_cache(maxsize=32)(_polyphase_weights)
