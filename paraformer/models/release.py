"""A released directory (`config.yaml model.pt am.mvn tokens.json seg_dict`) becomes a model, and
a model such a directory.

The only module that knows released file names; `builders.py` knows what is in the config.yaml.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from paraformer.data.corpus.tables import write_text
from paraformer.data.features.cmvn import read_cmvn, write_cmvn
from paraformer.data.features.frontend import Frontend
from paraformer.data.text.tokenizer import (
    CharTokenizer,
    SentencepieceTokenizer,
    Vocabulary,
    read_seg_dict,
    read_token_list,
    write_seg_dict,
    write_token_list,
)
from paraformer.documents import parse_json, parse_yaml
from paraformer.errors import CheckpointError, ConfigError
from paraformer.files import HALF_WRITTEN, half_written, together
from paraformer.models.aligner import Aligner
from paraformer.models.builders import (
    BUILDERS,
    DECODERS,
    ENCODERS,
    PREDICTORS,
    Config,
    accepted,
    build_aligner_model,
    component,
)
from paraformer.models.builders import MODEL_KEYS as MODEL_KEYS
from paraformer.models.builders import SILENT as SILENT
from paraformer.models.builders import build_paraformer as build_paraformer
from paraformer.models.ct_transformer import CausalSanmEncoder, CtTransformer
from paraformer.models.fsmn_vad import FsmnEncoder, FsmnVad, VadOptions
from paraformer.models.kinds import ALIGNER, PUNCTUATION, RECOGNISER, VAD, kind_of, refuse_other
from paraformer.models.paraformer import Paraformer
from paraformer.models.settings import check_heads, check_part
from paraformer.models.weights import load_weights, parameters, save_weights
from paraformer.nn.sanm import SanmEncoder

Tokenizer = CharTokenizer | SentencepieceTokenizer

NAMES = {  # where each file of a directory without configuration.json lies
    "init_param": "model.pt",
    "config": "config.yaml",
    "tokenizer_conf": {"seg_dict_file": "seg_dict", "bpemodel": "bpe.model"},
    "frontend_conf": {"cmvn_file": "am.mvn"},
    "jieba_usr_dict": "jieba_usr_dict",
}
LISTING = "configuration.json"
TOKEN_LISTS = ("tokens.json", "tokens.txt")


class Release(NamedTuple):
    """A model with all that is needed to use it, and the configuration that made it."""

    model: Paraformer
    frontend: Frontend
    tokenizer: Tokenizer
    config: Config
    directory: Path | None = None


class VadRelease(NamedTuple):
    """A voice activity detector with its front end and how its segments are made."""

    model: FsmnVad
    frontend: Frontend
    options: VadOptions
    config: Config
    directory: Path | None = None


class AlignerRelease(NamedTuple):
    """A forced aligner with all that is needed to use it."""

    model: Aligner
    frontend: Frontend
    tokenizer: Tokenizer
    config: Config
    directory: Path | None = None


def load_directory(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Release:
    """Build the model of a released directory and load its weights, all of them (strict).

    overrides replace values of config.yaml, nested dicts key by key.
    """
    return load_release(read_config(Path(path), overrides or {}), Path(path))


def load_release(config: Config, directory: Path | None = None) -> Release:
    """The model of what `read_config` gave, with the weights that it names."""
    release = build(config, directory, fresh=False)
    load_weights(release.model, Path(config["init_param"]))
    release.model.eval()
    return release


def load_vad(path: str | Path, overrides: Mapping[str, Any] | None = None) -> VadRelease:
    """The VAD of a released directory (`config.yaml model.pt am.mvn`), its weights loaded strictly.

    overrides replace values of config.yaml; those of model_conf may stand beside it.
    """
    values = dict(overrides or {})
    named = {key: values.pop(key) for key in VAD_KEYS & set(values)}
    config = read_config(Path(path), merge({"model_conf": named}, values))
    release = build_vad(config, Path(path), fresh=False)
    load_weights(release.model, Path(config["init_param"]))
    release.model.eval()
    return release


def save_vad(path: str | Path, release: VadRelease, *, dtype: torch.dtype | None = None) -> Path:
    """Write a released directory of a VAD: weights (as `dtype` if given), config, CMVN."""
    metas: Config = {"init_param": "model.pt", "config": "config.yaml"}
    with writing_directory(path) as directory:
        if release.frontend.cmvn is not None:
            write_cmvn(directory / "am.mvn", release.frontend.cmvn)
            metas["frontend_conf"] = {"cmvn_file": "am.mvn"}
        config = _portable(release.config)
        config.pop("tokenizer_conf")
        _write_listing(directory, config, metas, "voice-activity-detection")
        save_weights(directory / "model.pt", release.model, dtype)
    return Path(path)


def load_aligner(path: str | Path, overrides: Mapping[str, Any] | None = None) -> AlignerRelease:
    """The aligner of a released directory (fa-zh), its weights loaded strictly."""
    config = read_config(Path(path), overrides or {})
    release = build_aligner(config, Path(path), fresh=False)
    load_weights(release.model, Path(config["init_param"]))
    release.model.eval()
    return release


def build_aligner(
    config: Config, directory: Path | None = None, fresh: bool = True
) -> AlignerRelease:
    """The forced aligner that a configuration describes; its weights as of `build`."""
    refuse_other(config, ALIGNER, where=directory)
    tokenizer, frontend = build_tokenizer(config), build_frontend(config)
    with parameters(fresh):
        model = build_aligner_model(config, frontend.output_size)
    return AlignerRelease(model, frontend, tokenizer, config, directory)


def build_vad(config: Config, directory: Path | None = None, fresh: bool = True) -> VadRelease:
    """The voice activity detector that a configuration describes; its weights as of `build`."""
    refuse_other(config, VAD, where=directory)
    frontend = build_frontend(config)
    encoder_conf = accepted(FsmnEncoder, config.get("encoder_conf") or {}, "encoder_conf")
    with parameters(fresh):
        encoder = FsmnEncoder(**encoder_conf | {"input_dim": frontend.output_size})
    options = VadOptions(**accepted(VadOptions, config.get("model_conf") or {}, "model_conf"))
    if not set(options.sil_pdf_ids) <= set(range(encoder.output_dim)):
        ids, known = list(options.sil_pdf_ids), encoder.output_dim
        raise ConfigError(f"config.yaml: sil_pdf_ids {ids} are not all among {known} outputs")
    return VadRelease(FsmnVad(encoder), frontend, options, config, directory)


def read_config(directory: Path, overrides: Mapping[str, Any]) -> Config:
    """config.yaml of a directory, with the paths of its files and the caller's values on top."""
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory; give a model name or a directory")
    config_file = directory / "config.yaml"
    metas: Config = NAMES
    listing = directory / LISTING
    if listing.is_file():
        metas = read_listing(listing)
        config_file = directory / str(metas.get("config", "config.yaml"))
    if not config_file.is_file():
        if half_written(directory):
            raise CheckpointError(f"{directory}: {HALF_WRITTEN}")
        raise CheckpointError(
            f"{config_file}: no such file; a model directory holds config.yaml and model.pt"
        )
    config = read_yaml(config_file)
    config = merge(config, _existing(NAMES, directory))
    config = merge(config, _existing(metas, directory))
    if kind_of(config) in WITH_TOKENS:
        config = merge(config, _token_list(directory, config))
    config = merge(config, overrides)
    weights = Path(config.get("init_param") or directory / "model.pt")
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; the model has no weights")
    return config


