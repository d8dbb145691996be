"""What the AISHELL model has beside the others: its CTC head and n-best beam search with it."""

from __future__ import annotations

import pytest
import torch

from paraformer.decode.search import beam_search
from tests.parity.oracle import CONFORMER, close, losses, pad

pytestmark = pytest.mark.parametrize("oracle", CONFORMER, indirect=True, scope="module")


def test_nbest_texts_of_beam_search_with_ctc(oracle, decoded):
    settings = oracle.facts["beam"]["settings"]
    for tag, expected in zip(oracle.tags, oracle.facts["beam"]["results"], strict=False):
        found = beam_search(
            decoded[tag]["logp"],
            decoded[tag]["ctc_logp"],
            ctc_weight=settings["decoding_ctc_weight"],
            beam_size=settings["beam_size"],
            nbest=settings["nbest"],
        )
        assert oracle.texts([h.ids for h in found]) == [result["text"] for result in expected]


@torch.no_grad()
def test_ctc_of_a_padded_batch(oracle, lessons):
    model = oracle.release.model
    memory, lengths = model.encode(*pad([feats for feats, _ in lessons]))
    ctc_logp = model.ctc_head(memory)
    recorded = [i for i in range(len(lessons)) if f"train{i}/ctc_logp" in oracle.arrays]
    assert recorded
    for i in recorded:
        close(ctc_logp[i, : lengths[i]], oracle.arrays[f"train{i}/ctc_logp"], 1e-4)


def test_the_ctc_loss_of_a_batch_is_the_mean_of_each_alone(oracle, lessons):
    batch = losses(oracle, lessons, 0.0)
    alone = [float(losses(oracle, [lesson], 0.0).stats["loss_ctc"]) for lesson in lessons]
    assert float(batch.stats["loss_ctc"]) == pytest.approx(sum(alone) / len(alone), rel=1e-4)
