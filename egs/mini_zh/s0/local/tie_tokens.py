#!/usr/bin/env python3
"""Weights to begin hotword training with: those of a model, its token embeddings tied.

    local/tie_tokens.py MODEL_DIR OUT.pt

`decoder.embed` is used in training alone, and by the encoder of hotwords; tied to the output layer,
as that of the hotword decoder is, it costs no room in a model.pt, where equal tensors are one.
These rows are short: the first weights of the LSTM are long enough that it hears them at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from paraformer.errors import ParaformerError
from paraformer.models.weights import read_weights

OUTPUT = "decoder.output_layer"


def main() -> int:
    """See the top of this file."""
    if len(sys.argv) != 3:
        print("usage: local/tie_tokens.py MODEL_DIR OUT.pt", file=sys.stderr)
        return 2
    try:
        state = read_weights(Path(sys.argv[1]) / "model.pt")
    except ParaformerError as error:
        print(error, file=sys.stderr)
        return 1
    state["decoder.embed.0.weight"] = state[f"{OUTPUT}.weight"]
    for name in ("weight", "bias"):
        state[f"hotword_output_layer.{name}"] = state[f"{OUTPUT}.{name}"]
    width = state[f"{OUTPUT}.weight"].size(1)
    size = float(state[f"{OUTPUT}.weight"].float().norm(dim=1).mean())
    random = torch.Generator().manual_seed(1)
    state["bias_encoder.weight_ih_l0"] = torch.randn(4 * width, width, generator=random) / size
    torch.save(state, sys.argv[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
