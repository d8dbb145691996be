"""Find a learning rate to train with, by a hundred steps with rates that rise from lr_finder.low to
lr_finder.high, of a model that is thrown away.

Takes what train.py takes. Prints the rate at which the loss on dev falls fastest, and writes
`dir`/lr_finder.tsv: the rate and the losses of each step.
"""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from paraformer.data.audio import channels
from paraformer.data.corpus.tables import write_text
from paraformer.errors import DataError
from paraformer.programs.hydra_main import run
from paraformer.programs.settings import part, section
from paraformer.programs.training import make_trainer, one_remark, prepare
from paraformer.train.lr_finder import Sweep, steepest, sweep

_log = logging.getLogger(__name__)


def find_lr(config: DictConfig) -> int:
    """Sweep, write the table and print the rate."""
    settings = prepare(config)
    limits = section(Sweep, "lr_finder", part(settings, "lr_finder"))
    trainer = make_trainer(settings)
    with one_remark(channels.__name__):
        trials = list(sweep(trainer, limits))
    path = trainer.folder / "lr_finder.tsv"
    rows = "".join(f"{t.rate:.4g}\t{t.loss:.6g}\t{t.dev_loss:.6g}\n" for t in trials)
    write_text(path, f"lr\tloss\tdev_loss\n{rows}")
    rate = steepest(trials)
    if rate is None:
        raise DataError(f"{path}: no rate lowers the loss; look at the table and at the data")
    _log.info("%d steps, table in %s", len(trials), path)
    print(f"{rate:.2g}")
    return 0


def main() -> int:
    """`bin/find_lr.py`."""
    return run("train", find_lr)
