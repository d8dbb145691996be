"""Packages that the core does without: where one is missing, one line says what to install."""

from __future__ import annotations

import ast
import configparser
import logging
import re
import subprocess
import sys
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch

from paraformer.api.workers import hands_of
from paraformer.backends.onnx_session import Session
from paraformer.data.audio.cloud import Parts, download
from paraformer.data.corpus.der import best_pairs
from paraformer.data.text.score import pinyin, score, units
from paraformer.data.text.words import jieba_segmenter
from paraformer.decode.clustering import Bounds, cluster
from paraformer.decode.itn import Numerals
from paraformer.decode.language_model import LanguageModel
from paraformer.errors import ConfigError
from paraformer.export.onnx_file import store_half, store_int8
from paraformer.extras import EXTRAS, load_extra, load_torchaudio, torchaudio_release
from paraformer.models.safe_tensors import read_safetensors, write_safetensors
from paraformer.output.timed_formats import check_extra
from paraformer.programs.run_folder import make_writer
from paraformer.report import alignment_plot
from paraformer.report.error_page import report_html
from paraformer.report.figures import Look
from tests.conftest import ROOT

PICTURE = alignment_plot.Picture(
    torch.zeros(160), 16000, torch.zeros(1, 80), 0.01, torch.zeros(1), 0.06, [], None, []
)
SERVED = (
    "prometheus_client",
    "python_multipart",
    "starlette.applications",
    "uvicorn",
    "websockets",
)
# Module -> what a user does that needs it, and what the line begins with.
ROADS = {
    "aiohttp": (lambda file: Parts("https://x.org/x.tar"), "https://x.org/x.tar: "),
    "fsspec": (lambda file: download("s3://b/x.wav"), "s3://b/x.wav: "),
    "gcsfs": (lambda file: download("gs://b/x.wav"), "gs://b/x.wav: "),
    "ray": (lambda file: hands_of("ray"), "cluster=ray: "),
    "s3fs": (lambda file: download("s3://b/x.wav"), "s3://b/x.wav: "),
    "jieba": (jieba_segmenter, "{file}: this model cuts words: "),
    "jinja2": (lambda file: report_html(score({"a": "好"}, {"a": "好"}), "x"), "report: "),
    "kenlm": (LanguageModel, "lm_file: "),
    "matplotlib.figure": (
        lambda file: alignment_plot.draw(PICTURE, Look()),
        "plot_alignment: ",
    ),
    "onnx": (store_half, "export to ONNX: "),
    "onnxruntime": (Session, "graphs of ONNX: "),
    "onnxruntime.quantization": (store_int8, "export to ONNX: "),
    "opencc": (lambda file: units("好", simplified=True), "simplified: "),
    "praatio.textgrid": (lambda file: check_extra("textgrid"), "output_format=textgrid: "),
    **{
        package: (lambda file: import_module("paraformer.server.web").check_packages(), "serve: ")
        for package in SERVED
    },
    "pypinyin": (lambda file: pinyin("好"), "pinyin: "),
    "safetensors": (read_safetensors, "{file}: "),
    "safetensors.torch": (partial(write_safetensors, {}), "{file}: "),
    "scipy.optimize": (lambda file: best_pairs(np.eye(2)), "speakers: "),
    "scipy.linalg": (lambda file: cluster(np.eye(24), Bounds(2)), "spk_model: "),
    "threadpoolctl": (lambda file: cluster(np.eye(8), Bounds(2)), "spk_model: "),
    "sklearn.cluster": (lambda file: cluster(np.eye(8), Bounds(2)), "spk_model: "),
    "torch.utils.tensorboard": (make_writer, "curves: "),
}


