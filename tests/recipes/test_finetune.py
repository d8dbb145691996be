"""The recipe, from a released directory of the reference and recordings to a released directory
that the reference reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from paraformer.api.auto import AutoModel
from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table, write_table
from paraformer.models.release import load_directory
from paraformer.models.weights import read_weights
from tests.conftest import ROOT
from tests.unit.models.test_release import PEER, READ

RECIPE = ROOT / "egs/finetune/s0"
FIXTURES = ROOT / "tests/fixtures/oracle"
START = FIXTURES / "paraformer"
CLIPS = {f"clip_{x}": FIXTURES / "inputs" / f"clip_{x}.flac" for x in "abc"}
SETTINGS = ("optim.lr=0.0002", "optim.warmup_steps=1", "training.max_epoch=2", "device=cpu")


def run_recipe(work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Started in the folder `work`, as a user does who has the data there."""
    command = ["bash", str(RECIPE / "run.sh"), "--nj", "1", *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=work, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def write_data(folder: Path, model: Path, size: int = 6) -> None:
    """The clips under paths relative to the directory, and a list of FunASR of them."""
    known = [t for t in json.loads((model / "tokens.json").read_text("utf8")) if "一" <= t <= "龥"]
    texts = {key: "".join(known[n * size :][:size]) for n, key in enumerate(CLIPS)}
    folder.mkdir(parents=True)
    for key, clip in CLIPS.items():
        (folder / f"{key}.flac").symlink_to(clip)
    write_table(folder / "wav.scp", {key: f"{key}.flac" for key in CLIPS})
    write_table(folder / "text", texts)
    entries = [
        {"key": key, "source": str(clip), "source_len": 1, "target": texts[key], "target_len": 1}
        for key, clip in CLIPS.items()
    ]
    entries += [{"key": "lost", "source": "none.wav", "target": "一"}]
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    folder.with_suffix(".jsonl").write_text(text, "utf8")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a list of FunASR to train with, and three new tokens."""
    folder = tmp_path_factory.mktemp("finetune")
    write_data(folder / "data", START)
    (folder / "new.txt").write_text("龘\n囧\n蛬\n", "utf8")
    data = ("--train", "data.jsonl", "--dev", "data", "--out", str(folder / "exp"))
    done = run_recipe(
        folder,
        "--model",
        str(START),
        *data,
        "--new-tokens",
        "new.txt",
        "--precision",
        "fp32",
        *SETTINGS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (folder / "log").write_text(done.stderr, "utf8")
    (folder / "results").write_text(done.stdout, "utf8")
    return folder


@pytest.mark.recipe
def test_a_released_directory_becomes_a_better_one_or_itself(work: Path) -> None:
    log, results = ((work / name).read_text("utf8") for name in ("log", "results"))
    assert "train: kept 3, dropped 1" in log and "dropped 1 x no such file" in log
    assert "exp/start: 3 new rows: 龘 囧 蛬" in log
    assert "the start:  %CER" in results and "the result: %CER" in results
    rows = (work / "exp/selection.tsv").read_text("utf8").splitlines()
    rates = {row.split("\t")[0]: float(row.split("\t")[1]) for row in rows[1:]}
    final = load_directory(work / "exp/final")
    assert final.tokenizer.tokens[-3:] == ["龘", "囧", "蛬"]
    assert min(rates.values()) <= rates["start"]
    before = read_weights(work / "exp/start/model.pt")
    after = read_weights(work / "exp/final/model.pt")
    assert any(not torch.equal(after[name], before[name]) for name in before)
    sizes = [(path / "model.pt").stat().st_size for path in (work / "exp/final", START)]
    assert sizes[0] <= 1.05 * sizes[1]
    assert set(read_table(work / "exp/decode_final/text")) == set(CLIPS)


@pytest.mark.recipe
def test_other_tokens_in_the_same_folder_are_refused(work: Path) -> None:
    (work / "others.txt").write_text("龘\n囧\n", "utf8")
    data = ("--train", "data", "--dev", "data", "--out", str(work / "exp"), "--stage", "1")
    done = run_recipe(work, "--model", str(START), *data, "--new-tokens", "others.txt", *SETTINGS)
    assert done.returncode != 0
    assert "exp/start: was made with" in done.stderr and "give another folder" in done.stderr


@pytest.mark.skipif(
    not PEER, reason="set PARAFORMER_PEER_PYTHON to a python that has the reference, funasr 1.4.16"
)
@pytest.mark.recipe
def test_the_reference_reads_the_result_and_gives_the_same_text(work: Path) -> None:
    folder = work / "exp/final"
    clips = [str(clip) for clip in CLIPS.values()]
    command = [PEER, "-c", READ, str(folder), *clips]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-2000:]
    model = AutoModel(str(folder))
    assert json.loads(lines[0].removeprefix("RESULT")) == [
        model.generate(clip)[0]["text"] for clip in clips
    ]


def program(
    name: str, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPE / "local" / name), *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=cwd)


def test_relative_paths_and_commands_are_meant_as_from_where_it_was_started(tmp_path: Path) -> None:
    """Of `run.sh`, whose own folder is another."""
    work, data = tmp_path / "my work", tmp_path / "my work/data"
    write_data(data, START)
    clips = {"clip_a": "data/clip_a.flac", "clip_b": "clip_b.flac", "clip_c": "cat data/clip_c* |"}
    write_table(data / "wav.scp", clips)
    out = tmp_path / "out"
    options = ("--model", str(START), "--train", "data", "--dev", "data", "--out", str(out))
    done = run_recipe(work, *options, "--stop-stage", "0")
    assert done.returncode == 0 and "train: kept 3, dropped 0" in done.stderr, done.stderr
    wavs = read_table(out / "data/train/wav.scp")
    assert wavs["clip_a"] == str(data / "clip_a.flac")
    assert wavs["clip_b"] == str(data / "clip_b.flac")
    audio = [read_audio(x, allow_pipe=True) for x in (wavs["clip_c"], str(CLIPS["clip_c"]))]
    assert torch.equal(*audio)
    done = run_recipe(work, *options, "--lora", "eight")
    assert done.returncode == 2 and "'eight': --lora, --from-text" in done.stderr


def test_data_is_copied_and_what_is_unsound_in_it_is_counted(tmp_path: Path) -> None:
    write_data(tmp_path / "data", START)
    clip = CLIPS["clip_a"]
    lines = f"clip_a clip_a.flac\nlost none.wav\nsilent {clip}\ntwice {clip}\ntwice {clip} \n"
    lines += f"double {clip}\ndouble none.flac\nvoid {clip}\n"
    (tmp_path / "data/wav.scp").write_text(lines, "utf8")
    text = "clip_a 一\nlost 二\ntwice 三\ndouble 四\nvoid\nalone 五\n"
    (tmp_path / "data/text").write_text(text, "utf8")
    pair = f"{tmp_path}/data/wav.scp,{tmp_path}/data/text"
    for source in (f"{tmp_path}/data", pair):
        done = program("prepare_data.py", source, f"{tmp_path}/out")
        assert done.returncode == 0, done.stderr
        assert "kept 2, dropped 5" in done.stderr
        kept = {"clip_a": str(tmp_path / "data/clip_a.flac"), "twice": str(clip)}
        assert read_table(tmp_path / "out/wav.scp") == kept
        assert read_table(tmp_path / "out/text") == {"clip_a": "一", "twice": "三"}
        listed = read_table(tmp_path / "out/dropped.txt")
        assert listed.keys() == {"lost", "silent", "double", "void", "alone"}
    assert (tmp_path / "data/wav.scp").read_text("utf8") == lines
    done = program("prepare_data.py", f"{tmp_path}/none", f"{tmp_path}/x")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_another_source_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    """A directory with all kinds of tables, a list, and the directory again in the same place."""
    data, out = tmp_path / "data", tmp_path / "out"
    write_data(data, START)
    recordings = {key.upper(): f"{key}.flac" for key in CLIPS}
    write_table(data / "wav.scp", recordings)
    write_table(data / "segments", {key: f"{key.upper()} 0.0 0.5" for key in CLIPS})
    write_table(data / "utt2dur", dict.fromkeys(CLIPS, "0.5"))
    write_table(data / "ctm", dict.fromkeys(CLIPS, "1 0.0 0.5 x"))
    write_table(data / "text", read_table(data / "text") | {"alone": "一"})

    def made(source: str, folder: Path) -> dict[str, bytes]:
        done = program("prepare_data.py", source, str(folder))
        assert done.returncode == 0, done.stderr
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    first = made(str(data), out)
    assert {"segments", "utt2dur", "ctm", "dropped.txt"} <= first.keys()
    listed = made(f"{data}.jsonl", out)
    assert listed == made(f"{data}.jsonl", tmp_path / "fresh")
    assert listed.keys() == {"wav.scp", "text", "utt2spk", "spk2utt", "dropped.txt"}
    assert made(str(data), out) == first


def test_a_telephone_lets_a_band_through(tmp_path: Path) -> None:
    write_data(tmp_path / "data", START)
    done = program("telephone.py", f"{tmp_path}/data", f"{tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path / "out/text") == read_table(tmp_path / "data/text")
    for path in read_table(tmp_path / "out/wav.scp").values():
        wave, rate = soundfile.read(path)
        power = np.abs(np.fft.rfft(wave)) ** 2
        hz = np.fft.rfftfreq(len(wave), 1 / rate)
        inside = power[(hz > 300) & (hz < 3400)].sum()
        assert rate == 8000 and inside > 0.95 * power.sum()
