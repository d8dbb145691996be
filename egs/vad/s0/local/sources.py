"""Which clips of which corpus train, and which test: by speaker where there are several, else by a
hash of the clip's name, so that the lists are the same everywhere.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from paraformer.data.corpus.tables import read_table

PARTS = ("train", "dev", "test")
Clips = dict[str, dict[str, list[Path]]]  # part -> corpus -> files
AUDIO = (".wav", ".ogg", ".mp3", ".flac")
# Corpora of a data directory each: is the part drawn by speaker or by clip?
TABLES = {"synthetic": False, "dspspeech20": True, "speechocean762/train": True}
FOLDERS = {"hsk": "audio-cmn/24k-abr/hsk", "seedlingo": "seedlingo/audio"}
FOLDERS |= {"pinyin_syllables": "pinyin_syllables/audio"}
TEST_TABLE = "speechocean762/test"


def part_of(name: str) -> str:
    """8 % of the names go to test, 4 % to dev.

    >>> part_of("D01") in PARTS
    True
    """
    place = int(hashlib.sha1(name.encode()).hexdigest()[:8], 16) / 16**8 * 100
    return "test" if place < 8 else "dev" if place < 12 else "train"


def speaker_part(name: str) -> str:
    """Of speakers a quarter is kept from training, since they are few."""
    place = int(hashlib.sha1(name.encode()).hexdigest()[:8], 16) / 16**8 * 100
    return "test" if place < 15 else "dev" if place < 25 else "train"


def find_clips(corpora: Path, extra: Path | None) -> Clips:
    """All clips of the corpora that are there; those of `extra`, a data directory, only train."""
    clips: Clips = {part: {} for part in PARTS}

    def put(part: str, corpus: str, path: Path) -> None:
        clips[part].setdefault(corpus, []).append(path)

    for corpus, by_speaker in TABLES.items():
        for key, path, speaker in read_folder(corpora / corpus):
            part = speaker_part(speaker) if by_speaker else part_of(key)
            put(part, corpus.split("/")[0], path)
    for _, path, _ in read_folder(corpora / TEST_TABLE):
        put("test", TEST_TABLE.split("/")[0], path)
    for corpus, folder in FOLDERS.items():
        for path in sorted((corpora / folder).glob("*")):
            if path.suffix in AUDIO and path.stem.isprintable() and "placeholder" not in path.name:
                put(part_of(path.stem), corpus, path)
    if extra is not None:
        for _, path, _ in read_folder(extra):
            put("train", "extra", path)
    return clips


def read_folder(folder: Path) -> list[tuple[str, Path, str]]:
    """Id, file and speaker of each line of a wav.scp, whose paths are relative to it."""
    if not (folder / "wav.scp").is_file():
        return []
    speakers: dict[str, str] = {}
    if (folder / "utt2spk").is_file():
        speakers = read_table(folder / "utt2spk")
    table = read_table(folder / "wav.scp")
    return [(key, folder / value, speakers.get(key, key)) for key, value in table.items()]
