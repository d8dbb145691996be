"""funasr-onnx and sherpa-onnx themselves find in our exports all that torch finds, each in a
process of its own Python: recordings alone and in batches of eight, streams, segments, marks,
hotwords and voices.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from paraformer.api.graphs import write_graphs
from paraformer.hub.directories import BUNDLED
from paraformer.models.release import save_directory
from paraformer.options import ExportOptions
from tests import tiny, wide
from tests.conftest import SHARED
from tests.parity.oracle import FIXTURES

# Where pip has put them: funasr-onnx==0.4.3, sherpa-onnx==2.0.1, in one venv or two.
VARIABLES = {
    "funasr-onnx": "PARAFORMER_FUNASR_ONNX_PYTHON",
    "sherpa-onnx": "PARAFORMER_SHERPA_ONNX_PYTHON",
}
PYTHONS = {name: os.environ.get(each, "") for name, each in VARIABLES.items()}
# A data directory whose recordings and texts are compared, in the place of the examples.
DATA = os.environ.get("PARAFORMER_PEER_CLIPS", "")
# Speaker models: of the released sizes with random weights, small ones, and another directory.
VOICES = {
    "wide": {"embedding_size": 192, "growth_rate": 32, "bn_size": 4, "init_channels": 128},
    "oracle": SHARED / "oracle/campplus",
    "bundled": BUNDLED / "cam++-mini",
    "given": Path(os.environ.get("PARAFORMER_PEER_VOICES", "nowhere")),
}
MINI = BUNDLED / "paraformer-zh-mini"
WHOLE = [f"{what}{batch}" for batch in ("", ", 8 at a time") for what in ("texts", "times")]
STREAMS = ["streams, by its chunks"]

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
RUNTIMES = [
    pytest.param(
        peer,
        marks=pytest.mark.skipif(
            not PYTHONS[peer], reason=f"{variable} names no Python that has it"
        ),
    )
    for peer, variable in VARIABLES.items()
]
FUNASR, SHERPA = ([each] for each in RUNTIMES)


def found(peer, source, out, check=DATA, **given):
    """What a runtime compared -> the keys of what it has otherwise than torch."""
    options = {"layout": peer, "peers": PYTHONS[peer], "check": check, **given}
    write_graphs(ExportOptions(model=str(source), out=str(out), **options))
    report = json.loads((out / "export.json").read_text("utf-8"))
    rows = report["peers"][peer]
    assert all(row["compared"] for row in rows)
    return {row["what"]: row["changed"] for row in rows}


def model(name, tmp_path):
    """The bundled recogniser, or an architecture of tests/wide.py with random weights."""
    return MINI if name == "bundled" else wide.write(tmp_path / name, name)


@pytest.mark.parametrize("peer", RUNTIMES)
@pytest.mark.parametrize("name", ["bundled", "bicif"])
def test_texts_and_times_alone_and_in_batches_of_eight(name, peer, tmp_path):
    heard = found(peer, model(name, tmp_path), tmp_path / "out", layout="both")
    assert heard == {what: [] for what in WHOLE}


@pytest.mark.parametrize("peer", RUNTIMES)
@pytest.mark.parametrize("name", ["bundled", "streaming"])
def test_streams(name, peer, tmp_path):
    heard = found(peer, model(name, tmp_path), tmp_path / "out", streaming=True)
    assert heard == {what: [] for what in STREAMS}


@pytest.mark.parametrize("peer", FUNASR)
def test_segments(peer, tmp_path):
    heard = found(peer, BUNDLED / "fsmn-vad-mini", tmp_path / "out")
    assert heard == {"segments": [], "segments of streams": []}


@pytest.mark.parametrize("peer", RUNTIMES)
def test_marks(peer, tmp_path):
    assert found(peer, BUNDLED / "ct-punc-mini", tmp_path / "out") == {"marks": []}


@pytest.mark.parametrize("peer", FUNASR)
def test_marks_in_real_time(peer, tmp_path):
    source = FIXTURES / "oracle/ct_punc_streaming"
    assert found(peer, source, tmp_path / "out") == {"marks": []}


@pytest.mark.parametrize("peer", FUNASR)
def test_hotwords(peer, tmp_path):
    heard = found(peer, FIXTURES / "oracle/seaco", tmp_path / "out")
    assert list(heard.values()) == [[]] and "hotwords" in str(heard)


@pytest.mark.parametrize("peer", SHERPA)
@pytest.mark.parametrize("name", VOICES)
def test_voices(name, peer, tmp_path):
    source = VOICES[name]
    if isinstance(source, dict):
        source = save_directory(tmp_path / "voices", tiny.voices({"model_conf": source}))
    elif not source.is_dir():
        pytest.skip(f"{source}: not here")
    assert found(peer, source, tmp_path / "out", check="") == {"voices": []}
