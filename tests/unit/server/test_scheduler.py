"""One scheduler: batches of all that is due, bounded queues, faults that stay where they are."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch

from paraformer.api.service import Answer, Wishes
from paraformer.errors import DataError
from paraformer.options import ServeOptions

from tests.serving import Service  # isort: skip
from paraformer.server.scheduler import BrokenError, BusyError, Scheduler  # isort: skip

assert Service


class Counting:
    """A model whose answer is how many samples it was given."""

    rate, deaf = 100, ""

    def __init__(self):
        self.fed, self.recognised = [], []

    def allowed(self, wishes):
        return wishes

    def feed(self, streams):
        self.fed.append([len(each.samples) for each in streams])
        for each in streams:
            if (each.samples == 7).any():
                each.error = DataError("seven")
            if (each.samples == 8).any():
                raise ZeroDivisionError("eight")

    def recognise(self, waves, wishes):
        self.recognised.append([len(wave) for wave in waves])
        if any((wave == 8).any() for wave in waves):
            raise ZeroDivisionError("eight")
        return [Answer(str(len(wave))) for wave in waves]


def scheduled(work, **options):
    """What a coroutine makes of a scheduler that runs, and its model."""

    async def main():
        model = Counting()
        scheduler = Scheduler(lambda before: model, ServeOptions(**options))
        running = asyncio.create_task(scheduler.run())
        await scheduler.ready.wait()
        model.fed.clear()
        model.recognised.clear()
        try:
            return await asyncio.wait_for(work(scheduler), 30), model
        finally:
            scheduler.close()
            running.cancel()

    return asyncio.run(main())


async def all_news(stream):
    return [news async for news in stream.news()]


def test_streams_that_are_due_are_one_batch_and_long_ones_take_turns():
    async def work(scheduler):
        streams = [scheduler.stream(Wishes()) for _ in range(3)]
        for stream, size in zip(streams, (10, 96, 200), strict=True):
            stream.put(torch.zeros(size))
            stream.end()
        await asyncio.gather(*map(all_news, streams))

    _, model = scheduled(work)
    assert model.fed == [[10, 96, 96], [96], [8]]


def test_little_sound_waits_for_more_or_for_the_end():
    async def work(scheduler):
        stream = scheduler.stream(Wishes())
        for _ in range(3):
            stream.put(torch.zeros(7))
            await asyncio.sleep(0.05)
        stream.put(torch.zeros(7))
        stream.end()
        await all_news(stream)

    _, model = scheduled(work)
    assert model.fed == [[21], [7]]


@pytest.mark.parametrize(
    ("lacks", "seconds", "fed"),
    [
        (30, 600, [[18], [30], [5]]),
        (30, 0.4, [[18], [29], [6]]),  # never as much as may wait
        (999, 600, [[18], [35]]),
    ],
)
def test_a_stream_is_due_when_as_much_waits_as_its_model_asks_for(lacks, seconds, fed):
    async def work(scheduler):
        feed = scheduler.model.feed

        def asking(streams):
            feed(streams)
            for each in streams:
                each.lacks = lacks

        scheduler.model.feed = asking
        stream = scheduler.stream(Wishes())
        for size in (18, 29, 1, 5):
            stream.put(torch.zeros(size))
            await asyncio.sleep(0.05)
        stream.end()
        await all_news(stream)

    _, model = scheduled(work, max_backlog_s=seconds)
    assert model.fed == fed


def test_what_waits_is_bounded_and_counted():
    async def work(scheduler):
        first = scheduler.stream(Wishes())
        first.put(torch.zeros(100))
        with pytest.raises(BusyError, match="max_backlog_s"):
            first.put(torch.zeros(1))
        others = [scheduler.stream(Wishes()) for _ in range(4)]
        for other in others[:3]:
            other.put(torch.zeros(100))
        with pytest.raises(BusyError):  # of all together
            others[3].put(torch.zeros(100))
        for stream in (first, *others):
            stream.drop()
        assert scheduler._backlog == 0

    scheduled(work, max_backlog_s=1)


def test_a_stream_that_fails_is_alone_and_a_fault_of_ours_is_told_as_one():
    async def work(scheduler):
        good, bad = scheduler.stream(Wishes()), scheduler.stream(Wishes())
        good.put(torch.zeros(20))
        bad.put(torch.full((20,), 7.0))
        with pytest.raises(DataError, match="seven"):
            await all_news(bad)
        good.end()
        assert await all_news(good) == []
        broken = scheduler.stream(Wishes())
        broken.put(torch.full((20,), 8.0))
        with pytest.raises(BrokenError):
            await all_news(broken)
        with pytest.raises(BrokenError):
            await scheduler.recognise(torch.full((5,), 8.0), Wishes())
        assert (await scheduler.recognise(torch.zeros(5), Wishes())).text == "5"

    scheduled(work)


def test_recordings_of_equal_wishes_are_decoded_together():
    """Up to a minute of them; the longest waiting first."""

    async def work(scheduler):
        asked = [(50, ()), (70, ()), (60, ("a",)), (5990, ()), (80, ())]
        answers = [scheduler.recognise(torch.zeros(n), Wishes(words)) for n, words in asked]
        return [answer.text for answer in await asyncio.gather(*answers)]

    texts, model = scheduled(work)
    assert texts == ["50", "70", "60", "5990", "80"]
    assert model.recognised == [[50, 70], [60], [5990], [80]]


def test_no_more_recordings_wait_than_are_allowed_and_who_leaves_makes_room():
    async def work(scheduler):
        def asked(name):
            found = scheduler.recognise(torch.zeros(10), Wishes((name,)))
            return asyncio.create_task(found)

        with scheduler._turns.streams():
            decoded = asked("a")
            while not scheduler._group:
                await asyncio.sleep(0.001)
            waiting, leaving, refused = asked("b"), asked("c"), asked("d")
            await asyncio.sleep(0)
            assert isinstance(refused.exception(), BusyError)
            assert refused.exception().retry_seconds >= 1
            leaving.cancel()
            await asyncio.sleep(0)
            tasks = [decoded, waiting, asked("e")]
        return [answer.text for answer in await asyncio.gather(*tasks)]

    texts, model = scheduled(work, max_queue=2)
    assert texts == ["10"] * 3 and len(model.recognised) == 3


def test_a_recording_for_which_nobody_waits_any_more_is_not_decoded_to_the_end():
    async def work(scheduler):
        at_forty, go_on, batches = threading.Event(), threading.Event(), []

        def recognise(waves, wishes):
            for _ in range(100):
                scheduler._between()
                batches.append(len(waves[0]))
                if len(batches) == 40:
                    at_forty.set()
                    go_on.wait(30)
            return [Answer(str(len(wave))) for wave in waves]

        scheduler.model.recognise = recognise
        leaving = asyncio.create_task(scheduler.recognise(torch.zeros(5), Wishes()))
        await asyncio.to_thread(at_forty.wait, 30)
        leaving.cancel()
        await asyncio.wait([leaving])
        go_on.set()
        assert (await scheduler.recognise(torch.zeros(7), Wishes())).text == "7"
        return batches

    assert scheduled(work)[0] == [5] * 40 + [7] * 100
