"""Average the weights of several epochs and write them as a released directory."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import torch
import yaml
from omegaconf import DictConfig

from paraformer.errors import ConfigError
from paraformer.models.checkpoint import build, save_directory
from paraformer.programs.hydra_main import run
from paraformer.train.snapshots import average_weights, best_epochs, read_records

_log = logging.getLogger(__name__)

PRECISIONS = {"fp32": None, "fp16": torch.float16}


def average_model(config: DictConfig) -> int:
    """The epochs with the best metric among those that are still on disk."""
    folder = Path(config.dir)
    if config.precision not in PRECISIONS:
        raise ConfigError(f"precision={config.precision}: not known; fp32 or fp16")
    records = [
        record
        for record in read_records(folder / "epochs.jsonl")
        if (folder / f"epoch-{record['epoch']}.pt").is_file()
    ]
    if not records or (not config.last and config.metric not in records[0]):
        known = ", ".join(records[0]) if records else "none: no epoch is finished"
        raise ConfigError(f"{folder}: no metric '{config.metric}'; there are {known}")
    epochs = best_epochs(records, config.metric, config.num, last=config.last)
    release = build(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf8")))
    weights = average_weights([folder / f"epoch-{epoch}.pt" for epoch in epochs])
    release.model.load_state_dict(weights, strict=True)
    out = save_directory(config.out, release, dtype=PRECISIONS[config.precision])
    if config.example:
        shutil.copytree(config.example, out / "example", dirs_exist_ok=True)
    _log.info("%s: mean of epochs %s", out, ", ".join(map(str, epochs)))
    return 0


def main() -> int:
    """`bin/average_model.py`."""
    return run("average_model", average_model)
