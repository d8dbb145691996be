"""Choose what a fine-tuning leaves: the best epoch, the mean of several, or one of them mixed with
the start, whichever makes the fewest errors on the dev set; the start itself if none is better.

Mixing is the mean of the weights (WiSE-FT, arXiv 2109.01903): a model that has learnt a few
recordings by heart often gets back most of what it knew. Writes a released directory with all that
the start has beside its weights, and `dir`/selection.tsv.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from paraformer.data.corpus.tables import write_text
from paraformer.documents import load_yaml
from paraformer.errors import ConfigError
from paraformer.files import check_folder
from paraformer.models.release import (
    AlignerRelease,
    Release,
    save_directory,
    weights_of,
    writing_directory,
)
from paraformer.models.side_files import carry_over
from paraformer.models.weights import load_state, read_weights, stored_dtype
from paraformer.programs.hydra_main import run
from paraformer.programs.settings import (
    PRECISIONS,
    part,
    pick_device,
    read_settings,
    section,
    take_threads,
)
from paraformer.programs.training import make_loader, make_objective, make_release
from paraformer.train.optim import Optim
from paraformer.train.snapshots import best_epochs, mean_of_epochs, records_on_disk
from paraformer.train.trainer import Trainer, Training

_log = logging.getLogger(__name__)

State = Mapping[str, Tensor]


class Candidate(NamedTuple):
    """Epochs of which the mean is taken, and the weight of that mean beside the start."""

    epochs: tuple[int, ...] = ()  # none: the start
    mix: float = 1.0

    def __str__(self) -> str:
        if not self.epochs:
            return "start"
        name = "epoch " + "+".join(map(str, self.epochs))
        return name if self.mix == 1.0 else f"{name}, {self.mix:g} of it with the start"


class Score(NamedTuple):
    """The errors and the loss of a candidate on the dev set; the smaller the better."""

    errors: float
    loss: float


def select_model(config: DictConfig) -> int:
    """Validate the candidates and write the best one."""
    folder, out = Path(config.dir), Path(config.out)
    take_threads(read_settings(config))
    settings = settings_of(folder, config.device)
    start = Path(settings["init"])
    if out.resolve() == start.resolve():
        raise ConfigError(f"out={out}: is the start, whose weights would be lost; give another")
    dtype = PRECISIONS.get(config.precision) or stored_dtype(weights_of(start))
    release = make_release(settings)
    judge = make_judge(settings, release)
    metric = judge.objective.metric
    first = read_weights(weights_of(start))
    scores: dict[Candidate, Score] = {}
    for candidate in candidates(folder, metric, config.num, list(config.mixes)):
        weights = weights_of_candidate(folder, candidate, first, dtype)
        load_state(release.model, weights, folder)
        result = judge.validate()
        scores[candidate] = Score(result[metric], result["loss"])
        _log.info("%s: %s %.4f, loss %.4f", candidate, metric, *scores[candidate])
    best = choose(scores, config.keep_start)
    load_state(release.model, weights_of_candidate(folder, best, first, dtype), folder)
    with writing_directory(check_folder(out)) as draft:
        carry_over(start, draft, out)
        write_card(start, draft, config.name or start.name, card_of(best, scores, metric))
        save_directory(draft, release, dtype=dtype)
    lines = (f"{name}\t{score.errors:.6f}\t{score.loss:.6f}\n" for name, score in scores.items())
    write_text(folder / "selection.tsv", f"candidate\t{metric}\tloss\n" + "".join(lines))
    if best.epochs:
        _log.info("%s: %s", out, best)
    else:
        _log.warning("%s: nothing is better than the start on the dev set: it is the start", out)
    return 0


def settings_of(folder: Path, device: str) -> dict[str, Any]:
    """The settings that a run was started with, without those that only its training needs."""
    path = folder / "train.yaml"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; train with --config-name finetune first")
    settings: dict[str, Any] = load_yaml(path)
    if settings["lang"] is not None:
        raise ConfigError(
            f"{folder}: was not trained with --config-name finetune; use average_model"
        )
    if not Path(settings["init"]).is_dir():
        raise ConfigError(
            f"{settings['init']}: no such directory, though the training in {folder} began with "
            "it; put it back"
        )
    spare: dict[str, Any] = {"lora": {}, "new_tokens": {}}  # in the weights of epochs already
    return {**settings, **spare, "init_in_part": False, "freeze": [], "device": device}


def make_judge(settings: dict[str, Any], release: Release | AlignerRelease) -> Trainer:
    """A trainer that validates the model, and never trains it."""
    optim = section(Optim, "optim", part(settings, "optim"))
    training = section(Training, "training", part(settings, "training"))
    objective, dev = make_objective(settings, release), make_loader(settings, "dev", release)
    device = pick_device(settings["device"])
    return Trainer(objective, dev, dev, optim, training, Path(settings["dir"]), device)


def candidates(
    folder: Path, metric: str, count: int, mixes: Sequence[float]
) -> Iterator[Candidate]:
    """The start, the best epoch, the mean of several, and each of these mixed with the start."""
    records = records_on_disk(folder)
    if not records:
        raise ConfigError(f"{folder}: has no weights of an epoch; train at least one")
    yield Candidate()
    for epochs in dict.fromkeys(tuple(best_epochs(records, metric, n)) for n in (1, count)):
        yield from (Candidate(epochs, mix) for mix in mixes)


def weights_of_candidate(
    folder: Path, candidate: Candidate, start: State, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The state dict of a candidate as it will be read from a file of that type."""
    if not candidate.epochs:
        return dict(start)
    trained = mean_of_epochs(folder, candidate.epochs)
    return {
        name: mixed(value, start[name], candidate.mix).to(dtype).float()
        if value.is_floating_point()
        else value
        for name, value in trained.items()
    }


def mixed(trained: Tensor, start: Tensor, share: float) -> Tensor:
    """The mean of two weights, `share` of it the trained one.

    >>> mixed(torch.tensor(4.0), torch.tensor(2.0), 0.25)
    tensor(2.5000)
    """
    return start.float() + share * (trained.float() - start.float())


def choose(scores: Mapping[Candidate, Score], keep_start: bool) -> Candidate:
    """The candidate with the fewest errors, of two with as many the one with the smaller loss."""
    rivals = [each for each in scores if each.epochs or keep_start]
    return min(rivals, key=lambda each: scores[each])


def card_of(best: Candidate, scores: Mapping[Candidate, Score], metric: str) -> str:
    """A sentence of the chosen candidate, and one of its errors."""
    before, after = scores[Candidate()].errors, scores[best].errors
    return (
        f"These weights are: {best}.\n"
        f"Its dev set: {metric} {before:.4f} with the start, {after:.4f} with these.\n"
    )


def write_card(start: Path, out: Path, name: str, chosen: str) -> None:
    """The card of the start, with a note of what was done since."""
    path = start / "README.md"
    card = path.read_text("utf8").rstrip("\n") + "\n\n" if path.is_file() else ""
    above = " What stands above is about that model; its licence holds for this one too."
    note = f"## Fine-tuned\n\nTraining began with `{name}`.{above if card else ''}\n{chosen}"
    write_text(out / "README.md", card + note)


def main() -> int:
    """`bin/select_model.py`."""
    return run("select_model", select_model)
