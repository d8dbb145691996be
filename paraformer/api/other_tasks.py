"""Tasks beside recognition: segments of a VAD, punctuation, alignment, speakers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from paraformer import options as opts
from paraformer.api.alignment import AlignTask
from paraformer.api.detection import VadTask
from paraformer.api.punctuation import PunctuationTask
from paraformer.api.speakers import speaker_task
from paraformer.api.tasks import Task
from paraformer.backends.devices import choose_device, place
from paraformer.decode.align import ForcedAligner
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.vad import VoiceActivity
from paraformer.models.kinds import ALIGNER, PUNCTUATION, SPEAKER, VAD, Kind
from paraformer.models.release import load, load_punctuation, load_vad


def _vad_task(directory: Path, given: dict[str, Any], build: opts.BuildOptions) -> Task:
    device = choose_device(build.device)
    return VadTask(VoiceActivity(load_vad(directory, given), device=device), device)


def _punctuation_task(directory: Path, given: dict[str, Any], build: opts.BuildOptions) -> Task:
    device, dtype = place(build.device, build.dtype, PUNCTUATION)
    return PunctuationTask(Punctuator(load_punctuation(directory, given), device, dtype))


def _align_task(directory: Path, given: dict[str, Any], build: opts.BuildOptions) -> Task:
    device, dtype = place(build.device, build.dtype, ALIGNER)
    release = load(ALIGNER, directory, given, mapped=True)
    return AlignTask(ForcedAligner(release, device, dtype))


OTHER_TASKS: dict[Kind | None, Callable[[Path, dict[str, Any], opts.BuildOptions], Task]] = {
    VAD: _vad_task,
    PUNCTUATION: _punctuation_task,
    ALIGNER: _align_task,
    SPEAKER: speaker_task,
}
