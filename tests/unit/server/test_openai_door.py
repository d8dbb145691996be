"""OpenAI's audio API: forms as its clients send them, answers as they read them."""

from __future__ import annotations

import http.client
import json
import socket
import threading

import numpy as np
import pytest
import soundfile

from tests import tiny
from tests.serving import CLIPS, MODELS, clip, running, until

SOUNDS = {name: clip(name).read_bytes() for name in CLIPS}


def form(content):
    """A file as a form with this border."""
    head = b'--border\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'
    return head + content + b"\r\n--border--\r\n"


def events(content):
    lines = content.decode().split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("name", CLIPS)
def test_the_text_is_that_of_generate(server, texts, name):
    found = server.upload(SOUNDS[name], model="whisper-1")
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert found.json["text"] == texts[name]
    assert found.json["usage"]["type"] == "duration"


def test_text_is_bare(server, texts):
    found = server.upload(SOUNDS["demo_2"], response_format="text")
    assert found.headers["content-type"] == "text/plain; charset=utf-8"
    assert found.content.decode() == texts["demo_2"] + "\n"


@pytest.mark.parametrize(("kind", "head"), [("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n")])
def test_subtitles_are_those_of_the_command(server, model, kind, head):
    from paraformer.output.timed_formats import format_timed

    (result,) = model.generate(str(clip("demo_2")))
    found = server.upload(SOUNDS["demo_2"], model="whisper-1", response_format=kind)
    assert found.content.decode() == format_timed(result, kind)
    assert found.content.decode().startswith(head)
    assert found.headers["content-type"].startswith("text/plain")


def test_verbose_json_has_all_keys_and_the_times_of_the_model(server, model):
    (result,) = model.generate(str(clip("demo_3")), sentence_timestamp=True)
    found = server.upload(SOUNDS["demo_3"], response_format="verbose_json").json
    assert (found["task"], found["language"]) == ("transcribe", "chinese")
    assert found["duration"] == result["audio_seconds"] and "words" not in found
    pairs = [(part["start"], part["end"], part["text"]) for part in found["segments"]]
    expected = result["sentence_info"]
    assert pairs == [(s["start"] / 1000, s["end"] / 1000, s["text"]) for s in expected]
    keys = {"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob"}
    keys |= {"compression_ratio", "no_speech_prob"}
    assert all({*part} == keys for part in found["segments"])
    assert all(part["avg_logprob"] < 0 for part in found["segments"])


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
def test_granularities_with_and_without_brackets(server, model, name):
    (result,) = model.generate(str(clip("demo_3")))
    words = [(w["text"], w["start"] / 1000, w["end"] / 1000) for w in result["words"]]
    found = server.upload(SOUNDS["demo_3"], response_format="verbose_json", **{name: "word"}).json
    assert [(w["word"], w["start"], w["end"]) for w in found["words"]] == words
    assert "segments" not in found
    both = {name: ["word", "segment"]}
    found = server.upload(SOUNDS["demo_3"], response_format="verbose_json", **both).json
    assert len(found["words"]) == len(words) and found["segments"]


def test_a_stream_of_events_whose_deltas_are_the_text(server, texts):
    found = server.upload(SOUNDS["demo_3"], model="gpt-transcribe", stream="true")
    assert found.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events(found.content)
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert len(deltas) == sum(texts["demo_3"].count(mark) for mark in "，。") > 1
    assert "".join(event["delta"] for event in deltas) == done["text"] == texts["demo_3"]
    assert done["type"] == "transcript.text.done"


@pytest.mark.parametrize("name", ["keywords[]", "keywords"])
def test_keywords_are_hotwords(server, model, name):
    (wished,) = model.generate(str(clip("demo_5")), hotword=["对楼市"])
    found = server.upload(SOUNDS["demo_5"], **{name: ["公园", "对楼市"]})
    assert found.json["text"] == wished["text"] and "对楼市" in found.json["text"]


def test_logprobs_on_request(server, texts):
    found = server.upload(SOUNDS["demo_2"], **{"include[]": "logprobs"}).json
    spelled = b"".join(bytes(part["bytes"]) for part in found["logprobs"]).decode()
    assert spelled == texts["demo_2"].strip("。") and found["logprobs"][0]["logprob"] <= 0


