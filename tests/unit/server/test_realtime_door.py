"""OpenAI's realtime transcription as its clients speak it: turns of the VAD, and of the client."""

from __future__ import annotations

import base64
import io
import json

import pytest
import soundfile
import torch

from paraformer.data.audio.resample import resample
from tests.serving import SECONDS, clip, pcm, running, until

ADDRESS = "/v1/realtime?intent=transcription"
TRANSCRIPTION = "conversation.item.input_audio_transcription."


def tell(socket, kind, **fields):
    socket.send(json.dumps({"type": kind, **fields}))


def heard(socket):
    return json.loads(socket.recv(timeout=SECONDS))


def events_to(socket, kind):
    found = []
    while not found or found[-1]["type"] != kind:
        found.append(heard(socket))
    return found


def update(socket, **sound):
    session = {"type": "transcription", "audio": {"input": sound}}
    tell(socket, "session.update", session=session, event_id="mine")
    return heard(socket)


def append(socket, content, size=4801):
    """In parts of an odd number of bytes."""
    for place in range(0, len(content), size):
        part = base64.b64encode(content[place : place + size]).decode()
        tell(socket, "input_audio_buffer.append", audio=part)


@pytest.fixture
def socket(server):
    with server.connect(ADDRESS, subprotocols=["realtime"]) as found:
        assert found.subprotocol == "realtime"
        created = heard(found)
        session = created["session"]
        assert created["type"] == "session.created" and session["type"] == "transcription"
        sound = session["audio"]["input"]
        assert sound["format"] == {"type": "audio/pcm", "rate": 24000}
        assert sound["turn_detection"]["type"] == "server_vad"
        assert sound["turn_detection"]["silence_duration_ms"] == 800
        yield found


def test_a_turn_of_the_vad_in_the_order_of_events(socket, texts):
    updated = update(socket, format={"type": "audio/pcm", "rate": 16000})
    assert updated["type"] == "session.updated"
    assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 16000}
    append(socket, pcm("demo_2") + bytes(2 * 16000 * 2))
    events = events_to(socket, f"{TRANSCRIPTION}completed")
    kinds = [event["type"] for event in events]
    deltas = kinds.count(f"{TRANSCRIPTION}delta")
    assert kinds == [
        "input_audio_buffer.speech_started",
        *[f"{TRANSCRIPTION}delta"] * deltas,
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        f"{TRANSCRIPTION}completed",
    ]
    assert deltas > 1 and len({event["event_id"] for event in events}) == len(events)
    (item,) = {event.get("item_id") or event["item"]["id"] for event in events}
    assert 0 <= events[0]["audio_start_ms"] < events[-4]["audio_end_ms"] <= 5000
    assert events[-3] | {"event_id": ""} == {
        "type": "input_audio_buffer.committed",
        "event_id": "",
        "item_id": item,
        "previous_item_id": None,
    }
    done = events[-1]
    assert (done["transcript"], done["content_index"]) == (texts["demo_2"], 0)
    assert done["usage"]["type"] == "duration" and done["usage"]["seconds"] in (3, 4)
    append(socket, pcm("demo_5"))
    tell(socket, "input_audio_buffer.commit")
    events = events_to(socket, f"{TRANSCRIPTION}completed")
    assert events[0]["audio_start_ms"] > 5000
    assert events[-3]["previous_item_id"] == item and events[-1]["transcript"]


def sent_as(form, wave):
    """Bytes of samples at 16 kHz in a format, and the samples that these stand for."""
    if form == "audio/pcm":
        sound = (resample(wave, 16000, 24000) * 32767).short().numpy()
        return sound.tobytes(), sound, 24000
    kind = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}[form]
    form, file = {"samplerate": 8000, "subtype": kind, "format": "RAW"}, io.BytesIO()
    soundfile.write(file, resample(wave, 16000, 8000).numpy(), **form)
    content = file.getvalue()
    sound, _ = soundfile.read(io.BytesIO(content), channels=1, dtype="int16", **form)
    return content, sound, 8000


