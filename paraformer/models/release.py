"""A released directory (`config.yaml model.pt am.mvn tokens.json seg_dict`) becomes a model, and
a model such a directory.

The only module that knows released file names; `builders.py` knows what is in the config.yaml.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import yaml

from paraformer.data.corpus.tables import write_text
from paraformer.data.features.cmvn import Cmvn, read_cmvn, write_cmvn
from paraformer.data.features.frontend import Frontend
from paraformer.data.text.tokenizer import (
    CharTokenizer,
    SentencepieceTokenizer,
    read_seg_dict,
    read_token_list,
    write_seg_dict,
    write_token_list,
)
from paraformer.documents import file_path_metas, flat_names, parse_yaml
from paraformer.errors import CheckpointError, ConfigError
from paraformer.files import HALF_WRITTEN, half_written, together
from paraformer.models.builders import (
    DECODERS,
    ENCODERS,
    PREDICTORS,
    Config,
    accepted,
)
from paraformer.models.builders import NO_MARK as NO_MARK
from paraformer.models.campplus import Likeness
from paraformer.models.fsmn_vad import VadOptions
from paraformer.models.graphs import Graphs as Graphs
from paraformer.models.graphs import (
    check_graphs,
    class_of,
    config_of,
    find_graph,
    is_graph,
    open_graphs,
    warn_of_old_export,
)
from paraformer.models.kinds import (
    ALIGNER,
    PUNCTUATION,
    RECOGNISER,
    SPEAKER,
    VAD,
    AlignerRelease,
    Kind,
    PunctuationRelease,
    Release,
    SpeakerRelease,
    Tokenizer,
    VadRelease,
    kind_of,
    refuse_other,
)
from paraformer.models.paraformer import Paraformer
from paraformer.models.settings import check_part
from paraformer.models.weights import load_weights, parameters, save_weights

log = logging.getLogger(__name__)

Made = TypeVar("Made", bound=Release[Any])

NAMES = {  # where each file of a directory without configuration.json lies
    "init_param": "model.pt",
    "config": "config.yaml",
    "tokenizer_conf": {"seg_dict_file": "seg_dict", "bpemodel": "bpe.model"},
    "frontend_conf": {"cmvn_file": "am.mvn"},
    "jieba_usr_dict": "jieba_usr_dict",
    "lm_file": "ngrams.lm",
}
# Weights of a directory; where no listing names one and both are there, the first.
WEIGHTS = {"pt": "model.pt", "safetensors": "model.safetensors"}
LISTING = "configuration.json"
GRAPH_ALONE = "is a graph, which cannot be changed; give the model that it was made of"
TOKEN_LISTS = ("tokens.json", "tokens.txt")


def load(
    kind: Kind[Made],
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    mapped: bool = False,
    graphs: bool = True,
) -> Made:
    """The model of a released directory, which has to be of that kind, with all its weights
    (strict); mapped: as of `load_weights`; graphs: as of `load_release`.

    overrides replace values of config.yaml, nested dicts key by key; options of a VAD may stand
    beside `model_conf`.
    """
    values = dict(overrides or {})
    if kind is VAD:
        named = {key: values.pop(key) for key in VAD_KEYS & set(values)}
        values = merge({"model_conf": named}, values)
    return load_release(read_config(Path(path), values), Path(path), kind, mapped, graphs)


def load_release(
    config: Config,
    directory: Path | None = None,
    kind: Kind[Any] = RECOGNISER,
    mapped: bool = False,
    graphs: bool = True,
) -> Any:
    """The model of a configuration that `read_config` gave, with the weights that it names; mapped:
    as of `load_weights`. Where these are a graph, `model` is `Graphs`, for engines alone; graphs:
    such are not refused.
    """
    if is_graph(config["init_param"]):
        if not graphs:
            raise CheckpointError(f"{config['init_param']}: {GRAPH_ALONE}")
        return _with_graphs(config, kind, directory)
    release = build(config, kind, directory, fresh=False)
    weights = Path(config["init_param"])
    load_weights(release.model, weights, mapped)
    folder, name = weights.parent, weights.name
    others = [each for each in WEIGHTS.values() if each != name and (folder / each).is_file()]
    if name in WEIGHTS.values() and others:
        log.warning("%s: %s is read, not %s beside it", folder, name, *others)
    release.model.eval()
    return release


def load_directory(
    path: str | Path, overrides: Mapping[str, Any] | None = None
) -> Release[Paraformer]:
    """A recogniser: see `load`."""
    return load(RECOGNISER, path, overrides)


def load_vad(path: str | Path, overrides: Mapping[str, Any] | None = None) -> VadRelease:
    """A voice activity detector: see `load`."""
    return load(VAD, path, overrides)


def load_punctuation(
    path: str | Path, overrides: Mapping[str, Any] | None = None
) -> PunctuationRelease:
    """A punctuation model: see `load`."""
    return load(PUNCTUATION, path, overrides)


def load_aligner(path: str | Path, overrides: Mapping[str, Any] | None = None) -> AlignerRelease:
    """A forced aligner: see `load`."""
    return load(ALIGNER, path, overrides)


def load_speakers(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SpeakerRelease:
    """A speaker model: see `load`."""
    return load(SPEAKER, path, overrides)


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
    files: Config = {}
    for names in ({"init_param": WEIGHTS["safetensors"]}, NAMES, metas):
        files = merge(files, _existing(names, directory))
    given = overrides.get("init_param") or files.get("init_param")
    graph = Path(given) if given else find_graph(directory)
    if graph is not None and is_graph(graph) and graph.is_file():
        files["init_param"] = str(graph)
        config = _graph_config(config_file, open_graphs(graph))
    else:
        config = _network_config(config_file)
    config = merge(config, files)
    kind = kind_of(config)
    if kind is not None and "tokenizer" in kind.parts:
        config = merge(config, _token_list(directory, config))
    config = merge(config, overrides)
    weights = Path(config.get("init_param") or directory / "model.pt")
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; the model has no weights")
    return config


def _network_config(path: Path) -> Config:
    if path.is_file():
        return read_yaml(path)
    if half_written(path.parent):
        raise CheckpointError(f"{path.parent}: {HALF_WRITTEN}")
    raise CheckpointError(f"{path}: no such file; a model directory holds config.yaml and model.pt")


def weights_for(directory: Path, backend: str, required: bool = True) -> Config:
    """`init_param` of the weights that a backend of `options.BACKENDS` computes with; nothing where
    the directory's own are such, or, if they are not required, where it has none.
    """
    if not backend or not directory.is_dir():
        return {}
    graph = find_graph(directory)
    own = weights_of(directory)
    if is_graph(own) == (backend == "onnx"):
        return {}
    found = [graph] if backend == "onnx" else [directory / name for name in WEIGHTS.values()]
    for path in found:
        if path is not None and path.is_file():
            return {"init_param": str(path)}
    if not required:
        return {}
    if backend == "onnx":
        raise CheckpointError(
            f"{directory}: holds no graph for backend=onnx; make one by bin/export_onnx.py"
        )
    raise CheckpointError(f"{own}: is a graph; leave backend={backend} out")


def _graph_config(config_file: Path, graphs: Graphs) -> Config:
    """The configuration of graphs, where there is one, else what they say of themselves."""
    if not config_file.is_file():
        return config_of(graphs)
    config = read_yaml(config_file, named=False)
    known = isinstance(config.get("model"), str) and kind_of(config) is not None
    return config if known else {**config, "model": class_of(graphs)}


def _with_graphs(config: Config, kind: Kind[Any], directory: Path | None) -> Any:
    refuse_other(config, kind, where=directory)
    frontend, tokenizer = build_parts(config, kind)
    tokens = len(tokenizer.tokens) if tokenizer is not None else 0
    width = frontend.output_size if frontend is not None else 0
    graphs = open_graphs(Path(config["init_param"]))
    warn_of_old_export(graphs.path.parent)
    check_graphs(graphs, kind.task, tokens, width)
    if frontend is not None and frontend.cmvn is None and "neg_mean" in graphs.main.metadata:
        vectors = (graphs.main.numbers(key, width) for key in ("neg_mean", "inv_stddev"))
        frontend.cmvn = Cmvn(*(torch.tensor(vector) for vector in vectors))
    parts = cast(Any, graphs), cast(Frontend, frontend), cast(Tokenizer, tokenizer)
    return kind.release(*parts, config, directory)


def weights_of(directory: Path) -> Path:
    """The file of weights of a released directory, which has to be there."""
    return Path(read_config(directory, {}).get("init_param") or directory / "model.pt")


def read_yaml(path: Path, named: bool = True) -> Config:
    """A config.yaml as it stands; named: it says which model it is of."""
    try:
        config = parse_yaml(path.read_text(encoding="utf8"))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; is it a model's folder?") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is not YAML ({error}); make it again") from error
    if not isinstance(config, dict) or (named and not isinstance(config.get("model"), str)):
        raise CheckpointError(f"{path}: names no `model`; is it a model's config.yaml?")
    return config


def override_keys(config: Config) -> Config:
    """The configuration with each key that its parts take, at its default where it has none."""
    predictor, _ = PREDICTORS.get(str(config.get("predictor")), (dict, {}))
    parts: dict[str, Any] = {"predictor_conf": predictor, "frontend_conf": Frontend}
    parts["encoder_conf"] = ENCODERS.get(str(config.get("encoder")), dict)
    parts["decoder_conf"] = DECODERS.get(str(config.get("decoder")), dict)
    keys = {part: _defaults(taker) for part, taker in parts.items()}
    if kind_of(config) is VAD:  # see `load`
        own, named = _defaults(VadOptions), config.get("model_conf") or {}
        check_part(named, "model_conf")
        keys |= {"model_conf": own, **merge(own, named)}
    if kind_of(config) is SPEAKER:
        threshold, merge_thr = Likeness()
        likeness: Config = {"spk_threshold": threshold, "cb_kwargs": {"merge_thr": merge_thr}}
        return merge({**keys, **likeness}, config)
    return merge(keys, config)


def _defaults(taker: type) -> Config:
    parameters = inspect.signature(taker).parameters.values() if taker is not dict else ()
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def read_listing(path: Path) -> Config:
    """`file_path_metas` of a configuration.json; the files that the result depends on must be
    there.
    """
    try:
        metas: Config = file_path_metas(path) or NAMES
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: is not a JSON object ({error}); copy it again") from error
    names = flat_names(metas)
    for key in ("frontend_conf.cmvn_file", "tokenizer_conf.seg_dict_file"):
        if key in names and not (path.parent / names[key]).is_file():
            raise CheckpointError(
                f"{path.parent / names[key]}: no such file, though {path.name} names it; "
                "is the copy complete?"
            )
    return metas


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


def build(
    config: Config,
    kind: Kind[Made] = RECOGNISER,  # type: ignore[assignment]
    directory: Path | None = None,
    fresh: bool = True,
) -> Made:
    """The model that a configuration describes, with fresh weights or, if not fresh, before any are
    loaded.
    """
    refuse_other(config, kind, where=directory)
    assert kind.build is not None  # or no configuration is of that kind
    frontend, tokenizer = build_parts(config, kind)
    tokens = len(tokenizer.tokens) if tokenizer is not None else 0
    with parameters(fresh):
        model = kind.build(config, tokens, frontend.output_size if frontend is not None else 0)
    parts = cast(Frontend, frontend), cast(Tokenizer, tokenizer)  # None: see `Release`
    return kind.release(model, *parts, config, directory)


def build_parts(config: Config, kind: Kind[Any]) -> tuple[Frontend | None, Tokenizer | None]:
    """The front end and the tokenizer of a configuration, where its kind has them."""
    tokenizer = build_tokenizer(config) if "tokenizer" in kind.parts else None
    frontend = build_frontend(config, kind.frontend) if "frontend" in kind.parts else None
    return frontend, tokenizer


def build_any(config: Config) -> Release[Paraformer] | AlignerRelease:
    """The recogniser or the forced aligner that a configuration describes."""
    return build(config, ALIGNER) if kind_of(config) is ALIGNER else build(config)


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


def build_frontend(config: Config, fixed: Mapping[str, Any] | None = None) -> Frontend:
    """`frontend_conf` of a config.yaml, with what is fixed for a kind of model; dither is noise and
    stays off (a data program may add it).
    """
    conf = {**(config.get("frontend_conf") or {}), **(fixed or {})}
    cmvn = read_cmvn(conf["cmvn_file"]) if conf.get("cmvn_file") else None
    return Frontend(**accepted(Frontend, conf, "frontend_conf") | {"dither": 0.0, "cmvn": cmvn})


VAD_KEYS = set(inspect.signature(VadOptions).parameters)


def save_directory(
    path: str | Path,
    release: Release[Any],
    *,
    dtype: torch.dtype | None = None,
    weights: str = WEIGHTS["pt"],
) -> Path:
    """Write a released directory: weights (as `dtype` if given, in a file of `WEIGHTS`),
    config.yaml, and the files of the parts that a model of that kind has: tokens, seg_dict, CMVN,
    words of jieba.
    """
    kind = kind_of(release.config)
    if kind is None:
        raise ConfigError(f"{path}: model {release.config['model']} is not known")
    metas: Config = {"init_param": weights, "config": "config.yaml"}
    with writing_directory(path) as directory:
        if "tokenizer" in kind.parts:
            metas["tokenizer_conf"] = _save_tokenizer(directory, release.tokenizer)
        if "frontend" in kind.parts and release.frontend.cmvn is not None:
            write_cmvn(directory / "am.mvn", release.frontend.cmvn)
            metas["frontend_conf"] = {"cmvn_file": "am.mvn"}
        if kind is PUNCTUATION and release.config.get("jieba_usr_dict"):
            words = Path(release.config["jieba_usr_dict"]).read_bytes()
            (directory / "jieba_usr_dict").write_bytes(words)
            metas["jieba_usr_dict"] = "jieba_usr_dict"
        _write_listing(directory, portable(release.config, kind), metas, kind.task)
        save_weights(directory / weights, release.model, dtype)
    return Path(path)


def writing_directory(path: str | Path) -> AbstractContextManager[Path]:
    """A folder to write a released directory in, and what goes with it; what is in it moves to
    `path` as a whole. Where the writer is stopped in the middle of that, `path` does not load.
    """
    stale = (*flat_names(NAMES).values(), *TOKEN_LISTS, *WEIGHTS.values())
    return together(path, ("config.yaml", LISTING), stale)


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


def portable(config: Config, kind: Kind[Any]) -> Config:
    """The configuration without the paths of files that lie beside it."""
    files = ("init_param", "config", "jieba_usr_dict", "lm_file")
    kept = {key: value for key, value in config.items() if key not in files}
    for part, names in (
        ("tokenizer", ("token_list", "seg_dict_file", "bpemodel")),
        ("frontend", ("cmvn_file",)),
    ):
        group = f"{part}_conf"
        kept[group] = {k: v for k, v in (kept.get(group) or {}).items() if k not in names}
        if part not in kind.parts:
            kept.pop(group)
    return kept
