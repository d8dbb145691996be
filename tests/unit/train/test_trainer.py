"""Training that is stopped and goes on equals training that never stopped; bad batches are left
out and named; each epoch leaves its record and weights.
"""

from __future__ import annotations

import logging
import math
import os
import signal

import pytest
import torch

from paraformer.data.batches.augment import Augment, SpecAug
from paraformer.data.batches.dataset import Batching, Loader, read_utterances
from paraformer.errors import CheckpointError, DataError
from paraformer.nn import layers
from paraformer.train import trainer as module
from paraformer.train.losses import Weights
from paraformer.train.objective import Objective, UnitCtc
from paraformer.train.optim import Optim
from paraformer.train.snapshots import Position, read_records, seed_everything
from paraformer.train.trainer import Trainer, Training
from tests import tiny

BATCHING = Batching(max_frames=600, frame_step=48, join_probability=0.5, gap=(0, 5))
AUGMENT = Augment(gain_db=3.0, warp=0.1, noise_probability=0.5, freq_masks=1, freq_width=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_data(tmp_path_factory.mktemp("data"))


class Notes:
    """A writer that remembers."""

    def __init__(self):
        self.values = {}

    def add_scalar(self, tag, value, step):
        self.values.setdefault(tag, {})[step] = value


class Watched(Objective):
    """Calls `act` before each batch."""

    act = staticmethod(lambda objective, batch: None)
    batches = 0

    def forward(self, batch, step):
        if self.training:
            self.batches += 1
            self.act(self, batch)
        return super().forward(batch, step)


@pytest.fixture
def make(data, tmp_path):
    """A trainer over tiny data, always in a folder of its own or in the one that is named."""

    def make(name="run", seed=0, unit=None, warm_steps=0, specaug=None, writer=None, **training):
        seed_everything(seed)
        release = tiny.release(seed=seed)
        utterances, _ = read_utterances(data, release.tokenizer.encode, 6)
        utterances = [u._replace(units=[1 + i % 4 for i in u.ids]) for u in utterances]
        weights = Weights(0.0, 0.1, True, 1.0)
        folder = tmp_path / name
        return Trainer(
            Watched(release.model, weights, unit, warm_steps, specaug),
            Loader(utterances, release.frontend, BATCHING, AUGMENT, seed=5),
            Loader(utterances[:4], release.frontend, BATCHING),
            Optim(lr=1e-2, warmup_steps=4),
            Training(**{"log_interval": 2, "save_interval": 1000, **training}),
            folder,
            torch.device("cpu"),
            writer,
        )

    return make


def stop_at(number):
    """What a SIGTERM during batch `number` does."""

    def act(objective, _):
        if objective.batches == number:
            os.kill(os.getpid(), signal.SIGTERM)

    return act


def snapshot(trainer):
    return torch.load(trainer.snapshot, weights_only=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accum_grad": 2},
        {"unit": UnitCtc(5, 1, 0.3), "warm_steps": 3},
        {"precision": "bf16"},
        {"specaug": SpecAug()},
    ],
    ids=["plain", "accumulated", "unit-ctc", "bf16", "specaug"],
)
@pytest.mark.parametrize("stop", [1, 4, 5, 9])
def test_stopped_and_resumed_equals_never_stopped(make, monkeypatch, options, stop):
    """Weights, optimiser, generators, curves and records, bit for bit, whenever SIGTERM comes."""
    whole_notes, notes = Notes(), Notes()
    whole = make("whole", writer=whole_notes, max_steps=8, **options)
    whole.run()

    first = make("parts", writer=notes, max_steps=8, **options)
    first.objective.act = stop_at(stop)
    first.run()
    assert first.position.step < 8 or stop == 9

    monkeypatch.setattr(layers, "_POOL", layers._MaskPool())  # as in a new process
    second = make("parts", seed=1, writer=notes, max_steps=8, **options)
    assert second.resume()
    second.run()

    assert second.position == whole.position
    assert second.position.step == 8
    assert tiny.equal(snapshot(second), snapshot(whole))
    assert read_records(second.folder / "epochs.jsonl") == read_records(
        whole.folder / "epochs.jsonl"
    )
    for path in sorted(whole.folder.glob("epoch-*.pt")):
        weights = [torch.load(p, weights_only=True) for p in (path, second.folder / path.name)]
        assert tiny.equal(*weights)
    for tag, values in whole_notes.values.items():
        if tag not in ("train/audio_s_per_s", "train/wait"):
            assert notes.values[tag] == values, tag