@pytest.mark.parametrize("form", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_a_turn_that_the_client_ends_in_every_format(socket, model, form):
    wave = torch.from_numpy(soundfile.read(clip("demo_2"), dtype="float32")[0])
    content, sound, rate = sent_as(form, wave)
    (expected,) = model.generate(sound, fs=rate)
    updated = update(socket, format={"type": form}, turn_detection=None)
    assert updated["session"]["audio"]["input"]["turn_detection"] is None
    for _ in range(2):
        append(socket, content)
        tell(socket, "input_audio_buffer.commit")
        events = events_to(socket, f"{TRANSCRIPTION}completed")
        kinds = {event["type"] for event in events}
        assert "input_audio_buffer.committed" in kinds and len(kinds) == 4
        assert events[-1]["transcript"] == expected["text"]
        assert events[-1]["usage"] == {
            "type": "duration",
            "seconds": -(-len(wave) // 16000),
        }


def test_keywords_are_hotwords_and_deltas_are_words(socket, model):
    (wished,) = model.generate(str(clip("demo_5")), hotword=["对楼市"])
    asked = {
        "model": "gpt-live-transcribe",
        "language": "zh",
        "keywords": ["对楼市"],
        "prompt": "x",
    }
    form = {"type": "audio/pcm", "rate": 16000}
    found = update(socket, format=form, turn_detection=None, transcription=asked)
    assert found["session"]["audio"]["input"]["transcription"] == asked
    append(socket, pcm("demo_5"))
    tell(socket, "input_audio_buffer.commit")
    events = events_to(socket, f"{TRANSCRIPTION}completed")
    assert events[-1]["transcript"] == wished["text"]
    streamer = model.streamer()
    streamer.feed(soundfile.read(clip("demo_5"), dtype="float32")[0])
    streamer.flush()
    deltas = "".join(event.get("delta", "") for event in events)
    assert len(deltas) > 5 and streamer.text.startswith(deltas[:5])


@pytest.mark.parametrize(
    ("kind", "fields", "param", "code"),
    [
        ("response.create", {}, "type", "invalid_request"),
        ("input_audio_buffer.append", {"audio": "%%%"}, "audio", "invalid_request"),
        ("input_audio_buffer.commit", {}, None, "input_audio_buffer_commit_empty"),
        ("session.update", {"session": {"type": "realtime"}}, "session.type", "invalid_request"),
        ("session.update", {"session": 3}, "session", "invalid_request"),
    ],
)
def test_what_is_refused_is_an_error_that_leaves_the_sound(
    socket, texts, kind, fields, param, code
):
    update(socket, format={"type": "audio/pcm", "rate": 16000}, turn_detection=None)
    sound = pcm("demo_2")
    if kind != "input_audio_buffer.commit":
        append(socket, sound[:48000])
    tell(socket, kind, event_id="mine", **fields)
    events = events_to(socket, "error")
    error = events[-1]["error"]
    assert (error["param"], error["code"], error["event_id"]) == (param, code, "mine")
    assert error["type"] == "invalid_request_error" and error["message"]
    append(socket, sound[48000:] if kind != "input_audio_buffer.commit" else sound)
    tell(socket, "input_audio_buffer.commit")
    assert events_to(socket, f"{TRANSCRIPTION}completed")[-1]["transcript"] == texts["demo_2"]


def test_silence_that_is_committed_has_an_empty_text_and_clear_forgets(socket):
    append(socket, bytes(48000 * 2))
    tell(socket, "input_audio_buffer.commit")
    events = events_to(socket, f"{TRANSCRIPTION}completed")
    assert [event["type"].rpartition(".")[2] for event in events] == [
        "committed",
        "added",
        "completed",
    ]
    assert events[-1]["transcript"] == ""
    append(socket, pcm("demo_2"))
    tell(socket, "input_audio_buffer.clear")
    assert events_to(socket, "input_audio_buffer.cleared")
    tell(socket, "input_audio_buffer.commit")
    assert heard(socket)["error"]["code"] == "input_audio_buffer_commit_empty"


def test_who_vanishes_leaves_nothing(server):
    sessions = server.service.sessions
    with server.connect(ADDRESS) as found:
        heard(found)
        append(found, pcm("demo_2"))
    assert until(lambda: not sessions.open and not server.service.scheduler._backlog)


def test_an_unknown_model_and_the_end_of_the_server(served, texts):
    with running(served) as server:
        with server.connect(f"{ADDRESS}&model=tts-1") as found:
            assert heard(found)["error"]["code"] == "model_not_found"
        with server.connect(f"{ADDRESS}&model=whisper-1") as found:
            assert (
                heard(found)["session"]["audio"]["input"]["transcription"]["model"] == "whisper-1"
            )
            update(found, format={"type": "audio/pcm", "rate": 16000})
            append(found, pcm("demo_2"))
            events_to(found, f"{TRANSCRIPTION}delta")
            server.loop.call_soon_threadsafe(
                lambda: server.service.sessions._tell(server.service.sessions.flush)
            )
            done = events_to(found, f"{TRANSCRIPTION}completed")[-1]
            assert done["transcript"] == texts["demo_2"]
