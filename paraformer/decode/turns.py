"""Who speaks when: windows of speech, and turns made of the speakers that they were given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import pad

WINDOW_SECONDS, STEP_SECONDS = 1.5, 0.75
LEAST_TURN_SECONDS = 0.7  # a shorter one is its nearer neighbour's
TOUCHING = 1e-4  # seconds by which turns may overlap without a border between them
LEAST_WORDS, LEAST_RUN_MS = 2, 500  # of what one speaker says among another's words


class Window(NamedTuple):
    """A piece of speech that a voice is heard in, in seconds of its recording."""

    start: float
    end: float
    wave: Tensor  # (N,) of `WINDOW_SECONDS`


class Turn(NamedTuple):
    """A stretch in which one speaker speaks, in seconds."""

    start: float
    end: float
    speaker: int


def windows(start: float, wave: Tensor, rate: int) -> Iterator[Window]:
    """Samples (N,) of a segment that begins at `start` -> windows, one every 0.75 s, the last one
    moved back so that it is full; what is shorter than one is padded with zeros.
    """
    size, step = round(WINDOW_SECONDS * rate), round(STEP_SECONDS * rate)
    before = 0
    for place in range(0, len(wave), step):
        end = min(place + size, len(wave))
        if end <= before:
            return
        before, begin = end, max(0, end - size)
        part = pad(wave[begin:end], (0, size - (end - begin)))
        yield Window(start + begin / rate, start + end / rate, part)


def turns(spans: Sequence[tuple[float, float]], labels: Sequence[int]) -> list[Turn]:
    """Windows [start, end] in the order of time and their speakers -> turns, as the reference's:
    borders lie in the middle of overlaps, short turns are their nearer neighbour's.
    """
    found = _joined([Turn(*span, int(label)) for span, label in zip(spans, labels, strict=True)])
    for place, (turn, after) in enumerate(zip(found, found[1:], strict=False)):
        before = found[place]
        if before.end > after.start + TOUCHING:
            border = (after.start + before.end) / 2
            found[place] = turn._replace(start=before.start, end=border)
            found[place + 1] = after._replace(start=border)
    return found if len(found) < 2 else _joined(_smoothed(found))


def _joined(found: Sequence[Turn]) -> list[Turn]:
    """Neighbours of one speaker that touch become one."""
    joined: list[Turn] = []
    for turn in found:
        last = joined[-1] if joined else None
        if last and last.speaker == turn.speaker and turn.start <= last.end:
            joined[-1] = last._replace(end=turn.end)
        else:
            joined.append(turn)
    return joined


def _smoothed(found: Sequence[Turn]) -> list[Turn]:
    done = [turn._replace(start=turn.start, end=turn.end) for turn in found]
    for place, turn in enumerate(done):
        turn = turn._replace(start=round(turn.start, 2), end=round(turn.end, 2))
        done[place] = turn
        if turn.end - turn.start >= LEAST_TURN_SECONDS:
            continue
        before = done[place - 1] if place else None
        after = done[place + 1] if place + 1 < len(done) else None
        nearer = before or after
        if before and after and turn.start - before.end > after.start - turn.end:
            nearer = after
        assert nearer is not None  # there are two turns or more
        done[place] = turn._replace(speaker=nearer.speaker)
    return done


def sentence_speaker(start_ms: float, end_ms: float, found: Sequence[Turn]) -> int:
    """The speaker of a sentence by the reference's rule, in which the one that leads counts twice;
    0 where nobody speaks.
    """
    best, speaker = 0.0, 0
    for turn in found:
        overlap = max(min(end_ms, turn.end * 1000) - max(start_ms, turn.start * 1000), 0)
        if overlap > best:
            best, speaker = overlap, turn.speaker
        if overlap > 0 and speaker == turn.speaker:
            best += overlap
    return speaker


class _Run(NamedTuple):
    """Words that follow each other and are one speaker's; times in ms."""

    start: int
    end: int
    words: int
    speaker: int


def word_speakers(times: Sequence[tuple[int, int]], found: Sequence[Turn]) -> list[int]:
    """The speaker of each word [start, end] in ms, in the order of time: whose turns overlap it
    longest, or are nearest; fewer than two words or 500 ms among another's are that one's.
    """
    spoken = [_Run(start, end, 1, speaker) for (start, end), speaker in _nearest(times, found)]
    runs = []
    for speaker, group in groupby(spoken, attrgetter("speaker")):
        own = list(group)
        runs.append(_Run(own[0].start, own[-1].end, len(own), speaker))
    for place, run in enumerate(runs):
        if len(runs) == 1 or (run.words >= LEAST_WORDS and run.end - run.start >= LEAST_RUN_MS):
            continue
        beside = [*runs[max(0, place - 1) : place], *runs[place + 1 : place + 2]]
        nearer = min(beside, key=lambda other: max(other.start - run.end, run.start - other.end))
        runs[place] = run._replace(speaker=nearer.speaker)
    return [run.speaker for run in runs for _ in range(run.words)]


def _nearest(
    times: Sequence[tuple[int, int]], found: Sequence[Turn]
) -> Iterator[tuple[tuple[int, int], int]]:
    first = 0
    for start, end in times:
        begin, stop = start / 1000, end / 1000
        while first + 1 < len(found) and found[first].end < begin:
            first += 1
        shares: dict[int, float] = {}
        for turn in found[max(0, first - 1) :]:
            share = min(stop, turn.end) - max(begin, turn.start)  # below 0: how far it is
            least = min(0.0, share)
            known = shares.get(turn.speaker, least)
            shares[turn.speaker] = known + share if share > 0 < known else max(known, share)
            if turn.start > stop:
                break
        yield (start, end), max(shares, key=lambda speaker: shares[speaker], default=0)