@pytest.mark.parametrize("options", [{}, {"accum_grad": 2}], ids=["plain", "accumulated"])
@pytest.mark.parametrize("limit", [1, 3, 4, 6])
def test_a_raised_max_steps_goes_on_where_the_run_ended(make, monkeypatch, options, limit):
    """The rest of the epoch is trained on: weights, optimiser, generators and records are those of
    a run that never stopped.
    """
    whole = make("whole", max_epoch=3, keep_epochs=1, **options)
    whole.run()

    ended = make("parts", max_steps=limit, keep_epochs=1, **options)
    ended.run()
    assert ended.position.step == limit
    record = read_records(ended.folder / "epochs.jsonl")[-1]
    assert record["step"] == limit
    assert (ended.folder / f"epoch-{record['epoch']}.pt").is_file()

    monkeypatch.setattr(layers, "_POOL", layers._MaskPool())  # as in a new process
    raised = make("parts", seed=1, max_epoch=3, keep_epochs=1, **options)
    assert raised.resume()
    raised.run()
    assert raised.position == whole.position
    assert tiny.equal(snapshot(raised), snapshot(whole))
    folders = (raised.folder, whole.folder)
    assert tiny.equal(*(read_records(folder / "epochs.jsonl") for folder in folders))
    assert tiny.equal(*(sorted(p.name for p in folder.glob("*.pt")) for folder in folders))


def test_a_run_that_has_ended_changes_nothing_when_started_again(make):
    make(max_steps=3).run()
    again = make(max_steps=3)
    before = {p.name: p.read_bytes() for p in again.folder.iterdir()}
    assert again.resume()
    again.run()
    assert {p.name: p.read_bytes() for p in again.folder.iterdir()} == before


def test_a_run_killed_while_it_ended_still_leaves_its_epoch(make, monkeypatch):
    """The snapshot of the last step is there, the validation of the unfinished epoch is not."""

    class PowerCutError(Exception):
        pass

    def cut(trainer):
        raise PowerCutError

    monkeypatch.setattr(Trainer, "validate", cut)
    ended = make(max_steps=3)
    with pytest.raises(PowerCutError):
        ended.run()
    assert not (ended.folder / "epochs.jsonl").exists()
    monkeypatch.undo()
    again = make(max_steps=3)
    assert again.resume()
    again.run()
    (record,) = read_records(again.folder / "epochs.jsonl")
    assert (record["epoch"], record["step"]) == (1, 3)
    assert (again.folder / "epoch-1.pt").is_file()


def test_killed_without_warning_goes_on_from_the_last_snapshot(make):
    whole = make("whole", max_steps=6)
    whole.run()

    class PowerCutError(Exception):
        pass

    def cut(objective, _):
        if objective.batches == 6:
            raise PowerCutError

    first = make("parts", max_steps=6, save_interval=2)
    first.objective.act = cut
    with pytest.raises(PowerCutError):
        first.run()
    second = make("parts", seed=1, max_steps=6, save_interval=2)
    assert second.resume()
    assert second.position.step == 4
    second.run()
    assert tiny.equal(snapshot(second)["objective"], snapshot(whole)["objective"])


def test_a_run_without_snapshot_starts_anew(make):
    trainer = make()
    assert not trainer.resume()
    assert trainer.position == Position()


def test_the_signal_handler_is_put_back(make):
    before = signal.getsignal(signal.SIGTERM)
    make(max_steps=1).run()
    assert signal.getsignal(signal.SIGTERM) is before


def spoil(numbers):
    def act(objective, batch):
        if objective.batches in numbers:
            batch.feats[0, 0, 0] = torch.nan

    return act


