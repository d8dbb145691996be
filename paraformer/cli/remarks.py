"""The remark that the bundled model is small, said once where somebody watches."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paraformer.options import DEFAULT_MODEL

REAL_CER = 44  # per cent of the characters of real read speech, by the model's card
UNSURE = 0.5  # a mean confidence of words below this is doubted even where the model was named


@dataclass
class SmallModel:
    """Who chose the bundled recogniser, and how sure it was of the words of a command."""

    model: str
    named: bool  # by the user, who may know it
    total: float = 0.0
    words: int = 0

    def add(self, result: Mapping[str, Any]) -> None:
        """Count the confidence of the words of one more result."""
        words = result.get("words") or []
        confidences = [word["confidence"] for word in words if "confidence" in word]
        self.total += sum(confidences)
        self.words += len(confidences)

    def say(self) -> None:
        """Tell on a terminal what the model is, unless silence is asked for or it was chosen and is
        sure enough.
        """
        unsure = self.total < UNSURE * self.words
        wanted = self.model == DEFAULT_MODEL and (unsure or not self.named)
        if wanted and sys.stderr.isatty() and logging.root.isEnabledFor(logging.WARNING):
            print(
                f"{DEFAULT_MODEL} is a small model to try things offline: some {REAL_CER} % of "
                "the characters of real speech are wrong; +model=paraformer-zh is the released one",
                file=sys.stderr,
            )
