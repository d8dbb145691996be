"""`funasr serve`: a socket, a server, and an end in good order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from paraformer.api.auto import AutoModel
from paraformer.api.service import ServedModel
from paraformer.errors import ConfigError
from paraformer.options import ServeOptions
from paraformer.server.app import Service
from paraformer.server.connection import SEND_SECONDS
from paraformer.server.gate import check_exposure
from paraformer.server.web import uvicorn
from paraformer.server.wyoming_door import MOST_LINE

log = logging.getLogger(__name__)

# A recording that comes as one frame of a websocket: 16 MiB, with room for what wraps it.
FRAME = 17 << 20
TOKEN = "FUNASR_TOKEN"
# Seconds of recordings in a batch, behind which streams have their turn.
BATCH_SECONDS = 20.0
# For what is left when the sessions have ended.
LAST_SECONDS = 3


class _Server(uvicorn.Server):
    """One that leaves signals to `serve`: it would close all connections at once."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    options: ServeOptions,
    model: str | Path,
    settings: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C; settings: keywords of `AutoModel`; say: is told where the
    server listens, and when it is ready.
    """
    options = replace(options, token=options.token or os.environ.get(TOKEN, ""))
    check_exposure(options)
    for path in filter(None, (options.certfile, options.keyfile)):
        if not os.path.isfile(path):
            raise ConfigError(f"{path}: no such file; give certificate and key as PEM")
    settings = {"batch_size_s": BATCH_SECONDS, "disable_pbar": True, **settings}

    def load(before: Callable[[], None]) -> ServedModel:
        return ServedModel(AutoModel(model, **settings), before)

    with ExitStack() as sockets:
        sock = sockets.enter_context(_bound(options.host, options.port))
        wyoming = None
        if options.wyoming:
            wyoming = sockets.enter_context(_bound(options.host, options.wyoming_port))
        asyncio.run(_serve(options, load, sock, wyoming, say))


def keep_for_good() -> None:
    """Let Python look no more at what is loaded when it looks for garbage: models and tables are
    hundreds of thousands of objects, and nothing is answered meanwhile, for a tenth of a second.
    """
    gc.collect()
    gc.freeze()


def _bound(host: str, port: int) -> socket.socket:
    """A socket at the address, or why there is none."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: whom it accepts has the same
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * SEND_SECONDS))
        sock.bind((host, port))
    except OSError as error:
        where = f"{host}:{port}"
        raise ConfigError(f"{where}: {error.strerror or error}; give host=, port=") from error
    return sock


async def _serve(
    options: ServeOptions,
    load: Callable[[Callable[[], None]], ServedModel],
    sock: socket.socket,
    wyoming: socket.socket | None,
    say: Callable[[str], None],
) -> None:
    loop, faults = asyncio.get_running_loop(), list[BaseException]()

    def failed(error: BaseException) -> None:
        faults.append(error)
        server.should_exit = True

    service = Service(load, options, failed)
    server = _Server(_config(service, options))
    ending = list[asyncio.Task[None]]()

    async def drain() -> None:
        await service.sessions.drain()
        server.should_exit = True

    def stop() -> None:
        if ending:
            server.should_exit = server.force_exit = True
        else:
            ending.append(loop.create_task(drain()))

    async def announce() -> None:
        await service.scheduler.ready.wait()
        keep_for_good()
        say("ready")

    announcing = loop.create_task(announce())
    with _signals(lambda: loop.call_soon_threadsafe(stop)):
        scheme = "https" if options.certfile else "http"
        host = f"[{options.host}]" if ":" in options.host else options.host
        say(f"listening on {scheme}://{host}:{sock.getsockname()[1]}")
        with ExitStack() as stack:
            if wyoming is not None:
                door = asyncio.start_server(service.wyoming.serve, sock=wyoming, limit=MOST_LINE)
                stack.callback((await door).close)
                say(f"listening on tcp://{host}:{wyoming.getsockname()[1]} (Wyoming)")
            await server.serve([sock])
    announcing.cancel()
    if faults:
        raise faults[0]


def _config(service: Service, options: ServeOptions) -> uvicorn.Config:
    return uvicorn.Config(
        service.app,
        ws="websockets-sansio",
        ws_max_size=FRAME,
        ws_ping_interval=None,  # the clients of this field ask for none; who is silent is closed
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        log_level="warning",
        lifespan="on",
        ssl_certfile=options.certfile or None,
        ssl_keyfile=options.keyfile or None,
        timeout_graceful_shutdown=LAST_SECONDS,
        server_header=False,
    )


@contextmanager
def _signals(stop: Callable[[], Any]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call `stop`."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
