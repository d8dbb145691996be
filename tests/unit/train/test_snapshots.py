"""What a run leaves on disk: snapshots, records, and averages of epochs."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from paraformer.errors import CheckpointError, DataError
from paraformer.models.weights import write_torch
from paraformer.train import snapshots
from paraformer.train.snapshots import (
    Position,
    average_weights,
    best_epochs,
    load_snapshot,
    put_record,
    read_records,
    save_snapshot,
    seed_everything,
)

RECORDS = [
    {"epoch": epoch, "loss": loss, "cer": cer}
    for epoch, loss, cer in [(1, 3.0, 0.9), (2, 2.0, 0.5), (3, 2.5, 0.4), (4, 1.5, 0.5)]
]


def layer_and_optimizer(width=3):
    layer = torch.nn.Linear(width, 2)
    return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)


def step(layer, optimizer):
    layer(torch.randn(4, layer.in_features)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_snapshot_brings_everything_back(tmp_path):
    path, totals = tmp_path / "deep" / "last.pt", {"loss": (3.5, 2.0)}
    layer, optimizer = layer_and_optimizer()
    step(layer, optimizer)
    save_snapshot(path, Position(2, 5, 9), layer, optimizer, totals)
    step(layer, optimizer)

    other, other_optimizer = layer_and_optimizer()
    assert load_snapshot(path, other, other_optimizer) == (Position(2, 5, 9), totals, [])
    step(other, other_optimizer)  # the random input is the same too
    assert torch.equal(other.weight, layer.weight)


def test_each_process_gets_the_generators_of_its_own_gpus_back(tmp_path, monkeypatch):
    """Stand-ins: states are kept by number of process, and put back where there are any."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.tensor([1, 2])])
    put_back = []
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put_back.append)
    others = [{**snapshots.own_generators(), "cuda_rng": [torch.tensor([3, 4])]}]
    layer, optimizer = layer_and_optimizer()
    path = tmp_path / "last.pt"
    own = snapshots.own_generators()
    save_snapshot(path, Position(1, 2, 3), layer, optimizer, {}, [own, *others])
    for rank in (0, 1, 2):  # a third one was not there
        load_snapshot(path, layer, optimizer, rank)
    assert [[state.tolist() for state in states] for states in put_back] == [[[1, 2]], [[3, 4]]]


def test_a_snapshot_of_before_totals_were_kept_is_read(tmp_path):
    layer, optimizer = layer_and_optimizer()
    save_snapshot(tmp_path / "a.pt", Position(1, 2, 3), layer, optimizer, {})
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    del state["totals"]
    torch.save(state, tmp_path / "a.pt")
    assert load_snapshot(tmp_path / "a.pt", layer, optimizer) == (Position(1, 2, 3), {}, [])


def test_a_snapshot_of_another_model_names_the_file_and_the_remedy(tmp_path):
    save_snapshot(tmp_path / "a.pt", Position(), *layer_and_optimizer(3), {})
    with pytest.raises(CheckpointError, match="a.pt: does not fit this configuration.*resume"):
        load_snapshot(tmp_path / "a.pt", *layer_and_optimizer(4))


def test_a_snapshot_whose_run_froze_something_else_is_refused(tmp_path):
    layer, optimizer = layer_and_optimizer()
    step(layer, optimizer)
    save_snapshot(tmp_path / "a.pt", Position(), layer, optimizer, {})
    layer.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([layer.weight])
    with pytest.raises(CheckpointError, match="other parameters learn: freeze .* resume=false"):
        load_snapshot(tmp_path / "a.pt", layer, optimizer)


def test_settings_of_the_optimiser_are_those_of_the_configuration(tmp_path):
    layer, optimizer = layer_and_optimizer()
    step(layer, optimizer)
    save_snapshot(tmp_path / "a.pt", Position(), layer, optimizer, {})
    own = torch.optim.AdamW([{"params": [*layer.parameters()], "factor": 3.0}], weight_decay=0.5)
    load_snapshot(tmp_path / "a.pt", layer, own)
    assert own.param_groups[0]["weight_decay"] == 0.5 and own.param_groups[0]["factor"] == 3.0
    for value in layer.parameters():
        assert torch.equal(own.state[value]["exp_avg"], optimizer.state[value]["exp_avg"])


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04half"])
def test_a_broken_snapshot_names_the_file(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="a.pt"):
        load_snapshot(tmp_path / "a.pt", *layer_and_optimizer())


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    write_torch({"x": 1}, path)

    def half(value, target):
        target.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(snapshots.torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        write_torch({"x": 2}, path)
    monkeypatch.undo()
    assert torch.load(path) == {"x": 1}


def test_seeding_repeats_all_generators():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first


def test_records_are_lines_of_json_and_an_epoch_that_is_run_again_replaces_them(tmp_path):
    path = tmp_path / "epochs.jsonl"
    records = sorted(RECORDS, key=lambda record: record["epoch"])
    for record in records:
        put_record(path, record)
    assert [json.loads(line) for line in path.read_text("utf8").splitlines()] == records
    again = {"epoch": 2, "loss": 9.0, "cer": 0.1, "note": "中"}
    put_record(path, again)
    assert [json.loads(line) for line in path.read_text("utf8").splitlines()] == [records[0], again]
    assert read_records(path) == [records[0], again]


def test_records_of_a_run_without_epochs(tmp_path):
    with pytest.raises(DataError, match="train at least one epoch first"):
        read_records(tmp_path / "epochs.jsonl")


@pytest.mark.parametrize(
    ("metric", "count", "last", "expected"),
    [
        ("loss", 1, False, [4]),
        ("loss", 2, False, [2, 4]),
        ("cer", 1, False, [3]),
        ("cer", 2, False, [3, 4]),  # of equals the later
        ("cer", 9, False, [1, 2, 3, 4]),
        ("", 2, True, [3, 4]),
    ],
)
def test_best_epochs(metric, count, last, expected):
    assert best_epochs(RECORDS, metric, count, last) == expected


def test_average_is_the_mean_of_weights_and_the_last_of_counters(tmp_path):
    paths = []
    for number in range(3):
        state = {"w": torch.full((2,), float(number) ** 2), "n": torch.tensor(number)}
        state["h"] = torch.full((2,), float(number), dtype=torch.bfloat16)
        paths.append(tmp_path / f"epoch-{number}.pt")
        torch.save(state, paths[-1])
    mean = average_weights(paths)
    torch.testing.assert_close(mean["w"], torch.full((2,), 5 / 3))
    assert mean["n"] == 2
    assert mean["h"].dtype == torch.bfloat16
    assert mean["h"].tolist() == [1.0, 1.0]


def test_average_of_one_is_itself(tmp_path):
    torch.save({"w": torch.rand(3)}, tmp_path / "a.pt")
    mean = average_weights([tmp_path / "a.pt"])
    assert torch.equal(mean["w"], torch.load(tmp_path / "a.pt")["w"])
