"""Log-mel features of a Kaldi data directory: NAME.ark, NAME.scp and NAME.utt2num_frames."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from paraformer.api.record import made_by
from paraformer.data.audio.channels import MIX, Selector
from paraformer.data.audio.read import read_audio, read_channels, resample
from paraformer.data.corpus.segments import read_places
from paraformer.data.corpus.tables import read_table
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.sources import cut
from paraformer.errors import AudioError, ConfigError, DataError, ParaformerError
from paraformer.files import check_folder
from paraformer.limits import Limits, check
from paraformer.options import RATE, SHARE, THREADS
from paraformer.programs.growing_archive import GrowingArchive
from paraformer.programs.hydra_main import defaults_of, plain, run
from paraformer.progress import goes_on

log = logging.getLogger(__name__)

# Kaldi's kTwoByteAuto: the method that loses least.
COMPRESSION = 3
SPEED = Limits(0.1, 10)
FRONTEND_KEYS = (
    "fs",
    "window",
    "n_mels",
    "frame_length",
    "frame_shift",
    "dither",
    "snip_edges",
    "upscale_samples",
)


class Segment(NamedTuple):
    """A stretch of a recording, in seconds; None: to its end."""

    utterance: str
    start: float = 0.0
    end: float | None = None
    channel: int | None = None  # None: the mean of all


class Recording(NamedTuple):
    """One audio source and the utterances in it."""

    source: str
    segments: list[Segment]


@dataclass(frozen=True)
class Job:
    """The work that is done with each recording; safe to run in several threads."""

    frontend: Frontend
    speeds: list[float]
    raw_fs: int | None = None  # rate of samples without a header

    def __call__(self, recording: Recording) -> list[tuple[str, Tensor | ParaformerError]]:
        """Ids at all speeds, each with its log-mel features (T, n_mels) or what went wrong."""
        fs = self.frontend.fs
        try:
            if not recording.source:
                raise AudioError("no such recording in wav.scp; run utils/fix_data_dir.py")
            waves = self._read(recording)
        except ParaformerError as error:
            ids = (s.utterance for s in recording.segments)
            return [(_at_speed(i, speed), error) for i in ids for speed in self.speeds]
        done: list[tuple[str, Tensor | ParaformerError]] = []
        for segment in recording.segments:
            for speed in self.speeds:
                name = _at_speed(segment.utterance, speed)
                try:
                    part = cut(waves(segment.channel), fs, segment.start, segment.end)
                    done.append((name, self._features(part, speed)))
                except ParaformerError as error:
                    done.append((name, error))
        return done

    def _read(self, recording: Recording) -> Callable[[int | None], Tensor]:
        """A function that gives a channel (N,) of a recording, or with None the mean of all."""
        how: dict[str, Any] = {"fs": self.raw_fs, "target_fs": self.frontend.fs, "allow_pipe": True}
        if all(segment.channel is None for segment in recording.segments):
            whole = read_audio(recording.source, **how)
            return lambda channel: whole
        channels = read_channels(recording.source, **how)
        return lambda n: Selector(recording.source, MIX if n is None else n, said=True)(channels)

    def _features(self, wave: Tensor, speed: float) -> Tensor:
        fs = self.frontend.fs
        feats = self.frontend.fbank(resample(wave, round(fs * speed), fs))
        if not len(feats):
            raise AudioError(f"{len(wave)} samples are too short for a frame; leave it out")
        return feats


def make_fbank(config: DictConfig) -> int:
    """Write the features; a recording that cannot be read is reported, counted and skipped."""
    speeds = list(config.speeds or [])
    if not speeds or not all(map(SPEED.allow, speeds)) or len(set(speeds)) < len(speeds):
        raise ConfigError(
            f"speeds={speeds}: give different numbers from 0.1 to 10, such as [0.9,1.0,1.1]"
        )
    if "/" in (config.name or ""):
        raise ConfigError(f"name={config.name}: is a path; give a file name, and the folder as out")
    check("num_threads", config.num_threads, THREADS)
    check("min_success", config.min_success, SHARE)
    if config.raw_fs is not None:
        check("raw_fs", config.raw_fs, RATE)
    job = Job(Frontend(**{key: config[key] for key in FRONTEND_KEYS}), speeds, config.raw_fs)
    recordings = read_recordings(config.data)
    total = sum(len(r.segments) for r in recordings) * len(speeds)
    if not total:
        raise DataError(f"{config.data}: holds no recordings; each line is `id file`")
    # The path that the scp will hold: as given, so relative to where the recipe runs.
    stem = f"{config.out}/{config.name or Path(config.data).name.removesuffix('.scp')}"
    check_folder(config.out)
    resume = goes_on(f"{stem}.ark.part", config.resume)
    made = made_by({}, plain(config), defaults_of("fbank"))
    archive = GrowingArchive(stem, COMPRESSION if config.compress else None, resume, made)
    pending = [left for recording in recordings if (left := _left(recording, archive, speeds))]
    wanted = sum(len(r.segments) for r in pending) * len(speeds)
    results = _work(job, pending, config.num_threads)
    bar = tqdm(results, total=wanted, desc="make_fbank", unit="utt", disable=None, leave=False)
    with closing(archive):
        _write(archive, bar)
    archive.finish()
    written = len(archive)
    log.info("wrote %d of %d utterances", written, total)
    return 0 if written >= config.min_success * total else 1


def read_recordings(data: str) -> list[Recording]:
    """The recordings of a data directory, or of a wav.scp, with the utterances in each."""
    folder = Path(data)
    if not folder.is_dir():
        return [Recording(source, [Segment(key)]) for key, source in read_table(data).items()]
    sources = read_table(folder / "wav.scp")
    if not (folder / "segments").exists():
        return [Recording(source, [Segment(key)]) for key, source in sources.items()]
    recordings: dict[str, Recording] = {}
    for utterance, (name, start, end, channel) in read_places(folder / "segments").items():
        segment = Segment(utterance, start, end, channel)
        recordings.setdefault(name, Recording(sources.get(name, ""), [])).segments.append(segment)
    return list(recordings.values())


def _at_speed(utterance: str, speed: float) -> str:
    return utterance if speed == 1.0 else f"sp{speed:g}-{utterance}"


def _work(
    job: Job, recordings: Iterable[Recording], num_threads: int
) -> Iterator[tuple[str, Tensor | ParaformerError]]:
    """Results in the order of the recordings; only a few of them wait to be written at any time."""
    torch.set_num_threads(1)
    waiting: deque[Future[list[tuple[str, Tensor | ParaformerError]]]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for recording in recordings:
            waiting.append(pool.submit(job, recording))
            if len(waiting) > 2 * num_threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _left(recording: Recording, done: GrowingArchive, speeds: list[float]) -> Recording | None:
    """The utterances that lack features at some speed; None if there are none."""
    left = [
        s for s in recording.segments if any(_at_speed(s.utterance, x) not in done for x in speeds)
    ]
    return Recording(recording.source, left) if left else None


def _write(
    archive: GrowingArchive, results: Iterable[tuple[str, Tensor | ParaformerError]]
) -> None:
    for utterance, feats in results:
        if isinstance(feats, ParaformerError):
            log.warning("utterance '%s': %s", utterance, feats)
        elif utterance not in archive:
            archive.add(utterance, feats)


def main() -> int:
    """Entry of `bin/make_fbank.py` and `funasr-make-fbank`."""
    return run("fbank", make_fbank)
