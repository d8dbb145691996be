"""More clients than may come: those beyond the limit are refused, and the others are served."""

from __future__ import annotations

import pytest

from paraformer.api.auto import AutoModel
from tests.serving import MODELS, pcm, running, say, until

from paraformer.api.service import ServedModel  # isort: skip
from websockets.exceptions import ConnectionClosed  # isort: skip


def test_at_twice_the_limit_the_surplus_is_refused_and_the_rest_complete():
    model = AutoModel("paraformer-zh-mini", **MODELS)
    (expected,) = model.generate(pcm("demo_2"))
    with running(lambda before: ServedModel(model, before), max_sessions=4) as server:
        sockets = [server.connect() for _ in range(4)]
        assert until(lambda: server.service.sessions.open == 4)
        for _ in range(4):
            with server.connect() as late, pytest.raises(ConnectionClosed) as closed:
                late.recv(timeout=60)
            assert closed.value.rcvd.code == 1013 and "max_sessions" in closed.value.rcvd.reason
        for socket in sockets:
            with socket as found:
                (last,) = [m for m in say(found, pcm("demo_2")) if m["is_final"]]
                assert last["text"] == expected["text"]
