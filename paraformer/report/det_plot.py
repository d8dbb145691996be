"""The detection error tradeoff of a list of trials as a picture: misses over false alarms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from paraformer.extras import load_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
LEAST = 5e-4  # shares below it, and those as near to 1, are drawn as it
LINE, EQUAL = "#1f5fa8", "#c0392b"


def draw_det(miss: Sequence[float], false_alarm: Sequence[float], equal: float) -> Figure:
    """Shares of misses and of false alarms at each threshold, and where they are equal, on axes on
    which normally distributed scores are a straight line (Martin et al., Eurospeech 1997).
    """
    figure: Figure = load_extra("matplotlib.figure", "det").Figure(
        figsize=(5.5, 5.5), layout="constrained"
    )
    axes = figure.subplots()
    axes.plot(deviates(false_alarm), deviates(miss), color=LINE, drawstyle="steps-post")
    (at,) = deviates([equal])
    axes.plot([at], [at], "o", color=EQUAL, label=f"EER {100 * equal:.2f} %")
    places, names = deviates(TICKS), [f"{100 * tick:g}" for tick in TICKS]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.set_xlabel("false alarms, %")
    axes.set_ylabel("misses, %")
    axes.set_xlim(*deviates([LEAST, TICKS[-1]]))
    axes.set_ylim(*deviates([LEAST, TICKS[-1]]))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    return figure


def deviates(shares: Iterable[float]) -> list[float]:
    """Shares as deviations of the normal distribution.

    >>> deviates([0.5])
    [0.0]
    """
    normal = NormalDist()
    return [normal.inv_cdf(min(max(float(share), LEAST), 1 - LEAST)) for share in shares]
