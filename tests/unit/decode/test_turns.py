"""Turns: the speaker of each word by overlap, and what is smoothed."""

from __future__ import annotations

import pytest
import torch

from paraformer.decode.turns import Turn, sentence_speaker, turns, windows, word_speakers


def test_windows_of_a_segment():
    found = list(windows(2.0, torch.arange(30000.0), 16000))
    assert [(w.start, w.end) for w in found] == [(2.0, 3.5), (2.375, 3.875)]
    assert found[1].wave[0] == 6000
    (short,) = windows(0.0, torch.ones(8000), 16000)
    assert (short.end, len(short.wave), float(short.wave.sum())) == (0.5, 24000, 8000)
    assert list(windows(0.0, torch.zeros(0), 16000)) == []


def test_turns_meet_in_the_middle_of_overlaps():
    spans = [(0.0, 1.5), (0.75, 2.25), (1.5, 3.0)]
    assert turns(spans, [0, 0, 1]) == [Turn(0.0, 1.88, 0), Turn(1.88, 3.0, 1)]
    assert turns(spans, [0, 0, 0]) == [Turn(0.0, 3.0, 0)]
    assert turns([], []) == []


def test_a_short_turn_is_its_nearer_neighbour_s():
    spans = [(0.0, 2.0), (2.5, 3.0), (3.1, 5.0)]
    assert turns(spans, [0, 1, 2]) == [Turn(0.0, 2.0, 0), Turn(2.5, 3.0, 2), Turn(3.1, 5.0, 2)]


TURNS = [Turn(0.0, 2.0, 0), Turn(2.0, 4.0, 1), Turn(4.0, 6.0, 0)]


def test_a_word_is_whose_turns_overlap_it_longest():
    times = [(n * 400, n * 400 + 380) for n in range(15)]
    assert word_speakers(times, TURNS) == [0] * 5 + [1] * 5 + [0] * 5
    across = [(900, 1300), (1700, 2100), (1900, 2600), (2700, 3000)]  # 300 ms of one, 100 of two
    assert word_speakers(across, TURNS) == [0, 0, 1, 1]


def test_the_sum_of_several_turns_counts():
    several = [Turn(0.0, 0.4, 1), Turn(0.4, 1.0, 0), Turn(1.0, 1.4, 1)]
    assert word_speakers([(0, 1400), (1400, 1500)], several) == [1, 1]


def test_a_word_outside_of_all_turns_is_the_nearest_one_s():
    times = [(7000, 7300), (7300, 7700)]
    assert word_speakers(times, TURNS) == [0, 0]
    assert word_speakers(times, []) == [0, 0]
    assert word_speakers([], TURNS) == []


def test_short_runs_are_smoothed():
    one = [Turn(0.0, 1.0, 0), Turn(1.0, 1.9, 1), Turn(1.9, 4.0, 0)]
    lone = [(0, 400), (500, 900), (1000, 1800), (1900, 2300), (2400, 3000)]
    assert word_speakers(lone, one) == [0] * 5  # one word
    brief = [(0, 400), (500, 900), (1000, 1200), (1250, 1450), (1900, 2300), (2400, 3000)]
    assert word_speakers(brief, one) == [0] * 6  # two words in 450 ms
    enough = [(0, 400), (500, 900), (1000, 1400), (1450, 1850), (1900, 2300), (2400, 3000)]
    assert word_speakers(enough, one) == [0, 0, 1, 1, 0, 0]
    assert word_speakers([(0, 300)], one) == [0]


@pytest.mark.parametrize(
    ("start", "end", "speaker"), [(0, 1900, 0), (2000, 3900, 1), (3900, 6000, 0), (9000, 9500, 0)]
)
def test_sentences(start, end, speaker):
    assert sentence_speaker(start, end, TURNS) == speaker
