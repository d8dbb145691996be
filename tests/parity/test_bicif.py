"""Tokens and their times equal the reference's, of BiCif-Paraformer and of SeACo-Paraformer, whose
second head is the same.

The reference was run on each utterance alone: in a padded batch its backward LSTM starts in the
padding. Ours is run on batches.
"""

from __future__ import annotations

import pytest
import torch

from paraformer.backends.torch_engine import frame_seconds
from paraformer.decode.text import postprocess
from paraformer.decode.timestamps import Clock, milliseconds, one_line
from paraformer.nn.cif_v3 import single_fire_peaks
from tests.parity.oracle import BICIF, SEACO, close, pad

pytestmark = pytest.mark.parametrize("oracle", BICIF + SEACO, indirect=True, scope="module")

TOLERANCES = [
    ("encoder_out", 1e-4),
    ("alphas", 1e-5),
    ("cif_peak", 1e-4),
    ("acoustic_embeds", 1e-4),
    ("logp", 5e-4),
]
UPSAMPLED = 3  # steps of an encoder frame


@pytest.fixture(scope="module")
def timeline(oracle):
    """The second head on a padded batch."""
    return timeline_of(oracle, oracle.feats())


@torch.no_grad()
def timeline_of(oracle, feats):
    model = oracle.release.model
    memory, lengths = model.encode(*pad(feats))
    return model.timeline(memory, lengths, model.predict(memory, lengths).token_lengths)


def spans(oracle, timeline, row, tag, offset_ms=0.0):
    clock = Clock(timeline, frame_seconds(oracle.release))
    return clock.spans(row, oracle.facts["utt"][tag]["tokens"], offset_ms)


def test_parameters_have_the_released_names_and_shapes(oracle):
    ours = {name: list(v.shape) for name, v in oracle.release.model.state_dict().items()}
    assert ours == oracle.facts["parameters"]


@pytest.mark.parametrize(("name", "atol"), TOLERANCES)
def test_a_padded_batch_equals_the_reference_on_each_alone(oracle, decoded, name, atol):
    """Where no features were stored ours count, and their logp as in `test_paraformer`."""
    for tag in oracle.tags:
        own = name == "logp" and f"{tag}/feats" not in oracle.arrays
        close(decoded[tag][name], oracle.arrays[f"{tag}/{name}"], 1e-3 if own else atol)


def test_the_tokens(oracle, decoded):
    for tag in oracle.tags:
        assert decoded[tag]["logp"].argmax(-1).tolist() == oracle.facts["utt"][tag]["argmax_ids"]


def test_weights_and_peaks_of_the_second_head(oracle, timeline):
    assert timeline.rate == UPSAMPLED
    for row, tag in enumerate(oracle.tags):
        size = int(timeline.lengths[row])
        weights = timeline.weights[row, :size]
        close(weights.float(), oracle.arrays[f"{tag}/us_alphas"], 1e-5)
        close(timeline.peaks[row, :size].float(), oracle.arrays[f"{tag}/us_peaks"], 1e-4)
        frames = weights.view(-1, UPSAMPLED).sum(1)
        close(frames.float(), oracle.arrays[f"{tag}/ds_alphas"], 1e-5)
        close(single_fire_peaks(frames[None])[0].float(), oracle.arrays[f"{tag}/ds_peaks"], 1e-4)
        assert timeline.weights[row, size:].abs().sum() == 0


def test_the_times_of_tokens(oracle, timeline):
    for row, tag in enumerate(oracle.tags):
        fact = oracle.facts["utt"][tag]
        found = spans(oracle, timeline, row, tag)
        assert milliseconds(found) == fact["token_timestamps"]
        assert one_line(found) == fact["timestamp_str"]


def test_the_times_of_words(oracle, timeline):
    for row, tag in enumerate(oracle.tags):
        fact = oracle.facts["utt"][tag]
        times = milliseconds(spans(oracle, timeline, row, tag))
        read = postprocess(fact["tokens"], times)
        (expected,) = fact["result"]
        assert (read.text, read.timestamps) == (expected["text"], expected["timestamp"])


@torch.no_grad()
def test_the_count_of_the_second_head(oracle, lessons):
    """What training compares with the length of the text."""
    model = oracle.release.model
    memory, lengths = model.encode(*pad([feats for feats, _ in lessons]))
    counts = model.predictor.fine_weights(memory, lengths).sum(1)
    expected = [oracle.single(number)["token_num2"] for number in range(len(lessons))]
    assert counts.tolist() == pytest.approx(expected, rel=1e-4)


def test_each_alone_and_in_another_order(oracle, timeline):
    feats = oracle.feats()
    turned = timeline_of(oracle, feats[::-1])
    for row, tag in enumerate(oracle.tags):
        times = milliseconds(spans(oracle, timeline, row, tag))
        alone = timeline_of(oracle, feats[row : row + 1])
        assert milliseconds(spans(oracle, alone, 0, tag)) == times
        assert milliseconds(spans(oracle, turned, len(feats) - 1 - row, tag)) == times
        size = int(timeline.lengths[row])
        close(timeline.weights[row, :size], alone.weights[0], 1e-6)


def test_times_of_a_segment_count_from_its_recording(oracle, timeline):
    tag = oracle.tags[0]
    times = milliseconds(spans(oracle, timeline, 0, tag))
    later = milliseconds(spans(oracle, timeline, 0, tag, 1500.0))
    for (start, end), (late_start, late_end) in zip(times, later, strict=True):
        assert abs(late_start - start - 1500) <= 1  # cut off, not rounded
        assert abs(late_end - end - 1500) <= 1
