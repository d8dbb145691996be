"""Models of the sizes that are released have the released names and shapes of parameters.

The small models of the fixtures tell the names (`parameters` in expected.json, printed from the
reference's state dict); the sizes are those of ../shared/spec/paraformer.md, "Parameters".
"""

from __future__ import annotations

import json
import re

import pytest
import torch

from paraformer.models.builders import build_paraformer
from tests.parity.oracle import FIXTURES

BLOCKS, DECODERS, D, F, V, K, INPUT = 50, 16, 512, 2048, 8404, 11, 560
LARGE = {
    "model": "Paraformer",
    "model_conf": {"ctc_weight": 0.0, "predictor_bias": 1},
    "encoder": "SANMEncoder",
    "encoder_conf": {
        "output_size": D,
        "attention_heads": 4,
        "linear_units": F,
        "num_blocks": BLOCKS,
        "kernel_size": K,
        "sanm_shfit": 0,
    },
    "decoder": "ParaformerSANMDecoder",
    "decoder_conf": {
        "attention_heads": 4,
        "linear_units": F,
        "num_blocks": DECODERS,
        "att_layer_num": DECODERS,
        "kernel_size": K,
    },
    "predictor": "CifPredictorV2",
    "predictor_conf": {"idim": D, "tail_threshold": 0.45},
}


@pytest.fixture(scope="module")
def large():
    with torch.device("meta"):  # shapes without 220 million numbers
        model = build_paraformer(LARGE, V, INPUT)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_names_are_those_of_the_reference_with_more_layers(large):
    folder = FIXTURES / "oracle" / "paraformer"
    facts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    kinds = {re.sub(r"\.(\d+)\.", ".N.", name) for name in facts["parameters"]}
    kinds = {kind for kind in kinds if not kind.startswith("decoder.decoders2.")}
    assert {re.sub(r"\.(\d+)\.", ".N.", name) for name in large} == kinds


def test_numbers_of_layers(large):
    def numbers(stack: str) -> set[int]:
        found = (re.match(rf"{stack}\.(\d+)\.", name) for name in large)
        return {int(match[1]) for match in found if match}

    assert numbers("encoder.encoders0") == {0}
    assert numbers("encoder.encoders") == set(range(BLOCKS - 1))
    assert numbers("decoder.decoders") == set(range(DECODERS))
    assert numbers("decoder.decoders3") == {0}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.encoders0.0.norm1.weight", (INPUT,)),
        ("encoder.encoders0.0.self_attn.linear_q_k_v.weight", (3 * D, INPUT)),
        ("encoder.encoders.48.self_attn.linear_q_k_v.weight", (3 * D, D)),
        ("encoder.encoders.0.self_attn.fsmn_block.weight", (D, 1, K)),
        ("encoder.encoders.0.feed_forward.w_1.weight", (F, D)),
        ("predictor.cif_conv1d.weight", (D, D, 3)),
        ("predictor.cif_output.weight", (1, D)),
        ("decoder.embed.0.weight", (V, D)),
        ("decoder.decoders.15.src_attn.linear_k_v.weight", (2 * D, D)),
        ("decoder.decoders.15.feed_forward.norm.weight", (F,)),
        ("decoder.decoders3.0.feed_forward.w_2.weight", (D, F)),
        ("decoder.output_layer.weight", (V, D)),
    ],
)
def test_shapes(large, name, shape):
    assert large[name] == shape


def test_the_closing_feed_forward_has_no_bias(large):
    assert not [name for name in large if "decoder.decoders" in name and "w_2.bias" in name]
