"""FSMN-VAD as the reference's (funasr 1.4.16): posteriors near, segments to the millisecond.

../shared/oracle/fsmn-vad was made by oracle/make/vad.py with the real released weights, the
project's own tests/fixtures/oracle/fsmn_vad by tests/fixtures/make_vad.py with a small network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from paraformer.backends.torch_engine import TorchSilence
from paraformer.data.audio.read import read_audio
from paraformer.data.audio.resample import resample
from paraformer.data.features.streaming import forward_chunk, initial_state
from paraformer.decode.vad import LIVE_SCHEDULE, DynamicSilence, VoiceActivity, decibels
from paraformer.models.fsmn_vad import FsmnState, VadOptions
from paraformer.models.release import VadRelease, load_vad, merge
from tests.conftest import SHARED, needs_shared
from tests.parity.oracle import FIXTURES, close, load_arrays

# The released result of vad_example.wav, as it stands on the model card.
GOLDEN = [
    *([70, 2340], [2620, 6200], [6480, 23670], [23950, 26250], [26780, 28990], [29950, 31430]),
    *([31750, 37600], [38210, 46900], [47310, 49630], [49910, 56460], [56740, 59540]),
    [59820, 70450],
]
# Settings of the maker that are arguments of a call; the others are the model's options.
CALL = ("max_end_silence_time", "speech_noise_thres")
JOINED = [
    ("clip_a", 1.0, 5000),
    ("clip_b", 1.0, 14000),
    ("clip_c", 0.25, 3000),
    ("clip_a", 0.5, 40000),
    ("clip_c", 1.0, 9000),
    ("clip_b", 1.0, 0),
]
OTHER_RATES = {
    8000: [
        *([70, 2270], [2600, 6190], [6470, 23630], [23910, 24740], [25020, 26230], [26790, 28900]),
        *([29960, 31360], [31750, 37600], [38210, 46900], [47310, 49640], [49920, 56460]),
        *([56740, 59550], [59830, 70450]),
    ],
    48000: [[29950, 31420] if span == [29950, 31430] else span for span in GOLDEN],
}
# Spans that the reference reports, (samples of a call, ms of a piece) -> [[call, spans], ...].
IN_CALLS = {
    (160000, 200): [
        *([0, [[70, -1]]], [2, [[-1, 26270], [26770, -1]]], [3, [[-1, 37600], [38210, -1]]]),
        *([6, [[-1, 59550], [59830, -1]]], [7, [[-1, 70450]]]),
    ],
    (2000, 200): [
        *([4, [[70, -1]]], [215, [[-1, 26270]]], [219, [[26770, -1]]], [307, [[-1, 37600]]]),
        *([310, [[38210, -1]]], [481, [[-1, 59550]]], [483, [[59830, -1]]], [563, [[-1, 70450]]]),
    ],
    (1600, 200): [
        *([5, [[70, -1]]], [29, [[-1, 2340]]], [31, [[2620, -1]]], [67, [[-1, 6200]]]),
        *([69, [[6480, -1]]], [243, [[-1, 23670], [23950, -1]]], [269, [[-1, 26250]]]),
        *([273, [[26780, -1]]], [295, [[-1, 28990]]], [303, [[29950, -1]]]),
        *([321, [[-1, 31430], [31750, -1]]], [381, [[-1, 37600]]], [387, [[38210, -1]]]),
        *([475, [[-1, 46900]]], [477, [[47310, -1]]], [503, [[-1, 49630], [49910, -1]]]),
        *([571, [[-1, 56460], [56740, -1]]], [601, [[-1, 59540]]], [603, [[59820, -1]]]),
        [704, [[-1, 70450]]],
    ],
    (160000, 1000): [
        [0, [[70, -1], [-1, 5190], [5190, -1]]],
        [1, [[-1, 12100], [12100, -1], [-1, 15870], [15870, -1]]],
        [2, [[-1, 22140], [22170, -1], [-1, 26270], [26770, -1], [-1, 29030]]],
        [3, [[29950, -1], [-1, 35450], [35450, -1], [-1, 37600], [38210, -1]]],
        [4, [[-1, 42290], [42290, -1], [-1, 46910], [47310, -1]]],
        [5, [[-1, 52280], [52280, -1], [-1, 56470], [56740, -1]]],
        *([6, [[-1, 62930], [62930, 63740], [63740, -1]]], [7, [[-1, 70450]]]),
    ],
}


def clip(name: str) -> Tensor:
    return read_audio(FIXTURES / "oracle" / "inputs" / f"{name}.flac")


def joined() -> Tensor:
    """What make_vad.py has put together of the project's clips."""
    return torch.cat([torch.cat([clip(c) * gain, torch.zeros(n)]) for c, gain, n in JOINED])


