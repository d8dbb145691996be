"""Small models and data made from code, for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import torch

from paraformer.data.corpus.tables import write_table
from paraformer.data.features.cmvn import Cmvn
from paraformer.data.features.frontend import Frontend
from paraformer.data.text.tokenizer import CharTokenizer
from paraformer.models.kinds import SPEAKER, SpeakerRelease
from paraformer.models.release import Config, Release, build, merge

TOKENS = ["<blank>", "<s>", "</s>", *"一二三四五六七八九十", "he@@", "llo", "<unk>"]
SEG_DICT = {"hello": ["he@@", "llo"], **{c: [c] for c in "一二三四五六七八九十"}}
N_MELS, LFR = 8, (7, 6)
CONFIG: Config = {
    "model": "Paraformer",
    "model_conf": {
        "ctc_weight": 0.0,
        "lsm_weight": 0.1,
        "length_normalized_loss": True,
        "predictor_weight": 1.0,
        "predictor_bias": 1,
        "sampling_ratio": 0.75,
    },
    "encoder": "SANMEncoder",
    "encoder_conf": {
        "output_size": 16,
        "attention_heads": 2,
        "linear_units": 32,
        "num_blocks": 2,
        "kernel_size": 5,
        "attention_dropout_rate": 0.0,
    },
    "decoder": "ParaformerSANMDecoder",
    "decoder_conf": {
        "attention_heads": 2,
        "linear_units": 32,
        "num_blocks": 1,
        "att_layer_num": 1,
        "kernel_size": 5,
    },
    "predictor": "CifPredictorV2",
    "predictor_conf": {"idim": 16, "tail_threshold": 0.45},
    "frontend": "WavFrontend",
    "frontend_conf": {"fs": 16000, "n_mels": N_MELS, "lfr_m": LFR[0], "lfr_n": LFR[1]},
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "token_list": TOKENS},
}


def frontend() -> Frontend:
    """Stacks 7 frames and centres them."""
    width = N_MELS * LFR[0]
    cmvn = Cmvn(torch.full((width,), -1.5), torch.full((width,), 0.5))
    return Frontend(n_mels=N_MELS, lfr_m=LFR[0], lfr_n=LFR[1], cmvn=cmvn)


def release(changes: Config | None = None, seed: int = 0) -> Release:
    """A SAN-M model of 16 wide layers with random weights, CMVN and seg_dict."""
    torch.manual_seed(seed)
    built = build(merge(CONFIG, changes or {}))
    tokenizer = CharTokenizer(TOKENS, SEG_DICT)
    return replace(built, frontend=frontend(), tokenizer=tokenizer)


SPEAKER_CONFIG: Config = {
    "model": "CAMPPlus",
    "model_conf": {
        "feat_dim": 80,
        "embedding_size": 24,
        "growth_rate": 4,
        "bn_size": 2,
        "init_channels": 8,
        "config_str": "batchnorm-relu",
        "memory_efficient": True,
        "output_level": "segment",
    },
    "frontend": "WavFrontend",
    "frontend_conf": {"fs": 16000},
}


def voices(changes: Config | None = None, seed: int = 0) -> SpeakerRelease:
    """A CAM++ of 4 channels a layer with random weights, whose statistics are those of noise."""
    torch.manual_seed(seed)
    built = build(merge(SPEAKER_CONFIG, changes or {}), SPEAKER)
    for part in built.model.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            part.momentum = None  # the mean of all batches
            part.reset_running_stats()
    with torch.no_grad():
        for _ in range(3):
            built.model(2.0 * torch.randn(8, 150, built.model.feat_dim))
    built.model.eval()
    return built


def write_data(folder: Path, count: int = 12, seed: int = 0, speakers: int = 3) -> Path:
    """A data directory with random features of 0.6 to 2.4 s and digits to say."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, dict[str, str]] = {"text": {}, "utt2num_frames": {}, "utt2spk": {}}
    feats = {}
    for number in range(count):
        key = f"s{number % speakers}-u{number:02d}"
        frames = int(random.integers(60, 240))
        feats[key] = random.normal(1.5, 2.0, (frames, N_MELS)).astype(np.float32)
        size = int(random.integers(1, 6))
        tables["text"][key] = "".join(random.choice(list("一二三四五六七八九十"), size))
        tables["utt2num_frames"][key] = str(frames)
        tables["utt2spk"][key] = key.split("-")[0]
    for name, table in tables.items():
        write_table(folder / name, dict(sorted(table.items())))
    kaldiio.save_ark(str(folder / "feats.ark"), feats, scp=str(folder / "feats.scp"))
    return folder


def equal(a: Any, b: Any) -> bool:
    """Bit for bit, through dicts and lists of tensors."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
