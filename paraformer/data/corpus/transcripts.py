"""Cleans transcripts, and writes data directories of lists of recordings, for the recipes of public
corpora.

Standard library only, so that a million lines are prepared without waiting for torch.
"""

from __future__ import annotations

import re
import unicodedata
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.datadir import write_data_dir

_BESIDE_CHINESE = re.compile(r"(?<=[^\x00-\x7f])[ \t]+|[ \t]+(?=[^\x00-\x7f])")


class Recording(NamedTuple):
    """One utterance that is a file of its own."""

    key: str
    path: Path
    text: str
    speaker: str
    seconds: float


def clean_transcript(text: str) -> str:
    """Full-width letters and digits become plain ones, all lower case; Chinese words are joined.

    >>> clean_transcript("打开 ＡＰＰ store 看 一看")
    '打开app store看一看'
    """
    plain = unicodedata.normalize("NFKC", text).lower().strip()
    return _BESIDE_CHINESE.sub("", plain)


def read_recordings(
    found: Iterable[tuple[str, Path, str]],
) -> tuple[list[Recording], int, int]:
    """Keys, files in the folders of their speakers and raw transcripts -> recordings, and how many
    others have no transcript, and how many cannot be read.
    """
    kept, silent, broken = list[Recording](), 0, 0
    for key, path, transcript in found:
        text, seconds = clean_transcript(transcript), wav_seconds(path)
        silent += not text
        broken += bool(text) and seconds <= 0.0
        if text and seconds > 0.0:
            kept.append(Recording(key, path, text, path.parent.name, seconds))
    return kept, silent, broken


def wav_seconds(path: Path) -> float:
    """Length that the header of a PCM wav file tells; 0 where it is none, or is cut off."""
    try:
        with wave.open(str(path), "rb") as file:
            size = file.getnframes() * file.getnchannels() * file.getsampwidth()
            whole = size <= path.stat().st_size
            return file.getnframes() / file.getframerate() if whole else 0.0
    except (OSError, EOFError, wave.Error, ZeroDivisionError):
        return 0.0


def write_recordings(folder: Path, recordings: Iterable[Recording]) -> int:
    """A data directory (`wav.scp text utt2spk spk2utt utt2dur`) of recordings; how many it has."""
    listed = list(recordings)
    tables = {
        "wav.scp": {r.key: str(r.path) for r in listed},
        "text": {r.key: r.text for r in listed},
        "utt2spk": {r.key: r.speaker for r in listed},
        "utt2dur": {r.key: f"{r.seconds:.3f}" for r in listed},
    }
    write_data_dir(folder, tables)
    return len(listed)
