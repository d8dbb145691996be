#!/usr/bin/env python3
"""Weights to begin hotword training with: a model, and a SeACo decoder that nearly listens.

    local/init_hotwords.py [--layers N] MODEL_DIR OUT.pt

`decoder.embed` is used in training alone, and by the encoder of hotwords; tied to the output layer,
as that of the hotword decoder is, it costs no room in a model.pt, where equal tensors are one.

The LSTM begins as an adder of these rows, and attention as the comparison of a hidden state with
that sum, which is what the output layer does with each row. From random weights it took thousands
of steps until attention found the right hotword at all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from paraformer.errors import ParaformerError
from paraformer.models.weights import read_weights

OUTPUT = "decoder.output_layer"
# Gates of an LSTM in torch's order; the biases keep what was heard (0.95) and let 0.73 in and out.
GATES = ("input", "forget", "cell", "output")
BIASES = {"input": 1.0, "forget": 3.0, "cell": 0.0, "output": 1.0}
SMALL = 0.01  # standard deviation of all other weights
SCALES = {"bias_encoder": (8.0, 1.0), "query": 3.0, "key": 3.0, "value": 1.0, "out": 1.0}


def noise(rows: int, columns: int, random: torch.Generator) -> Tensor:
    """Small random weights."""
    return SMALL * torch.randn(rows, columns, generator=random)


def adder(width: int, random: torch.Generator) -> dict[str, Tensor]:
    """An LSTM of two layers whose last state is about the sum of its inputs."""
    state = {}
    for layer, scale in enumerate(SCALES["bias_encoder"]):
        weight = noise(4 * width, width, random)
        cell = GATES.index("cell") * width
        weight[cell : cell + width] += scale * torch.eye(width)
        bias = torch.cat([torch.full((width,), BIASES[gate]) for gate in GATES])
        state[f"bias_encoder.weight_ih_l{layer}"] = weight
        state[f"bias_encoder.weight_hh_l{layer}"] = noise(4 * width, width, random)
        state[f"bias_encoder.bias_ih_l{layer}"] = bias
        state[f"bias_encoder.bias_hh_l{layer}"] = torch.zeros(4 * width)
    return state


def comparer(layer: int, width: int, random: torch.Generator) -> dict[str, Tensor]:
    """Attention of a layer that compares as it is, and adds what it finds."""

    def scaled(*names: str) -> Tensor:
        parts = [SCALES[name] * torch.eye(width) + noise(width, width, random) for name in names]
        return torch.cat(parts)

    weights = {
        "linear_q": scaled("query"),
        "linear_k_v": scaled("key", "value"),
        "linear_out": scaled("out"),
    }
    state = {}
    for name, weight in weights.items():
        state[f"seaco_decoder.decoders.{layer}.src_attn.{name}.weight"] = weight
        state[f"seaco_decoder.decoders.{layer}.src_attn.{name}.bias"] = torch.zeros(len(weight))
    return state


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=2, help="att_layer_num of seaco_decoder")
    args = parser.parse_args()
    try:
        state = read_weights(args.model / "model.pt")
        state["decoder.embed.0.weight"] = state[f"{OUTPUT}.weight"]
        for name in ("weight", "bias"):
            state[f"hotword_output_layer.{name}"] = state[f"{OUTPUT}.{name}"]
        width, random = state[f"{OUTPUT}.weight"].size(1), torch.Generator().manual_seed(1)
        state |= adder(width, random)
        for layer in range(args.layers):
            state |= comparer(layer, width, random)
        torch.save(state, args.out)
    except (ParaformerError, OSError, KeyError) as error:
        print(f"{args.model}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
