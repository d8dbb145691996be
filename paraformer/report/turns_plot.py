"""Who speaks when, to look at: the sound in the colours of its speakers, and a lane of turns each.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people who see few
colours can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from paraformer.errors import DataError
from paraformer.report.figures import Look, font_for, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
NOBODY = "#bbbbbb"
COLUMNS = 2000  # of the envelope, however long the recording is
Turns = Sequence[tuple[float, float, str]]  # start, end in seconds, speaker


def draw_turns(wave: np.ndarray, rate: int, tables: Mapping[str, Turns], look: Look) -> Figure:
    """Samples (N,) and one table of turns or more, each under its name -> a figure of matplotlib:
    the sound in the colours of the first table, and the speakers of each table below it.

    A name that several tables have is one speaker, of one colour.
    """
    names = list(dict.fromkeys(turn[2] for turns in tables.values() for turn in turns))
    if not names:
        raise DataError("nobody speaks in the turns; there is nothing to draw")
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    figure, (begin, end) = new_figure(look, len(wave) / rate, "plot_turns")
    heights = [3.0, *(0.6 * len({turn[2] for turn in turns}) + 0.4 for turns in tables.values())]
    sound, *lanes = figure.subplots(1 + len(tables), sharex=True, height_ratios=heights)
    font = font_for(look.font, "".join([*names, *tables, look.title]))
    first = next(iter(tables.values()))
    _draw_sound(sound, wave[round(begin * rate) : round(end * rate)], rate, begin, first, colours)
    for axes, (title, turns) in zip(lanes, tables.items(), strict=True):
        _draw_lanes(axes, turns, colours, font)
        axes.set_ylabel(title, fontproperties=font)
    sound.set_xlim(begin, end)
    figure.axes[-1].set_xlabel("time (s)")
    if look.title:
        sound.set_title(look.title, fontproperties=font)
    return figure


def envelope(wave: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest sample of each of at most so many equal pieces (N,) is cut into.

    >>> [part.tolist() for part in envelope(np.array([1.0, -2.0, 3.0, 0.0]), 2)]
    [[-2.0, 0.0], [1.0, 3.0]]
    """
    starts = np.arange(0, len(wave), max(1, -(-len(wave) // columns)))
    return np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)


def _draw_sound(
    axes: Axes, wave: np.ndarray, rate: int, begin: float, turns: Turns, colours: Mapping[str, str]
) -> None:
    """The envelope, each column in the colour of who speaks there, the later one where two do."""
    low, high = envelope(wave, COLUMNS)
    times = begin + np.linspace(0, len(wave) / rate, len(low), endpoint=False)
    own = np.full(len(low), NOBODY, dtype=object)
    for start, end, name in turns:
        own[(times >= start) & (times < end)] = colours[name]
    axes.vlines(times, low, np.maximum(high, low + 1e-4), colors=own.tolist(), linewidth=0.8)
    axes.set_ylabel("amplitude")


def _draw_lanes(axes: Axes, turns: Turns, colours: Mapping[str, str], font: object) -> None:
    """A bar for each turn, the speakers from top to bottom as they begin to speak."""
    names = list(dict.fromkeys(turn[2] for turn in turns))
    for place, name in enumerate(names):
        spans = [(start, end - start) for start, end, who in turns if who == name]
        axes.broken_barh(spans, (place - 0.4, 0.8), facecolors=colours[name])
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, fontproperties=font)
