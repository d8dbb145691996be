"""fa-zh (MonotonicAligner) equals the reference, run on each pair alone: weights, times, words."""

from __future__ import annotations

import pytest
import torch

from paraformer.decode.align import ForcedAligner
from paraformer.decode.text import postprocess
from paraformer.decode.timestamps import SILENCE, milliseconds, one_line
from paraformer.nn.cif_v3 import single_fire_peaks
from tests.parity.oracle import ALIGNER, close, pad

pytestmark = pytest.mark.parametrize("oracle", ALIGNER, indirect=True, scope="module")


def pairs(oracle):
    """Waves and texts."""
    texts = [oracle.facts["utt"][tag]["text"] for tag in oracle.tags]
    return [oracle.wave(tag) for tag in oracle.tags], texts


@pytest.fixture(scope="module")
def aligned(oracle):
    """All pairs in one padded batch."""
    return ForcedAligner(oracle.release).align(*pairs(oracle))


def test_parameters_have_the_released_names_and_shapes(oracle):
    ours = {name: list(v.shape) for name, v in oracle.release.model.state_dict().items()}
    assert ours == oracle.facts["parameters"]


@torch.no_grad()
def test_a_padded_batch_equals_the_reference_on_each_alone(oracle):
    model = oracle.release.model
    memory, lengths = model.encode(*pad(oracle.feats()))
    counts = torch.tensor([len(oracle.facts["utt"][tag]["ids"]) for tag in oracle.tags])
    timeline = model.timeline(memory, lengths, counts)
    for row, tag in enumerate(oracle.tags):
        frames, steps = int(lengths[row]), int(timeline.lengths[row])
        close(memory[row, :frames], oracle.arrays[f"{tag}/encoder_out"], 1e-4)
        weights = timeline.weights[row, :steps]
        close(weights.float(), oracle.arrays[f"{tag}/us_alphas"], 1e-5)
        close(timeline.peaks[row, :steps].float(), oracle.arrays[f"{tag}/us_peaks"], 1e-4)
        summed = weights.view(frames, -1).sum(1)
        close(summed.float(), oracle.arrays[f"{tag}/ds_alphas"], 1e-5)
        close(single_fire_peaks(summed[None])[0].float(), oracle.arrays[f"{tag}/ds_peaks"], 1e-4)


def test_tokens_and_their_times(oracle, aligned):
    for tag, found in zip(oracle.tags, aligned, strict=True):
        fact = oracle.facts["utt"][tag]
        tokens = [span.text for span in found.token_spans if span.text != SILENCE]
        assert tokens == oracle.release.tokenizer.ids_to_tokens(fact["ids"])
        assert milliseconds(found.token_spans) == fact["token_timestamps"]
        assert one_line(found.token_spans) == fact["timestamp_str"]
        read = postprocess(tokens, fact["token_timestamps"])
        (expected,) = fact["result"]
        assert (read.text, read.timestamps) == (expected["text"], expected["timestamp"])


def test_words_are_those_of_the_text(oracle, aligned):
    """The reference joins letters (`b h` -> `BH`); ours stay as the text has them."""
    for tag, found in zip(oracle.tags, aligned, strict=True):
        fact = oracle.facts["utt"][tag]
        assert "".join(found.words) == fact["text"].replace(" ", "")
        (expected,) = fact["result"]
        if len(found.words) == len(expected["timestamp"]):
            assert found.text == expected["text"]
            assert found.timestamps == expected["timestamp"]
        else:
            starts = [start for start, _ in found.timestamps]
            assert {start for start, _ in expected["timestamp"]} < set(starts)


def test_each_alone_and_in_another_order(oracle, aligned):
    waves, texts = pairs(oracle)
    aligner = ForcedAligner(oracle.release)
    turned = aligner.align(waves[::-1], texts[::-1])[::-1]
    alone = [aligner.align([wave], [text])[0] for wave, text in zip(waves, texts, strict=True)]
    for one, two, three in zip(aligned, turned, alone, strict=True):
        assert one.timestamps == two.timestamps == three.timestamps
