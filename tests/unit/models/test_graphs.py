"""Graphs are found, told apart and refused by what their files say, before they are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraformer.errors import CheckpointError
from paraformer.models.graphs import (
    FORMAT,
    Graphs,
    check_graphs,
    class_of,
    config_of,
    find_graph,
    is_graph,
    open_graphs,
    warn_of_old_export,
)
from paraformer.models.onnx_header import FLOAT, INT32, INT64, Header, Port

SPEECH = "auto-speech-recognition"


def head(inputs, outputs, metadata=None, operators=()):
    """A head of ports such as `f3`: numbers of three dimensions."""
    kinds = {"f": FLOAT, "i": INT32, "l": INT64}

    def ports(plan, name):
        return tuple(
            Port(f"{name}{place}", kinds[part[0]], (None,) * int(part[1]))
            for place, part in enumerate(plan.split())
        )

    path = Path("x/model.onnx")
    return Header(path, ports(inputs, "in"), ports(outputs, "out"), frozenset(operators), metadata)


PARAFORMER = {
    "lfr_window_size": "7",
    "lfr_window_shift": "6",
    "neg_mean": ",".join(["-8.5"] * 560),
    "inv_stddev": ",".join(["0.25"] * 560),
}
STREAM = {"encoder_output_size": "16", "decoder_num_blocks": "2", "decoder_kernel_size": "5"}
DECODER = head("f3 i1 f3 i1 f3 f3", "f3 l2 f3 f3")


@pytest.mark.parametrize(
    ("graphs", "name", "task"),
    [
        (Graphs(head("f3 i1", "f3 i1")), "Paraformer", SPEECH),
        (Graphs(head("f3 i1", "f3 i1 f2 f2")), "BiCifParaformer", SPEECH),
        (Graphs(head("f3 l1", "f3 i1 f2"), DECODER), "ParaformerStreaming", SPEECH),
        (
            Graphs(head("f3 i1 f3", "f3 i1 f2 f2"), None, head("i2", "f3")),
            *("SeacoParaformer", SPEECH),
        ),
        (Graphs(head("f3 f4 f4", "f3 f4 f4")), "FsmnVADStreaming", "voice-activity-detection"),
        (Graphs(head("i2 i1", "f3")), "CTTransformer", "punctuation"),
        (Graphs(head("i2 i1 f4 f4", "f3")), "CTTransformerStreaming", "punctuation"),
        (Graphs(head("f3", "f2")), "CAMPPlus", "speaker-verification"),
    ],
)
def test_each_kind_is_told_by_what_it_takes_and_gives(graphs, name, task):
    assert class_of(graphs) == name
    check_graphs(graphs, task, 5, 7)
    wrong = Graphs(head("f3 f3 f3", "f3"), graphs.decoder, graphs.embedder)
    with pytest.raises(CheckpointError, match=r"^x/model\.onnx: its (in|out)puts are in0 float32"):
        check_graphs(wrong, task, 5, 7)


def test_a_column_too_few_is_refused_with_the_name_of_the_port():
    ports = (Port("speech", FLOAT, (None, None, 400)), Port("speech_lengths", INT32, (None,)))
    graphs = Graphs(head("f3 i1", "f3 i1")._replace(inputs=ports))
    with pytest.raises(CheckpointError, match=r"model\.onnx: speech has 400 columns, not the 560"):
        check_graphs(graphs, SPEECH, 5, 560)


def test_metadata_are_the_configuration_of_graphs_that_have_no_other():
    config = config_of(Graphs(head("f3 i1", "f3 i1 f2 f2", PARAFORMER)))
    front = config["frontend_conf"]
    assert (config["model"], front["lfr_m"], front["lfr_n"]) == ("BiCifParaformer", 7, 6)
    graphs = Graphs(head("f3 i1", "f3 i1 f2", PARAFORMER | STREAM), DECODER)
    config = config_of(graphs)
    assert config["decoder_conf"] == {"num_blocks": 2, "kernel_size": 5}
    assert config["encoder_conf"] == {"output_size": 16}
    assert config["predictor_conf"] == {"tail_threshold": 0.0}  # sherpa-onnx knows no other
    told = {"tokens": "a|b", "unk_symbol": "b", "punctuations": "<unk>|_|,"}
    config = config_of(Graphs(head("i2 i1", "f3", told)))
    assert config["tokenizer_conf"] == {"token_list": ["a", "b"], "unk_symbol": "b"}
    assert config["model_conf"] == {"punc_list": ["<unk>", "_", ","]}
    voice = config_of(Graphs(head("f3", "f2", {"sample_rate": "8000"})))
    assert voice["frontend_conf"] == {"fs": 8000}


@pytest.mark.parametrize("key", [*PARAFORMER, *STREAM])
def test_a_missing_key_is_named_with_its_file(key):
    metadata = {k: v for k, v in (PARAFORMER | STREAM).items() if k != key}
    with pytest.raises(CheckpointError, match=rf"^x/model\.onnx: its metadata has no {key}; "):
        config_of(Graphs(head("f3 i1", "f3 i1 f2", metadata), DECODER))


def test_559_means_are_refused():
    short = PARAFORMER | {"neg_mean": ",".join(["1"] * 559)}
    with pytest.raises(CheckpointError, match="neg_mean has 559 numbers, not 560"):
        config_of(Graphs(head("f3 i1", "f3 i1", short)))


def test_a_graph_in_full_goes_before_one_in_eight_bits(tmp_path):
    assert find_graph(tmp_path) is None
    names = ["voice.onnx", "encoder.int8.onnx", "model_quant.onnx", "encoder.onnx", "model.onnx"]
    for name in names:
        (tmp_path / name).touch()
        assert find_graph(tmp_path) == tmp_path / name
    assert is_graph("a/b.onnx") and not is_graph("a/model.pt")


def test_the_graph_beside_it_is_in_the_same_numbers(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    for name in ("encoder.int8", "decoder", "decoder.int8", "model_eb_quant"):
        onnx.save(empty, str(tmp_path / f"{name}.onnx"))
    graphs = open_graphs(tmp_path / "encoder.int8.onnx")
    assert graphs.decoder.path.name == "decoder.int8.onnx"
    assert graphs.embedder.path.name == "model_eb_quant.onnx"


def test_a_graph_that_rounds_what_it_hears_is_known():
    rounds = Graphs(head("f3 i1", "f3 i1", operators=["DynamicQuantizeLinear"]))
    assert rounds.quantised and not Graphs(head("f3 i1", "f3 i1")).quantised


@pytest.mark.parametrize(
    ("report", "told"),
    [(f'{{"format": {FORMAT}}}', 0), ('{"format": 2}', 1), ("{}", 1), ("[", 0)],
)
def test_an_export_of_an_older_version_says_so(report, told, tmp_path, caplog):
    (tmp_path / "export.json").write_text(report, "utf-8")
    warn_of_old_export(tmp_path)
    assert len(caplog.messages) == told
    assert all("exported by an older version in an older format" in m for m in caplog.messages)
