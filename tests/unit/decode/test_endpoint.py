"""The segment machine against one that takes frame after frame, as the released VAD does."""

from __future__ import annotations

import math
import pickle
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.decode.endpoint import (
    OPEN,
    EndpointState,
    Phase,
    Span,
    advance,
    decide,
    join,
)
from paraformer.errors import ConfigError
from paraformer.models.fsmn_vad import VadOptions

LOUD = 0.0
DEFAULTS = VadOptions()


@dataclass
class ByFrame:
    """The machine as ../shared/spec/vad.md words it: every operation on every frame."""

    options: VadOptions
    state: str = "waiting"
    buf_start: int = 0
    conf_start: int = -1
    last_speech: int = 0
    sil_run: int = 0
    segments: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clear_window()
        options = self.options
        self.latency = options.window_size_ms // 10
        if options.do_extend:
            self.latency += options.lookback_time_start_point // 10
        self.end_ms = max(0, options.max_end_silence_time - options.speech_to_sil_time_thres)
        self.ahead = options.lookahead_time_end_point // 10

    def clear_window(self) -> None:
        self.ring = [0] * (self.options.window_size_ms // 10)
        self.speaking = False

    def put(self, frame: int, first: bool = False) -> None:
        self.buf_start = max(self.buf_start, frame)
        if first:
            self.segments.append([10 * frame, 0, 0])
        self.segments[-1][1] = 10 * (frame + 1)
        self.buf_start += 1

    def voice(self, frame: int) -> None:
        self.last_speech = frame
        self.put(frame)

    def end(self, frame: int) -> None:
        for earlier in range(self.last_speech + 1, frame):
            self.voice(earlier)
        self.put(frame)
        self.state = "ended"

    def detect(self, speech: bool) -> str:
        self.ring = [*self.ring[1:], int(speech)]
        if not self.speaking and sum(self.ring) >= self.options.sil_to_speech_time_thres // 10:
            self.speaking = True
            return "onset"
        if self.speaking and sum(self.ring) <= self.options.speech_to_sil_time_thres // 10:
            self.speaking = False
            return "release"
        return "speech" if self.speaking else "silence"

    def too_long(self, frame: int) -> bool:
        return frame - self.conf_start + 1 > self.options.max_single_segment_time // 10

    def tail(self, frame: int, final: bool) -> None:
        if self.too_long(frame) or final:
            self.end(frame)
        else:
            self.voice(frame)

    def onset(self, frame: int, final: bool) -> None:
        self.sil_run = 0
        if self.state == "waiting":
            start = max(self.buf_start, frame - self.latency)
            self.conf_start = start
            self.put(start, first=True)
            self.state = "in"
            for later in range(start + 1, frame + 1):
                self.voice(later)
        elif self.state == "in":
            for earlier in range(self.last_speech + 1, frame):
                self.voice(earlier)
            self.tail(frame, final)

    def silence(self, frame: int, final: bool) -> None:
        self.sil_run += 1
        options = self.options
        if self.state == "waiting":
            late = self.sil_run * 10 > options.max_start_silence_time
            if options.detect_mode == 0 and late:
                self.state = "ended"
            elif frame >= self.latency:
                self.buf_start = max(self.buf_start, frame - self.latency)
        elif self.sil_run * 10 >= self.end_ms:
            back = self.end_ms // 10
            if options.do_extend:
                back = max(0, back - self.ahead - 1)
            self.end(frame - back)
        elif self.too_long(frame):
            self.end(frame)
        elif options.do_extend and not final:
            if self.sil_run <= self.ahead:
                self.voice(frame)
        elif final:
            self.end(frame)

    def step(self, frame: int, speech: bool, final: bool) -> None:
        event = self.detect(speech)
        if event == "onset":
            self.onset(frame, final)
        elif event == "silence":
            self.silence(frame, final)
        else:
            self.sil_run = 0
            if self.state == "in":
                self.tail(frame, final)
        if self.state == "ended" and self.options.detect_mode == 1:
            self.state, self.conf_start, self.last_speech, self.sil_run = "waiting", -1, 0, 0
            self.clear_window()

    def run(self, speech: list[int]) -> list[Span]:
        for frame, flag in enumerate(speech):
            if self.state != "ended":
                self.step(frame, bool(flag), frame == len(speech) - 1)
        return [Span(begin, end) for begin, end, _ in self.segments]


def posteriors(speech):
    """Probability of silence and levels of frames that are surely speech (1) or not (0)."""
    return 1.0 - np.asarray(speech, dtype=np.float64), np.full(len(speech), LOUD)


def at_once(options, speech):
    return advance(options, *posteriors(speech), EndpointState(), final=True)[0]


def in_chunks(options, speech, sizes):
    """All spans, as the calls report them; the frames end in the middle of the sizes or wrap."""
    silence, levels = posteriors(speech)
    state, spans, begin, turn = EndpointState(), [], 0, 0
    while begin < len(speech):
        end = begin + sizes[turn % len(sizes)]
        found, state = advance(
            options, silence[begin:end], levels[begin:end], state, final=end >= len(speech)
        )
        spans += found
        begin, turn = end, turn + 1
    return spans


def runs(draw, longest=200):
    """Frames that change rarely, with single frames that go against the others."""
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=14))
    flags = np.concatenate([np.full(n, place % 2) for place, n in enumerate(lengths)])
    share = draw(st.sampled_from([0.0, 0.02, 0.1, 0.25, 0.5]))
    noise = np.random.default_rng(draw(st.integers(0, 10**6))).random(len(flags)) < share
    return (flags ^ noise).astype(int).tolist()


