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
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from paraformer.auto import is_usable, parse_device
from paraformer.data.augment import Augment, SpecAug, SpecAugLfr
from paraformer.data.dataset import (
    Batching,
    Loader,
    Share,
    Utterance,
    encoder_stride,
    read_utterances,
)
from paraformer.data.shards import ShardList, ShardLoader
from paraformer.data.tables import read_rows, read_table, write_table, write_text
from paraformer.decode.timestamps import frame_seconds
from paraformer.errors import ConfigError
from paraformer.formats import check_folder
from paraformer.limits import Limits, check, check_values
from paraformer.models.builders import HOTWORD_KEYS, SPELLINGS
from paraformer.models.checkpoint import (
    MODEL_KEYS,
    SILENT,
    AlignerRelease,
    Release,
    accepted,
    build_any,
    load_weights,
    merge,
    override_keys,
)
from paraformer.models.weights import load_matching
from paraformer.options import THREADS, nearest
from paraformer.programs.hydra_main import run
from paraformer.train.chunking import Chunking, DynamicChunk, ReleasedChunks
from paraformer.train.hotwords import Sampler, Sampling, SeacoWeights
from paraformer.train.losses import Weights
from paraformer.train.mwer import Mwer
from paraformer.train.objective import (
    NO_MWER,
    AlignerObjective,
    Heads,
    Objective,
    TrainObjective,
    UnitCtc,
)
from paraformer.train.optim import Optim
from paraformer.train.parallel import Ranks, leave, restarted, together
from paraformer.train.snapshots import seed_everything
from paraformer.train.times import SecondHead
from paraformer.train.trainer import Trainer, Training, Writer

log = logging.getLogger(__name__)

ONE = Ranks()  # a process by itself
LIMITS = {
    "seed": Limits(0, 2**32 - 1, whole=True),
    "num_threads": THREADS._replace(low=0),
    "warm_steps": Limits(0, whole=True),
}
Section = TypeVar("Section")
Units = dict[str, list[int]]
SPECAUGS: dict[str, Callable[..., SpecAug | SpecAugLfr]] = {
    "SpecAug": SpecAug,
    "SpecAugLFR": SpecAugLfr,
}


def released_config(config: dict[str, Any]) -> dict[str, Any]:
    """`model` of the training configuration with the paths of its tokens and CMVN."""
    lang = Path(config["lang"])
    files = {"seg_dict_file": lang / "seg_dict", "bpemodel": lang / "bpe.model"}
    tokenizer = {key: str(path) for key, path in files.items() if path.is_file()}
    tokenizer["token_list"] = str(lang / "tokens.json")
    paths = {"tokenizer_conf": tokenizer, "frontend_conf": {"cmvn_file": str(config["cmvn"])}}
    absent = {key for key in ("decoder", "decoder_conf") if config["model"].get(key) is None}
    return {k: v for k, v in merge(part(config, "model"), paths).items() if k not in absent}


def unit_ids(inventory: object) -> dict[str, int]:
    """The second inventory, one unit a line; 0 is the blank. Empty where there is none."""
    if not inventory:
        return {}
    names = [row.key for row in read_rows(str(inventory))]
    return {"<blank>": 0} | {name: number for number, name in enumerate(names, start=1)}


def read_units(inventory: object, folder: Path) -> Units:
    """`text_units` of a data directory in numbers, empty without an inventory."""
    ids = unit_ids(inventory)
    if not ids:
        return {}
    table = read_table(folder / "text_units")
    unknown = {u for line in table.values() for u in line.split() if u not in ids}
    if unknown:
        raise ConfigError(
            f"{folder / 'text_units'}: not in {inventory}: {' '.join(sorted(unknown)[:5])}"
        )
    return {key: [ids[u] for u in line.split()] for key, line in table.items()}


def load_set(
    folder: Path, release: Release | AlignerRelease, units: Units, report: Path
) -> list[Utterance]:
    """Utterances of a data directory; what is dropped is counted, and listed in `report`."""
    frontend = release.frontend
    stride = encoder_stride(frontend)
    kept, dropped = read_utterances(folder, release.tokenizer.encode, stride, units, frontend)
    log.info("%s: %d utterances", folder, len(kept))
    for reason, keys in dropped.items():
        log.warning("%s: %d dropped: %s", folder, len(keys), reason)
    if dropped and Ranks.of().first:
        write_table(report, {key: reason for reason, keys in dropped.items() for key in keys})
    return kept


