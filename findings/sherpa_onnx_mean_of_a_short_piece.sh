#!/usr/bin/env bash
# The ONNX Runtime inside sherpa-onnx 2.0.1 and the mean of a last piece that is shorter.
#
# One expects: AveragePool with ceil_mode=1 and without padding gives the mean of what the last,
# shorter window holds, whether padding is to be counted or not, for there is none. onnxruntime 1.32.0
# and PyTorch (avg_pool1d, whose default is to count) do so.
# What happens: with count_include_pad=1 that window's sum is divided by the size of a whole one.
# Why it matters: torch.onnx.export writes count_include_pad=1 by default. Speaker models such as CAM++
# weigh their channels by means of pieces of 100 frames: in sherpa-onnx the vectors of clips that are
# no whole number of pieces, which are nearly all, are others (cosines to the right ones of 0.85 to
# 0.9997 with random weights), without a word. Export with count_include_pad=False.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here (apt install python3-venv)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv

venv/bin/pip install -q --disable-pip-version-check sherpa-onnx==2.0.1 onnxruntime==1.32.0 onnx numpy
venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import sherpa_onnx
from onnx import TensorProto, helper

print("sherpa-onnx", version("sherpa-onnx"), "onnxruntime", onnxruntime.__version__)
METADATA = {"framework": "3d-speaker", "language": "Chinese", "output_dim": "160"}
METADATA |= {"sample_rate": "16000", "normalize_samples": "1"}
SOUND = np.random.default_rng(0).normal(0.0, 0.1, 24000).astype(np.float32)  # 150 frames of 10 ms


def write(name, counted):
    """A graph of features (1, T, 80) to the mean of each 100 of them, behind each other."""
    nodes = [
        helper.make_node("Transpose", ["feats"], ["rows"], perm=[0, 2, 1]),
        helper.make_node(
            *("AveragePool", ["rows"], ["means"]),
            **{"kernel_shape": [100], "strides": [100], "ceil_mode": 1},
            count_include_pad=counted,
        ),
        helper.make_node("Flatten", ["means"], ["embedding"]),
    ]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("feats", ["B", "T", 80]), ("embedding", ["B", "E"]))
    ]
    graph = helper.make_graph(nodes, "means", *ports)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in METADATA.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, name)


def by_sherpa(name):
    """The means (80, 2) of the sound's features."""
    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=name)
    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(config)
    stream = extractor.create_stream()
    stream.accept_waveform(16000, SOUND)
    stream.input_finished()
    return np.array(extractor.compute(stream)).reshape(80, 2)


def by_onnxruntime(name):
    """The means (80, 2) of ones."""
    feats = np.ones((1, 150, 80), np.float32)
    return onnxruntime.InferenceSession(name).run(None, {"feats": feats})[0].reshape(80, 2)


for counted in (0, 1):
    write(f"{counted}.onnx", counted)
plain, counted = (by_sherpa(f"{each}.onnx") for each in (0, 1))
ratios = (counted / plain).mean(0)
print(f"sherpa-onnx, counted by not counted: {ratios[0]:.3f}, last piece {ratios[1]:.3f}")
plain, counted = (by_onnxruntime(f"{each}.onnx") for each in (0, 1))
print(f"onnxruntime: last piece {(counted / plain).mean(0)[1]:.3f}")
raise SystemExit(0 if np.allclose(ratios, (1.0, 0.5)) else "the behaviour has changed")
PYTHON
