"""Train a voice activity detector: recordings, and where in them somebody speaks, become
`dir`/epoch-N.pt and `dir`/final, which is a released directory.

`data` and `dev` hold wav.scp and segments, whose lines are `id recording begin end` in seconds.
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
from paraformer.models.checkpoint import VadRelease, build_vad, load_vad, save_vad
from paraformer.programs.average_model import PRECISIONS
from paraformer.programs.hydra_main import run
from paraformer.programs.train import (
    LIMITS,
    clear_run,
    make_writer,
    part,
    pick_device,
    section,
)
from paraformer.train.optim import Optim
from paraformer.train.snapshots import (
    average_weights,
    best_epochs,
    read_records,
    seed_everything,
)
from paraformer.train.trainer import Training
from paraformer.train.vad import (
    PieceLoader,
    Pieces,
    Recording,
    VadObjective,
    VadTrainer,
    normalisation,
    read_recordings,
)

log = logging.getLogger(__name__)

OWN_LIMITS = {"average": Limits(1, whole=True)}


def make_release(config: dict[str, Any]) -> VadRelease:
    """`model` of the configuration; with `init` the weights and the CMVN of that directory."""
    release = build_vad(part(config, "model"))
    if config["init"]:
        given = load_vad(Path(config["init"]), part(config, "model"))
        release.model.load_state_dict(given.model.state_dict())
        release.frontend.cmvn = given.frontend.cmvn
    return release


def make_trainer(config: dict[str, Any], release: VadRelease) -> VadTrainer:
    """Everything that the configuration names, put together; the CMVN is the training data's."""
    pieces = section(Pieces, "pieces", part(config, "pieces"))
    optim = section(Optim, "optim", part(config, "optim"))
    training = section(Training, "training", part(config, "training"))
    folder = check_folder(config["dir"])
    train, dev = (_read(Path(config[key]), release) for key in ("data", "dev"))
    if release.frontend.cmvn is None:
        release.frontend.cmvn = normalisation(train, release.frontend)
    return VadTrainer(
        VadObjective(release.model, release.options),
        PieceLoader(train, release.frontend, pieces, config["seed"]),
        PieceLoader(dev, release.frontend, pieces),
        optim,
        training,
        folder,
        pick_device(config["device"]),
        make_writer(folder),
    )


def _read(folder: Path, release: VadRelease) -> list[Recording]:
    recordings = read_recordings(folder, release.frontend)
    frames = sum(len(recording.labels) for recording in recordings)
    speech = sum(int(recording.labels.sum()) for recording in recordings)
    log.info(
        "%s: %d recordings, %d frames, %.0f %% of them speech",
        folder,
        len(recordings),
        frames,
        100 * speech / frames,
    )
    return recordings


def write_final(config: dict[str, Any], release: VadRelease) -> Path:
    """`dir`/final: the mean of the best epochs that are still on disk."""
    folder = Path(config["dir"])
    records = read_records(folder / "epochs.jsonl")
    on_disk = [r for r in records if (folder / f"epoch-{r['epoch']}.pt").is_file()]
    epochs = best_epochs(on_disk, "token_error_rate", config["average"])
    weights = average_weights([folder / f"epoch-{epoch}.pt" for epoch in epochs])
    release.model.load_state_dict(weights, strict=True)
    log.info("%s: mean of epochs %s", folder / "final", ", ".join(map(str, epochs)))
    return save_vad(folder / "final", release, dtype=PRECISIONS[config["precision"]])


def train_vad(config: DictConfig) -> int:
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
    """Entry of bin/train_vad.py."""
    return run("train_vad", train_vad)
