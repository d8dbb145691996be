"""CIF, predictors, position codes and losses equal the reference's, case by case.

The expected numbers are made by oracle/make/offline_functions.py.
"""

from __future__ import annotations

import json

import pytest
import torch

from paraformer.nn.cif import CifPredictor, fire_peaks, integrate, running_sum
from paraformer.nn.position import sinusoid
from paraformer.train.losses import label_smoothed_sum
from tests.conftest import SHARED, needs_shared
from tests.parity.oracle import close, load_arrays

FUNCTIONS = SHARED / "oracle" / "functions"
LENGTHS = torch.tensor([12, 8])  # of the two utterances of the CIF cases
PREDICTORS = {"CifPredictor": True, "CifPredictorV2": False}  # depthwise?

pytestmark = needs_shared


@pytest.fixture(scope="module")
def arrays():
    return load_arrays(FUNCTIONS)


@pytest.fixture(scope="module")
def facts():
    return json.loads((FUNCTIONS / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("function", ["cif", "cif_v1"])
def test_integrate_and_fire(arrays, function):
    sums = running_sum(arrays["cif/plain/alphas"])
    embeds = arrays[f"cif/plain/{function}/embeds"]
    close(integrate(sums, arrays["cif/hidden"], embeds.size(1))[:1], embeds[:1], 1e-5)
    fired = int(sums[1, -1])
    ours = integrate(sums, arrays["cif/hidden"], fired)[1]
    close(ours, embeds[1, :fired], 1e-5)
    close(fire_peaks(sums), arrays[f"cif/plain/{function}/fires"], 1e-5)


def test_a_weight_above_1_fires_where_the_vectorised_reference_does(arrays):
    """It fires one token a frame and loses the others; ours gives all their part of the frame."""
    alphas = arrays["cif/alpha_above_1/alphas"]
    sums = running_sum(alphas)
    close(fire_peaks(sums), arrays["cif/alpha_above_1/cif_v1/fires"], 1e-5)
    before = int(sums[0, 2])  # tokens before the heavy frame
    embeds = arrays["cif/alpha_above_1/cif_v1/embeds"]
    close(integrate(sums, arrays["cif/hidden"], before)[0], embeds[0, :before], 1e-5)


@pytest.fixture(params=PREDICTORS)
def predictor(request, arrays):
    """Our predictor with the reference's weights, and the prefix of its expected outputs."""
    prefix = f"predictor/{request.param}"
    ours = CifPredictor(4, tail_threshold=0.45, depthwise=PREDICTORS[request.param]).eval()
    ours.load_state_dict({name: arrays[f"{prefix}/{name}"] for name in ours.state_dict()})
    return ours, prefix


@torch.no_grad()
def test_predictor_in_inference(arrays, predictor):
    """Frames past the end are cut off in ours: there the reference reads what they hold."""
    ours, prefix = predictor
    hidden = arrays["cif/hidden"]
    for row, length in enumerate(LENGTHS.tolist()):
        exact = length == hidden.size(1)
        found = ours(hidden[row : row + 1, :length], LENGTHS[row : row + 1])
        expected = {n: arrays[f"{prefix}/infer/{n}"][row] for n in ("embeds", "alphas", "fires")}
        last = length + 1 if exact else length - 1  # the convolution sees one frame further
        close(found.alphas[0, :last], expected["alphas"][:last], 1e-5)
        close(found.peaks[0, :last], expected["fires"][:last], 1e-5)
        if exact:
            count = int(found.token_lengths)
            assert count == int(arrays[f"{prefix}/infer/token_num"][row])
            close(found.embeds[0], expected["embeds"][:count], 1e-5)


@torch.no_grad()
def test_predictor_with_the_true_count(arrays, predictor):
    ours, prefix = predictor
    hidden = arrays["cif/hidden"]
    found = ours.forward_to(hidden[:1], LENGTHS[:1], torch.tensor([5]))
    close(found.total, arrays[f"{prefix}/teacher/token_num"][:1], 1e-5)
    close(found.alphas[0], arrays[f"{prefix}/teacher/alphas"][0], 1e-5)
    fires = arrays[f"{prefix}/teacher/fires"][0]
    close(found.peaks[0, :-1], fires[:-1], 1e-5)
    fired = int((fires >= 1).sum())  # the reference may lose the last
    close(found.embeds[0, :fired], arrays[f"{prefix}/teacher/embeds"][0, :fired], 1e-5)
    assert found.peaks[0, -1] == 1


@pytest.mark.parametrize("width", [80, 560])
def test_position(arrays, width):
    close(sinusoid(1, 5, width), arrays[f"position/{width}"], 1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("normalize", [False, True])
def test_label_smoothing(arrays, facts, smoothing, normalize):
    targets = torch.tensor(facts["loss"]["target"])
    ours = label_smoothed_sum(arrays["loss/logits"], targets, smoothing, -1)
    ours = ours / ((targets != -1).sum() if normalize else len(targets))
    expected = facts["loss"]["label_smoothing"][f"smooth {smoothing} normalize {normalize}"]
    assert float(ours) == pytest.approx(expected, abs=1e-6)
