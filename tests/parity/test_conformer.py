"""The AISHELL model (conformer, CIF V1, SAN decoder, CTC) equals the reference, funasr 1.4.16.

Two sets of expected numbers: tests/fixtures/oracle/conformer (made as tests/fixtures/README.md
says) and, where it is at hand, ../shared/oracle/conformer (by oracle/make/offline.py). Tolerances
are those of oracle/README.md. The reference was run on one utterance at a time, since padding leaks
in it; ours must give the same in a padded batch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from paraformer.data.audio import read_audio
from paraformer.decode.search import beam_search, greedy_search
from paraformer.decode.text import postprocess
from paraformer.models.checkpoint import Release, load_directory
from paraformer.train.losses import Weights, paraformer_losses
from tests.conftest import ROOT, SHARED, needs_shared

PLACES = [
    pytest.param(ROOT / "tests" / "fixtures", id="project"),
    pytest.param(SHARED, id="shared", marks=needs_shared),
]


class Oracle(NamedTuple):
    release: Release
    arrays: dict[str, Tensor]
    facts: dict[str, Any]
    place: Path

    @property
    def tags(self) -> list[str]:
        return list(self.facts["wavs"])

    def wave(self, tag: str) -> Tensor:
        return read_audio(self.place / self.facts["wavs"][tag])

    def batch(self) -> tuple[Tensor, Tensor]:
        return pad([self.arrays[f"{tag}/feats"] for tag in self.tags])

    def texts(self, ids: list[list[int]]) -> list[str]:
        tokenizer = self.release.tokenizer
        return [postprocess(tokenizer.ids_to_tokens(row)).text for row in ids]


@pytest.fixture(scope="module", params=PLACES)
def oracle(request):
    folder = request.param / "oracle" / "conformer"
    facts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    arrays = {k: torch.from_numpy(v) for k, v in np.load(folder / "expected.npz").items()}
    return Oracle(load_directory(folder), arrays, facts, request.param)


@pytest.fixture(scope="module")
def decoded(oracle):
    """Stages of recognition of the padded batch, then each tag's rows without padding."""
    model = oracle.release.model
    with torch.no_grad():
        memory, lengths = model.encode(*oracle.batch())
        heard = model.predict(memory, lengths)
        logp = model.decode(heard.embeds, heard.token_lengths, memory, lengths)
        ctc_logp = model.ctc_head(memory)
    rows = {}
    for row, tag in enumerate(oracle.tags):
        t, u = int(lengths[row]), int(heard.token_lengths[row])
        rows[tag] = {
            "encoder_out": memory[row, :t],
            "alphas": heard.alphas[row, : t + 1],
            "cif_peak": heard.peaks[row, : t + 1],
            "acoustic_embeds": heard.embeds[row, :u],
            "logp": logp[row, :u],
            "ctc_logp": ctc_logp[row, :t],
        }
    return rows


