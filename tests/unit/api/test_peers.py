"""An export counts once runtimes have heard what torch hears. Here these are stand-ins, whose
answers stand in a file; those of the registry run in whole/test_onnx_peers.py.
"""

from __future__ import annotations

import json
import sys

import pytest

from paraformer import AutoModel
from paraformer.api.graphs import write_graphs
from paraformer.errors import CheckpointError, ConfigError
from paraformer.export.directory import CLIP
from paraformer.models.release import save_directory
from paraformer.options import ExportOptions
from tests import tiny

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

STAND_IN = """
import json
from pathlib import Path

SAID = json.loads(Path(__file__).with_name("said.json").read_text())

class Paraformer:
    def __init__(self, model_dir, quantize, batch_size, **_):
        assert (Path(model_dir) / "model.onnx").is_file() and not quantize
        if SAID is None:
            raise RuntimeError("no such graph")
        self.size = batch_size

    def __call__(self, paths):
        return [{"preds": SAID[str(self.size)]} for _ in paths]
"""


@pytest.fixture
def python(tmp_path):
    """A Python that has a stand-in for funasr-onnx: its texts by sizes of batches -> its path."""

    def made(said):
        site = tmp_path / "site"
        package, info = site / "funasr_onnx", site / "funasr_onnx-0.4.3.dist-info"
        for folder in (package, info):
            folder.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(STAND_IN)
        (package / "said.json").write_text(json.dumps(said))
        (info / "METADATA").write_text("Name: funasr-onnx\nVersion: 0.4.3\n")
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return save_directory(tmp_path_factory.mktemp("tiny") / "model", tiny.release(seed=3))


def options(source, out, **given):
    return ExportOptions(model=str(source), out=str(out), layout="funasr-onnx", **given)


@pytest.fixture(scope="module")
def text(source):
    """What torch hears in the clip."""
    (result,) = AutoModel(str(source), device="cpu").generate(str(CLIP), lm_file="none")
    return result["text"].replace(" ", "")


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "wav.scp"
    path.write_text(f"a {CLIP}\nb {CLIP}\nbroken nowhere.wav\n", encoding="utf-8")
    return str(path)


def test_what_a_runtime_heard_is_told_and_noted(source, tmp_path, python, text, listed):
    out, found = tmp_path / "out", python({"1": text, "8": " ".join(text)})
    lines = write_graphs(options(source, out, check=listed, peers=found))
    told = [line for line in lines if line.startswith("funasr-onnx 0.4.3 ")]
    assert [line.split(" ", 2)[2] for line in told] == [
        "texts: 2 of 2 are those of torch",
        "texts, 8 at a time: 2 of 2 are those of torch",
    ]
    (heard, batch) = json.loads((out / "export.json").read_text())["peers"]["funasr-onnx"]
    assert heard == {
        "peer": "funasr-onnx",
        "version": "0.4.3",
        "what": "texts",
        "compared": 2,
        "changed": [],
    }
    assert batch == {**heard, "what": "texts, 8 at a time"}


def test_a_runtime_that_hears_otherwise_refuses_the_export(source, tmp_path, python, text, listed):
    out, other = tmp_path / "out", text[:-1] + "的"
    with pytest.raises(CheckpointError) as caught:
        write_graphs(options(source, out, check=listed, peers=python({"1": text, "8": other})))
    assert str(caught.value) == (
        "funasr-onnx: texts, 8 at a time: 2 of 2 are not those of torch, such as a: "
        f"{other}, not {text}; nothing is written (peers=none leaves the runtimes out)"
    )
    with pytest.raises(CheckpointError, match=r"^funasr-onnx: does not run the export \(exit code"):
        write_graphs(options(source, out, check=listed, peers=python(None)))
    assert not out.exists()


def test_one_that_is_not_here_is_told(source, tmp_path, python):
    lines = write_graphs(options(source, tmp_path / "out", peers="none"))
    assert lines[-1].split() == [
        "funasr-onnx",
        "not",
        "run:",
        "give",
        "peers=PYTHON,",
        "one",
        "that",
        "has",
        "it",
    ]
    for wrong, reason in ((sys.executable, "has neither"), ("/nowhere", "does not run")):
        with pytest.raises(ConfigError, match=f"^peers={wrong}: {reason}"):
            write_graphs(options(source, tmp_path / "other", peers=wrong))
    assert not (tmp_path / "other").exists()
