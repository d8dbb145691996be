"""Whoever is killed leaves the whole old files, the whole new ones, or a clear refusal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf

from paraformer import files
from paraformer.data.batches.shards import ShardList, read_shard
from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.datadir import DataDir, write_data_dir
from paraformer.data.corpus.tables import read_table, write_text
from paraformer.errors import DataError, ParaformerError
from paraformer.files import HALF_WRITTEN, remove_drafts, replacing, together
from paraformer.models.release import (
    load_aligner,
    load_directory,
    load_punctuation,
    load_vad,
    merge,
    save_directory,
)
from paraformer.models.weights import read_weights
from paraformer.programs.average_model import average_model
from paraformer.programs.extend_model import extend_model
from paraformer.programs.make_fbank import make_fbank
from paraformer.programs.make_shards import make_shards
from paraformer.programs.make_tokens import make_tokens
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
CLIPS = {name: str(ORACLE / "inputs" / f"clip_{name}.flac") for name in "abc"}


class Killed(BaseException):
    """A process ends here: nothing of it runs any more."""


def killed_at(monkeypatch, number):
    """The `number`th change of a name on disk ends the process, before or after it is made."""
    after, last, count = number % 2, number // 2, 0
    real_rmtree = shutil.rmtree

    def deadly(real):
        def change(path, *args, **keywords):
            nonlocal count
            if not os.path.lexists(path):
                return real(path, *args, **keywords)
            count += 1
            if count > last and not after:
                raise Killed
            done = real(path, *args, **keywords)
            if count > last:
                raise Killed
            return done

        return change

    def rmtree(*args, **keywords):
        if count <= last:  # a dead process does not clean up
            real_rmtree(*args, **keywords)

    monkeypatch.setattr(files.shutil, "rmtree", rmtree)
    monkeypatch.setattr(files.os, "replace", deadly(os.replace))
    monkeypatch.setattr(files.Path, "unlink", deadly(files.Path.unlink))


def points(write, monkeypatch, step=1):
    """Write again and again, killed a step later each time, until it comes to its end."""
    for number in range(0, 200, step):
        with monkeypatch.context() as patch:
            killed_at(patch, number)
            try:
                write()
                return
            except Killed:
                pass
        yield number
    raise AssertionError("it never ends")


def release(seed=0, tokens=tiny.TOKENS):
    torch.manual_seed(seed)
    return tiny.release({"tokenizer_conf": {"token_list": tokens}}, seed)


MODELS = {
    "vad": ("fsmn_vad", load_vad),
    "punctuation": ("ct_punc_jieba", load_punctuation),
    "aligner": ("fa-zh", load_aligner),
    "recogniser": ("bicif", load_directory),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_directory_is_the_old_one_the_new_one_or_says_that_it_is_neither(
    kind, tmp_path, monkeypatch
):
    """Old and new differ in weights and configuration: no mixture of them may load."""
    source, load = MODELS[kind]
    old = load(ORACLE / source)
    new = replace(load(ORACLE / source), config=merge(old.config, {"made": "new"}))
    for parameter in new.model.parameters():
        parameter.data.add_(1.0)
    save_directory(tmp_path / "start", old)
    first = next(iter(read_weights(tmp_path / "start" / "model.pt")))
    values = [one.model.state_dict()[first].clone() for one in (old, new)]
    shutil.copytree(tmp_path / "start", tmp_path / "model")
    found = set()
    step = 1 if kind == "vad" else 5  # those that differ in what is written, not in how
    for _ in points(lambda: save_directory(tmp_path / "model", new), monkeypatch, step):
        try:
            there = load(tmp_path / "model")
            marked = "made" in there.config
            assert torch.equal(there.model.state_dict()[first], values[marked])
            found.add("new" if marked else "old")
        except ParaformerError as error:
            assert HALF_WRITTEN in str(error)
            found.add("none")
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        shutil.copytree(tmp_path / "start", tmp_path / "model")
    assert {"old", "none"} <= found
    assert "made" in load(tmp_path / "model").config
    assert not files.half_written(tmp_path / "model")


def test_files_of_an_older_model_do_not_become_those_of_a_new_one(tmp_path):
    save_directory(tmp_path, tiny.release())
    assert (tmp_path / "seg_dict").is_file()
    (tmp_path / "README.md").write_text("a card")
    plain = load_directory(ORACLE / "conformer")
    save_directory(tmp_path, plain)
    loaded = load_directory(tmp_path)
    assert loaded.tokenizer.seg_dict == plain.tokenizer.seg_dict
    assert (tmp_path / "seg_dict").is_file() == (plain.tokenizer.seg_dict is not None)
    assert (tmp_path / "README.md").read_text() == "a card"


def fbank(tmp_path, data, n_mels):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "fbank.yaml")
    config.update({"data": str(data), "out": f"{tmp_path}/fbank", "name": "x", "n_mels": n_mels})
    return make_fbank(config)


def test_no_scp_points_into_the_ark_of_another_run(tmp_path, monkeypatch):
    write_data_dir(tmp_path / "data", {"wav.scp": CLIPS})
    fbank(tmp_path, tmp_path / "data", 8)
    shutil.copytree(tmp_path / "fbank", tmp_path / "start")
    for _ in points(lambda: fbank(tmp_path, tmp_path / "data", 5), monkeypatch):
        if (tmp_path / "fbank" / "x.scp").is_file():
            places = read_table(tmp_path / "fbank" / "x.scp")
            widths = {load_archive(place).shape[1] for place in places.values()}
            counts = read_table(tmp_path / "fbank" / "x.utt2num_frames")
            assert sorted(places) == sorted(counts) == ["a", "b", "c"]
            assert len(widths) == 1
        shutil.rmtree(tmp_path / "fbank")
        shutil.copytree(tmp_path / "start", tmp_path / "fbank")
    (place, *_) = read_table(tmp_path / "fbank" / "x.scp").values()
    assert load_archive(place).shape[1] == 5


def test_a_data_directory_is_whole_or_has_no_list(tmp_path, monkeypatch):
    old = {"wav.scp": {"a": "1.wav"}, "segments": {"a-1": "a 0 1"}, "text": {"a-1": "old"}}
    old["utt2spk"] = {"a-1": "a"}
    new = {"wav.scp": {"b": "2.wav"}, "text": {"b": "new"}, "utt2spk": {"b": "b"}}
    write = partial(write_data_dir, tmp_path / "d", new, others={"rttm": "new"})
    for _ in points(write, monkeypatch):
        names = ("wav.scp", "text", "segments", "utt2spk")
        there = {name: tmp_path / "d" / name for name in names}
        found = {name: read_table(path) for name, path in there.items() if path.is_file()}
        whole = {"wav.scp", "text", "utt2spk"} <= found.keys()
        assert not whole or found in (old, new)
        assert whole or "wav.scp" not in found or "text" not in found
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        write_data_dir(tmp_path / "d", old)
    assert DataDir(tmp_path / "d").table("text") == {"b": "new"}
    assert (tmp_path / "d" / "rttm").read_text() == "new"


def test_shards_are_whole_or_have_no_list(tmp_path, monkeypatch):
    write_data_dir(tmp_path / "data", {"wav.scp": CLIPS, "text": dict.fromkeys(CLIPS, "一")})
    config = {"data": f"{tmp_path}/data", "out": f"{tmp_path}/s", "per_shard": 1, "fs": 16000}
    config = OmegaConf.create({**config, "min_success": 1.0})
    for _ in points(lambda: make_shards(config), monkeypatch):
        listed = tmp_path / "s" / "shards.list"
        if listed.is_file():
            shards = ShardList(listed).order(None)
            assert [m.key for path in shards for m in read_shard(path)] == ["a", "b", "c"]
    assert (tmp_path / "s" / "shards.list").is_file()


def test_a_lang_directory_is_whole_or_has_no_tokens(tmp_path, monkeypatch):
    write_text(tmp_path / "text", "a 我们\nb 你们 hello\n")
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "make_tokens.yaml")
    config.update({"text": f"{tmp_path}/text", "out": f"{tmp_path}/lang", "min_count": 1})
    write_text(tmp_path / "lang" / "bpe.model", "of an earlier run")
    for _ in points(lambda: make_tokens(config), monkeypatch):
        if (tmp_path / "lang" / "tokens.json").is_file():
            assert (tmp_path / "lang" / "seg_dict").is_file()
            assert not (tmp_path / "lang" / "bpe.model").exists()
    assert (tmp_path / "lang" / "tokens.txt").is_file()


def test_programs_that_make_models_leave_no_half_of_one(tmp_path, monkeypatch):
    """extend_model takes a half-written directory for none and writes it again."""
    save_directory(tmp_path / "source", tiny.release())
    (tmp_path / "source" / "README.md").write_text("a card")
    config = {"model": f"{tmp_path}/source", "out": f"{tmp_path}/out", "tokens": None}
    config = OmegaConf.create({**config, "text": None, "min_count": 1, "format": "pt"})
    for _ in points(lambda: extend_model(config), monkeypatch, 7):
        if (tmp_path / "out" / "config.yaml").is_file():
            load_directory(tmp_path / "out")
            assert (tmp_path / "out" / "README.md").read_text() == "a card"
            shutil.rmtree(tmp_path / "out")
    load_directory(tmp_path / "out")

    folder = tmp_path / "run"
    folder.mkdir()
    model = tiny.release().model
    torch.save(model.state_dict(), folder / "epoch-1.pt")
    write_text(folder / "epochs.jsonl", '{"epoch": 1, "loss": 1.0}\n')
    write_text(folder / "config.yaml", (tmp_path / "out" / "config.yaml").read_text())
    shutil.copy(tmp_path / "out" / "tokens.json", folder)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "text").write_text("x")
    average = {"dir": str(folder), "out": f"{tmp_path}/mean", "num": 1, "last": True}
    average |= {"metric": "loss", "precision": "fp32", "example": f"{tmp_path}/clips"}
    text = (folder / "config.yaml").read_text()
    listed = f"tokenizer_conf:\n  token_list: {folder}/tokens.json"
    write_text(folder / "config.yaml", text.replace("tokenizer_conf:", listed, 1))
    for _ in points(lambda: average_model(OmegaConf.create(average)), monkeypatch, 7):
        if (tmp_path / "mean" / "config.yaml").is_file():
            load_directory(tmp_path / "mean")
            assert (tmp_path / "mean" / "example" / "text").is_file()
            shutil.rmtree(tmp_path / "mean")
    load_directory(tmp_path / "mean")


def test_an_error_leaves_the_old_files_and_no_draft(tmp_path):
    write_text(tmp_path / "x", "old")
    with pytest.raises(DataError), replacing(tmp_path / "x") as draft:
        draft.write_text("new")
        raise DataError("no")
    with pytest.raises(DataError), together(tmp_path, ["x"]) as folder:
        (folder / "x").write_text("new")
        raise DataError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


CODE = """
import os, sys
from paraformer.files import replacing, together
with replacing(sys.argv[1] + "/x") as one, together(sys.argv[1], ["y"]) as several:
    one.write_text("half")
    (several / "y").write_text("half")
    os._exit(1)
