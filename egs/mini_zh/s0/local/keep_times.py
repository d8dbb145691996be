#!/usr/bin/env python3
"""A model with times alone, of one with a hotword decoder too.

    local/keep_times.py SEACO_DIR BASE_DIR OUT

OUT is the model of BASE_DIR, which the heads of SEACO_DIR were trained on, with the second head: a
BiCifParaformer. Hotwords it hears by its posteriors (`hotword_boost`), and tokens end with their
sound (`token_ends`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from paraformer.errors import ParaformerError
from paraformer.models.builders import HOTWORD_KEYS, SPELLINGS
from paraformer.models.release import build, read_config, save_directory
from paraformer.models.weights import load_state, read_weights

OWN = {"hotword_boost": 1.0, "token_ends": "sound"}
TRAINING = {"bias_encoder_type", "seaco_lsm_weight", "seaco_length_normal", "train_decoder"}


def main() -> int:
    """See the top of this file."""
    if len(sys.argv) != 4:
        print("usage: local/keep_times.py SEACO_DIR BASE_DIR OUT", file=sys.stderr)
        return 2
    source, base = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        config = {
            key: value
            for key, value in read_config(source, {}).items()
            if key not in ("seaco_decoder", "seaco_decoder_conf")
        }
        spare = HOTWORD_KEYS | TRAINING
        options = config["model_conf"].items()
        config["model_conf"] = {k: v for k, v in options if SPELLINGS.get(k, k) not in spare}
        release = build({**config, "model": "BiCifParaformer", **OWN})
        state = read_weights(source / "model.pt") | read_weights(base / "model.pt")
        own = release.model.state_dict()
        load_state(release.model, {name: state[name] for name in own if name in state}, source)
        save_directory(sys.argv[3], release, dtype=torch.float16)
    except ParaformerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
