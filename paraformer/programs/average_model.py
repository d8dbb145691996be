"""Average the weights of several epochs and write them as a released directory."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from omegaconf import DictConfig

from paraformer.errors import ConfigError
from paraformer.files import check_folder
from paraformer.models.release import build_any, read_yaml, save_directory, writing_directory
from paraformer.models.weights import load_state
from paraformer.programs.hydra_main import run
from paraformer.programs.settings import PRECISIONS, read_settings
from paraformer.train.snapshots import best_epochs, mean_of_epochs, records_on_disk

_log = logging.getLogger(__name__)


def average_model(config: DictConfig) -> int:
    """The epochs with the best metric among those that are still on disk."""
    read_settings(config)
    folder, out = Path(config.dir), Path(config.out)
    if config.example and not Path(config.example).is_dir():
        raise ConfigError(f"example={config.example}: no such folder; name one of clips")
    records = records_on_disk(folder)
    rated = [record for record in records if config.last or config.metric in record]
    if not rated:
        known = ", ".join(records[0]) if records else "none: no epoch is finished"
        raise ConfigError(f"{folder}: no metric '{config.metric}'; there are {known}")
    epochs = best_epochs(rated, config.metric, config.num, last=config.last)
    release = build_any(read_yaml(folder / "config.yaml"))
    weights = mean_of_epochs(folder, epochs)
    load_state(release.model, weights, folder / f"epoch-{epochs[-1]}.pt")
    with writing_directory(check_folder(out)) as draft:
        if config.example:
            shutil.copytree(config.example, draft / "example")
        save_directory(draft, release, dtype=PRECISIONS[config.precision])
    _log.info("%s: mean of epochs %s", out, ", ".join(map(str, epochs)))
    return 0


def main() -> int:
    """`bin/average_model.py`."""
    return run("average_model", average_model)
