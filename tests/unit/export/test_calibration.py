"""Calibration keeps the fewest of the most sensitive layers that keep the texts, and says which."""

from __future__ import annotations

import pytest
import torch

from paraformer.export import calibration
from paraformer.export.calibration import calibrate
from paraformer.export.graphs import Graph, Trial
from paraformer.export.onnx_file import products, write_graph

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

LAYERS, WIDTH = 6, 16


class Stack(torch.nn.Module):
    """Layers of which the third has weights so large, of an input that is 0, that 8 bits lose all
    the others.
    """

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        with torch.no_grad():
            self.layers[1].weight[0] = self.layers[1].bias[0] = 0.0
            self.layers[2].weight[:, 0] = 3e3

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return (x,)


@pytest.fixture
def files(tmp_path):
    axes = {"x": {1: "frames"}, "y": {1: "frames"}}
    trials = [Trial("first", (torch.randn(1, 9, WIDTH),))]
    graph = Graph("model", Stack(), ("x",), ("y",), axes, trials)
    path = tmp_path / "model_quant.onnx"
    write_graph(path, graph)
    return [(path, graph)]


def in_bits(path):
    return sum(n.op_type == "MatMulInteger" for n in onnx.load(str(path)).graph.node)


@pytest.mark.parametrize("needed", range(LAYERS + 1))
def test_the_fewest_layers_stay_that_keep_99_of_100_texts(files, needed, tmp_path):
    """Two texts of 100 change until so many layers are in full, one from then on."""
    path = files[0][0]
    texts = list(range(100))

    def heard():
        kept = LAYERS - in_bits(path)
        return [-1, *texts[1:]] if kept >= needed else [-1, -2, *texts[2:]]

    found = calibrate(files, texts, heard)
    assert len(found.kept) == needed == LAYERS - in_bits(path)
    assert found.trials[needed] == 99 and len(found.trials) <= 4
    assert found.kept[:1] == ["layers.2"][:needed]
    assert f"{needed} of 6 groups of layers stay in fp32" in found.line()
    assert ("nothing is rounded" in found.line()) == (needed == LAYERS)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model_quant.onnx"]


def test_a_layer_that_changes_a_text_stays_though_others_differ_more(files):
    path = files[0][0]

    def heard():
        nodes = onnx.load(str(path)).graph.node
        rounded = {n.name for n in nodes if n.op_type == "MatMulInteger"}
        return ["b" if any("layers.4" in name for name in rounded) else "a"]

    found = calibrate(files, ["a"], heard)
    assert found.kept == ["layers.4"] and in_bits(path) == LAYERS - 1
    assert found.alone == {f"layers.{n}": int(n == 4) for n in range(LAYERS)}


def test_layers_are_tried_in_groups_where_there_are_many(files, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_GROUPS", 4)
    found = calibrate(files, ["a"], lambda: ["b"])
    assert found.groups == 3 and in_bits(files[0][0]) == 0
    assert sorted(found.kept) == [f"layers.{n} to layers.{n + 1}" for n in (0, 2, 4)]
    assert found.as_json()["trials"][-1] == {"kept": 3, "same": 0}


def test_only_products_with_weights_are_rounded(files):
    names = [f"/layers.{n}/MatMul" for n in range(LAYERS)]
    assert products(files[0][0]) == names