def test_who_speaks(model, tmp_path, monkeypatch):
    """Two voices, each of which says its own sentences."""
    pytest.importorskip("sklearn", reason="clustering is an extra: pip install scikit-learn scipy")
    from paraformer.api import diarization
    from paraformer.api.auto import AutoModel
    from paraformer.api.service import ServedModel
    from paraformer.models.release import save_directory

    voices = str(save_directory(tmp_path / "voices", tiny.voices()))
    two = AutoModel("paraformer-zh-mini", spk_model=voices, **MODELS)
    monkeypatch.setattr(
        diarization, "cluster", lambda rows, bounds: np.arange(len(rows)) * 2 // max(1, len(rows))
    )
    (expected,) = two.generate(str(clip("demo_4")))
    told = [("AB"[s["spk"]], s["text"], s["start"] / 1000) for s in expected["sentence_info"]]
    assert {speaker for speaker, *_ in told} == {"A", "B"}
    content = SOUNDS["demo_4"]
    with running(lambda before: ServedModel(two, before)) as server:
        found = server.upload(content, response_format="diarized_json").json
        assert [(s["speaker"], s["text"], s["start"]) for s in found["segments"]] == told
        assert found["segments"][0]["id"] == "seg_001"
        assert (found["text"], found["duration"]) == (expected["text"], expected["audio_seconds"])
        told_events = events(
            server.upload(content, response_format="diarized_json", stream="true").content
        )
        kinds = [event["type"] for event in told_events]
        assert kinds.count("transcript.text.segment") == len(told)
        assert server.upload(content).json["text"] == expected["text"]
        segments = server.upload(content, response_format="verbose_json").json["segments"]
        assert "".join(part["text"] for part in segments) == expected["text"]


@pytest.mark.parametrize(
    ("content", "fields", "status", "param"),
    [
        (b"\0" * 3000, {}, 400, "file"),
        (b"", {}, 400, "file"),
        (b"id text of a list\n", {}, 400, "file"),
        (b"RIFF\0\0\0\0WAVEfmt ", {}, 400, "file"),
        (None, {}, 400, "file"),
        (SOUNDS["demo_2"], {"model": "tts-1"}, 404, "model"),
        (SOUNDS["demo_2"], {"language": "fr"}, 400, "language"),
        (SOUNDS["demo_2"], {"languages[]": ["zh", "tlh"]}, 200, None),
        (SOUNDS["demo_2"], {"languages[]": ["tlh"]}, 400, "language"),
        (SOUNDS["demo_2"], {"response_format": "diarized_json"}, 400, "response_format"),
        (SOUNDS["demo_2"], {"known_speaker_names[]": "x"}, 400, "known_speaker_names"),
        (
            SOUNDS["demo_2"],
            {"timestamp_granularities[]": "word"},
            400,
            "timestamp_granularities",
        ),
    ],
)
def test_faults_have_the_status_and_the_form_that_clients_read(
    server, content, fields, status, param
):
    found = server.upload(content, **{"model": "whisper-1", **fields})
    assert found.status == status
    if status == 200:
        return
    error = found.json["error"]
    assert {*error} == {"message", "type", "param", "code"}
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert error["message"] and "/tmp" not in error["message"]


@pytest.mark.parametrize("name", ["x.scp", "x.txt", "x.jsonl", "../../x.wav", "a | b"])
def test_the_name_of_an_upload_is_never_looked_at(server, texts, name):
    assert server.upload(SOUNDS["demo_2"], name=name).json["text"] == texts["demo_2"]


@pytest.mark.parametrize("language", ["zh", "zh-CN", "Chinese", "auto", ""])
def test_a_language_that_the_model_knows(server, texts, language):
    found = server.upload(SOUNDS["demo_2"], language=language)
    assert found.json["text"] == texts["demo_2"]


def test_silence_and_no_samples_have_an_empty_text(server, tmp_path):
    for samples in (np.zeros(0), np.zeros(16000)):
        soundfile.write(tmp_path / "x.wav", samples, 16000)
        found = server.upload((tmp_path / "x.wav").read_bytes())
        assert (found.status, found.json["text"]) == (200, "")


