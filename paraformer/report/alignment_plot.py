"""An alignment to look at: sound, CIF weights with their fires, and tokens at their times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from paraformer.backends.face import Asked, Timeline
from paraformer.data.features.frontend import Frontend
from paraformer.decode.align import ForcedAligner, split_units
from paraformer.decode.recognize import Recognizer
from paraformer.decode.timestamps import SILENCE, Clock, Span
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.report.figures import Look, font_for, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOUNDS = ("waveform", "fbank")
WEIGHT, FIRED, SPOKEN = "#1f5fa8", "#c0392b", "#dfe9f5"


class Picture(NamedTuple):
    """The parts of a picture of an utterance; times in seconds from its start."""

    wave: Tensor  # (N,)
    rate: int
    fbank: Tensor  # (T, n_mels) log-mel
    frame_shift: float  # of fbank
    weights: Tensor  # (S,) of the CIF head that times the tokens, scaled to fire them
    step: float  # of weights
    fires: list[float]  # where each token fires
    end_fire: float | None  # where what stands behind the last token does
    tokens: list[Span]  # without silences

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return len(self.wave) / self.rate


def picture_of_recognition(recognizer: Recognizer, wave: Tensor) -> Picture:
    """A picture of what a recogniser hears in samples (N,) of its rate.

    A model without a second head shows where its own weights fire.
    """
    (outcome,) = recognizer.recognize([wave])
    if isinstance(outcome, ParaformerError):
        raise outcome
    frontend = recognizer.release.frontend
    (heard,) = recognizer.engine.listen([frontend(wave)], Asked(times=True))
    timeline = heard.timeline
    assert timeline is not None  # it was asked for
    if not recognizer.times_tokens:  # a plain one has the two in each other's place
        timeline = timeline._replace(weights=timeline.peaks, peaks=timeline.weights)
    clock = recognizer.clock(timeline, heard.feats)
    return _picture(frontend, wave, timeline, clock, outcome.best.tokens)


def picture_of_alignment(aligner: ForcedAligner, wave: Tensor, text: str) -> Picture:
    """A picture of a known text in samples (N,) of the aligner's rate."""
    (outcome,) = aligner.align([wave], [text])
    if isinstance(outcome, ParaformerError):
        raise outcome
    tokens = [token for unit in split_units(text, aligner.tokenizer) for token in unit.tokens]
    (timed,) = aligner.engine.align([aligner.frontend(wave)], [len(tokens)])
    clock = aligner.clock(timed.timeline, timed.feats)
    return _picture(aligner.frontend, wave, timed.timeline, clock, tokens)


def _picture(
    frontend: Frontend,
    wave: Tensor,
    timeline: Timeline,
    clock: Clock,
    tokens: Sequence[str],
) -> Picture:
    if not tokens:
        raise DataError("nothing was heard; give a recording with speech")
    *fires, last = clock.fires(0, len(tokens) + 1)
    seconds = len(wave) / frontend.fs
    spans = [s for s in clock.spans(0, tokens) if s.text != SILENCE]
    return Picture(
        wave,
        frontend.fs,
        frontend.fbank(wave),
        frontend.frame_shift / 1000,
        timeline.weights[0, : int(timeline.lengths[0])].cpu(),
        clock.step_seconds,
        fires,
        last,
        [Span(_label(s.text), s.start, min(s.end, seconds)) for s in spans],
    )


def _label(token: str) -> str:
    return token.replace("@@", "").replace("▁", "") or token


def draw(picture: Picture, look: Look, sound: str = SOUNDS[0]) -> Figure:
    """The picture as a figure of matplotlib, three panels over one axis of time; sound: how that is
    shown, one of `SOUNDS`.
    """
    if sound not in SOUNDS:
        raise ConfigError(f"sound={sound}: not known; use {' or '.join(SOUNDS)}")
    figure, (begin, end) = new_figure(look, picture.seconds, "plot_alignment")
    top, weights, words = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1.2))
    font = font_for(look.font, "".join(span.text for span in picture.tokens) + look.title)
    _draw_sound(top, picture, sound)
    _draw_weights(weights, picture)
    _draw_tokens(words, picture, font)
    for axes in (top, weights):
        for fire in picture.fires:
            axes.axvline(fire, color=FIRED, linewidth=0.6, alpha=0.5, zorder=1.5)
    words.set_xlim(begin, end)
    words.set_xlabel("time (s)")
    if look.title:
        top.set_title(look.title, fontproperties=font)
    return figure


def _draw_sound(axes: Axes, picture: Picture, kind: str) -> None:
    if kind == "fbank":
        extent = (0.0, len(picture.fbank) * picture.frame_shift, 0.0, float(picture.fbank.size(1)))
        axes.imshow(
            picture.fbank.T.numpy(), origin="lower", aspect="auto", extent=extent, cmap="magma"
        )
        axes.set_ylabel("mel band")
        return
    times = torch.arange(len(picture.wave)) / picture.rate
    axes.plot(times.numpy(), picture.wave.numpy(), color="#555555", linewidth=0.4)
    axes.set_ylabel("amplitude")


def _draw_weights(axes: Axes, picture: Picture) -> None:
    """Weights as steps, a dot where a token fires, a ring where the end does."""
    edges = torch.arange(len(picture.weights) + 1) * picture.step
    axes.stairs(picture.weights.numpy(), edges.numpy(), color=WEIGHT, fill=True, alpha=0.3)
    axes.stairs(picture.weights.numpy(), edges.numpy(), color=WEIGHT, label="CIF weight")
    top = 1.1 * float(picture.weights.max())
    fires = picture.fires
    axes.plot(fires, [top] * len(fires), "v", color=FIRED, markersize=5, label="fire")
    if picture.end_fire is not None:
        axes.plot(
            [picture.end_fire], [top], "v", color=FIRED, mfc="none", markersize=5, label="end"
        )
    axes.set_ylim(0.0, 1.6 * top)  # room for the legend
    axes.set_ylabel("weight")
    axes.legend(loc="upper right", ncols=3, fontsize="small", frameon=False)


def _draw_tokens(axes: Axes, picture: Picture, font: object) -> None:
    for number, span in enumerate(picture.tokens):
        axes.axvspan(span.start, span.end, facecolor=SPOKEN, edgecolor=WEIGHT, linewidth=0.6)
        middle = (span.start + span.end) / 2
        # Two heights, so that long neighbours do not touch.
        height = 0.5 if len(span.text) < 3 else (0.72, 0.28)[number % 2]
        axes.text(
            middle,
            height,
            span.text,
            ha="center",
            va="center",
            clip_on=True,
            fontproperties=font,
        )
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([])
    axes.set_ylabel("tokens")
