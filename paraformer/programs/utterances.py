"""Which utterances of a data directory are trained on, and which are not and why."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from paraformer.data.dataset import FRAME_SECONDS, Utterance, encoder_stride, read_utterances
from paraformer.data.tables import read_rows, read_table, write_table
from paraformer.errors import ConfigError, DataError
from paraformer.models.checkpoint import AlignerRelease, Release, Tokenizer
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
    folder: Path,
    release: Release | AlignerRelease,
    units: Units,
    report: Path,
    choice: Choice | None = None,
) -> list[Utterance]:
    """Utterances of a data directory; what is dropped is counted, and listed in `report`."""
    frontend, tokenizer = release.frontend, release.tokenizer
    stride = encoder_stride(frontend)
    kept, dropped = read_utterances(folder, tokenizer.encode, stride, units, frontend)
    kept = (choice or Choice()).choose(folder, kept, dropped, tokenizer)
    log.info("%s: %d utterances", folder, len(kept))
    for reason, keys in dropped.items():
        log.warning("%s: %d dropped: %s", folder, len(keys), reason)
    if dropped and Ranks.of().first:
        write_table(report, {key: reason for reason, keys in dropped.items() for key in keys})
    return kept


class Choice(NamedTuple):
    """Which usable utterances are used."""

    max_seconds: float = 0.0  # longer ones are not; 0: of any length
    drop_unknown: bool = False  # those with characters that the model has no token for are not

    def choose(
        self,
        folder: Path,
        kept: list[Utterance],
        dropped: dict[str, list[str]],
        tokenizer: Tokenizer,
    ) -> list[Utterance]:
        """Those that are used; the others go to `dropped`. Unknown characters are named."""
        limit = self.max_seconds / FRAME_SECONDS or math.inf
        unknown = {u.key for u in kept if tokenizer.unk_id in u.ids}
        if unknown:
            names = unknown_pieces(read_table(folder / "text"), unknown, tokenizer)
            end = "dropped" if self.drop_unknown else "which stand for the unknown token"
            log.warning("%s: %d hold unknown %s; %s", folder, len(unknown), names, end)
        chosen = list[Utterance]()
        for utterance in kept:
            reason = "unknown characters" if self.drop_unknown and utterance.key in unknown else ""
            if utterance.frames > limit:
                reason = f"longer than {self.max_seconds:g} s"
            if reason:
                dropped.setdefault(reason, []).append(utterance.key)
            else:
                chosen.append(utterance)
        if not chosen:
            counts = ", ".join(f"{len(keys)} {reason}" for reason, keys in dropped.items())
            raise DataError(f"{folder}: no usable utterance ({counts})")
        return chosen


def unknown_pieces(
    texts: Mapping[str, str], keys: Collection[str], tokenizer: Tokenizer, shown: int = 20
) -> str:
    """What of some texts a model has no token for, the most frequent first, with its counts."""
    counts: Counter[str] = Counter()
    for key in keys:
        counts.update(tokenizer.unknown(texts[key]))
    text = " ".join(f"{char} ({count})" for char, count in counts.most_common(shown))
    return f"{text} ..." if len(counts) > shown else text
