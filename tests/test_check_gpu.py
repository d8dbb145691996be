"""The check of a GPU: silent where there is none, and its checks themselves run on a CPU."""

from __future__ import annotations

import json

import pytest
import torch

from tests import check_gpu


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_gpu.main([]) == 0
    assert capsys.readouterr().out == "no GPU\n"


@pytest.mark.parametrize(("fp32", "code"), [(5, 0), (4, 1)])
def test_another_text_of_fp32_is_a_failure(monkeypatch, tmp_path, fp32, code):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some device")
    found = {"parity": {"texts": 5, "equal in fp32": fp32, "equal in bf16": 5}}
    monkeypatch.setattr(check_gpu, "report", lambda device: found)
    assert check_gpu.main([str(tmp_path / "report.json")]) == code
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == found


def test_the_checks_run_on_a_cpu(monkeypatch):
    monkeypatch.setattr(check_gpu, "COPIES", 1)
    monkeypatch.setattr(check_gpu, "CLIPS", check_gpu.CLIPS[:1])
    found = check_gpu.report("cpu")
    assert found["parity"]["texts"] == found["parity"]["equal in fp32"] == 1
    assert found["throughput"]["seconds of audio a second"] > 0
    assert 0 < found["stream"]["median ms"] <= found["stream"]["worst ms"]