@st.composite
def cases(draw):
    options = VadOptions(
        detect_mode=draw(st.sampled_from([1, 1, 1, 0])),
        max_end_silence_time=draw(st.sampled_from([100, 150, 155, 200, 400, 800, 800, 2000])),
        max_start_silence_time=draw(st.sampled_from([300, 3000])),
        window_size_ms=draw(st.sampled_from([50, 200, 200, 400])),
        sil_to_speech_time_thres=draw(st.sampled_from([30, 150, 150, 200])),
        speech_to_sil_time_thres=draw(st.sampled_from([0, 50, 150, 150])),
        do_extend=draw(st.sampled_from([1, 1, 0])),
        lookback_time_start_point=draw(st.sampled_from([0, 200, 500])),
        lookahead_time_end_point=draw(st.sampled_from([0, 100, 300])),
        max_single_segment_time=draw(st.sampled_from([300, 1000, 5000, 60000])),
    )
    return options, runs(draw)


@settings(max_examples=400)
@given(cases(), st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_runs_of_frames_are_taken_as_frame_by_frame(case, sizes):
    options, speech = case
    expected = ByFrame(options).run(speech)
    assert at_once(options, speech) == expected
    assert join(in_chunks(options, speech, sizes)) == expected


def test_a_start_is_found_after_150_ms_and_lies_200_ms_before_the_window():
    speech = [0] * 100 + [1] * 100 + [0] * 200
    # Frame 114 is the 15th of speech: 114 - 20 - 20. The count falls to 15 again at frame 204;
    # 65 frames of silence later, the segment ends 65 - 10 - 1 frames back.
    assert at_once(DEFAULTS, speech) == [Span(740, (204 + 65 - 54 + 1) * 10)]


def test_fourteen_frames_of_speech_are_none():
    assert at_once(DEFAULTS, [0] * 50 + [1] * 14 + [0] * 50) == []
    assert len(at_once(DEFAULTS, [0] * 50 + [1] * 15 + [0] * 50)) == 1


def test_speech_to_the_last_frame_ends_with_it():
    assert at_once(DEFAULTS, [0] * 100 + [1] * 50) == [Span(740, 1500)]


def test_speech_that_begins_with_the_last_frame_is_reported_whole():
    """The reference reports its start and never its end when the audio comes in pieces."""
    speech = [0] * 100 + [1] * 15
    assert at_once(DEFAULTS, speech) == [Span(740, 1150)]
    assert in_chunks(DEFAULTS, speech, [6]) == [Span(740, 1150)]


def test_an_end_without_more_frames_closes_the_segment():
    silence, levels = posteriors([0] * 50 + [1] * 50)
    spans, state = advance(DEFAULTS, silence, levels, EndpointState())
    assert spans == [Span(240, OPEN)]
    assert advance(DEFAULTS, silence[:0], levels[:0], state, final=True) == (
        [Span(OPEN, 1000)],
        EndpointState(),
    )


def test_each_call_reports_what_begins_and_ends_in_it():
    speech = [0] * 60 + [1] * 60 + [0] * 90 + [1] * 40 + [0] * 100
    whole = at_once(DEFAULTS, speech)
    assert len(whole) == 2
    pieces = in_chunks(DEFAULTS, speech, [10])
    assert pieces == [
        Span(whole[0].start_ms, OPEN),
        Span(OPEN, whole[0].end_ms),
        Span(whole[1].start_ms, OPEN),
        Span(OPEN, whole[1].end_ms),
    ]
    assert in_chunks(DEFAULTS, speech, [200, 150]) == [
        whole[0],
        whole[1],
    ]


def test_two_hours_without_a_pause_are_cut_each_minute():
    """A segment of more than 60000 ms ends there, and the next one begins with that end."""
    frames = 2 * 3600 * 100
    silence, levels = np.zeros(frames, np.float32), np.zeros(frames, np.float32)
    begun = time.process_time()
    spans, _ = advance(DEFAULTS, silence, levels, EndpointState(), final=True)
    assert time.process_time() - begun < 30
    assert spans[0].start_ms == 0
    assert all(a.end_ms == b.start_ms for a, b in zip(spans, spans[1:], strict=False))
    assert {span.end_ms - span.start_ms for span in spans[:-1]} == {60010}
    assert spans[-1].end_ms == 2 * 3600 * 1000
    state, pieces = EndpointState(), []
    for begin in range(0, frames, 6000):
        found, state = advance(
            DEFAULTS,
            silence[begin : begin + 6000],
            levels[begin : begin + 6000],
            state,
            final=begin + 6000 == frames,
        )
        pieces += found
        assert len(pickle.dumps(state)) < 1000
    assert join(pieces) == spans


def test_silence_and_nothing_have_no_segments():
    assert at_once(DEFAULTS, [0] * 1000) == []
    assert at_once(DEFAULTS, []) == []


def test_a_single_utterance_is_the_first_one():
    options = replace(DEFAULTS, detect_mode=0)
    speech = [0] * 60 + [1] * 60 + [0] * 90 + [1] * 40 + [0] * 100
    assert at_once(options, speech) == at_once(DEFAULTS, speech)[:1]
    late = [0] * 287 + [1] * 100  # and 14 frames until the detector turns: 3010 ms
    assert at_once(options, late) == []
    assert len(at_once(options, late[1:])) == 1
    _, state = advance(options, *posteriors(late), EndpointState())
    assert state.phase is Phase.DONE


def test_a_state_is_a_value():
    speech = np.random.default_rng(0).integers(0, 2, 60).repeat(17)
    silence, levels = posteriors(speech)
    _, state = advance(DEFAULTS, silence[:400], levels[:400], EndpointState())
    copy = pickle.loads(pickle.dumps(state))
    assert copy == state
    rest = [advance(DEFAULTS, silence[400:], levels[400:], s, final=True)[0] for s in (state, copy)]
    assert rest[0] == rest[1]
    assert copy == state


@pytest.mark.parametrize(
    ("silence", "threshold", "ratio", "speech"),
    [
        (0.19, 0.6, 1.0, 1),
        (0.21, 0.6, 1.0, 0),
        (0.0, 0.99, 1.0, 1),
        (1.0, 0.6, 1.0, 0),
        (1.0, -1.0, 1.0, 1),
        (0.25, 0.25, 0.5, 1),
        (0.26, 0.25, 0.5, 0),
    ],
)
def test_speech_exceeds_noise_by_the_threshold(silence, threshold, ratio, speech):
    """1 - p >= p ** ratio + threshold; the logarithms of the reference fail at 0 and 1."""
    options = replace(DEFAULTS, speech_noise_thres=threshold, speech_2_noise_ratio=ratio)
    flags, _ = decide(options, np.array([silence], np.float32), np.array([LOUD], np.float32))
    assert flags.tolist() == [speech]


def test_frames_too_quiet_are_silence_and_no_noise():
    options = replace(DEFAULTS, decibel_thres=-30.0)
    flags, level = decide(options, np.array([0.0, 1.0, 0.0]), np.array([-31.0, -40.0, -30.0]))
    assert (flags.tolist(), level) == ([0, 0, 1], -100.0)


def test_speech_stands_out_from_the_noise_before_it():
    """The level of noise: its first frame, then 99 parts of what it was to one of the frame."""
    options = replace(DEFAULTS, snr_thres=10.0)
    silence = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    levels = np.array([-50.0, -50.0, -41.0, -30.0, -39.0, -39.9])
    flags, level = decide(options, silence, levels)
    assert level == pytest.approx((-30.0 + 99 * -50.0) / 100)
    assert flags.tolist() == [1, 0, 0, 0, 1, 0]
    first, middle = decide(options, silence[:3], levels[:3])
    rest, last = decide(options, silence[3:], levels[3:], middle)
    assert (np.concatenate([first, rest]).tolist(), last) == (flags.tolist(), level)


def test_a_level_that_is_missing_is_silence():
    flags, _ = decide(DEFAULTS, np.zeros(2), np.array([-math.inf, LOUD]))
    assert flags.tolist() == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"detect_mode": 2},
        {"frame_in_ms": 0},
        {"window_size_ms": 5},
        {"max_single_segment_time": 0},
        {"sil_pdf_ids": []},
        {"noise_frame_num_used_for_snr": 0},
    ],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        VadOptions(**wrong)
