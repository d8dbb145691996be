"""A picture of who speaks when: the sound in the colours of its speakers, and their turns below.

`hyp` is what `diarize` or another tool has found; `ref`, where there is one, the truth, which is
drawn below. Needs matplotlib.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.ids import key_of
from paraformer.data.corpus.rttm import NamedTurn, read_rttm
from paraformer.data.corpus.tables import readable
from paraformer.errors import DataError
from paraformer.files import check_folder
from paraformer.programs.hydra_main import plain, run
from paraformer.report.figures import Look, save_figure
from paraformer.report.turns_plot import draw_turns

log = logging.getLogger(__name__)

RATE = 16000  # of the sound that is drawn


def plot_turns(config: DictConfig) -> int:
    """Write `config.out`, whose suffix says which format (.png, .pdf, .svg)."""
    look = Look.of(plain(config))
    out = Path(config.out)
    check_folder(out.parent)
    name = str(config.key or key_of(str(config.wav)))
    tables = {"found": turns_of(config.hyp, name)}
    if config.ref:
        tables["true"] = turns_of(config.ref, name)
    wave = read_audio(config.wav, target_fs=RATE).numpy()
    save_figure(draw_turns(wave, RATE, tables, look), out, "out", config.dpi)
    log.info("%s: %d turns", readable(str(out)), len(tables["found"]))
    return 0


def turns_of(path: str, name: str) -> list[NamedTurn]:
    """The turns of a recording in an RTTM; where that tells of one recording alone, of that."""
    found = read_rttm(path)
    if name in found:
        return found[name]
    if len(found) != 1:
        known = ", ".join(sorted(found)[:5]) or "none"
        raise DataError(f"{path}: has no turns of '{name}'; give key=, one of: {known}")
    return next(iter(found.values()))


def main() -> int:
    """Entry of `bin/plot_turns.py` and `funasr-plot_turns`."""
    return run("plot_turns", plot_turns)
