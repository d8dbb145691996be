"""How well a voice activity detector finds speech: frames, and where its segments begin and end.

`data` holds wav.scp and segments (`id recording begin end`, where somebody speaks; a recording
without any is all silence). Without segments it is only compared with `reference_vad`. Segments are
those that the detector's own segment machine makes, out of the labels as out of its posteriors: it
adds the same pauses and margins to both, so what is left is the error of the network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table, write_text
from paraformer.data.features.frontend import Frontend
from paraformer.data.features.streaming import frame_samples
from paraformer.decode.endpoint import EndpointState, Span, advance, decide
from paraformer.decode.vad import decibels
from paraformer.errors import AudioError, ConfigError
from paraformer.hub.directories import find_model
from paraformer.models.fsmn_vad import VadOptions
from paraformer.models.release import VAD, VadRelease, load
from paraformer.programs.hydra_main import run
from paraformer.train.vad import FrameCounts, Spans, frame_labels, read_spans

log = logging.getLogger(__name__)

CLOSE_MS = 50
_START = EndpointState()


class Finding(NamedTuple):
    """The speech found in one recording, or known of it: frames (T,) bool and segments."""

    speech: np.ndarray
    segments: list[Span]


class Score(NamedTuple):
    """Of some recordings: frames, distances of boundaries in ms, and numbers of segments."""

    frames: FrameCounts = FrameCounts()
    errors: tuple[float, ...] = ()
    wanted: int = 0
    found: int = 0

    def add(self, right: Finding, found: Finding) -> Score:
        """The score with one more recording."""
        count = min(len(right.speech), len(found.speech))
        return Score(
            self.frames.plus(FrameCounts.of(right.speech[:count], found.speech[:count])),
            self.errors + boundary_errors(right.segments, found.segments),
            self.wanted + len(right.segments),
            self.found + len(found.segments),
        )

    def lines(self, name: str) -> list[str]:
        """Two lines for people: frames and boundaries."""
        frames = self.frames
        total = frames.found + frames.missed + frames.silent
        errors = np.array(self.errors or [0.0])
        # Of the values themselves, since there is nothing between a number and infinity.
        median, most = np.percentile(errors, [50, 90], method="higher")
        close = 100 * np.mean(errors <= CLOSE_MS)
        return [
            f"{name}: %F1 {frames.f1:.2f} [ miss {frames.miss:.2f} %, "
            f"false alarm {frames.false_alarm:.2f} %, {total} frames ]",
            f"{name}: boundaries median {median:.0f} ms, 90th percentile {most:.0f} ms, "
            f"{close:.1f} % within {CLOSE_MS} ms [ {self.found} segments for {self.wanted} ]",
        ]


def boundary_errors(right: Iterable[Span], found: Iterable[Span]) -> tuple[float, ...]:
    """How far each beginning and end, of either side, is from the nearest of the other, in ms.

    So a segment too many counts as one too few does; where the other side has none it is infinite.

    >>> boundary_errors([Span(0, 900), Span(2000, 2500)], [Span(30, 2400)])
    (30.0, 1970.0, 1500.0, 100.0, 30.0, 100.0)
    """
    errors: list[float] = []
    pairs = [np.array(list(spans), dtype=float).reshape(-1, 2) for spans in (right, found)]
    for ours, others in (pairs, pairs[::-1]):
        for kind in (0, 1):
            distance = np.abs(ours[:, kind, None] - others[None, :, kind])
            errors += distance.min(1, initial=np.inf).tolist()
    return tuple(errors)


def find(release: VadRelease, wave: torch.Tensor) -> Finding:
    """The speech that a detector finds in samples (N,)."""
    frontend = release.frontend
    level = decibels(wave, *frame_samples(frontend))
    if not len(level):
        return Finding(np.zeros(0, bool), [])
    with torch.no_grad():
        posteriors = release.model(frontend(wave)[None])[0]
    silent = posteriors[:, list(release.options.sil_pdf_ids)].double().sum(1).numpy()
    speech, _ = decide(release.options, silent, level)
    return Finding(speech.astype(bool), advance(release.options, silent, level, _START, True)[0])


def label(options: VadOptions, spans: Spans, count: int, frontend: Frontend) -> Finding:
    """The speech that the labels give for `count` frames."""
    speech = frame_labels(spans, count, frontend).numpy().astype(bool)
    level = np.zeros(count)
    segments, _ = advance(options, 1.0 - speech, level, _START, True)
    return Finding(speech, segments)


def compare(
    folder: Path, release: VadRelease, reference: VadRelease | None, left_out: list[str]
) -> Iterator[tuple[str, Finding, Finding]]:
    """For each recording what it is compared with, what that holds, and what is found; those whose
    audio cannot be read are noted in `left_out`.
    """
    labels = read_spans(folder / "segments") if (folder / "segments").is_file() else None
    if labels is None and reference is None:
        raise ConfigError(f"{folder}: has no segments; give them, or reference_vad=")
    for key, source in read_table(folder / "wav.scp").items():
        try:
            wave = read_audio(source, target_fs=release.frontend.fs, allow_pipe=True)
        except AudioError as error:
            log.warning("recording '%s': %s; left out", key, error)
            left_out.append(key)
            continue
        found = find(release, wave)
        if labels is not None:
            count = len(found.speech)
            right = label(release.options, labels.get(key, []), count, release.frontend)
            yield "labels", right, found
        if reference is not None:
            yield "reference_vad", find(reference, wave), found


def score_vad(config: DictConfig) -> int:
    """Print and write the figures of `config.model` on `config.data`."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    release = load(VAD, find_model(config.model), graphs=False)
    reference = None
    if config.reference_vad:
        reference = load(VAD, find_model(config.reference_vad), graphs=False)
    scores: dict[str, Score] = {}
    left_out: list[str] = []
    for name, right, found in compare(Path(config.data), release, reference, left_out):
        scores[name] = scores.get(name, Score()).add(right, found)
    lines = [line for name, score in scores.items() for line in score.lines(name)]
    if config.out:
        write_text(config.out, "".join(f"{line}\n" for line in lines))
    print("\n".join(lines))
    if left_out:
        log.warning("%s: these figures are without %d recordings", config.data, len(left_out))
    return 1 if left_out else 0


def main() -> int:
    """Entry of bin/score_vad.py."""
    return run("score_vad", score_vad)