def make_writer(folder: Path, done: int = 0) -> Writer | None:
    """A tensorboard writer, None with a remark where tensorboard is not installed.

    done: steps; what a run that was killed has drawn behind them is taken back.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("no curves: pip install 'paraformer-toolkit[train]' for tensorboard")
        return None
    writer: Writer = SummaryWriter(
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
    path = path / "model.pt" if path.is_dir() else path
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
    batching = section(Batching, "batching", part(config, "batching"))
    augment = section(Augment, "augment", part(config, "augment"))
    optim = section(Optim, "optim", part(config, "optim"))
    training = section(Training, "training", part(config, "training"))
    device = pick_device(config["device"], ranks)
    ranks.join(device)
    release = build_any(released_config(config))
    if config["init"]:
        initialize(release, str(config["init"]), config["init_in_part"])
    objective = make_objective(config, release, ranks)
    if not ranks.first:  # all have the same weights, and each draws for itself from here
        torch.manual_seed(config["seed"] + ranks.rank)
    folder = check_folder(config["dir"])
    readers = max(1, (os.cpu_count() or 1) // 4)  # the rest of the processor trains
    share = Share(ranks.rank, ranks.world)

    def loader(key: str, augment: Augment | None, seed: int | None) -> Loader | ShardLoader:
        data, inventory = Path(config[key]), config["unit_ctc"]["units"]
        settings = (release.frontend, batching, augment, seed, readers, share)
        if data.is_file():
            encode, ids = release.tokenizer.encode, unit_ids(inventory)
            return ShardLoader(ShardList(data), encode, ids, *settings)
        report = folder / f"dropped_{key}"
        utterances = load_set(data, release, read_units(inventory, data), report)
        return Loader(utterances, *settings)

    train, dev = loader("data", augment, config["seed"]), loader("dev", None, None)
    return Trainer(objective, train, dev, optim, training, folder, device, None, ranks)


def make_objective(
    config: dict[str, Any], release: Release | AlignerRelease, ranks: Ranks = ONE
) -> TrainObjective:
    """What the model is trained for, which its class says."""
    conf = config["model"].get("model_conf") or {}
    weights, frozen = loss_weights(conf), list(config["freeze"] or [])
    heads = Heads(
        frame_seconds(release.frontend, release.model.encoder),
        section(SecondHead, "second_head", part(config, "second_head")),
        Sampler(section(Sampling, "hotwords", part(config, "hotwords"))),
        SeacoWeights(**{key: conf[key] for key in SeacoWeights._fields if key in conf}),
    )
    mwer = section(Mwer, "mwer", part(config, "mwer"))
    if isinstance(release, AlignerRelease):
        if mwer.weight > 0.0:
            raise ConfigError(NO_MWER)
        return AlignerObjective(release.model, weights, specaug(config["model"]), heads, frozen)
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
    )


def clear_run(folder: Path) -> None:
    """Remove what an earlier run left, so that its epochs do not pass for those of the next."""
    for pattern in ("epochs.jsonl", "epoch-*.pt", "last.pt"):
        for path in folder.glob(pattern):
            path.unlink()


def train(config: DictConfig) -> int:
    """Train to the end of the schedule; a run stopped by SIGTERM or SIGUSR1 continues when started
    again.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)  # a DictConfig always is
    settings = {str(key): value for key, value in plain.items()}
    check_values(settings, LIMITS)
    if settings["num_threads"]:
        torch.set_num_threads(settings["num_threads"])
    ranks = Ranks.of()
    if not ranks.first:
        logging.getLogger().setLevel(logging.WARNING)
    seed_everything(settings["seed"])
    try:
        fit(settings, ranks)
    finally:
        leave()
    return 0


def fit(settings: dict[str, Any], ranks: Ranks) -> None:
    """Train; the processes part together, when no model of theirs is left that needs them all."""
    trainer = make_trainer(settings, ranks)
    begin(trainer, settings)
    trainer.run()
    if trainer.writer is not None:
        trainer.writer.close()
    ranks.gather(None)


def begin(trainer: Trainer, settings: dict[str, Any]) -> None:
    """Go on with the run in the folder of the trainer, or make room for a new one."""
    if settings["resume"] or restarted():
        trainer.resume()
    elif trainer.ranks.first:
        clear_run(trainer.folder)
    if not trainer.ranks.first:
        return
    trainer.writer = make_writer(trainer.folder, trainer.position.step)
    # Not before: a run that refuses to go on keeps the configuration that it was trained with.
    released = yaml.safe_dump(released_config(settings), sort_keys=False, allow_unicode=True)
    write_text(trainer.folder / "config.yaml", released)


def main() -> int:
    """Entry of bin/train.py."""
    return run("train", train)
