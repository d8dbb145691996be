"""A module becomes a file of ONNX, in full, half or 8-bit numbers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paraformer.export.graphs import Graph
from paraformer.extras import load_extra

OPSET = 17
# Of each output channel its own scale; products alone, without those that count tokens.
KEPT_FULL = "cif_output"
# A running minimum reaches back 2 to that power steps: 21 minutes of 20 ms.
DOUBLINGS = 16
BEYOND = 1e300
# Smaller weights are not worth a node that widens them.
LEAST_HALVED = 1024
WHAT = "export to ONNX"
WHOLE = ".whole"  # suffix of a graph in full while its quantised one is made


def write_graph(path: Path, graph: Graph) -> None:
    """Write a graph in float32, with its metadata, as torch traces it on the first trial."""
    onnx = load_extra("onnx", WHAT)
    with _running_minima(), _quietly(), torch.no_grad():
        torch.onnx.export(
            graph.module.eval(),  # or it is put into training behind this
            graph.trials[0].inputs,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: dict(axes) for name, axes in graph.axes.items()},
        )
    model = onnx.load(str(path))
    for key, value in graph.metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))


def round_to_half(model: nn.Module) -> None:
    """Round the weights of a model to half precision, as a file in which they are stored so."""
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half().float())


def store_half(path: Path) -> None:
    """Store the weights of a graph in half precision; they are widened as it is loaded, and
    computed with in float32.
    """
    onnx = load_extra("onnx", WHAT)
    model = onnx.load(str(path))
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != "float32" or values.size < LEAST_HALVED:
            continue
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), f"{name}.half"))
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path))


def store_int8(path: Path) -> None:
    """Quantise the products of a graph to 8 bits, inputs as they come, but for the counters of
    tokens.
    """
    whole = path.replace(path.with_suffix(WHOLE))
    quantise(whole, path, products(whole))
    whole.unlink()


def quantise(whole: Path, path: Path, rounded: Collection[str]) -> None:
    """Write a graph in which these products are in 8 bits."""
    quantization = load_extra("onnxruntime.quantization", WHAT)
    nodes = load_extra("onnx", WHAT).load(str(whole)).graph.node
    with _quietly():
        quantization.quantize_dynamic(
            str(whole),
            str(path),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=[node.name for node in nodes if node.name not in rounded],
        )


def products(path: Path) -> list[str]:
    """The nodes of a graph that int8 rounds: products with a weight behind, but for the counters
    of tokens.
    """
    graph = load_extra("onnx", WHAT).load(str(path)).graph
    weights = {weight.name for weight in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and KEPT_FULL not in node.name
    ]


@contextmanager
def _running_minima() -> Iterator[None]:
    """Let torch write a running minimum, of which ONNX has none, as minima of shifted copies."""
    helper = torch.onnx.symbolic_helper

    @helper.parse_args("v", "i")
    def running_minimum(g: Any, x: Any, dim: int) -> tuple[Any, Any]:
        for power in range(DOUBLINGS):
            shift = 2**power
            pads = g.op("Constant", value_t=torch.tensor([0, shift, 0, 0]))
            beyond = g.op("Constant", value_t=torch.tensor(BEYOND, dtype=torch.float64))
            padded = g.op("Pad", x, pads, beyond, mode_s="constant")
            places = (torch.tensor([each]) for each in (0, -shift, dim))
            begin, end, axis = (g.op("Constant", value_t=place) for place in places)
            x = g.op("Min", x, g.op("Slice", padded, begin, end, axis))
        return x, x

    name = "aten::cummin"
    torch.onnx.register_custom_op_symbolic(name, running_minimum, OPSET)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic(name, OPSET)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of a trace: what it bakes in is found by the trials."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