def weights_of(directory: Path) -> Path:
    """The file of weights of a released directory, which has to be there."""
    return Path(read_config(directory, {}).get("init_param") or directory / "model.pt")


def read_yaml(path: Path) -> Config:
    """A config.yaml as it stands."""
    try:
        config = parse_yaml(path.read_text(encoding="utf8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; is it a model's folder?") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is not YAML ({error}); make it again") from error
    if not isinstance(config, dict) or not isinstance(config.get("model"), str):
        raise CheckpointError(f"{path}: names no `model`; is it a model's config.yaml?")
    return config


def override_keys(config: Config) -> Config:
    """The configuration with each key that its parts take, at its default where it has none."""
    predictor, _ = PREDICTORS.get(str(config.get("predictor")), (dict, {}))
    parts: dict[str, Any] = {"predictor_conf": predictor, "frontend_conf": Frontend}
    parts["encoder_conf"] = ENCODERS.get(str(config.get("encoder")), dict)
    parts["decoder_conf"] = DECODERS.get(str(config.get("decoder")), dict)
    keys = {part: _defaults(taker) for part, taker in parts.items()}
    if kind_of(config) == VAD:  # see `load_vad`
        own, named = _defaults(VadOptions), config.get("model_conf") or {}
        check_part(named, "model_conf")
        keys |= {"model_conf": own, **merge(own, named)}
    return merge(keys, config)


def _defaults(taker: type) -> Config:
    parameters = inspect.signature(taker).parameters.values() if taker is not dict else ()
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def read_listing(path: Path) -> Config:
    """`file_path_metas` of a configuration.json; the files that the result depends on must be
    there.
    """
    try:
        metas = parse_json(path.read_text(encoding="utf8")).get("file_path_metas", NAMES)
    except (ValueError, AttributeError, OSError) as error:
        raise CheckpointError(f"{path}: is not a JSON object ({error}); copy it again") from error
    for group, key in (("frontend_conf", "cmvn_file"), ("tokenizer_conf", "seg_dict_file")):
        name = (metas.get(group) or {}).get(key)
        if isinstance(name, str) and not (path.parent / name).is_file():
            raise CheckpointError(
                f"{path.parent / name}: no such file, though {path.name} names it; "
                "is the copy complete?"
            )
    return dict(metas)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> Config:
    """Values of `top` over those of `base`, nested dicts key by key.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merge(old, value) if nested else value  # type: ignore[arg-type]
    return result


def _existing(metas: Mapping[str, Any], directory: Path) -> Config:
    found: Config = {}
    for key, value in metas.items():
        if isinstance(value, Mapping):
            found[key] = _existing(value, directory)
        elif isinstance(value, str) and (directory / value).is_file():
            found[key] = str(directory / value)
    return found


def _token_list(directory: Path, config: Config) -> Config:
    if isinstance((config.get("tokenizer_conf") or {}).get("token_list"), (list, str)):
        return {}
    for name in TOKEN_LISTS:
        if (directory / name).is_file():
            return {"tokenizer_conf": {"token_list": str(directory / name)}}
    raise CheckpointError(f"{directory}: holds neither tokens.json nor tokens.txt")


def build(config: Config, directory: Path | None = None, fresh: bool = True) -> Release:
    """The model that a configuration describes, with fresh weights or, if not fresh, before any are
    loaded.
    """
    refuse_other(config, RECOGNISER, where=directory)
    tokenizer = build_tokenizer(config)
    frontend = build_frontend(config)
    with parameters(fresh):
        model = BUILDERS[config["model"]](config, len(tokenizer.tokens), frontend.output_size)
    return Release(model, frontend, tokenizer, config, directory)


def build_any(config: Config) -> Release | AlignerRelease:
    """The recogniser or the forced aligner that a configuration describes."""
    return build_aligner(config) if kind_of(config) == ALIGNER else build(config)


def build_tokenizer(config: Config) -> Tokenizer:
    """`tokenizer` and `tokenizer_conf` of a config.yaml with the paths of its files."""
    conf = config.get("tokenizer_conf") or {}
    name = config.get("tokenizer", "CharTokenizer")
    listed = conf.get("token_list")
    tokens = listed if isinstance(listed, list) else read_token_list(str(listed))
    if name == "SentencepiecesTokenizer":
        if not conf.get("bpemodel"):
            raise ConfigError("config.yaml: SentencepiecesTokenizer without bpemodel; name it")
        return SentencepieceTokenizer(conf["bpemodel"], tokens)
    if name != "CharTokenizer":
        raise ConfigError(f"config.yaml: tokenizer {name} is not known; use CharTokenizer")
    seg_dict = read_seg_dict(conf["seg_dict_file"]) if conf.get("seg_dict_file") else None
    return CharTokenizer(tokens, seg_dict, unk_symbol=str(conf.get("unk_symbol", "<unk>")))


def build_frontend(config: Config) -> Frontend:
    """`frontend_conf` of a config.yaml; dither is noise and stays off (a data program may add
    it).
    """
    conf = dict(config.get("frontend_conf") or {})
    cmvn = read_cmvn(conf["cmvn_file"]) if conf.get("cmvn_file") else None
    return Frontend(**accepted(Frontend, conf, "frontend_conf") | {"dither": 0.0, "cmvn": cmvn})


WITH_TOKENS = (RECOGNISER, PUNCTUATION, ALIGNER)
VAD_KEYS = set(inspect.signature(VadOptions).parameters)


def save_directory(
    path: str | Path, release: Release | AlignerRelease, *, dtype: torch.dtype | None = None
) -> Path:
    """Write a released directory: weights (as `dtype` if given), config, tokens, CMVN, seg_dict."""
    metas: Config = {"init_param": "model.pt", "config": "config.yaml"}
    with writing_directory(path) as directory:
        metas["tokenizer_conf"] = _save_tokenizer(directory, release.tokenizer)
        if release.frontend.cmvn is not None:
            write_cmvn(directory / "am.mvn", release.frontend.cmvn)
            metas["frontend_conf"] = {"cmvn_file": "am.mvn"}
        aligner = isinstance(release, AlignerRelease)
        task = "speech-timestamp" if aligner else "auto-speech-recognition"
        _write_listing(directory, _portable(release.config), metas, task)
        save_weights(directory / "model.pt", release.model, dtype)
    return Path(path)


def writing_directory(path: str | Path) -> AbstractContextManager[Path]:
    """A folder to write a released directory in, and what goes with it; what is in it moves to
    `path` as a whole. Where the writer is stopped in the middle of that, `path` does not load.
    """
    return together(path, ("config.yaml", LISTING), stale=(*file_names(NAMES), *TOKEN_LISTS))


def file_names(metas: Mapping[str, Any]) -> Iterator[str]:
    """The names in the `file_path_metas` of a configuration.json."""
    for value in metas.values():
        yield from file_names(value) if isinstance(value, Mapping) else [str(value)]


def _write_listing(folder: Path, config: Config, metas: Config, task: str) -> None:
    """config.yaml, and the configuration.json that names the files beside it."""
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    listing = {
        "framework": "pytorch",
        "task": task,
        "model": {"type": "funasr"},
        "pipeline": {"type": "funasr-pipeline"},
        "file_path_metas": metas,
    }
    write_text(folder / LISTING, json.dumps(listing, indent=1) + "\n")


def _save_tokenizer(directory: Path, tokenizer: Tokenizer) -> Config:
    write_token_list(directory / "tokens.json", tokenizer.tokens)
    metas = {"token_list": "tokens.json"}
    if isinstance(tokenizer, SentencepieceTokenizer):
        (directory / "bpe.model").write_bytes(Path(tokenizer.bpe_model).read_bytes())
        metas["bpemodel"] = "bpe.model"
    elif tokenizer.seg_dict is not None:
        write_seg_dict(directory / "seg_dict", tokenizer.seg_dict)
        metas["seg_dict_file"] = "seg_dict"
    return metas


def _portable(config: Config) -> Config:
    """The configuration without the paths of files that lie beside it."""
    files = ("init_param", "config", "jieba_usr_dict")
    kept = {key: value for key, value in config.items() if key not in files}
    for group, names in (
        ("tokenizer_conf", ("token_list", "seg_dict_file", "bpemodel")),
        ("frontend_conf", ("cmvn_file",)),
    ):
        kept[group] = {k: v for k, v in (kept.get(group) or {}).items() if k not in names}
    return kept


class PunctuationRelease(NamedTuple):
    """A punctuation model with its words, and the marks that its outputs stand for."""

    model: CtTransformer
    tokenizer: Vocabulary
    marks: list[str]  # released punc_list: <unk> and _ are no mark
    sentence_end: int  # which of them closes a sentence that nothing else closes
    jieba_dict: Path | None  # of models whose words are jieba's
    config: Config
    directory: Path | None = None


PUNCTUATION_ENCODERS = {"SANMEncoder": SanmEncoder, "SANMVadEncoder": CausalSanmEncoder}
NO_MARK = "_"


def load_punctuation(
    path: str | Path, overrides: Mapping[str, Any] | None = None
) -> PunctuationRelease:
    """The CT-Transformer of a released directory (`config.yaml model.pt tokens.json
    [jieba_usr_dict]`), its weights loaded strictly.
    """
    config = read_config(Path(path), overrides or {})
    release = build_punctuation(config, Path(path), fresh=False)
    load_weights(release.model, Path(config["init_param"]))
    release.model.eval()
    return release


def build_punctuation(
    config: Config, directory: Path | None = None, fresh: bool = True
) -> PunctuationRelease:
    """The punctuation model that a configuration describes; its weights as of `build`."""
    refuse_other(config, PUNCTUATION, where=directory)
    tokenizer = build_tokenizer(config)
    conf = config.get("model_conf") or {}
    check_part(conf, "model_conf")
    for key in ("punc_list", "embed_unit"):
        if key not in conf:
            raise ConfigError(f"config.yaml: model_conf has no {key}; is it a punctuation model?")
    encoder_class = component(PUNCTUATION_ENCODERS, config.get("encoder"), "encoder")
    encoder_conf = accepted(encoder_class, config.get("encoder_conf") or {}, "encoder_conf")
    marks, sentence_end = _marks(conf)
    with parameters(fresh):
        encoder = encoder_class(**encoder_conf | {"input_size": conf["embed_unit"]})
        check_heads(encoder.output_size, {"encoder_conf": encoder_conf})
        model = CtTransformer(len(tokenizer), conf["embed_unit"], encoder, len(marks))
    jieba_dict = config.get("jieba_usr_dict")
    return PunctuationRelease(
        model,
        tokenizer,
        marks,
        sentence_end,
        Path(jieba_dict) if jieba_dict else None,
        config,
        directory,
    )


def _marks(conf: Mapping[str, Any]) -> tuple[list[str], int]:
    """`punc_list` and which of it is `sentence_end_id`."""
    listed, sentence_end = conf["punc_list"], conf.get("sentence_end_id", 3)
    marks = [str(mark) for mark in listed] if isinstance(listed, list) else []
    if NO_MARK not in marks or sentence_end >= len(marks):
        raise ConfigError(
            f"config.yaml: model_conf.punc_list: {len(marks)} marks; it is a list with {NO_MARK} "
            f"among them, and number sentence_end_id={sentence_end}, counted from 0"
        )
    return marks, sentence_end


def save_punctuation(
    path: str | Path, release: PunctuationRelease, *, dtype: torch.dtype | None = None
) -> Path:
    """Write a released directory: weights (as `dtype` if given), config, tokens, jieba's words."""
    metas: Config = {"init_param": "model.pt", "config": "config.yaml"}
    metas["tokenizer_conf"] = {"token_list": "tokens.json"}
    with writing_directory(path) as directory:
        write_token_list(directory / "tokens.json", release.tokenizer.tokens)
        if release.jieba_dict is not None:
            (directory / "jieba_usr_dict").write_bytes(release.jieba_dict.read_bytes())
            metas["jieba_usr_dict"] = "jieba_usr_dict"
        config = _portable(release.config)
        config.pop("frontend_conf")
        _write_listing(directory, config, metas, "punctuation")
        save_weights(directory / "model.pt", release.model, dtype)
    return Path(path)