@pytest.mark.parametrize("accum_grad", [1, 2])
def test_a_batch_without_finite_loss_is_skipped_and_named(make, caplog, accum_grad):
    trainer = make(max_steps=3, accum_grad=accum_grad)
    trainer.objective.act = spoil({2})
    plan = trainer.train_loader.plan(1)
    trainer.run()
    assert all(p.isfinite().all() for p in trainer.objective.parameters())
    assert trainer.position.step == 3
    keys = trainer.train_loader.collate(plan[1], (5, 1, 1)).keys
    named = [r.getMessage() for r in caplog.records if "not finite" in r.getMessage()]
    assert len(named) == 1
    assert all(key in named[0] for key in keys)


def test_a_bad_batch_leaves_no_step_behind(make):
    """Steps are those of the good batches; nothing is logged or saved twice."""
    notes = Notes()
    trainer = make(max_epoch=1, log_interval=1, writer=notes)
    trainer.objective.act = spoil({1, 3})
    trainer.run()
    count = len(trainer.train_loader.plan(1))
    assert trainer.position == Position(2, 0, count - 2)
    assert sorted(notes.values["train/loss"]) == list(range(1, count - 1))


def test_a_batch_without_rows_keeps_its_number(make, monkeypatch):
    """As when its audio cannot be read: no step, no statistics, and resuming counts it."""
    notes = Notes()
    trainer = make(max_epoch=1, log_interval=1, writer=notes)
    collate, nothing = trainer.train_loader.collate, trainer.train_loader.collate([], (0,))

    def spoiled(examples, seed):
        return nothing if tuple(seed)[1:] in ((1, 1), (0, 0)) else collate(examples, seed)

    monkeypatch.setattr(trainer.train_loader, "collate", spoiled)
    monkeypatch.setattr(trainer.dev_loader, "collate", spoiled)
    trainer.run()
    count = len(trainer.train_loader.plan(1))
    assert trainer.position == Position(2, 0, count - 1)
    assert sorted(notes.values["train/loss"]) == list(range(1, count))
    (record,) = read_records(trainer.folder / "epochs.jsonl")
    assert math.isfinite(record["loss"])


def test_a_run_of_bad_batches_ends(make, monkeypatch):
    monkeypatch.setattr(module, "MAX_BAD_BATCHES", 3)
    trainer = make()
    trainer.objective.act = spoil(range(2, 99))
    with pytest.raises(DataError, match="3 batches in a row.*lower optim.lr"):
        trainer.run()


def test_gradients_that_are_not_finite_make_no_step(make, caplog):
    trainer = make(max_steps=2)
    weight = trainer.objective.model.decoder.output_layer.weight
    before = weight.detach().clone()
    weight.register_hook(lambda grad: grad * torch.inf)
    trainer.run()
    assert torch.equal(weight, before)
    assert "gradient is not finite" in caplog.text


def test_accumulated_batches_make_one_step(make):
    trainer = make(max_epoch=1, accum_grad=4)
    trainer.run()
    batches = len(trainer.train_loader.plan(1))
    assert batches % 4  # the rest makes a step of its own
    assert trainer.position == Position(2, 0, batches // 4 + 1)
    assert not trainer.pending


def test_gradients_are_clipped(make, monkeypatch):
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters, limit):
        parameters = list(parameters)
        norm = clip(parameters, limit)
        grads = [p.grad.norm() for p in parameters if p.grad is not None]
        norms.append(float(torch.stack(grads).norm()))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    make(max_steps=3, grad_clip=0.01).run()
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_each_epoch_leaves_a_record_and_weights(make):
    trainer = make(max_epoch=3)
    trainer.run()
    records = read_records(trainer.folder / "epochs.jsonl")
    assert [r["epoch"] for r in records] == [1, 2, 3]
    assert records[-1]["step"] == trainer.position.step
    for name in ("loss", "loss_att", "loss_pre", "acc", "token_error_rate"):
        assert all(name in r for r in records)
    last = torch.load(trainer.folder / "epoch-3.pt", weights_only=True)
    assert tiny.equal(last, trainer.objective.model.state_dict())


def test_weights_of_epochs_that_are_neither_good_nor_recent_go(make):
    trainer = make(max_epoch=6, keep_epochs=1)
    trainer.run()
    records = read_records(trainer.folder / "epochs.jsonl")
    lowest = min(r["token_error_rate"] for r in records)
    best = max(r["epoch"] for r in records if r["token_error_rate"] == lowest)
    kept = {int(p.stem.split("-")[1]) for p in trainer.folder.glob("epoch-*.pt")}
    assert kept == {best, 6}


