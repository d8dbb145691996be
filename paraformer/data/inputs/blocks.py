"""Recordings of any length in bounded memory: their samples, minute by minute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from paraformer.data.audio.channels import MIX, Selector
from paraformer.data.audio.read import fetched, finished, is_address
from paraformer.data.audio.soundfiles import (
    Decoder,
    channels_first,
    header_samples,
    is_raw,
    open_decoder,
)
from paraformer.data.inputs.sources import Cache, Item

BLOCK_SECONDS = 60


def read_blocks(
    item: Item, fs: int, seconds: int = BLOCK_SECONDS, raw_fs: int | None = None
) -> Iterator[Tensor]:
    """Samples (N,) of a recording at `fs`; all blocks together are what `item.read` gives.

    Files are decoded block by block, and so are copies of what lies at addresses. What is no file
    is read whole, and so are segments and samples without a header, whose rate is `raw_fs`.
    """
    name = str(item.source)
    with _file_of(item) as path:
        if path is None:
            yield from item.read(raw_fs, fs).split(seconds * fs)
            return
        with open_decoder(path, name) as decoder:
            yield from _blocks(decoder, Selector(name, item.channel), fs, seconds)


def read_up_to(
    seconds: float, item: Item, fs: int, raw_fs: int | None, cache: Cache
) -> Tensor | Callable[[], Iterator[Tensor]]:
    """The samples (N,) that `item.read` gives or, of a recording of more than so many seconds, a
    function that gives its blocks once; no more than those seconds are held.
    """
    most = seconds * fs
    known = None if _is_remote(item) else 0
    if _is_file(item):
        known = header_samples(item.source, fs)
    if known is not None and known <= most:
        wave = item.read(raw_fs, fs, cache)
        return wave if len(wave) <= most else lambda: iter(wave.split(BLOCK_SECONDS * fs))
    held, samples = list[Tensor](), 0
    blocks = read_blocks(item, fs)
    for block in blocks:
        held.append(block)
        samples += len(block)
        if samples > most:
            return lambda: chain(held, blocks)
    return torch.cat(held)


def _is_file(item: Item) -> bool:
    """Whether there is a header, and samples behind it that belong to the item alone."""
    source = item.source
    return (
        item.segment is None
        and isinstance(source, (str, Path))
        and not is_raw(source)
        and os.path.isfile(source)
        and os.path.getsize(source) > 0
    )


def _is_remote(item: Item) -> bool:
    """Whether it is the whole of a recording at an address; channels are fetched once for all."""
    return item.segment is None and item.channel == MIX and is_address(item.source)


@contextmanager
def _file_of(item: Item) -> Iterator[Path | None]:
    """The file of a recording that is one by itself, or else None."""
    if _is_remote(item):
        with fetched(item.source) as path:
            yield path
    else:
        yield Path(item.source) if _is_file(item) else None


def _blocks(decoder: Decoder, select: Selector, fs: int, seconds: int) -> Iterator[Tensor]:
    """Each block is resampled from a second before it, where that is in the same phase, to one
    after it, for the window of its last sample.
    """
    rate, start, before = decoder.rate, 0, 0
    held = select(channels_first(decoder.read((seconds + 1) * rate)))
    while True:
        wave = finished(held, rate, fs, select.name, start - before)
        first = before * fs
        is_last = len(held) < (before + seconds + 1) * rate
        yield wave[first : None if is_last else first + seconds * fs]
        if is_last:
            return
        start += seconds
        keep = held[(before + seconds - 1) * rate :]
        before = 1
        held = torch.cat([keep, select(channels_first(decoder.read(seconds * rate)))])
