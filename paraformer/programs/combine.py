"""Combine what several models, or several readings of one, say of the same utterances (ROVER).

`systems` are folders that decode.py wrote, the best one first. Each has one vote a token, or what
`weights` says; with nbest above 1 the readings of nbest/N share it by their probabilities.
Writes into `out`: text and token. An utterance that a system lacks is voted on by the others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.corpus.tables import read_table, write_table
from paraformer.decode.combine import Reading, combine
from paraformer.decode.text import postprocess
from paraformer.errors import ConfigError, DataError
from paraformer.files import check_folder, together
from paraformer.limits import Limits, check
from paraformer.programs.hydra_main import run

log = logging.getLogger(__name__)

LIMITS = {"nbest": Limits(1, whole=True), "scale": Limits(0)}
WORD_BEGIN = "▁"  # of sentencepiece


def combine_systems(config: DictConfig) -> int:
    """Write the combined readings of `config.systems` into `config.out`."""
    for name, limits in LIMITS.items():
        check(name, config[name], limits)
    folders = [Path(str(folder)) for folder in config.systems or []]
    weights = [1.0] * len(folders) if config.weights is None else list(config.weights)
    if not folders:
        raise ConfigError("systems: names none; give folders of decode.py, systems=[exp/a,exp/b]")
    if len(weights) != len(folders):
        raise ConfigError(f"weights: {len(weights)} for {len(folders)} systems; give one for each")
    for weight in weights:
        check("weights", weight, Limits(0))
    out = check_folder(config.out)
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise ConfigError(f"out={config.out}: is one of the systems, whose text would be lost")
    said = [_System(folder, config.nbest, config.scale) for folder in folders]
    keys = sorted(set().union(*(system.keys for system in said)))
    for system in said:
        if len(system.keys) < len(keys):
            log.warning("%s: %d of %d utterances", system.folder, len(system.keys), len(keys))
    votes = zip(said, weights, strict=True)
    ballots = [(system, weight) for system, weight in votes if weight]
    tokens = {
        key: combine(r for system, weight in ballots for r in system.readings(key, weight))
        for key in keys
    }
    with together(out, ["text"]) as draft:
        write_table(draft / "token", {key: " ".join(row) for key, row in tokens.items()})
        write_table(draft / "text", {key: shown(row) for key, row in tokens.items()})
    return 0


class _System:
    """The readings that lie in one folder."""

    def __init__(self, folder: Path, nbest: int, scale: float) -> None:
        """scale: of log-probabilities, 0: readings weigh the same."""
        self.folder, self.scale = folder, scale
        ranks = [folder / "nbest" / str(rank) for rank in range(1, nbest + 1)]
        if nbest > 1 and not ranks[1].is_dir():
            raise DataError(f"{ranks[1]}: no such folder; decode with nbest={nbest}")
        places = [rank for rank in ranks if rank.is_dir()] if nbest > 1 else [folder]
        self.tokens = [read_table(place / "token") for place in places]
        self.scores = [_log_probabilities(place / "score") for place in places]
        self.keys = self.tokens[0].keys()

    def readings(self, key: str, weight: float) -> Iterator[Reading]:
        """Those of an utterance, the likeliest first, which share the weight."""
        found = [
            (tokens[key].split(), self.scale * scores.get(key, 0.0))
            for tokens, scores in zip(self.tokens, self.scores, strict=True)
            if key in tokens
        ]
        top = max((score for _, score in found), default=0.0)
        shares = [math.exp(score - top) for _, score in found]
        for (tokens, _), share in zip(found, shares, strict=True):
            yield tokens, weight * share / sum(shares)


def _log_probabilities(path: Path) -> Mapping[str, float]:
    try:
        return {key: float(value.split()[0]) for key, value in read_table(path).items()}
    except (ValueError, IndexError):
        raise DataError(f"{path}: is no table of scores; decode again") from None


def shown(tokens: list[str]) -> str:
    """The text of tokens: pieces of either kind are joined."""
    if any(token.startswith(WORD_BEGIN) for token in tokens):
        return "".join(tokens).replace(WORD_BEGIN, " ").strip()
    return postprocess(tokens).tight


def main() -> int:
    """`bin/combine.py`."""
    return run("combine", combine_systems)
