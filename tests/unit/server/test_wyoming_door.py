"""The Wyoming protocol as Home Assistant speaks it."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager

import numpy as np
import pytest

from tests.serving import SECONDS, pcm, running, until, wyoming

from paraformer.server.wyoming_door import mono16  # isort: skip

FORM = {"rate": 16000, "width": 2, "channels": 1}


class Client:
    def __init__(self, sock):
        self.socket, self.file = sock, sock.makefile("rb")

    def tell(self, kind, payload=b"", behind=False, **data):
        """An event, whose data stand in the line or behind it."""
        content = json.dumps(data).encode() if behind else b""
        head = {"type": kind, "data": {} if behind else data, "data_length": len(content)}
        head["payload_length"] = len(payload)
        self.socket.sendall(json.dumps(head).encode() + b"\n" + content + payload)

    def heard(self):
        line = self.file.readline()
        event = json.loads(line) if line else {"type": "", "data": {}}
        return event["type"], event["data"]

    def said(self, sound, form=FORM, size=2047, **asked):
        """The events of a command."""
        self.tell("transcribe", behind=True, **asked)
        self.tell("audio-start", **form)
        for place in range(0, len(sound), size):
            self.tell("audio-chunk", sound[place : place + size], **form)
        self.tell("audio-stop")
        found = [self.heard()]
        while found[-1][0] not in ("transcript-stop", "error", ""):
            found.append(self.heard())
        return found


@contextmanager
def connected(port):
    """A client, which leaves behind this: its socket stays open as long as a file reads from it."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
        client = Client(sock)
        with client.file:
            yield client


@pytest.fixture
def client(server):
    with wyoming(server) as port, connected(port) as found:
        yield found


def test_a_description_says_what_there_is(client):
    client.tell("describe")
    kind, data = client.heard()
    (program,) = data["asr"]
    assert (kind, program["models"][0]["languages"]) == ("info", ["zh"])
    assert program["supports_transcript_streaming"] and program["models"][0]["installed"]
    client.tell("unheard-of")
    client.tell("ping", text="x")
    assert client.heard() == ("pong", {"text": "x"})


def test_a_command_has_words_while_it_is_said_and_the_text_of_the_model(client, texts):
    for _ in range(2):
        events = client.said(pcm("demo_2"), language="zh")
        kinds = [kind for kind, _ in events]
        assert kinds[0] == "transcript-start" and kinds[-2:] == ["transcript", "transcript-stop"]
        assert {*kinds[1:-2]} == {"transcript-chunk"} and len(kinds) > 4
        assert events[-2][1] == {"text": texts["demo_2"], "language": "zh"}
        words = "".join(data["text"] for _, data in events[1:-2])
        assert texts["demo_2"].startswith(words[:4]) and len(words) > 6


def test_names_and_terms_are_hotwords_and_other_forms_of_sound_are_heard(client, model, texts):
    from tests.serving import clip

    (wished,) = model.generate(str(clip("demo_5")), hotword=["对楼市"])
    events = client.said(pcm("demo_5"), transcript_names=["公园"], transcript_terms=["对楼市"])
    assert events[-2][1]["text"] == wished["text"]
    samples = np.frombuffer(pcm("demo_2"), dtype="<i2").astype("<i4")
    stereo = np.stack([samples, samples], axis=1) << 16
    events = client.said(stereo.tobytes(), {"rate": 16000, "width": 4, "channels": 2}, 8192)
    assert events[-2][1]["text"] == texts["demo_2"]


def test_no_sound_has_an_empty_text(client):
    client.tell("audio-stop")
    assert client.heard() == ("transcript", {"text": "", "language": "zh"})


@pytest.mark.parametrize(
    ("form", "asked"),
    [({**FORM, "rate": -1}, {}), ({**FORM, "width": 9}, {}), (FORM, {"language": "fr"})],
)
def test_what_cannot_be_heard_is_told(client, form, asked):
    client.tell("transcribe", **asked)
    client.tell("audio-start", **form)
    kind, data = client.heard()
    assert (kind, data["code"]) == ("error", "invalid_request")


@pytest.mark.parametrize("junk", [b"no json\n", b'{"type": 1, "data_length": 1e9}\n', b"[]\n"])
def test_what_is_no_event_ends_the_connection_and_who_vanishes_leaves_nothing(server, junk):
    scheduler = server.service.scheduler
    with wyoming(server) as port:
        with connected(port) as client:
            client.tell("audio-start", **FORM)
            client.tell("audio-chunk", pcm("demo_2"), **FORM)
            assert until(lambda: server.service.sessions.open)
            client.socket.sendall(junk)
            assert until(lambda: not server.service.sessions.open)
        with connected(port) as client:
            client.tell("audio-chunk", pcm("demo_2"), **FORM)
    assert until(lambda: not server.service.sessions.open and not scheduler._backlog)


def test_who_does_not_read_is_given_up(server, monkeypatch):
    """Pings come back until nothing fits between the two any more."""
    monkeypatch.setattr("paraformer.server.wyoming_door.SEND_SECONDS", 0.5)
    with wyoming(server) as port, connected(port) as client, pytest.raises(ConnectionError):
        for _ in range(2000):
            client.tell("ping", text="x" * 30_000)


def test_a_model_that_hears_no_streams_answers_behind_the_end(model, texts):
    from paraformer.api.service import ServedModel

    def load(before):
        found = ServedModel(model, before)
        found.deaf = "no streams"
        return found

    with running(load) as server, wyoming(server) as port, connected(port) as client:
        client.tell("describe")
        assert not client.heard()[1]["asr"][0]["supports_transcript_streaming"]
        client.tell("audio-chunk", pcm("demo_2"), **FORM)
        client.tell("audio-stop")
        assert client.heard() == ("transcript", {"text": texts["demo_2"], "language": "zh"})


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_any_width_has_its_upper_16_bits(width):
    samples = np.array([-128, 0, 1, 127]) << (8 * width - 8)
    content = b"".join(int(s).to_bytes(width, "little", signed=True) for s in samples)
    expected = samples >> (8 * width - 16) if width > 1 else samples << 8
    assert np.array_equal(np.frombuffer(mono16(content, width, 1), "<i2"), expected)
