#!/usr/bin/env bash
# pyannote.metrics 4.2.0 and two turns of one speaker that overlap, as RTTM files of padded words or
# of windows have them.
#
# One expects: that somebody who speaks speaks once. Such turns are one stretch of that speaker, as
# for simpleder 0.0.8, whose error rate of such a file is that of the joined turns.
# What happens: each turn counts. A reference whose turns 0-10 and 5-12 are the same speaker's has
# 17 s of speech instead of 12; a hypothesis that is right at every moment misses five of them
# (29 %), and with the two files exchanged it has five seconds of false alarm (42 %). Only the same
# overlap in both files is free. Turns joined first (`Annotation.support`) give 0 % both ways.
# Why it matters: the file is valid and nothing warns. Systems that smooth or pad their turns are
# charged for overlapped speech of two speakers that nobody claimed, and the rate depends on how turns
# are cut.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here (apt install python3-venv)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv

venv/bin/pip install -q --disable-pip-version-check pyannote.metrics==4.2.0 simpleder==0.0.8
venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version

import simpleder
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

print("pyannote.metrics", version("pyannote.metrics"), "simpleder", version("simpleder"))
OVERLAPPING, JOINED = [(0.0, 10.0), (5.0, 12.0)], [(0.0, 12.0)]


def annotation(turns):
    talk = Annotation()
    for track, turn in enumerate(turns):
        talk[Segment(*turn), track] = "anna"
    return talk


def both(reference, hypothesis):
    pyannote = DiarizationErrorRate()(annotation(reference), annotation(hypothesis))
    listed = [[("anna", *turn) for turn in turns] for turns in (reference, hypothesis)]
    return round(pyannote, 4), round(simpleder.DER(*listed), 4)


cases = {
    "overlapping turns against joined ones": (both(OVERLAPPING, JOINED), (round(5 / 17, 4), 0.0)),
    "joined turns against overlapping ones": (both(JOINED, OVERLAPPING), (round(5 / 12, 4), 0.0)),
    "joined turns against themselves": (both(JOINED, JOINED), (0.0, 0.0)),
}
for name, (found, _) in cases.items():
    print(f"{name}: pyannote.metrics {found[0]:.2%}, simpleder {found[1]:.2%}")
joined = DiarizationErrorRate()(annotation(OVERLAPPING).support(), annotation(JOINED))
print(f"after Annotation.support: {joined:.2%}")
same = all(found == expected for found, expected in cases.values()) and joined == 0
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
