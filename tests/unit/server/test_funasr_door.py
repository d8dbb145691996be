"""FunASR's websocket protocol, as its clients speak it: texts are those of `generate`."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from socket import SHUT_RDWR

import numpy as np
import pytest
import soundfile

from paraformer.api.auto import AutoModel
from tests import wide
from tests.serving import CLIPS, SECONDS, clip, pcm, running, say, until, until_final

from websockets.exceptions import ConnectionClosed, InvalidStatus  # isort: skip
from paraformer.api.service import ServedModel  # isort: skip

SAMPLES = {name: pcm(name) for name in CLIPS}
PAUSE = bytes(2 * 16000)


def final_texts(messages):
    return [m["text"] for m in messages if m["mode"] == "2pass-offline"]


def test_offline_is_what_generate_says_utterance_after_utterance(server, texts):
    with server.connect() as socket:
        for name in CLIPS:
            (message,) = say(socket, SAMPLES[name], mode="offline", wav_name=name)
            assert (message["mode"], message["text"]) == ("offline", texts[name])
            assert (message["is_final"], message["wav_name"]) == (True, name)
            assert len(json.loads(message["timestamp"])) == len(message["words"])


def test_partials_of_online_joined_are_the_stream_of_generate(server, model):
    (expected,) = model.generate(str(clip("demo_2")), chunk_size=[5, 10, 5], cache=None)
    streamer = model.streamer(chunk_size=[5, 10, 5])
    streamer.feed(np.frombuffer(SAMPLES["demo_2"], "<i2"))
    streamer.flush()
    with server.connect() as socket:
        messages = say(socket, SAMPLES["demo_2"], mode="online", chunk_size=[5, 10, 5])
    assert {m["mode"] for m in messages} == {"online"} and len(messages) > 2
    assert "".join(m["text"] for m in messages) == streamer.text
    assert not any("timestamp" in m for m in messages)
    assert expected["text"]


def test_two_passes_give_sentences_with_times_from_the_start_of_the_utterance(server, texts):
    sound = SAMPLES["demo_2"] + PAUSE * 2 + SAMPLES["demo_4"]
    with server.connect() as socket:
        messages = say(socket, sound, wav_name="two")
    assert final_texts(messages) == [texts["demo_2"], texts["demo_4"]]
    assert [m["is_final"] for m in messages] == [False] * (len(messages) - 1) + [True]
    sentences = [m for m in messages if m["mode"] == "2pass-offline"]
    assert [m["index"] for m in sentences] == [0, 1]
    second = json.loads(sentences[1]["timestamp"])
    begin = 1000 * len(SAMPLES["demo_2"] + PAUSE * 2) / 32000
    assert begin < second[0][0] < second[-1][1] <= sentences[1]["end_time"]
    stamps = sentences[1]["stamp_sents"]
    assert [pair for part in stamps for pair in part["ts_list"]] == second
    assert "".join(p["text_seg"].replace(" ", "") + p["punc"] for p in stamps) == texts["demo_4"]


def test_partials_never_take_back_a_word(server):
    """Each is put behind those before it; a sentence takes the place of all of its segment."""
    with server.connect() as socket:
        messages = say(socket, SAMPLES["demo_5"] + PAUSE, size=700)
    partials = [m["text"] for m in messages if m["mode"] == "2pass-online"]
    assert len(partials) > 2 and all(partials)


@pytest.mark.parametrize(
    "hotwords",
    ['{"对楼市": 20}', '{"对楼市": "20"}', "公园 对楼市", "公园,对楼市", {"对楼市": 20}, ""],
)
def test_hotwords_of_every_spelling_are_heard(server, model, hotwords):
    (plain,) = model.generate(str(clip("demo_5")))
    (wished,) = model.generate(str(clip("demo_5")), hotword=["对楼市"])
    assert "对楼市" in wished["text"] and "对楼市" not in plain["text"]
    expected = wished["text"] if hotwords else plain["text"]
    with server.connect() as socket:
        (whole,) = say(socket, SAMPLES["demo_5"], mode="offline", hotwords=hotwords)
        *_, live = say(socket, SAMPLES["demo_5"], hotwords=hotwords)
    assert (whole["text"], live["text"]) == (expected, expected)


def test_a_hotword_is_never_a_file(server, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("公园\n", "utf-8")
    with server.connect() as socket:
        (message,) = say(socket, SAMPLES["demo_2"], mode="offline", hotwords=str(path))
        assert "error" not in message and message["text"]


@pytest.mark.parametrize("mode", ["offline", "online", "2pass"])
def test_another_rate_and_g711_are_heard(server, mode):
    """At 8 kHz, as telephones send it."""
    sound, _ = soundfile.read(clip("demo_2"), dtype="float32")
    half = sound[: len(sound) // 2 * 2].reshape(-1, 2).mean(1)
    found = []
    for form, code in (("pcm", "PCM_16"), ("PCMA", "ALAW"), ("mulaw", "ULAW")):
        file = io.BytesIO()
        soundfile.write(file, half, 8000, format="RAW", subtype=code)
        with server.connect() as socket:
            messages = say(
                socket, file.getvalue(), mode=mode, audio_fs=8000, wav_format=form, size=801
            )
        found.append("".join(m["text"] for m in messages if m["mode"] != "2pass-online"))
    assert all("窗户" in text for text in found)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "WAV"])
@pytest.mark.parametrize("mode", ["offline", "2pass"])
def test_a_file_is_known_by_its_content(server, model, tmp_path, kind, mode):
    sound, rate = soundfile.read(clip("demo_3"))
    path = tmp_path / "x"
    soundfile.write(path, np.stack([sound, sound], 1), rate, format=kind)
    with server.connect() as socket:
        messages = say(socket, path.read_bytes(), mode=mode, wav_format="others")
    assert messages[-1]["text"] == model.generate(str(path))[0]["text"] != ""


def test_one_frame_of_16_mib_is_taken(server):
    with server.connect() as socket:
        message = say(socket, bytes(16 << 20), size=16 << 20, mode="offline")[-1]
    assert (message["text"], message["is_final"]) == ("", True)


@pytest.mark.parametrize("path", ["/", "/ws", "/wss/", "/any/where"])
@pytest.mark.parametrize("protocols", [["binary"], None])
def test_any_path_and_with_or_without_the_subprotocol(server, path, protocols):
    with server.connect(path, subprotocols=protocols) as socket:
        assert socket.subprotocol == (protocols and "binary")
        (message,) = say(socket, b"")
    assert message == {
        "mode": "2pass-offline",
        "text": "",
        "wav_name": "microphone",
        "is_final": True,
    }


def test_the_end_is_said_once_more_only_to_whom_asks(server, texts):
    with server.connect() as socket:
        (message,) = say(socket, SAMPLES["demo_2"], mode="offline", end={"is_end": True})
        assert message["text"] == texts["demo_2"]
        told = json.loads(socket.recv(timeout=SECONDS))
        assert told == {
            "mode": "offline",
            "wav_name": "microphone",
            "is_final": True,
            "is_end": True,
        }
        say(socket, SAMPLES["demo_2"], mode="offline")
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.2)


def test_what_clients_do_wrong_leaves_the_connection_and_the_server_as_they_were(server, texts):
    with server.connect() as socket:
        socket.send("{half")
        (message,) = until_final(socket)
        assert message["error"]["code"] == "invalid_request"
        socket.send("[1]")
        (message,) = until_final(socket)
        assert "error" in message
        (message,) = say(socket, SAMPLES["demo_2"], mode="sideways", wav_name="w")
        assert (message["text"], message["is_final"]) == ("", True) and message["error"]["message"]
        (message,) = say(socket, b"id text of a list\n" * 99, mode="offline")
        assert "text, not audio" in message["error"]["message"]
        (message,) = say(socket, b"id text of a list\n" * 99, mode="2pass")
        assert "text, not audio" in message["error"]["message"]
        # Sound before any message, and half a sample.
        socket.send(SAMPLES["demo_3"] + b"\1")
        socket.send('{"is_speaking": false}')
        assert until_final(socket)[-1]["text"] == texts["demo_3"]
        (message,) = say(socket, SAMPLES["demo_2"], mode="offline", audio_fs="x")
        assert "audio_fs" in message["error"]["message"]
        (message,) = say(socket, SAMPLES["demo_2"], mode="offline")
        assert message["text"] == texts["demo_2"]


def test_clients_that_vanish_leave_nothing_behind(server):
    for mode in ("offline", "2pass", "online"):
        for ending in ("", '{"is_speaking": false}'):
            with server.connect() as socket:
                socket.send(json.dumps({"mode": mode}))
                socket.send(SAMPLES["demo_2"] * 3)
                if ending:
                    socket.send(ending)
                socket.socket.shutdown(SHUT_RDWR)  # without a word
    with server.connect() as socket:
        say(socket, SAMPLES["demo_2"])
    wait = threading.Event()
    for _ in range(600):
        scheduler = server.service.scheduler
        left = server.service.sessions.open, scheduler._backlog, len(scheduler._recordings)
        if left == (0, 0, 0):
            return
        wait.wait(0.05)
    assert left == (0, 0, 0)


def test_who_does_not_read_is_given_up(served, monkeypatch, texts):
    """Its session ends, though not even the word that it is closed gets through."""
    monkeypatch.setattr("paraformer.server.connection.SEND_SECONDS", 0.5)
    with running(served) as server, server.connect(max_queue=1) as deaf:
        deaf.send(json.dumps({"mode": "2pass", "wav_name": "x" * (1 << 19)}))
        for _ in range(40):
            deaf.send("{half")  # each is answered by the name
        assert until(lambda: server.service.sessions.open)
        assert until(lambda: not server.service.sessions.open)
        with server.connect() as socket:
            assert say(socket, SAMPLES["demo_2"])[-1]["text"] == texts["demo_2"]
        deaf.socket.shutdown(SHUT_RDWR)


def test_a_message_has_a_limit_and_no_sound_is_none(server):
    with server.connect() as socket:
        socket.send(json.dumps({"wav_name": "x" * (1 << 20)}))
        (message,) = until_final(socket)
        assert "longer than 1048576 characters" in message["error"]["message"]
        for mode in ("offline", "online", "2pass"):
            socket.send(json.dumps({"mode": mode}))
            socket.send(b"")
            socket.send(b"\1")
            socket.send('{"is_speaking": false}')
            assert until_final(socket)[-1]["text"] == ""


def test_surplus_sessions_are_refused_at_once_and_the_rest_complete(server, texts):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(server.connect()) for _ in range(20)]
        for socket in sockets:
            socket.send(json.dumps({"mode": "2pass"}))
            socket.send(SAMPLES["demo_2"])
        for socket in sockets:  # each is counted once it has been answered
            assert json.loads(socket.recv(timeout=SECONDS))["mode"] == "2pass-online"
        with server.service.scheduler._turns.streams():  # nothing is computed meanwhile
            for _ in range(20):
                with server.connect() as surplus, pytest.raises(ConnectionClosed) as refused:
                    surplus.recv(timeout=SECONDS)
                told = refused.value.rcvd
                assert told.code == 1013 and "max_sessions" in told.reason
        for socket in sockets:
            socket.send('{"is_speaking": false}')
            assert until_final(socket)[-1]["text"] == texts["demo_2"]


def test_who_sends_more_than_may_wait_is_told_so(served):
    with running(served, max_backlog_s=5) as server, server.connect() as socket:
        socket.send(json.dumps({"mode": "2pass"}))
        socket.send(bytes(32000 * 30))
        (message,) = until_final(socket)
        assert message["error"]["code"] == "busy"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=SECONDS)
        assert closed.value.rcvd.code == 1013


def test_who_is_silent_gets_what_was_heard_and_is_closed(served, texts):
    with running(served, idle_s=2) as server, server.connect() as socket:
        socket.send(json.dumps({"mode": "2pass"}))
        socket.send(SAMPLES["demo_2"])
        assert until_final(socket)[-1]["text"] == texts["demo_2"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=SECONDS)
        assert closed.value.rcvd.code == 1008


def test_a_token_is_asked_for_in_either_spelling(served):
    with running(served, token="k") as server:
        for spelling in ("Bearer k", "Bearer; k", "bearer k"):
            headers = {"Authorization": spelling}
            with server.connect(additional_headers=headers) as socket:
                assert say(socket, b"")[-1]["is_final"]
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "k"}):
            with pytest.raises(InvalidStatus) as refused:
                server.connect(additional_headers=headers)
            assert refused.value.response.status_code == 401


def test_a_page_of_another_site_may_not_call(server):
    own = f"http://127.0.0.1:{server.port}"
    with server.connect(origin=own) as socket:
        assert say(socket, b"")[-1]["is_final"]
    with pytest.raises(InvalidStatus) as refused:
        server.connect(origin="https://evil.org")
    assert refused.value.response.status_code == 403


def test_digits_where_they_are_wished(server, model):
    """The words are the same with `itn` as `generate` gives them with it."""
    (expected,) = model.generate(str(clip("demo_5")), itn=True)
    with server.connect() as socket:
        (message,) = say(socket, SAMPLES["demo_5"], mode="offline", itn=True)
        live = say(socket, SAMPLES["demo_5"], itn=True)
    assert message["text"] == expected["text"]
    assert [w["text"] for w in live[-1]["words"]] == [w["text"] for w in message["words"]]


def test_models_of_real_widths_say_what_generate_says(tmp_path):
    """512 wide, 8,404 tokens, random weights."""
    whole, streaming = (str(wide.write(tmp_path / name, name)) for name in ("sanm", "streaming"))
    usual = {"vad_model": "fsmn-vad-mini", "disable_pbar": True}
    (expected,) = AutoModel(whole, **usual).generate(str(clip("demo_2")))
    model = AutoModel(streaming, second_pass=whole, **usual)
    streamer = model.streamer(chunk_size=[5, 10, 5])
    streamer.feed(np.frombuffer(SAMPLES["demo_2"], "<i2"))
    streamer.flush()
    with running(lambda before: ServedModel(model, before)) as server, server.connect() as socket:
        (offline,) = say(socket, SAMPLES["demo_2"], mode="offline")
        live = say(socket, SAMPLES["demo_2"])
        online = say(socket, SAMPLES["demo_2"], mode="online", chunk_size=[5, 10, 5])
    assert offline["text"] == "".join(final_texts(live)) == expected["text"] != ""
    assert [word["text"] for word in offline["words"]]
    assert "".join(message["text"] for message in online) == streamer.text != ""
