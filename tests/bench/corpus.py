"""A data directory of noise with random texts: enough to time a training step."""

from __future__ import annotations

import json
from pathlib import Path

import kaldiio
import numpy as np
import torch

from paraformer.data.corpus.tables import write_table
from paraformer.data.features.cmvn import Cmvn, write_cmvn
from tests.bench.large import tokens

MELS, STACKED = 80, 560
VOCABULARY = 4000
FRAMES_PER_TOKEN = 25


def make_corpus(folder: Path, count: int = 96, seed: int = 0) -> tuple[Path, Path]:
    """Utterances of 2 to 8 s, four tokens a second: data directory (with am.mvn) and lang."""
    data, lang = folder / "data", folder / "lang"
    for part in (data, lang):
        part.mkdir(parents=True, exist_ok=True)
    names = tokens(VOCABULARY)
    (lang / "tokens.json").write_text(json.dumps(names, ensure_ascii=False), "utf8")
    (lang / "seg_dict").write_text("".join(f"{name} {name}\n" for name in names[3:-1]), "utf8")
    random = np.random.default_rng(seed)
    tables: dict[str, dict[str, str]] = {"text": {}, "utt2num_frames": {}, "utt2spk": {}}
    feats = {}
    for number in range(count):
        key = f"u{number:03d}"
        frames = int(random.integers(200, 800))
        feats[key] = random.normal(0.0, 1.0, (frames, MELS)).astype(np.float32)
        said = random.choice(names[3:-1], frames // FRAMES_PER_TOKEN)
        tables["text"][key] = " ".join(said)
        tables["utt2num_frames"][key] = str(frames)
        tables["utt2spk"][key] = key
    for name, values in tables.items():
        write_table(data / name, values)
    kaldiio.save_ark(str(data / "feats.ark"), feats, scp=str(data / "feats.scp"))
    write_cmvn(data / "am.mvn", Cmvn(torch.zeros(STACKED), torch.ones(STACKED)))
    return data, lang
