"""Times of tokens, words and sentences: one for each, rising, inside the recording."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paraformer.decode.timestamps import (
    SILENCE,
    Clock,
    Span,
    clip,
    cut_sentences,
    milliseconds,
    one_line,
)
from paraformer.errors import DataError
from paraformer.nn.cif_v3 import Timeline, single_fire_peaks

STEP = 0.02  # seconds


def clock_of(weights, rate=3):
    weights = torch.tensor([weights])
    peaks = single_fire_peaks(weights) if weights.size(1) else weights
    return Clock(Timeline(weights, peaks, torch.tensor([weights.size(1)]), rate), STEP * rate)


def firing_at(places, size):
    weights = [0.0] * size
    for place in places:
        weights[place] = 1.0
    return weights


def steps(spans):
    return [(s.text, round(s.start / STEP, 3), round(s.end / STEP, 3)) for s in spans]


def test_a_mark_inside_a_number_or_a_name_ends_no_sentence():
    words = ["涨", "3", "5", "到", "1", "000", "看", "a", "com", "ok", "好"]
    text = "涨3.5,到1,000。看a.com,ok.好"
    times = [[n, n + 1] for n in range(len(words))]
    found = [sentence.text for sentence in cut_sentences(text, words, times)]
    assert found == ["涨3.5,", "到1,000。", "看a.com,", "ok.", "好"]


def test_tokens_lie_between_fires():
    """A token begins a step and a half before it fires; the last ends with the recording."""
    found = clock_of(firing_at([5, 10, 20], 25)).spans(0, ["a", "b"])
    assert steps(found) == [("a", 3.5, 8.5), ("b", 8.5, 21.75), (SILENCE, 21.75, 25.0)]
    assert milliseconds(found) == [[70, 170], [170, 435]]


def test_silence_before_between_and_behind():
    found = clock_of(firing_at([10, 40, 50], 70)).spans(0, ["a", "b"])
    assert steps(found) == [
        (SILENCE, 0.0, 8.5),
        ("a", 8.5, 20.5),
        (SILENCE, 20.5, 38.5),
        ("b", 38.5, 59.25),
        (SILENCE, 59.25, 70.0),
    ]


def test_a_token_cut_by_silence_keeps_its_end():
    """Where silence is the last entry its end moves, not the token's."""
    found = clock_of(firing_at([2, 30], 40)).spans(0, ["a"])
    assert steps(found) == [("a", 0.5, 12.5), (SILENCE, 12.5, 34.25), (SILENCE, 34.25, 40.0)]


def test_no_token_begins_before_the_recording():
    found = clock_of(firing_at([0, 5], 8)).spans(0, ["a"])
    assert found[0].start == 0.0


def test_no_tokens():
    assert clock_of([0.5] * 4).spans(0, []) == []


def test_times_count_from_where_the_segment_begins():
    found = clock_of(firing_at([5, 10], 12)).spans(0, ["a"], offset_ms=2000)
    assert milliseconds(found) == [[2070, 2240]]


@pytest.mark.parametrize("rate", [1, 3])
@given(
    weights=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=80),
    count=st.integers(1, 100),
)
def test_each_token_has_a_time(weights, count, rate):
    """Also more tokens than steps, silence alone, and weights that fire another number."""
    tokens = [f"t{i}" for i in range(count)]
    found = clock_of(weights, rate).spans(0, tokens)
    spoken = [span for span in found if span.text != SILENCE]
    assert [span.text for span in spoken] == tokens
    borders = [x for span in found for x in (span.start, span.end)]
    assert borders == sorted(borders)
    assert borders[0] >= 0.0
    assert borders[-1] <= len(weights) * STEP + 1e-9


def test_more_tokens_than_steps_are_spread_evenly():
    found = clock_of([0.3] * 10).spans(0, list("abcdefghijklmnopqrst"))
    starts = [span.start for span in found]
    gaps = [b - a for a, b in zip(starts[4:], starts[5:], strict=False)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps))


def test_an_empty_recording():
    assert milliseconds(clock_of([]).spans(0, ["a"])) == [[0, 0]]


def test_lines_as_the_reference_writes_them():
    assert one_line([Span("a", 0.0, 12.3456), Span(SILENCE, 100.0, 100.25)]) == (
        "a 0.000 12.34;<sil> 100.0 100.2;"
    )


def test_clip():
    assert clip([[0, 10], [10, 30], [40, 50]], 25) == [[0, 10], [10, 25], [25, 25]]


# sentences


def cut(text, words):
    times = [[100 * i, 100 * i + 80] for i in range(len(words))]
    return [(s.text, s.start, s.end) for s in cut_sentences(text, words, times)]


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("你好。", "你好", [("你好。", 0, 180)]),
        ("你好，好。吗", "你好好吗", [("你好，", 0, 180), ("好。", 200, 280), ("吗", 300, 380)]),
        ("“好。”他说", "好他说", [("“好。”", 0, 80), ("他说", 100, 280)]),
        ("ok, 3.5 it's", ["ok", "3.5", "it's"], [("ok,", 0, 80), (" 3.5 it's", 100, 280)]),
        ("，好", "好", [("，好", 0, 80)]),
        ("好好", "好好", [("好好", 0, 180)]),
        ("", "", []),
        ("。", "", [("。", 0, 0)]),
    ],
)
def test_sentences(text, words, expected):
    assert cut(text, list(words)) == expected


@given(st.lists(st.sampled_from(["好", "ok", "，", "。", " ", "3.5", "“", "”", "?"]), max_size=20))
def test_sentences_are_the_text_again(parts):
    text = "".join(parts)
    words = [part for part in parts if part in ("好", "ok", "3.5")]
    times = [[i, i + 1] for i in range(len(words))]
    found = cut_sentences(text, words, times)
    assert "".join(sentence.text for sentence in found) == text
    assert [time for sentence in found for time in sentence.timestamp] == times


def test_marks_may_be_others():
    times = [[0, 1], [1, 2]]
    assert len(cut_sentences("好，好", ["好", "好"], times, marks="。")) == 1


@pytest.mark.parametrize(
    ("words", "times", "message"),
    [(["a"], [], "1 words with 0 times"), (["b"], [[0, 1]], "'b': not in 'a'")],
)
def test_words_of_another_text(words, times, message):
    with pytest.raises(DataError, match=message):
        cut_sentences("a", words, times)


def test_a_sentence_ends_ahead_of_words_that_begin_one_anyway():
    words, times = ["你", "好", "yes", "ok"], [[0, 2], [2, 5], [7, 9], [9, 12]]
    found = cut_sentences("你好，yes ok.", words, times, starts={1, 3})
    assert [s[:3] for s in found] == [
        ("你", 0, 2),
        ("好，", 2, 5),
        ("yes ", 7, 9),
        ("ok.", 9, 12),
    ]
    # A mark inside of a number ends no sentence, a change of speaker there does.
    found = cut_sentences("3.5", ["3", "5"], [[0, 1], [1, 2]], starts={1})
    assert [s.text for s in found] == ["3.", "5"]
