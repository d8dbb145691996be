"""Where a token's sound ends, by the energy of the features.

The released rule for times lets no token last longer than 240 ms, since a second head learns where
tokens begin and nothing of their ends. Models whose config.yaml says `token_ends: sound` end theirs
where the sound does: behind the last frame that is clearly louder than the pauses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.data.features.frontend import Frontend
from paraformer.decode.timestamps import SILENCE, Span
from paraformer.errors import ConfigError

RANGE_DB = 28.0  # below the loud frames of a recording
NOISE_SHARE = 0.3  # of the distance from its quiet frames to the loud ones
CLOSURE = 10  # frames; a shorter silence is part of a sound
LEAST_GAP = 0.05  # seconds of silence between two tokens; less belongs to the first
DECIBELS = 10.0 / math.log(10.0)


class Sound(NamedTuple):
    """Which frames of a recording are sound, (F,) bool, and when a frame is, in seconds."""

    frames: Tensor
    shift: float
    first: float  # the time of frame 0

    def end(self, start: float, limit: float) -> float:
        """Where the sound that begins at `start` ends, at `limit` at the latest."""
        low = max(0, math.ceil((start - self.first) / self.shift))
        high = min(len(self.frames), math.floor((limit - self.first) / self.shift))
        heard = stretches(self.frames[low:high], CLOSURE)
        return self.first + (low + heard[0][1]) * self.shift if heard else start


def loud_frames(
    level: Tensor, range_db: float = RANGE_DB, share: float = NOISE_SHARE, least_db: float = 0.0
) -> Tensor:
    """Decibels (F,) -> which frames are sound, (F,) bool: those less than `range_db` below the loud
    ones, and above the quiet ones by `share` of the distance; none if that is below `least_db`.
    """
    if not len(level):
        return level > 0
    loud, quiet = level.quantile(0.95), level.quantile(0.02)
    threshold = torch.maximum(loud - range_db, quiet + share * (loud - quiet))
    return (level > threshold) & (loud - quiet >= least_db)


def stretches(frames: Tensor, gap: int = 0) -> list[tuple[int, int]]:
    """Of frames (F,) bool the first of each stretch that holds, and the first behind it; those with
    no more than `gap` frames between are one.

    >>> stretches(torch.tensor([1, 1, 0, 1, 0, 0, 1]).bool(), 1)
    [(0, 4), (6, 7)]
    """
    edges = F.pad(frames.int(), (1, 1)).diff().nonzero().view(-1, 2)
    apart = edges[1:, 0] - edges[:-1, 1] > gap
    begins = edges[F.pad(apart, (1, 0), value=True)[: len(edges)], 0]
    ends = edges[F.pad(apart, (0, 1), value=True)[: len(edges)], 1]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def sound_of(feats: Tensor, frontend: Frontend) -> Sound:
    """Network input (T, D) of one recording -> where it is loud."""
    cmvn, width = frontend.cmvn, frontend.n_mels
    x = feats.float()
    if cmvn is not None:
        x = x / cmvn.scale.to(x.device) - cmvn.shift.to(x.device)
    # Row t holds frames t * n - (m - 1) // 2 ... ; n of them tile the recording.
    mels = x[:, : frontend.lfr_n * width].reshape(-1, width)
    level = mels.logsumexp(1).cpu() * DECIBELS
    shift, window = frontend.frame_shift / 1000.0, frontend.frame_length / 1000.0
    first = (window - shift) / 2 - (frontend.lfr_m - 1) // 2 * shift
    return Sound(loud_frames(level), shift, first)


def end_with_sound(spans: Sequence[Span], sound: Sound) -> list[Span]:
    """Tokens and silences in order -> the same tokens from their beginnings to where they end.

    A token without any sound keeps its end. The silences are made anew.
    """
    tokens = [span for span in spans if span.text != SILENCE]
    if not tokens:
        return list(spans)
    laid = [Span(SILENCE, spans[0].start, tokens[0].start)]
    starts = [span.start for span in tokens[1:]]
    for token, limit in zip(tokens, [*starts, spans[-1].end], strict=True):
        end = sound.end(token.start, limit)
        end = min(end, limit) if end > token.start else token.end
        end = limit if limit - end < LEAST_GAP else end
        laid += [token._replace(end=end), Span(SILENCE, end, limit)]
    return [span for span in laid if span.text != SILENCE or span.end > span.start]


class SoundEnds:
    """Moves the ends of a batch's spans; what a recording's sound is, is found when it is asked."""

    def __init__(self, feats: Sequence[Tensor], frontend: Frontend) -> None:
        """feats: network input (T, D) of each."""
        self.feats, self.frontend = feats, frontend

    def __call__(self, row: int, spans: list[Span]) -> list[Span]:
        """The spans of one row, see `end_with_sound`."""
        return end_with_sound(spans, sound_of(self.feats[row], self.frontend))


def ends_of(
    config: Mapping[str, Any], frontend: Frontend
) -> Callable[[Sequence[Tensor]], SoundEnds] | None:
    """A function that finds the ends of a model's tokens in the features of a batch, by
    `token_ends` of its config.yaml: `sound`, or `released` (None), which is the default.
    """
    name = config.get("token_ends", "released")
    if name not in ("released", "sound"):
        raise ConfigError(f"config.yaml: token_ends {name} is not known; known: released, sound")
    return partial(SoundEnds, frontend=frontend) if name == "sound" else None
