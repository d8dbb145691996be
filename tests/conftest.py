"""Shared by all tests: where the oracle material lies, and small models and data made from code."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
    # Before torch is imported: the processors have a worker each, which shares its own with nobody.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PARAFORMER_SHARED", ROOT.parent / "shared"))
settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def log_level():
    """A model or a command that was asked to be quiet does not silence the tests behind it."""
    before = {name: logger.level for name, logger in ours().items()}
    yield
    for name, logger in ours().items():
        logger.setLevel(before.get(name, logging.NOTSET))


def ours() -> dict[str, logging.Logger]:
    """The loggers of the package that are there."""
    named = {n: g for n, g in logging.root.manager.loggerDict.items() if n.startswith("paraformer")}
    return {name: logger for name, logger in named.items() if isinstance(logger, logging.Logger)}


@pytest.fixture(scope="session")
def mini_export(tmp_path_factory):
    """The bundled recogniser as graphs for both runtimes."""
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    from paraformer.export.directory import export_model
    from paraformer.hub.directories import BUNDLED

    source = BUNDLED / "paraformer-zh-mini"
    return export_model(source, tmp_path_factory.mktemp("export") / "graphs")


needs_shared = pytest.mark.skipif(
    not (SHARED / "oracle").is_dir(),
    reason="oracle material not here: set PARAFORMER_SHARED to its folder",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Logs may hold names of files that are not UTF-8; reports go between processes as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report
