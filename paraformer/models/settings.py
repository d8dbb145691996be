"""Limits of the numbers in a configuration, checked before a model is built of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paraformer.errors import ConfigError
from paraformer.limits import Limits, check_values

# No model comes near the upper ends: what is above them is a slip, and would only be built to see
# that no weights fit it.
_SIZE = Limits(1, 1_000_000, whole=True)
_LAYERS = Limits(1, 1000, whole=True)
_COUNT = Limits(0, 1000, whole=True)
_TOKEN = Limits(0, whole=True)
_TIME = Limits(0, 1_000_000_000)  # ms
_SHARE = Limits(0, 1)
_DROPOUT = Limits(0, 1, below=True)

LIMITS = {
    **dict.fromkeys(("output_size", "attention_heads", "linear_units", "idim"), _SIZE),
    **dict.fromkeys(("kernel_size", "cnn_module_kernel"), _SIZE),
    "num_blocks": _LAYERS,
    **dict.fromkeys(("att_layer_num", "sanm_shift", "l_order", "r_order"), _COUNT),
    "dropout_rate": _DROPOUT,
    "positional_dropout_rate": _DROPOUT,
    "attention_dropout_rate": _DROPOUT,
    "self_attention_dropout_rate": _DROPOUT,
    "src_attention_dropout_rate": _DROPOUT,
    # A frame says no more tokens than its factor, about 1 where it was learnt.
    **dict.fromkeys(("tail_threshold", "noise_threshold", "noise_threshold2"), Limits(0, 10)),
    **dict.fromkeys(("smooth_factor", "smooth_factor2"), Limits(0, 10, above=True)),
    "upsample_times": Limits(1, 100, whole=True),
    "inner_dim": _SIZE,
    "NO_BIAS": _TOKEN,
    "ctc_weight": _SHARE,
    "sampling_ratio": _SHARE,
    "lsm_weight": _DROPOUT,
    "predictor_weight": Limits(0),
    "predictor_bias": _COUNT,
    # FSMN-VAD
    **dict.fromkeys(("input_dim", "input_affine_dim", "linear_dim", "proj_dim"), _SIZE),
    **dict.fromkeys(("output_affine_dim", "output_dim"), _SIZE),
    "fsmn_layers": _LAYERS,
    **dict.fromkeys(("lorder", "rorder", "lstride"), _COUNT),
    **dict.fromkeys(("max_end_silence_time", "max_start_silence_time"), _TIME),
    **dict.fromkeys(("sil_to_speech_time_thres", "speech_to_sil_time_thres"), _TIME),
    **dict.fromkeys(("lookback_time_start_point", "lookahead_time_end_point"), _TIME),
    **dict.fromkeys(("window_size_ms", "max_single_segment_time"), _TIME),
    **dict.fromkeys(("frame_in_ms", "noise_frame_num_used_for_snr"), _SIZE),
    **dict.fromkeys(("snr_thres", "decibel_thres", "speech_noise_thres"), Limits()),
    "speech_2_noise_ratio": Limits(),
    **dict.fromkeys(("detect_mode", "do_extend"), Limits(0, 1, whole=True)),
    "sil_pdf_ids": Limits(0, whole=True, many=True),
    # CT-Transformer
    "embed_unit": _SIZE,
    "sentence_end_id": _TOKEN,
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
