"""Adapters change nothing before they learn, and are part of the weights that a run leaves
(arXiv 2106.09685, equation 3: W + alpha / r B A, with B = 0 at the beginning).
"""

from __future__ import annotations

import pytest
import torch

from paraformer.data.batches.dataset import Batching, Loader, read_utterances
from paraformer.errors import ConfigError
from paraformer.models.release import load_directory
from paraformer.models.weights import load_state
from paraformer.train.lora import Lora, add_adapters, count_learning, merged_state
from paraformer.train.losses import Weights
from paraformer.train.objective import Added, Objective
from paraformer.train.optim import Optim
from paraformer.train.snapshots import seed_everything
from paraformer.train.trainer import Trainer, Training
from tests import tiny
from tests.parity.oracle import FIXTURES

LORA = Lora(rank=2, alpha=6.0)
# Of tests/tiny.py: 16 wide; each of two encoder layers has linear_q_k_v (its input 56 or 16 wide)
# and linear_out, the decoder layer linear_q, linear_k_v and linear_out.
ADAPTED = 2 * ((56 + 48) + (16 + 48) + 2 * (16 + 16) + (16 + 16) + (16 + 32) + (16 + 16))


def logits(release):
    torch.manual_seed(3)
    feats = torch.randn(2, 20, release.frontend.output_size)
    release.model.eval()
    with torch.no_grad():
        memory, lengths = release.model.encode(feats, torch.tensor([20, 13]))
        embeds = torch.randn(2, 4, memory.size(2))
        return release.model.decoder(embeds, torch.tensor([4, 3]), memory, lengths)


@pytest.mark.parametrize("kind", ["paraformer", "conformer", "paraformer-streaming"])
def test_before_the_first_step_the_model_is_the_start(kind):
    release = load_directory(FIXTURES / "oracle" / kind)
    start = {name: value.clone() for name, value in release.model.state_dict().items()}
    before = logits(release)
    assert add_adapters(release.model, LORA)
    assert torch.equal(logits(release), before)
    assert tiny.equal(merged_state(release.model), start)


def test_what_was_learnt_is_added_to_the_weights():
    release, plain = tiny.release(), tiny.release(seed=1)
    start = {name: value.clone() for name, value in release.model.state_dict().items()}
    names = add_adapters(release.model, LORA)
    for name in names:
        adapter = release.model.get_submodule(name).parametrizations["weight"][0]
        torch.nn.init.normal_(adapter.B)
        wanted = start[f"{name}.weight"] + 6.0 / 2 * adapter.B @ adapter.A
        torch.testing.assert_close(merged_state(release.model)[f"{name}.weight"], wanted)
    learnt = logits(release)
    load_state(plain.model, merged_state(release.model), FIXTURES)
    assert torch.equal(logits(plain), learnt)
    assert not torch.allclose(learnt, logits(tiny.release()))
    unchanged = start.keys() - {f"{name}.weight" for name in names}
    assert all(torch.equal(merged_state(release.model)[name], start[name]) for name in unchanged)


def test_adapters_alone_learn():
    model = tiny.release().model
    whole = sum(p.numel() for p in model.parameters())
    names = add_adapters(model, LORA)
    assert len(names) == 7
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(learning) == 14 and all(name[-2:] in (".A", ".B") for name in learning)
    assert count_learning(model) == (ADAPTED, whole + ADAPTED)


def test_frozen_parts_get_none_and_those_beside_learn_as_a_whole():
    model = tiny.release().model
    lora = Lora(
        rank=2, layers=("linear_q_k_v", "linear_q", "w_1"), beside=("decoder.output_layer",)
    )
    frozen = ["encoder.encoders0", "decoder.decoders.0.feed_forward.w_1.weight"]
    names = add_adapters(model, lora, frozen=frozen)
    assert "encoder.encoders0.0.self_attn.linear_q_k_v" not in names
    assert "decoder.decoders.0.feed_forward.w_1" not in names
    assert "encoder.encoders.0.feed_forward.w_1" in names
    assert model.decoder.output_layer.weight.requires_grad
    assert not model.decoder.embed[0].weight.requires_grad


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"layers": ("linear_q", "odd")}, "lora.layers: no linear layer .* is called odd"),
        ({"beside": ("nothing",)}, "lora.beside: no parameter's name begins with 'nothing'"),
    ],
)
def test_names_that_no_layer_has_are_refused(lora, message):
    with pytest.raises(ConfigError, match=message):
        add_adapters(tiny.release().model, Lora(rank=2, **lora))


def trainer(folder, data, steps):
    seed_everything(0)
    release = tiny.release()
    utterances, _ = read_utterances(data, release.tokenizer.encode, 6)
    objective = Objective(release.model, Weights(0.0, 0.1, True, 1.0), added=Added(LORA))
    batching = Batching(max_frames=600, frame_step=48)
    return Trainer(
        objective,
        Loader(utterances, release.frontend, batching, seed=5),
        Loader(utterances[:4], release.frontend, batching),
        Optim(lr=0.05, warmup_steps=1),
        Training(max_steps=steps, save_interval=1000),
        folder,
        torch.device("cpu"),
    )


def test_a_stopped_run_goes_on_and_leaves_plain_weights(tmp_path):
    data = tiny.write_data(tmp_path / "data")
    whole = trainer(tmp_path / "whole", data, 6)
    whole.run()
    for steps in (3, 6):
        parts = trainer(tmp_path / "parts", data, steps)
        parts.resume()
        parts.run()
    assert tiny.equal(dict(parts.objective.state_dict()), dict(whole.objective.state_dict()))
    plain = tiny.release()
    start = dict(plain.model.state_dict())
    (epoch,) = {path.name for path in (tmp_path / "whole").glob("epoch-*.pt")} - {"epoch-1.pt"}
    state = torch.load(tmp_path / "whole" / epoch, weights_only=True)
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in start.items()
    }
    assert not torch.equal(
        state["decoder.decoders.0.src_attn.linear_q.weight"],
        start["decoder.decoders.0.src_attn.linear_q.weight"],
    )
