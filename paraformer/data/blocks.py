"""Recordings of any length in bounded memory: their samples, minute by minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from paraformer.data.inputs import Item, Segment
from paraformer.data.recordings import read_stretch

BLOCK_SECONDS = 60


def read_blocks(item: Item, fs: int, seconds: int = BLOCK_SECONDS) -> Iterator[Tensor]:
    """Samples (N,) of a recording at `fs`; all blocks together are what `item.read` gives.

    WAV and FLAC are decoded block by block; what cannot be entered in the middle comes whole, and
    where a file turns out to be damaged, the rest of it.
    """
    start = 0
    block = _stretch(item, 0, seconds, fs)
    while block is not None:
        yield block
        if len(block) < seconds * fs:
            return
        start += seconds
        block = _stretch(item, start, start + seconds, fs)
    rest = _stretch(item, start, None, fs) if start else None
    yield item.read(None, fs)[start * fs :] if rest is None else rest


def _stretch(item: Item, start: int, end: int | None, fs: int) -> Tensor | None:
    if item.segment is not None or not isinstance(item.source, (str, Path)):
        return None
    return read_stretch(str(item.source), Segment(start, end), fs)
