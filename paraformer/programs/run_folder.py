"""The folder of a training run: what its record says, and what an earlier run left in it."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Any

import yaml

from paraformer.data.batches.dataset import Loader
from paraformer.data.corpus.tables import write_text
from paraformer.documents import load_yaml
from paraformer.errors import ConfigError
from paraformer.extras import load_extra
from paraformer.files import remove_drafts
from paraformer.train.parallel import restarted
from paraformer.train.trainer import Batches, Trainer, Writer

log = logging.getLogger(__name__)


def begin(trainer: Trainer, settings: dict[str, Any], released: dict[str, Any]) -> None:
    """Go on with the run in the folder of the trainer, or make room for a new one.

    released: the config.yaml of the model that it trains.
    """
    if settings["resume"] or restarted():
        refuse_other_start(trainer, settings)
        trainer.resume()
    elif trainer.ranks.first:
        clear_run(trainer.folder)
    if not trainer.ranks.first:
        return
    trainer.writer = make_writer(trainer.folder, trainer.position.step)
    # Not before: a run that refuses to go on keeps the configuration that it was trained with.
    text = yaml.safe_dump(released, sort_keys=False, allow_unicode=True)
    write_text(trainer.folder / "config.yaml", text)
    whole = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    write_text(trainer.folder / "train.yaml", whole)


def refuse_other_start(trainer: Trainer, settings: dict[str, Any]) -> None:
    """A fine-tuning goes on with the model and the utterances that it began with alone."""
    record = trainer.folder / "train.yaml"
    if settings["lang"] is not None or not record.is_file() or not trainer.snapshot.is_file():
        return
    before = load_yaml(record)
    remedy = "train in another folder or with resume=false"
    if before["init"] != settings["init"]:
        raise ConfigError(
            f"{trainer.folder}: its training began with {before['init']}, not {settings['init']}; "
            f"{remedy}"
        )
    if before.get("digest", settings["digest"]) != settings["digest"]:
        raise ConfigError(f"{trainer.folder}: its training began with other utterances; {remedy}")


def digest_of(loader: Batches) -> int:
    """A number that differs between sets of utterances and of texts; 0 for shards, which are not
    known before they are read.
    """
    digest = 0
    for utterance in loader.utterances if isinstance(loader, Loader) else ():
        digest = zlib.crc32(f"{utterance.key} {utterance.ids}\n".encode(), digest)
    return digest


def clear_run(folder: Path) -> None:
    """Remove what an earlier run left, so that its epochs do not pass for those of the next: first
    what a run goes on from.
    """
    remove_drafts(folder)
    for pattern in ("last.pt", "epochs.jsonl", "epoch-*.pt", "train.yaml"):
        for path in folder.glob(pattern):
            path.unlink()


def make_writer(folder: Path, done: int = 0) -> Writer | None:
    """A tensorboard writer, None with a remark where tensorboard is not installed.

    done: steps; what a run that was killed has drawn behind them is taken back.
    """
    try:
        summary_writer = load_extra("torch.utils.tensorboard", "curves").SummaryWriter
    except ConfigError as error:
        log.warning("%s", error)
        return None
    writer: Writer = summary_writer(
        str(folder / "tensorboard"), purge_step=done + 1 if done else None
    )
    return writer
