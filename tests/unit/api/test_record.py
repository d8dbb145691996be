"""A folder says what its results were made with, and no run goes on in it with anything else."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from omegaconf import OmegaConf

from paraformer import AutoModel
from paraformer.api.auto import stream_pending
from paraformer.api.record import made_by, made_with
from paraformer.backends import devices
from paraformer.cli.main import main
from paraformer.data.corpus.tables import write_table
from paraformer.decode import hotwords
from paraformer.errors import ConfigError
from paraformer.models.integrity import content_id
from paraformer.models.release import load_directory, save_directory
from paraformer.output.resume import MADE_WITH, Made
from paraformer.programs.decode import decode
from paraformer.programs.decode_streaming import decode_streaming
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
CLIPS = [str(ORACLE / "inputs" / f"clip_{x}.flac") for x in "abc"]
QUIET = {"device": "cpu", "disable_pbar": True}
ONLINE = {"model": "ParaformerStreaming", "decoder_conf": {"sanm_shfit": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_directory(tmp_path_factory.mktemp("models") / "one", tiny.release(ONLINE))


@pytest.fixture(scope="module")
def model(folder):
    return AutoModel(str(folder), **QUIET)


@pytest.fixture
def out(model, tmp_path):
    """Results of two of three."""
    model.generate(CLIPS[:2], output_dir=str(tmp_path / "out"), hotword="")
    return tmp_path / "out"


def texts(out):
    return (out / "1best_recog" / "text").read_text().splitlines()


def go_on(model, out, **options):
    return model.generate(CLIPS, output_dir=str(out), resume=True, **options)


def test_the_same_goes_on(model, out):
    before = (out / MADE_WITH).read_bytes()
    assert [row["key"] for row in go_on(model, out, batch_size=1, output_format="json")] == [
        "clip_c"
    ]
    assert (out / MADE_WITH).read_bytes() == before
    assert json.loads(before)["places"] == {"model": model.model_path}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chunk_size": [0, 8, 4]}, r'chunk_size was "not given", is \[0, 8, 4\]'),
        ({"channel": 0}, 'channel was "not given", is 0'),
        ({"output_format": "ctm"}, 'output_format was "not given", is "ctm"'),
    ],
)
def test_other_options_are_refused_and_nothing_is_changed(model, out, options, said):
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    remedy = "give another folder, or begin anew with resume=false"
    with pytest.raises(
        ConfigError, match=rf"out: its results were made otherwise \({said}.*{remedy}"
    ):
        go_on(model, out, **options)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    model.generate(CLIPS[:1], output_dir=str(out), **options)  # anew: what it says is new too
    assert len(texts(out)) == 1
    assert [row["key"] for row in go_on(model, out, **options)] == ["clip_b", "clip_c"]


def test_another_model_is_refused_and_the_same_elsewhere_is_not(folder, out, tmp_path):
    shutil.copytree(folder, tmp_path / "moved")
    assert [r["key"] for r in go_on(AutoModel(str(tmp_path / "moved"), **QUIET), out)] == ["clip_c"]
    other = save_directory(tmp_path / "other", tiny.release(ONLINE, seed=1))
    with pytest.raises(
        ConfigError, match=r'model was "\w{12}" \(.*moved\), is "\w{12}" \(.*other\)'
    ):
        go_on(AutoModel(str(other), **QUIET), out)


@pytest.mark.parametrize("name", ["config.yaml", "am.mvn", "tokens.json", "seg_dict", "model.pt"])
def test_every_file_of_a_model_counts(folder, tmp_path, name):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    if name == "model.pt":
        release = load_directory(changed)
        release.model.decoder.output_layer.bias.data[5] += 1e-6
        torch.save({"state_dict": release.model.state_dict()}, changed / name)
    else:
        (changed / name).write_text((changed / name).read_text() + "\n")
    ids = [made_with({"model": one}, {}, False).options["model"] for one in (folder, changed)]
    assert ids[0] != ids[1]


def test_weights_are_the_same_whatever_their_file_is_called(tmp_path):
    state = {"a": torch.arange(5.0)}
    for name in ("one.pt", "two.pt"):
        torch.save(state, tmp_path / name)
    torch.save({"a": torch.arange(5.0) + 1}, tmp_path / "three.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    ids = {name: content_id([tmp_path / f"{name}.pt"]) for name in ("one", "two", "three", "old")}
    assert ids["one"] == ids["two"]
    assert len({*ids.values()}) == 3


def test_what_is_in_a_file_of_hotwords_counts(tmp_path):
    offline = AutoModel(str(ORACLE / "paraformer"), **QUIET)
    words, out = tmp_path / "a.txt", tmp_path / "out"
    words.write_text("你好\n")
    offline.generate(CLIPS[:1], output_dir=str(out), hotword=str(words))
    words.rename(tmp_path / "b.txt")
    assert len(go_on(offline, out, hotword=str(tmp_path / "b.txt"))) == 2
    assert go_on(offline, out, hotword="你好") == []  # the same words, however they came
    assert go_on(offline, out, hotword=iter(["你好"])) == []  # though these can be read once only
    (tmp_path / "b.txt").write_text("再见\n")
    with pytest.raises(ConfigError, match='hotword was "你好", is "再见"'):
        go_on(offline, out, hotword=str(tmp_path / "b.txt"))
    with pytest.raises(ConfigError, match='hotword was "你好", is "not given"'):
        go_on(offline, out)


def test_a_file_of_hotwords_is_read_once_in_a_call(tmp_path, monkeypatch):
    reads, read = [], hotwords._read
    monkeypatch.setattr(hotwords, "_read", lambda path: reads.append(path) or read(path))
    words, place = tmp_path / "a.txt", str(ORACLE / "paraformer")
    words.write_text("你好\n")
    settings = {**QUIET, "hotword": str(words), "output_dir": str(tmp_path / "out")}
    AutoModel(place, **settings).generate(CLIPS[:1])
    assert reads == [words]
    rest = list(stream_pending(CLIPS, place, {**settings, "resume": True}))
    assert [row["key"] for row in rest] == ["clip_b", "clip_c"]
    assert reads == [words, words]


def test_a_folder_of_an_older_version_goes_on_with_a_warning(model, out, caplog):
    (out / MADE_WITH).unlink()
    with caplog.at_level(logging.WARNING):
        assert [row["key"] for row in go_on(model, out)] == ["clip_c"]
    assert caplog.text.count("does not say what its results were made with") == 1
    caplog.clear()
    go_on(model, out)
    assert not caplog.text
    (out / MADE_WITH).write_text("no JSON")
    go_on(model, out)
    assert "does not say" in caplog.text


def test_a_folder_without_results_is_anybodys(model, out):
    for path in (out / "1best_recog").iterdir():
        path.write_text("")
    assert len(go_on(model, out, chunk_size=[0, 8, 4])) == 3


def test_a_run_that_was_killed_before_it_emptied_the_tables_is_the_old_one(model, out, monkeypatch):
    """What a folder says is written when nothing is left in it that was made otherwise."""
    monkeypatch.setattr(Made, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.generate(CLIPS[:1], output_dir=str(out), chunk_size=[0, 8, 4])
    monkeypatch.undo()
    assert texts(out) == []
    assert len(go_on(model, out)) == 3


@pytest.mark.parametrize("nj", ["1", "2"])
def test_the_command_refuses_before_a_model_is_loaded(tmp_path, monkeypatch, capsys, nj):
    out, source = tmp_path / "out", tmp_path / "wav.scp"
    source.write_text("".join(f"u{n} {clip}\n" for n, clip in enumerate(CLIPS)))
    command = [f"+model={ORACLE / 'paraformer'}", f"+input={source}", f"+output_dir={out}"]
    command += ["+device=cpu"]
    assert main(command) == 0
    (out / "1best_recog" / "text").write_text(texts(out)[0] + "\n")
    monkeypatch.setattr(AutoModel, "_load", lambda *_: pytest.fail("loaded"))
    capsys.readouterr()
    assert main([*command, "+resume=true", "+nbest=2", f"+nj={nj}"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert 'nbest was "not given", is 2' in said.err


def test_texts_and_marks_go_on_only_with_the_same(tmp_path):
    marks = AutoModel("ct-punc-mini", **QUIET)
    marks.generate(["我们好", "你们都好吗"], output_dir=str(tmp_path))
    assert marks.generate(["我们好", "你们都好吗"], output_dir=str(tmp_path), resume=True) == []
    told = json.loads((tmp_path / MADE_WITH).read_text())
    told["options"]["model"] = "0" * 12
    (tmp_path / MADE_WITH).write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="its results were made otherwise"):
        marks.generate(["我们好", "你们都好吗"], output_dir=str(tmp_path), resume=True)


@pytest.mark.parametrize(
    ("program", "other"),
    [(decode, {"nbest": 2}), (decode_streaming, {"chunk_size": [0, 8, 4]})],
)
def test_programs_refuse_too(folder, tmp_path, program, other):
    write_table(tmp_path / "data" / "wav.scp", {f"u{n}": clip for n, clip in enumerate(CLIPS)})
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / f"{program.__name__}.yaml")
    config.update({"model": str(folder), "data": f"{tmp_path}/data", "out": f"{tmp_path}/out"})
    config.device = "cpu"
    assert program(config) == 0
    config.update({"resume": True, "num_threads": 1})
    assert program(config) == 0
    config.update(other)
    (name,) = other
    with pytest.raises(ConfigError, match=rf'out: .* \({name} was "not given", is '):
        program(config)


def test_a_record_names_the_number_format_that_is_computed_in(folder, monkeypatch):
    for able, best in ((True, "bf16"), (False, "fp32")):
        for name in ("bf16", "int8"):
            monkeypatch.setattr(devices, f"multiplies_{name}", lambda able=able: able)
        whole = "int8" if able else "fp32"
        formats = {"auto": best, "fp32": "fp32", "bf16": "bf16", "fp16": "fp32", "int8": whole}
        for name, found in formats.items():
            given = {"device": "cpu", "dtype": name}
            assert made_with({"model": folder}, given, False).options["dtype"] == found
            made = made_by({"model": folder}, given, {"dtype": "fp32"})
            assert made.options["dtype"] == found
    assert made_with({"model": folder}, {}, False).options["dtype"] == "fp32"
