"""Addresses of the web: what arrives whole is read; what does not is one clear error, soon."""

from __future__ import annotations

import http.server
import io
import threading
import time
import urllib.parse

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio import web
from paraformer.data.audio.read import count_channels, read_audio, read_channels
from paraformer.errors import AudioError

X = np.round(9000 * np.sin(np.arange(4800) * 0.05)).astype("<i2")
EXACT = torch.from_numpy(X.astype(np.float32) / 32768)


def wav(samples=X):
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Each path behaves in its own way."""

    protocol_version = "HTTP/1.1"
    over = threading.Event()

    def do_GET(self):  # noqa: N802
        self.close_connection = True
        path = urllib.parse.unquote(self.path.partition("?")[0])
        name = path.strip("/").replace("-", "_").replace("声 音", "sound") or "nothing"
        getattr(self, name, self.nothing)()

    def answer(self, body, length=None, code=200, **headers):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Transfer_Encoding" not in headers:
            self.send_header("Content-Length", len(body) if length is None else length)
        self.end_headers()
        self.wfile.write(body)

    def nothing(self):
        self.answer(b"<html>", code=404)

    def sound(self):
        self.answer(wav())

    def two(self):
        self.answer(wav(np.stack([X, -X // 2], 1)))

    def page(self):
        self.answer(b"<html>")

    def moved(self):
        self.answer(b"", code=302, Location="/sound?b=(1,2)")

    def to_file(self):
        self.answer(b"", code=302, Location="file:///etc/hostname")

    def to_ftp(self):
        self.answer(b"", code=301, Location="ftp://127.0.0.1/x.wav")

    def circle(self):
        self.answer(b"", code=302, Location="/circle")

    def claims_more(self):
        self.answer(wav()[:5000], 9644)

    def claims_less(self):
        self.answer(wav(), 44 + 2000)

    def claims_4_tb(self):
        self.answer(b"RIFF", 1 << 42)

    def no_length(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(wav())

    def chunks(self):
        content = wav()
        pieces = [content[:3000], content[3000:], b""]
        body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces)
        self.answer(body, Transfer_Encoding="chunked")

    def chunks_cut(self):
        self.answer(b"%x\r\n%s" % (9644, wav()[:5000]), Transfer_Encoding="chunked")

    def endless(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(bytes(1000))

    def silent(self):
        self.over.wait(20)

    def drips(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(1000):
            if self.over.wait(0.02):
                return
            self.wfile.write(b"R")

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that goes away is what is tested."""


@pytest.fixture(scope="module")
def root():
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Handler.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize(
    "path",
    ["sound", "sound?a=1,2&b=(x)", "moved", "no-length", "chunks", "声 音?词=%20 b", "%73ound#x"],
)
def test_what_arrives_is_read(root, path):
    assert torch.equal(read_audio(f"{root}/{path}"), EXACT)


def test_channels_of_an_address(root):
    both = read_channels(f"{root}/two")
    assert torch.equal(both[0], EXACT) and len(both) == count_channels(f"{root}/two") == 2
    assert torch.equal(read_audio(f"{root}/two", channel=1), both[1])


def test_an_answer_shorter_than_its_audio_gives_what_is_there(root, caplog):
    assert torch.equal(read_audio(f"{root}/claims-less"), EXACT[:1000])
    assert "cut off" in caplog.text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing.wav", "HTTP Error 404: Not Found"),
        ("page", "what came is no audio"),
        ("to-file", "Redirection to url 'file:///etc/hostname' is not allowed"),
        ("to-ftp", "it refers to ftp://127.0.0.1/x.wav, which is not of the web"),
        ("circle", "would lead to an infinite loop"),
        ("claims-more", "the connection ended after 5000 of 9644 bytes"),
        ("claims-4-tb", "4398046511104 bytes are more than the 2147483648 that are allowed"),
        ("chunks-cut", "the connection ended after"),
    ],
)
def test_what_does_not_arrive_is_one_clear_error(root, path, message):
    with pytest.raises(AudioError) as caught:
        read_audio(f"{root}/{path}")
    assert str(caught.value).startswith(f"{root}/{path}: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_answer_without_end_is_given_up(root, monkeypatch):
    monkeypatch.setattr(web, "MOST_BYTES", 100_000)
    with pytest.raises(AudioError, match="more than the 100000 bytes that are allowed"):
        read_audio(f"{root}/endless")


@pytest.mark.parametrize(("path", "message"), [("silent", "timed out"), ("drips", "too slow")])
def test_a_server_that_does_not_go_on_is_given_up(root, monkeypatch, path, message):
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 0.3)
    begun = time.monotonic()
    with pytest.raises(AudioError, match=message):
        read_audio(f"{root}/{path}")
    assert time.monotonic() - begun < 15


def test_no_server_at_all_is_one_clear_error():
    with pytest.raises(AudioError, match="check the address") as caught:
        read_audio("http://127.0.0.1:9/x.wav")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://", "https://[::1", "http://a b/x.wav", "http://x:port/"])
def test_an_address_that_is_none_is_one_clear_error(url):
    with pytest.raises(AudioError):
        read_audio(url)
