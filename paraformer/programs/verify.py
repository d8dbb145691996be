"""How well embeddings tell speakers apart: equal error rate and detection cost of a list of trials.

A trial is `enrol test target` where both are one speaker's, else `enrol test nontarget`; its score
is the cosine of two embeddings. Prints the equal error rate, the least detection cost (NIST's, of a
miss and of a false alarm alike, for two shares of targets), and the errors at the threshold; `det`
is a picture of all thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.tables import iter_rows, read_table, write_text
from paraformer.errors import DataError
from paraformer.limits import Limits, check_values
from paraformer.programs.hydra_main import plain, run
from paraformer.programs.score_norm import normalised
from paraformer.report.det_plot import draw_det
from paraformer.report.figures import save_figure

LABELS = {"target": True, "nontarget": False}
PRIORS = (0.01, 0.05)  # shares of targets among trials
LIMITS = {"threshold": Limits(-1, 1), "cohort_top": Limits(2, whole=True)}


class Trial(NamedTuple):
    """Two names, and whether they are one speaker's."""

    enrol: str
    test: str
    target: bool


class Curve(NamedTuple):
    """Shares of errors at each threshold that makes a difference, from low to high: (N,)."""

    miss: np.ndarray
    false_alarm: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[float], targets: Sequence[bool]) -> Curve:
        """From the scores of trials, of which some are targets and some are not."""
        values, wanted = np.asarray(scores, float), np.asarray(targets, bool)
        order = np.argsort(values, kind="stable")
        values, wanted = values[order], wanted[order]
        # Below all, and behind each score: equal ones fall together.
        ends = np.append(np.flatnonzero(np.diff(values)) + 1, len(values))
        missed = np.append(0, np.cumsum(wanted)[ends - 1])
        refused = np.append(0, np.cumsum(~wanted)[ends - 1])
        return cls(missed / wanted.sum(), 1.0 - refused / (~wanted).sum())

    def equal_error(self) -> float:
        """The share of errors where both are equal, between two thresholds if need be.

        >>> Curve.of([0.1, 0.4, 0.3, 0.9], [False, False, True, True]).equal_error()
        0.5
        """
        place = int(np.argmax(self.miss >= self.false_alarm))
        high = float(self.miss[place] - self.false_alarm[place])
        low = float(self.false_alarm[place - 1] - self.miss[place - 1])
        part = low / (low + high)
        before, after = float(self.miss[place - 1]), float(self.miss[place])
        return before + part * (after - before)

    def least_cost(self, prior: float) -> float:
        """The detection cost at the best threshold, beside that of one answer to all trials.

        >>> Curve.of([0.1, 0.4, 0.3, 0.9], [False, False, True, True]).least_cost(0.5)
        0.5
        """
        costs = prior * self.miss + (1 - prior) * self.false_alarm
        return float(costs.min()) / min(prior, 1 - prior)


def read_trials(path: Path) -> list[Trial]:
    """The lines of a list of trials, some of them targets and some not."""
    trials = []
    for row in iter_rows(path):
        fields = row.value.split()
        if len(fields) != 2 or fields[1] not in LABELS:
            raise DataError(
                f"{path}: '{row.key} {row.value}' is no trial; write `enrol test target` or "
                "`enrol test nontarget`"
            )
        trials.append(Trial(row.key, fields[0], LABELS[fields[1]]))
    if len({trial.target for trial in trials}) != 2:
        raise DataError(f"{path}: needs trials of both kinds, target and nontarget")
    return trials


def read_units(table: Path) -> dict[str, np.ndarray]:
    """Embeddings of a table, each of length 1."""
    return {key: _unit(place, key, table) for key, place in read_table(table).items()}


def _unit(place: str, key: str, table: Path) -> np.ndarray:
    try:
        vector = np.asarray(load_archive(place), float)
    except (OSError, ValueError) as error:
        raise DataError(f"{table}: '{key}': no vector at {place} ({error})") from error
    length = np.linalg.norm(vector)
    if vector.ndim != 1 or not np.isfinite(length) or not length:
        raise DataError(f"{table}: '{key}' is no embedding ({vector.shape}, length {length:g})")
    found: np.ndarray = vector / length
    return found


def means(units: Mapping[str, np.ndarray], spk2utt: Path) -> dict[str, np.ndarray]:
    """The mean of each speaker's utterances, of length 1."""
    found = {}
    for speaker, said in read_table(spk2utt).items():
        missing = [key for key in said.split() if key not in units]
        if missing:
            raise DataError(f"{spk2utt}: '{missing[0]}' of '{speaker}' has no embedding")
        mean = np.sum([units[key] for key in said.split()], axis=0)
        found[speaker] = mean / np.linalg.norm(mean)
    return found


def verify(config: DictConfig) -> int:
    """Print the figures of `config.trials`, and write the scores where that is asked for."""
    check_values(plain(config), LIMITS)
    trials, units = read_trials(Path(config.trials)), read_units(Path(config.embeddings))
    enrolled = means(units, Path(config.spk2utt)) if config.spk2utt else units
    scores = []
    for trial in trials:
        for name, known in ((trial.enrol, enrolled), (trial.test, units)):
            if name not in known:
                raise DataError(f"{config.trials}: '{name}' has no embedding; make it, or mend it")
        scores.append(float(enrolled[trial.enrol] @ units[trial.test]))
    if config.cohort:
        others = read_units(Path(config.cohort))
        if config.cohort_spk2utt:
            others = means(others, Path(config.cohort_spk2utt))
        named = [(trial.enrol, trial.test) for trial in trials]
        scores = normalised(named, scores, (enrolled, units), others, config.cohort_top)
    if config.out:
        pairs = zip(trials, scores, strict=True)
        write_text(config.out, "".join(f"{t.enrol} {t.test} {score:.6f}\n" for t, score in pairs))
    if config.det:
        curve = Curve.of(scores, [trial.target for trial in trials])
        figure = draw_det(curve.miss.tolist(), curve.false_alarm.tolist(), curve.equal_error())
        save_figure(figure, config.det, "det")
    print("\n".join(figures(trials, scores, config.threshold)))
    return 0


def figures(trials: Sequence[Trial], scores: Sequence[float], threshold: float) -> list[str]:
    """The lines for people."""
    targets = [trial.target for trial in trials]
    curve = Curve.of(scores, targets)
    count = sum(targets)
    same = np.asarray(scores) >= threshold
    missed = int((~same & np.asarray(targets)).sum())
    taken = int((same & ~np.asarray(targets)).sum())
    costs = ", ".join(f"{curve.least_cost(prior):.4f} at {prior:g}" for prior in PRIORS)
    others = len(trials) - count
    return [
        f"%EER {100 * curve.equal_error():.2f} [ {count} targets, {others} nontargets ]",
        f"minDCF {costs}",
        f"threshold {threshold:g}: %miss {100 * missed / count:.2f} [ {missed} / {count} ], "
        f"%false alarm {100 * taken / others:.2f} [ {taken} / {others} ]",
    ]


def main() -> int:
    """Entry of `bin/verify.py` and `funasr-verify`."""
    return run("verify", verify)
