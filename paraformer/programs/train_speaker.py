"""Train a speaker model: clips of many speakers become `dir`/epoch-N.pt and `dir`/final, which is
a released directory.

`data` and `dev` hold feats.scp and utt2spk; the speakers of one are not those of the other.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from paraformer.data.batches.augment import Augment
from paraformer.errors import DataError
from paraformer.files import check_folder
from paraformer.models.kinds import SPEAKER, SpeakerRelease
from paraformer.models.release import build, load_speakers
from paraformer.programs.hydra_main import run
from paraformer.programs.run_folder import make_writer
from paraformer.programs.schedule import run_schedule
from paraformer.programs.settings import part, pick_device, section
from paraformer.train.optim import Optim
from paraformer.train.speaker_start import begin
from paraformer.train.speakers import (
    ClipLoader,
    CropLoader,
    Crops,
    Margin,
    SpeakerObjective,
    SpeakerTrainer,
    Voice,
    read_voices,
)
from paraformer.train.trainer import Training

log = logging.getLogger(__name__)

CLIPS_OF_A_SPEAKER = 4  # make the direction that a speaker has at the start


def make_release(config: dict[str, Any]) -> SpeakerRelease:
    """`model` of the configuration; with `init` the weights of that directory."""
    release: SpeakerRelease = build(part(config, "model"), SPEAKER)
    if config["init"]:
        given = load_speakers(Path(config["init"]), part(config, "model"))
        release.model.load_state_dict(given.model.state_dict())
    return release


def make_trainer(config: dict[str, Any], release: SpeakerRelease) -> SpeakerTrainer:
    """Everything that the configuration names, put together."""
    crops = section(Crops, "crops", part(config, "crops"))
    augment = section(Augment, "augment", part(config, "augment"))
    margin = section(Margin, "margin", part(config, "margin"))
    optim = section(Optim, "optim", part(config, "optim"))
    training = section(Training, "training", part(config, "training"))
    folder = check_folder(config["dir"])
    voices, names = _read(Path(config["data"]), release)
    unseen, others = _read(Path(config["dev"]), release)
    known = sorted(set(names) & set(others))
    if known:
        raise DataError(f"{config['dev']}: speaker '{known[0]}' is trained on; give others")
    objective = SpeakerObjective(release.model, len(names), margin)
    loader = CropLoader(voices, crops, augment, config["seed"])
    goes_on = config["resume"] and (folder / "last.pt").is_file()
    if config["informed_start"] and not config["init"] and not goes_on:
        begin(release.model, loader.epoch(0))  # an epoch that no training has
    if (config["init"] or config["informed_start"]) and not goes_on:
        objective.set_directions(voices, crops.dev_frames, CLIPS_OF_A_SPEAKER)
    return SpeakerTrainer(
        objective,
        loader,
        ClipLoader(unseen, crops.dev_frames),
        optim,
        training,
        folder,
        pick_device(config["device"]),
        make_writer(folder),
    )


def _read(folder: Path, release: SpeakerRelease) -> tuple[list[Voice], list[str]]:
    voices, names = read_voices(folder, release.frontend.n_mels)
    log.info("%s: %d clips of %d speakers", folder, len(voices), len(names))
    return voices, names


def train_speaker(config: DictConfig) -> int:
    """See `run_schedule`."""
    return run_schedule(config, make_release, make_trainer)


def main() -> int:
    """Entry of bin/train_speaker.py."""
    return run("train_speaker", train_speaker)
