"""The recipe runs from raw recordings to error rates, and a second run of a stage changes
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, SHARED

pytestmark = pytest.mark.recipe
RECIPE = ROOT / "egs/mini_zh/s0"
CORPORA = SHARED / "data"
needs_corpora = pytest.mark.skipif(
    not (CORPORA / "dspspeech20").is_dir(), reason="corpora not here: set PARAFORMER_SHARED"
)


def run_recipe(work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RECIPE / "run.sh"), "--tiny", "true", "--work", str(work)]
    command += ["--corpora", str(CORPORA), *options]
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=1500, check=False
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini_zh")
    done = run_recipe(folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


@needs_corpora
def test_the_tiny_recipe_learns_something(work: Path) -> None:
    records = [
        json.loads(line)
        for line in (work / "exp/train_tiny/epochs.jsonl").read_text("utf8").splitlines()
    ]
    # Chance is all but nothing right among hundreds of tokens; 0.95 asks for real learning in
    # seconds.
    assert records[-1]["token_error_rate"] < 0.95
    assert records[-1]["loss_att"] < records[0]["loss_att"]


@needs_corpora
def test_every_test_set_is_scored(work: Path) -> None:
    for part in ("test_dsp", "test_hsk", "test_synthetic", "test_read"):
        cer = (work / f"exp/train_tiny/decode_{part}/score/cer").read_text("utf8")
        assert cer.startswith("%CER ") and "%PER_TONED " in cer


@needs_corpora
def test_no_test_text_or_speaker_is_in_the_training_list(work: Path) -> None:
    def column(part: str, table: str) -> set[str]:
        lines = (work / "data" / part / table).read_text("utf8").splitlines()
        return {line.split(maxsplit=1)[1] for line in lines}

    for part in ("test_hsk", "test_synthetic", "test_read"):
        assert not column(part, "text") & column("train", "text")
    assert not column("test_dsp", "utt2spk") & column("train", "utt2spk")


@needs_corpora
def test_the_result_is_a_released_directory_and_decoding_again_gives_the_same(work: Path) -> None:
    final = work / "exp/train_tiny/final"
    names = {path.name for path in final.iterdir()}
    assert {"config.yaml", "configuration.json", "model.pt", "am.mvn", "tokens.json"} <= names
    text = work / "exp/train_tiny/decode_test_dsp/text"
    before = text.read_bytes()
    again = run_recipe(work, "--stage", "6", "--stop-stage", "6")
    assert again.returncode == 0, again.stderr[-2000:]
    assert text.read_bytes() == before


@needs_corpora
def test_a_missing_corpus_is_one_clear_line(tmp_path: Path) -> None:
    done = run_recipe(tmp_path, "--corpora", str(tmp_path / "nothing"), "--stop-stage", "0")
    assert done.returncode == 1
    assert "none of the corpora is here" in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
