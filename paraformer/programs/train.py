"""Train a model: Kaldi data directories become `dir`/epoch-N.pt and the config.yaml of a released
directory.

`data` and `dev` hold text [utt2spk text_units], and feats.scp with utt2num_frames, or else wav.scp
[segments utt2dur], whose features are made while the model trains. Either may also be a list of
shards, as make_shards writes it. Under torchrun several processes share each batch.
"""

from __future__ import annotations

import inspect
import logging
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from paraformer.backends.devices import is_usable, parse_device
from paraformer.backends.torch_engine import frame_seconds
from paraformer.data.audio import channels
from paraformer.data.batches.augment import Augment, SpecAug, SpecAugLfr
from paraformer.data.batches.dataset import Batching, Loader, Share
from paraformer.data.batches.selection import Choice, Chooser
from paraformer.data.batches.shards import ShardList, ShardLoader
from paraformer.data.corpus.tables import write_text
from paraformer.documents import load_yaml
from paraformer.errors import ConfigError
from paraformer.extras import load_extra
from paraformer.files import check_folder, remove_drafts
from paraformer.hub.directories import find_model
from paraformer.limits import Limits, check, check_values
from paraformer.models.builders import HOTWORD_KEYS, SPELLINGS
from paraformer.models.release import (
    MODEL_KEYS,
    SILENT,
    AlignerRelease,
    Release,
    accepted,
    build_any,
    load_weights,
    merge,
    override_keys,
    read_config,
    weights_of,
)
from paraformer.models.weights import load_matching
from paraformer.options import THREADS, nearest
from paraformer.programs.hydra_main import run
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
from paraformer.train.parallel import Ranks, leave, restarted, together
from paraformer.train.second_head import SecondHead
from paraformer.train.snapshots import seed_everything
from paraformer.train.trainer import Batches, Trainer, Training, Writer

log = logging.getLogger(__name__)

ONE = Ranks()  # a process by itself
LIMITS = {
    "seed": Limits(0, 2**32 - 1, whole=True),
    "num_threads": THREADS._replace(low=0),
    "warm_steps": Limits(0, whole=True),
    "max_seconds": Limits(0),
}
Section = TypeVar("Section")
SPECAUGS: dict[str, Callable[..., SpecAug | SpecAugLfr]] = {
    "SpecAug": SpecAug,
    "SpecAugLFR": SpecAugLfr,
}


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


def make_writer(folder: Path, done: int = 0) -> Writer | None:
    """A tensorboard writer, None with a remark where tensorboard is not installed.

    done: steps; what a run that was killed has drawn behind them is taken back.
    """
    try:
        summary_writer = load_extra("torch.utils.tensorboard", "curves").SummaryWriter
    except ConfigError as error:
        log.warning("%s", error)
        return None
    writer: Writer = summary_writer(
        str(folder / "tensorboard"), purge_step=done + 1 if done else None
    )
    return writer


def pick_device(name: str, ranks: Ranks = ONE) -> torch.device:
    """`auto` is cuda where there is one; unlike recognition, training never changes device
    unasked. Of several processes each has a GPU of its own.
    """
    device = parse_device(name)
    if device.type == "cuda" and ranks.world > 1:
        device = torch.device("cuda", ranks.local)
    if device.type == "cpu" or is_usable(device):
        return device
    raise ConfigError(f"device={name}: there is no such GPU; use device=auto or device=cpu")


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


