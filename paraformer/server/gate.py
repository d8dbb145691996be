"""Who may come in: by token, by the page that a browser calls from, and while there is room."""

from __future__ import annotations

import hmac
import ipaddress
import re
import uuid
from urllib.parse import urlsplit

from paraformer.errors import ConfigError
from paraformer.options import ServeOptions
from paraformer.server.web import (
    ASGIApp,
    Headers,
    JSONResponse,
    Message,
    Receive,
    Response,
    Scope,
    Send,
)

# Who asks whether the server lives need not say who they are; the page at / asks for the token.
OPEN = ("/health", "/ready")
PAGE = "/"
# What a page puts before its token in the subprotocols of a websocket, as OpenAI's do: it can send
# no header.
PAGE_TOKEN = "openai-insecure-api-key."
_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_BEARER = re.compile(r"bearer\s*;?\s+(.*)", re.IGNORECASE | re.DOTALL)


def check_exposure(options: ServeOptions) -> None:
    """Refuse to serve other machines without a token, unless that is wanted."""
    if not (is_own(options.host) or options.token or options.insecure):
        raise ConfigError(
            f"host={options.host}: other machines reach it; give token=..., or insecure=true"
        )
    if options.wyoming and not (is_own(options.host) or options.insecure):
        raise ConfigError(
            f"wyoming: knows no token, and other machines reach {options.host}; give insecure=true"
        )
    if options.keyfile and not options.certfile:
        raise ConfigError("keyfile: goes with certfile; give both, or neither")


def is_own(host: str) -> bool:
    """Whether only this machine reaches a server there.

    >>> is_own("127.0.0.1"), is_own("localhost"), is_own("0.0.0.0"), is_own("a.org")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_fits(given: str | None, token: str) -> bool:
    """Whether an `Authorization` header has the token, in either spelling, in constant time.

    >>> token_fits("Bearer; k", "k"), token_fits("bearer k", "k"), token_fits("k", "k")
    (True, True, False)
    """
    found = _BEARER.fullmatch(given or "")
    own = found[1].strip() if found else ""
    fits = hmac.compare_digest(own.encode("utf-8", "replace"), token.encode("utf-8", "replace"))
    return not token or fits


def origin_fits(headers: Headers, options: ServeOptions) -> bool:
    """Whether a browser's page may call: ours, or one that is allowed. Without a token ours is
    known by an address that no other site's name can lead to.
    """
    origin = headers.get("origin")
    if origin is None or {"*", origin} & {*options.origins}:
        return True
    page = urlsplit(origin)
    return page.netloc == headers.get("host") and (
        bool(options.token) or _is_address(page.hostname or "")
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def failure(status: int, message: str, kind: str, code: str | None = None) -> Response:
    """An answer that says what is wrong, in the form in which OpenAI does."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status)


class Gate:
    """Stands before the application; every request has an id behind it, its own or a new one."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self.app, self.options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        own = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = own

        async def named(message: Message) -> None:
            starts = ("http.response.start", "websocket.accept", "websocket.http.response.start")
            if message["type"] in starts:
                head = [*message.get("headers", ()), (b"x-request-id", own.encode())]
                message = {**message, "headers": head}
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self.app(scope, receive, named)
            return
        if scope["type"] == "websocket":
            await receive()
            if "websocket.http.response" not in scope.get("extensions", {}):
                await named({"type": "websocket.close", "code": 1008})
                return
        await refusal(scope, receive, named)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path, given = scope["path"], headers.get("authorization")
        if path in OPEN or (path == PAGE and scope["type"] == "http"):
            return None
        for offered in scope.get("subprotocols", ()):
            if offered.startswith(PAGE_TOKEN):
                given = given or f"Bearer {offered.removeprefix(PAGE_TOKEN)}"
        if not origin_fits(headers, self.options):
            return failure(403, "this page may not call the server (origins)", "forbidden")
        if not token_fits(given, self.options.token):
            message = "the token is missing or wrong; send Authorization: Bearer TOKEN"
            return failure(401, message, "invalid_request_error", "invalid_api_key")
        return None
