"""The training programs of small models run the whole schedule, then write the mean of the best
epochs as a released directory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from paraformer.models.release import save_directory
from paraformer.programs.run_folder import clear_run
from paraformer.programs.settings import PRECISIONS, get_ready, read_settings
from paraformer.train.parallel import restarted
from paraformer.train.snapshots import best_epochs, mean_of_epochs, records_on_disk
from paraformer.train.trainer import Trainer

log = logging.getLogger(__name__)


def run_schedule(
    config: DictConfig,
    make_release: Callable[[dict[str, Any]], Any],
    make_trainer: Callable[[dict[str, Any], Any], Trainer],
) -> int:
    """Train to the end of the schedule; a run stopped by SIGTERM continues when started again."""
    settings = read_settings(config)
    get_ready(settings)
    release = make_release(settings)
    trainer = make_trainer(settings, release)
    if settings["resume"] or restarted():
        trainer.resume()
    else:
        clear_run(trainer.folder)
    trainer.run()
    if not trainer.stopping:
        weights = _mean_of_best(trainer.folder, settings["average"])
        release.model.load_state_dict(weights, strict=True)
        dtype = PRECISIONS[settings["precision"]]
        save_directory(trainer.folder / "final", release, dtype=dtype)
    return 0


def _mean_of_best(folder: Path, count: int) -> dict[str, torch.Tensor]:
    """The mean weights of the best epochs that are still on disk."""
    epochs = best_epochs(records_on_disk(folder), "token_error_rate", count)
    log.info("%s: mean of epochs %s", folder / "final", ", ".join(map(str, epochs)))
    return mean_of_epochs(folder, epochs)
