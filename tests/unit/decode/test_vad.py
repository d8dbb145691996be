"""Audio in any pieces gives the same segments, and a stream is a value of bounded size.

The detector is the project's own (tests/fixtures/make_vad.py), its recording the project's clips.
"""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.data.audio.read import read_audio
from paraformer.decode.endpoint import OPEN, Span, join
from paraformer.decode.vad import SCHEDULE, DynamicSilence, VoiceActivity, decibels
from paraformer.errors import ConfigError
from paraformer.models.release import load_vad
from tests.conftest import ROOT, SHARED, needs_shared

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
SIZES = [960, 3200, 7777, 16000, 10**6]


def recording():
    """11 s of speech with pauses of 0.3, 0.9 and 2 s."""
    clips = [read_audio(ORACLE / "inputs" / f"clip_{name}.flac") for name in "abc"]
    quiet = [torch.zeros(samples) for samples in (4800, 14400, 32000)]
    return torch.cat([clips[0], quiet[0], clips[1], quiet[1], clips[2], quiet[2], clips[0]])


@pytest.fixture(scope="module")
def detector():
    return VoiceActivity(load_vad(ORACLE / "fsmn_vad"))


@pytest.fixture(scope="module")
def wave():
    return recording()


@pytest.fixture(scope="module")
def whole(detector, wave):
    return detector.segments(wave)


def in_pieces(detector, pieces, piece_ms=None):
    state, spans = detector.initial_state(), []
    for place, piece in enumerate(pieces, 1):
        found, state = detector.feed(piece, state, place == len(pieces), piece_ms)
        spans += found
    return spans


def test_there_is_something_to_find(whole, wave):
    assert len(whole) >= 3
    assert all(0 <= a < b <= len(wave) / 16 for a, b in whole)


@pytest.mark.parametrize("size", [1, 159, 160, 400])
def test_pieces_of_less_than_a_frame(detector, wave, size):
    cut = wave[: max(2000, 300 * size)]
    assert join(in_pieces(detector, cut.split(size))) == detector.segments(cut)


@pytest.mark.parametrize("size", SIZES)
def test_any_pieces_give_the_segments_of_the_whole(detector, wave, whole, size):
    pieces = wave.split(size)
    assert join(in_pieces(detector, pieces)) == whole
    assert detector.segments(pieces) == whole
    assert join(in_pieces(detector, pieces, piece_ms=200)) == whole
    assert join(in_pieces(detector, [*pieces, wave[:0]])) == whole


@settings(max_examples=15)
@given(st.lists(st.integers(0, 60000), min_size=1, max_size=12))
def test_pieces_of_any_sizes_give_the_segments_of_the_whole(sizes):
    detector = VoiceActivity(load_vad(ORACLE / "fsmn_vad"))
    wave = recording()[: sum(sizes)]
    sizes[-1] -= sum(sizes) - len(wave) if sum(sizes) > len(wave) else 0
    if min(sizes) < 0:
        return
    assert join(in_pieces(detector, wave.split(sizes))) == detector.segments(wave)


@pytest.mark.parametrize("block", [1, 500, 16000])
def test_blocks_of_work_change_nothing(detector, wave, whole, block, monkeypatch):
    wave = wave[: 16000 * 2] if block == 1 else wave
    expected = detector.segments(wave)
    monkeypatch.setattr("paraformer.decode.vad.BLOCK_SAMPLES", max(block, 160))
    monkeypatch.setattr("paraformer.decode.endpoint.BLOCK", block)
    assert detector.segments(wave) == expected


def test_a_segment_is_given_out_as_soon_as_it_has_ended(detector, wave, whole):
    heard = 0

    def blocks():
        nonlocal heard
        for block in wave.split(3200):
            heard += len(block)
            yield block

    seen = [(span, heard) for span in detector.stream(blocks(), piece_ms=200)]
    assert [span for span, _ in seen] == whole
    for span, samples in seen[:-1]:
        # 650 ms of silence behind the end, the window of 200 ms, two frames, and the piece.
        assert samples / 16 <= span.end_ms + 1100


@pytest.mark.parametrize("samples", [0, 1, 100, 399, 400, 1000])
def test_too_short_for_a_window_is_no_segment(detector, wave, samples):
    assert detector.segments(wave[5000 : 5000 + samples]) == []
    assert in_pieces(detector, [wave[:samples]]) == []
    assert detector.segments([]) == []


def test_silence_is_no_segment(detector):
    assert detector.segments(torch.zeros(160000)) == []


