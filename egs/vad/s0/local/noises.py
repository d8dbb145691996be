"""Sounds that are no speech, made by code, and room noise of any length from pauses of clips.

Each maker returns (N,) float32 of unit power, the same for the same generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RATE = 16000
FADE = 480  # samples over which two pieces of room noise change into another
Random = np.random.Generator


def coloured(random: Random, size: int) -> np.ndarray:
    """Noise whose power falls with frequency, from white over pink to brown."""
    spectrum = np.fft.rfft(random.standard_normal(size))
    slope = random.uniform(0.0, 1.0)
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    spectrum[0] = 0
    return _level(np.fft.irfft(spectrum, size))


def shaped(random: Random, size: int) -> np.ndarray:
    """Noise in a band, rising and falling slowly: wind, traffic, a fan, breath."""
    spectrum = np.fft.rfft(random.standard_normal(size))
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    centre, octaves = np.exp(random.uniform(np.log(100), np.log(6000))), random.uniform(0.5, 2)
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(hertz, 1) / centre) / octaves) ** 2)
    knots = np.exp(random.uniform(-2, 1) * random.standard_normal(max(2, size // RATE * 2)))
    swell = np.interp(np.linspace(0, len(knots) - 1, size), np.arange(len(knots)), knots)
    return _level(np.fft.irfft(spectrum, size) * np.minimum(swell, 20))


def hum(random: Random, size: int) -> np.ndarray:
    """Mains hum or a motor: a steady low tone and its harmonics over a little noise."""
    base = random.choice([50.0, 60.0, random.uniform(30, 400)])
    time = np.arange(size) / RATE
    wave = np.zeros(size)
    for number in range(1, int(random.integers(2, 12))):
        wave += (
            random.exponential()
            / number
            * np.sin(2 * np.pi * (base * number * time + random.random()))
        )
    return _level(wave) + 0.1 * coloured(random, size)


def knocks(random: Random, size: int) -> np.ndarray:
    """Knocks, keys and clicks: bursts that die away within 5 to 100 ms."""
    wave = np.zeros(size)
    for _ in range(max(1, random.poisson(size / RATE * random.uniform(0.3, 5)))):
        decay = np.exp(random.uniform(np.log(0.002), np.log(0.03))) * RATE
        length = min(size, int(6 * decay))
        begin = int(random.integers(0, size - length + 1))
        burst = random.standard_normal(length) * np.exp(-np.arange(length) / decay)
        tone = np.sin(2 * np.pi * random.uniform(100, 3000) * np.arange(length) / RATE)
        burst *= random.exponential() * (tone if random.random() < 0.5 else 1.0)
        wave[begin : begin + length] += burst
    return _level(wave)


def music(random: Random, size: int) -> np.ndarray:
    """Chords and a melody of plucked or held tones with harmonics."""
    wave = np.zeros(size)
    place, root = 0, random.uniform(80, 300)
    held = random.random() < 0.4
    while place < size:
        length = int(random.choice([0.125, 0.25, 0.5, 1.0]) * RATE * random.uniform(0.9, 1.1))
        time = np.arange(min(length, size - place)) / RATE
        envelope = np.minimum(1, time * 50) * (1 if held else np.exp(-time * random.uniform(2, 8)))
        for step in random.choice([0, 2, 4, 5, 7, 9, 12, 14, 16, 19, 24], random.integers(1, 4)):
            base = root * 2 ** (step / 12)
            for number in range(1, 8):
                if base * number < 7600:
                    phase = 2 * np.pi * (base * number * time + random.random())
                    wave[place : place + len(time)] += np.sin(phase) * envelope / number
        place += length
    return _level(wave)


def signals(random: Random, size: int) -> np.ndarray:
    """Rings, beeps and sweeps with pauses between them."""
    wave = np.zeros(size)
    place = int(random.integers(0, max(1, size // 2)))
    hertz, length = random.uniform(300, 3000), int(random.uniform(0.05, 1.0) * RATE)
    slope = random.choice([0.0, random.uniform(-1, 1)])
    while place < size:
        time = np.arange(min(length, size - place)) / RATE
        tone = np.sin(2 * np.pi * hertz * time * (1 + slope * time))
        wave[place : place + len(time)] = tone * np.minimum(1, np.minimum(time, time[::-1]) * 200)
        place += int(length * random.uniform(1.2, 4))
    return _level(wave)


MAKERS: tuple[Callable[[Random, int], np.ndarray], ...] = (
    coloured,
    shaped,
    hum,
    knocks,
    music,
    signals,
)


def synthetic(random: Random, size: int) -> np.ndarray:
    """One of the makers' sounds."""
    return MAKERS[int(random.integers(len(MAKERS)))](random, size)


def room(random: Random, size: int, pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Noise of one room: its pauses in any order, each faded into the next."""
    wave = np.zeros(size + 2 * FADE)
    place = 0
    while place < size + FADE:
        piece = _level(pieces[int(random.integers(len(pieces)))])
        if len(piece) > 4 * FADE:
            begin = int(random.integers(0, len(piece) - 2 * FADE))
            piece = piece[begin:]
        fade = min(FADE, len(piece) // 2)
        ramp = np.sin(np.linspace(0, np.pi / 2, fade, endpoint=False))
        piece = piece[: len(wave) - place].copy()
        if len(piece) < 2 * fade:
            break
        piece[:fade] *= ramp
        piece[-fade:] *= ramp[::-1]
        wave[place : place + len(piece)] += piece
        place += len(piece) - fade
    return _level(wave[FADE : FADE + size])


def _level(wave: np.ndarray) -> np.ndarray:
    wave = wave - wave.mean()
    scaled: np.ndarray = (wave / max(np.sqrt(np.mean(wave**2)), 1e-8)).astype(np.float32)
    return scaled
