"""Error rates of text with speakers (cpCER, arXiv 2004.09249): the words of each speaker of a
recording, one behind another, against those of the speaker who stands for him at the least errors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from paraformer.data.corpus.der import best_pairs
from paraformer.data.corpus.tables import fields, iter_rows
from paraformer.data.text.score import Units
from paraformer.errors import DataError

COMMENT = ";;"
UNSCORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
NOBODY = "-"  # in the place of a speaker whom nobody stands for


class Said(NamedTuple):
    """A stretch of a recording that one speaker says; seconds."""

    start: float
    speaker: str
    text: str


Recordings = Mapping[str, Sequence[Said]]


def is_stm(path: str | Path) -> bool:
    """Whether a file is one by its name: `stm`, or `x.stm`."""
    return Path(path).name == "stm" or Path(path).suffix == ".stm"


def read_stm(path: str | Path) -> dict[str, list[Said]]:
    """Recording -> what is said in it, in the order of time; channels are one recording's."""
    found: dict[str, list[Said]] = defaultdict(list)
    for row in iter_rows(path):
        if row.key.startswith(COMMENT):
            continue
        parts = fields(row.value)
        try:
            speaker, start, _ = parts[1], float(parts[2]), float(parts[3])
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{path}:{row.line}: no line of an STM; write `file channel speaker start end "
                "[<label>] words`, times in seconds"
            ) from error
        words = parts[4:]
        if words and words[0].startswith("<") and words[0].endswith(">"):
            words = words[1:]
        if words != [UNSCORED]:
            found[row.key].append(Said(start, speaker, " ".join(words)))
    return {key: sorted(said, key=lambda one: one.start) for key, said in found.items()}


def whole_texts(recordings: Recordings) -> dict[str, str]:
    """All that is said in each recording in the order of time, whoever says it."""
    return {key: " ".join(one.text for one in said) for key, said in recordings.items()}


def speaker_texts(
    refs: Recordings, hyps: Recordings, split: Callable[[str], Units]
) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of speakers by `recording:speaker=speaker of the hypothesis`, each beside that of
    who stands for him; `split` makes the units of a text.
    """
    ours: dict[str, str] = {}
    theirs: dict[str, str] = {}
    for recording, said in refs.items():
        ref, hyp = _texts(said), _texts(hyps.get(recording, ()))
        for one, other in _standing(ref, hyp, split):
            key = f"{recording}:{one or NOBODY}={other or NOBODY}"
            ours[key] = ref.get(one, "")
            if other:
                theirs[key] = hyp[other]
    return ours, theirs


def _texts(said: Sequence[Said]) -> dict[str, str]:
    texts: dict[str, list[str]] = defaultdict(list)
    for one in said:
        texts[one.speaker].append(one.text)
    return {speaker: " ".join(own) for speaker, own in texts.items()}


def _standing(
    ref: Mapping[str, str], hyp: Mapping[str, str], split: Callable[[str], Units]
) -> list[tuple[str, str]]:
    """Pairs of speakers with the fewest errors together; "" beside one who has no other."""
    most = max(len(ref), len(hyp))
    ours, theirs = ([*texts, *[""] * (most - len(texts))] for texts in (ref, hyp))
    rows = [split(ref.get(name, "")) for name in ours]
    columns = [split(hyp.get(name, "")) for name in theirs]
    errors = [[Levenshtein.distance(row, column) for column in columns] for row in rows]
    pairs = [(ours[a], theirs[b]) for a, b in best_pairs(-np.array(errors, float))]
    return [pair for pair in pairs if any(pair)]
