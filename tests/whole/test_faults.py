"""What a user may type wrongly is one line, `where: what; remedy`, and exit code 1."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys

import pytest
import torch
import yaml

from paraformer.data.corpus.tables import read_table, write_table
from paraformer.data.features.cmvn import write_cmvn
from paraformer.data.text.tokenizer import write_seg_dict, write_token_list
from paraformer.models.weights import read_weights
from tests import tiny
from tests.conftest import ROOT

MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"
CLIP = ROOT / "tests" / "fixtures" / "oracle" / "inputs" / "clip_a.flac"
TRAINED = "training.max_epoch=1"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Everything that each program needs, and a run of training."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("train", "dev"):
        data = tiny.write_data(folder / name, 6)
        write_table(data / "text_units", dict.fromkeys(read_table(data / "text"), "a"))
    write_token_list(folder / "tokens.json", tiny.TOKENS)
    write_seg_dict(folder / "seg_dict", tiny.SEG_DICT)
    write_cmvn(folder / "am.mvn", tiny.frontend().cmvn)
    (folder / "units.txt").write_text("a\n")
    names = ("model_conf", "encoder_conf", "decoder_conf", "predictor_conf", "frontend_conf")
    model = {name: tiny.CONFIG[name] for name in names}
    config = {"defaults": ["train", "_self_"], "model": model}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    (folder / "wavs").mkdir()
    (folder / "wavs" / "wav.scp").write_text(f"a {CLIP}\n")
    (folder / "file").write_text("x")
    return folder


@pytest.fixture
def call(place, tmp_path, monkeypatch, capsys):
    """(exit code, last line of stderr) of a program whose needs are met unless said otherwise."""

    def call(program, *arguments):
        needs = {
            "train": [
                *(f"--config-dir={place}", "--config-name=tiny", f"lang={place}"),
                *(f"data={place / 'train'}", f"dev={place / 'dev'}", f"cmvn={place / 'am.mvn'}"),
                *(f"dir={tmp_path / 'exp'}", "device=cpu", "training.max_steps=1"),
            ],
            "decode": [f"model={MODEL}", f"data={place / 'wavs'}", f"out={tmp_path / 'out'}"],
            "make_fbank": [f"data={place / 'wavs'}", f"out={tmp_path / 'out'}"],
            "compute_cer": [f"ref={place / 'dev/text'}", f"hyp={place / 'dev/text'}"],
            "compute_cmvn": [f"feats={place / 'dev/feats.scp'}", f"out={tmp_path / 'am.mvn'}"],
            "make_tokens": [f"text={place / 'dev/text'}", f"out={tmp_path / 'out'}"],
            "average_model": [f"dir={tmp_path / 'exp'}", f"out={tmp_path / 'final'}"],
        }[program]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [program, *needs, *arguments])
        code = importlib.import_module(f"paraformer.programs.{program}").main()
        lines = capsys.readouterr().err.splitlines()
        return code, lines[-1] if lines else ""

    return call


FAULTS = {
    "train": {
        "+augment.unknown=1": "unknown key 'augment.unknown'; known: gain_db",
        "+augment.gain_bd=1": "unknown key 'augment.gain_bd'; did you mean 'augment.gain_db'",
        "+optim.unknown=1": "unknown key 'optim.unknown'; known: lr",
        "+training.unknown=1": "unknown key 'training.unknown'",
        "+batching.unknown=1": "unknown key 'batching.unknown'",
        "+dynamic_chunk.unknown=1": "unknown key 'dynamic_chunk.unknown'",
        "batching.frame_step=0": "batching.frame_step=0: give a whole number of 1 or more",
        "batching.max_frames=1.5": "give a whole number of 1 or more",
        "batching.max_utterances=-1": "give a whole number of 1 or more",
        "batching.join_max=1": "give a whole number of 2 or more",
        "batching.join_probability=nan": "give a number from 0 to 1",
        "batching.gap=[5,0]": "the second not below the first",
        "batching.gap=[1]": "give two whole numbers of 0 or more",
        "augment.gain_db=inf": "give a number from 0 to 100",
        "augment.warp=1": "give a number from 0 to below 1",
        "augment.noise_snr_db=[30,5]": "the second not below the first",
        "augment.freq_masks=1.5": "give a whole number of 0 or more",
        "augment.time_share=2": "give a number from 0 to 1",
        "optim.lr=0": "optim.lr=0.0: give a number above 0",
        "optim.lr=nan": "give a number above 0",
        "optim.betas=[0.9]": "give two numbers from 0 to below 1",
        "optim.weight_decay=-1": "give a number of 0 or more",
        "optim.warmup_steps=1.5": "give a whole number of 0 or more",
        "training.max_epoch=0": "give a whole number of 1 or more",
        "training.max_epoch=null": "training.max_epoch=null: give a whole number of 1 or more",
        "training.accum_grad=0": "give a whole number of 1 or more",
        "training.grad_clip=0": "give a number above 0",
        "training.log_interval=0": "give a whole number of 1 or more",
        "training.save_interval=0": "give a whole number of 1 or more",
        "training.keep_epochs=0": "give a whole number of 1 or more",
        "dynamic_chunk.probability=2": "give a number from 0 to 1",
        "dynamic_chunk.sizes=[0]": "give a list, each a whole number of 1 or more",
        "unit_ctc.layer=3": "unit_ctc.layer=3: give a whole number from 1 to 2",
        "unit_ctc.layer=0": "give a whole number from 1 to 2",
        "unit_ctc.weight=-1": "give a number of 0 or more",
        "unit_ctc.units=nowhere": "nowhere: no such file",
        "seed=-1": "give a whole number from 0 to 4294967295",
        "num_threads=1.5": "give a whole number from 0 to 1024",
        "warm_steps=-1": "give a whole number of 0 or more",
        "device=gpu": "device=gpu: not known; use auto, cpu, cuda or cuda:0",
        "dir=": "dir=: is empty; give a value",
        "dir={place}/file": "file: is a file; give another folder",
        "data=nowhere": "nowhere: no such directory",
        "init={place}/file": "no weights can be read from it",
        "model.encoder_conf.attention_heads=3": "does not divide the width 16",
        "model.decoder_conf.attention_heads=3": "does not divide the width 16",
        "model.frontend_conf.n_mels=40": "(frames, 40)",
        "model.tokenizer=SentencepiecesTokenizer": "without bpemodel",
        "--config-name=bad": "bad.yaml: is not YAML of settings",
        "--config-name=latin": "latin.yaml: is not YAML of settings",
        "--config-name=endless": "endless.yaml: is not YAML of settings (values within each other",
        "--config-name=flat": "batching=3: is a part with keys of its own",
    },
    "decode": {
        "nbest=1.5": "give a whole number from 1 to 10000",
        "nbest=null": "nbest=null: give a whole number from 1 to 10000",
        "decoding_ctc_weight=nan": "give a number from 0 to 1",
        "penalty=nan": "penalty=nan: give a number",
        "batch_frames=0": "batch_frames=0: give a whole number from 1 to 1000000",
        "batch_size=1.5": "give a whole number from 1 to 1000000",
        "min_success=2": "give a number from 0 to 1",
        "num_threads=-1": "give a whole number from 0 to 1024",
        "model=": "model=: is empty",
        "data=nowhere": "nowhere: no such directory",
        "out=": "out=: is empty",
        "out={place}/file": "file: is a file; give another folder",
    },
    "make_fbank": {
        "speeds=[nan]": "give different numbers from 0.1 to 10",
        "speeds=[1000]": "give different numbers from 0.1 to 10",
        "speeds=null": "give different numbers from 0.1 to 10",
        "num_threads=1.5": "give a whole number from 1 to 1024",
        "min_success=nan": "give a number from 0 to 1",
        "n_mels=1.5": "give a whole number from 1 to 1000",
        "frame_length=nan": "frame_length=nan: give a number above 0, up to 10000",
        "frame_shift=0.01": "too few samples",
        "dither=inf": "give a number of 0 or more",
        "name=../x": "name=../x: is a path; give a file name",
        "data={place}/empty.scp": "holds no recordings",
        "out={place}/file": "file: is a file",
    },
    "compute_cer": {
        "ref=": "ref=: is empty",
        "hyp={place}": "Is a directory; give a readable text file",
        "out={place}/file": "file: is a file",
    },
    "compute_cmvn": {
        "out=": "out=: is empty",
        "lfr_m=1.5": "give a whole number of 1 or more",
        "feats={place}/wavs/wav.scp": "no features at ",
    },
    "make_tokens": {
        "min_count=0": "give a whole number of 1 or more",
        "min_count=null": "min_count=null: give a whole number of 1 or more",
        "bpe_size=1.5": "give a whole number of 5 or more",
        "out={place}/file": "file: is a file",
    },
}
CASES = [
    (p, argument, message) for p, faults in FAULTS.items() for argument, message in faults.items()
]


@pytest.mark.parametrize(("program", "argument", "message"), CASES)
def test_one_line_says_what_is_wrong(call, place, program, argument, message):
    (place / "bad.yaml").write_text("{bad: [")
    (place / "latin.yaml").write_bytes("# é".encode("latin1"))
    (place / "endless.yaml").write_text("model: &a [*a]\n")
    (place / "flat.yaml").write_text("defaults: [train, _self_]\nbatching: 3\n")
    (place / "empty.scp").write_text("")
    more = [f"unit_ctc.units={place}/units.txt"] if "unit_ctc" in argument else []
    code, line = call(program, *more, argument.format(place=place))
    assert (code, message in line) == (1, True), line


def test_each_program_works_when_nothing_is_wrong(call):
    for program in ("train", "decode", "make_fbank", "compute_cer", "compute_cmvn", "make_tokens"):
        code, line = call(program)
        assert code == 0, (program, line)


@pytest.fixture
def averaged(call, tmp_path):
    """average_model.py over two epochs that `spoil` has changed."""
    assert call("train", "training.max_steps=0", "training.max_epoch=2")[0] == 0

    def averaged(spoil, *arguments):
        spoil(tmp_path / "exp")
        return call("average_model", *arguments)

    return averaged


@pytest.mark.parametrize(
    ("spoil", "argument", "message"),
    [
        (lambda d: None, "num=0", "num=0: give a whole number of 1 or more"),
        (lambda d: None, "example=nowhere", "example=nowhere: no such folder"),
        (lambda d: None, "out=exp/last.pt", "last.pt: is a file"),
        (lambda d: (d / "epochs.jsonl").write_text("{}\n"), "", "epochs.jsonl:1: no record"),
        (lambda d: (d / "epochs.jsonl").write_text("[bad\n"), "", "epochs.jsonl:1: no record"),
        (lambda d: (d / "epoch-1.pt").write_text(""), "", "epoch-1.pt: no weights can be read"),
        (lambda d: (d / "epoch-2.pt").write_text("xx"), "", "not written by torch"),
        (lambda d: torch.save({"a": 1}, d / "epoch-2.pt"), "", "holds no state dict"),
        (lambda d: (d / "config.yaml").unlink(), "", "config.yaml: No such file"),
        (lambda d: (d / "config.yaml").write_text("a: 1"), "", "names no `model`"),
        (lambda d: (d / "config.yaml").write_bytes(b"\xff"), "", "is not YAML"),
    ],
)
def test_a_run_that_cannot_be_averaged_is_one_line(averaged, spoil, argument, message):
    code, line = averaged(spoil, *([argument] if argument else []))
    assert (code, message in line) == (1, True), line


def test_epochs_that_lack_the_metric_are_passed_over(averaged, tmp_path):
    def spoil(folder):
        path = folder / "epochs.jsonl"
        first, last = map(json.loads, path.read_text().splitlines())
        del last["token_error_rate"]
        path.write_text(f"{json.dumps(first)}\n{json.dumps(last)}\n")

    assert averaged(spoil)[0] == 0
    mean = read_weights(tmp_path / "final" / "model.pt")
    assert tiny.equal(mean, read_weights(tmp_path / "exp" / "epoch-1.pt"))


def test_a_snapshot_of_something_else_is_one_line(call, tmp_path):
    (tmp_path / "exp").mkdir()
    for content in ([1], {"a": 1}):
        torch.save(content, tmp_path / "exp" / "last.pt")
        code, line = call("train")
        assert (code, "is no snapshot of a training" in line) == (1, True), line


def test_a_folder_that_is_not_utf8(call, place, tmp_path):
    """Where its name stands in a table, it is refused; elsewhere it does."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    shutil.copytree(place / "wavs", odd)
    assert call("decode", f"data={odd}", f"out={odd}/out")[0] == 0
    assert read_table(f"{odd}/out/text").keys() == {"a"}
    code, line = call("make_fbank", f"data={odd}", f"out={odd}/fbank")
    assert (code, "is not UTF-8" in line and "rename" in line) == (1, True), line
