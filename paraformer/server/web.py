"""The packages of the extra `serve`, of which all rooms of the server have what they need here."""

from __future__ import annotations

from paraformer.extras import load_extra


def check_packages() -> None:
    """Refuse to serve where a package is missing."""
    load_extra("starlette.applications", "serve")
    load_extra("python_multipart", "serve")
    load_extra("uvicorn", "serve")
    load_extra("websockets", "serve")
    load_extra("prometheus_client", "serve")


check_packages()

import uvicorn as uvicorn  # noqa: E402
from starlette.applications import Starlette as Starlette  # noqa: E402
from starlette.datastructures import FormData as FormData  # noqa: E402
from starlette.datastructures import Headers as Headers  # noqa: E402
from starlette.datastructures import UploadFile as UploadFile  # noqa: E402
from starlette.exceptions import HTTPException as HTTPException  # noqa: E402
from starlette.formparsers import MultiPartException as MultiPartException  # noqa: E402
from starlette.middleware import Middleware as Middleware  # noqa: E402
from starlette.middleware.cors import CORSMiddleware as CORSMiddleware  # noqa: E402
from starlette.requests import ClientDisconnect as ClientDisconnect  # noqa: E402
from starlette.requests import Request as Request  # noqa: E402
from starlette.responses import JSONResponse as JSONResponse  # noqa: E402
from starlette.responses import PlainTextResponse as PlainTextResponse  # noqa: E402
from starlette.responses import Response as Response  # noqa: E402
from starlette.responses import StreamingResponse as StreamingResponse  # noqa: E402
from starlette.routing import Route as Route  # noqa: E402
from starlette.routing import WebSocketRoute as WebSocketRoute  # noqa: E402
from starlette.types import ASGIApp as ASGIApp  # noqa: E402
from starlette.types import Message as Message  # noqa: E402
from starlette.types import Receive as Receive  # noqa: E402
from starlette.types import Scope as Scope  # noqa: E402
from starlette.types import Send as Send  # noqa: E402
from starlette.websockets import WebSocket as WebSocket  # noqa: E402
from starlette.websockets import WebSocketDisconnect as WebSocketDisconnect  # noqa: E402
