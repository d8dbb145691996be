#!/usr/bin/env python3
"""Mix conversations of the clips of a data directory, with an RTTM of who speaks when.

    local/mix_turns.py [--speakers 2] [--number 20] [--seconds 60] [--overlap 0] [--seed 1] DATA OUT

Writes OUT/audio, wav.scp, rttm and reco2num_spk. Speakers, clips, turns (1 to 10 s) and gaps (0 to
1 s) are drawn by the seed; clips lose the silence at their ends. With --overlap so many of the
turns (0 to 1) begin 0.5 to 2 s before the one before them has ended.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table, write_table, write_text

RATE = 16000
FRAME = 160
QUIET_DB = 35.0  # below the loudest frame of a clip
LEVEL = 0.05  # of speech, root mean square
TURN_SECONDS, GAP_SECONDS = (1.0, 10.0), (0.0, 1.0)
OVERLAP_SECONDS = (0.5, 2.0)
PAUSE_SECONDS = 0.15  # between the clips of a turn
HISS = 1e-4


def trimmed(wave: np.ndarray) -> np.ndarray:
    """Samples (N,) without the quiet frames at both ends, as loud as all others.

    >>> trimmed(np.r_[np.zeros(1600), np.ones(3200), np.zeros(800)]).size
    3200
    """
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    power = (frames**2).mean(1)
    loud = np.flatnonzero(power > power.max(initial=0) * 10 ** (-QUIET_DB / 10))
    if not len(loud):
        return wave[:0]
    kept = wave[loud[0] * FRAME : (loud[-1] + 1) * FRAME]
    return LEVEL / np.sqrt(np.mean(kept**2)) * kept


class Talkers:
    """The clips of some speakers, which come one after the other in a drawn order."""

    def __init__(self, clips: dict[str, list[str]], random: np.random.Generator) -> None:
        self.random = random
        self.queues = {name: list(random.permutation(clips[name])) for name in sorted(clips)}

    def turn(self, speaker: str) -> np.ndarray:
        """Samples of whole clips, until a drawn length is passed."""
        wanted = self.random.uniform(*TURN_SECONDS) * RATE
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < wanted:
            queue = self.queues[speaker]
            source = queue.pop(0)
            queue.append(source)
            parts.append(trimmed(read_audio(source, target_fs=RATE).numpy()))
            parts.append(np.zeros(round(PAUSE_SECONDS * RATE), np.float32))
        return np.concatenate(parts[:-1])


def conversation(
    talkers: Talkers, seconds: float, overlap: float, random: np.random.Generator
) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Samples of a conversation, and speaker, begin and duration in seconds of each turn.

    overlap: share of the turns that begin while the one before them lasts.
    """
    names = list(talkers.queues)
    parts, turns, end = list[tuple[int, np.ndarray]](), [], 0
    speaker = names[int(random.integers(len(names)))]
    while end < seconds * RATE or len(turns) < len(names):
        wave = talkers.turn(speaker)
        begin = end + round(random.uniform(*GAP_SECONDS) * RATE)
        if parts and overlap and random.random() < overlap:
            shorter = min(len(wave), len(parts[-1][1]))
            begin = end - min(round(random.uniform(*OVERLAP_SECONDS) * RATE), shorter // 2)
        parts.append((begin, wave))
        turns.append((speaker, begin / RATE, len(wave) / RATE))
        end = begin + len(wave)
        silent = [name for name in names if name not in [turn[0] for turn in turns]]
        others = silent or [name for name in names if name != speaker] or names
        speaker = others[int(random.integers(len(others)))]
    whole = HISS * random.standard_normal(end)
    for begin, wave in parts:
        whole[begin : begin + len(wave)] += wave
    return whole, turns


def main() -> int:
    """Write all conversations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--speakers", type=int, default=2)
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--overlap", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    sources, speakers = read_table(args.data / "wav.scp"), read_table(args.data / "utt2spk")
    clips: dict[str, list[str]] = {}
    for key, source in sources.items():
        clips.setdefault(speakers[key], []).append(source)
    if len(clips) < args.speakers:
        print(f"{args.data}: has {len(clips)} speakers, not {args.speakers}", file=sys.stderr)
        return 1
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    wavs, lines, counts = {}, [], {}
    for number in range(args.number):
        random = np.random.default_rng((args.seed, number))
        chosen = random.choice(sorted(clips), args.speakers, replace=False)
        talkers = Talkers({str(name): clips[str(name)] for name in chosen}, random)
        wave, turns = conversation(talkers, args.seconds, args.overlap, random)
        key = f"mix{args.speakers}-{number:03d}"
        wavs[key], counts[key] = str(args.out / "audio" / f"{key}.wav"), str(args.speakers)
        soundfile.write(wavs[key], wave.clip(-1, 1), RATE, subtype="PCM_16")
        for name, begin, size in turns:
            lines.append(f"SPEAKER {key} 1 {begin:.3f} {size:.3f} <NA> <NA> {name} <NA> <NA>\n")
    write_table(args.out / "wav.scp", wavs)
    write_table(args.out / "reco2num_spk", counts)
    write_text(args.out / "rttm", "".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
