"""The rate at which the loss falls fastest, of curves that are known and of a model that learns."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer.data.batches.dataset import Batching, Loader, read_utterances
from paraformer.errors import ConfigError
from paraformer.train.losses import Weights
from paraformer.train.lr_finder import Sweep, Trial, dev_loss, steepest, sweep
from paraformer.train.objective import Objective
from paraformer.train.optim import Optim
from paraformer.train.trainer import Trainer, Training
from tests import tiny


def curve(loss, low=-6.0, high=-1.0, count=100):
    """Trials at equal steps of the logarithm of the rate."""
    rates = [10.0 ** (low + (high - low) * place / (count - 1)) for place in range(count)]
    return [Trial(rate, loss(math.log10(rate)), loss(math.log10(rate))) for rate in rates]


@pytest.mark.parametrize("middle", [-4.5, -3.0])
def test_a_logistic_fall_is_steepest_in_its_middle(middle):
    found = steepest(curve(lambda x: 3.0 - 2.0 / (1.0 + math.exp(-5.0 * (x - middle)))))
    assert found == pytest.approx(10.0**middle, rel=0.15)  # two trials are 12 % apart


def test_what_comes_behind_the_least_loss_does_not_count():
    def loss(x):
        return 3.0 - x / 10 if x < -3.0 else 8.0 - 2.0 * abs(x + 2.0)

    assert steepest(curve(loss)) < 1.1e-3


@pytest.mark.parametrize("loss", [lambda x: 2.0, lambda x: x, lambda x: 2.0 - 1e-4 * x])
def test_a_loss_that_does_not_fall_gives_no_rate(loss):
    assert steepest(curve(loss)) is None


def test_the_rates_rise_by_equal_factors():
    settings = Sweep(low=1e-4, high=1e-2, steps=21)
    assert [settings.rate(step) for step in (0, 10, 20)] == pytest.approx([1e-4, 1e-3, 1e-2])
    with pytest.raises(ConfigError, match=r"lr_finder.high=0.01: give more than low=0.1"):
        Sweep(low=0.1, high=0.01)


def test_a_model_that_has_to_learn_gets_a_rate(tmp_path):
    torch.manual_seed(0)
    release = tiny.release()
    data = tiny.write_data(tmp_path / "data")
    utterances, _ = read_utterances(data, release.tokenizer.encode, 6)
    batching = Batching(max_frames=600, frame_step=48)
    trainer = Trainer(
        Objective(release.model, Weights(0.0, 0.1, True, 1.0)),
        Loader(utterances, release.frontend, batching, seed=5),
        Loader(utterances[:4], release.frontend, batching),
        Optim(),
        Training(),
        tmp_path,
        torch.device("cpu"),
    )
    probes = list(trainer.dev_loader.epoch(0))
    first = dev_loss(trainer, probes)
    assert first == dev_loss(trainer, probes)  # the sampler shows the same tokens
    trials = list(sweep(trainer, Sweep(low=1e-5, high=1.0, steps=40)))
    assert 10 < len(trials) <= 40
    rate = steepest(trials)
    assert rate is not None and 1e-4 < rate < 0.3
    least = min(trial.dev_loss for trial in trials)
    assert least < 0.9 * first
