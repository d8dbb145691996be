"""Devices and number formats by their names."""

from __future__ import annotations

import logging

import pytest
import torch

from paraformer import AutoModel
from paraformer import options as opts
from paraformer.backends import devices
from paraformer.backends.devices import choose_device, choose_format, format_of, parse_device
from paraformer.errors import ConfigError
from paraformer.models.kinds import PUNCTUATION, RECOGNISER
from paraformer.programs import hydra_main
from tests import tiny

CPU = torch.device("cpu")


def test_number_formats_and_their_types(caplog):
    assert [choose_format(name, CPU) for name in ("fp32", "bf16")] == [None, torch.bfloat16]
    assert choose_format("fp16", torch.device("cuda")) is torch.float16
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        assert choose_format("fp16", CPU) is None
    assert caplog.messages == ["fp16 is not for the CPU; float32 is used"]
    with pytest.raises(
        ConfigError, match="dtype=int4: not known; use fp32, bf16, fp16, int8, auto"
    ):
        choose_format("int4", CPU)


@pytest.mark.parametrize(
    ("kind", "device", "able", "found"),
    [
        (RECOGNISER, "cpu", True, "bf16"),
        (RECOGNISER, "cpu", False, "fp32"),
        (RECOGNISER, "cuda", True, "fp32"),
        (PUNCTUATION, "cpu", True, "fp32"),
    ],
)
def test_auto_is_bf16_for_recognisers_of_a_processor_that_multiplies_it(
    monkeypatch, kind, device, able, found
):
    monkeypatch.setattr(devices, "multiplies_bf16", lambda: able)
    assert format_of("auto", torch.device(device), kind) == found
    assert format_of("fp32", torch.device(device), kind) == "fp32"


@pytest.mark.parametrize(
    ("kind", "device", "able", "found"),
    [
        (RECOGNISER, "cpu", True, torch.int8),
        (RECOGNISER, "cpu", False, None),
        (RECOGNISER, "cuda", True, None),
        (PUNCTUATION, "cpu", True, None),
    ],
)
def test_int8_is_for_recognisers_of_a_processor_that_sums_it(
    monkeypatch, caplog, kind, device, able, found
):
    monkeypatch.setattr(devices, "multiplies_int8", lambda: able)
    with caplog.at_level(logging.WARNING):
        assert choose_format("int8", torch.device(device), kind) is found
    said = "int8 is for recognisers on a CPU with AVX-512 VNNI or AMX; float32 is used"
    assert caplog.messages == ([] if found else [said])


@pytest.mark.parametrize("name", ["avx512_vnni", "amx_int8", "avx512_bf16", "avx2"])
def test_the_processor_is_asked_for_products_of_8_bits(monkeypatch, name):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True})
    there = torch.backends.mkldnn.is_available() and name in ("avx512_vnni", "amx_int8")
    assert devices.multiplies_int8() == there


def test_the_processor_is_asked(monkeypatch):
    able = [("avx512_bf16", True), ("amx_bf16", True), ("avx512_bf16", False), ("avx2", True)]
    found = []
    for name, there in able:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda n=name, t=there: {n: t})
        found.append(devices.multiplies_bf16())
    assert found == [torch.backends.mkldnn.is_available()] * 2 + [False] * 2


def test_devices_by_name():
    assert [str(parse_device(name)) for name in ("cpu", "CUDA:1", "1")] == [
        "cpu",
        "cuda:1",
        "cuda:1",
    ]


def test_of_two_gpus_each_is_found_and_a_third_is_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    names = {"auto": "cuda", "cuda": "cuda", "1": "cuda:1", "cuda:1": "cuda:1", "cpu": "cpu"}
    assert {name: str(choose_device(name)) for name in names} == names
    assert not caplog.records and choose_device("cuda:2") == CPU
    assert [each.getMessage() for each in caplog.records] == [
        "device cuda:2 is not usable here; the CPU is used"
    ]
    caplog.clear()
    formats = {"auto": None, "fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    gpu = torch.device("cuda")
    assert {name: choose_format(name, gpu, RECOGNISER) for name in formats} == formats
    assert not caplog.records and choose_format("int8", gpu, RECOGNISER) is None
    assert "int8 is for recognisers on a CPU" in caplog.text


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"bf16": True}, {"dtype": "bf16"}),
        ({"fp16": True, "bf16": False}, {"dtype": "fp16"}),
        ({"bf16": True, "dtype": "bf16"}, {"dtype": "bf16"}),
        ({"bf16": False, "fp16": False, "key": 1}, {"key": 1}),
        ({"dtype": "auto", "bf16": False}, {"dtype": "fp32"}),
        ({"dtype": "fp32", "bf16": False}, {"dtype": "fp32"}),
        ({"dtype": None}, {}),
    ],
)
def test_switches_are_spellings_of_a_number_format(given, found):
    assert opts.renamed(given) == found


@pytest.mark.parametrize(
    "given",
    [
        {"bf16": True, "fp16": True},
        {"bf16": True, "dtype": "fp32"},
        {"bf16": False, "dtype": "bf16"},
    ],
)
def test_spellings_that_contradict_each_other_are_refused(given, tmp_path):
    with pytest.raises(ConfigError, match="contradict each other; give dtype alone"):
        AutoModel(tmp_path, **given)


def test_a_spelling_is_a_switch(tmp_path):
    with pytest.raises(ConfigError, match="bf16=maybe: give true or false"):
        AutoModel(tmp_path, bf16="maybe")


@pytest.mark.parametrize("argument", ["bf16=true", "dtype=bf16", "--bf16"])
def test_programs_know_the_spellings(monkeypatch, argument):
    seen = []
    monkeypatch.setattr(
        "sys.argv", ["align.py", "model=a", "data=b", "out=c", argument], raising=True
    )
    assert hydra_main.run("align", lambda config: seen.append(dict(config))) == 0
    assert seen[0]["dtype"] == "bf16"
    assert "bf16" not in seen[0]


def test_a_model_computes_in_the_number_format_that_was_asked_for(tmp_path):
    from paraformer.models.release import save_directory

    folder = save_directory(tmp_path / "model", tiny.release())
    for given in ({"dtype": "bf16"}, {"bf16": True}):
        model = AutoModel(folder, device="cpu", disable_pbar=True, **given)
        assert model.recognizer.dtype is torch.bfloat16
        assert model.recognizer.engine.dtype is torch.bfloat16
