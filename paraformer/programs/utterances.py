"""Utterances of a data directory are chosen for training; those that are left out get a reason."""

from __future__ import annotations

import logging
from pathlib import Path

from paraformer.data.batches.dataset import Utterance, encoder_stride, read_utterances
from paraformer.data.batches.selection import Chooser
from paraformer.data.corpus.tables import read_rows, read_table, write_table
from paraformer.data.features.frontend import Frontend
from paraformer.errors import ConfigError, DataError
from paraformer.train.parallel import Ranks

log = logging.getLogger(__name__)

Units = dict[str, list[int]]


def unit_ids(inventory: object) -> dict[str, int]:
    """The second inventory, one unit a line; 0 is the blank. Empty where there is none."""
    if not inventory:
        return {}
    names = [row.key for row in read_rows(str(inventory))]
    return {"<blank>": 0} | {name: number for number, name in enumerate(names, start=1)}


def read_units(inventory: object, folder: Path) -> Units:
    """`text_units` of a data directory in numbers, empty without an inventory."""
    ids = unit_ids(inventory)
    if not ids:
        return {}
    table = read_table(folder / "text_units")
    unknown = {u for line in table.values() for u in line.split() if u not in ids}
    if unknown:
        raise ConfigError(
            f"{folder / 'text_units'}: not in {inventory}: {' '.join(sorted(unknown)[:5])}"
        )
    return {key: [ids[u] for u in line.split()] for key, line in table.items()}


def load_set(
    folder: Path, chooser: Chooser, frontend: Frontend, units: Units, report: Path
) -> list[Utterance]:
    """Utterances of a data directory; what is dropped is counted, and listed in `report`."""
    stride = encoder_stride(frontend)
    usable, dropped = read_utterances(folder, chooser.encode, stride, units, frontend)
    unknown = chooser.tokenizer.unk_id
    texts = read_table(folder / "text") if any(unknown in u.ids for u in usable) else {}
    kept = list[Utterance]()
    for utterance in usable:
        reason = chooser.why_not(utterance.ids, utterance.frames, texts.get(utterance.key, ""))
        if reason:
            dropped.setdefault(reason, []).append(utterance.key)
        else:
            kept.append(utterance)
    chooser.dropped.update({reason: len(keys) for reason, keys in dropped.items()})
    log.info("%s: %d utterances", folder, len(kept))
    chooser.report(folder)
    if not kept:
        raise DataError(f"{folder}: no usable utterance ({chooser.reasons()})")
    if Ranks.of().first:
        report.unlink(missing_ok=True)  # of an earlier run
        if dropped:
            write_table(report, {key: reason for reason, keys in dropped.items() for key in keys})
    return kept
