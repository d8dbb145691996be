"""Settings of the training programs: each default is said once, each value is within its limits."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from omegaconf import OmegaConf

from paraformer.data.batches.augment import Augment
from paraformer.data.batches.dataset import Batching
from paraformer.errors import ConfigError
from paraformer.programs.hydra_main import defaults_of
from paraformer.programs.settings import LIMITS, PRECISIONS, pick_device, read_settings, section
from paraformer.train.chunking import DynamicChunk
from paraformer.train.consistency import Consistency
from paraformer.train.hotwords import Sampling
from paraformer.train.lora import Lora
from paraformer.train.lr_finder import Sweep
from paraformer.train.mwer import Mwer
from paraformer.train.new_tokens import NewTokens
from paraformer.train.objective import UnitCtc
from paraformer.train.optim import Optim
from paraformer.train.parallel import Ranks
from paraformer.train.punctuation import Sampling as PassageSampling
from paraformer.train.second_head import SecondHead
from paraformer.train.speakers import Crops, Margin
from paraformer.train.trainer import Training
from paraformer.train.vad import Pieces

SECTIONS = {
    "train": {
        "batching": Batching,
        "augment": Augment,
        "unit_ctc": UnitCtc,
        "dynamic_chunk": DynamicChunk,
        "second_head": SecondHead,
        "hotwords": Sampling,
        "lora": Lora,
        "consistency": Consistency,
        "new_tokens": NewTokens,
        "mwer": Mwer,
        "optim": Optim,
        "training": Training,
        "lr_finder": Sweep,
    },
    "train_vad": {"pieces": Pieces, "optim": Optim, "training": Training},
    "train_speaker": {
        "crops": Crops,
        "augment": Augment,
        "margin": Margin,
        "optim": Optim,
        "training": Training,
    },
    "train_punctuation": {"sampling": PassageSampling, "optim": Optim, "training": Training},
}
# The schedule of each program is its own, and masks are drawn in training alone.
OWN = {
    ("train", "augment"): {"freq_masks": 2, "time_masks": 2},
    ("train_vad", "optim"): {
        "lr": 0.001,
        "schedule": "cosine",
        "warmup_steps": 200,
        "total_steps": 4000,
    },
    ("train_vad", "training"): {"max_epoch": 1000, "max_steps": 4000},
    ("train_speaker", "augment"): {
        "noise_probability": 0.5,
        "room_probability": 0.3,
        "band_probability": 0.2,
        "freq_masks": 1,
        "freq_width": 8,
    },
    ("train_speaker", "optim"): {
        "lr": 0.002,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup_steps": 200,
        "total_steps": 4000,
    },
    ("train_speaker", "training"): {"max_epoch": 1000, "max_steps": 4000},
    ("train_punctuation", "optim"): {
        "lr": 0.001,
        "schedule": "cosine",
        "warmup_steps": 500,
        "total_steps": 10000,
    },
    ("train_punctuation", "training"): {"max_epoch": 1000, "max_steps": 10000},
}
PARTS = [(program, part) for program, parts in SECTIONS.items() for part in parts]


@pytest.mark.parametrize(("program", "part"), PARTS)
def test_a_configuration_has_the_defaults_of_its_section(program, part):
    """Every key that it shows, and no key that the section does not know."""
    kind, shown = SECTIONS[program][part], dict(defaults_of(program)[part])
    if part == "unit_ctc":
        assert shown.pop("units") is None  # which counts `size`
    known = {each.name: each.default for each in fields(kind)}
    known = {name: list(v) if isinstance(v, tuple) else v for name, v in known.items()}
    known |= OWN.get((program, part), {})
    assert shown == {name: known[name] for name in shown}
    if program == "train":
        assert known.keys() - shown.keys() <= {"size"}
    section(kind, part, shown if part != "unit_ctc" else {})


def test_each_section_of_a_training_configuration_is_one_of_these():
    parts = {key for key, value in defaults_of("train").items() if isinstance(value, dict)}
    assert parts == SECTIONS["train"].keys() | {"model", "overrides"}


@pytest.mark.parametrize(
    "program",
    [*("train", "train_vad", "train_speaker", "train_punctuation"), "average_model", "select_model"]
    + ["extend_model"],
)
def test_the_defaults_of_a_program_are_within_the_limits(program):
    config = OmegaConf.create({k: v for k, v in defaults_of(program).items() if v != "???"})
    settings = read_settings(config)
    assert LIMITS.keys() & settings.keys()
    if "precision" in settings:
        with pytest.raises(ConfigError, match="precision=fp8: not known; fp32 or fp16"):
            read_settings(OmegaConf.merge(config, {"precision": "fp8"}))


def test_a_value_out_of_its_limits_and_an_unknown_key_are_named():
    with pytest.raises(ConfigError, match="num=0: give a whole number of 1 or more"):
        read_settings(OmegaConf.create({"num": 0}))
    with pytest.raises(ConfigError, match="unknown key 'optim.lrr'; did you mean 'optim.lr'"):
        section(Optim, "optim", {"lrr": 1.0})
    assert {"fp32": torch.float32, "fp16": torch.float16} == PRECISIONS


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_training_does_not_fall_back_to_the_cpu_unasked() -> None:
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device=cuda: there is no such GPU"):
        pick_device("cuda")


def test_of_several_processes_each_trains_on_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    there = [Ranks(rank, 4, rank % 2) for rank in range(4)]  # two machines of two
    assert [str(pick_device("auto", ranks)) for ranks in there] == [*("cuda:0", "cuda:1") * 2]
    assert str(pick_device("cuda:1")) == "cuda:1"
    assert pick_device("cpu", there[1]) == torch.device("cpu")
    with pytest.raises(ConfigError, match="there is no such GPU"):
        pick_device("auto", Ranks(2, 3, 2))
