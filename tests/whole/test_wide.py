"""Models of real widths on a CPU, where large layers are packed, give what the models give.

Every layer is compared, through the public `AutoModel`: called as often as that of the unpacked
model, with output of the same shape, the same values, and in half precision the same type.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import torch

from paraformer import AutoModel
from paraformer.api.streaming import Manner
from paraformer.backends.devices import DTYPES
from paraformer.decode.streaming import Chunking
from tests import wide
from tests.bench.measure import CLIPS, speech

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)

SPEECH = speech(3.0, CLIPS)
TEXT = "今天的会就到这里吧那么我们明天再见"
# bfloat16 rounds by 2^-9 at most. Some thirty roundings of weights and outputs lie one behind
# another in two blocks and two stacks: sqrt(30) of them, and as much again for what they feed.
NEAR = 2 * 30**0.5 * 2**-9


class Heard(NamedTuple):
    """A result, and each layer's outputs in order."""

    result: dict[str, Any]
    layers: dict[str, list[torch.Tensor]]


def engine_of(model):
    """What computes behind an AutoModel."""
    task = model.task
    if hasattr(task, "aligner"):
        return task.aligner.engine
    if not hasattr(task, "recognizer"):
        return task.punctuator.engine
    return (
        task.online.recognizer(Manner(Chunking())) if model.streaming else task.recognizer
    ).engine


def generate(model):
    kind = type(engine_of(model).model).__name__
    if kind == "CtTransformer":
        return model.generate(TEXT)
    if kind == "Aligner":
        return model.generate((SPEECH, TEXT), data_type=("sound", "text"), fs=16000)
    options: dict[str, Any] = {}
    if kind.startswith(("Seaco", "Contextual")):
        options = {"hotword": "今天 明天 再见"}
    elif not model.streaming and model.recognizer.engine.has_ctc:
        options = {"decoding_ctc_weight": 0.3}
    return model.generate(SPEECH, fs=16000, **options)


def listen(directory, dtype="fp32") -> Heard:
    """What a model says in a number format, and what its layers give meanwhile."""
    model = AutoModel(directory, device="cpu", disable_pbar=True, dtype=dtype)
    assert engine_of(model).dtype is DTYPES[dtype]
    layers: dict[str, list[torch.Tensor]] = {}

    def watch(name):
        def hook(module, inputs, output):
            layers.setdefault(name, []).append(output.clone())

        return hook

    for name, module in engine_of(model).model.named_modules():
        if not any(module.children()) and not isinstance(module, torch.nn.LSTM):
            module.register_forward_hook(watch(name))
    (result,) = generate(model)
    return Heard(result, layers)


@pytest.fixture(scope="module", params=wide.ARCHITECTURES)
def directory(request):
    with TemporaryDirectory() as folder:  # it is large
        yield wide.write(Path(folder), request.param)


def close(ours: Any, theirs: Any) -> None:
    """Results in all their parts, numbers to 1e-4."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            close(ours[key], theirs[key])
    elif isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            close(one, other)
    else:
        assert ours == (pytest.approx(theirs, abs=1e-4) if type(ours) is float else theirs)


def outer(heard: Heard) -> dict[str, Any]:
    """The outputs of layers, but for those within a feed-forward layer, whose rows a packed one
    makes in blocks.
    """
    return {name: each for name, each in heard.layers.items() if ".feed_forward." not in name}


def shapes(heard: Heard, *facts: str) -> dict[str, list[tuple[Any, ...]]]:
    """What is known of each layer's outputs beside their values."""
    return {
        name: [tuple(getattr(output, fact) for fact in ("shape", *facts)) for output in outputs]
        for name, outputs in outer(heard).items()
    }


def test_a_packed_model_is_the_model(directory, monkeypatch):
    packed, half = listen(directory), listen(directory, "bf16")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain, plain_half = listen(directory), listen(directory, "bf16")
    close(packed.result, plain.result)
    assert shapes(packed, "dtype") == shapes(plain, "dtype")
    assert shapes(half, "dtype") == shapes(plain_half, "dtype")
    assert shapes(half) == shapes(packed)
    for name, outputs in outer(plain).items():
        for own, ours, rounded in zip(outputs, packed.layers[name], half.layers[name], strict=True):
            torch.testing.assert_close(ours, own, atol=1e-4, rtol=1e-4, msg=name)
            assert (rounded.float() - own).norm() <= NEAR * own.norm(), name
