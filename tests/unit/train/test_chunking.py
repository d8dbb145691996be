"""Chunks that training draws."""

from __future__ import annotations

import pytest
import torch

from paraformer.data.batches.dataset import Batch
from paraformer.errors import ConfigError
from paraformer.nn.chunks import scama_rule, streaming_rule
from paraformer.programs.training import chunking
from paraformer.train.chunking import DynamicChunk, ReleasedChunks
from paraformer.train.losses import Weights
from paraformer.train.objective import Objective, UnitCtc
from tests import tiny

RELEASED = {
    "chunk_size": [12, 15],
    "stride": [8, 10],
    "pad_left": [0, 0],
    "encoder_att_look_back_factor": [4, 4],
    "decoder_att_look_back_factor": [1, 1],
}
ONLINE = {"decoder_conf": {"sanm_shfit": 2}}


def test_all_choices_are_drawn_and_a_share_is_whole():
    torch.manual_seed(0)
    drawn = [DynamicChunk(0.5, (4, 8), (0.0, 0.5), (4, -1), (1,)).draw() for _ in range(400)]
    whole = sum(rule is None for rule in drawn)
    assert 150 < whole < 250
    expected = {
        streaming_rule((0, size, round(size * ahead)), back, 1)
        for size in (4, 8)
        for ahead in (0.0, 0.5)
        for back in (4, -1)
    }
    assert set(drawn) - {None} == expected


def test_released_choices_are_both_drawn():
    torch.manual_seed(0)
    chunks = ReleasedChunks(**{name: tuple(value) for name, value in RELEASED.items()})
    drawn = {chunks.draw() for _ in range(40)}
    assert drawn == {scama_rule(12, 8, 0, 4, 1), scama_rule(15, 10, 0, 4, 1)}


def test_the_configuration_says_which():
    off = {"probability": 0.0}
    model = {"encoder": "SANMEncoder", "encoder_conf": {}}
    online = {"encoder": "SANMEncoderChunkOpt", "encoder_conf": RELEASED}
    assert chunking({"dynamic_chunk": off, "model": model}) is None
    assert isinstance(chunking({"dynamic_chunk": off, "model": online}), ReleasedChunks)
    dynamic = {"probability": 0.5, "sizes": [4]}
    assert isinstance(chunking({"dynamic_chunk": dynamic, "model": online}), DynamicChunk)
    partial = {"encoder": "SANMEncoderChunkOpt", "encoder_conf": {"chunk_size": [12]}}
    with pytest.raises(ConfigError, match="stride"):
        chunking({"dynamic_chunk": off, "model": partial})


@pytest.mark.parametrize("bad", [{"probability": 1.5}, {"sizes": (0,)}, {"sizes": ()}])
def test_choices_that_make_no_sense_are_refused(bad):
    with pytest.raises(ConfigError, match="dynamic_chunk"):
        DynamicChunk(**bad)


def batch() -> Batch:
    text = torch.tensor([[3, 4, 5, -1], [6, 7, -1, -1]])
    return Batch(
        keys=["a", "b"],
        feats=torch.randn(2, 40, 56),
        lengths=torch.tensor([40, 23]),
        text=text,
        text_lengths=torch.tensor([3, 2]),
        units=text.clamp(min=1),
        unit_lengths=torch.tensor([3, 2]),
        seconds=4.0,
    )


@pytest.mark.parametrize("step", [1, 5])
def test_an_objective_in_chunks_has_finite_losses_and_gradients(step):
    """Step 1 is warm-up (CTC and the count alone), step 5 the whole."""
    torch.manual_seed(0)
    model = tiny.release({**ONLINE, "model_conf": {"ctc_weight": 0.3}}).model
    weights = Weights(0.3, 0.1, True, 1.0)
    objective = Objective(model, weights, UnitCtc(12, 2, 0.5), 2, None, DynamicChunk(1.0, (4, 9)))
    result = objective.train()(batch(), step)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert {"loss_unit", "loss_pre", "loss_ctc"} <= result.stats.keys()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.encoder.encoders[0].self_attn.fsmn_block.weight.grad.abs().sum() > 0


def test_validation_sees_the_whole_utterance():
    model = tiny.release(ONLINE).model
    weights = Weights(0.0, 0.1, True, 1.0)
    plain = Objective(model, weights).eval()
    cut = Objective(model, weights, chunking=DynamicChunk(1.0)).eval()
    torch.manual_seed(0)
    expected = plain(batch_of_seed(), 5).loss
    torch.manual_seed(0)
    assert torch.equal(cut(batch_of_seed(), 5).loss, expected)


def batch_of_seed() -> Batch:
    torch.manual_seed(1)
    return batch()


def test_a_model_that_cannot_be_cut_is_refused():
    release = tiny.release({"decoder": "ParaformerSANDecoder"})
    objective = Objective(release.model, Weights(), chunking=DynamicChunk(1.0))
    with pytest.raises(ConfigError, match="SANMEncoder"):
        objective.train()(batch(), 1)
