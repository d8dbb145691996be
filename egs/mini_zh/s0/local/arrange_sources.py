#!/usr/bin/env python3
"""Lay out the fetched repositories as local/prepare_data.py reads them, by links and Kaldi tables.

local/arrange_sources.py SOURCES CORPORA
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from paraformer.data.corpus.datadir import write_data_dir

# The words of DSPSpeech-20 in the order of their numbers in the file names.
WORDS = [
    "数字",
    "语音",
    "语言",
    "识别",
    "中国",
    "总工",
    "北京",
    "背景",
    "上海",
    "商行",
    "复旦",
    "饭店",
    "SPEECH",
    "SPEAKER",
    "SIGNAL",
    "PROCESS",
    "PRINT",
    "OPEN",
    "CLOSE",
    "PROJECT",
]
CLIP = re.compile(r"^(\d+)-(\d\d)-(\d\d)$")
TAKES = 5  # of each word and speaker; there are up to 20, which differ little


def link(source: Path, target: Path) -> None:
    """A link, made again if it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    target.symlink_to(source.resolve())


def arrange_dspspeech(source: Path, out: Path) -> int:
    """Tables over SPEAKER/SPEAKER-WORD-TAKE.wav; speakers become D01, D02, ... in order."""
    takes: dict[tuple[str, int], list[Path]] = {}
    for path in sorted(source.glob("*/*.wav")):
        match = CLIP.match(path.stem)
        if match and int(match[2]) < len(WORDS):
            takes.setdefault((match[1], int(match[2])), []).append(path)
    names = {name: f"D{n:02d}" for n, name in enumerate(sorted({s for s, _ in takes}), start=1)}
    wavs, text, speakers = {}, {}, {}
    for (speaker, word), paths in takes.items():
        for take, path in enumerate(paths[:TAKES], start=1):
            key = f"{names[speaker]}_W{word:02d}_R{take:02d}"
            wavs[key], text[key] = str(path.resolve()), WORDS[word]
            speakers[key] = names[speaker]
    if wavs:
        write_data_dir(out, {"wav.scp": wavs, "text": text, "utt2spk": speakers})
    return len(wavs)


def arrange_seedlingo(source: Path, out: Path) -> int:
    """Every recording with a Chinese name, once."""
    clips = {
        p.name: p for p in sorted(source.rglob("*.mp3")) if re.match("[\u4e00-\u9fa5]", p.name)
    }
    for name, path in clips.items():
        link(path, out / "audio" / name)
    return len(clips)


def main() -> int:
    """Arrange all that is there; exit 1 if a repository held nothing known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path)
    parser.add_argument("corpora", type=Path)
    args = parser.parse_args()
    link(args.sources / "audio-cmn", args.corpora / "audio-cmn")
    counts = {
        "audio-cmn": len(list((args.corpora / "audio-cmn/24k-abr/hsk").glob("*.mp3"))),
        "dspspeech20": arrange_dspspeech(
            args.sources / "DSPSpeech-20", args.corpora / "dspspeech20"
        ),
        "seedlingo": arrange_seedlingo(args.sources / "seedlingo", args.corpora / "seedlingo"),
    }
    link(args.sources / "shu/books/近代", args.corpora / "punctuation/shu")
    for name, count in counts.items():
        print(f"{args.corpora / name}: {count} recordings", file=sys.stderr)
        if not count:
            print(
                f"{args.sources}: no recordings of {name}; has its layout changed?", file=sys.stderr
            )
    return 0 if all(counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
