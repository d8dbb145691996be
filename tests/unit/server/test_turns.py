"""Streams go before recordings, whose work they enter between two batches."""

from __future__ import annotations

import threading

import pytest

from paraformer.server.turns import StoppedError, Turns


def test_a_stream_goes_between_two_batches_of_a_recording():
    turns, order, begun = Turns(), [], threading.Event()

    def stream():
        begun.set()
        with turns.streams():
            order.append("stream")

    with turns.recordings():
        thread = threading.Thread(target=stream)
        thread.start()
        begun.wait()
        while not turns._streams_wait:
            pass
        order.append("first")
        turns.give_way()
        order.append("second")
    thread.join()
    assert order == ["first", "stream", "second"]


def test_nothing_gives_way_where_no_stream_waits_or_none_has_the_turn():
    turns = Turns()
    turns.give_way()
    with turns.recordings():
        turns.give_way()
    with turns.streams():
        turns.give_way()


def test_recordings_end_at_the_next_batch():
    turns = Turns()
    turns.stop()
    with pytest.raises(StoppedError), turns.recordings():
        turns.give_way()
    with turns.streams():
        pass
