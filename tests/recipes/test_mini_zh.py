"""The recipe runs from raw recordings to error rates, and a second run of a stage changes
nothing. The recordings are tones in the layout of the corpora, so that this runs anywhere.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from paraformer.data.corpus.tables import read_table
from paraformer.data.text.ngram_table import NgramTable
from paraformer.models.release import load_aligner, load_directory
from paraformer.models.weights import read_weights
from tests.conftest import ROOT, SHARED
from tests.recipes.tones import write_corpora

pytestmark = pytest.mark.recipe
RECIPE = ROOT / "egs/mini_zh/s0"
TESTS = ("test_dsp", "test_hsk", "test_synthetic", "test_read")


def run_recipe(work: Path, corpora: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RECIPE / "run.sh"), "--tiny", "true", "--work", str(work)]
    command += ["--corpora", str(corpora), *options]
    env = {"OMP_NUM_THREADS": "2", **os.environ}
    return subprocess.run(
        command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=1500, check=False
    )


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def work(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini_zh")
    first = ("--mwer", "true", "--stop-stage", "7")
    second = ("--stage", "8", "--test-sets", "test_dsp", "--lm", "true", "--lm-weights", "0 0.2")
    for options in (first, second):
        done = run_recipe(folder, corpora, *options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def test_the_tiny_recipe_learns_something(work: Path) -> None:
    records = [
        json.loads(line)
        for line in (work / "exp/train_tiny/epochs.jsonl").read_text("utf8").splitlines()
    ]
    # Chance is a token error rate of nearly 1.
    assert records[-1]["token_error_rate"] < 0.8
    assert records[-1]["loss_att"] < records[0]["loss_att"]


def test_the_fine_tuning_by_errors_starts_from_what_was_trained(work: Path) -> None:
    names = ("train_tiny", "train_mwer_tiny")
    paths = [work / f"exp/{name}/epochs.jsonl" for name in names]
    before, after = (json.loads(path.read_text("utf8").splitlines()[-1]) for path in paths)
    assert after["token_error_rate"] < before["token_error_rate"] + 0.05
    assert "loss_werr" in after and "loss_werr" not in before


@pytest.mark.parametrize("model", ["train_tiny", "train_mwer_tiny"])
def test_every_test_set_is_scored(work: Path, model: str) -> None:
    for part in TESTS:
        cer = (work / f"exp/{model}/decode_{part}/score/cer").read_text("utf8")
        assert cer.startswith("%CER ") and "%PER_TONED " in cer


def test_only_the_named_sets_are_decoded_as_streams(work: Path) -> None:
    streamed = list((work / "exp/train_tiny").glob("stream_*"))
    assert [path.name for path in streamed] == ["stream_0-10-5_4_test_dsp"]
    assert (streamed[0] / "score/cer").read_text("utf8").startswith("%CER ")


def test_the_language_model_is_of_the_training_text_and_used(work: Path) -> None:
    folder = work / "exp/train_tiny"
    heard = {*re.findall("[\u4e00-\u9fff]", "".join(read_table(work / "data/lm/text").values()))}
    assert heard and heard <= {*NgramTable(folder / "final/ngrams.lm").words}
    weights = {each: work / f"data/lm/weight_{each}/score/cer" for each in ("0", "0.2")}
    errors = {each: float(path.read_text("utf8").split()[1]) for each, path in weights.items()}
    best = min(errors, key=lambda each: (errors[each], each))
    assert f"\nlm_weight: {best}\n" in (folder / "final/config.yaml").read_text("utf8")
    assert (folder / "decode_lm_test_dsp/score/cer").is_file()
    assert "lm_file=none" in (folder / "decode_test_dsp/log/decode.1.log").read_text("utf8")


@pytest.fixture(scope="module")
def heads(work: Path, corpora: Path) -> tuple[Path, str]:
    """The folder of the second part of the recipe, and what it printed."""
    command = ["bash", str(RECIPE / "run_heads.sh"), "--tiny", "true", "--work", str(work)]
    command += ["--marks", str(corpora / "synthetic/text_marks")]
    env = {"OMP_NUM_THREADS": "2", **os.environ}
    done = subprocess.run(
        command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return work / "exp", done.stdout


def test_heads_are_trained_on_a_model_that_stays_as_it_is(heads: tuple[Path, str]) -> None:
    exp, _ = heads
    base = read_weights(exp / "train_tiny/final/model.pt")
    for folder, kind in (("final", "SeacoParaformer"), ("times", "BiCifParaformer")):
        release = load_directory(exp / "train_heads_tiny" / folder)
        assert type(release.model).__name__ == kind
        trained = read_weights(exp / "train_heads_tiny" / folder / "model.pt")
        tied = "decoder.embed.0.weight" if folder == "final" else ""
        assert all(value.equal(trained[name]) for name, value in base.items() if name != tied)
    records = exp / "train_heads_tiny/epochs.jsonl"
    last = json.loads(records.read_text("utf8").splitlines()[-1])
    assert last["loss_time"] < 0.6 and last["loss_pre2"] < 0.5 and last["loss_seaco"] < 4.0


def test_the_aligner_finds_the_words(heads: tuple[Path, str]) -> None:
    """Tones with pauses between: by chance the error would be the length of a word and more."""
    exp, said = heads
    errors = [float(x) for x in re.findall(r"mean absolute error ([\d.]+) ms", said)]
    assert len(errors) == 2 and errors[0] < 400
    assert said.count("recall ") == 2
    assert load_aligner(exp / "train_aligner_tiny/final").config["token_ends"] == "sound"


def check_lists(data: Path) -> None:
    """No text of a test set, and no speaker of the one of speakers, is in the training list."""
    for part in ("test_hsk", "test_synthetic", "test_read"):
        texts = set(read_table(data / part / "text").values())
        assert texts and not texts & set(read_table(data / "train" / "text").values())
    speakers = set(read_table(data / "test_dsp" / "utt2spk").values())
    assert speakers and not speakers & set(read_table(data / "train" / "utt2spk").values())


def test_no_test_text_or_speaker_is_in_the_training_list(work: Path) -> None:
    check_lists(work / "data")


@pytest.mark.skipif(
    not (SHARED / "data/dspspeech20").is_dir(), reason="corpora not here: set PARAFORMER_SHARED"
)
def test_the_lists_of_the_corpora_themselves(tmp_path: Path) -> None:
    """The whole of them, not the few clips of --tiny."""
    done = run_recipe(tmp_path, SHARED / "data", "--tiny", "false", "--stop-stage", "0")
    assert done.returncode == 0, done.stderr
    check_lists(tmp_path / "data")
    assert len(read_table(tmp_path / "data/train/text")) > 10000


def test_the_result_is_a_released_directory_and_decoding_again_gives_the_same(
    work: Path, corpora: Path
) -> None:
    final = work / "exp/train_tiny/final"
    names = {path.name for path in final.iterdir()}
    assert {"config.yaml", "configuration.json", "model.pt", "am.mvn", "tokens.json"} <= names
    text = work / "exp/train_tiny/decode_test_dsp/text"
    before = text.read_bytes()
    some = ("--test-sets", "test_dsp")
    again = run_recipe(work, corpora, "--stage", "6", "--stop-stage", "6", *some)
    assert again.returncode == 0, again.stderr[-2000:]
    assert text.read_bytes() == before


def some_of(corpora: Path, folder: Path, *without: str) -> Path:
    """The corpora but for some."""
    folder.mkdir()
    for path in corpora.iterdir():
        if path.name not in without:
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize(
    ("without", "named"),
    [
        (("seedlingo",), "seedlingo"),
        (
            ("audio-cmn", "dspspeech20", "seedlingo"),
            "audio-cmn/24k-abr/hsk, dspspeech20, seedlingo",
        ),
    ],
)
def test_a_missing_corpus_to_train_with_is_one_clear_line(
    corpora: Path, tmp_path: Path, without: tuple[str, ...], named: str
) -> None:
    rest = some_of(corpora, tmp_path / "corpora", *without)
    done = run_recipe(tmp_path, rest, "--stop-stage", "0")
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if "stage 0" not in line)
    assert f"{rest}: has no recordings in {named}; fetch them with --stage -1" in line


def test_a_missing_corpus_to_test_with_is_said_and_not_scored(
    corpora: Path, tmp_path: Path
) -> None:
    """Nor is what an earlier run had of it."""
    assert run_recipe(tmp_path, corpora, "--stop-stage", "0").returncode == 0
    assert (tmp_path / "data/test_read/text").is_file()
    rest = some_of(corpora, tmp_path / "rest", "synthetic", "aishell3_samples")
    done = run_recipe(tmp_path, rest, "--stop-stage", "1")
    assert done.returncode == 0, done.stderr
    for part in TESTS:
        here = part in ("test_dsp", "test_hsk")
        said = f"{part}: its corpus is not here, it will not be scored" in done.stderr
        assert said is not here
        assert (tmp_path / "data" / part / "feats.scp").is_file() is here


def test_more_sentences_that_are_not_there_are_an_error(corpora: Path, tmp_path: Path) -> None:
    done = run_recipe(tmp_path, corpora, "--stop-stage", "0", "--extra", str(tmp_path / "none"))
    assert done.returncode == 1
    assert f"{tmp_path}/none: has no sentences; make them with local/speak" in done.stderr


@pytest.mark.parametrize(
    ("data", "hidden", "message"),
    [
        ("dev", "pypinyin", "needs pypinyin; pip install 'paraformer-toolkit[train]'"),
        ("nowhere", "nothing", "nowhere/text: no such file"),
    ],
)
def test_units_that_cannot_be_made_are_one_line(
    work: Path, tmp_path: Path, data: str, hidden: str, message: str
) -> None:
    (tmp_path / f"{hidden}.py").write_text("raise ImportError\n")
    lang = work / "data/lang"
    command = [sys.executable, str(RECIPE / "local/make_units.py"), str(work / "data" / data)]
    command += [str(lang / "seg_dict"), str(tmp_path / "units.txt")]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1
