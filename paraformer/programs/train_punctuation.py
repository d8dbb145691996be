"""Train a punctuation model: passages with marks become `dir`/epoch-N.pt and `dir`/final, which is
a released directory.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from paraformer.files import check_folder
from paraformer.models.kinds import PUNCTUATION, PunctuationRelease
from paraformer.models.release import build, merge, weights_of
from paraformer.models.weights import load_weights
from paraformer.programs.hydra_main import run
from paraformer.programs.run_folder import make_writer
from paraformer.programs.schedule import run_schedule
from paraformer.programs.settings import pick_device, section
from paraformer.train.optim import Optim
from paraformer.train.punctuation import (
    PassageLoader,
    PunctuationObjective,
    PunctuationTrainer,
    Sampling,
    read_passages,
)
from paraformer.train.trainer import Training

log = logging.getLogger(__name__)

ENDS = ("。", "？")  # marks that close a sentence


def make_release(config: dict[str, Any]) -> PunctuationRelease:
    """`model` of the configuration with its tokens, and the weights to start from."""
    listed = {"tokenizer_conf": {"token_list": str(config["tokens"])}}
    release = build(merge(config["model"], listed), PUNCTUATION)
    if config["init"]:
        path = Path(config["init"])
        load_weights(release.model, weights_of(path) if path.is_dir() else path)
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


def train_punctuation(config: DictConfig) -> int:
    """See `run_schedule`."""
    return run_schedule(config, make_release, make_trainer)


def main() -> int:
    """Entry of bin/train_punctuation.py."""
    return run("train_punctuation", train_punctuation)
