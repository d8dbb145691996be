"""A server of the bundled models, in a thread of the tests or a process of its own, and clients
that speak to it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
import wave
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from paraformer.hub.directories import BUNDLED
from paraformer.options import ServeOptions

for package in ("starlette", "python_multipart", "uvicorn", "websockets", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")

from websockets.sync.client import connect  # noqa: E402

from paraformer.server.app import Service  # noqa: E402
from paraformer.server.run import _config  # noqa: E402
from paraformer.server.web import uvicorn  # noqa: E402

EXAMPLE = BUNDLED / "paraformer-zh-mini" / "example"
CLIPS = ("asr_example", "demo_2", "demo_3", "demo_4", "demo_5")
MODELS = {"vad_model": "fsmn-vad-mini", "punc_model": "ct-punc-mini", "disable_pbar": True}
SECONDS = 60  # until a test that hangs fails


def clip(name):
    return EXAMPLE / f"{name}.wav"


def pcm(name):
    """The samples of a clip: 16 kHz, 16 bits."""
    with wave.open(str(clip(name))) as file:
        return file.readframes(file.getnframes())


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self):
        return json.loads(self.content)


class Running:
    """A server that runs, and simple clients of it."""

    def __init__(self, service, port, timeout=SECONDS):
        self.service, self.port, self.timeout = service, port, timeout

    def ask(self, path, method="GET", body=None, headers=()):
        """One request by HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            connection.request(method, path, body, dict(headers))
            found = connection.getresponse()
            named = {name.lower(): value for name, value in found.getheaders()}
            return Answered(found.status, named, found.read())
        finally:
            connection.close()

    def upload(self, content, headers=(), name="x.wav", path="/v1/audio/transcriptions", **fields):
        """A form with a file, as the clients of OpenAI send it; of a list, each of its values."""
        border = uuid.uuid4().hex
        parts = []
        for field, values in fields.items():
            for value in values if isinstance(values, list) else [values]:
                head = f'Content-Disposition: form-data; name="{field}"\r\n\r\n'
                parts.append(f"--{border}\r\n{head}{value}\r\n".encode())
        if content is not None:
            head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
            kind = "Content-Type: application/octet-stream\r\n\r\n"
            parts.append(f"--{border}\r\n{head}{kind}".encode() + content + b"\r\n")
        parts.append(f"--{border}--\r\n".encode())
        kind = {"Content-Type": f"multipart/form-data; boundary={border}"}
        return self.ask(path, "POST", b"".join(parts), {**kind, **dict(headers)})

    def connect(self, path="/", **more):
        """A connection by websocket."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", max_size=None, **more)


def say(socket, content, size=1920, end=None, **start):
    """An utterance in blocks of so many bytes; returns its messages, to the last."""
    socket.send(json.dumps({"mode": "2pass", "is_speaking": True, **start}))
    for place in range(0, len(content), size):
        socket.send(content[place : place + size])
    socket.send(json.dumps({"is_speaking": False, **(end or {})}))
    return until_final(socket)


def until_final(socket):
    messages = []
    while not messages or not messages[-1]["is_final"]:
        messages.append(json.loads(socket.recv(timeout=SECONDS)))
    return messages


@contextmanager
def wyoming(server):
    """The port at which a server speaks Wyoming."""
    door = asyncio.start_server(server.service.wyoming.serve, "127.0.0.1", 0)
    found = asyncio.run_coroutine_threadsafe(door, server.loop).result(SECONDS)
    try:
        yield found.sockets[0].getsockname()[1]
    finally:
        server.loop.call_soon_threadsafe(found.close)


def until(done):
    """Wait until something is so; whether it came to be."""
    end = time.monotonic() + SECONDS
    while not (found := done()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(found)


@contextmanager
def started(*options, ready=True, limit_s=120):
    """A server in a process of its own, the port that it has said, and its lines so far; it is
    killed behind so many seconds.
    """
    command = [sys.executable, "-m", "paraformer", "serve", "+port=0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as process:
        watch = threading.Timer(limit_s, process.kill)
        watch.start()
        lines = []
        try:
            for line in process.stderr:
                lines.append(line)
                if line == "funasr serve: ready\n" or (not ready and "listening" in line):
                    break
            found = re.search(r"listening on \w+://\S+:(\d+)", "".join(lines))
            yield process, int(found[1]) if found else 0, lines
        finally:
            watch.cancel()
            process.kill()


@contextmanager
def running(load, **options):
    """A server, once it is ready; load: see `Scheduler`."""
    options = ServeOptions(port=0, **options)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        place = {}

        async def serve():
            service = Service(load, options)
            place.update(service=service, loop=asyncio.get_running_loop())
            place["server"] = server = uvicorn.Server(_config(service, options))
            work = asyncio.create_task(server.serve([sock]))
            await service.scheduler.ready.wait()
            begun.set()
            await work

        begun = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert begun.wait(SECONDS)
        try:
            found = Running(place["service"], sock.getsockname()[1])
            found.loop = place["loop"]
            yield found
        finally:
            place["server"].should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()
