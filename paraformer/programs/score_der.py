"""Diarisation error rate of turns of speakers against a reference, both RTTM.

Prints one line with and one without what several say at once, such as

  %DER 12.00 [ missed 2.00, false alarm 4.00, confusion 6.00 of 50.000 s ]
  %DER_SINGLE 8.00 [ missed 1.00, false alarm 4.00, confusion 3.00 of 45.000 s ]

and writes into `out` a line for each recording. The collar is NIST's: so many seconds on either
side of each border of the reference do not count; pyannote's of 0.5 is one of 0.25 here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from omegaconf import DictConfig

from paraformer.data.corpus.der import DiarizationErrors, score_turns
from paraformer.data.corpus.rttm import read_rttm, read_uem
from paraformer.data.corpus.tables import write_text
from paraformer.errors import DataError
from paraformer.limits import Limits, check_values
from paraformer.programs.hydra_main import run

_log = logging.getLogger(__name__)

KINDS = {"DER": True, "DER_SINGLE": False}  # whether overlap counts


def score_der(config: DictConfig) -> int:
    """Print the error rates of `config.hyp` against `config.ref`."""
    check_values({"collar": config.collar}, {"collar": Limits(0, 60)})
    ref, hyp = read_rttm(config.ref), read_rttm(config.hyp)
    scored = read_uem(config.uem) if config.uem else {}
    files = sorted(scored) if config.uem else sorted(ref)
    if not files:
        raise DataError(f"{config.ref}: no line `SPEAKER file ...`; give the reference as RTTM")
    _warn("without hypothesis, counted as missed", (file for file in files if file not in hyp))
    _warn("without reference, not counted", (file for file in hyp if file not in files))
    lines = []
    whole = dict.fromkeys(KINDS, DiarizationErrors())
    for file in files:
        given = ref.get(file, []), hyp.get(file, []), scored.get(file)
        for name, overlap in KINDS.items():
            errors = score_turns(*given, collar=config.collar, overlap=overlap)
            whole[name] = whole[name].plus(errors)
            lines.append(f"{file} {errors.line(name)}\n")
    if config.out:
        write_text(config.out, "".join(lines))
    print("\n".join(errors.line(name) for name, errors in whole.items()))
    print(f"collar {config.collar:g} s on either side of {len(files)} recordings' borders")
    return 0


def _warn(what: str, files: Iterable[str]) -> None:
    names = list(files)
    if names:
        _log.warning("%d recordings %s: %s", len(names), what, " ".join(names[:5]))


def main() -> int:
    """Entry of `bin/score_der.py` and `funasr-score_der`."""
    return run("score_der", score_der)
