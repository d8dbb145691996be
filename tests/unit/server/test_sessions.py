"""Sessions are counted, and all of them end."""

from __future__ import annotations

import asyncio

import pytest

from paraformer.options import ServeOptions

from tests.serving import Service  # isort: skip
from paraformer.server.metrics import Metrics  # isort: skip
from paraformer.server.scheduler import BusyError  # isort: skip
from paraformer.server.sessions import Sessions  # isort: skip

assert Service


def sessions(**options):
    return Sessions(ServeOptions(**options), Metrics())


def test_no_more_are_open_than_are_allowed():
    found = sessions(max_sessions=1)
    with found.enter("x"):
        assert found.open == 1
        with pytest.raises(BusyError, match="max_sessions"), found.enter("x"):
            pass
    with found.enter("x"):
        pass
    assert found.open == 0


def test_draining_waits_then_flushes():
    """Sessions may end by themselves; what does not is told to, and listeners are woken."""

    async def session(found, woken):
        with found.enter("x"):
            found.listeners.add(woken)
            await woken.wait()
            told = [(found.draining.is_set(), found.flush.is_set())]
            woken.clear()
            await woken.wait()
            return [*told, (found.draining.is_set(), found.flush.is_set())]

    async def main():
        found = sessions(drain_s=0.5)
        running = asyncio.create_task(session(found, asyncio.Event()))
        await asyncio.sleep(0)
        await found.drain()
        with pytest.raises(BusyError, match="about to end"), found.enter("x"):
            pass
        return await running

    assert asyncio.run(main()) == [(True, False), (True, True)]


def test_draining_ends_at_once_where_nothing_is_open():
    asyncio.run(asyncio.wait_for(sessions(drain_s=1000).drain(), 9))