def extras_of_setup() -> dict[str, set[str]]:
    """Extra -> packages, as setup.cfg has them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return {
        extra: {re.split(r"[<>=~! \[;]", line)[0] for line in lines.split("\n") if line}
        for extra, lines in setup["options.extras_require"].items()
    }


@pytest.fixture
def without(monkeypatch):
    """As if a package were not installed."""

    def hide(module: str) -> None:
        package = module.split(".")[0]
        hidden = [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]
        if package == "torch":
            hidden = []  # only the part that tensorboard is needed for
            package = module
        for name in hidden:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return hide


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_package_is_one_line(module, without, tmp_path, caplog):
    use, where = ROADS[module]
    file = tmp_path / "file"
    file.touch()
    without(module)
    package, extra = EXTRAS[module]
    with caplog.at_level(logging.WARNING):
        try:
            use(file)
            message = caplog.messages[-1]  # a run goes on without curves
        except ConfigError as error:
            message = str(error)
    begin = where.format(file=file)
    assert message == (
        f"{begin}needs the package {package}; pip install 'paraformer-toolkit[{extra}]'"
    )


def test_a_package_of_two_extras_is_named_by_the_one_that_is_used(without):
    without("jieba")
    with pytest.raises(ConfigError) as caught:
        Numerals()
    assert str(caught.value) == (
        "itn: needs the package jieba; pip install 'paraformer-toolkit[itn]'"
    )
    assert "jieba" in extras_of_setup()["itn"]


def test_the_lines_name_extras_that_have_these_packages():
    setup = extras_of_setup()
    assert all(package in setup[extra] for package, extra in EXTRAS.values())
    parts = set().union(*(names for extra, names in setup.items() if extra != "dev"))
    # The first wants a compiler, the others are large.
    assert parts - setup["dev"] <= {"kenlm", "gcsfs", "ray"}


def test_a_package_that_does_not_load_says_why(monkeypatch):
    def fail(name):
        raise ImportError("libx.so: cannot open shared object file\nmore")

    monkeypatch.setattr("paraformer.extras.import_module", fail)
    with pytest.raises(ConfigError) as caught:
        load_extra("kenlm", "lm_file")
    assert str(caught.value) == (
        "lm_file: kenlm does not load (libx.so: cannot open shared object file more); "
        "pip install 'paraformer-toolkit[lm]'"
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError("libtorchaudio.so: undefined symbol: _ZN3c10"),
        RuntimeError("PyTorch and TorchAudio were compiled with different CUDA versions"),
        AttributeError("module 'torch' has no attribute 'x'"),
        ImportError("No module named 'torchaudio'"),
    ],
)
def test_a_torchaudio_that_does_not_fit_is_one_line(monkeypatch, error):
    real = __import__("importlib").import_module

    def load(name):
        if name.startswith("torchaudio"):
            raise error
        return real(name)

    monkeypatch.setattr("paraformer.extras.import_module", load)
    with pytest.raises(ConfigError) as caught:
        load_torchaudio("local/align_ctc.py")
    line = str(caught.value)
    assert line.startswith(f"local/align_ctc.py: torchaudio does not load ({error}); ")
    assert line.endswith(f"pip install 'torchaudio=={torchaudio_release()}.*'")


@pytest.mark.parametrize(
    ("torch", "torchaudio"),
    [("2.4.1", "2.4"), ("2.9.0+cpu", "2.9"), ("2.10.0a0+git1", "2.10"), ("2.11.0+cu130", "2.11")]
    + [(f"2.{minor}.0", "2.11") for minor in (12, 13, 14, 15)],
)
def test_the_torchaudio_that_is_advised_is_one_that_there_is(monkeypatch, torch, torchaudio):
    """The newest at the package index is 2.11.1, which asks for torch 2.11 or later."""
    monkeypatch.setattr("torch.__version__", torch)
    assert torchaudio_release() == torchaudio


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_packages_of_extras_and_torchaudio_are_imported_by_one_road():
    """So that no import of one, wherever it is, ends in a traceback."""
    hidden = {module.split(".")[0] for module in EXTRAS} - {"torch"} | {"torchaudio", "librosa"}
    for path in (ROOT / "paraformer").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        for package in imported(tree) & hidden:  # behind the door, more of a package may be had
            assert f'load_extra("{package}' in path.read_text("utf-8"), path


@pytest.mark.cli
def test_recognition_does_without_the_extras_and_torchaudio(tmp_path):
    """In a process in which none of them can be imported."""
    names = {module.split(".")[0] for module in EXTRAS} - {"torch"}
    hidden = sorted(names | {"torchaudio", "tensorboard", "librosa", "umap", "modelscope"})
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
        "from paraformer.cli.main import main\n"
        "from paraformer.hub.directories import BUNDLED\n"
        "sys.exit(main([str(BUNDLED / 'paraformer-zh-mini/example/asr_example.wav'),"
        " '+vad_model=fsmn-vad-mini', '+punc_model=ct-punc-mini']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("今天，下午，")
