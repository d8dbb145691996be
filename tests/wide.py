"""Models of real widths with random weights, one of each architecture, for tests.

`tiny.py` makes models that are quick; of these all large layers are of the sizes that users have.
"""

from __future__ import annotations

from pathlib import Path

import torch

from paraformer.models import kinds
from paraformer.models.release import (
    Config,
    build,
    merge,
    read_yaml,
    save_directory,
)
from tests.bench.large import STREAMING, Sizes, configuration, tokens, write_random
from tests.conftest import ROOT

VOCABULARY = 8404
SANM = configuration("offline", Sizes(512, 2048, 2, 2, VOCABULARY))
SECOND_HEAD: Config = {
    "predictor": "CifPredictorV3",
    "predictor_conf": {
        "smooth_factor2": 0.25,
        "noise_threshold2": 0.01,
        "upsample_times": 3,
        "use_cif1_cnn": False,
        "upsample_type": "cnn_blstm",
    },
}
# Self-attention decoder, the first predictor, frames of 10 ms.
ATTENTION: Config = {
    **configuration("offline", Sizes(256, 2048, 2, 2, VOCABULARY)),
    "encoder": "TransformerEncoder",
    "encoder_conf": {"output_size": 256, "linear_units": 2048, "num_blocks": 2},
    "decoder": "ParaformerSANDecoder",
    "decoder_conf": {"linear_units": 2048, "num_blocks": 2},
    "predictor": "CifPredictor",
    "frontend_conf": {"lfr_m": 1, "lfr_n": 1},
}
CONFORMER = merge(
    ATTENTION,
    {
        "model_conf": {"ctc_weight": 0.3},
        "encoder": "ConformerEncoder",
        "encoder_conf": {"macaron_style": True, "rel_pos_type": "latest", "cnn_module_kernel": 15},
    },
)
SEACO = merge(
    SANM,
    {
        **SECOND_HEAD,
        "model": "SeacoParaformer",
        "model_conf": {"inner_dim": 512, "NO_BIAS": 8377, "bias_encoder_bid": True},
        "seaco_decoder": "ParaformerSANMDecoder",
        "seaco_decoder_conf": {"linear_units": 1024, "num_blocks": 2, "kernel_size": 21},
    },
)
CONTEXTUAL: Config = {
    "model": "ContextualParaformer",
    "model_conf": {"inner_dim": 512},
    "decoder": "ContextualParaformerDecoder",
}
ALIGNER = merge(
    {key: value for key, value in SANM.items() if not key.startswith("decoder")},
    {
        **SECOND_HEAD,
        "model": "MonotonicAligner",
        "encoder_conf": {"output_size": 320},
        "predictor_conf": {**SECOND_HEAD["predictor_conf"], "idim": 320},
    },
)
PUNCTUATION = merge(
    read_yaml(ROOT / "paraformer" / "bundled" / "ct-punc-mini" / "config.yaml"),
    {
        "model_conf": {"embed_unit": 256, "att_unit": 256},
        "encoder_conf": {"input_size": 256, "output_size": 256, "linear_units": 1024},
        "tokenizer_conf": {"token_list": tokens(VOCABULARY)},
    },
)
ARCHITECTURES: dict[str, Config] = {
    "sanm": SANM,
    "conformer": CONFORMER,
    "conformer-legacy": merge(CONFORMER, {"encoder_conf": {"rel_pos_type": "legacy"}}),
    "conformer-plain": merge(CONFORMER, {"encoder_conf": {"macaron_style": False}}),
    "conformer-without-convolution": merge(CONFORMER, {"encoder_conf": {"use_cnn_module": False}}),
    "self-attention": ATTENTION,
    "bicif": merge(SANM, {**SECOND_HEAD, "model": "BiCifParaformer"}),
    "bicif-one-convolution": merge(
        merge(SANM, {**SECOND_HEAD, "model": "BiCifParaformer"}),
        {"predictor_conf": {"use_cif1_cnn": True, "upsample_type": "cnn"}},
    ),
    "seaco": SEACO,
    "contextual": merge(SANM, CONTEXTUAL),
    "streaming": merge(SANM, STREAMING),
    "aligner": ALIGNER,
    "ct-transformer": PUNCTUATION,
    "ct-transformer-realtime": merge(
        PUNCTUATION,
        {
            "model": "CTTransformerStreaming",
            "encoder": "SANMVadEncoder",
            "encoder_conf": {"sanm_shfit": 5},
        },
    ),
}


def write(directory: Path, name: str, seed: int = 0) -> Path:
    """The released directory of an architecture, two blocks in each stack, 256 to 512 wide."""
    config = ARCHITECTURES[name]
    if config["model"].startswith("CTTransformer"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return save_directory(directory, build(config, kinds.PUNCTUATION))
    return write_random(directory, config, seed)