"""


def test_drafts_of_dead_processes_are_removed_by_the_next_run(tmp_path):
    subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], cwd=ROOT)
    assert len(list(tmp_path.iterdir())) == 2
    assert files.half_written(tmp_path)
    write_text(tmp_path / "x", "whole")
    with together(tmp_path, ["y"]) as draft:
        (draft / "y").write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_a_folder_is_looked_through_once_however_many_files_are_written(tmp_path, monkeypatch):
    """Else each file takes time for all that are there."""
    seen = []
    real = files.Path.glob
    monkeypatch.setattr(files.Path, "glob", lambda *args: seen.append(args) or real(*args))
    for number in range(5):
        write_text(tmp_path / f"{number}", "x")
    assert len(seen) == 1


def test_drafts_of_others_stay(tmp_path, monkeypatch):
    """Of a process that runs, of one of another machine, and what is no draft."""
    running = f".x.{files._host()}.{os.getppid()}.tmp"
    foreign, old = ".x.elsewhere.999999.tmp", ".y.elsewhere.999999.tmp"
    names = {running, foreign, ".bashrc.tmp", "x.1.tmp"}
    for name in (*names, old, f".z.{files._host()}.999999.tmp"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / old, (1, 1))
    monkeypatch.setattr(files, "_runs", lambda pid: pid != 999999)
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names
