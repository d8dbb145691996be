"""Train a punctuation model: passages with marks become `dir`/epoch-N.pt and `dir`/final, which is
a released directory.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from paraformer.errors import ConfigError
from paraformer.formats import check_folder
from paraformer.limits import Limits, check_values
from paraformer.models.checkpoint import (
    PunctuationRelease,
    build_punctuation,
    merge,
    save_punctuation,
)
from paraformer.models.weights import load_weights
from paraformer.programs.average_model import PRECISIONS
from paraformer.programs.hydra_main import run
from paraformer.programs.train import LIMITS, clear_run, make_writer, pick_device, section
from paraformer.train.optim import Optim
from paraformer.train.punctuation import (
    PassageLoader,
    PunctuationObjective,
    PunctuationTrainer,
    Sampling,
    read_passages,
)
from paraformer.train.snapshots import (
    average_weights,
    best_epochs,
    read_records,
    seed_everything,
)
from paraformer.train.trainer import Training

log = logging.getLogger(__name__)

OWN_LIMITS = {"average": Limits(1, whole=True), "label_smoothing": Limits(0, 1, below=True)}
ENDS = ("。", "？")  # marks that close a sentence


def make_release(config: dict[str, Any]) -> PunctuationRelease:
    """`model` of the configuration with its tokens, and the weights to start from."""
    listed = {"tokenizer_conf": {"token_list": str(config["tokens"])}}
    release = build_punctuation(merge(config["model"], listed))
    if config["init"]:
        path = Path(config["init"])
        load_weights(release.model, path / "model.pt" if path.is_dir() else path)
    return release


def make_trainer(config: dict[str, Any], release: PunctuationRelease) -> PunctuationTrainer:
    """Everything that the configuration names, put together."""
    sampling = section(Sampling, "sampling", config["sampling"])
    optim = section(Optim, "optim", config["optim"])
    training = section(Training, "training", config["training"])
    folder = check_folder(config["dir"])
    ends = [number for number, mark in enumerate(release.marks) if mark in ENDS]

    def loader(key: str, seed: int | None) -> PassageLoader:
        passages = read_passages(config[key], release.tokenizer, release.marks)
        words = sum(len(passage.ids) for passage in passages)
        log.info("%s: %d passages, %d words", config[key], len(passages), words)
        return PassageLoader(passages, ends, release.tokenizer.unk_id, sampling, seed)

    return PunctuationTrainer(
        PunctuationObjective(release, config["label_smoothing"]),
        loader("data", config["seed"]),
        loader("dev", None),
        optim,
        training,
        folder,
        pick_device(config["device"]),
        make_writer(folder),
    )


def write_final(config: dict[str, Any], release: PunctuationRelease) -> Path:
    """`dir`/final: the mean of the best epochs that are still on disk."""
    folder = Path(config["dir"])
    records = read_records(folder / "epochs.jsonl")
    on_disk = [r for r in records if (folder / f"epoch-{r['epoch']}.pt").is_file()]
    epochs = best_epochs(on_disk, "token_error_rate", config["average"])
    weights = average_weights([folder / f"epoch-{epoch}.pt" for epoch in epochs])
    release.model.load_state_dict(weights, strict=True)
    log.info("%s: mean of epochs %s", folder / "final", ", ".join(map(str, epochs)))
    return save_punctuation(folder / "final", release, dtype=PRECISIONS[config["precision"]])


def train_punctuation(config: DictConfig) -> int:
    """Train to the end of the schedule; a run stopped by SIGTERM continues when started again."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)  # a DictConfig always is
    settings = {str(key): value for key, value in plain.items()}
    check_values(settings, LIMITS | OWN_LIMITS)
    if settings["precision"] not in PRECISIONS:
        raise ConfigError(f"precision={settings['precision']}: not known; fp32 or fp16")
    if settings["num_threads"]:
        torch.set_num_threads(settings["num_threads"])
    seed_everything(settings["seed"])
    release = make_release(settings)
    trainer = make_trainer(settings, release)
    if settings["resume"]:
        trainer.resume()
    else:
        clear_run(trainer.folder)
    trainer.run()
    if not trainer.stopping:
        write_final(settings, release)
    return 0


def main() -> int:
    """Entry of bin/train_punctuation.py."""
    return run("train_punctuation", train_punctuation)
