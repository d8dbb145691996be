"""One recording out of clips, pauses and noises, with the spans in which somebody speaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from labels import Spans, join, pauses, speech_spans
from noises import RATE, Random, room, synthetic

from paraformer.data.audio.read import read_audio
from paraformer.errors import ParaformerError

EDGE = 80  # samples over which a clip fades in and out
PEAK = 0.98
# Shares of recordings.
NO_SPEECH, NO_NOISE, DIGITAL_SILENCE, TELEPHONE = 0.08, 0.2, 0.3, 0.1


class Clip(NamedTuple):
    """Samples (N,) of unit power where there is speech, and where that is."""

    samples: np.ndarray
    spans: Spans


class Recipe(NamedTuple):
    """The kind of the recordings of one set: signal to noise in dB, whole seconds."""

    snr: tuple[float, float] = (3.0, 40.0)
    seconds: tuple[int, int] = (20, 40)
    clean: bool = False  # neither noise nor recordings without speech


def load_clip(path: object) -> Clip | None:
    """A clip with labels, None where it cannot be read or is too noisy to be labelled."""
    try:
        samples = read_audio(str(path), target_fs=RATE).numpy()
    except ParaformerError:
        return None
    spans = speech_spans(samples)
    if not spans:
        return None
    spoken = np.concatenate([samples[a:b] for a, b in spans])
    samples = samples / max(float(np.sqrt(np.mean(spoken**2))), 1e-6)
    ramp = np.linspace(0, 1, min(EDGE, len(samples) // 2), dtype=np.float32)
    samples[: len(ramp)] *= ramp
    samples[len(samples) - len(ramp) :] *= ramp[::-1]
    return Clip(samples, spans)


def collect_pauses(paths: Sequence[object]) -> list[list[np.ndarray]]:
    """Room noise: the pauses of each clip that has some."""
    found = []
    for path in paths:
        clip = load_clip(path)
        pieces = pauses(clip.samples, clip.spans) if clip else []
        # Digital silence is no room.
        pieces = [piece for piece in pieces if np.mean(piece**2) > 1e-9]
        if sum(map(len, pieces)) > RATE // 3:
            found.append(pieces)
    return found


def mix(
    random: Random, draw: Callable[[], Clip], rooms: Sequence[list[np.ndarray]], recipe: Recipe
) -> tuple[np.ndarray, Spans]:
    """A recording (N,) in [-1, 1) and its spans of speech in samples."""
    size = int(random.integers(*recipe.seconds)) * RATE  # a length that an FFT is fast for
    wave, spans = np.zeros(size, np.float32), []
    place = _gap(random)
    silent = not recipe.clean and random.random() < NO_SPEECH
    while not silent:
        clip = draw()
        if place + len(clip.samples) > size:
            break
        gain = 10 ** (random.normal(0, 3) / 20)
        wave[place : place + len(clip.samples)] += gain * clip.samples
        spans += [(place + a, place + b) for a, b in clip.spans]
        place += len(clip.samples) + _gap(random)
    level = 10 ** (random.uniform(-42, -12) / 20)
    wave = level * (wave + _background(random, size, rooms, recipe))
    if not recipe.clean and random.random() < TELEPHONE:
        spectrum = np.fft.rfft(wave)
        hertz = np.fft.rfftfreq(size, 1 / RATE)
        spectrum[(hertz < 200) | (hertz > random.uniform(3300, 4000))] = 0
        wave = np.fft.irfft(spectrum, size)
    wave /= max(1.0, float(np.abs(wave).max()) / PEAK)
    return wave.astype(np.float32), join(spans, 0)


def _gap(random: Random) -> int:
    """Samples between two clips: mostly short, at times many seconds."""
    kind = random.random()
    longest = 0.25 if kind < 0.3 else 1.5 if kind < 0.8 else 6.0
    return int(random.uniform(0.02, longest) * RATE)


def _background(
    random: Random, size: int, rooms: Sequence[list[np.ndarray]], recipe: Recipe
) -> np.ndarray:
    """Noise beside speech of unit power."""
    dither = 10 ** (random.uniform(-65, -45) / 20)
    floor = dither * random.standard_normal(size)
    if recipe.clean or random.random() < NO_NOISE:
        return floor * (random.random() > DIGITAL_SILENCE)
    noise = floor
    for _ in range(int(random.integers(1, 3))):
        snr = random.uniform(*recipe.snr)
        from_room = rooms and random.random() < 0.5
        if from_room:
            sound = room(random, size, rooms[int(random.integers(len(rooms)))])
        else:
            sound = synthetic(random, size)
        if random.random() < 0.4:  # comes and goes
            begin, end = np.sort(random.integers(0, size, 2))
            sound = sound.copy()
            sound[:begin] = 0
            sound[end:] = 0
        noise = noise + 10 ** (-snr / 20) * sound
    return noise
