"""The application: all doors, and what operators ask."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any

from paraformer.api.service import ServedModel
from paraformer.options import ServeOptions
from paraformer.server.funasr_door import FunasrDoor
from paraformer.server.gate import Gate
from paraformer.server.openai_door import OpenaiDoor
from paraformer.server.realtime_door import RealtimeDoor
from paraformer.server.scheduler import Scheduler
from paraformer.server.sessions import Sessions
from paraformer.server.web import (
    CORSMiddleware,
    JSONResponse,
    Middleware,
    Request,
    Response,
    Route,
    Starlette,
    WebSocketRoute,
)
from paraformer.server.wyoming_door import WyomingDoor

log = logging.getLogger(__name__)

# Of the page: its own script and style, its own server, and the worklet that it makes itself.
PAGE_POLICY = (
    "default-src 'none'; script-src {nonce} blob:; style-src {nonce}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Service:
    """One model behind all doors; `app` is what a server of ASGI runs."""

    def __init__(
        self,
        load: Callable[[Callable[[], None]], ServedModel],
        options: ServeOptions,
        failed: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        """load: see `Scheduler`; failed: told why the work came to an end by itself."""
        self.options, self._failed = options, failed
        self.scheduler = Scheduler(load, options)
        self.sessions = Sessions(options, self.scheduler.metrics)
        self.wyoming = WyomingDoor(self.scheduler, self.sessions)
        openai = OpenaiDoor(self.scheduler, self.sessions)
        funasr = FunasrDoor(self.scheduler, self.sessions)
        realtime = RealtimeDoor(self.scheduler, self.sessions)
        gates = [Middleware(Gate, options=options)]
        if options.origins:
            gates.insert(0, Middleware(CORSMiddleware, **_cors(options.origins)))
        self.app = Starlette(
            routes=[
                Route("/", self.page),
                Route("/health", self.health),
                Route("/ready", self.is_ready),
                Route("/metrics", self.metrics),
                *openai.routes(),
                WebSocketRoute("/v1/realtime", realtime.serve),
                WebSocketRoute("/{path:path}", funasr.serve),
            ],
            middleware=gates,
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        work = asyncio.create_task(self.scheduler.run())
        work.add_done_callback(self._ended)
        try:
            yield
        finally:
            self.scheduler.close()
            work.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work})

    def _ended(self, work: asyncio.Task[None]) -> None:
        error = None if work.cancelled() else work.exception()
        if error is not None:
            self._failed(error)

    async def health(self, request: Request) -> Response:
        """The server lives; it never waits for what is computed."""
        return JSONResponse({"status": "ok"})

    async def is_ready(self, request: Request) -> Response:
        """Whether new work is taken."""
        if self.sessions.draining.is_set():
            return JSONResponse({"status": "draining"}, 503)
        if not self.scheduler.ready.is_set():
            return JSONResponse({"status": "loading"}, 503)
        model = self.scheduler.model
        told = {"model": model.name, "streams": not model.deaf, "speakers": model.tells_speakers}
        return JSONResponse({"status": "ready", **told})

    async def page(self, request: Request) -> Response:
        """A page for a microphone or a file, which takes nothing from elsewhere."""
        nonce = secrets.token_urlsafe(16)
        policy = PAGE_POLICY.format(nonce=f"'nonce-{nonce}'")
        page = files("paraformer").joinpath("templates/service.html").read_text("utf-8")
        headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        headers |= {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        return Response(page.replace("@nonce@", nonce), 200, headers, "text/html")

    async def metrics(self, request: Request) -> Response:
        """Figures as Prometheus reads them."""
        content, kind = self.scheduler.metrics.page()
        return Response(content, media_type=kind)


def _cors(origins: list[str]) -> dict[str, Any]:
    return {"allow_origins": origins, "allow_methods": ["*"], "allow_headers": ["*"]}
