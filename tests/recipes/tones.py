"""Stand-in for the corpora of mini_zh in their layout: each character is a chord of its own, so
that all stages of the recipe run where there is no speech, and there is something to learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from paraformer.data.corpus.tables import write_table

CHARACTERS = "一二三四五六七八九十天地人山水火风云日月"
WORDS = ("open", "speech")
SECONDS = 0.2  # of one sound


def speak(text: str, seed: int, rate: int = 16000) -> np.ndarray:
    """Chords (N,) with silence around, a little noise, and a pitch that depends on the seed."""
    random = np.random.default_rng(seed)
    sounds = list(text) if text[0] in CHARACTERS else [text]
    time = np.arange(int(SECONDS * rate)) / rate
    envelope = np.sin(np.pi * time / SECONDS) ** 0.5
    pitch = random.uniform(0.97, 1.03)
    pieces = [np.zeros(int(0.15 * rate))]
    for sound in sounds:
        place = (*CHARACTERS, *WORDS).index(sound)
        low, high = 250 * 1.35 ** (place % 5), 1100 * 1.3 ** (place // 5)
        chord = np.sin(2 * np.pi * low * pitch * time) + np.sin(2 * np.pi * high * pitch * time)
        pieces += [0.2 * envelope * chord, np.zeros(int(0.05 * rate))]
    wave = np.concatenate([*pieces, pieces[0]])
    return (wave + 0.002 * random.standard_normal(len(wave))).astype(np.float32)


def write(path: Path, text: str, seed: int, rate: int = 16000) -> None:
    """One recording in the format that the name of the file says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opus = {"subtype": "OPUS"} if path.suffix == ".ogg" else {}
    soundfile.write(path, speak(text, seed, rate), rate, **opus)


def sentences(count: int, length: tuple[int, int], seed: int) -> list[str]:
    """Different texts of some characters each."""
    random = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        size = int(random.integers(*length))
        texts["".join(random.choice(list(CHARACTERS), size))] = None
    return list(texts)


def write_corpora(root: Path) -> Path:
    """Words (mp3), words of 28 speakers (ogg), sentences (ogg, mp3) and three long ones (wav)."""
    for number, word in enumerate(sentences(200, (1, 4), 0)):
        write(root / f"audio-cmn/24k-abr/hsk/cmn-{word}.mp3", word, number, 24000)
    for number, text in enumerate(sentences(40, (2, 7), 1)):
        write(root / f"seedlingo/audio/{text}.mp3", text, number, 24000)
    _write_speakers(root / "dspspeech20")
    _write_listed(root / "synthetic", sentences(200, (4, 9), 2), "Z{:05d}", "audio/Z00/{}.ogg")
    _write_listed(root / "aishell3_samples", sentences(3, (8, 12), 3), "SSB{:04d}0001", "{}.wav")
    return root


def _write_speakers(root: Path) -> None:
    words = [*sentences(6, (2, 3), 4), *(word.upper() for word in WORDS)]
    tables: dict[str, dict[str, str]] = {"text": {}, "wav.scp": {}, "utt2spk": {}}
    for speaker in (f"D{number:02d}" for number in range(1, 29)):
        for place, word in enumerate(words):
            key = f"{speaker}_W{place:02d}_R01"
            name = f"audio/{speaker}/{key}.ogg"
            write(root / name, word.lower(), int(speaker[1:]) * 100 + place)
            for table, value in zip(tables.values(), (word, name, speaker), strict=True):
                table[key] = value
    for name, table in tables.items():
        write_table(root / name, table)


def _write_listed(root: Path, texts: list[str], key: str, name: str) -> None:
    keys = [key.format(number) for number in range(len(texts))]
    for number, (each, text) in enumerate(zip(keys, texts, strict=True)):
        write(root / name.format(each), text, number)
    write_table(root / "text", dict(zip(keys, texts, strict=True)))
    write_table(root / "wav.scp", {each: name.format(each) for each in keys})
