"""Where chunks of a runtime are ours, so are its texts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from paraformer import AutoModel
from paraformer.data.audio.read import read_audio
from paraformer.export.directory import CLIP
from paraformer.export.peer_rules import RULES, stream_text, voice_features
from paraformer.hub.directories import BUNDLED
from paraformer.models.release import load_directory

MINI = BUNDLED / "paraformer-zh-mini"


def test_chunks_of_funasr_are_those_of_our_streams():
    """Of which the last one, that it hears otherwise, is silence; and so in sherpa-onnx, whose
    rows are half a row later.
    """
    wave = read_audio(CLIP)
    whole = F.pad(wave, (0, 19200 - len(wave) % 9600))
    told = {"chunk_size": [5, 10, 5], "encoder_chunk_look_back": 0, "decoder_chunk_look_back": 0}
    (ours,) = AutoModel(str(MINI), device="cpu").generate(whole, lm_file="none", fs=16000, **told)
    release = load_directory(MINI)
    assert stream_text(release, wave, RULES["funasr-onnx"]) == ours["text"].replace(" ", "") != ""
    assert stream_text(release, wave, RULES["sherpa-onnx"])


def test_features_of_voices_reach_over_both_ends():
    """A frame each 10 ms, rounded, without its mean."""
    pytest.importorskip("torchaudio", reason="needs the extra train")
    feats = voice_features(
        0.1 * torch.randn(16080, generator=torch.Generator().manual_seed(0)), 16000
    )
    assert feats.shape == (101, 80)
    torch.testing.assert_close(feats.mean(0), torch.zeros(80), rtol=0, atol=1e-5)