class Remembering(TorchSilence):
    """An engine that does not compute again what it has been asked before: settings change only
    what is made of its answers.
    """

    def __init__(self, release: VadRelease, classes: Sequence[int]) -> None:
        super().__init__(release, classes, torch.device("cpu"))
        self.answers: dict[int, tuple[Tensor, FsmnState]] = {}

    def hear(self, feats: Tensor, state: FsmnState) -> tuple[Tensor, FsmnState]:
        key = hash((feats.numpy().tobytes(), state.memory.numpy().tobytes()))
        if key not in self.answers:
            self.answers[key] = super().hear(feats, state)
        return self.answers[key]


class Oracle:
    """A model, its recordings, and what the reference says of them."""

    def __init__(self, folder: Path, model: Path, waves: dict[str, Tensor]) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "expected.json").read_text("utf8"))
        self.arrays = load_arrays(folder)
        self.release = load_vad(model)
        self.engines: dict[Sequence[int], Remembering] = {}
        self.waves = waves

    def engine(self, options: VadOptions) -> Remembering:
        """The same for all detectors that listen to the same classes."""
        classes = options.sil_pdf_ids
        if classes not in self.engines:
            self.engines[classes] = Remembering(self.release, classes)
        return self.engines[classes]

    def detector(self, label: str) -> VoiceActivity:
        """The detector with the settings that the maker's label tells."""
        found = re.findall(r"(\w+)=(\[.*?\]|[^ ,;)]+)", label)
        given = {key: json.loads(value.lower()) for key, value in found}
        options = {k: v for k, v in given.items() if hasattr(self.release.options, k)}
        if label.startswith("dynamic_silence=False"):  # settings of an earlier call do not stay
            options = {}
        asked = not options.keys() & set(CALL) and "dynamic_silence" not in given
        config = merge(self.release.config, {"model_conf": options})
        release = replace(self.release, config=config)
        engine = self.engine(release.options)
        return VoiceActivity(release, engine=engine).adjusted(dynamic_silence=asked)


def shared_oracle() -> Oracle:
    names = ("vad_example", "asr_example", "mid", "long")
    waves = {name: read_audio(SHARED / "audio" / f"{name}.wav") for name in names}
    return Oracle(SHARED / "oracle" / "fsmn-vad", SHARED / "models" / "fsmn-vad", waves)


def project_oracle() -> Oracle:
    folder = FIXTURES / "oracle" / "fsmn_vad"
    return Oracle(folder, folder, {"joined": joined(), "clip_b": clip("clip_b")})


@pytest.fixture(
    scope="module",
    params=[project_oracle, pytest.param(shared_oracle, marks=needs_shared)],
    ids=["project", "shared"],
)
def oracle(request):
    return request.param()


def as_lists(spans):
    return [list(span) for span in spans]


def in_calls(detector, wave, piece_ms):
    """[number of the call, its spans] of those that report something, as the maker feeds it."""
    state, events = detector.initial_state(), []
    pieces = wave.split(16 * piece_ms)
    for place, piece in enumerate(pieces):
        spans, state = detector.feed(piece, state, place == len(pieces) - 1, piece_ms)
        if spans:
            events.append([place, as_lists(spans)])
    return events


def test_features_and_posteriors(oracle):
    name, wave = next(iter(oracle.waves.items()))
    frontend = oracle.release.frontend
    feats, _ = forward_chunk(frontend, wave, initial_state(frontend), final=True)
    close(feats[:60], oracle.arrays[f"{name}/feats_first60"], 1e-3)
    close(feats[-3:], oracle.arrays[f"{name}/feats_last3"], 1e-3)
    with torch.no_grad():
        posteriors = oracle.release.model(feats[None])[0]
    close(posteriors[:120], oracle.arrays[f"{name}/post_first120"], 1e-5)


def test_silence_and_levels_of_all_recordings(oracle):
    for name, wave in oracle.waves.items():
        with torch.no_grad():
            posteriors = oracle.release.model(oracle.release.frontend(wave)[None])[0]
        close(posteriors[:, 0], oracle.arrays[f"{name}/sil_prob"], 1e-5)
        levels = torch.from_numpy(decibels(wave, 400, 160))
        close(levels, oracle.arrays[f"{name}/decibel"], 1e-3)


def test_segments_of_whole_recordings_under_all_settings(oracle):
    wrong = {}
    for name, cases in oracle.facts["offline"].items():
        for label, expected in cases.items():
            piece = re.search(r"chunk_size=(\d+)", label)
            piece_ms = int(piece[1]) if piece else 60_000
            found = oracle.detector(label).segments(oracle.waves[name], piece_ms)
            if as_lists(found) != expected:
                wrong[name, label] = (found, expected)
    assert not wrong


