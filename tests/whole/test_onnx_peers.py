"""funasr-onnx and sherpa-onnx themselves give our texts from one folder, alone and in batches."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from paraformer import AutoModel
from paraformer.export.directory import export_model
from paraformer.hub.directories import BUNDLED

# Where pip has put them, each in a venv of its own: funasr-onnx==0.4.3, sherpa-onnx==2.0.1.
PEERS = {
    "funasr": os.environ.get("PARAFORMER_FUNASR_ONNX_PYTHON", ""),
    "sherpa": os.environ.get("PARAFORMER_SHERPA_ONNX_PYTHON", ""),
}
MINI = BUNDLED / "paraformer-zh-mini"
CLIPS = sorted(str(path) for path in (MINI / "example").glob("*.wav"))
PEER = Path(__file__).with_name("onnx_peer.py")

pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_model(MINI, tmp_path_factory.mktemp("peers") / "graphs").directory


@pytest.fixture(scope="module")
def texts():
    model = AutoModel("paraformer-zh-mini", device="cpu")
    results = model.generate(CLIPS, lm_file="none")
    return [result["text"].replace(" ", "") for result in results]


@pytest.mark.parametrize("batch", [1, len(CLIPS)])
@pytest.mark.parametrize("runtime", PEERS)
def test_a_peer_gives_our_texts(runtime, batch, folder, texts):
    python = PEERS[runtime]
    if not python:
        pytest.skip(f"PARAFORMER_{runtime.upper()}_ONNX_PYTHON names no Python that has it")
    command = [python, str(PEER), runtime, str(folder), str(batch), *CLIPS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TEXTS ")]
    assert json.loads(line.removeprefix("TEXTS ")) == texts and all(texts)
