"""The head of an ONNX file is what the package onnx says of it."""

from __future__ import annotations

import pytest

from paraformer.errors import CheckpointError
from paraformer.models.onnx_header import FLOAT, INT64, Port, read_header

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")


@pytest.fixture
def path(tmp_path):
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Size", ["y"], ["n"])],
        "g",
        [
            helper.make_tensor_value_info("x", FLOAT, [None, 3]),
            helper.make_tensor_value_info("w", FLOAT, [3, 2]),  # as older files list weights
        ],
        [
            helper.make_tensor_value_info("y", FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("n", INT64, []),
        ],
        [helper.make_tensor("w", FLOAT, [3, 2], [0.5] * 6)],
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, {"numbers": "1,2.5, -3", "empty": "", "long": "字" * 200})
    onnx.save(model, str(tmp_path / "a.onnx"))
    return tmp_path / "a.onnx"


def test_inputs_outputs_operators_and_metadata_are_read(path):
    head = read_header(path)
    assert head.inputs == (Port("x", FLOAT, (None, 3)),)
    assert head.outputs == (Port("y", FLOAT, (None, 2)), Port("n", INT64, ()))
    assert head.operators == {"MatMul", "Size"}
    assert head.metadata == {"numbers": "1,2.5, -3", "empty": "", "long": "字" * 200}
    assert head.numbers("numbers", 3) == [1.0, 2.5, -3.0]
    assert str(head.outputs[0]) == "y float32 (*, 2)"


def test_what_is_not_there_is_named_with_its_file(path):
    head = read_header(path)
    with pytest.raises(CheckpointError, match="a.onnx: its metadata has no scale; export it again"):
        head.value("scale")
    with pytest.raises(CheckpointError, match="a.onnx: numbers has 3 numbers, not 560"):
        head.numbers("numbers", 560)
    with pytest.raises(CheckpointError, match="a.onnx: empty of its metadata: could not convert"):
        head.numbers("empty", 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_short_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="a.onnx: is no ONNX graph, or cut short"):
        read_header(path)


def test_something_else_is_refused(path):
    path.write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(CheckpointError, match="is no ONNX graph"):
        read_header(path)
    with pytest.raises(CheckpointError, match="No such file or directory; give a graph"):
        read_header(path.with_name("b.onnx"))
