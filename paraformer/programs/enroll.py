"""Voices to be known by name: of a folder of clips, a file that `speakers` takes.

Clips are named after who speaks in them (Anna.wav, or any name in a folder Anna), or by the utt2spk
of a data directory. Prints how often names would be wrong among these clips themselves, such as

  threshold 0.31: %false accept 4.00 [ 1 / 25 ], %false reject 8.00 [ 2 / 25 ]

a false accept is a clip that would be given another's name if its own voice were not known, so that
this depends on how many names there are; a false reject one that is not like the other clips of its
own voice. `out` is JSON, `{name: [numbers]}`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from paraformer.api.enrolment import Clip, format_voices, known_of
from paraformer.api.speakers import DiarizationTask
from paraformer.data.corpus.tables import write_text
from paraformer.errors import ConfigError
from paraformer.models.kinds import SPEAKER
from paraformer.programs.hydra_main import run
from paraformer.programs.inference import keywords, load

log = logging.getLogger(__name__)


def enroll(config: DictConfig) -> int:
    """Write the voices of `config.data`."""
    given = keywords(config)
    folder = Path(config.data)
    if not folder.is_dir():
        raise ConfigError(f"data={folder}: no such folder; give one of clips")
    task = load(config, given, SPEAKER).task
    assert isinstance(task, DiarizationTask)  # there is a VAD
    clips = list(task.enrolment.clips(folder))
    known = known_of(clips)
    write_text(Path(config.out), format_voices(known))
    log.info("enrolled %d voices of %d clips", len(known.names), len(clips))
    print(measured(clips, task.voices.threshold(config.spk_threshold)))
    return 0


def measured(clips: list[Clip], threshold: float) -> str:
    """The line that says how often names would be wrong."""
    accepted = strangers = rejected = targets = 0
    for place, clip in enumerate(clips):
        others = [other for other in clips if other.name != clip.name]
        if others:
            strangers += 1
            accepted += known_of(others).nearest(clip.embedding)[1] >= threshold
        rest = [*clips[:place], *clips[place + 1 :]]
        own = [other for other in rest if other.name == clip.name]
        if own:
            targets += 1
            rejected += known_of(own).nearest(clip.embedding)[1] < threshold
    return (
        f"threshold {threshold:g}: {_rate('false accept', accepted, strangers)}, "
        f"{_rate('false reject', rejected, targets)}"
    )


def _rate(name: str, errors: int, count: int) -> str:
    if not count:
        return f"%{name} - [ no clips to measure with ]"
    return f"%{name} {100 * errors / count:.2f} [ {errors} / {count} ]"


def main() -> int:
    """Entry of `bin/enroll.py` and `funasr-enroll`."""
    return run("enroll", enroll)
