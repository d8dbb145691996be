"""The frames of a websocket are read at once, and no more of them wait than may."""

from __future__ import annotations

import asyncio

from tests.serving import Service

from paraformer.errors import DataError  # isort: skip
from paraformer.server.connection import Inbox, code_of_error  # isort: skip
from paraformer.server.scheduler import BrokenError, BusyError  # isort: skip

assert Service


class Frames:
    def __init__(self, *frames):
        self.left = [{"type": "websocket.receive", **frame} for frame in frames]

    async def receive(self):
        return self.left.pop(0) if self.left else {"type": "websocket.disconnect"}


def test_frames_stay_in_order_to_the_end():
    async def main():
        inbox = Inbox(Frames({"text": "a"}, {"bytes": b"bc"}), 3)
        await inbox.read()
        return [inbox.take() for _ in range(3)], inbox.gone.is_set(), inbox.over, inbox.waits

    assert asyncio.run(main()) == (["a", b"bc", Inbox.GONE], True, False, False)


def test_nothing_is_read_behind_more_than_may_wait():
    async def main():
        socket = Frames({"bytes": b"ab"}, {"bytes": b"cd"}, {"bytes": b"ef"})
        inbox = Inbox(socket, 3)
        await inbox.read()
        return len(socket.left), inbox.over, inbox.gone.is_set()

    assert asyncio.run(main()) == (1, True, False)


def test_faults_have_the_code_that_clients_read():
    errors = (BusyError("x"), BrokenError("x"), DataError("x"))
    assert [code_of_error(e) for e in errors] == ["busy", "internal", "invalid_request"]
