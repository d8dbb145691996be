"""A graph hears hotwords as the network does, in lists of any length."""

from __future__ import annotations

import pytest
import torch

from paraformer import AutoModel
from paraformer.errors import ConfigError
from paraformer.export.directory import CLIP, export_model
from paraformer.models.release import save_directory
from tests import tiny
from tests.parity.oracle import FIXTURES

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.mark.parametrize("name", ["seaco", "contextual"])
def test_texts_with_and_without_hotwords_are_those_of_the_network(name, tmp_path):
    source = FIXTURES / "oracle" / name
    there = export_model(source, tmp_path / "out", "funasr-onnx").directory
    assert {path.name for path in there.glob("*.onnx")} == {"model.onnx", "model_eb.onnx"}
    network, graph = AutoModel(str(source), device="cpu"), AutoModel(str(there))
    chars = [token for token in network.kwargs["tokenizer"].tokens if token >= "\u4e00"][:60]
    texts = set()
    for words in ([], chars[:6], [a + b for a, b in zip(chars, chars[1:], strict=False)]):
        found = [m.generate(str(CLIP), hotword=words)[0]["text"] for m in (network, graph)]
        assert found[0] == found[1]
        texts.add(found[0])
    assert len(texts) == 3  # more than the shortlist among them
    with pytest.raises(ConfigError, match=r"model\.onnx: nfilter, .* are fixed in a graph"):
        graph.generate(str(CLIP), hotword=chars[:1], nfilter=9)
    with pytest.raises(
        ConfigError, match=r"model_eb\.onnx: takes hotwords of 10 tokens, one has 11"
    ):
        graph.generate(str(CLIP), hotword=["".join(chars[:11])])


@pytest.mark.parametrize(("dtype", "size"), [("fp16", 0.75), ("int8", 0.75)])
def test_smaller_numbers_are_smaller_files_that_still_recognise(dtype, size, tmp_path):
    """fp16 changes no result of a model whose weights are stored in half; int8 has to run."""
    model = tiny.release({"encoder_conf": {"linear_units": 2048}}, seed=3)
    source = save_directory(tmp_path / "model", model, dtype=torch.float16)
    whole = export_model(source, tmp_path / "whole", "funasr-onnx")
    small = export_model(source, tmp_path / "small", "funasr-onnx", dtype)
    assert small.graphs[0].size < size * whole.graphs[0].size
    folders = (source, whole.directory, small.directory)
    network, full, fewer = (
        AutoModel(str(folder), device="cpu").generate(str(CLIP))[0] for folder in folders
    )
    assert network["text"] == full["text"] != "" and fewer["text"]
    if dtype == "fp16":
        assert fewer == full
    else:
        assert {path.name for path in small.directory.glob("*.onnx")} == {"model_quant.onnx"}
