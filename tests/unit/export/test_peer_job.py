"""A runtime is given what it wants, by a program that needs nothing of ours."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import soundfile

from paraformer.export import peer_job


def test_it_imports_nothing_of_ours():
    tree = ast.parse(Path(peer_job.__file__).read_text("utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    assert not [name for name in names if name.startswith("paraformer")]


@pytest.mark.parametrize(("count", "whole"), [(9600, 3), (9601, 3), (19199, 3), (1, 2)])
def test_a_stream_ends_in_whole_blocks_of_silence(count, whole, tmp_path):
    """Of 600 ms at 16 kHz; more than one block of silence, and two at most."""
    path = tmp_path / "x.wav"
    wave = np.linspace(-0.9, 0.9, count, dtype=np.float32)
    soundfile.write(path, wave, 16000, subtype="PCM_16")
    found = list(peer_job.blocks(str(path)))
    assert [len(block) for block, _, _ in found] == [9600] * whole
    assert [(rate, last) for _, rate, last in found] == [
        *[(16000, False)] * (whole - 1),
        (16000, True),
    ]
    heard = np.concatenate([block for block, _, _ in found])
    np.testing.assert_allclose(heard[:count], wave, atol=1 / 32768)
    assert not heard[count:].any()


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(9600, [9600]), (100, [100]), (19199, [19199]), (28801, [9600, 9600, 9601])],
)
def test_without_silence_the_last_block_is_no_short_one(count, sizes, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(count), 16000, subtype="PCM_16")
    found = list(peer_job.blocks(str(path), silence=False))
    assert [len(block) for block, _, _ in found] == sizes
    assert [last for _, _, last in found] == [False] * (len(sizes) - 1) + [True]


def test_an_export_in_8_bits_is_loaded_as_such(tmp_path):
    (tmp_path / "model_eb_quant.onnx").touch()
    assert not peer_job.given(str(tmp_path))["quantize"]
    (tmp_path / "model_quant.onnx").touch()
    assert peer_job.given(str(tmp_path))["quantize"]
    assert peer_job.graph(str(tmp_path), "model") == str(tmp_path / "model_quant.onnx")
