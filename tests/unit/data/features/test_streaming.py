"""Audio in pieces of any size gives the features of the whole, and each as early as it can be."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.data.audio.read import read_audio
from paraformer.data.features.cmvn import Cmvn, read_cmvn
from paraformer.data.features.frontend import Frontend
from paraformer.data.features.streaming import forward_chunk, initial_state
from paraformer.errors import ConfigError
from tests.conftest import SHARED, needs_shared

STACKINGS = [(7, 6), (5, 1), (1, 1), (3, 3), (1, 3), (4, 2), (2, 5)]
LENGTHS = [0, 1, 2, 399, 400, 401, 560, 719, 720, 1040, 2000, 20160]
# Products of matrices of other heights are rounded otherwise.
ROUNDING = 1e-4


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def in_pieces(frontend, pieces):
    """Features of each piece; the last one ends the stream."""
    state, given = initial_state(frontend), []
    for place, piece in enumerate(pieces, 1):
        feats, state = forward_chunk(frontend, piece, state, final=place == len(pieces))
        given.append(feats)
    return given


def close(ours, expected, atol=ROUNDING):
    torch.testing.assert_close(ours, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("stacking", STACKINGS)
@pytest.mark.parametrize("samples", LENGTHS)
@pytest.mark.parametrize("size", [1, 160, 959, 960, 9600, 10**6])
def test_pieces_give_the_features_of_the_whole(stacking, samples, size):
    if size == 1 and samples > 2000:
        return
    frontend, wave = Frontend(lfr_m=stacking[0], lfr_n=stacking[1]), noise(samples)
    close(torch.cat(in_pieces(frontend, wave.split(size))), frontend(wave))
    end_alone = [*wave.split(size), wave[:0]]
    if samples >= 400:
        close(torch.cat(in_pieces(frontend, end_alone)), frontend(wave))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1500), min_size=1, max_size=12), st.sampled_from(STACKINGS))
def test_pieces_of_any_sizes_give_the_features_of_the_whole(sizes, stacking):
    frontend, wave = Frontend(lfr_m=stacking[0], lfr_n=stacking[1]), noise(sum(sizes))
    close(torch.cat(in_pieces(frontend, wave.split(sizes))), frontend(wave))


def test_another_rate_and_a_cmvn():
    cmvn = Cmvn(torch.linspace(-9, -1, 120), torch.linspace(0.5, 2, 120))
    frontend = Frontend(fs=8000, n_mels=40, lfr_m=3, lfr_n=2, cmvn=cmvn)
    wave = noise(5000)
    close(torch.cat(in_pieces(frontend, wave.split(333))), frontend(wave))


def test_a_feature_comes_with_the_last_sample_that_it_needs():
    """The first feature of 5 frames is of the first three: 400 + 2 * 160 samples."""
    frontend, wave = Frontend(lfr_m=5), noise(1040)
    state = initial_state(frontend)
    feats, state = forward_chunk(frontend, wave[:719], state)
    assert len(feats) == 0
    feats, state = forward_chunk(frontend, wave[719:720], state)
    assert len(feats) == 1
    feats, _ = forward_chunk(frontend, wave[720:], state)
    assert len(feats) == 2


def test_nothing_is_kept_but_what_a_later_feature_needs():
    frontend = Frontend(lfr_m=7, lfr_n=6)
    state, sizes = initial_state(frontend), set()
    for _ in range(50):
        _, state = forward_chunk(frontend, noise(9600), state)
        sizes.add((len(state.samples), len(state.frames)))
        assert state.samples.untyped_storage().nbytes() == 4 * len(state.samples)
        assert state.frames.untyped_storage().nbytes() == 4 * state.frames.numel()
    assert max(samples for samples, _ in sizes) < 400
    assert max(frames for _, frames in sizes) <= 7


def test_a_state_is_a_value():
    """What was fed since, and a copy through a file, change nothing in it."""
    frontend, wave = Frontend(lfr_m=7, lfr_n=6), noise(20000)
    _, state = forward_chunk(frontend, wave[:7000], initial_state(frontend))
    copy = pickle.loads(pickle.dumps(state))
    expected, _ = forward_chunk(frontend, wave[7000:], state, final=True)
    again, fresh = forward_chunk(frontend, wave[7000:], copy, final=True)
    assert torch.equal(again, expected)
    close(torch.cat(in_pieces(frontend, wave.split(1000))), frontend(wave))
    first, _ = forward_chunk(frontend, wave, fresh, final=True)
    assert torch.equal(first, frontend(wave))


@pytest.mark.parametrize("wrong", [{"snip_edges": False}, {"fs": 22050}])
def test_frames_that_do_not_follow_one_another_are_refused(wrong):
    with pytest.raises(ConfigError, match="a stream needs whole numbers and snip_edges true"):
        initial_state(Frontend(**wrong))


@needs_shared
@pytest.mark.parametrize("size", [9600, 7680, 4000, 1600, 800])
def test_frames_of_each_piece_are_those_of_the_reference(size):
    """oracle/paraformer-streaming, made by oracle/make/online.py: counts, and the last piece."""
    folder = SHARED / "oracle" / "paraformer-streaming"
    facts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    frontend = Frontend(lfr_m=7, lfr_n=6, cmvn=read_cmvn(folder / "am.mvn"))
    pieces = in_pieces(frontend, read_audio(SHARED / "audio" / "asr_example.wav").split(size))
    assert [len(feats) for feats in pieces] == facts["frontend_frames"][str(size)]
    with np.load(folder / "expected.npz") as arrays:
        close(pieces[-1], torch.from_numpy(arrays[f"frontend/{size}/last"]), 1e-3)
