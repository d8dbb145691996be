"""What a process of a crew is given waits in it, and what it tells goes some results at a time."""

from __future__ import annotations

from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from paraformer.api import processes
from paraformer.api.processes import Telling, received


def test_work_is_taken_from_the_pipe_before_its_turn():
    """More than a pipe holds: else who gives would wait for who works, and that one for him."""
    mine, theirs = Pipe()
    given = received(theirs)
    chunks = [[bytes(1_000_000)], ["second"], ["third"]]
    for chunk in chunks:
        mine.send(chunk)
    mine.close()
    assert [given.get(timeout=60) for _ in range(4)] == [*chunks, None]


@pytest.fixture
def sent(monkeypatch):
    """Messages of a process whose clock stands at `.now`."""
    told = SimpleNamespace(messages=[], now=100.0)
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: told.now))
    told.telling = Telling(SimpleNamespace(send=told.messages.append))
    return told


def test_results_that_come_together_are_one_message(sent):
    for number in range(8):
        sent.telling.add(number)
        sent.now += 0.02
    sent.telling.send()
    sent.telling.send()
    assert sent.messages == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_no_result_waits_while_audio_is_read(sent):
    items = sent.telling.before(["a", "b", "c"])
    assert next(items) == "a" and sent.messages == []
    sent.telling.add(0)
    sent.telling.add(1)
    assert sent.messages == [[0]]
    assert next(items) == "b" and sent.messages == [[0], [1]]
