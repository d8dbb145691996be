"""Train a model: Kaldi data directories become `dir`/epoch-N.pt and the config.yaml of a released
directory.

`data` and `dev` hold text [utt2spk text_units], and feats.scp with utt2num_frames, or else wav.scp
[segments utt2dur], whose features are made while the model trains. Either may also be a list of
shards, as make_shards writes it. Under torchrun several processes share each batch.
"""

from __future__ import annotations

import logging
from typing import Any

from omegaconf import DictConfig

from paraformer.data.audio import channels
from paraformer.programs.hydra_main import run
from paraformer.programs.run_folder import begin, digest_of
from paraformer.programs.training import make_trainer, one_remark, prepare, released_config
from paraformer.train.parallel import Ranks, end, leave


def train(config: DictConfig) -> int:
    """Train to the end of the schedule; a run stopped by SIGTERM or SIGUSR1 continues when started
    again.
    """
    ranks = Ranks.of()
    if not ranks.first:  # all say the same of the settings, the model and the data
        logging.getLogger().setLevel(logging.ERROR)
    try:
        fit(prepare(config), ranks)
    finally:
        leave()
    return 0


def fit(settings: dict[str, Any], ranks: Ranks) -> None:
    """Train; the processes part together, when no model of theirs is left that needs them all."""
    trainer = make_trainer(settings, ranks)
    if settings["lang"] is None:
        settings["digest"] = digest_of(trainer.train_loader)
    begin(trainer, settings, released_config(settings))
    if not ranks.first:
        logging.getLogger().setLevel(logging.WARNING)  # and now each of its share
    with one_remark(channels.__name__):
        trainer.run()
    if trainer.writer is not None:
        trainer.writer.close()
    ranks.gather(None)


def main() -> int:
    """Entry of bin/train.py."""
    return end(run("train", train))
