"""The bundled model: what a user has right after the installation, with no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paraformer.data.corpus.tables import read_table
from paraformer.data.text.score import score, units
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
MODEL = ROOT / "paraformer/bundled/paraformer-zh-mini"
DEMO_CER = 30.0  # per cent


def funasr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paraformer", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_it_is_small_and_in_the_released_layout() -> None:
    names = {path.name for path in MODEL.iterdir()}
    assert {"config.yaml", "configuration.json", "model.pt", "am.mvn", "tokens.json"} <= names
    assert (MODEL / "model.pt").stat().st_size <= 20e6
    assert "CC BY-SA 4.0" in (MODEL / "README.md").read_text(encoding="utf8")


def test_it_recognises_the_demo_clips_from_any_folder(tmp_path: Path) -> None:
    done = funasr(tmp_path, "+model=paraformer-zh-mini", f"+input={MODEL / 'example'}")
    assert done.returncode == 0, done.stderr
    hyps = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    counts = score(read_table(MODEL / "example/text"), hyps, units).counts
    # The model card gives its error rate on sentences of this voice; far above it something broke.
    assert counts.percent <= DEMO_CER
    assert list(tmp_path.iterdir()) == []


def test_it_is_what_funasr_takes_when_no_model_is_named(tmp_path: Path) -> None:
    clip = MODEL / "example/asr_example.wav"
    done = funasr(tmp_path, str(clip), "--output-format", "json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["key"] == "asr_example" and result["text"]
    assert len(result["token_confidence"]) == len(result["tokens"])
