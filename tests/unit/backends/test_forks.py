"""A process that is forked after its models were at work gives what its parent gives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from paraformer import AutoModel
from paraformer.backends import forks
from paraformer.backends.devices import choose_device
from paraformer.errors import ConfigError
from tests.conftest import ROOT

HANG_S = 60
# Every kind of model at work with two threads, then in two forked processes.
PROGRAM = """
import multiprocessing, sys
import torch
from paraformer import AutoModel, forks

if sys.argv[1] == "old":  # an OpenMP that cannot end its threads
    forks._pause = lambda: False
clip, text = sys.argv[2], "今天的会就到这里吧"
names = ("paraformer-zh-mini", "fsmn-vad-mini", "ct-punc-mini", "fa-zh-mini")
make = lambda name: AutoModel(name, ncpu=2, device="cpu", disable_pbar=True)
models = {name: make(name) for name in names}
inputs = {"ct-punc-mini": text, "fa-zh-mini": (clip, text)}

def product():  # two threads for certain
    return float(torch.mm(torch.ones(500, 500), torch.ones(500, 500)).sum())

def work(name):
    if name == "another":  # made in this process
        return product(), make("paraformer-zh-mini").generate(clip), torch.get_num_threads()
    live = {"chunk_size": [0, 10, 5]} if name == "stream" else {}
    kinds = {"data_type": ("sound", "text")} if name == "fa-zh-mini" else {}
    model = models.get(name, models["paraformer-zh-mini"])
    return product(), model.generate(inputs.get(name, clip), **live, **kinds)

names += ("stream", "another")
wanted = [work(name)[:2] for name in names]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(work, names, chunksize=1).get(timeout=int(sys.argv[3]))
assert [each[:2] for each in found] == wanted
assert work(names[0])[:2] == wanted[0]
print(found[-1][2], torch.get_num_threads())
"""


def run(openmp: str) -> str:
    clip = ROOT / "tests" / "fixtures" / "oracle" / "inputs" / "clip_a.flac"
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, openmp, str(clip), str(HANG_S)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
        timeout=2 * HANG_S,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.mark.cli
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no fork, or it is minded")
@pytest.mark.parametrize(("openmp", "threads"), [("new", "2 2"), ("old", "1 2")])
def test_forked_processes_give_what_their_parent_gives(openmp, threads):
    """As many threads as it, or one where it cannot be otherwise."""
    assert run(openmp) == threads


def test_a_forked_process_is_told_that_the_gpu_is_its_parents(monkeypatch):
    """Of a model that it has of its parent, and of one that it makes."""
    process = forks._Process()
    monkeypatch.setattr(forks, "_PROCESS", process)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    model = AutoModel("ct-punc-mini", device="cpu", disable_pbar=True)
    choose_device("auto")
    process.before_fork()
    process.in_child()
    assert model.generate("你好")[0]["text"]
    monkeypatch.setattr(model.task, "device", torch.device("cuda"))
    for ask in (lambda: model.generate("你好"), lambda: choose_device("cuda:0")):
        with pytest.raises(ConfigError, match="device=cuda: .* spawn"):
            ask()
