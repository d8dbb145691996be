"""`funasr export` is bin/export_onnx.py by another door."""

from __future__ import annotations

import json
from shutil import copyfile

import pytest

from paraformer import AutoModel
from paraformer.cli.main import main
from paraformer.errors import ConfigError
from paraformer.export.directory import CLIP
from paraformer.models.release import save_directory
from paraformer.options import ExportOptions, all_fields, default_of
from paraformer.programs.hydra_main import defaults_of
from tests import tiny


def test_both_doors_have_the_same_options():
    own = {name: default_of(option) for name, option in all_fields(ExportOptions).items()}
    required = {"model": "", "out": ""}
    assert own == {**defaults_of("export_onnx"), **required}


def test_what_is_exported_is_a_model(tmp_path, capsys):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    source = save_directory(tmp_path / "model", tiny.release(seed=3))
    out = tmp_path / "out"
    command = ["export", f"+model={source}", "--out", str(out), "--layout", "funasr-onnx"]
    listed = tmp_path / "wav.scp"
    listed.write_text(f"a {CLIP}\nb {CLIP}\n", encoding="utf-8")
    assert main([*command, f"+check={listed}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("graph ") and lines[-2] == f"{listed}: 0 of 2 results changed"
    check = json.loads((out / "export.json").read_text("utf-8"))["check"]
    assert (check["recordings"], check["changed"]) == (2, [])
    assert main([*command, "+check=nowhere"]) == 1
    assert "check=nowhere: no such list" in capsys.readouterr().err
    texts = [AutoModel(str(folder)).generate(str(CLIP))[0]["text"] for folder in (source, out)]
    assert texts[0] == texts[1] != ""
    assert main(command[:2]) == 1
    assert "funasr: export: give model and out" in capsys.readouterr().err


def test_a_wrong_graph_is_one_line_before_anything_is_decoded(
    tmp_path, capsys, caplog, mini_export
):
    """Where sherpa-onnx ends its process, or hears other features; and an older one says so."""
    onnx, folder = pytest.importorskip("onnx", reason="needs the extra onnx"), tmp_path / "graphs"
    folder.mkdir()
    for name in ("tokens.txt", "model.onnx"):
        copyfile(mini_export.directory / name, folder / name)
    (folder / "export.json").write_text('{"made_with": {"paraformer": "0.1"}}', encoding="utf-8")
    assert main([str(CLIP), f"+model={folder}"]) == 0
    assert capsys.readouterr().out
    assert f"{folder}: exported by 0.1 in an older format; export it again" in caplog.messages
    graph = onnx.load(str(folder / "model.onnx"))
    kept = [each for each in graph.metadata_props if each.key != "neg_mean"]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    onnx.save(graph, str(folder / "model.onnx"))
    assert main([str(CLIP), f"+model={folder}"]) == 1
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if line.startswith("funasr: ")]
    assert str(folder / "model.onnx") in line and "neg_mean" in line
    assert said.out == "" and "Traceback" not in said.err


def test_what_cannot_be_compared_is_refused_before_the_export(tmp_path, capsys):
    listed, out = tmp_path / "wav.scp", tmp_path / "out"
    listed.write_text(f"a {CLIP}\n", encoding="utf-8")
    assert main(["export", "+model=cam++-mini", f"+out={out}", f"+check={listed}"]) == 1
    assert "check: compares recognisers, VADs and punctuation models" in capsys.readouterr().err
    assert not out.exists()


def test_wrong_keys_are_told_apart(capsys):
    assert main(["export", "+layot=both"]) == 1
    assert "export: unknown key 'layot'; did you mean 'layout'?" in capsys.readouterr().err
    assert main(["export", "x.wav"]) == 1
    assert "write `funasr export +model=NAME +out=DIR" in capsys.readouterr().err
    assert main(["export", "--help"]) == 0
    assert "  layout=both " in capsys.readouterr().out


def test_calibration_is_told_and_noted(tmp_path, capsys):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    source = save_directory(tmp_path / "model", tiny.release(seed=3))
    out, listed = tmp_path / "out", tmp_path / "wav.scp"
    listed.write_text(f"a {CLIP}\n", encoding="utf-8")
    lists = {"calibrate": str(listed), "check": str(listed)}
    model = AutoModel(str(source))
    with pytest.raises(ConfigError, match="calibrate: chooses what dtype=int8 rounds"):
        model.export(output_dir=str(out), layout="funasr-onnx", **lists)
    assert not out.exists()
    folder = model.export(output_dir=str(out), layout="funasr-onnx", quantize=True, **lists)
    assert folder == str(out)
    report = json.loads((out / "export.json").read_text("utf-8"))
    found = report["calibration"]
    same = {trial["kept"]: trial["same"] for trial in found["trials"]}
    assert same[len(found["kept"])] == found["texts"] == 1
    assert report["check"]["changed"] == [] and report["check"]["recordings"] == 1
    assert [path.name for path in out.glob("model*")] == ["model_quant.onnx"]
