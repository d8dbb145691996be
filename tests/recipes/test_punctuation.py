"""The punctuation recipe runs from plain text to F1, and its model is a released directory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from paraformer.data.corpus.tables import read_table
from paraformer.data.text.words import read_marks, strip_marks
from paraformer.decode.punctuate import PunctuationState, Punctuator
from paraformer.models.ct_transformer import CausalSanmEncoder
from paraformer.models.release import load_punctuation
from tests.conftest import ROOT, SHARED

pytestmark = pytest.mark.recipe
RECIPE = ROOT / "egs/punctuation/s0"
MARKS = "，。？、"
SENTENCES = [
    "我们今天去了城里，买了一些东西。",
    "“你好！”他说：“你要到哪里去？”",
    "一九三六年，他有三十五个学生——都是好人……",
    "苹果、桃子、梨，他都喜欢；可是没有钱。",
]
# The same words otherwise: training text that shares 12 characters with the test is left out.
TESTED = ["今天我们买了苹果，城里没有人。", "你要钱吗？", "他有学生、梨、桃子：都好！"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real corpora where they are at hand, else a few sentences again and again."""
    if (SHARED / "data/punctuation/shu").is_dir():
        return SHARED / "data"
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "punctuation/shu").mkdir(parents=True)
    (folder / "punctuation/ud_gsdsimp").mkdir()
    for book in range(3):
        text = "标题\n\n" + "\n".join(SENTENCES * 80)
        (folder / f"punctuation/shu/{book}.txt").write_text(text, encoding="utf8")
    lines = "\n".join(TESTED * 10)
    (folder / "punctuation/ud_gsdsimp/dev.txt").write_text(lines, encoding="utf8")
    return folder


def run_recipe(work: Path, corpora: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RECIPE / "run.sh"), "--tiny", "true", "--work", str(work)]
    command += ["--corpora", str(corpora), *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, corpora: Path) -> Path:
    folder = tmp_path_factory.mktemp("punctuation")
    done = run_recipe(folder, corpora)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def test_data_have_the_same_words_with_and_without_marks(work: Path) -> None:
    for part in ("train", "dev", "test_gsd", "test_gsd_running"):
        marked = read_table(work / "data" / part / "text_marks")
        plain = read_table(work / "data" / part / "text")
        assert marked.keys() == plain.keys()
        for key, text in marked.items():
            words, marks = strip_marks(text, MARKS)
            assert strip_marks(plain[key], MARKS) == (words, [""] * len(words))
            assert marks[-1] in ("。", "？")
            assert not set(text) & set("！；：…—“”《》（）")


def test_the_tiny_model_learns_something(work: Path) -> None:
    lines = (work / "exp/train_tiny/epochs.jsonl").read_text("utf8").splitlines()
    records = [json.loads(line) for line in lines]
    assert records[-1]["f1"] > records[0]["f1"]
    assert max(record["f1"] for record in records) > 20


def test_f1_is_that_of_the_files(work: Path) -> None:
    folder = work / "exp/train_tiny/punctuated_test_gsd_running"
    last = (folder / "f1_last_true").read_text("utf8").splitlines()[-1]
    hits = written = wanted = 0
    hyps = read_table(folder / "text")
    for key, text in read_table(work / "data/test_gsd_running/text_marks").items():
        words, right = strip_marks(text, MARKS)
        found = read_marks(words, hyps[key], MARKS)
        hits += sum(a == b != "" for a, b in zip(right, found, strict=True))
        written, wanted = written + sum(map(bool, found)), wanted + sum(map(bool, right))
    assert last.startswith(f"%F1 all {200 * hits / (written + wanted):.2f} [")


def test_the_model_is_a_released_directory_and_marks_as_in_the_recipe(work: Path) -> None:
    final = work / "exp/train_tiny/calibrated"
    names = {path.name for path in final.iterdir()}
    assert names == {"config.yaml", "configuration.json", "model.pt", "tokens.json"}
    marker = Punctuator(load_punctuation(final))
    texts = read_table(work / "data/test_gsd/text")
    written = read_table(work / "exp/train_tiny/punctuated_test_gsd/text")
    assert written == {key: marker.punctuate(text).text for key, text in texts.items()}


def test_a_second_run_of_a_stage_changes_nothing(work: Path, corpora: Path) -> None:
    weights = work / "exp/train_tiny/final/model.pt"
    text = work / "exp/train_tiny/punctuated_dev/text"
    before = weights.read_bytes(), text.read_bytes()
    again = run_recipe(work, corpora, "--stage", "3", "--stop-stage", "6")
    assert again.returncode == 0, again.stderr[-2000:]
    assert (weights.read_bytes(), text.read_bytes()) == before


def test_a_missing_corpus_is_one_clear_line(tmp_path: Path) -> None:
    done = run_recipe(tmp_path, tmp_path / "nothing", "--stop-stage", "0")
    assert done.returncode == 1
    assert "punctuation/shu is not here; see the README" in done.stderr
    assert "Traceback" not in done.stderr


def test_text_of_the_test_is_not_trained_on(tmp_path: Path) -> None:
    lines = (SENTENCES[0], "这一段话在任何测试里都没有，所以它可以留下来。")
    folder = tmp_path / "corpora/punctuation"
    (folder / "shu").mkdir(parents=True)
    (folder / "ud_gsdsimp").mkdir()
    (folder / "ud_gsdsimp/dev.txt").write_text(SENTENCES[0], encoding="utf8")
    for book in range(40):
        (folder / f"shu/{book}.txt").write_text("\n".join(lines), encoding="utf8")
    done = run_recipe(tmp_path, folder.parent, "--stop-stage", "0")
    assert done.returncode == 0, done.stderr[-2000:]
    texts = read_table(tmp_path / "data/train/text_marks").values()
    assert set(texts) == {lines[1]}
    assert (tmp_path / "data/test_gsd/text").is_file()
    (folder / "ud_gsdsimp/dev.txt").unlink()
    done = run_recipe(tmp_path, folder.parent, "--stop-stage", "0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "test_gsd: its corpus is not here, it will not be scored" in done.stderr
    assert not (tmp_path / "data/test_gsd/text").exists()


def test_the_real_time_form_trains_and_streams(work: Path, corpora: Path) -> None:
    config = ("--config", "conf/train_tiny_realtime.yaml", "--stage", "3", "--stop-stage", "4")
    done = run_recipe(work, corpora, *config)
    assert done.returncode == 0, done.stderr[-4000:]
    release = load_punctuation(work / "exp/train_tiny_realtime/calibrated")
    assert isinstance(release.model.encoder, CausalSanmEncoder)
    assert release.config["model"] == "CTTransformerStreaming"
    marker = Punctuator(release)
    text = next(iter(read_table(work / "data/test_gsd_running/text").values()))
    state, pieces = PunctuationState(), []
    for begin in range(0, len(text), 30):
        piece, state = marker.punctuate_chunk(text[begin : begin + 30], state)
        pieces.append(piece)
    whole = "".join(pieces) + marker.finish(state)
    assert "".join(c for c in whole if c not in MARKS + ",.? ") == "".join(
        c for c in text if c not in ",.? "
    )
    assert any(mark in whole[:-1] for mark in MARKS)