def part(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of the configuration, which holds keys of its own."""
    values = config[name]
    if not isinstance(values, dict):
        raise ConfigError(f"{name}={values}: is a part with keys of its own; set one of them")
    return values


def section(kind: Callable[..., Section], name: str, values: dict[str, Any]) -> Section:
    """The settings of a part; a key that it does not have is refused."""
    known = list(inspect.signature(kind).parameters)
    for key in values:
        if key not in known:
            guess = nearest(key, known)
            remedy = f"did you mean '{name}.{guess}'?" if guess else f"known: {', '.join(known)}"
            raise ConfigError(f"train: unknown key '{name}.{key}'; {remedy}")
    return kind(**values)


def unit_ctc(config: dict[str, Any], release: Release) -> UnitCtc:
    """`unit_ctc` of the configuration, its layer one of the encoder's."""
    conf = dict(part(config, "unit_ctc"))
    size = len(unit_ids(conf.pop("units", None)))
    unit = section(UnitCtc, "unit_ctc", {**conf, "size": size})
    check("unit_ctc.weight", unit.weight, Limits(0))
    if size:
        layers = override_keys(release.config)["encoder_conf"]["num_blocks"]
        check("unit_ctc.layer", unit.layer, Limits(1, layers, whole=True))
    return unit


def loss_weights(conf: dict[str, Any]) -> Weights:
    """What `model_conf` says of the losses; a key that nothing reads is named in a warning."""
    known = MODEL_KEYS | HOTWORD_KEYS | SILENT | {*Weights._fields, *SeacoWeights._fields}
    for key in sorted({SPELLINGS.get(key, key) for key in conf} - known):
        log.warning("model.model_conf.%s is not known and has no effect", key)
    return Weights(**{key: value for key, value in conf.items() if key in Weights._fields})


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
    # What cannot be said counts as an error on the dev set, as it will in use.
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
    """What the model is trained for, which its class says."""
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
    if isinstance(release, AlignerRelease):
        if mwer.weight > 0.0:
            raise ConfigError(NO_MWER)
        if alike.weight > 0.0:
            raise ConfigError("consistency.weight: compares what CTC says, an aligner has none")
        masks = specaug(config["model"])
        return AlignerObjective(release.model, weights, masks, heads, frozen, added)
    return Objective(
        release.model,
        weights,
        unit_ctc(config, release),
        config["warm_steps"],
        specaug(config["model"]),
        together(chunking(config), ranks),
        heads,
        frozen,
        mwer,
        added,
        alike,
    )


def clear_run(folder: Path) -> None:
    """Remove what an earlier run left, so that its epochs do not pass for those of the next: first
    what a run goes on from.
    """
    remove_drafts(folder)
    for pattern in ("last.pt", "epochs.jsonl", "epoch-*.pt", "train.yaml"):
        for path in folder.glob(pattern):
            path.unlink()


def train(config: DictConfig) -> int:
    """Train to the end of the schedule; a run stopped by SIGTERM or SIGUSR1 continues when started
    again.
    """
    ranks = Ranks.of()
    if not ranks.first:  # all say the same of the settings, the model and the data
        logging.getLogger().setLevel(logging.ERROR)
    try:
        fit(prepare(config), ranks)
    finally:
        leave()
    return 0


def prepare(config: DictConfig) -> dict[str, Any]:
    """The settings as plain values, with the model that they name; seeds, and takes threads."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)  # a DictConfig always is
    settings = {str(key): value for key, value in plain.items()}
    check_values(settings, LIMITS)
    settings = inherit(settings)
    if settings["num_threads"]:
        torch.set_num_threads(settings["num_threads"])
    seed_everything(settings["seed"])
    return settings


def fit(settings: dict[str, Any], ranks: Ranks) -> None:
    """Train; the processes part together, when no model of theirs is left that needs them all."""
    trainer = make_trainer(settings, ranks)
    if settings["lang"] is None:
        settings["digest"] = digest_of(trainer.train_loader)
    begin(trainer, settings)
    if not ranks.first:
        logging.getLogger().setLevel(logging.WARNING)  # and now each of its share
    with one_remark(channels.__name__):
        trainer.run()
    if trainer.writer is not None:
        trainer.writer.close()
    ranks.gather(None)


@contextmanager
def one_remark(name: str) -> Iterator[None]:
    """Of what a logger remarks on one recording after another, which each epoch reads again, the
    first stands for all.
    """
    logger, number = logging.getLogger(name), count()

    def is_first(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or next(number) == 0

    logger.addFilter(is_first)
    try:
        yield
    finally:
        logger.removeFilter(is_first)


def refuse_other_start(trainer: Trainer, settings: dict[str, Any]) -> None:
    """A fine-tuning goes on with the model and the utterances that it began with alone."""
    record = trainer.folder / "train.yaml"
    if settings["lang"] is not None or not record.is_file() or not trainer.snapshot.is_file():
        return
    before = load_yaml(record)
    remedy = "train in another folder or with resume=false"
    if before["init"] != settings["init"]:
        raise ConfigError(
            f"{trainer.folder}: its training began with {before['init']}, not {settings['init']}; "
            f"{remedy}"
        )
    if before.get("digest", settings["digest"]) != settings["digest"]:
        raise ConfigError(f"{trainer.folder}: its training began with other utterances; {remedy}")


def digest_of(loader: Batches) -> int:
    """A number that differs between sets of utterances and of texts; 0 for shards, which are not
    known before they are read.
    """
    digest = 0
    for utterance in loader.utterances if isinstance(loader, Loader) else ():
        digest = zlib.crc32(f"{utterance.key} {utterance.ids}\n".encode(), digest)
    return digest


def begin(trainer: Trainer, settings: dict[str, Any]) -> None:
    """Go on with the run in the folder of the trainer, or make room for a new one."""
    if settings["resume"] or restarted():
        refuse_other_start(trainer, settings)
        trainer.resume()
    elif trainer.ranks.first:
        clear_run(trainer.folder)
    if not trainer.ranks.first:
        return
    trainer.writer = make_writer(trainer.folder, trainer.position.step)
    # Not before: a run that refuses to go on keeps the configuration that it was trained with.
    released = yaml.safe_dump(released_config(settings), sort_keys=False, allow_unicode=True)
    write_text(trainer.folder / "config.yaml", released)
    whole = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    write_text(trainer.folder / "train.yaml", whole)


def main() -> int:
    """Entry of bin/train.py."""
    return run("train", train)
