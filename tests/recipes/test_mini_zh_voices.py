"""Sentences of many voices in the mini_zh recipe: made by jobs, with hums where nothing is fetched,
and kept apart from the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paraformer.data.corpus.tables import write_table
from paraformer.hub.directories import BUNDLED
from paraformer.models.release import load_directory, save_directory
from paraformer.models.weights import read_weights
from tests.conftest import ROOT
from tests.recipes.test_mini_zh_sentences import load

RECIPE = ROOT / "egs/mini_zh/s0"
prepare = load("prepare_data")


def make_voices(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "local/make_voices.sh", "--tiny", "true", *options, str(out / "none")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(out)],
        cwd=RECIPE,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_jobs_make_data_directories_and_a_second_run_makes_what_is_missing(tmp_path: Path) -> None:
    done = make_voices(tmp_path, "--num-utts", "6", "--nj", "2")
    assert done.returncode == 0, done.stderr
    parts = [tmp_path / "parts" / part for part in ("1", "2")]
    clips = prepare.collect_voices(tmp_path)
    assert len(clips) == 6 and {clip.part for clip in clips} == {"train"}
    assert all(clip.path.is_file() for clip in clips)
    assert len({clip.speaker for clip in clips}) == 6
    first = {path: path.stat().st_mtime_ns for part in parts for path in part.rglob("*.ogg")}
    done = make_voices(tmp_path, "--num-utts", "6", "--nj", "2")
    assert done.returncode == 0, done.stderr
    assert first == {p: p.stat().st_mtime_ns for part in parts for p in part.rglob("*.ogg")}


def test_no_sentences_asked_for_is_nothing_made(tmp_path: Path) -> None:
    done = make_voices(tmp_path, "--num-utts", "0")
    assert done.returncode == 0 and "no sentences asked for" in done.stderr
    assert list(tmp_path.iterdir()) == []


def listed(root: Path, rows: dict[str, tuple[str, str]]) -> None:
    """A data directory of id -> speaker, text; there are no recordings."""
    write_table(root / "text", {key: text for key, (_, text) in rows.items()})
    write_table(root / "utt2spk", {key: speaker for key, (speaker, _) in rows.items()})
    write_table(root / "wav.scp", {key: f"{key}.ogg" for key in rows})


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    rows = {f"K{n:03d}-1": (f"K{n:03d}", f"第{chr(0x4E00 + n)}句") for n in range(100)}
    rows["T001-1"] = ("T001", "这是要测的")
    listed(tmp_path / "many_voices", rows)
    (tmp_path / "many_voices/test.list").write_text("T001-1\n")
    two = {"B1": ("S1", "设定二十度"), "B2": ("S1", "这是要测的"), "B3": ("S2", "打开空调")}
    listed(tmp_path / "aishell1_sample", two)
    (tmp_path / "aishell1_sample/dev_seen.list").write_text("B3\n")
    listed(tmp_path / "real_sentences", {"R1": ("R", "打开空调"), "R2": ("Q", "真的句子")})
    return tmp_path


def test_the_listed_sentences_and_whole_speakers_are_held_out(corpora: Path) -> None:
    parts = {clip.key: clip.part for clip in prepare.many_voices(corpora)}
    assert parts.pop("voices-T001-1") == "test_voices"
    assert set(parts.values()) == {"train", "dev"}
    assert 0 < list(parts.values()).count("dev") < 10
    parts = {clip.key: clip.part for clip in prepare.aishell1(corpora)}
    assert parts == {"aishell1-B1": "train", "aishell1-B2": "train", "aishell1-B3": "dev"}


def test_real_sentences_are_tests_and_what_they_say_is_not_trained_on(
    corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "training_clips", lambda corpora: [])
    clips = {clip.key: clip.part for clip in prepare.collect(corpora, [], 1.0)}
    assert clips["real-R1"] == clips["real-R2"] == "test_real"
    assert "aishell1-B2" not in clips  # as a test of many voices
    assert "aishell1-B3" not in clips  # as a real sentence
    assert clips["aishell1-B1"] == "train"


def test_a_share_of_the_old_sentences_leaves_its_tests_whole(corpora: Path) -> None:
    rows = {f"Z{n:03d}": ("z", f"旧的{chr(0x5000 + n)}句") for n in range(300)}
    listed(corpora / "synthetic", rows)
    counts = {}
    for share in (1.0, 0.1):
        parts = [clip.part for clip in prepare.synthetic(corpora, share) if clip.part]
        counts[share] = {part: parts.count(part) for part in set(parts)}
    assert counts[1.0]["test_synthetic"] == counts[0.1]["test_synthetic"]
    assert counts[1.0]["train"] > 200 and 10 < counts[0.1]["train"] < 50


def test_mixed_weights_lie_between_those_of_two_models(tmp_path: Path) -> None:
    before = BUNDLED / "paraformer-zh-mini"
    release = load_directory(before)
    with torch.no_grad():
        for parameter in release.model.parameters():
            parameter.mul_(0.5)
    save_directory(tmp_path / "after", release, dtype=torch.float16)
    out = tmp_path / "out"
    command = [RECIPE / "local/mix_weights.py", before, tmp_path / "after", "0.5", out]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *map(str, command)], check=True, env=env, timeout=120)
    old, mixed = (read_weights(folder / "model.pt") for folder in (before, out))
    for name, _ in release.model.named_parameters():
        expected = 0.75 * old[name].float()
        torch.testing.assert_close(mixed[name].float(), expected, rtol=2e-3, atol=1e-6)
