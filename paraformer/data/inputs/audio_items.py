"""One thing to recognise: where its audio comes from, and how it is read when its turn comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import soundfile
from torch import Tensor

from paraformer.data.audio.channels import MIX, Selector
from paraformer.data.audio.read import read_audio, read_channels
from paraformer.data.corpus.ids import key_of
from paraformer.data.inputs.pieces import BYTES
from paraformer.errors import AudioError, ConfigError, DataError

Input = TypeVar("Input")

# A segment may end this much after its recording, as in Kaldi's extract-segments.
OVERSHOOT_SECONDS = 0.5


class Segment(NamedTuple):
    """A stretch of a recording, in seconds; None: to its end."""

    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to recognise; `source` is what `read_audio` takes, or why there is nothing."""

    key: str
    source: Any
    segment: Segment | None = None
    from_list: bool = False  # lines of a list may name commands; an input and JSON may not
    path: str = ""  # what `key` was taken from; "" for an id that was given, which stays
    channel: str | int = MIX  # or the number of one
    recording: str = ""  # of a segment: what it is a stretch of
    fs: int | None = None  # the item's own, of samples without a header; goes before the call's
    text: str | DataError = ""  # of what works on texts, or on a recording and its text
    skipped: tuple[str, ...] = ()  # ids before it in the list that a run leaves out

    def read(self, fs: int | None, target_fs: int, cache: Cache | None = None) -> Tensor:
        """Samples (N,) at `target_fs`; segments or channels of one recording in a row read
        it once.
        """
        if isinstance(self.source, DataError):
            raise self.source
        own = fs if self.fs is None else self.fs
        form: dict[str, Any] = {"fs": own, "target_fs": target_fs, "allow_pipe": self.from_list}
        mixed = self.channel == MIX
        if cache is None or (self.segment is None and mixed):
            wave = read_audio(self.source, channel=self.channel, **form)
        elif cache.wave is not None and cache.source is self.source and cache.mixed == mixed:
            wave = cache.wave
        else:
            wave = read_audio(self.source, **form) if mixed else read_channels(self.source, **form)
            cache.source, cache.mixed, cache.wave = self.source, mixed, wave
        if wave.dim() == 2:
            wave = Selector(str(self.source), self.channel)(wave)
        return wave if self.segment is None else cut(wave, target_fs, *self.segment)

    def piece(self, rate: int) -> Any:
        """The next piece of a stream at `rate`: bytes as they are, of all else the samples (N,)."""
        return self.source if isinstance(self.source, BYTES) else self.read(rate, rate)


@dataclass
class Cache:
    """The recording read last."""

    source: Any = None
    mixed: bool = True  # else `wave` is (C, N)
    wave: Tensor | None = None


def cut(wave: Tensor, fs: int, start: float, end: float | None) -> Tensor:
    """The samples (N,) between two times in seconds, end None: to the end of the recording.

    A stretch that lies outside of its recording is an error.
    """
    seconds = len(wave) / fs
    late = end is not None and end > seconds + OVERSHOOT_SECONDS
    if late or start > seconds:
        until = "its end" if end is None else f"{end} s"
        raise AudioError(
            f"segment from {start} s to {until} in a recording of {seconds:.2f} s; "
            "mend the segments file"
        )
    return wave[round(start * fs) : None if end is None else round(end * fs)]


def taken(source: Any) -> tuple[Any, int | None]:
    """The content of an open file, which can be read only once, and its own rate; other inputs as
    they are.
    """
    if isinstance(source, soundfile.SoundFile):
        return source.read(dtype="float32", always_2d=True), source.samplerate
    if not hasattr(source, "read"):
        return source, None
    content = source.read()
    if isinstance(content, str):
        raise DataError("input: a file that gives text, not bytes; open it with 'rb'")
    return content, None


def check_piece(item: Item, fs: int | None, rate: int) -> None:
    """Refuse a piece of a stream of another rate: resampled alone, it would not fit the next."""
    for given in (fs, item.fs):
        if given not in (None, rate):
            raise ConfigError(
                f"fs={given}: the pieces of a stream must have {rate} Hz; resample them"
            )


def at_hand(one: Input) -> Callable[[], Input]:
    """A factory that returns this ready-made input."""
    return lambda: one


def named(path: str, source: Any, from_list: bool = False) -> Item:
    """An item that is known by the name of its file."""
    return Item(key_of(path), source, None, from_list, path)
