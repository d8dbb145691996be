"""What the numbers of a configuration may be, checked before a model is built of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paraformer.errors import ConfigError
from paraformer.limits import Limits, check_values

_SIZE = Limits(1, whole=True)
_COUNT = Limits(0, whole=True)
_SHARE = Limits(0, 1)
_DROPOUT = Limits(0, 1, below=True)

LIMITS = {
    **dict.fromkeys(("output_size", "attention_heads", "linear_units", "num_blocks"), _SIZE),
    **dict.fromkeys(("kernel_size", "cnn_module_kernel", "idim"), _SIZE),
    **dict.fromkeys(("att_layer_num", "sanm_shift", "l_order", "r_order"), _COUNT),
    "dropout_rate": _DROPOUT,
    "positional_dropout_rate": _DROPOUT,
    "attention_dropout_rate": _DROPOUT,
    "self_attention_dropout_rate": _DROPOUT,
    "src_attention_dropout_rate": _DROPOUT,
    "tail_threshold": Limits(0),
    "noise_threshold": Limits(0),
    "smooth_factor": Limits(0, above=True),
    "noise_threshold2": Limits(0),
    "smooth_factor2": Limits(0, above=True),
    "upsample_times": _SIZE,
    "inner_dim": _SIZE,
    "NO_BIAS": _COUNT,
    "ctc_weight": _SHARE,
    "sampling_ratio": _SHARE,
    "lsm_weight": _DROPOUT,
    "predictor_weight": Limits(0),
    "predictor_bias": _COUNT,
}
NAMES = {"input_layer", "activation_type", "pos_enc_layer_type", "selfattention_layer_type"}


def check_part(values: Mapping[str, Any], part: str) -> None:
    """Refuse a number of one part (`encoder_conf`, ...) with which no model can work."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.yaml: {part}: is {values!r}; it holds keys with their values")
    check_values(values, LIMITS, f"config.yaml: {part}")
    for name in NAMES & values.keys():
        if not isinstance(values[name], str | None):
            raise ConfigError(f"config.yaml: {part}.{name}={values[name]}: give a name or null")
    if part == "predictor_conf" and values.get("threshold", 1.0) != 1.0:
        raise ConfigError(
            f"config.yaml: {part}.threshold={values['threshold']}: is 1.0 in all models"
        )
    kernel, shift = values.get("kernel_size"), values.get("sanm_shift", 0)
    if kernel is not None and shift > kernel // 2:
        raise ConfigError(
            f"config.yaml: {part}.sanm_shfit={shift}: too much for kernel_size={kernel}; "
            f"give {kernel // 2} or less"
        )


def check_heads(width: int, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a number of heads that does not divide the width."""
    for part, values in parts.items():
        heads = values.get("attention_heads", 4)  # the default of all encoders and decoders
        if width % heads:
            raise ConfigError(
                f"config.yaml: {part}.attention_heads={heads}: does not divide the width {width} "
                "(encoder_conf.output_size); give a divisor of it"
            )


def check_idim(width: int, predictor: Mapping[str, Any]) -> None:
    """Refuse a predictor that is not as wide as the encoder."""
    if predictor.get("idim", width) != width:
        raise ConfigError(
            f"config.yaml: predictor_conf.idim={predictor['idim']}: the encoder is {width} wide; "
            "give the same number"
        )
