"""The other end of FunASR's websocket protocol: a connection that gives recordings to a server."""

from __future__ import annotations

import io
import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import soundfile
import torch
from torch import Tensor

from paraformer.documents import parse_json
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.extras import load_extra
from paraformer.options import ClientOptions

load_extra("websockets", "client", "serve")

from websockets.exceptions import ConnectionClosed, WebSocketException  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402

RATE = 16000  # of what is sent
TOKEN = "FUNASR_TOKEN"
FRAME, BLOCK = 1 << 20, RATE * 2 * 6 // 10  # bytes of a recording, and of a stream
# The server ends, or has no room: it is tried again behind so many seconds.
LATER = (1012, 1013)
WAITS = (1.0, 3.0, 9.0)


class Heard(NamedTuple):
    """The texts of a recording, one after another; times are in ms."""

    texts: list[str]
    words: list[dict[str, Any]] | None = None  # text, start, end
    times: list[list[int]] | None = None  # of each word, where the server does not name the words


class _RefusedError(ParaformerError):
    """The server takes nothing now."""


class Client:
    """One connection, made when it is wanted, and anew where it has broken."""

    def __init__(self, url: str, options: ClientOptions) -> None:
        self.url, self.options = url, options
        self._socket: ClientConnection | None = None
        self._open = ExitStack()
        self._closed = False

    def connected(self) -> ClientConnection:
        """The connection, or a `DataError` that says why there is none."""
        if self._socket is None and not self._closed:
            token = self.options.token or os.environ.get(TOKEN, "")
            try:
                connecting = connect(
                    self.url,
                    additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                    ssl=_trust(self.options) if self.url.startswith("wss:") else None,
                    subprotocols=["binary"],  # type: ignore[list-item]
                    compression=None,
                    max_size=None,
                )
                self._socket = self._open.enter_context(connecting)
            except (OSError, WebSocketException) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DataError(
                    f"{self.url}: no connection ({reason}); check the server"
                ) from error
        if self._socket is None:
            raise DataError("stopped")
        return self._socket

    def recognise(self, wave: Tensor, start: Mapping[str, Any]) -> Heard:
        """The text of samples (N,) at `RATE`; start: the first message. A server without room is
        asked again.
        """
        for seconds in WAITS:
            try:
                return self._recognise(wave, start)
            except _RefusedError:
                time.sleep(seconds)
        return self._recognise(wave, start)

    def _recognise(self, wave: Tensor, start: Mapping[str, Any]) -> Heard:
        whole = start["mode"] == "offline"
        form, content = _encoded(wave, whole)
        socket, messages = self.connected(), list[dict[str, Any]]()
        try:
            socket.send(json.dumps({**start, **form, "is_speaking": True}, ensure_ascii=False))
            size = FRAME if whole else BLOCK
            for place in range(0, len(content), size):
                socket.send(content[place : place + size])
                messages += _there(socket)
            socket.send('{"is_speaking": false}')
            while not (messages and _is_last(messages[-1], whole)):
                messages.append(_read(socket.recv(self.options.timeout_s)))
        except TimeoutError as error:
            self._drop()
            seconds = f"{self.options.timeout_s:g}"
            raise DataError(f"{self.url}: no answer in {seconds} s (timeout_s)") from error
        except ConnectionClosed as error:
            self._drop()
            frame = error.rcvd
            reason = frame and (frame.reason or f"code {frame.code}")
            kind = _RefusedError if frame and frame.code in LATER else DataError
            raise kind(f"{self.url}: the server has gone ({reason or 'no word'})") from error
        return _heard(messages, start["mode"])

    def _drop(self) -> None:
        self._socket = None
        self._open.close()

    def close(self) -> None:
        """End the connection for good; whoever waits for an answer gets an error."""
        self._closed = True
        self._drop()


def _trust(options: ClientOptions) -> ssl.SSLContext:
    if options.certfile and not os.path.isfile(options.certfile):
        raise ConfigError(f"{options.certfile}: no such file; give a certificate as PEM")
    context = ssl.create_default_context(cafile=options.certfile or None)
    if options.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _encoded(wave: Tensor, whole: bool) -> tuple[dict[str, Any], bytes]:
    """The keys that tell the form of the sound, and its bytes: 16-bit samples, or floats where
    they would say less and the server reads files.
    """
    scaled = (wave * 32768).round().clamp(-32768, 32767)
    if whole and not torch.equal(scaled / 32768, wave):
        file = io.BytesIO()
        soundfile.write(file, wave.numpy(), RATE, subtype="FLOAT", format="WAV")
        return {"wav_format": "wav"}, file.getvalue()
    return {"wav_format": "pcm", "audio_fs": RATE}, scaled.short().numpy().astype("<i2").tobytes()


def _there(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    """The messages that have come already: a server whose messages wait would stop."""
    while True:
        try:
            yield _read(socket.recv(0))
        except TimeoutError:
            return


def _read(text: str | bytes) -> dict[str, Any]:
    try:
        found = parse_json(text if isinstance(text, str) else text.decode())
    except ValueError as error:
        raise DataError(f"the server sends no JSON ({error}); give another address") from error
    if not isinstance(found, dict):
        raise DataError("the server sends no JSON object; give another address")
    return found


def _is_last(message: Mapping[str, Any], whole: bool) -> bool:
    """Whether nothing more comes; servers of FunASR do not mark the one message of a recording."""
    return bool(message.get("is_final")) or (whole and message.get("mode") == "offline")


def _heard(messages: list[dict[str, Any]], mode: str) -> Heard:
    """The text of all messages of an utterance: in mode 2pass, of those of sentences."""
    last = messages[-1]
    if "error" in last:
        fault = last["error"]
        raise DataError(str(fault.get("message", fault) if isinstance(fault, dict) else fault))
    told = [m for m in messages if mode != "2pass" or m.get("mode") == "2pass-offline"]
    texts = [str(message.get("text", "")) for message in told]
    named = [word for message in told for word in message.get("words", ())]
    times = [t for m in told if "timestamp" in m for t in parse_json(str(m["timestamp"]))]
    return Heard(texts, named or None, None if named else times or None)
