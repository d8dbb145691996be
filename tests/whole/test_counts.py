"""A layer of an encoder costs a known number of products with weights, of calls and of numbers made
anew, whatever the clock says: one more copy of its rows is seen here.

Each count is that of a model with one more layer, less that of the model without. Numbers are
counted where an operation gives storage that is none of its inputs', in rows as wide as the model.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paraformer.backends.torch_engine import TorchRecognition, TorchStreams
from paraformer.nn.chunks import streaming_rule
from tests import tiny

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)

CPU, WIDTH, HIDDEN, FRAMES = torch.device("cpu"), 64, 128, 64
PRODUCTS = ("linear", "mm", "addmm", "_linear_pointwise")


class Count(NamedTuple):
    """The cost of something."""

    products: int
    calls: int
    made: float


class Counter(TorchDispatchMode):
    """What is called, and what is made by it, beside the inputs."""

    def __init__(self):
        super().__init__()
        self.products = self.calls = self.made = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.calls += 1
        self.products += name in PRODUCTS
        known = {place(x) for x in tensors((args, kwargs))}
        self.made += sum(x.numel() for x in tensors(out) if place(x) not in known)
        return out


def tensors(tree):
    return [
        x for x in tree_leaves(tree) if isinstance(x, torch.Tensor) and x.layout is torch.strided
    ]


def place(x):
    return x.untyped_storage().data_ptr()


def release(layers):
    """A model in which as many tokens fire, however many layers its encoder has."""
    made = tiny.release(
        {
            "model": "ParaformerStreaming",
            "encoder_conf": {
                "output_size": WIDTH,
                "linear_units": HIDDEN,
                "num_blocks": layers,
            },
            "decoder_conf": {"linear_units": HIDDEN, "sanm_shfit": 2},
            "predictor_conf": {"idim": WIDTH},
        }
    )
    torch.nn.init.zeros_(made.model.predictor.cif_output.weight)
    return made


def utterance(layers, dtype):
    engine = TorchRecognition(release(layers), CPU, dtype)
    x, lengths = torch.randn(1, FRAMES, 56), torch.tensor([FRAMES])
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        engine.model.encode(x, lengths)
        with Counter() as counter:
            engine.model.encode(x, lengths)
    return Count(counter.products, counter.calls, counter.made / FRAMES / WIDTH)


def chunk(layers, dtype):
    """A chunk of 10 frames with 5 of a look-ahead, behind one that is 4 chunks old."""
    rule = streaming_rule((0, 10, 5), 4, 1)
    engine = TorchStreams(release(layers), rule, CPU, dtype)
    states, x = [engine.initial_state()], [torch.randn(10, 56)]
    for _ in range(6):
        (fired,) = engine.forward_chunk(x, [False], states)
        states = fired.states
    with Counter() as counter:
        engine.forward_chunk(x, [False], states)
    return Count(counter.products, counter.calls, counter.made / (rule.pad + 10) / WIDTH)


def layer(make, dtype):
    """The cost of one more layer."""
    return Count(*(more - less for more, less in zip(make(3, dtype), make(2, dtype), strict=True)))


@pytest.mark.parametrize(("dtype", "casts"), [(None, 0), (torch.bfloat16, 2)])
def test_a_layer_makes_each_of_its_rows_once(dtype, casts):
    """Both norms, queries, keys and values, masked values, their filter, attention and its output,
    two sums, hidden rows (twice as wide), what comes of them, and the sum with it: 15 rows; in half
    precision what comes of a norm is rounded.
    """
    found = layer(utterance, dtype)
    assert found.products == 4
    assert found.made <= 15 + casts
    assert found.calls <= 55


@pytest.mark.parametrize(("dtype", "casts"), [(None, 0), (torch.bfloat16, 2)])
def test_a_layer_of_a_chunk_makes_its_past_anew_once_and_keeps_it(dtype, casts):
    """Eight times 15 rows that are no product; what goes into products and comes out of them in 16
    rows, a multiple of four; keys and values of 40 rows behind which its own stand, and of those
    that are kept.
    """
    rows, padded, past = 15, 16, 40
    found = layer(chunk, dtype)
    assert found.products == 4
    kept = 2 * (past + rows) + 2 * (past + 10)
    assert found.made * rows <= (8 + casts) * rows + (7 + 5) * padded + kept + 1
    assert found.calls <= 71
