"""A session runs in the process that it was made in, and in a fork of it."""

from __future__ import annotations

import multiprocessing
import sys

import pytest
import torch

from paraformer.backends.onnx_session import Session, session_of
from paraformer.errors import CheckpointError

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture
def path(tmp_path):
    helper, kind = onnx.helper, onnx.TensorProto.INT64
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "g",
        [helper.make_tensor_value_info(name, kind, [None]) for name in "ab"],
        [helper.make_tensor_value_info("c", kind, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "add.onnx"))
    return tmp_path / "add.onnx"


def test_whole_numbers_are_given_in_the_size_that_a_graph_takes(path):
    (found,) = Session(path).run([torch.tensor([1], dtype=torch.int32), torch.tensor([2])])
    assert found.tolist() == [3] and found.dtype == torch.int64


def test_those_who_use_a_file_at_a_time_share_a_session(path):
    first = session_of(path)
    assert session_of(path) is first


def test_a_wrong_run_and_a_wrong_file_are_named(path):
    with pytest.raises(CheckpointError, match=r"^add\.onnx: onnxruntime refuses it"):
        Session(path).run([torch.tensor([1]), torch.tensor([[2]])])
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"^add\.onnx: onnxruntime refuses it"):
        Session(path)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no fork")
def test_a_fork_goes_on(path):
    session = Session(path)
    session.run([torch.tensor([1]), torch.tensor([2])])
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert pool.apply(_sum, (path, session.process)) == [7]
    session.run([torch.tensor([1]), torch.tensor([2])])


def _sum(path, parent):
    session = session_of(path)
    session.process = parent  # as one that came along has it
    return session.run([torch.tensor([3]), torch.tensor([4])])[0].tolist()
