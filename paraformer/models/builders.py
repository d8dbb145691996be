"""A released config.yaml becomes a model with fresh weights: these tables say which class each name
means, and how its keys are spelt.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from paraformer.errors import ConfigError
from paraformer.models.aligner import Aligner
from paraformer.models.bicif import BiCifParaformer
from paraformer.models.campplus import CamPlusPlus
from paraformer.models.contextual import ContextualDecoder, ContextualParaformer
from paraformer.models.ct_transformer import CausalSanmEncoder, CtTransformer
from paraformer.models.fsmn_vad import UNUSED_OPTIONS, FsmnEncoder, FsmnVad, VadOptions
from paraformer.models.paraformer import CtcHead, Decoder, Encoder, Paraformer
from paraformer.models.seaco import HotwordDecoder, SeacoParaformer
from paraformer.models.settings import check_heads, check_idim, check_part
from paraformer.nn.cif import CifPredictor
from paraformer.nn.cif_v3 import CifPredictorV3
from paraformer.nn.conformer import ConformerEncoder
from paraformer.nn.sanm import SanmEncoder
from paraformer.nn.sanm_decoder import SanmDecoder
from paraformer.nn.transformer import SanDecoder, TransformerEncoder

log = logging.getLogger(__name__)

Config = dict[str, Any]

# Released spellings of keys -> ours.
SPELLINGS = {
    "sanm_shfit": "sanm_shift",
    "upsacle_samples": "upscale_samples",
    "NO_BIAS": "no_bias",
}
# Keys of released configs that say nothing more about the model.
_SILENT = """
pos_enc_class input_layer positional_dropout_rate positionwise_layer_type
positionwise_conv_kernel_size padding_idx time_warp_mode num_freq_mask
normalize_before concat_after selfattention_layer_type filter_length_min
filter_length_max cmvn_file use_1st_decoder_loss split_with_space threshold
tail_mask token_list seg_dict_file bpemodel ctc_type reduce ignore_nan_grad
chunk_size stride pad_left encoder_att_look_back_factor decoder_att_look_back_factor
use_output_layer wo_input_layer bias_encoder_type seaco_length_normal
config_str memory_efficient output_level
"""
SILENT = {*_SILENT.split(), *UNUSED_OPTIONS}

ENCODERS: dict[str, Callable[..., Encoder]] = {
    "SANMEncoder": SanmEncoder,
    "SANMEncoderChunkOpt": SanmEncoder,
    "ConformerEncoder": ConformerEncoder,
    "TransformerEncoder": TransformerEncoder,
}
DECODERS: dict[str, Callable[..., Decoder]] = {
    "ParaformerSANMDecoder": SanmDecoder,
    "ParaformerSANDecoder": SanDecoder,
}
# The released class -> ours, and what it always is.
PREDICTORS: dict[str, tuple[type[CifPredictor], Config]] = {
    "CifPredictor": (CifPredictor, {"depthwise": True}),
    "CifPredictorV2": (CifPredictor, {}),
    "CifPredictorV3": (CifPredictorV3, {}),
}
CONTEXTUAL_DECODERS = {"ContextualParaformerDecoder": ContextualDecoder}
HOTWORD_DECODERS = {"ParaformerSANMDecoder": HotwordDecoder}
PUNCTUATION_ENCODERS = {"SANMEncoder": SanmEncoder, "SANMVadEncoder": CausalSanmEncoder}
NO_MARK = "_"  # of a released punc_list


def accepted(target: Callable[..., Any], conf: Mapping[str, Any], where: str) -> Config:
    """The keys of `conf` that a constructor takes, released spellings put right; others are named
    in a warning.
    """
    known = set(inspect.signature(target).parameters)
    kept = {}
    check_part(conf, where)
    for key, value in conf.items():
        name = SPELLINGS.get(key, key)
        if name in known:
            kept[name] = value
        elif key not in SILENT:
            log.warning("config.yaml: %s.%s is not known and has no effect", where, key)
    check_part(kept, where)
    return kept


def component(table: Mapping[str, Any], name: Any, kind: str) -> Any:
    """The entry of that name; one that is not there is refused with those that are."""
    if not isinstance(name, str) or name not in table:
        raise ConfigError(f"config.yaml: {kind} {name} is not known; known: {', '.join(table)}")
    return table[name]


def build_recogniser(config: Config, vocab_size: int, input_size: int) -> Paraformer:
    """The recogniser that `config` names."""
    return BUILDERS[config["model"]](config, vocab_size, input_size)


def build_paraformer(config: Config, vocab_size: int, input_size: int) -> Paraformer:
    """Any encoder, predictor and decoder that `config` names."""
    return Paraformer(**_parts(config, vocab_size, input_size))


def build_bicif(config: Config, vocab_size: int, input_size: int) -> BiCifParaformer:
    """The same with a predictor that has the second head."""
    _must_time_tokens(config)
    return BiCifParaformer(**_parts(config, vocab_size, input_size))


def build_seaco(config: Config, vocab_size: int, input_size: int) -> SeacoParaformer:
    """The same with the decoder that hears hotwords; times are there if the predictor is V3."""
    parts = _parts(config, vocab_size, input_size)
    width = parts["encoder"].output_size
    decoder_class = component(HOTWORD_DECODERS, config.get("seaco_decoder"), "seaco_decoder")
    conf = accepted(SanmDecoder, config.get("seaco_decoder_conf") or {}, "seaco_decoder_conf")
    check_heads(width, {"seaco_decoder_conf": conf})
    hotwords = _hotword_options(SeacoParaformer, config, width)
    return SeacoParaformer(seaco_decoder=decoder_class(width, **conf), **hotwords, **parts)


def build_contextual(config: Config, vocab_size: int, input_size: int) -> ContextualParaformer:
    """The same with the decoder whose last layer hears hotwords."""
    parts = _parts(config, vocab_size, input_size, CONTEXTUAL_DECODERS)
    hotwords = _hotword_options(ContextualParaformer, config, parts["encoder"].output_size)
    return ContextualParaformer(**hotwords, **parts)


def build_aligner(config: Config, vocab_size: int, input_size: int) -> Aligner:
    """Encoder and predictor alone (released `MonotonicAligner`)."""
    _must_time_tokens(config)
    encoder, predictor = _ears(config, input_size)
    model_conf = config.get("model_conf") or {}
    check_part(model_conf, "model_conf")
    return Aligner(encoder, predictor, predictor_bias=model_conf.get("predictor_bias", 0))


def build_fsmn_vad(config: Config, vocab_size: int, input_size: int) -> FsmnVad:
    """The encoder of a VAD; its options have to name classes that it has."""
    encoder_conf = accepted(FsmnEncoder, config.get("encoder_conf") or {}, "encoder_conf")
    encoder = FsmnEncoder(**encoder_conf | {"input_dim": input_size})
    ids, known = vad_options(config).sil_pdf_ids, encoder.output_dim
    if not set(ids) <= set(range(known)):
        raise ConfigError(f"config.yaml: sil_pdf_ids {list(ids)} are not all among {known} outputs")
    return FsmnVad(encoder)


def vad_options(config: Config) -> VadOptions:
    """The options by which a VAD makes its segments."""
    return VadOptions(**accepted(VadOptions, config.get("model_conf") or {}, "model_conf"))


def build_ct_transformer(config: Config, vocab_size: int, input_size: int) -> CtTransformer:
    """A punctuation model: an encoder of words, and an output for each mark."""
    conf = config.get("model_conf") or {}
    check_part(conf, "model_conf")
    for key in ("punc_list", "embed_unit"):
        if key not in conf:
            raise ConfigError(f"config.yaml: model_conf has no {key}; is it a punctuation model?")
    encoder_class = component(PUNCTUATION_ENCODERS, config.get("encoder"), "encoder")
    encoder_conf = accepted(encoder_class, config.get("encoder_conf") or {}, "encoder_conf")
    marks, _ = marks_of(config)
    encoder = encoder_class(**encoder_conf | {"input_size": conf["embed_unit"]})
    check_heads(encoder.output_size, {"encoder_conf": encoder_conf})
    return CtTransformer(vocab_size, conf["embed_unit"], encoder, len(marks))


def build_campplus(config: Config, vocab_size: int, input_size: int) -> CamPlusPlus:
    """A model of voices; its layers are counted in the code, as in the release."""
    conf = accepted(CamPlusPlus, config.get("model_conf") or {}, "model_conf")
    if conf.get("feat_dim", input_size) != input_size:
        raise ConfigError(
            f"config.yaml: model_conf.feat_dim={conf['feat_dim']}: the front end gives "
            f"{input_size} features (frontend_conf.n_mels); give the same number"
        )
    return CamPlusPlus(**conf | {"feat_dim": input_size})


def marks_of(config: Config) -> tuple[list[str], int]:
    """`punc_list` of a punctuation model, and the number of the mark that closes sentences."""
    conf = config["model_conf"]
    listed, sentence_end = conf["punc_list"], conf.get("sentence_end_id", 3)
    marks = [str(mark) for mark in listed] if isinstance(listed, list) else []
    if NO_MARK not in marks or sentence_end >= len(marks):
        raise ConfigError(
            f"config.yaml: model_conf.punc_list: {len(marks)} marks; it is a list with {NO_MARK} "
            f"among them, and number sentence_end_id={sentence_end}, counted from 0"
        )
    return marks, sentence_end


def _ears(config: Config, input_size: int) -> tuple[Encoder, Any]:
    """Encoder and predictor."""
    encoder_class = component(ENCODERS, config.get("encoder"), "encoder")
    predictor_class, fixed = component(PREDICTORS, config.get("predictor"), "predictor")
    encoder_conf = accepted(encoder_class, config.get("encoder_conf") or {}, "encoder_conf")
    predictor_conf = accepted(predictor_class, config.get("predictor_conf") or {}, "predictor_conf")
    encoder = encoder_class(input_size=input_size, **encoder_conf)
    width = int(encoder.output_size)
    check_heads(width, {"encoder_conf": encoder_conf})
    check_idim(width, predictor_conf)
    return encoder, predictor_class(**{"idim": width, **predictor_conf, **fixed})


def _parts(
    config: Config,
    vocab_size: int,
    input_size: int,
    decoders: Mapping[str, Callable[..., Decoder]] = DECODERS,
) -> Config:
    """The arguments of a `Paraformer`."""
    decoder_class = component(decoders, config.get("decoder"), "decoder")
    options = SanmDecoder if decoder_class is ContextualDecoder else decoder_class
    decoder_conf = accepted(options, config.get("decoder_conf") or {}, "decoder_conf")
    model_conf = config.get("model_conf") or {}
    check_part(model_conf, "model_conf")
    encoder, predictor = _ears(config, input_size)
    width = encoder.output_size
    check_heads(width, {"decoder_conf": decoder_conf})
    decoder = decoder_class(vocab_size=vocab_size, encoder_output_size=width, **decoder_conf)
    with_ctc = model_conf.get("ctc_weight", 0.5) > 0.0
    ctc = CtcHead(width, vocab_size) if with_ctc else None
    known = {k: v for k, v in model_conf.items() if k in MODEL_KEYS}
    return {"encoder": encoder, "predictor": predictor, "decoder": decoder, "ctc": ctc, **known}


def _hotword_options(model: type[Paraformer], config: Config, width: int) -> Config:
    """Keys of model_conf about hotwords that a model takes."""
    conf = config.get("model_conf") or {}
    kind = conf.get("bias_encoder_type", "lstm")
    if kind != "lstm":
        raise ConfigError(f"config.yaml: model_conf.bias_encoder_type={kind}: give lstm")
    taken = set(inspect.signature(model).parameters) & HOTWORD_KEYS
    named = {SPELLINGS.get(key, key): value for key, value in conf.items()}
    options = {key: value for key, value in named.items() if key in taken}
    if options.get("inner_dim", 256) != width:
        raise ConfigError(
            f"config.yaml: model_conf.inner_dim={options.get('inner_dim', 256)}: the decoder is "
            f"{width} wide; give the same number"
        )
    return options


def _must_time_tokens(config: Config) -> None:
    if config.get("predictor") != "CifPredictorV3":
        raise ConfigError(
            f"config.yaml: predictor {config.get('predictor')} gives no times, which "
            f"{config['model']} needs; CifPredictorV3 does"
        )


MODEL_KEYS = set(inspect.signature(Paraformer).parameters)
HOTWORD_KEYS = {"inner_dim", "bias_encoder_bid", "no_bias"}
BUILDERS: dict[str, Callable[[Config, int, int], Paraformer]] = {
    "Paraformer": build_paraformer,
    "ParaformerStreaming": build_paraformer,
    "BiCifParaformer": build_bicif,
    "SeacoParaformer": build_seaco,
    "ContextualParaformer": build_contextual,
}
