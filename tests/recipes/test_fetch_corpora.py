"""Stage -1 on look-alikes of the public repositories, served by git from a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from paraformer.data.corpus.tables import read_table
from tests.conftest import ROOT

RECIPE = ROOT / "egs/mini_zh/s0"
FILES = {
    "hugolpz/audio-cmn": ["24k-abr/hsk/cmn-一下.mp3"],
    "zhongyuchen/DSPSpeech-20": [
        "163/163-00-02.wav",
        "163/163-00-03.wav",
        "163/163-13-01.wav",
        "150/150-19-07.wav",
        "150/README.wav",
    ],
    "nodepa/seedlingo": ["a/三.mp3", "b/三.mp3", "b/home.mp3"],
    "shjwudp/shu": ["books/近代/呐喊.txt"],
}


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    for repository, names in FILES.items():
        folder = root / repository
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name, encoding="utf8")
        git(folder, "init", "--quiet")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "all")
    return root


def fetch(mirror: Path, corpora: Path) -> subprocess.CompletedProcess[str]:
    script = '. ./path.sh && exec local/fetch_corpora.sh "$1"'
    return subprocess.run(
        ["bash", "-c", script, "-", str(corpora)],
        cwd=RECIPE,
        env={**os.environ, "MIRROR": f"file://{mirror}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_what_is_fetched_is_laid_out_for_the_preparation(mirror: Path, tmp_path: Path) -> None:
    corpora = tmp_path / "corpora"
    for _ in range(2):  # a second run changes nothing
        done = fetch(mirror, corpora)
        assert done.returncode == 0, done.stderr
        assert (corpora / "audio-cmn/24k-abr/hsk/cmn-一下.mp3").is_file()
        assert [p.name for p in (corpora / "seedlingo/audio").iterdir()] == ["三.mp3"]
        assert (corpora / "punctuation/shu/呐喊.txt").is_file()
        assert read_table(corpora / "dspspeech20/text") == {
            "D01_W19_R01": "PROJECT",
            "D02_W00_R01": "数字",
            "D02_W00_R02": "数字",
            "D02_W13_R01": "SPEAKER",
        }


def test_a_source_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    done = fetch(tmp_path / "nothing", tmp_path / "corpora")
    assert done.returncode == 1
    assert "hugolpz/audio-cmn: cannot be fetched; set MIRROR" in done.stderr
