"""A picture of one utterance: its sound, the CIF weights with their fires, tokens at their times.

A recogniser shows what it heard (BiCif and SeACo models: by the head that gives the times); an
aligner (fa-zh) shows when the `text` that it is given was spoken. Needs matplotlib.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from paraformer.backends.devices import choose_device
from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.ids import key_of
from paraformer.data.corpus.tables import readable
from paraformer.decode.align import ForcedAligner, pair_texts
from paraformer.decode.recognize import Recognizer
from paraformer.errors import ConfigError, DataError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model
from paraformer.models.release import load_aligner, load_directory, read_config
from paraformer.programs.hydra_main import plain, run
from paraformer.report.alignment_plot import (
    SOUNDS,
    Picture,
    draw,
    picture_of_alignment,
    picture_of_recognition,
)
from paraformer.report.figures import Look, save_figure

log = logging.getLogger(__name__)


def plot_alignment(config: DictConfig) -> int:
    """Write `config.out`, whose suffix says which format (.png, .pdf, .svg)."""
    look = Look.of(plain(config))
    if config.sound not in SOUNDS:
        raise ConfigError(f"sound={config.sound}: not known; use {' or '.join(SOUNDS)}")
    out = Path(config.out)
    check_folder(out.parent)
    picture = _picture(config)
    save_figure(draw(picture, look, config.sound), out, "out", config.dpi)
    log.info("%s: %d tokens in %.2f s", readable(str(out)), len(picture.tokens), picture.seconds)
    return 0


def _picture(config: DictConfig) -> Picture:
    directory = find_model(config.model)
    device = choose_device(config.device)
    if read_config(directory, {})["model"] == "MonotonicAligner":
        if not config.text:
            raise ConfigError("text: an aligner needs what was said; give text='...'")
        aligner = ForcedAligner(load_aligner(directory), device)
        wave = read_audio(config.wav, target_fs=aligner.frontend.fs)
        (text,) = pair_texts(str(config.text), [key_of(str(config.wav))])
        if isinstance(text, DataError):
            raise text
        return picture_of_alignment(aligner, wave, text)
    if config.text:
        raise ConfigError("text: this model hears for itself; leave it out, or give an aligner")
    recognizer = Recognizer(load_directory(directory), device)
    wave = read_audio(config.wav, target_fs=recognizer.release.frontend.fs)
    return picture_of_recognition(recognizer, wave)


def main() -> int:
    """Entry of `bin/plot_alignment.py` and `funasr-plot_alignment`."""
    return run("plot_alignment", plot_alignment)
