"""Features equal those of the reference (funasr 1.4.16), of single cases and of whole files.

The expected numbers are made by oracle/make/offline_functions.py and offline.py, those of the
project's own clips as tests/fixtures/README.md says.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
import yaml

from paraformer.data.audio.read import read_audio, resample
from paraformer.data.features.cmvn import read_cmvn
from paraformer.data.features.frontend import Frontend, low_frame_rate
from tests.conftest import ROOT, SHARED, needs_shared

FIXTURES = ROOT / "tests" / "fixtures"
FUNCTIONS = SHARED / "oracle" / "functions"


@pytest.fixture(scope="module")
def arrays():
    return {name: torch.from_numpy(a) for name, a in np.load(FUNCTIONS / "expected.npz").items()}


@pytest.fixture(scope="module")
def facts():
    return json.loads((FUNCTIONS / "expected.json").read_text(encoding="utf-8"))


def close(ours, theirs, atol):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@needs_shared
def test_fbank_of_half_a_second(arrays):
    close(Frontend().fbank(arrays["fbank/input"]), arrays["fbank/mid_24000_32000"], 1e-3)


@needs_shared
@pytest.mark.parametrize("samples", [33, 100, 160, 399, 400, 559, 560, 561])
def test_fbank_of_a_short_input(arrays, samples):
    ours = Frontend().fbank(arrays["fbank/input"][:samples])
    close(ours, arrays[f"fbank/short_{samples}"], 1e-3)


@needs_shared
def test_fbank_of_silence(arrays):
    close(Frontend().fbank(torch.zeros(4000))[:2], arrays["fbank/silence_4000"], 0)


@needs_shared
def test_fbank_with_povey_window_and_mirrored_edges(arrays):
    ours = Frontend(window="povey", snip_edges=False).fbank(arrays["fbank/input"][:4000])
    close(ours, arrays["fbank/povey_no_snip_4000"], 1e-3)


@needs_shared
def test_low_frame_rate_takes_the_same_frames(facts):
    for case, rows in facts["lfr_frame_indices"].items():
        m, n, frames = (int(word[1:]) for word in case.split())
        ours = low_frame_rate(torch.arange(float(frames))[:, None], m, n)
        assert ours.int().tolist() == rows, case


@needs_shared
def test_cmvn_file(facts):
    cmvn, expected = read_cmvn(SHARED / "oracle" / "paraformer" / "am.mvn"), facts["cmvn"]
    assert cmvn.shift[:3].tolist() == expected["shift_first3"]
    assert cmvn.scale[:3].tolist() == expected["scale_first3"]
    assert cmvn.shift[-1] == expected["shift_last"]
    assert cmvn.scale[-1] == expected["scale_last"]


@needs_shared
def test_a_batch_is_padded_after_normalisation(arrays, facts):
    wave = arrays["fbank/input"]
    cmvn = read_cmvn(SHARED / "oracle" / "paraformer" / "am.mvn")
    feats, lengths = Frontend(lfr_m=7, lfr_n=6, cmvn=cmvn).batch([wave, wave[:5000]])
    assert lengths.tolist() == facts["feats"]["pair_lens"]
    close(feats, arrays["feats/pair"], 1e-3)


@needs_shared
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resample(arrays, rate):
    ours = resample(arrays["resample/input"], rate, 16000)
    close(ours, arrays[f"resample/{rate}_to_16000"], 1e-5)


@needs_shared
def test_load_a_stereo_file_of_8_khz(arrays, tmp_path):
    part = arrays["resample/input"].numpy()
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([part, 0.5 * part], 1), 8000, subtype="PCM_16")
    close(read_audio(path), arrays["load/stereo_8k_file"], 1e-5)


@needs_shared
def test_load_bytes_with_and_without_header(arrays, tmp_path):
    pcm = (arrays["resample/input"].numpy() * 32767).astype(np.int16)
    close(read_audio(pcm.tobytes()), arrays["load/bytes_pcm16"], 1e-7)
    soundfile.write(tmp_path / "x.wav", pcm, 16000, subtype="PCM_16")
    close(read_audio((tmp_path / "x.wav").read_bytes()), arrays["load/bytes_wav"], 1e-7)


def features_of_directory(model, root):
    """Ours and theirs of each file that a model oracle has features of."""
    config = yaml.safe_load((model / "config.yaml").read_text(encoding="utf-8"))
    frontend = Frontend(**config["frontend_conf"], cmvn=read_cmvn(model / "am.mvn"))
    wavs = json.loads((model / "expected.json").read_text(encoding="utf-8"))["wavs"]
    expected = np.load(model / "expected.npz")
    for tag, wav in wavs.items():
        if f"{tag}/feats" in expected:
            yield frontend(read_audio(root / wav)), torch.from_numpy(expected[f"{tag}/feats"])


@needs_shared
@pytest.mark.parametrize("kind", ["paraformer", "conformer"])
def test_features_of_whole_recordings(kind):
    pairs = list(features_of_directory(SHARED / "oracle" / kind, SHARED))
    assert len(pairs) == 3
    for ours, theirs in pairs:
        close(ours, theirs, 1e-3)


@pytest.mark.parametrize("kind", ["paraformer", "conformer"])
def test_features_of_the_projects_own_clips(kind):
    pairs = list(features_of_directory(FIXTURES / "oracle" / kind, FIXTURES))
    assert pairs
    for ours, theirs in pairs:
        close(ours, theirs, 1e-3)
