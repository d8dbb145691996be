"""Which parameters an objective teaches: all that learn, or else it says that it leaves some out;
and of an embedding that hotwords are heard by, what is new. All models are those of the reference.
"""

from __future__ import annotations

import pytest
import torch

from paraformer.data.batches.dataset import Batch
from paraformer.models.release import Release, load_aligner, load_directory
from paraformer.train.chunking import DynamicChunk
from paraformer.train.hotwords import Sampler, Sampling
from paraformer.train.lora import merged_state
from paraformer.train.losses import Weights
from paraformer.train.mwer import Mwer
from paraformer.train.new_tokens import NewTokens
from paraformer.train.objective import Added, AlignerObjective, Heads, Objective, autocast
from paraformer.train.optim import Optim
from paraformer.train.second_head import SecondHead
from tests import tiny
from tests.parity.oracle import FIXTURES

ORACLE = FIXTURES / "oracle"
PLAIN, HEARING = (Heads(hotwords=Sampler(Sampling(1.0, plain=plain))) for plain in (True, False))


def batch_of(release: Release, text: torch.Tensor) -> Batch:
    """Rows of noise that say the text (B, U)."""
    count, length = text.shape
    feats = torch.randn(count, 50, release.frontend.output_size)
    sizes = torch.full((count,), length)
    none = torch.zeros(count, 0, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    keys = [f"u{number}" for number in range(count)]
    return Batch(keys, feats, torch.full((count,), 50), text, sizes, *none, 1.0)


def taught(objective: torch.nn.Module, release: Release, step: int = 1) -> set[str]:
    """The parameters that learn but get no gradient of a batch."""
    torch.manual_seed(0)
    objective.train()
    objective.zero_grad()
    objective(batch_of(release, torch.randint(4, 10, (2, 6))), step).loss.backward()
    learning = {name for name, p in objective.named_parameters() if p.requires_grad}
    return {name for name in learning if objective.get_parameter(name).grad is None}


@pytest.mark.parametrize(
    ("kind", "changes", "options", "left"),
    [
        ("paraformer", {}, {}, set()),
        ("conformer", {}, {}, set()),
        ("transformer_linear", {}, {}, set()),
        ("paraformer-streaming", {}, {}, set()),
        ("bicif", {}, {}, set()),
        ("seaco", {}, {"heads": PLAIN}, set()),
        ("contextual", {}, {"heads": PLAIN}, set()),
        ("contextual", {}, {"heads": HEARING}, set()),
        ("paraformer", {}, {"mwer": Mwer(weight=1.0, gamma=0.0)}, set()),
        ("paraformer", {"sampling_ratio": 0.0}, {}, {"decoder.embed"}),
        ("paraformer", {"share_embedding": True}, {}, {"decoder.embed"}),
        ("paraformer", {}, {"warm_steps": 1}, {"decoder.decoders", "decoder.output_layer"}),
        ("bicif", {}, {"heads": Heads(second=SecondHead(0.0))}, {"predictor.cif_output2"}),
        ("paraformer-streaming", {}, {"chunking": DynamicChunk(1.0)}, set()),
        ("bicif", {}, {"chunking": DynamicChunk(1.0)}, {"predictor.cif_output2"}),
    ],
)
def test_what_is_left_out_of_a_loss_is_told(kind, changes, options, left):
    release = load_directory(ORACLE / kind)
    for name, value in changes.items():
        setattr(release.model, name, value)
    weight = 0.3 if release.model.ctc_head is not None else 0.0
    objective = Objective(release.model, Weights(weight, 0.1, True, 1.0), **options)
    found = taught(objective, release)
    assert bool(found) == bool(left) == objective.leaves_out
    assert all(any(name.startswith(f"model.{part}") for name in found) for part in left)


def test_a_head_for_ctc_without_weight_is_left_out():
    release = tiny.release({"model_conf": {"ctc_weight": 0.3}})
    for weight in (0.3, 0.0):
        objective = Objective(release.model, Weights(weight, 0.1, True, 1.0))
        assert bool(taught(objective, release)) == objective.leaves_out == (weight == 0.0)


def test_hotwords_and_aligners_leave_parts_out():
    release = load_directory(ORACLE / "seaco")
    objective = Objective(release.model, Weights(0.0, 0.1, True, 1.0), heads=HEARING)
    assert taught(objective, release) and objective.leaves_out
    release = load_aligner(ORACLE / "fa-zh")
    objective = AlignerObjective(release.model, Weights(0.0, 0.1, True, 1.0))
    assert taught(objective, release) and objective.leaves_out


@pytest.mark.parametrize(
    ("frozen", "learns"), [((), True), (("decoder.embed",), False), (("decoder",), False)]
)
def test_new_rows_of_what_hotwords_are_heard_by_learn_and_old_ones_stay(frozen, learns):
    """Without hotwords; what is frozen by name stays as a whole."""
    release, part = load_directory(ORACLE / "seaco"), "decoder.embed.0"
    model, size = release.model, release.model.decoder.output_layer.out_features
    model.sampling_ratio = 1.0
    start = {name: value.clone() for name, value in merged_state(model).items()}
    added = Added(tokens=NewTokens(2), vocabulary=size)
    weights = Weights(0.0, 0.1, True, 1.0)
    objective = Objective(model, weights, heads=PLAIN, frozen=frozen, added=added)
    assert (f"model.{part}.parametrizations.weight.0.extra" in objective.faster) is learns
    optimizer = Optim(lr=0.1).optimizer(objective, objective.faster)
    objective.train()
    objective(batch_of(release, torch.full((1, 6), size - 1)), 1).loss.backward()
    optimizer.step()
    after = merged_state(model)
    same = {name for name, value in start.items() if torch.equal(after[name], value)}
    heard = ("bias_encoder", "seaco_decoder", "hotword_output_layer")
    assert {name for name in start if name.startswith(heard)} <= same
    before, now = start[f"{part}.weight"], after[f"{part}.weight"]
    assert torch.equal(now[:-2], before[:-2])
    assert torch.equal(now[-1], before[-1]) is not learns


def test_mixed_precision_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda kind, **given: (kind, given))
    for precision, enabled in (("bf16", True), ("fp32", False)):
        for name in ("cuda:1", "cpu"):
            found = autocast(torch.device(name), precision)
            assert found == (name.partition(":")[0], {"dtype": torch.bfloat16, "enabled": enabled})
