"""Audio of a Kaldi data directory without features: how many frames each utterance has, told
without decoding where that is possible, and its samples when its turn comes.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import soundfile
from torch import Tensor
from tqdm import tqdm

from paraformer.data.audio.arrays import MOST, loudest
from paraformer.data.audio.channels import Selector
from paraformer.data.audio.resample import resample
from paraformer.data.audio.soundfiles import channels_first, header, header_samples, openable
from paraformer.data.corpus.checks import entry_file, wrong_value
from paraformer.data.corpus.tables import read_table
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.sources import OVERSHOOT_SECONDS, Cache, Item, Segment, list_items
from paraformer.errors import AudioError, DataError, ParaformerError

log = logging.getLogger(__name__)

# Formats of which a stretch in the middle, decoded by itself, is what the whole would give.
SEEKABLE = ("WAV", "WAVEX", "FLAC")
SEEKABLE_CODES = (
    *("PCM_16", "PCM_24", "PCM_32", "PCM_U8", "PCM_S8", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    *("IMA_ADPCM", "MS_ADPCM"),
)
UNREADABLE = "audio cannot be read"


class Recorded(NamedTuple):
    """One utterance: its audio, and its frames of log-mel or why it cannot be used."""

    item: Item
    frames: int
    fault: str = ""


def read_numbers(path: Path) -> dict[str, float]:
    """The numbers of a utt2num_frames or utt2dur; none if it is not there."""
    table = read_table(path) if path.is_file() else {}
    for key, value in table.items():
        wrong = wrong_value(path.name, value)
        if wrong:
            raise DataError(f"{path}: '{key}': {wrong}; make the file again or remove it")
    return {key: float(value) for key, value in table.items()}


def read_recorded(folder: Path, frontend: Frontend) -> Iterator[Recorded]:
    """The utterances of a data directory with wav.scp [segments], in their order.

    Lengths are those of utt2num_frames, of segments, of utt2dur, of the header of the file, and
    where none of these tells it, as of a command, of what it gives when it is read.
    """
    for name in ("wav.scp", "segments"):
        if name == "wav.scp" or (folder / name).is_file():
            read_table(folder / name)  # refuses what is missing or stands twice
    items, fs = list_items(folder), frontend.fs
    counts = read_numbers(folder / "utt2num_frames")
    durations = read_numbers(folder / "utt2dur")
    lost = {item.key: error for item in items if (error := _lost(item))}
    lengths = {item.key: samples for item in items if (samples := _told(item, durations, fs))}
    _warn_of_pipes(items)
    known = counts.keys() | lost.keys() | lengths.keys()
    found = {**lengths, **_measured([i for i in items if i.key not in known], fs), **lost}
    for item in items:
        length = found.get(item.key, 0)
        if isinstance(length, ParaformerError):
            log.warning("utterance '%s': %s", item.key, length)
            yield Recorded(item, 0, UNREADABLE)
        else:
            yield Recorded(item, int(counts.get(item.key, 0)) or frontend.frames(length))


def _lost(item: Item) -> ParaformerError | None:
    """The fault of an entry, as far as it shows before the audio is opened."""
    if isinstance(item.source, DataError):
        return item.source
    file, _ = entry_file(str(item.source))
    if file and not os.path.isfile(file):
        return AudioError(f"{file}: no such file; check wav.scp")
    return None


def _warn_of_pipes(items: list[Item]) -> None:
    piped = sum(i.segment is not None and str(i.source).endswith("|") for i in items)
    if piped:
        log.warning(
            "%d segments are of recordings that a command gives, which runs for each of them in "
            "each epoch; steps/make_fbank.sh would run it once",
            piped,
        )


def _told(item: Item, durations: dict[str, float], fs: int) -> int:
    """Samples at `fs` by the tables, 0 where they do not tell."""
    if item.segment is not None and item.segment.end is not None:
        return round(item.segment.end * fs) - round(item.segment.start * fs)
    return round(durations.get(item.key, 0) * fs)


def _measured(items: list[Item], fs: int) -> dict[str, int | ParaformerError]:
    """Samples of utterances by their headers, else by reading them."""
    if not items:
        return {}
    log.info("%d lengths are read from the audio itself; utt2dur would save that", len(items))

    def measure(item: Item) -> int | ParaformerError:
        whole = header_samples(item.source, fs)
        before = 0 if item.segment is None else round(item.segment.start * fs)
        if whole is not None and whole > before:
            return whole - before
        try:
            return len(item.read(None, fs))
        except ParaformerError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        lengths = pool.map(measure, items)
        bar = tqdm(lengths, "lengths", len(items), disable=None, leave=False)
        return {item.key: length for item, length in zip(items, bar, strict=True)}


class Reader:
    """Samples of utterances at one rate; any number of threads may share it."""

    def __init__(self, fs: int) -> None:
        self.fs = fs
        self._last = threading.local()  # .cache: the recording that a thread has read last

    def read(self, item: Item) -> Tensor:
        """Samples (N,) of an utterance; of a long recording only its stretch is decoded."""
        if item.segment is not None:
            select = Selector(item.source, item.channel, said=True)
            wave = read_stretch(item.source, item.segment, self.fs, select)
            if wave is not None:
                return wave
        if not hasattr(self._last, "cache"):
            self._last.cache = Cache()
        return item.read(None, self.fs, self._last.cache)


def _may_be_sought(source: str) -> bool:
    """Whether a file begins as those of which a stretch may be decoded by itself."""
    if not os.path.isfile(source):
        return False
    try:
        with open(source, "rb") as file:
            return file.read(4) in (b"RIFF", b"RIFX", b"fLaC")
    except OSError:
        return False


def read_stretch(
    source: str, segment: Segment, fs: int, select: Selector | None = None
) -> Tensor | None:
    """The samples (N,) of a segment without decoding what lies before and behind it.

    None for a file of which that does not surely give what reading it whole and cutting it gives.
    """
    info = header(Path(source), first=True) if _may_be_sought(source) else None
    if info is None or info.format not in SEEKABLE or info.subtype not in SEEKABLE_CODES:
        return None
    rate, total = info.samplerate, info.frames / info.samplerate
    end = total if segment.end is None else segment.end
    if segment.start > total or end > total + OVERSHOOT_SECONDS:
        return None
    # From a whole second, where resampling is in the same phase, and one more for its window.
    first = max(0, math.floor(segment.start) - 1)
    last = (math.ceil(end) + 1) * rate
    if last > info.frames:
        last = info.frames
        if header(Path(source)) is None:  # there is more behind it
            return None
    try:
        samples, _ = soundfile.read(
            openable(source), last - first * rate, first * rate, None, "float32", True
        )
    except soundfile.LibsndfileError:
        return None
    if len(samples) < last - first * rate:
        return None
    select = select or Selector(source)
    wave = select(channels_first(samples))
    if not loudest(wave) <= MOST:  # NaN is no number either
        return None
    wave = resample(wave, rate, fs)
    stop = None if segment.end is None else round(segment.end * fs) - first * fs
    return wave[round(segment.start * fs) - first * fs : stop]
