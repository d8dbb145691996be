"""Training of recognisers and aligners as a configuration describes it: the model, its batches, its
losses and the loop, put together.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig

from paraformer.backends.torch_engine import frame_seconds
from paraformer.data.batches.augment import Augment, SpecAug, SpecAugLfr
from paraformer.data.batches.dataset import Batching, Loader, Share
from paraformer.data.batches.selection import Choice, Chooser
from paraformer.data.batches.shards import ShardList, ShardLoader
from paraformer.errors import ConfigError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model
from paraformer.limits import Limits, check
from paraformer.models.aligner import Aligner
from paraformer.models.builders import HOTWORD_KEYS, MODEL_KEYS, SILENT, SPELLINGS, accepted
from paraformer.models.kinds import ALIGNER, kind_of
from paraformer.models.paraformer import Paraformer
from paraformer.models.release import (
    AlignerRelease,
    Release,
    build_any,
    merge,
    override_keys,
    read_config,
    weights_of,
)
from paraformer.models.weights import load_matching, load_weights
from paraformer.programs.settings import ONE, get_ready, part, pick_device, read_settings, section
from paraformer.programs.utterances import load_set, read_units, unit_ids
from paraformer.train.chunking import Chunking, DynamicChunk, ReleasedChunks
from paraformer.train.consistency import Consistency
from paraformer.train.hotwords import Sampler, Sampling, SeacoWeights
from paraformer.train.lora import Lora, count_learning
from paraformer.train.losses import Weights
from paraformer.train.mwer import Mwer
from paraformer.train.new_tokens import NewTokens
from paraformer.train.objective import (
    NO_MWER,
    Added,
    AlignerObjective,
    Heads,
    Objective,
    TrainObjective,
    UnitCtc,
)
from paraformer.train.optim import Optim
from paraformer.train.parallel import Ranks, together
from paraformer.train.second_head import SecondHead
from paraformer.train.trainer import Trainer, Training

log = logging.getLogger(__name__)

SPECAUGS: dict[str, Callable[..., SpecAug | SpecAugLfr]] = {
    "SpecAug": SpecAug,
    "SpecAugLFR": SpecAugLfr,
}


def prepare(config: DictConfig) -> dict[str, Any]:
    """The settings with the model that they name; seeds, and takes threads."""
    settings = inherit(read_settings(config))
    get_ready(settings)
    return settings


def released_config(config: dict[str, Any]) -> dict[str, Any]:
    """`model` of the training configuration with the paths of its tokens and CMVN."""
    if config["lang"] is None:
        return part(config, "model")  # of a released directory, see `inherit`
    lang = Path(config["lang"])
    files = {"seg_dict_file": lang / "seg_dict", "bpemodel": lang / "bpe.model"}
    tokenizer = {key: str(path) for key, path in files.items() if path.is_file()}
    tokenizer["token_list"] = str(lang / "tokens.json")
    paths = {"tokenizer_conf": tokenizer, "frontend_conf": {"cmvn_file": str(config["cmvn"])}}
    absent = {key for key in ("decoder", "decoder_conf") if config["model"].get(key) is None}
    return {k: v for k, v in merge(part(config, "model"), paths).items() if k not in absent}


def inherit(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the model of `init`, where it has none of its own."""
    given = [key for key in ("lang", "cmvn") if config[key] is not None]
    if config["model"] is not None:
        if len(given) < 2:
            raise ConfigError("lang=... cmvn=...: give both, or --config-name finetune")
        return config
    if given or not config["init"]:
        raise ConfigError(
            "model=null: the model, its tokens and its CMVN are those of a released directory; "
            "give it as init, and neither lang nor cmvn"
        )
    folder = find_model(config["init"]).absolute()  # select_model may start elsewhere
    model = read_config(folder, part(config, "overrides"))
    for key in ("init_param", "config"):
        model.pop(key, None)
    return {**config, "model": model, "init": str(folder)}


def make_trainer(config: dict[str, Any], ranks: Ranks = ONE) -> Trainer:
    """Everything that the configuration names, put together, after the processes have met."""
    augment = section(Augment, "augment", part(config, "augment"))
    optim = section(Optim, "optim", part(config, "optim"))
    training = section(Training, "training", part(config, "training"))
    device = pick_device(config["device"], ranks)
    ranks.join(device)
    release = make_release(config)
    objective = make_objective(config, release, ranks)
    learning = "{1} parameters, {0} of them learn".format(*count_learning(objective))
    log.info("%s; adapters of %d layers", learning, len(objective.adapted))
    if not ranks.first:  # all have the same weights, and each draws for itself from here
        torch.manual_seed(config["seed"] + ranks.rank)
    folder = check_folder(config["dir"])
    train = make_loader(config, "data", release, augment, ranks)
    dev = make_loader(config, "dev", release, None, ranks)
    return Trainer(objective, train, dev, optim, training, folder, device, None, ranks)


def make_release(config: dict[str, Any]) -> Release | AlignerRelease:
    """The model with the weights that training begins with."""
    release = build_any(released_config(config))
    if config["init"]:
        initialize(release, str(config["init"]), config["init_in_part"])
    return release


def initialize(release: Release | AlignerRelease, source: str, in_part: bool) -> None:
    """Weights of a released directory or of one epoch; in_part: only what the two have in common.

    A predictor that gets a second head keeps the first: its parameters have the same names.
    """
    path = Path(source)
    path = path if path.is_file() else weights_of(find_model(path))
    if not in_part:
        load_weights(release.model, path)
        return
    new, left = load_matching(release.model, path)
    for what, names in (("new", new), ("not taken over", left)):
        parts = Counter(".".join(name.split(".")[:2]) for name in names)
        shown = ", ".join(f"{part} ({count})" for part, count in parts.items())
        log.info("%s: parameters %s: %s", path, what, shown or "none")


