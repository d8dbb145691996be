"""What the training programs of small models do alike: the whole schedule, then the mean of the
best epochs as a released directory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from paraformer.errors import ConfigError
from paraformer.limits import Limits, check_values
from paraformer.programs.average_model import PRECISIONS
from paraformer.programs.train import clear_run
from paraformer.train.parallel import restarted
from paraformer.train.snapshots import average_weights, best_epochs, read_records, seed_everything
from paraformer.train.trainer import Trainer

log = logging.getLogger(__name__)


def run_schedule(
    config: DictConfig,
    limits: Mapping[str, Limits],
    make_release: Callable[[dict[str, Any]], Any],
    make_trainer: Callable[[dict[str, Any], Any], Trainer],
    save: Callable[..., Path],
) -> int:
    """Train to the end of the schedule; a run stopped by SIGTERM continues when started again.

    save: writes a release into a folder, its weights as `dtype`.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)  # a DictConfig always is
    settings = {str(key): value for key, value in plain.items()}
    check_values(settings, limits)
    if settings["precision"] not in PRECISIONS:
        raise ConfigError(f"precision={settings['precision']}: not known; fp32 or fp16")
    if settings["num_threads"]:
        torch.set_num_threads(settings["num_threads"])
    seed_everything(settings["seed"])
    release = make_release(settings)
    trainer = make_trainer(settings, release)
    if settings["resume"] or restarted():
        trainer.resume()
    else:
        clear_run(trainer.folder)
    trainer.run()
    if not trainer.stopping:
        release.model.load_state_dict(_mean_of_best(settings), strict=True)
        save(trainer.folder / "final", release, dtype=PRECISIONS[settings["precision"]])
    return 0


def _mean_of_best(settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Of the best epochs that are still on disk."""
    folder = Path(settings["dir"])
    records = read_records(folder / "epochs.jsonl")
    on_disk = [r for r in records if (folder / f"epoch-{r['epoch']}.pt").is_file()]
    epochs = best_epochs(on_disk, "token_error_rate", settings["average"])
    log.info("%s: mean of epochs %s", folder / "final", ", ".join(map(str, epochs)))
    return average_weights([folder / f"epoch-{epoch}.pt" for epoch in epochs])
