"""The n-gram language model of a model's folder, or of a file, decides what was said."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from paraformer.data.corpus.tables import decoded
from paraformer.data.text.ngram import Ints
from paraformer.data.text.ngram_table import NgramTable, is_ngram_table
from paraformer.data.text.tokenizer import Vocabulary
from paraformer.decode.search import Hypothesis
from paraformer.errors import ConfigError, DataError
from paraformer.extras import load_extra
from paraformer.limits import MOST_WEIGHT, Limits, check

HEAD_BYTES = 1 << 20  # of an ARPA file that are looked at
BINARY = b"mmap lm "  # what build_binary writes begins so
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # which kenlm unpacks itself
NATS = math.log(10.0)  # of a logarithm to the base 10
NO_MODEL = "none"  # instead of the name of a file
WEIGHT = 0.3


class LanguageModel:
    """An ARPA file, or what kenlm's build_binary makes of one, over the tokens of a recogniser."""

    def __init__(self, path: str | Path) -> None:
        _refuse_other_text(Path(path))
        kenlm = load_extra("kenlm", "lm_file")
        quiet = kenlm.Config()
        quiet.show_progress, quiet.arpa_complain = False, kenlm.ARPALoadComplain.NONE
        try:
            self.model = kenlm.Model(str(path), quiet)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"lm_file={path}: no language model ({reason}); give an ARPA file"
            ) from None

    def score(self, tokens: Sequence[str]) -> float:
        """Natural logarithm of the probability of a whole sentence, its end counted."""
        return NATS * float(self.model.score(" ".join(tokens)))


def _refuse_other_text(path: Path) -> None:
    """An ARPA file has to be UTF-8: kenlm takes others, and would know no word of them."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.startswith((BINARY, *PACKED)):
        try:
            decoded(head[: head.rfind(b"\n") + 1] or head, f"lm_file={path}: ")
        except DataError as error:
            raise ConfigError(str(error)) from None


def shared_language_model(
    path: str, config: Mapping[str, Any] | None = None
) -> LanguageModel | NgramTable | None:
    """The model of a file, read anew only when that has changed; without a name the one that a
    configuration names, if any; None if the name is NO_MODEL.
    """
    named = path or (config or {}).get("lm_file") or NO_MODEL
    if named == NO_MODEL:
        return None
    if not Path(named).is_file():
        raise ConfigError(f"lm_file={named}: no such file; bin/make_arpa.py makes one")
    return _load(str(named), Path(named).stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load(path: str, changed: int) -> LanguageModel | NgramTable:
    return NgramTable(path) if is_ngram_table(Path(path)) else LanguageModel(path)


def own_weight(config: Mapping[str, Any]) -> float:
    """The weight of a language model where the call gives none: `lm_weight` of a config.yaml."""
    own = config.get("lm_weight", WEIGHT)
    check("config.yaml: lm_weight", own, Limits(0, MOST_WEIGHT))
    return float(own)


@lru_cache(maxsize=4)
def words_of(table: NgramTable, tokenizer: Vocabulary) -> Ints:
    """The number of each token of a tokenizer (V,) among those of the table."""
    return table.places(tokenizer.tokens)


def rescore(
    readings: Sequence[Hypothesis],
    tokens_of: Callable[[list[int]], list[str]],
    model: LanguageModel | NgramTable,
    weight: float,
    bonus: float = 0.0,
) -> list[Hypothesis]:
    """The readings with `weight` times their score by the model added and a bonus for each token,
    best first; of equals the one that was.
    """

    def total(found: Hypothesis) -> float:
        said = weight * model.score(tokens_of(found.ids)) if weight else 0.0
        return found.score + said + bonus * len(found.ids)

    scored = [found._replace(score=total(found)) for found in readings]
    return sorted(scored, key=lambda found: -found.score)