def test_large_uploads_lie_in_a_file_that_goes_with_them(server, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sound, rate = soundfile.read(clip("demo_2"))
    soundfile.write(tmp_path / "x.wav", np.concatenate([sound, np.zeros(rate * 60)]), rate)
    content = (tmp_path / "x.wav").read_bytes()
    assert len(content) > 1 << 20
    assert server.upload(content).json["text"] == texts["demo_2"]
    assert server.upload(b"\0" * (2 << 20)).status == 400
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


def test_models_are_listed_by_all_names(server):
    found = server.ask("/v1/models").json
    assert found["object"] == "list"
    names = [model["id"] for model in found["data"]]
    assert names[0] == "paraformer-zh-mini" and "whisper-1" in names
    assert all({*model} == {"id", "object", "created", "owned_by"} for model in found["data"])
    assert server.ask("/v1/models/whisper-1").json == found["data"][names.index("whisper-1")]
    missing = server.ask("/v1/models/x/y")
    assert (missing.status, missing.json["error"]["code"]) == (404, "model_not_found")


def test_translation_is_refused(server):
    found = server.upload(SOUNDS["demo_2"], path="/v1/audio/translations")
    assert (found.status, found.json["error"]["code"]) == (400, "not_supported")


def test_limits_and_token(served, texts):
    options = {"token": "k", "max_upload_mb": 1, "max_seconds": 1, "names": ["mine"]}
    with running(served, **options) as server:
        assert server.upload(SOUNDS["demo_2"]).status == 401
        assert server.ask("/health").status == 200
        key = {"Authorization": "Bearer k"}
        found = server.upload(bytes(4 << 20), key)
        assert (found.status, found.json["error"]["code"]) == (413, "too_large")
        found = server.upload(SOUNDS["demo_2"], key, model="mine")
        assert found.json["text"] == texts["demo_2"]  # a minute is read before it is counted


def test_recordings_that_find_no_room_are_refused_at_once(server, texts):
    """So many wait while a stream has the turn; the others are decoded."""
    scheduler, found = server.service.scheduler, []
    threads = [
        threading.Thread(target=lambda: found.append(server.upload(SOUNDS["demo_2"])))
        for _ in range(12)
    ]
    with scheduler._turns.streams():
        threads[0].start()  # the one that is next has left the queue
        until(lambda: scheduler._group)
        for thread in threads[1:]:
            thread.start()
        until(lambda: len(found) >= 3)
        refused = list(found)
        assert {answer.status for answer in refused} == {429}
        assert int(refused[0].headers["retry-after"]) >= 1
        assert refused[0].json["error"]["type"] == "rate_limit_error"
        # Whoever asks is answered while nothing is computed.
        assert server.ask("/health").json == {"status": "ok"}
    for thread in threads:
        thread.join()
    assert [a.json["text"] for a in found if a.status == 200] == [texts["demo_2"]] * 9


def test_the_work_for_a_client_that_vanishes_ends(server, texts):
    """Whether its recording waits or is decoded; what stands behind it is answered."""
    scheduler = server.service.scheduler
    decoded = scheduler.metrics.audio.labels("recording")

    def sent():
        body = form(SOUNDS["demo_2"])
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        kind = {"Content-Type": "multipart/form-data; boundary=border"}
        connection.request("POST", "/v1/audio/transcriptions", body, kind)
        return connection

    before = decoded._value.get()
    with scheduler._turns.streams():
        first = sent()
        assert until(lambda: scheduler._group)
        second = sent()
        assert until(lambda: scheduler._recordings)
        second.close()
        assert until(lambda: not scheduler._recordings)
        first.close()
        assert until(lambda: not server.service.sessions.open)
    assert until(lambda: not scheduler._group)
    assert decoded._value.get() == before
    half = half_sent(server)
    assert until(lambda: server.service.sessions.open)
    half.close()
    assert until(lambda: not server.service.sessions.open)
    assert server.upload(SOUNDS["demo_2"]).json["text"] == texts["demo_2"]


def half_sent(server):
    """A connection with the beginning of an upload."""
    found = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    found.sendall(b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n")
    found.sendall(b"Content-Type: multipart/form-data; boundary=border\r\n\r\n--border\r\n")
    return found


def test_who_does_not_send_the_rest_is_given_up(served):
    with running(served, idle_s=1) as server, half_sent(server) as stalled:
        answer = stalled.makefile("rb").read()  # to the end of the connection
        assert answer.startswith(b"HTTP/1.1 408 ") and b"no more of the request" in answer
        assert not server.service.sessions.open