def test_speech_to_the_last_sample_ends_with_the_last_frame(detector, wave):
    cut = wave[:32000]
    (span,) = detector.segments(cut)
    assert span.end_ms == 10 * (1 + (32000 - 400) // 160)


def test_an_end_without_samples_closes_the_segment(detector, wave):
    """The reference loses the end of a stream that ends so."""
    spans, state = detector.feed(wave[:32000], detector.initial_state(), piece_ms=200)
    assert spans == [Span(0, OPEN)]
    spans, state = detector.feed(wave[:0], state, True, 200)
    assert spans == [Span(OPEN, 1980)]
    again, _ = detector.feed(wave[:32000], state, True)
    assert again == detector.segments(wave[:32000]) == [Span(0, 1980)]


def test_what_is_no_whole_piece_waits(detector, wave):
    state = detector.initial_state()
    for size, waiting in ((3000, 3000), (100, 3100), (200, 100), (6400, 100), (3100, 0)):
        _, state = detector.feed(wave[:size], state, piece_ms=200)
        assert len(state.waiting) == waiting


def test_a_state_is_a_value(detector, wave):
    _, state = detector.feed(wave[:70000], detector.initial_state(), piece_ms=200)
    copy = pickle.loads(pickle.dumps(state))
    first, _ = detector.feed(wave[70000:], state, True, 200)
    again, _ = detector.feed(wave[70000:], copy, True, 200)
    assert first == again
    other, _ = detector.feed(wave[70000:], detector.initial_state(), True, 200)
    assert other != first


def test_a_state_does_not_grow(detector, wave):
    state, sizes = detector.initial_state(), []
    for _ in range(6):
        for piece in wave.split(4000):
            _, state = detector.feed(piece, state)
            sizes.append(len(pickle.dumps(state)))
    assert max(sizes) < 12_000


def test_streams_do_not_know_of_each_other(detector, wave, whole):
    """Two streams with other settings, fed in turn, over one network."""
    eager = detector.adjusted(max_end_silence_time=200)
    states, spans = [detector.initial_state(), eager.initial_state()], [[], []]
    pieces = wave.split(5000)
    for place, piece in enumerate(pieces, 1):
        for number, one in enumerate((detector, eager)):
            found, states[number] = one.feed(piece, states[number], place == len(pieces))
            spans[number] += found
    assert join(spans[0]) == whole
    assert join(spans[1]) == eager.segments(wave)
    assert len(join(spans[1])) > len(whole)


def test_adjusted_settings_are_those_of_the_released_options(detector):
    changed = detector.adjusted(max_end_silence_time=500, speech_noise_thres=0.8)
    assert changed.options == replace(
        detector.options, max_end_silence_time=500, speech_noise_thres=0.8
    )
    assert changed.dynamic is None
    assert detector.adjusted().options == detector.options
    assert detector.adjusted(dynamic_silence=True).dynamic.schedule == SCHEDULE
    rows = [[1000, 500], [None, 100]]
    dynamic = detector.adjusted(silence_schedule=rows)
    assert dynamic.dynamic.schedule == ((1000, 500), (float("inf"), 100))
    assert dynamic.adjusted(dynamic_silence=False).dynamic is None
    assert dynamic.adjusted(max_end_silence_time=300).dynamic == dynamic.dynamic


def test_a_schedule_shortens_the_silence(detector):
    dynamic = DynamicSilence.of([[1000, 500], [2000, 200]])
    told = [dynamic.apply(detector.options, ms) for ms in (0, 1000, 1001, 9000)]
    assert [options.max_end_silence_time for options in told] == [500, 500, 200, 200]
    assert {options.speech_noise_thres for options in told} == {0.5}


@pytest.mark.parametrize("rows", [[[1000]], ["ab"], [[1000, "x"]], 7])
def test_rows_of_another_form_are_refused(detector, rows):
    with pytest.raises(ConfigError, match="silence_schedule"):
        detector.adjusted(silence_schedule=rows)


def test_impossible_pieces_are_refused(detector, wave):
    with pytest.raises(ConfigError, match="chunk_size=0"):
        detector.feed(wave, detector.initial_state(), piece_ms=0)


@pytest.mark.parametrize(("key", "value"), [("lfr_n", 2), ("frame_shift", 20)])
def test_features_that_are_no_frames_of_10_ms_are_refused(tmp_path, key, value):
    folder = shutil.copytree(ORACLE / "fsmn_vad", tmp_path / "vad")
    release = load_vad(folder, {"frontend_conf": {key: value}})
    with pytest.raises(ConfigError, match="50 features a second, but frame_in_ms 10"):
        VoiceActivity(release)


def test_levels_are_sums_of_squares_in_decibel():
    wave = torch.linspace(-0.5, 0.7, 1000)
    frames = [wave[160 * t : 160 * t + 400].double() for t in range(4)]
    expected = [10 * np.log10(float(frame.square().sum()) + 1e-6) for frame in frames]
    assert decibels(wave, 400, 160) == pytest.approx(expected, abs=1e-5)
    assert decibels(torch.zeros(400), 400, 160).tolist() == pytest.approx([-60.0])
    assert decibels(torch.ones(399), 400, 160).shape == (0,)


@needs_shared
@pytest.mark.parametrize(("name", "size"), [("vad_example", 9600), ("long", 777), ("long", 960)])
def test_any_pieces_give_the_segments_of_the_whole_by_the_released_model(name, size):
    detector = VoiceActivity(load_vad(SHARED / "models" / "fsmn-vad"))
    wave = read_audio(SHARED / "audio" / f"{name}.wav")
    assert join(in_pieces(detector, wave.split(size))) == detector.segments(wave)