def make_loader(
    config: dict[str, Any],
    key: str,
    release: Release | AlignerRelease,
    augment: Augment | None = None,
    ranks: Ranks = ONE,
) -> Loader | ShardLoader:
    """Batches of `data`, in a new order each epoch, or of `dev`, always in the same."""
    data, inventory = Path(config[key]), config["unit_ctc"]["units"]
    batching = section(Batching, "batching", part(config, "batching"))
    seed = config["seed"] if key == "data" else None
    readers = max(1, (os.cpu_count() or 1) // 4)  # the rest of the processor trains
    share = Share(ranks.rank, ranks.world)
    settings = (release.frontend, batching, augment, seed, readers, share)
    # A character that is no token counts as an error on the dev set, as it will in use.
    choice = Choice(config["max_seconds"], config["drop_unknown"] and key == "data")
    chooser = Chooser(release.tokenizer, choice)
    if data.is_file():
        return ShardLoader(ShardList(data), chooser, unit_ids(inventory), *settings)
    report = Path(config["dir"]) / f"dropped_{key}"
    units = read_units(inventory, data)
    return Loader(load_set(data, chooser, release.frontend, units, report), *settings)


def make_objective(
    config: dict[str, Any], release: Release | AlignerRelease, ranks: Ranks = ONE
) -> TrainObjective:
    """The losses that the model is trained for, which follow from its kind."""
    conf = config["model"].get("model_conf") or {}
    weights, frozen = loss_weights(conf), list(config["freeze"] or [])
    heads = Heads(
        frame_seconds(release),
        section(SecondHead, "second_head", part(config, "second_head")),
        Sampler(section(Sampling, "hotwords", part(config, "hotwords"))),
        SeacoWeights(**{key: conf[key] for key in SeacoWeights._fields if key in conf}),
    )
    mwer = section(Mwer, "mwer", part(config, "mwer"))
    alike = section(Consistency, "consistency", part(config, "consistency"))
    added = Added(
        section(Lora, "lora", part(config, "lora")),
        section(NewTokens, "new_tokens", part(config, "new_tokens")),
        len(release.tokenizer),
    )
    if kind_of(release.config) is ALIGNER:
        if mwer.weight > 0.0:
            raise ConfigError(NO_MWER)
        if alike.weight > 0.0:
            raise ConfigError("consistency.weight: compares what CTC says, an aligner has none")
        masks = specaug(config["model"])
        return AlignerObjective(cast(Aligner, release.model), weights, masks, heads, frozen, added)
    return Objective(
        cast(Paraformer, release.model),
        weights,
        unit_ctc(config, release.config),
        config["warm_steps"],
        specaug(config["model"]),
        together(chunking(config), ranks),
        heads,
        frozen,
        mwer,
        added,
        alike,
    )


def specaug(model: dict[str, Any]) -> SpecAug | SpecAugLfr | None:
    """`specaug` and `specaug_conf` of the model's configuration, None where it has none."""
    name = model.get("specaug")
    if name is None:
        return None
    if name not in SPECAUGS:
        raise ConfigError(f"model.specaug={name}: not known; one of {', '.join(SPECAUGS)}")
    maker = SPECAUGS[name]
    return maker(**accepted(maker, model.get("specaug_conf") or {}, "specaug_conf"))


def chunking(config: dict[str, Any]) -> Chunking | None:
    """`dynamic_chunk`, else the chunks of a released online encoder, None where there are none."""
    dynamic = section(DynamicChunk, "dynamic_chunk", part(config, "dynamic_chunk"))
    if dynamic.probability > 0.0:
        return dynamic
    conf = config["model"].get("encoder_conf") or {}
    if config["model"].get("encoder") != "SANMEncoderChunkOpt" or "chunk_size" not in conf:
        return None
    names = [field.name for field in fields(ReleasedChunks)]
    missing = [name for name in names if name not in conf]
    if missing:
        raise ConfigError(f"model.encoder_conf: {', '.join(missing)} missing beside chunk_size")
    return ReleasedChunks(**{name: conf[name] for name in names})


def unit_ctc(config: dict[str, Any], model: dict[str, Any]) -> UnitCtc:
    """`unit_ctc` of the configuration, its layer one of the encoder's of `model`."""
    conf = dict(part(config, "unit_ctc"))
    size = len(unit_ids(conf.pop("units", None)))
    unit = section(UnitCtc, "unit_ctc", {**conf, "size": size})
    if size:
        layers = override_keys(model)["encoder_conf"]["num_blocks"]
        check("unit_ctc.layer", unit.layer, Limits(1, layers, whole=True))
    return unit


def loss_weights(conf: dict[str, Any]) -> Weights:
    """The weights of the losses in `model_conf`; a key that nothing reads is named in a warning."""
    known = MODEL_KEYS | HOTWORD_KEYS | SILENT | {*Weights._fields, *SeacoWeights._fields}
    for key in sorted({SPELLINGS.get(key, key) for key in conf} - known):
        log.warning("model.model_conf.%s is not known and has no effect", key)
    return Weights(**{key: value for key, value in conf.items() if key in Weights._fields})


@contextmanager
def one_remark(name: str) -> Iterator[None]:
    """Let a logger remark once: it says the same of one recording after another, which each epoch
    reads again, so the first remark stands for all.
    """
    logger, number = logging.getLogger(name), count()

    def is_first(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or next(number) == 0

    logger.addFilter(is_first)
    try:
        yield
    finally:
        logger.removeFilter(is_first)