def pad(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def close(ours: Tensor, theirs: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol)


# recognition


def test_parameters_have_the_released_names_and_shapes(oracle):
    ours = {name: list(v.shape) for name, v in oracle.release.model.state_dict().items()}
    assert ours == oracle.facts["parameters"]


def test_features(oracle):
    for tag in oracle.tags:
        close(oracle.release.frontend(oracle.wave(tag)), oracle.arrays[f"{tag}/feats"], 1e-3)


@pytest.mark.parametrize(
    ("name", "atol"),
    [
        ("encoder_out", 1e-4),
        ("alphas", 1e-5),
        ("cif_peak", 1e-4),
        ("acoustic_embeds", 1e-4),
        ("logp", 5e-4),
    ],
)
def test_a_padded_batch_equals_the_reference_on_each_alone(oracle, decoded, name, atol):
    for tag in oracle.tags:
        close(decoded[tag][name], oracle.arrays[f"{tag}/{name}"], atol)


def test_greedy_text(oracle, decoded):
    logp, lengths = pad([decoded[tag]["logp"] for tag in oracle.tags])
    readings = greedy_search(logp, lengths)
    facts = [oracle.facts["utt"][tag] for tag in oracle.tags]
    for tag, reading, fact in zip(oracle.tags, readings, facts, strict=True):
        assert decoded[tag]["logp"].argmax(-1).tolist() == fact["argmax_ids"]
        assert oracle.release.tokenizer.ids_to_tokens(reading.ids) == fact["tokens"]
        assert oracle.texts([reading.ids]) == [fact["result"][0]["text"]]


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


# training


@pytest.fixture(scope="module")
def lessons(oracle):
    """Features and ids of each training utterance: part of a recording, and any text."""
    single = oracle.facts["train"]["single"]
    cuts = [single[str(i)]["samples"] for i in range(len(oracle.tags))]
    frontend = oracle.release.frontend
    ids = [torch.tensor(row) for row in oracle.facts["train"]["ids"]]
    feats = [frontend(oracle.wave(tag)[:n]) for tag, n in zip(oracle.tags, cuts, strict=True)]
    return list(zip(feats, ids, strict=True))


def losses(oracle, lessons, sampling_ratio):
    """Our losses of a padded batch, gradients in the model's parameters."""
    model = oracle.release.model
    conf = oracle.release.config["model_conf"]
    weights = Weights(**{k: v for k, v in conf.items() if k in Weights._fields})
    feats, lengths = pad([feats for feats, _ in lessons])
    texts = [ids for _, ids in lessons]
    text = torch.nn.utils.rnn.pad_sequence(texts, True, padding_value=model.ignore_id)
    model.sampling_ratio = sampling_ratio
    model.zero_grad()
    encoded = model.encode(feats, lengths)
    text_lengths = torch.tensor([len(ids) for ids in texts])
    result = paraformer_losses(model, weights, encoded, text, text_lengths)
    result.loss.backward()
    return result


@pytest.mark.parametrize("mode", ["no_sampler", "sampler"])
def test_losses_of_each_utterance(oracle, lessons, mode, monkeypatch):
    """The places that the reference's sampler drew were recorded, and are drawn again."""
    for number, lesson in enumerate(lessons):
        expected = oracle.facts["train"]["single"][str(number)][mode]
        drawn = iter(expected["permutations"])
        monkeypatch.setattr(torch, "randperm", lambda n, drawn=drawn: torch.tensor(next(drawn)))
        ours = losses(oracle, [lesson], expected["sampling_ratio"])
        assert ours.weight == expected["weight"]
        for name in ("loss", "loss_att", "loss_pre", "loss_ctc", "acc"):
            assert float(ours.stats[name]) == pytest.approx(expected["stats"][name], rel=1e-4), name
        assert next(drawn, None) is None


def test_gradients(oracle, lessons):
    expected = oracle.facts["train"]["single"]["0"]["no_sampler"]["grad_norm"]
    losses(oracle, lessons[:1], 0.0)
    parameters = oracle.release.model.named_parameters()
    ours = {name: float(p.grad.norm()) for name, p in parameters if p.grad is not None}
    assert ours == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_teaching(oracle, lessons):
    model = oracle.release.model
    model.sampling_ratio = 0.0
    text, text_lengths = pad([ids for _, ids in lessons])
    with torch.no_grad():
        memory, lengths = model.encode(*pad([feats for feats, _ in lessons]))
        taught = model.teach(memory, lengths, text, text_lengths)
        ctc_logp = model.ctc_head(memory)
    for row, (t, u) in enumerate(zip(lengths.tolist(), text_lengths.tolist(), strict=True)):
        arrays = {k: v for k, v in oracle.arrays.items() if k.startswith(f"train{row}/")}
        close(taught.predicted.alphas[row, :t], arrays[f"train{row}/alphas_scaled"], 1e-4)
        close(taught.predicted.embeds[row, :u], arrays[f"train{row}/acoustic_embeds"], 1e-4)
        close(taught.logits[row, :u], arrays[f"train{row}/logits"], 5e-4)
        if f"train{row}/ctc_logp" in arrays:
            close(ctc_logp[row, :t], arrays[f"train{row}/ctc_logp"], 1e-4)


def test_the_loss_of_a_batch_is_the_mean_of_each_alone(oracle, lessons):
    batch = losses(oracle, lessons, 0.0)
    gradients = [p.grad for p in oracle.release.model.parameters() if p.grad is not None]
    alone = [losses(oracle, [lesson], 0.0) for lesson in lessons]
    for name in ("loss", "loss_att", "loss_pre", "loss_ctc"):
        mean = sum(float(one.stats[name]) for one in alone) / len(alone)
        assert float(batch.stats[name]) == pytest.approx(mean, rel=1e-4), name
    assert all(g.isfinite().all() for g in gradients)
