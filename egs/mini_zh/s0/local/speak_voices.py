#!/usr/bin/env python3
"""Speak the sentences of a Kaldi `text` table by hundreds of voices, with Kokoro-82M.

    local/fetch_voices.sh exp/kokoro
    exp/kokoro/venv/bin/python local/speak_voices.py exp/kokoro data/extra/text_marks OUT --part 1/2

Punctuation in the table is read as pauses. OUT is a data directory: `text` (without punctuation),
`text_marks`, `utt2spk`, `utt2voice`, `wav.scp` (paths relative to OUT) and `utt2dur`; 16 kHz
Ogg/Opus. The tables grow line by line, so OUT can be used before the end, and a second run goes on
where the first stopped. Part 1/2 speaks every other sentence: the parts together are the whole.

A speaker is a mixture of two of the 54 voices, the first of them a native of Mandarin, played a
little faster or slower. Who he is, and which sentences he reads, how fast, depends on the seed and
the number of the sentence alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from synthesize import MARKS, MIN_SUCCESS, SAMPLE_RATE, Tables, read_lines, write_audio

TABLES = ("text", "text_marks", "utt2spk", "utt2voice", "wav.scp", "utt2dur")
NATIVES = tuple("zf_" + n for n in ("xiaobei", "xiaoni", "xiaoxiao", "xiaoyi")) + tuple(
    "zm_" + n for n in ("yunjian", "yunxi", "yunxia", "yunyang")
)
FOREIGN = 0.45  # the most that a voice of another language may weigh: beyond, it has an accent
RATES = ("2/3", "2/3", "2/3", "7/11", "5/8", "7/10", "5/7")  # of 24 kHz samples played at 16 kHz
SPEEDS = (0.8, 1.3)
MAX_PHONEMES = 508  # rows of a voice


class Voice(NamedTuple):
    """A speaker: two voices, the weight of the second, and the rate at which he is played."""

    first: str
    second: str
    weight: float
    rate: Fraction

    def __str__(self) -> str:
        shares = f"{self.first}:{1 - self.weight:.3f},{self.second}:{self.weight:.3f}"
        return f"{shares} rate:{self.rate}"


class Job(NamedTuple):
    """One sentence, who reads it and how fast."""

    key: str
    sentence: str
    speaker: str
    voice: Voice
    speed: float


def draw_voice(name: str, voices: list[str]) -> Voice:
    """The speaker of a name, always the same.

    >>> voice = draw_voice("S1_007", ["af_sky", "zm_yunxi"])
    >>> voice.first, voice.second, 0.3 <= voice.weight <= FOREIGN
    ('zm_yunxi', 'af_sky', True)
    """
    drawn = random.Random(name)
    first = drawn.choice([voice for voice in voices if voice in NATIVES])
    second = drawn.choice([voice for voice in voices if voice != first])
    weight = drawn.uniform(0.3, 0.7 if second in NATIVES else FOREIGN)
    return Voice(first, second, round(weight, 3), Fraction(drawn.choice(RATES)))


def plan(sentences: dict[str, str], seed: str, speakers: int, voices: list[str]) -> list[Job]:
    """Who reads what: the speakers take turns."""
    jobs = []
    for number, (name, sentence) in enumerate(sentences.items()):
        speaker = f"{seed}_{number % speakers:03d}"
        key = f"{speaker}-{name}"
        speed = round(random.Random(key).uniform(*SPEEDS), 2)
        jobs.append(Job(key, sentence, speaker, draw_voice(speaker, voices), speed))
    return jobs


class Kokoro:
    """The network with its vocabulary and voices, in a folder that fetch_voices.sh made."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from misaki import zh

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))["vocab"]
        self.phonemes: Callable[[str], Any] = zh.ZHG2P()
        self.folder = folder / "voices"

    @functools.lru_cache(maxsize=64)  # noqa: B019 # lives as long as the process
    def styles(self, name: str) -> np.ndarray:
        """(510, 256): the style of a voice for each number of phonemes."""
        return np.fromfile(self.folder / f"{name}.bin", np.float32).reshape(-1, 256)

    def __call__(self, job: Job) -> np.ndarray:
        """Samples (N,) at 16 kHz."""
        import soxr

        spoken = self.phonemes(job.sentence)[0]
        ids = [self.vocabulary[symbol] for symbol in spoken]  # a foreign symbol is a KeyError
        if not 0 < len(ids) <= MAX_PHONEMES:
            raise ValueError(f"{len(ids)} phonemes, it reads 1 to {MAX_PHONEMES}")
        voice = job.voice
        first, second = (self.styles(name)[len(ids)] for name in (voice.first, voice.second))
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": ((1 - voice.weight) * first + voice.weight * second)[None],
            "speed": np.array([job.speed], np.float32),
        }
        samples = self.session.run(None, inputs)[0].reshape(-1)
        if not np.isfinite(samples).all() or np.abs(samples).max() < 1e-3:
            raise ValueError("the voice gave silence")
        played = soxr.resample(samples, voice.rate.denominator, voice.rate.numerator)
        return (played * min(1.0, 0.99 / np.abs(played).max())).astype(np.float32)


