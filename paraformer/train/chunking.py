"""The chunks in which a batch is trained, drawn anew for each batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from paraformer.errors import ConfigError
from paraformer.limits import MOST_CHUNK_FRAMES, Limits, check, check_fields, limited
from paraformer.nn.chunks import ChunkRule, scama_rule, streaming_rule

_FRAMES = Limits(0, MOST_CHUNK_FRAMES, whole=True, many=True)


class Chunking(Protocol):
    """Draws the rule of a batch."""

    def draw(self) -> ChunkRule | None:
        """A rule, None for the whole utterance at once."""


def _one_of(choices: Sequence[Any]) -> Any:
    return choices[int(torch.randint(len(choices), ()))]


@dataclass(frozen=True)
class DynamicChunk:
    """Random chunks by the rule of the decoder, so that one model decodes offline and streaming
    (the idea of U2: arXiv 2012.05481).

    A batch is cut with `probability`; else it is seen whole. Sizes are in frames of 60 ms (lfr_n
    6), look-ahead is a share of the size, look-backs count chunks (-1: all of the past).
    """

    probability: float = limited(0.0, 0, 1)
    sizes: tuple[int, ...] = limited((5, 8, 10, 16), 1, many=True)
    look_ahead: tuple[float, ...] = limited((0.0, 0.5), 0, many=True)
    encoder_look_back: tuple[int, ...] = limited((4, -1), -1, many=True)
    decoder_look_back: tuple[int, ...] = limited((1,), -1, many=True)

    def __post_init__(self) -> None:
        check_fields(self, "dynamic_chunk")

    def draw(self) -> ChunkRule | None:
        """See `Chunking`; the numbers come from torch's generator, so that a run can be resumed."""
        if float(torch.rand(())) >= self.probability:
            return None
        size = _one_of(self.sizes)
        ahead = round(size * _one_of(self.look_ahead))
        back = _one_of(self.encoder_look_back), _one_of(self.decoder_look_back)
        return streaming_rule((0, size, ahead), *back)


@dataclass(frozen=True)
class ReleasedChunks:
    """The choices of `encoder_conf` of a released online model, one drawn for each batch.

    The reference draws as well, but trains with the first choice always.
    """

    chunk_size: tuple[int, ...]
    stride: tuple[int, ...]
    pad_left: tuple[int, ...]
    encoder_att_look_back_factor: tuple[int, ...]
    decoder_att_look_back_factor: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = {len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(sizes) > 1 or 0 in sizes:
            raise ConfigError(
                "encoder_conf: chunk_size, stride, pad_left and the two look-back factors must be "
                "lists of one length"
            )
        for name in ("chunk_size", "stride", "pad_left"):
            check(f"encoder_conf.{name}", list(getattr(self, name)), _FRAMES)

    def rule(self, number: int) -> ChunkRule:
        """Choice `number`, counted from 0."""
        return scama_rule(
            self.chunk_size[number],
            self.stride[number],
            self.pad_left[number],
            self.encoder_att_look_back_factor[number],
            self.decoder_att_look_back_factor[number],
        )

    def draw(self) -> ChunkRule:
        """See `Chunking`."""
        return self.rule(int(torch.randint(len(self.chunk_size), ())))
