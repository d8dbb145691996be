"""Ends of tokens by the energy of the features."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer.data.features.cmvn import Cmvn
from paraformer.data.features.frontend import Frontend
from paraformer.decode.timestamps import SILENCE, Span
from paraformer.decode.token_ends import Sound, end_with_sound, ends_of, sound_of
from paraformer.errors import ConfigError

RATE = 16000


def tone(seconds, level=0.3):
    at = torch.arange(round(seconds * RATE)) / RATE
    return level * torch.sin(2 * math.pi * 440 * at)


def quiet(seconds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 1e-4 * torch.randn(round(seconds * RATE), generator=generator)


@pytest.fixture(params=[(7, 6), (1, 1), (5, 1)], ids=str)
def frontend(request):
    m, n = request.param
    width = 80 * m
    cmvn = Cmvn(torch.linspace(-9.0, -4.0, width), torch.linspace(0.2, 0.4, width))
    return Frontend(lfr_m=m, lfr_n=n, cmvn=cmvn)


def test_sound_is_where_the_recording_is_loud(frontend):
    wave = torch.cat([quiet(0.5), tone(0.4), quiet(0.3), tone(0.2), quiet(0.6)])
    sound = sound_of(frontend(wave), frontend)
    edges = torch.diff(sound.frames.int(), prepend=torch.zeros(1, dtype=torch.int32)).tolist()
    times = [(sound.first + n * sound.shift, edge) for n, edge in enumerate(edges) if edge]
    expected = [(0.5, 1), (0.9, -1), (1.2, 1), (1.4, -1)]
    assert [edge for _, edge in times] == [edge for _, edge in expected]
    for (found, _), (begun, _) in zip(times, expected, strict=True):
        assert found == pytest.approx(begun, abs=0.02)


def test_tokens_end_with_their_sound_and_silences_are_made_anew(frontend):
    wave = torch.cat([quiet(0.5), tone(0.4), quiet(0.3), tone(0.2), tone(0.2), quiet(0.6)])
    spans = [
        Span(SILENCE, 0.0, 0.5),
        Span("一", 0.5, 0.74),
        Span(SILENCE, 0.74, 1.2),
        Span("二", 1.2, 1.4),
        Span("三", 1.4, 1.9),
        Span(SILENCE, 1.9, 2.2),
    ]
    found = end_with_sound(spans, sound_of(frontend(wave), frontend))
    assert [span.text for span in found] == [SILENCE, "一", SILENCE, "二", "三", SILENCE]
    ends = [span.end for span in found]
    assert ends == pytest.approx([0.5, 0.9, 1.2, 1.4, 1.6, 2.2], abs=0.02)
    assert [span.start for span in found[1:]] == ends[:-1]


def test_a_short_closure_is_part_of_the_sound_and_a_long_one_its_end():
    frames = torch.zeros(200, dtype=torch.bool)
    frames[20:40] = frames[48:60] = frames[100:120] = True
    sound = Sound(frames, 0.01, 0.0)
    assert sound.end(0.2, 2.0) == pytest.approx(0.6)
    assert sound.end(0.2, 0.5) == pytest.approx(0.5)
    assert sound.end(1.3, 2.0) == 1.3  # nothing is heard there


def test_a_token_without_sound_keeps_its_end():
    silent = Sound(torch.zeros(100, dtype=torch.bool), 0.01, 0.0)
    spans = [Span("一", 0.2, 0.4), Span(SILENCE, 0.4, 1.0)]
    found = end_with_sound(spans, silent)
    assert [(s.text, s.start, s.end) for s in found] == [("一", 0.2, 0.4), (SILENCE, 0.4, 1.0)]
    assert end_with_sound([], silent) == []


def test_the_key_of_the_configuration():
    frontend = Frontend()
    assert ends_of({}, frontend) is None
    assert ends_of({"token_ends": "released"}, frontend) is None
    assert ends_of({"token_ends": "sound"}, frontend) is not None
    with pytest.raises(ConfigError, match="token_ends loud is not known; known: released, sound"):
        ends_of({"token_ends": "loud"}, frontend)