class Hum:
    """Stands in for the voices where they cannot be fetched: a tone a character."""

    def __call__(self, job: Job) -> np.ndarray:
        """Samples (N,) at 16 kHz: a fifth of a second for each character."""
        rising = 2.0 ** ((np.array([ord(c) % 24 for c in job.sentence]) + 24.0 * job.speed) / 24.0)
        phase = np.cumsum(np.repeat(150.0 * rising, SAMPLE_RATE // 5)) / SAMPLE_RATE
        return (0.3 * np.sin(2 * np.pi * phase)).astype(np.float32)


def arguments() -> argparse.Namespace:
    """The command line; its first paragraph is this file's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("kokoro", type=Path, help="folder of local/fetch_voices.sh; hum: tones")
    parser.add_argument("sentences", type=Path, help="lines `id sentence`")
    parser.add_argument("output", type=Path, help="data directory to write")
    parser.add_argument("--speakers", type=int, default=400)
    parser.add_argument("--seed", default="S1", help="of the speakers, the start of their names")
    parser.add_argument("--part", default="1/1", help="I/N: every N-th sentence from the I-th")
    parser.add_argument(
        "--hours", type=float, default=0.0, help="end when this much is there; 0: all"
    )
    return parser.parse_args()


def main() -> int:
    """Speak what is not there yet; 1 if there is nothing to speak or under 95 % succeed."""
    args = arguments()
    sentences = read_lines(args.sentences)
    if not sentences:
        sys.exit(f"{args.sentences}: no lines `id sentence`; run local/select_sentences.py first")
    hums = str(args.kokoro) == "hum"
    folder = args.kokoro / "voices"
    voices = list(NATIVES) if hums else sorted(path.stem for path in folder.glob("*.bin"))
    part, parts = map(int, args.part.split("/"))
    jobs = plan(sentences, args.seed, args.speakers, voices)[part - 1 :: parts]
    speak = Hum() if hums else Kokoro(args.kokoro)
    failed = 0
    with Tables(args.output, TABLES) as tables:
        seconds = sum(map(float, read_lines(args.output / "utt2dur").values()))
        done = set(tables.done)
        for job in (job for job in jobs if job.key not in done):
            if args.hours and seconds >= args.hours * 3600:
                break
            try:
                samples = speak(job)
            except (KeyError, ValueError) as fault:
                failed += 1
                print(f"warning: {job.key} not spoken: {fault!r}", file=sys.stderr)
                continue
            path = args.output / "audio" / job.speaker / f"{job.key}.ogg"
            write_audio(path, samples)
            length = len(samples) / SAMPLE_RATE
            seconds += length
            place = path.relative_to(args.output).as_posix()
            text, voice = MARKS.sub("", job.sentence), f"{job.voice} speed:{job.speed}"
            tables.add(job.key, (text, job.sentence, job.speaker, voice, place, f"{length:.3f}"))
    print(f"{seconds / 3600:.2f} hours in {args.output}; {failed} not spoken", file=sys.stderr)
    return 0 if failed <= (1 - MIN_SUCCESS) * len(jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
