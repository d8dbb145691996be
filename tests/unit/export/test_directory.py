"""Graphs give what torch gives, and what is beside them is what both runtimes want."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
import yaml

from paraformer.backends.face import Asked
from paraformer.data.audio.read import read_audio
from paraformer.decode.recognize import Recognizer, Search
from paraformer.decode.search import greedy_search
from paraformer.errors import CheckpointError, ConfigError
from paraformer.export.directory import CLIP, export_model
from paraformer.hub.directories import BUNDLED
from paraformer.models.release import load_directory, save_directory
from paraformer.nn.cif import CifOutput, CifPredictor, integrate
from paraformer.nn.mask import zero_padding
from paraformer.programs import export_onnx
from tests import tiny
from tests.parity.oracle import FIXTURES

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from paraformer.backends.onnx_session import Session  # noqa: E402

MINI = BUNDLED / "paraformer-zh-mini"
EOS = 2


@pytest.fixture(scope="module")
def release():
    return load_directory(MINI)


def feats_of(release, *sizes):
    """Features of the bundled clip, cut to these numbers of frames."""
    feats = release.frontend(read_audio(CLIP))
    return [feats[:size] for size in sizes]


def run(path, feats):
    lengths = torch.tensor([len(row) for row in feats], dtype=torch.int32)
    padded = torch.nn.utils.rnn.pad_sequence(feats, batch_first=True)
    return Session(path).run((padded, lengths))


def as_sherpa(logits, row):
    """Ids to the first `</s>`; token_num is not read."""
    ids = logits[row].argmax(-1).tolist()
    return ids[: ids.index(EOS)]


def test_both_runtimes_read_the_text_of_the_library_alone_and_in_a_batch(mini_export, release):
    feats = feats_of(release, 47, 30, 12)
    wanted = Recognizer(release).engine
    logits, counts, _, peaks = run(mini_export.directory / "model.onnx", feats)
    (heard,) = wanted.listen(feats, Asked())
    texts = [found.ids for found in greedy_search(heard.logp, heard.counts)]
    assert [as_sherpa(logits, row) for row in range(3)] == texts and all(texts)
    assert counts.tolist() == [len(text) + 1 for text in texts]
    fires = (peaks > 1.0 - 1e-4).sum(1).tolist()
    assert fires == counts.tolist()


def test_times_of_the_fires_are_those_of_the_library(mini_export, release):
    (feats,) = feats_of(release, 47)
    peaks = run(mini_export.directory / "model.onnx", [feats])[3][0]
    fires = (peaks > 1.0 - 1e-4).nonzero().flatten().tolist()
    plain = replace(release, config={**release.config, "token_ends": "released"})
    (heard,) = Recognizer(plain).recognize([read_audio(CLIP)], Search())
    starts = [start for start, _ in heard.best.token_times]
    assert starts == [int(max(fire - 1.5, 0.0) * 20) for fire in fires[:-1]]


def test_what_lies_beside_the_graph_is_what_the_runtimes_read(mini_export):
    onnx = pytest.importorskip("onnx")
    folder = mini_export.directory
    config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert config["frontend_conf"]["dither"] == 0.0 and "cmvn_file" not in config["frontend_conf"]
    assert config["model_conf"]["predictor_bias"] == 1
    tokens = json.loads((folder / "tokens.json").read_text("utf-8"))
    lines = (folder / "tokens.txt").read_text("utf-8").splitlines()
    assert [line.split(" ") for line in lines] == [[t, str(i)] for i, t in enumerate(tokens)]
    model = onnx.load(str(folder / "model.onnx"))
    told = {each.key: each.value for each in model.metadata_props}
    assert (told["vocab_size"], told["lfr_window_size"], told["lfr_window_shift"]) == (
        *(str(len(tokens)), "7", "6"),
    )
    vectors = (folder / "am.mvn").read_text("utf-8").split("[ ")[2:]
    for name, vector in zip(("neg_mean", "inv_stddev"), vectors, strict=True):
        assert told[name].split(",") == vector.split(" ]")[0].split()
    assert (folder / "README.md").read_bytes() == (MINI / "README.md").read_bytes()
    assert json.loads((folder / "configuration.json").read_text())["framework"] == "onnx"
    report = json.loads((folder / "export.json").read_text())
    assert [trial["name"] for trial in report["graphs"][0]["trials"]][-1] == "three rows"


def tiny_directory(folder, changes=None):
    model = tiny.release(changes, seed=3)
    return save_directory(folder, model)


@pytest.mark.parametrize("bundled", ["fsmn-vad-mini", "ct-punc-mini"])
def test_the_other_kinds_are_proved(bundled, tmp_path):
    """onnxruntime agrees with torch on all shapes, or nothing is written."""
    export = export_model(BUNDLED / bundled, tmp_path / "out")
    gaps = [max(trial.differences.values()) for trial in export.graphs[0].trials]
    assert len(gaps) == 4 and max(gaps) < 1e-4


def test_a_realtime_punctuation_model_has_its_four_inputs(tmp_path):
    export = export_model(FIXTURES / "oracle/ct_punc_streaming", tmp_path / "out", "funasr-onnx")
    session = Session(export.directory / "model.onnx")
    assert session.inputs == ["inputs", "text_lengths", "vad_masks", "sub_masks"]


def test_a_streaming_model_has_an_encoder_and_a_decoder(tmp_path):
    source = FIXTURES / "oracle/paraformer-streaming"
    export = export_model(source, tmp_path / "out", "funasr-onnx")
    assert [graph.file for graph in export.graphs] == ["model.onnx", "decoder.onnx"]
    config = yaml.safe_load((export.directory / "config.yaml").read_text("utf-8"))
    assert {"threshold", "tail_threshold"} <= config["predictor_conf"].keys()
    assert len(Session(export.directory / "decoder.onnx").inputs) == (
        4 + config["decoder_conf"]["num_blocks"]
    )


def test_a_baked_in_number_is_found_and_nothing_is_left(tmp_path, monkeypatch):
    source = tiny_directory(tmp_path / "model")
    monkeypatch.setattr(CifPredictor, "forward", _with_a_baked_count())
    with pytest.raises(CheckpointError, match=r"^model\.onnx: .*; nothing is written$"):
        export_model(source, tmp_path / "out", "funasr-onnx")
    assert not (tmp_path / "out").exists()
    before = tmp_path / "before"  # an export that is there stays as it is
    before.mkdir()
    (before / "model.onnx").write_bytes(b"whole")
    with pytest.raises(CheckpointError, match="nothing is written"):
        export_model(source, before, "funasr-onnx")
    assert [(path.name, path.read_bytes()) for path in before.iterdir()] == [
        ("model.onnx", b"whole")
    ]


def _with_a_baked_count():
    """The predictor as it would be traced if it took the number of tokens out of its tensor."""
    whole = CifPredictor.forward

    def forward(self, hidden, lengths):
        heard = whole(self, hidden, lengths)
        padded = torch.nn.functional.pad(hidden, (0, 0, 0, 1))
        embeds = integrate(heard.sums, padded, int(heard.token_lengths.max()) + 1)
        counts = heard.token_lengths
        return CifOutput(zero_padding(embeds, counts), counts, *heard[2:])

    return forward


def test_wrong_wishes_are_one_line(tmp_path):
    source = tiny_directory(tmp_path / "model")
    for wrong, keywords in (
        ("layout=all: not known", {"layout": "all"}),
        ("dtype=bf16: not known", {"dtype": "bf16"}),
        (r".*not for sherpa-onnx: .*n_mels", {"layout": "sherpa-onnx"}),
    ):
        with pytest.raises(ConfigError, match=f"^{wrong}"):
            export_model(source, tmp_path / "out", **keywords)
    with pytest.raises(ConfigError, match="is the model itself"):
        export_model(source, source)
    with pytest.raises(ConfigError, match="a forced aligner: has no graph"):
        export_model(BUNDLED / "fa-zh-mini", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_program_prints_the_proof(tmp_path, monkeypatch, capsys):
    source, out = tiny_directory(tmp_path / "model"), tmp_path / "out"
    words = ["export_onnx.py", f"model={source}", f"out={out}", "layout=funasr-onnx"]
    monkeypatch.setattr(sys, "argv", words)
    assert export_onnx.main() == 0
    trials = [line for line in capsys.readouterr().out.splitlines() if " of " in line]
    assert len(trials) == 5 and trials[0].startswith("model.onnx")
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == [
        *("am.mvn", "config.yaml", "configuration.json", "export.json", "model.onnx"),
        *("seg_dict", "tokens.json"),
    ]