def test_events_of_streams_under_all_settings(oracle):
    wrong = {}
    for name, cases in oracle.facts["streaming"].items():
        for label, expected in cases.items():
            piece_ms, wave = int(re.search(r"chunk=(\d+)", label)[1]), oracle.waves[name]
            if label.startswith("DynamicStreamingVAD"):
                live = DynamicSilence(LIVE_SCHEDULE, from_start=True)
                engine = oracle.engine(oracle.release.options)
                detector = VoiceActivity(oracle.release, dynamic=live, engine=engine)
                found = as_lists(detector.segments(wave, piece_ms))
            else:
                found = in_calls(oracle.detector(label), wave, piece_ms)
            if found != expected:
                wrong[name, label] = (found, expected)
    assert not wrong


@needs_shared
def test_the_golden_output():
    release = load_vad(SHARED / "models" / "fsmn-vad")
    wave = read_audio(SHARED / "audio" / "vad_example.wav")
    assert as_lists(VoiceActivity(release).segments(wave)) == GOLDEN


@needs_shared
def test_edge_lengths():
    """Where the reference fails, below 400 samples, there is no segment."""
    oracle = shared_oracle()
    wave = oracle.waves["vad_example"]
    cuts = {
        "zeros 2 s": torch.zeros(32000),
        "100 samples": wave[:100],
        "399 samples": wave[:399],
        "400 samples": wave[:400],
        "1000 samples": wave[20000:21000],
        "300 ms of speech": wave[48000:52800],
        "1 s of speech": wave[48000:64000],
        "exactly 60 s": wave[:960000],
        "60 s + 50 samples": wave[:960050],
        "empty": wave[:0],
    }
    expected = oracle.facts["edges offline, max_end_silence_time=800"]
    assert cuts.keys() == expected.keys()
    for label, cut in cuts.items():
        found = as_lists(VoiceActivity(oracle.release).segments(cut))
        failed = isinstance(expected[label], str)
        assert found == ([] if failed else expected[label]), label


@needs_shared
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48000, 2)])
def test_files_of_other_rates_and_channels(tmp_path, rate, channels):
    """OTHER_RATES is what the reference makes of these files with max_end_silence_time=800."""
    oracle = shared_oracle()
    path = tmp_path / "other.wav"
    samples = resample(oracle.waves["vad_example"], 16000, rate)[:, None].expand(-1, channels)
    soundfile.write(path, samples.numpy(), rate, subtype="PCM_16")
    found = VoiceActivity(oracle.release).segments(read_audio(path))
    assert as_lists(found) == OTHER_RATES[rate]


def noise(level):
    """Five seconds of white noise."""
    return level * torch.from_numpy(np.random.default_rng(0).standard_normal(80000)).float()


def music():
    """Three chords with their overtones, struck twice a second, 2 s each."""
    time = np.arange(6 * 16000) / 16000
    chords = [(220, 277.18, 329.63), (246.94, 311.13, 369.99), (196, 246.94, 293.66)]
    tones = [
        sum(0.1 * np.sin(2 * np.pi * f * k * time) / k for f in chord for k in (1, 2, 3))
        for chord in chords
    ]
    place = np.arange(len(time))
    played = np.stack(tones)[(time // 2).astype(int), place] * np.exp(-4 * (time % 0.5))
    return torch.from_numpy(played.astype(np.float32))


@needs_shared
def test_what_is_no_speech():
    """The expected spans are the reference's of the same samples, max_end_silence_time=800."""
    oracle = shared_oracle()
    wave = oracle.waves["vad_example"][: 20 * 16000]
    expected = [
        (torch.zeros(160000), []),
        (noise(0.05), []),
        (noise(0.5), [[0, 390]]),
        (music(), [[0, 2580], [2860, 3480], [3760, 5980]]),
        (wave, [[70, 2340], [2620, 6200], [6480, 19980]]),  # speech to the last sample
        (wave * 1e-4, [[70, 2250], [2600, 6090], [6400, 15640], [15920, 19980]]),
    ]
    for samples, spans in expected:
        assert as_lists(VoiceActivity(oracle.release).segments(samples)) == spans


@needs_shared
@pytest.mark.parametrize(
    "calls",
    [
        {"samples": 160000, "piece": 200, "dynamic": True},
        {"samples": 2000, "piece": 200, "dynamic": True},
        {"samples": 1600, "piece": 200, "dynamic": False},
        {"samples": 160000, "piece": 1000, "schedule": [[3000, 1000], [5000, 500], [None, 300]]},
    ],
)
def test_calls_of_other_sizes_than_the_pieces(calls):
    """IN_CALLS is what the reference reports in each call that reports something."""
    oracle = shared_oracle()
    detector = VoiceActivity(oracle.release).adjusted(
        dynamic_silence=calls.get("dynamic"), silence_schedule=calls.get("schedule")
    )
    state, found = detector.initial_state(), []
    pieces = oracle.waves["vad_example"].split(calls["samples"])
    for place, piece in enumerate(pieces):
        spans, state = detector.feed(piece, state, place == len(pieces) - 1, calls["piece"])
        if spans:
            found.append([place, as_lists(spans)])
    assert found == IN_CALLS[calls["samples"], calls["piece"]]
