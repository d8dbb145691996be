"""Train a voice activity detector: recordings, and where in them somebody speaks, become
`dir`/epoch-N.pt and `dir`/final, which is a released directory.

`data` and `dev` hold wav.scp and segments, whose lines are `id recording begin end` in seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from paraformer.files import check_folder
from paraformer.models.kinds import VAD, VadRelease
from paraformer.models.release import build, load
from paraformer.programs.hydra_main import run
from paraformer.programs.run_folder import make_writer
from paraformer.programs.schedule import run_schedule
from paraformer.programs.settings import part, pick_device, section
from paraformer.train.optim import Optim
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


def make_release(config: dict[str, Any]) -> VadRelease:
    """`model` of the configuration; with `init` the weights and the CMVN of that directory."""
    release = build(part(config, "model"), VAD)
    if config["init"]:
        given = load(VAD, Path(config["init"]), part(config, "model"), graphs=False)
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


def train_vad(config: DictConfig) -> int:
    """See `run_schedule`."""
    return run_schedule(config, make_release, make_trainer)


def main() -> int:
    """Entry of bin/train_vad.py."""
    return run("train_vad", train_vad)
