"""Chooses the usable utterances to train on, by one rule for data directories, known as a whole
beforehand, and for shards, which are read one utterance after another.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from paraformer.data.batches.dataset import FRAME_SECONDS
from paraformer.data.text.tokenizer import CharTokenizer, SentencepieceTokenizer

log = logging.getLogger(__name__)

UNKNOWN = "unknown characters"
SHOWN = 20  # of what the tokenizer does not know, in a line of the log


class Choice(NamedTuple):
    """Limits of the utterances that are used, of those that could be."""

    max_seconds: float = 0.0  # longer ones are not used; 0: of any length
    drop_unknown: bool = False  # those with characters that the model has no token for are not


class Chooser:
    """Applies a choice to one utterance after another, and counts what is not used by reason."""

    def __init__(
        self, tokenizer: CharTokenizer | SentencepieceTokenizer, choice: Choice | None = None
    ) -> None:
        self.tokenizer, self.choice = tokenizer, choice or Choice()
        self.encode = tokenizer.encode_transcript
        self._said: object = None
        self.forget()

    def forget(self) -> None:
        """Count from nothing."""
        self.dropped: Counter[str] = Counter()
        self.holding = 0  # utterances with something that has no token
        self.unknown: Counter[str] = Counter()  # what that is

    def why_not(self, ids: Sequence[int], frames: int, text: str) -> str:
        """The reason not to use an utterance of these tokens and frames of 10 ms; "" if none."""
        unknown = self.tokenizer.unk_id in ids
        if unknown:
            self.holding += 1
            self.unknown.update(self.tokenizer.unknown(text))
        if frames > (self.choice.max_seconds / FRAME_SECONDS or math.inf):
            return f"longer than {self.choice.max_seconds:g} s"
        return UNKNOWN if unknown and self.choice.drop_unknown else ""

    def reasons(self) -> str:
        """Counts of the dropped utterances by reason, for the line of an error."""
        return ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())

    def report(self, where: str | Path) -> None:
        """A line for what has no token and one for each reason to drop, but no line twice."""
        said = (dict(self.dropped), self.holding)
        if said == self._said:
            return
        self._said = said
        if self.holding:
            names = " ".join(f"{char} ({n})" for char, n in self.unknown.most_common(SHOWN))
            more = " ..." if len(self.unknown) > SHOWN else ""
            end = "which stand for the unknown token"
            if self.choice.drop_unknown:
                end = "dropped; drop_unknown=false would train them"
            log.warning("%s: %d hold unknown %s; %s", where, self.holding, names + more, end)
        report_dropped(where, self.dropped)


def report_dropped(where: str | Path, counts: Mapping[str, int]) -> None:
    """A line for each reason, with the number of utterances."""
    for reason, count in counts.items():
        log.warning("%s: %d dropped: %s", where, count, reason)
