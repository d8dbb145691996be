#!/usr/bin/env python3
"""Model directories of the released sizes with random weights, for ours and for FunASR alike.

    tests/bench/large.py exp/bench/models [--kinds offline,streaming] [--seed 0] [--size tiny]

DIR/offline and DIR/streaming: 220 million parameters; the bias of the predictor makes about four
tokens a second. Tokens and CMVN come from code: Chinese characters, statistics of the bundled
clips. What is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from paraformer.backends.torch_engine import frame_seconds  # noqa: E402
from paraformer.data.features.cmvn import CmvnStatistics, write_cmvn  # noqa: E402
from paraformer.models.kinds import SPEAKER  # noqa: E402
from paraformer.models.release import (  # noqa: E402
    Config,
    build,
    build_any,
    build_frontend,
    merge,
    save_directory,
)
from tests.bench.measure import CLIPS, speech  # noqa: E402

KINDS = ("offline", "streaming")
VOICES = "speakers"  # a CAM++ of the released size, or with few channels
TOKENS_PER_SECOND = 4.0
MADE = "made.json"  # written last: the directory is whole, and this is what it was made of


class Sizes(NamedTuple):
    """What sets the number of parameters."""

    width: int
    units: int
    encoder_blocks: int
    decoder_blocks: int
    vocabulary: int


SIZES = {
    "large": Sizes(512, 2048, 50, 16, 8404),  # the released models
    "middle": Sizes(512, 2048, 8, 2, 8404),
    "tiny": Sizes(16, 32, 2, 2, 200),  # to see the bench work
}


def tokens(count: int) -> list[str]:
    """So many: the special ones, and characters from U+4E00 on."""
    return ["<blank>", "<s>", "</s>", *(chr(0x4E00 + i) for i in range(count - 4)), "<unk>"]


def configuration(kind: str, sizes: Sizes) -> Config:
    """The released config.yaml of these sizes."""
    blocks: dict[str, Any] = {
        "attention_heads": 4,
        "linear_units": sizes.units,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
        "kernel_size": 11,
        "sanm_shfit": 0,
    }
    encoder = {
        "output_size": sizes.width,
        "num_blocks": sizes.encoder_blocks,
        "attention_dropout_rate": 0.1,
        "input_layer": "pe",
        "pos_enc_class": "SinusoidalPositionEncoder",
        "normalize_before": True,
        "selfattention_layer_type": "sanm",
    }
    decoder = {
        "num_blocks": sizes.decoder_blocks,
        "att_layer_num": sizes.decoder_blocks,
        "self_attention_dropout_rate": 0.1,
        "src_attention_dropout_rate": 0.1,
    }
    frontend = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25}
    config: Config = {
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
        "encoder_conf": blocks | encoder,
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": blocks | decoder,
        "predictor": "CifPredictorV2",
        "predictor_conf": {
            "idim": sizes.width,
            "threshold": 1.0,
            "l_order": 1,
            "r_order": 1,
            "tail_threshold": 0.45,
        },
        "frontend": "WavFrontend",
        "frontend_conf": frontend | {"frame_shift": 10, "lfr_m": 7, "lfr_n": 6, "dither": 0.0},
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "token_list": tokens(sizes.vocabulary)},
    }
    return config if kind == "offline" else merge(config, STREAMING)


STREAMING: Config = {
    "model": "ParaformerStreaming",
    "encoder": "SANMEncoderChunkOpt",
    "encoder_conf": {
        "input_layer": "pe_online",
        "chunk_size": [12, 15],
        "stride": [8, 10],
        "pad_left": [0, 0],
        "encoder_att_look_back_factor": [4, 4],
        "decoder_att_look_back_factor": [1, 1],
    },
    "decoder_conf": {"sanm_shfit": 5},
    "frontend": "WavFrontendOnline",
}


def make(directory: Path, kind: str, sizes: Sizes = SIZES["large"], seed: int = 0) -> Path:
    """Write a model directory, unless it is there with these sizes and this seed."""
    made = directory / MADE
    facts = {"kind": kind, "seed": seed, **sizes._asdict()}
    if made.is_file() and json.loads(made.read_text("utf8")) == facts:
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    made.unlink(missing_ok=True)
    if kind == VOICES:
        write_voices(directory, sizes, seed)
    else:
        write_random(directory, configuration(kind, sizes), seed)
    made.write_text(json.dumps(facts) + "\n", "utf8")
    return directory


def write_random(directory: Path, config: Config, seed: int = 0) -> Path:
    """Write a model of that configuration with random weights, of which about four tokens a second
    fire, and the CMVN of the bundled clips.
    """
    directory.mkdir(parents=True, exist_ok=True)
    cmvn = write_statistics(directory / "am.mvn", config)
    config = merge(config, {"frontend_conf": {"cmvn_file": str(cmvn)}})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        release = build_any(config)
    # Of a token in each frame.
    share = TOKENS_PER_SECOND * frame_seconds(release)
    with torch.no_grad():
        out = release.model.predictor.cif_output
        out.bias.fill_(math.log(share / (1 - share)))
        out.weight.mul_(0.3)
    return save_directory(directory, release)


def write_voices(directory: Path, sizes: Sizes, seed: int) -> Path:
    """Write a CAM++ with random weights: that of the released configuration, unless it is tiny."""
    small = {"growth_rate": 4, "init_channels": 8} if sizes == SIZES["tiny"] else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        release = build({"model": "CAMPPlus", "model_conf": small}, SPEAKER)
    return save_directory(directory, release)


def write_statistics(path: Path, config: Config) -> Path:
    """The CMVN of the bundled clips, for the front end of a configuration."""
    statistics = CmvnStatistics()
    statistics.add(build_frontend(config)(torch.from_numpy(speech(10.0, CLIPS))))
    write_cmvn(path, statistics.result())
    return path


def main() -> int:
    """Make both, or one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--size", choices=list(SIZES), default="large")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for kind in args.kinds.split(","):
        print(make(args.out / kind, kind, SIZES[args.size], args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
