"""The twin for inference gives what the model gives, and leaves the model alone."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from paraformer.backends.devices import multiplies_int8
from paraformer.backends.packed import PackedConv, PackedLinear, for_inference
from paraformer.nn.layers import FeedForward, NormedFeedForward, PointwiseConv, ScoreLayer
from tests import tiny

CPU = torch.device("cpu")
NAN = float("nan")
WIDE = {
    "encoder_conf": {"output_size": 64, "linear_units": 128},
    "decoder_conf": {"linear_units": 128},
    "predictor_conf": {"idim": 64},
}

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


needs_int8 = pytest.mark.skipif(
    not multiplies_int8(), reason="this processor has no exact sums of 8 bits"
)


@needs_onednn
@pytest.mark.parametrize("shape", [(1, 64), (3, 15, 64), (2, 0, 64), (0, 64), (1200, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_is_the_layer(shape, bias):
    linear = torch.nn.Linear(64, 80, bias=bias)
    x = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize("frames", [3, 4, 200])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_packed_convolution_is_the_convolution(frames, kernel):
    conv = torch.nn.Conv1d(64, 80, kernel)
    x = torch.randn(2, 64, frames)
    with torch.inference_mode():
        torch.testing.assert_close(PackedConv(conv)(x), conv(x), atol=1e-5, rtol=1e-5)


@needs_onednn
def test_shapes_without_end_take_no_memory_without_end():
    """What oneDNN keeps for each number of rows is bounded by few numbers of rows."""
    met = set()
    layer = PackedLinear(torch.nn.Linear(64, 80))
    product = torch.ops.mkldnn._linear_pointwise

    def watch(x, *rest):
        met.add(len(x))
        return product(x, *rest)

    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.mkldnn, "_linear_pointwise", watch)
        for rows in range(1, 2500):
            assert layer(torch.zeros(rows, 64)).shape == (rows, 80)
    assert len(met) <= 36


@needs_onednn
def test_the_twin_recognises_as_the_model_and_the_model_stays():
    model = tiny.release(WIDE).model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = for_inference(model, CPU)
    assert any(isinstance(module, PackedLinear) for module in twin.modules())
    feats, lengths = torch.randn(2, 30, 56), torch.tensor([30, 11])
    with torch.inference_mode():
        ours, theirs = twin.encode(feats, lengths)[0], model.encode(feats, lengths)[0]
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    assert tiny.equal(dict(model.state_dict()), before)
    model.encode(feats, lengths)[0].sum().backward()  # it can still be trained


@needs_onednn
def test_a_twin_of_a_twin_is_the_same():
    twin = for_inference(tiny.release(WIDE).model, CPU)
    again = for_inference(twin, CPU)
    x, lengths = torch.randn(1, 9, 56), torch.tensor([9])
    with torch.inference_mode():
        assert torch.equal(again.encode(x, lengths)[0], twin.encode(x, lengths)[0])


@needs_onednn
def test_bfloat16_is_near():
    linear = torch.nn.Linear(64, 80)
    x = torch.randn(5, 64)
    packed = PackedLinear(linear, torch.bfloat16)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            assert packed(x).dtype == linear(x).dtype == torch.bfloat16
        # Where autocast is off, what comes behind works in float32.
        assert packed(x).dtype == torch.float32
        torch.testing.assert_close(packed(x), linear(x), atol=0.05, rtol=0.05)


def whole(rows):
    """Rows (M, N) -> whole numbers of which the largest of each row is 127, and a unit of it."""
    unit = rows.double().abs().amax(1, keepdim=True) / 127
    return (rows.double() / unit).round(), unit


@needs_int8
@pytest.mark.parametrize("shape", [(1, 64), (3, 15, 64), (2, 0, 64), (1200, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_of_8_bits_is_that_of_whole_numbers(shape, bias):
    linear, x = torch.nn.Linear(64, 80, bias=bias), torch.randn(shape)
    packed = PackedLinear(linear, torch.int8)
    rows, (weights, scales) = x.reshape(-1, 64).double(), whole(linear.weight.detach())
    expected = rows @ (weights * scales).T
    expected = expected + linear.bias.double() if bias else expected
    with torch.inference_mode():
        assert torch.equal(packed.product(x, "relu"), packed(x).relu())
        found = packed(x)
    # Of each number of a row less than 1 of 127 * 127 of the largest one is lost.
    lost = rows.abs().amax(1, keepdim=True) / 127**2 * (weights * scales).abs().sum(1)
    assert ((found.reshape(-1, 80) - expected).abs() <= lost + 1e-5).all()
    torch.testing.assert_close(packed.weight.double(), weights * scales, atol=1e-6, rtol=1e-6)


@needs_int8
@pytest.mark.parametrize("rows", [1, 5, 66, 700])
def test_a_row_of_a_product_of_8_bits_is_the_same_in_any_company(rows):
    packed = PackedLinear(torch.nn.Linear(64, 80), torch.int8)
    x = torch.randn(1100, 64) * torch.logspace(-3, 3, 1100)[:, None]
    x[3] = 0.0
    with torch.inference_mode():
        every = packed(x)
        assert torch.equal(packed(x[:rows]), every[:rows])
        assert torch.equal(every[3], packed.bias)
        x[1, 7] = NAN
        assert packed(x)[1].isnan().all() and torch.equal(packed(x)[2:], every[2:])


@needs_int8
@pytest.mark.parametrize("layer", [ScoreLayer(64, 80), torch.nn.Conv1d(64, 80, 3)], ids=repr)
def test_what_decides_tokens_and_their_number_is_float32_beside_products_of_8_bits(layer):
    x = torch.randn(2, 64, 64)
    with torch.inference_mode():
        assert torch.equal(for_inference(layer, CPU, torch.int8)(x), for_inference(layer, CPU)(x))


@needs_onednn
def test_scores_of_tokens_are_float32_in_every_number_format():
    layer, x = ScoreLayer(64, 80), torch.randn(5, 64)
    packed = for_inference(layer, CPU, torch.bfloat16)
    with torch.inference_mode():
        exact, near = layer(x), packed(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(layer(x), exact) and torch.equal(packed(x), near)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16  # a training step has its own precision


@needs_onednn
@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Linear(64, 80),
        torch.nn.Linear(64, 80, bias=False),
        torch.nn.Conv1d(64, 80, 3),
        PointwiseConv(64, 80, bias=False),
        ScoreLayer(64, 80),
    ],
    ids=repr,
)
def test_a_packed_layer_has_the_face_of_the_layer(layer):
    """A module that reads an attribute of a layer need not know that it may be packed."""
    twin = for_inference(layer, CPU)
    assert type(twin) is not type(layer)
    assert isinstance(twin, type(layer))
    for name in {*dir(layer)} - {*dir(torch.nn.Module())}:
        ours, own = getattr(twin, name), getattr(layer, name)
        if isinstance(own, torch.Tensor):
            assert torch.equal(ours, own), name
        elif not callable(own):
            assert ours == own, name
    x = torch.randn(2, 9, 64)
    x = x.transpose(1, 2) if type(layer) is torch.nn.Conv1d else x
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), layer(x), atol=1e-5, rtol=1e-5)


def test_a_machine_without_onednn_uses_the_model_itself(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = tiny.release().model
    assert for_inference(model, CPU) is model


@pytest.mark.parametrize("kernel", [1, 3, 11])
def test_the_sum_over_taps_is_the_convolution(kernel):
    from paraformer.nn.sanm import MemoryBlock

    block = MemoryBlock(8, kernel)
    x, frames = torch.randn(2, 17, 8), torch.ones(2, 17, 1)
    frames[1, 9:] = 0
    expected = block(x, frames)  # with gradients: torch's convolution
    with torch.no_grad():
        torch.testing.assert_close(block(x, frames), expected, atol=1e-5, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [FeedForward, NormedFeedForward])
@pytest.mark.parametrize("shape", [(2, 15, 64), (3, 1100, 64), (2, 0, 64)])
def test_a_feed_forward_layer_in_blocks_is_its_parts(dtype, kind, shape):
    """Each of its parts over all rows gives the same numbers, bit for bit."""
    layer = for_inference(kind(64, 128, 0.1), CPU, dtype)
    x = torch.randn(shape)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, dtype is torch.bfloat16):
        hidden = torch.relu(layer.w_1(x))
        hidden = layer.norm(hidden) if kind is NormedFeedForward else hidden
        assert type(layer) is not kind and isinstance(layer, kind)
        assert torch.equal(layer(x), layer.w_2(hidden))


@needs_onednn
@pytest.mark.parametrize("kind", [FeedForward, NormedFeedForward])
def test_the_hidden_rows_of_a_feed_forward_layer_are_a_block_however_many_there_are(kind):
    layer, sizes = for_inference(kind(64, 128, 0.1), CPU), []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (out if isinstance(out, (tuple, list)) else (out,)))
            return out

    with torch.inference_mode(), Sizes():
        layer(torch.zeros(1, 5000, 64))
    assert max(sizes) == 5000 * 64  # its result, not 5000 * 128


def test_a_feed_forward_layer_of_another_activation_stays():
    layer = for_inference(FeedForward(64, 128, 0.1, torch.nn.functional.silu), CPU)
    assert type(layer) is FeedForward


def test_on_a_gpu_the_model_computes_itself(monkeypatch):
    """A stand-in: it goes there once, and no layer is packed."""
    gone, model = [], tiny.release(WIDE).model.train()
    monkeypatch.setattr(type(model), "to", lambda self, device: gone.append(device) or self)
    gpu = torch.device("cuda")
    assert for_inference(model, gpu, torch.float16) is model and not model.training
    assert gone == [gpu]
    assert not any(isinstance(each, (PackedLinear, PackedConv)) for each in model.modules())
