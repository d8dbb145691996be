#!/usr/bin/env bash
# pyannote.metrics 4.2.0 and the collar of a diarisation error rate.
#
# One expects: that a collar of 0.25 is the one of NIST's md-eval and of nearly all published tables:
# 0.25 s are left out before and 0.25 s behind each border of the reference.
# What happens: the number is the width of the whole hole, so 0.125 s are left out on each side. A
# border that is 0.2 s late, which costs nothing by NIST's rule, is counted; 0.5 must be given for
# the collar of the tables. md-eval's rule is written out beside it as plain arithmetic.
# Why it matters: the two numbers are printed under one name. With the collar of the tables an error
# rate from this package is worse than theirs, and an argument of 0.5 copied from elsewhere means
# half of what it meant there.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here (apt install python3-venv)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv

venv/bin/pip install -q --disable-pip-version-check pyannote.metrics==4.2.0
venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version

from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

print("pyannote.metrics", version("pyannote.metrics"))
END, BORDER, LATE = 20.0, 10.0, 0.2


def turns(border):
    talk = Annotation()
    talk[Segment(0.0, border)] = "anna"
    talk[Segment(border, END)] = "ben"
    return talk


def confused(width_of_each_side):
    """Seconds given to the wrong speaker that are left beside a hole about the border."""
    return max(0.0, LATE - width_of_each_side)


same = True
for collar in (0.0, 0.25, 0.4, 0.5):
    parts = DiarizationErrorRate(collar=collar)(turns(BORDER), turns(BORDER + LATE), detailed=True)
    found = parts["confusion"]
    print(f"collar={collar}: {found:.3f} s confused; each side as wide: {confused(collar):.3f} s, "
          f"half as wide: {confused(collar / 2):.3f} s")
    same &= abs(found - confused(collar / 2)) < 1e-6
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
