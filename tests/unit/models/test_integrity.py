"""Weights are what was written, or they are refused in one line; never others."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from paraformer.errors import CheckpointError
from paraformer.models import integrity
from paraformer.models.integrity import Remembered
from paraformer.models.release import (
    load_aligner,
    load_directory,
    load_punctuation,
    load_vad,
    save_directory,
    weights_of,
)
from paraformer.models.weights import load_matching, read_torch, read_weights, stored_dtype
from paraformer.train.snapshots import average_weights, load_snapshot
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
LOADERS = {
    "conformer": load_directory,
    "contextual": load_directory,
    "fsmn_vad": load_vad,
    "ct_punc": load_punctuation,
    "fa-zh": load_aligner,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path):
    """The weights of a model; 16-bit ones, so that more of the file is values than is not."""
    return weights_of(save_directory(tmp_path / "model", tiny.release(), dtype=torch.float16))


def flipped(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def test_a_flipped_bit_is_refused_or_changes_nothing(path):
    """Bits of what fills the zip up count for nothing; a third of them got another result."""
    content, expected = path.read_bytes(), read_weights(path)
    random, refused = np.random.default_rng(0), 0
    for _ in range(150):
        path.write_bytes(
            flipped(content, int(random.integers(len(content))), int(random.integers(8)))
        )
        try:
            assert tiny.equal(read_weights(path), expected)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
            assert str(error).startswith(f"{path}: ")
    assert refused > 60


def test_a_flipped_bit_of_a_value_is_named(path):
    content = path.read_bytes()
    value = next(v for v in read_weights(path).values() if v.numel() > 100)
    place = content.index(value.numpy().tobytes())
    path.write_bytes(flipped(content, place + 50, 3))
    remedy = "does not fit its checksum"
    for read in (read_torch, read_weights, stored_dtype, lambda p: average_weights([p])):
        with pytest.raises(CheckpointError, match=rf"model\.pt: is damaged \('.*' {remedy}"):
            read(path)
    with pytest.raises(CheckpointError, match=remedy):
        load_matching(tiny.release().model, path)
    with pytest.raises(CheckpointError, match=remedy):
        load_directory(path.parent)


def linked(source, folder):
    """A copy of a model directory without copies of its files."""
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    return folder


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_name(name, value, tmp_path):
    folder = linked(ORACLE / name, tmp_path / "model")
    state = read_weights(folder / "model.pt")
    weight = sorted(key for key, each in state.items() if each.is_floating_point())[-1]
    state[weight] = state[weight].clone()
    state[weight].view(-1)[-1] = value
    (folder / "model.pt").unlink()
    torch.save(state, folder / "model.pt")
    with pytest.raises(CheckpointError, match=rf"model\.pt: {weight} holds NaN or infinity"):
        LOADERS[name](folder)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "odd"),
    [
        ("meta", lambda x: x.to("meta")),
        ("sparse", lambda x: x.to_sparse()),
        ("quantised", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
        ("complex", lambda x: torch.complex(x, x)),
    ],
)
def test_tensors_of_odd_kinds_are_one_line(path, kind, odd):
    state = {name: value.float() for name, value in read_weights(path).items()}
    name = next(name for name, value in state.items() if value.dim() == 2)
    torch.save({**state, name: odd(state[name])}, path)
    with pytest.raises(CheckpointError, match=rf"model\.pt: {name} is .*{kind}") as caught:
        load_directory(path.parent)
    assert "\n" not in str(caught.value)


def test_a_file_without_checksums_is_read_and_its_values_checked(path):
    """That of torch before 1.6."""
    state = {name: value.float() for name, value in read_weights(path).items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert tiny.equal(read_weights(path), state)
    next(iter(state.values())).fill_(float("nan"))
    torch.save(state, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="holds NaN"):
        read_weights(path)


def test_a_large_file_is_checked_once(path, cache, monkeypatch):
    """As long as neither its size nor a time nor its inode changes."""
    monkeypatch.setattr(integrity, "REMEMBERED_BYTES", 0)
    read_weights(path)
    assert not cache.exists()  # it is too young: it could change within the same tick
    monkeypatch.setattr(integrity, "FRESH_SECONDS", -1.0)
    read_weights(path)
    assert Remembered(path).known
    checked = []
    monkeypatch.setattr("paraformer.models.weights.damage_of", lambda p: checked.append(p) or "")
    read_weights(path)
    assert checked == []
    os.utime(path, (1, 1))
    assert not Remembered(path).known
    read_weights(path)
    assert checked == [path]
    twin = path.with_name("twin.pt")
    twin.write_bytes(path.read_bytes())
    assert not Remembered(twin).known
    for number in range(integrity.MOST_REMEMBERED + 5):
        os.utime(path, (2 + number, 2))
        Remembered(path).add()
    (remembered,) = cache.rglob("weights-in-order")
    assert len(remembered.read_text().splitlines()) == integrity.MOST_REMEMBERED


def test_without_a_cache_nothing_fails(path, cache, monkeypatch):
    monkeypatch.setattr(integrity, "REMEMBERED_BYTES", 0)
    monkeypatch.setattr(integrity, "FRESH_SECONDS", -1.0)
    cache.write_text("a file where the folder would be")
    read_weights(path)
    cache.unlink()
    (cache / "paraformer-toolkit").mkdir(parents=True)
    (cache / "paraformer-toolkit" / "weights-in-order").write_bytes(b"\xff\x00 no list")
    read_weights(path)
    assert Remembered(path).known  # and the list is one again
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(integrity.Path, "home", nowhere)
    read_weights(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2], "is no snapshot of a training"),
        ({"objective": {}}, "position, optimizer, torch_rng, cuda_rng missing"),
    ],
)
def test_a_snapshot_that_lacks_something_is_one_line(tmp_path, state, message):
    torch.save(state, tmp_path / "last.pt")
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters())
    with pytest.raises(CheckpointError, match=message):
        load_snapshot(tmp_path / "last.pt", module, optimizer)


def test_a_snapshot_whose_optimiser_does_not_fit_is_one_line(tmp_path):
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters())
    state = {"position": (1, 0, 0), "objective": module.state_dict(), "cuda_rng": []}
    state |= {"optimizer": {"state": {}}, "torch_rng": torch.get_rng_state()}
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt: does not fit this configuration"):
        load_snapshot(tmp_path / "last.pt", module, optimizer)
    state["objective"]["weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt: weight holds NaN"):
        load_snapshot(tmp_path / "last.pt", module, optimizer)
