"""Weights that stay in their file give what weights in memory give, and do not lie there twice."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from paraformer.backends.packed import for_inference
from paraformer.errors import CheckpointError
from paraformer.models.mapped import in_memory, is_mapped, let_go
from paraformer.models.weights import load_weights, parameters, read_weights, write_torch

CPU = torch.device("cpu")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="pages go back on Linux alone")


def layers() -> torch.nn.Module:
    """A stack of 16 MiB."""
    stack = [torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.LayerNorm(512))]
    return torch.nn.Sequential(*stack, *(torch.nn.Linear(512, 512) for _ in range(15)))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "model.pt"
    write_torch(layers().state_dict(), file)
    return file


def loaded(path: Path, mapped: bool) -> torch.nn.Module:
    with parameters(fresh=False):
        model = layers()
    load_weights(model, path, mapped)
    return model


def pages_of_file(path: Path) -> int:
    """KiB of this process that are pages of a file."""
    found = re.findall(rf"{re.escape(str(path))}\n(?:\w+:.*\n)*?Rss: +(\d+)", smaps())
    return sum(map(int, found))


def smaps() -> str:
    return Path("/proc/self/smaps").read_text()


def test_what_is_mapped_computes_as_what_is_read(path):
    x = torch.randn(7, 512)
    twins = [for_inference(loaded(path, mapped), CPU) for mapped in (False, True)]
    with torch.inference_mode():
        read, mapped = (twin(x) for twin in twins)
    assert torch.equal(read, mapped)


@needs_linux
def test_a_checked_and_packed_model_holds_no_page_of_its_file(path):
    model = loaded(path, mapped=True)
    assert pages_of_file(path) < 1024  # the check of the values has let them go again
    model(torch.zeros(1, 512))
    assert pages_of_file(path) > 15000
    twin = for_inference(model, CPU)
    assert pages_of_file(path) < 1024
    del model
    assert str(path) not in smaps()  # not even a mapping, so that the file may go
    assert twin(torch.zeros(1, 512)).shape == (1, 512)


def test_a_parameter_that_was_changed_is_kept(path):
    model = loaded(path, mapped=True)
    weight = model[1].weight
    assert is_mapped(weight)
    with torch.no_grad():
        weight.fill_(3.0)
    assert not is_mapped(weight)
    let_go(weight)
    assert bool((weight == 3.0).all())
    assert not torch.equal(read_weights(path)["1.weight"], weight)  # the file stays as it is


def test_a_copy_in_memory_is_a_parameter_of_its_own(path):
    weight = loaded(path, mapped=True)[1].weight
    copy = in_memory(weight)
    assert isinstance(copy, torch.nn.Parameter) and torch.equal(copy, weight)
    assert copy.data_ptr() != weight.data_ptr() and in_memory(copy) is copy


def test_a_damaged_file_is_refused_mapped_as_well(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not fit its checksum"):
        read_weights(path, mapped=True)


def test_a_file_that_is_no_zip_is_read(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"x": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    value = read_weights(path, mapped=True)["x"]
    assert torch.equal(value, torch.ones(3)) and not is_mapped(value)


def test_a_model_loaded_for_inference_alone_is_read(path):
    with torch.inference_mode():
        assert not any(is_mapped(value) for value in read_weights(path, mapped=True).values())
