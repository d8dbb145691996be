"""Chooses from the channels of a recording: their mean, or one of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from paraformer.errors import AudioError, ConfigError

log = logging.getLogger(__name__)

MIX, SPLIT = "mix", "split"
# Channels that do not belong together lose at most the root of their number, 16 of them 12 dB, when
# they are averaged; only those that are each other's inverse lose more than these 20 dB.
CANCELLED = 0.1


def check_channel(value: object) -> str | int:
    """The option `channel`, if it is "mix", "split" or a number counted from 0; else an error.

    >>> check_channel("split"), check_channel(1), check_channel("0")
    ('split', 1, 0)
    """
    if isinstance(value, str) and value in (MIX, SPLIT):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    raise ConfigError(f"channel: '{value}'; give mix, split or a number from 0")


@dataclass
class Selector:
    """Takes one channel from each part of a recording, and says once what that means for it."""

    name: str  # what messages call the recording
    channel: str | int = MIX
    said: bool = False  # nothing more to say about averaging
    warned: bool = False

    def __call__(self, wave: Tensor) -> Tensor:
        """(N,) or (C, N) -> (N,); an `AudioError` if there is no such channel."""
        count = 1 if wave.dim() == 1 else len(wave)
        if self.channel == MIX:
            return wave if wave.dim() == 1 else self._mix(wave)
        if not isinstance(self.channel, Integral) or not 0 <= int(self.channel) < count:
            have = "1 channel" if count == 1 else f"{count} channels"
            raise AudioError(
                f"{self.name}: no channel {self.channel}, it has {have}; give mix"
                + (" or 0" if count == 1 else f" or 0 to {count - 1}")
            )
        return wave if wave.dim() == 1 else wave[int(self.channel)].contiguous()

    def _mix(self, wave: Tensor) -> Tensor:
        mixed = wave.mean(0)
        if not self.said:
            log.info("%s: the mean of its %d channels is taken", self.name, len(wave))
            self.said = True
        if not self.warned and _cancel(wave, mixed):
            log.warning(
                "%s: its channels cancel each other when averaged; give channel=0", self.name
            )
            self.warned = True
        return mixed


def _cancel(wave: Tensor, mixed: Tensor) -> bool:
    """Whether little is left in the mean (N,) of channels (C, N)."""
    level = torch.linalg.vector_norm(wave) / len(wave) ** 0.5
    return bool(torch.linalg.vector_norm(mixed) < CANCELLED * level)
