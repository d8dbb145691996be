"""Speakers of a stream: by names and running centres, in bounded state, however it comes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from paraformer.api.auto import AutoModel
from paraformer.api.live import LivePipeline, LiveSession
from paraformer.api.live_speakers import LiveVoices, VoiceTrack
from paraformer.decode.streaming import StreamingRecognizer
from paraformer.decode.voices import Known, Voices
from paraformer.errors import CheckpointError, ConfigError
from paraformer.models.release import save_directory
from tests import tiny
from tests.conftest import ROOT
from tests.unit.api.test_live import Script, events, noise

RATE = 16000
LONG, SHORT = 3 * RATE, RATE
A, B, C = torch.eye(4)[:3]


class Told:
    """Voices that are told: the first sample of an utterance says which."""

    rate = RATE

    def embed(self, waves):
        return [self.voice(int(wave[0])) for wave in waves]

    def voice(self, number):
        if number < 0:
            return CheckpointError("no voice")
        return torch.stack((A, B, C, A + B, -A))[number] * (number + 1)


def said(number, size=LONG):
    return [torch.full((size,), float(number))]


def tell(live, *parts):
    track, names = VoiceTrack(), []
    for part in parts:
        name, track = live.tell(track, part)
        names.append(name)
    return names, track


def test_voices_are_numbered_as_they_come():
    live = LiveVoices(Told(), None, 0.31, 15)
    names, track = tell(live, said(1), said(0), said(1), said(3), said(2))
    assert names == ["SPK0", "SPK1", "SPK0", "SPK0", "SPK2"]
    assert track.counts == (3, 1, 1)
    # The first is B, B and, a third of the way, the voice between A and B.
    half = torch.tensor([1.0, 1.0]) / np.sqrt(2)
    middle = 2 / 3 * torch.tensor([0.0, 1.0]) + half / 3
    torch.testing.assert_close(track.centres[0, :2], middle / middle.norm())


def test_there_are_no_more_voices_than_asked_for():
    names, track = tell(LiveVoices(Told(), None, 0.31, 2), said(0), said(1), said(2), said(4))
    assert set(names) == {"SPK0", "SPK1"}
    torch.testing.assert_close(
        track.centres, torch.stack((A, B))
    )  # what is none of them is left out


def test_what_is_short_opens_no_voice_but_the_first():
    names, _ = tell(LiveVoices(Told(), None, 0.31, 9), said(0, SHORT), said(1, SHORT), said(1))
    assert names == ["SPK0", "SPK0", "SPK1"]


def test_names_go_before_numbers_and_leave_the_centres_alone():
    live = LiveVoices(Told(), Known(("Anna",), A[None].numpy()), 0.8, 15)
    names, track = tell(live, said(1), said(0), said(3), said(4))
    assert names == ["SPK0", "Anna", "SPK1", "SPK2"]  # A + B is 0.71 like A, and like B
    assert track.counts == (1, 1, 1)


def test_what_has_no_voice_has_no_speaker(caplog):
    names, track = tell(LiveVoices(Told(), None, 0.31, 15), said(-1), [], said(0))
    assert names == ["", "", "SPK0"]
    assert "the segment has no speaker" in caplog.text


@pytest.fixture(scope="module")
def pipeline():
    release = tiny.release({"decoder_conf": {"sanm_shfit": 2}})
    voices = LiveVoices(Voices(tiny.voices()), None, 0.31, 15)
    spans = [(410, 2500), (2500, 3910), (4900, 8200)]
    return LivePipeline(StreamingRecognizer(release), Script(spans), voices=voices)


def test_finals_have_a_speaker_however_the_stream_comes(pipeline):
    wave = noise(10)
    found = events(LiveSession(pipeline), [wave])
    finals = [event for event in found if event.kind == "final"]
    assert len(finals) == 3
    assert {event.speaker for event in finals if event.text} <= {"SPK0", "SPK1", "SPK2"}
    assert all(bool(event.speaker) == bool(event.text) for event in finals)
    assert any(event.speaker for event in finals)
    assert {event.speaker for event in found if event.kind != "final"} == {""}
    session, again = LiveSession(pipeline), []
    for block in wave.split(1600):
        session.state = pickle.loads(pickle.dumps(session.state))
        again += session.feed(block)
    again += session.flush()
    told = [
        [(e.start_ms, e.text, e.speaker) for e in part if e.kind == "final"]
        for part in (again, finals)
    ]
    assert told[0] == told[1]


def test_a_session_of_a_model_has_speakers(tmp_path):
    oracle = ROOT / "tests" / "fixtures" / "oracle"
    voices = str(save_directory(tmp_path / "voices", tiny.voices()))
    model = AutoModel(
        str(oracle / "paraformer-streaming"),
        vad_model=str(oracle / "fsmn_vad"),
        spk_model=voices,
        device="cpu",
    )
    clip = str(oracle / "inputs" / "clip_b.flac")
    (found,) = model.generate(clip)
    assert [s.get("speaker") for s in found["segments"] if s["text"]] == ["SPK0"]
    (plain,) = model.generate(clip, return_spk_res=False)
    assert plain["text"] == found["text"]
    assert "speaker" not in plain["segments"][0]


def test_another_rate_is_one_line():
    class Eight(Told):
        rate = 8000

    recognizer = StreamingRecognizer(tiny.release({"decoder_conf": {"sanm_shfit": 2}}))
    with pytest.raises(ConfigError, match="spk_model: works at 8000 Hz, the model at 16000 Hz"):
        LivePipeline(recognizer, voices=LiveVoices(Eight(), None, 0.31, 15))
