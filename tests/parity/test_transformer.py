"""The plain self-attention encoder equals the reference, funasr 1.4.16, also in a padded batch.

The expected numbers are made by tests/fixtures/make_transformer.py, one clip at a time.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from paraformer.data.audio.read import read_audio
from paraformer.decode.search import greedy_search
from paraformer.decode.text import postprocess
from paraformer.models.release import load_directory
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"


@pytest.mark.parametrize("variant", ["conv2d", "linear"])
@torch.no_grad()
def test_speech_to_text(variant):
    folder = FIXTURES / "oracle" / f"transformer_{variant}"
    facts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    arrays = {k: torch.from_numpy(v) for k, v in np.load(folder / "expected.npz").items()}
    release = load_directory(folder)
    model, frontend, tokenizer = release.model, release.frontend, release.tokenizer
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert ours == facts["parameters"]

    feats, lengths = frontend.batch([read_audio(FIXTURES / w) for w in facts["wavs"].values()])
    memory, lengths = model.encode(feats, lengths)
    heard = model.predict(memory, lengths)
    logp = model.decode(heard.embeds, heard.token_lengths, memory, lengths)
    readings = greedy_search(logp, heard.token_lengths)
    for row, (tag, fact) in enumerate(facts["utt"].items()):
        t, u = int(lengths[row]), fact["token_num"]
        found = {
            "encoder_out": memory[row, :t],
            "alphas": heard.alphas[row, : t + 1],
            "logp": logp[row, :u],
        }
        for name, value in found.items():
            torch.testing.assert_close(value, arrays[f"{tag}/{name}"], atol=5e-4, rtol=0)
        assert logp[row, :u].argmax(-1).tolist() == fact["argmax_ids"]
        assert postprocess(tokenizer.ids_to_tokens(readings[row].ids)).text == fact["text"]
