"""bin/train.py: bad utterances are counted and listed; a run that is killed goes on as if it had
not been.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
import yaml

from paraformer.data.corpus.tables import read_table, write_table
from paraformer.data.features.cmvn import write_cmvn
from paraformer.data.text.tokenizer import write_seg_dict, write_token_list
from paraformer.models.release import load_directory
from paraformer.train.snapshots import average_weights, read_records
from tests import tiny
from tests.conftest import ROOT

pytestmark = pytest.mark.cli


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Data, dev, lang and am.mvn, and a configuration of a very small model."""
    folder = tmp_path_factory.mktemp("corpus")
    tiny.write_data(folder / "train", 16)
    tiny.write_data(folder / "dev", 4, seed=1)
    (folder / "lang").mkdir()
    write_token_list(folder / "lang" / "tokens.json", tiny.TOKENS)
    write_seg_dict(folder / "lang" / "seg_dict", tiny.SEG_DICT)
    write_cmvn(folder / "am.mvn", tiny.frontend().cmvn)
    names = ("model_conf", "encoder_conf", "decoder_conf", "predictor_conf", "frontend_conf")
    config = {
        "defaults": ["train", "_self_"],
        "model": {name: tiny.CONFIG[name] for name in names},
        "batching": {"max_frames": 600, "join_probability": 0.5, "gap": [0, 5]},
        "augment": {"gain_db": 3.0, "noise_probability": 0.5, "freq_width": 2},
        "optim": {"lr": 0.01, "warmup_steps": 4},
        "training": {"log_interval": 1},
        "num_threads": 1,
        "device": "cpu",
    }
    (folder / "conf").mkdir()
    (folder / "conf" / "tiny.yaml").write_text(yaml.safe_dump(config))
    return folder


def command(corpus: Path, folder: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "bin" / "train.py"),
        f"--config-dir={corpus / 'conf'}",
        "--config-name=tiny",
        f"data={corpus / 'train'}",
        f"dev={corpus / 'dev'}",
        f"lang={corpus / 'lang'}",
        f"cmvn={corpus / 'am.mvn'}",
        f"dir={folder}",
        *more,
    ]


def run(corpus, folder, *more):
    arguments = command(corpus, folder, *more)
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300)


def test_killed_by_sigterm_and_started_again_equals_never_killed(corpus, tmp_path):
    steps = "training.max_steps=30"
    done = run(corpus, tmp_path / "whole", steps)
    assert done.returncode == 0, done.stderr

    arguments = command(corpus, tmp_path / "parts", steps)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if " step 5: " in line:
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "stop asked for" in rest
    stopped = torch.load(tmp_path / "parts" / "last.pt", weights_only=True)
    assert 5 <= stopped["position"][2] < 30
    again = run(corpus, tmp_path / "parts", steps)
    assert again.returncode == 0, again.stderr
    assert "continue at epoch" in again.stderr

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    snapshots = [torch.load(d / "last.pt", weights_only=True) for d in (whole, parts)]
    assert snapshots[0]["position"][2] == 30
    assert tiny.equal(*snapshots)
    assert read_records(whole / "epochs.jsonl") == read_records(parts / "epochs.jsonl")


@pytest.fixture
def recorded(tmp_path):
    """A directory with wav.scp alone, and one with the feats.scp that bin/make_fbank.py makes."""
    random = np.random.default_rng(0)
    audio, stored = tmp_path / "audio", tmp_path / "stored"
    tables = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    for number in range(12):
        key, path = f"s{number % 3}-{number:02d}", audio / f"{number}.wav"
        audio.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * random.standard_normal(random.integers(9000, 32000)), 16000)
        tables["wav.scp"][key] = f"cat {path} |" if number % 4 == 0 else str(path)
        tables["text"][key], tables["utt2spk"][key] = "一二三四"[number % 3 :], key[:2]
    for folder in (audio, stored):
        for name, table in tables.items():
            write_table(folder / name, table)
    program = [sys.executable, str(ROOT / "bin" / "make_fbank.py")]
    options = [f"n_mels={tiny.N_MELS}", "compress=false", "name=feats"]
    subprocess.run([*program, f"data={stored}", f"out={stored}", *options], check=True)
    (stored / "feats.utt2num_frames").rename(stored / "utt2num_frames")
    return audio, stored


