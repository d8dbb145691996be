"""`funasr client`: a list over many connections becomes the lines and the exit code of `funasr`."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import soundfile

from paraformer.api.auto import AutoModel
from paraformer.cli.main import main
from tests.serving import CLIPS, MODELS, clip, running

from websockets.exceptions import ConnectionClosed  # isort: skip
from websockets.sync.server import serve  # isort: skip
from paraformer.api.service import ServedModel  # isort: skip


@pytest.fixture(scope="module")
def model():
    return AutoModel("paraformer-zh-mini", **MODELS)


@pytest.fixture(scope="module")
def server(model):
    with running(lambda before: ServedModel(model, before), token="k", max_sessions=4) as found:
        yield found


@pytest.fixture
def client(server, capsys, monkeypatch):
    """The exit code, the lines and the errors of the command."""
    monkeypatch.setenv("FUNASR_TOKEN", "k")

    def ask(*arguments, url=f"ws://127.0.0.1:{server.port}"):
        code = main(["client", url, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return ask


@pytest.fixture
def listed(tmp_path):
    """A list of clips: as they are, at another rate in two channels, and three times over."""
    wave, _ = soundfile.read(clip("demo_2"))
    soundfile.write(
        tmp_path / "two.flac", np.stack([np.repeat(wave, 3), 0 * np.repeat(wave, 3)], 1), 48000
    )
    lines = [f"{name}_{turn} {clip(name)}\n" for turn in range(3) for name in CLIPS]
    (tmp_path / "wav.scp").write_text("".join(lines) + f"two {tmp_path / 'two.flac'}\n", "utf-8")
    return tmp_path / "wav.scp"


def test_a_list_has_the_lines_of_funasr_in_order(client, model, listed):
    expected = [f"{r['key']} {r['text']}" for r in model.generate(str(listed))]
    code, lines, _ = client(listed, "+connections=3")
    assert (code, lines) == (0, expected) and len(lines) == 16


def test_words_and_times_are_those_of_funasr(client, model):
    (expected,) = model.generate(str(clip("demo_3")))
    code, (line,), _ = client(clip("demo_3"), "+output_format=json")
    found = json.loads(line)
    keys = ("key", "text", "words", "timestamp", "audio_seconds")
    assert code == 0 and {k: found[k] for k in keys} == {k: expected[k] for k in keys}


def test_streams_say_the_words_of_the_model(client, model):
    (whole,) = model.generate(str(clip("demo_2")))
    assert client(clip("demo_2"), "+mode=2pass")[:2] == (0, [whole["text"]])
    streamer = model.streamer(chunk_size=[5, 10, 5])
    streamer.feed(soundfile.read(clip("demo_3"), dtype="float32")[0])
    streamer.flush()
    assert client(clip("demo_3"), "+mode=online")[:2] == (0, [streamer.text])


def test_hotwords_of_the_client_are_heard(client, model):
    (expected,) = model.generate(str(clip("demo_5")), hotword="对楼市")
    assert client(clip("demo_5"), "+hotword=对楼市")[1] == [expected["text"]]


def test_what_fails_costs_no_other_and_counts(client, listed, tmp_path, caplog):
    with listed.open("a", encoding="utf-8") as file:
        file.write("gone /nowhere/x.wav\n")
    code, lines, err = client(listed, "+min_success=0.9")
    assert (code, len(lines), lines[-1]) == (0, 17, "gone")
    assert "'gone': /nowhere/x.wav: No such file" in caplog.text
    assert "recognised 16 of 17 utterances" in err
    assert client(listed, "+min_success=0.99", "+output_dir=" + str(tmp_path / "out"))[0] == 1
    table = (tmp_path / "out" / "1best_recog" / "text").read_text("utf-8").splitlines()
    assert table[0].startswith("asr_example_0 ") and len(table) == 17
    assert client(listed, "+strict=true")[0] == 1
    assert client("/nowhere/x.wav")[:2] == (1, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no input; give audio files"),
        (["x.wav", "+nbest=2"], "client: nbest is of the server; give it to funasr serve"),
        (["x.wav", "+tokn=2"], "client: unknown key 'tokn'; did you mean 'token'?"),
        (["x.wav", "+mode=twice"], "mode=twice: not known; use offline, 2pass, online"),
        ([clip("demo_2"), "+token=wrong"], "ws://127.0.0.1:"),
        (["x.wav", "+output_format=srt", "y.wav"], "output_format=srt: is a file for each"),
    ],
)
def test_what_cannot_be_asked_is_a_line(client, arguments, message):
    code, lines, err = client(*arguments)
    assert (code, lines) == (1, []) and err.startswith(f"funasr: {message}")
    assert err.count("\n") == 1


def test_no_server_is_a_line(client):
    for url in ("ws://127.0.0.1:9", "x.wav"):
        code, _, err = client(clip("demo_2"), url=url)
        assert code == 1 and err.count("\n") == 1
    assert "name the server first" in err


@contextmanager
def other_server(answer):
    """A server of the protocol that answers each utterance by a function of its number."""
    count = []

    def handle(socket):
        with suppress(ConnectionClosed):
            for frame in socket:
                if isinstance(frame, str) and json.loads(frame).get("is_speaking") is False:
                    count.append(frame)
                    answer(socket, len(count))

    with serve(handle, "127.0.0.1", 0) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{found.socket.getsockname()[1]}"
        found.shutdown()


def test_a_server_of_funasr_marks_no_message_as_the_last(client):
    """And its times have no words beside them."""

    def answer(socket, number):
        said = {"mode": "offline", "text": "你好", "timestamp": "[[0,5],[5,9]]"}
        socket.send(json.dumps({**said, "wav_name": "x", "is_final": False}))

    with other_server(answer) as url:
        code, (line,), _ = client(clip("demo_2"), "+output_format=json", url=url)
    found = json.loads(line)
    assert (code, found["text"], found["timestamp"]) == (0, "你好", [[0, 5], [5, 9]])


def test_a_server_without_room_is_asked_again_and_a_broken_one_is_told(client, monkeypatch, caplog):
    monkeypatch.setattr("paraformer.server.client.WAITS", (0.01, 0.01))

    def answer(socket, number):
        if number < 3:
            socket.close(1013, "full")
        elif number == 3:
            socket.send('{"mode": "offline", "text": "好", "is_final": true}')
        else:
            socket.close(1011, "broken")

    with other_server(answer) as url:
        assert client(clip("demo_2"), url=url)[:2] == (0, ["好"])
        assert client(clip("demo_2"), url=url)[:2] == (1, [])
    assert "the server has gone (broken)" in caplog.text


def test_the_help_lists_the_keys(capsys):
    assert main(["client", "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Recognise by a server") and "  connections=4 " in printed
