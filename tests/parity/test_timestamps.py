"""Times made of weights and peaks as the reference's, with no model and with a plain Paraformer."""

from __future__ import annotations

import json

import pytest
import torch

from paraformer.backends.torch_engine import frame_seconds
from paraformer.decode.text import postprocess
from paraformer.decode.timestamps import Clock, milliseconds, one_line
from paraformer.nn.cif_v3 import Timeline, plain_timeline, single_fire_peaks
from tests.conftest import SHARED, needs_shared
from tests.parity.oracle import SANM, close, pad

FUNCTIONS = SHARED / "oracle" / "functions" / "expected.json"


@needs_shared
@pytest.mark.parametrize("number", range(9))
def test_prediction(number):
    """Among the cases: a fire too many or too few, long silences, weights above 1, a shift."""
    case = json.loads(FUNCTIONS.read_text(encoding="utf-8"))["ts_prediction"][number]
    weights, peaks = (torch.tensor([case[name]]) for name in ("alphas", "peaks"))
    close(single_fire_peaks(weights).float(), peaks, 1e-5)
    lengths = torch.tensor([weights.size(1)])
    clock = Clock(Timeline(weights, peaks, lengths, case["upsample_rate"]), 0.06)
    found = clock.spans(0, case["chars"], case["vad_offset"])
    assert milliseconds(found) == case["timestamp"]
    assert one_line(found) == case["line"]


@pytest.mark.parametrize("oracle", SANM, indirect=True, scope="module")
def test_a_paraformer_times_tokens_by_its_own_weights(oracle):
    """`pred_timestamp`."""
    model = oracle.release.model
    with torch.no_grad():
        memory, lengths = model.encode(*pad(oracle.feats()))
        heard = model.predict(memory, lengths)
    clock = Clock(plain_timeline(heard, lengths), frame_seconds(oracle.release))
    for row, tag in enumerate(oracle.tags):
        tokens = oracle.facts["utt"][tag]["tokens"]
        read = postprocess(tokens, milliseconds(clock.spans(row, tokens)))
        expected = oracle.facts["pred_timestamp"][row]
        assert (read.text, read.timestamps) == (expected["text"], expected["timestamp"])