def test_audio_trains_as_its_stored_features_do(corpus, tmp_path, recorded):
    """wav.scp alone, a third of it commands: the same losses on the same steps."""
    records = []
    for data in recorded:
        exp = tmp_path / f"exp_{data.name}"
        done = run(corpus, exp, f"data={data}", f"dev={data}", "training.max_epoch=2")
        assert done.returncode == 0, done.stderr
        records.append(read_records(exp / "epochs.jsonl"))
    for ours, theirs in zip(*records, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_bad_audio_is_counted_and_listed(corpus, tmp_path, recorded):
    audio, _ = recorded
    table = read_table(audio / "wav.scp")
    (audio / "1.wav").write_bytes(b"")
    write_table(audio / "wav.scp", {**table, "s2-02": "nowhere.wav", "s2-05": "false |"})
    done = run(corpus, tmp_path / "exp", f"data={audio}", "training.max_steps=2")
    assert done.returncode == 0, done.stderr
    assert f"{audio}: 3 dropped: audio cannot be read" in done.stderr
    for reason in ("1.wav: the file is empty", "nowhere.wav: no such file", "exit code 1"):
        assert done.stderr.count(reason) == 1
    listing = read_table(tmp_path / "exp" / "dropped_data")
    assert listing == dict.fromkeys(("s1-01", "s2-02", "s2-05"), "audio cannot be read")


def spoiled(corpus: Path, folder: Path) -> Path:
    """The training set with an utterance of each fault: K09, as far as features tell."""
    tables = {n: read_table(corpus / "train" / n) for n in ("text", "feats.scp", "utt2num_frames")}
    text, feats, frames = tables.values()
    keys = sorted(text)
    del feats[keys[0]], text[keys[1]]
    text[keys[2]] = ""
    text[keys[3]] = "一二三四五" * 20
    text[keys[4]] = "一鑫二"  # a character that is not in the list
    folder.mkdir()
    for name, table in tables.items():
        write_table(folder / name, table)
    return folder


def test_what_cannot_be_trained_on_is_counted_and_listed(corpus, tmp_path):
    data = spoiled(corpus, tmp_path / "data")
    keys = sorted(read_table(corpus / "train" / "text"))
    done = run(corpus, tmp_path / "exp", f"data={data}", "training.max_steps=4")
    assert done.returncode == 0, done.stderr
    assert f"{data}: 12 utterances" in done.stderr
    for reason in ("no features", "no transcript", "empty transcript", "more tokens than frames"):
        assert f"{data}: 1 dropped: {reason}" in done.stderr
    (listing,) = (tmp_path / "exp").glob("dropped*")
    assert read_table(listing) == {
        keys[0]: "no features",
        keys[1]: "no transcript",
        keys[2]: "empty transcript",
        keys[3]: "more tokens than frames",
    }
    (record,) = read_records(tmp_path / "exp" / "epochs.jsonl")
    assert np.isfinite(record["loss"])
    assert record["step"] == 4


def test_what_is_trained_is_a_released_directory_once_it_has_weights(corpus, tmp_path):
    done = run(corpus, tmp_path / "exp", "training.max_epoch=2")
    assert done.returncode == 0, done.stderr
    paths = [tmp_path / "exp" / f"epoch-{n}.pt" for n in (1, 2)]
    torch.save(average_weights(paths), tmp_path / "exp" / "model.pt")
    release = load_directory(tmp_path / "exp")
    assert release.tokenizer.tokens == tiny.TOKENS
    feats = torch.tensor(next(kaldiio.load_ark(str(corpus / "train" / "feats.ark")))[1])
    x = release.frontend.features(feats)
    with torch.no_grad():
        memory, lengths = release.model.encode(x[None], torch.tensor([len(x)]))
    assert memory.isfinite().all()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("optim.schedule=linear", "warmuplr or cosine"),
        ("data=nowhere", "nowhere"),
        ("init=nowhere.pt", "nowhere.pt"),
    ],
)
def test_a_fault_is_one_line(corpus, tmp_path, argument, message):
    done = run(corpus, tmp_path / "exp", argument)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
