"""Lanes side by side say what each says alone, in the order of the list, and how late."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paraformer.api.live import LivePipeline
from paraformer.api.serving import Lanes
from paraformer.data.inputs.sources import Item
from paraformer.decode.streaming import StreamingRecognizer
from tests import tiny

RATE = 16000


@pytest.fixture(scope="module")
def pipeline():
    return LivePipeline(StreamingRecognizer(tiny.release({"decoder_conf": {"sanm_shfit": 2}})))


def items(*seconds):
    waves = [
        np.random.default_rng(n).normal(0, 0.1, round(RATE * s)) for n, s in enumerate(seconds)
    ]
    return [Item(f"u{n}", torch.from_numpy(w).float()) for n, w in enumerate(waves)]


def said(results):
    """Not the last bits of probabilities, which other batches change."""
    times = [[(word["text"], word["start"], word["end"]) for word in r.words] for r in results]
    return [(r.key, r.text, *words, r.seconds) for r, words in zip(results, times, strict=True)]


@pytest.mark.parametrize("most", [2, 5])
def test_lanes_side_by_side_are_each_alone_in_the_order_of_the_list(pipeline, most):
    """The first is the longest, so that it ends last."""
    listed = items(2.5, 0.3, 1.2, 0.3)
    alone = [r for item in listed for r in Lanes(pipeline).results(iter([item]), 1)]
    together = list(Lanes(pipeline, most).results(iter(listed), len(listed)))
    assert said(together) == said(alone)
    assert [r.audio_seconds for r in together] == [2.5, 0.3, 1.2, 0.3]
    assert all(set(r.to_dict()) == {"key", "text", "words", "audio_seconds"} for r in together)


def test_delays_count_from_the_end_of_a_token_and_of_the_audio(pipeline):
    """The line has them in whole milliseconds."""
    (result,) = Lanes(pipeline).results(iter(items(2.0)), 1)
    first, last = result.delays_ms
    assert last >= 0.0 and first > 0.0
    told = result.rows[0]["delay"].split()
    assert told[:2] == [f"{first:.0f}", f"{last:.0f}"]


def test_what_cannot_be_read_keeps_its_place(pipeline, tmp_path):
    listed = [Item("lost", str(tmp_path / "none.wav")), *items(0.3)]
    found = list(Lanes(pipeline, 2).results(iter(listed), 2))
    assert [r.key for r in found] == ["lost", "u0"]
    assert "none.wav" in found[0].error and found[1].error is None
    assert found[0].delays_ms is None
    assert list(Lanes(pipeline).results(iter([]), 0)) == []