def test_training_learns(make):
    trainer = make(max_epoch=25)
    trainer.run()
    records = read_records(trainer.folder / "epochs.jsonl")
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]


def test_validation_changes_nothing(make):
    trainer = make()
    before = {k: v.clone() for k, v in trainer.objective.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = trainer.validate(), trainer.validate()
    assert first == second
    assert torch.equal(generator, torch.get_rng_state())
    assert tiny.equal(before, trainer.objective.state_dict())


def test_validation_is_the_mean_over_tokens(make):
    """The loss of the whole dev set in one batch."""
    trainer = make()
    trainer.objective.model.sampling_ratio = 0.0
    found = trainer.validate()
    trainer.dev_loader.batching = Batching(max_frames=10**6, frame_step=10**4)
    (batch,) = trainer.dev_loader.epoch(0)
    with torch.no_grad():
        whole = trainer.objective(batch, 1)
    for name, value in whole.stats.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5), name


def test_warm_steps_leave_the_decoder_alone(make):
    trainer = make(max_steps=2, warm_steps=2, unit=UnitCtc(5, 1, 0.3))
    model = trainer.objective.model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trainer.run()
    changed = {k.split(".")[0] for k, v in model.state_dict().items() if not v.equal(before[k])}
    assert changed == {"encoder", "predictor"}


def test_a_snapshot_of_another_model_is_refused(make, data):
    make(max_steps=1).run()
    other = make(unit=UnitCtc(5, 1, 0.3))
    with pytest.raises(CheckpointError, match="does not fit this configuration.*resume=false"):
        other.resume()


def test_a_broken_snapshot_is_refused(make):
    trainer = make()
    trainer.folder.mkdir()
    trainer.snapshot.write_bytes(b"not a snapshot")
    with pytest.raises(CheckpointError, match="last.pt"):
        trainer.resume()


def test_the_log_says_where_the_run_stands(make, caplog):
    caplog.set_level(logging.INFO)
    make(max_steps=2).run()
    make(max_epoch=1).run()
    assert "epoch 1 step 2: loss_att" in caplog.text
    assert "epoch 1 ended at step 2, dev: " in caplog.text
    assert "epoch 1 done, dev: " in caplog.text


def scripted(trainer, rates):
    """Validation that finds these token error rates, one after the other."""
    found = iter(rates)
    trainer.validate = lambda: {"loss": 1.0, "token_error_rate": next(found)}
    return trainer


def test_training_ends_when_the_dev_set_gets_no_better(make, caplog):
    trainer = scripted(make(max_epoch=9, patience=2), [0.5, 0.4, 0.4, 0.45, 0.1])
    with caplog.at_level(logging.INFO):
        trainer.run()
    path = trainer.folder / "epochs.jsonl"
    assert [record["epoch"] for record in read_records(path)] == [1, 2, 3, 4]
    assert "no epoch is better than epoch 2: training ends" in caplog.text
    again = scripted(make(max_epoch=9, patience=2), [])
    assert again.resume()
    again.run()  # nothing is left to do
    more = scripted(make(max_epoch=9, patience=3), [0.45])
    assert more.resume()
    more.run()
    assert [record["epoch"] for record in read_records(path)] == [1, 2, 3, 4, 5]


def test_the_start_is_measured_before_anything_is_learnt(make):
    trainer = make(max_epoch=1, measure_start=True)
    wanted = make("untouched").validate()
    trainer.run()
    first, last = read_records(trainer.folder / "epochs.jsonl")
    assert (first["epoch"], first["step"], last["epoch"]) == (0, 0, 1)
    assert {name: first[name] for name in wanted} == wanted
    assert not (trainer.folder / "epoch-0.pt").exists()
    plain = make("plain", max_epoch=1)
    plain.run()
    assert tiny.equal(snapshot(plain), snapshot(trainer))  # measuring changes nothing


def test_validation_is_the_same_whatever_was_drawn_before(make):
    trainer = make()
    first = trainer.validate()
    torch.rand(100)
    assert trainer.validate() == first
