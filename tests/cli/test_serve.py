"""`funasr serve` in a process of its own: it begins, serves, and ends in good order."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket

import pytest

from paraformer.cli.main import main
from paraformer.options import ServeOptions
from tests.serving import clip, pcm, started, until_final

from websockets.exceptions import ConnectionClosed  # isort: skip
from websockets.sync.client import connect  # isort: skip

from paraformer.server.run import _bound, serve  # isort: skip

pytestmark = pytest.mark.cli
assert serve and ServeOptions
UPLOAD = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_sigterm_in_the_middle_gives_the_final_and_ends_well():
    """Who is between two utterances is closed at once, who speaks when the time is up, nobody new
    comes in, and an upload of which the rest comes is answered.
    """
    with (
        started("+drain_s=15") as (process, port, _),
        socket.create_connection(("127.0.0.1", port), 60) as uploading,
    ):
        address = f"ws://127.0.0.1:{port}"
        upload = b"--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n"
        upload += clip("demo_2").read_bytes() + b"\r\n--b--\r\n"
        uploading.sendall(UPLOAD % len(upload) + upload[:999])
        with connect(address) as speaking, connect(address) as ending, connect(address) as idle:
            for each in (speaking, ending):
                each.send(json.dumps({"mode": "2pass"}))
                each.send(pcm("demo_2"))
                assert json.loads(each.recv(timeout=60))["text"]
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                idle.recv(timeout=60)
            assert closed.value.rcvd.code == 1012
            with connect(address) as late, pytest.raises(ConnectionClosed) as closed:
                late.recv(timeout=60)
            assert closed.value.rcvd.code == 1013
            uploading.sendall(upload[999:])
            answer = uploading.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 200") and "窗户关上" in answer.decode()
            with contextlib.suppress(ConnectionClosed):  # the time is up on a busy machine
                ending.send('{"is_speaking": false}')
            assert until_final(ending)[-1]["text"] == "请把窗户关上外面的风太大了。"
            assert until_final(speaking)[-1]["text"] == "请把窗户关上外面的风太大了。"
        assert process.wait(60) == 0
        log = process.stderr.read()
    assert "Traceback" not in log and "窗户" not in log
    assert len(re.findall("door=funasr mode=2pass outcome=ok", log)) == 2


def test_a_model_that_is_not_there_ends_the_server_with_a_line():
    with started("+model=/nowhere/at/all", ready=False) as (process, port, lines):
        lines += process.stderr
        assert port and process.wait(60) == 1
    assert lines[-1].startswith(
        "funasr: model '/nowhere/at/all': no such directory"
    ) and "Traceback" not in "".join(lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["+host=0.0.0.0"], "host=0.0.0.0: other machines reach it; give token=..."),
        (["+host=0.0.0.0", "+token=k", "+wyoming=true"], "wyoming: knows no token, and other"),
        (["+prot=1"], "serve: unknown key 'prot'; did you mean 'port'?"),
        (["+port=99999"], "port=99999: give a whole number from 0 to 65535"),
        (["x.wav"], "serve: write `funasr serve [+model=NAME +port=10095 ...]`"),
        (["+output_dir=x"], "serve: output_dir belongs to recordings that are named"),
        (["+certfile=nowhere.pem"], "nowhere.pem: no such file; give certificate and key"),
        (["+host=256.1.1.1", "+insecure=true"], "256.1.1.1:10095: "),
    ],
)
def test_what_cannot_be_served_is_a_line(options, message, capsys):
    assert main(["serve", *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"funasr: {message}")


def test_a_port_that_is_taken_is_a_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", f"+port={taken.getsockname()[1]}"]) == 1
    assert "Address already in use; give host=, port=" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone has it")
def test_the_system_gives_up_who_does_not_read(monkeypatch):
    """Also where nobody waits for what was written."""
    monkeypatch.setattr("paraformer.server.run.SEND_SECONDS", 0.5)
    with _bound("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            accepted.settimeout(60)
            with accepted, pytest.raises(OSError) as error:
                while True:
                    accepted.sendall(bytes(1 << 20))
    assert error.value.errno == errno.ETIMEDOUT


def test_the_help_lists_the_keys(capsys):
    assert main(["serve", "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Serve recognition") and "  port=10095 " in printed
