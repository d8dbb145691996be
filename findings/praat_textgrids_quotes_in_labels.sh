#!/usr/bin/env bash
# praat-textgrids 1.4.0 and labels with quotation marks.
#
# One expects: that a mark in a label, which Praat writes twice in a TextGrid ("" for "), is read as one,
# as textgrid 1.6.1 does.
# What happens: inside a label it is read as two, and at the end of a label not at all.
# Why it matters: transcripts of one file that two packages read differ by marks that nobody put there,
# so that word counts, hashes and alignments of the two do not agree.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here (apt install python3-venv)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv

venv/bin/pip install -q --disable-pip-version-check praat-textgrids==1.4.0 TextGrid==1.6.1
venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version
from pathlib import Path

import textgrid
import textgrids

print("praat-textgrids", version("praat-textgrids"), "beside TextGrid", version("TextGrid"))
SAID = 'she said "yes"'


def content(label):
    """A TextGrid of one interval, its label as it stands in the file."""
    return f"""File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "{label}"
"""


Path("a.TextGrid").write_text(content(SAID.replace('"', '""')))
read = str(textgrids.TextGrid("a.TextGrid")["words"][0].text)

theirs = textgrid.TextGrid.fromFile("a.TextGrid")[0][0].mark
print(f"in the file {SAID!r}: {read!r}; TextGrid reads {theirs!r}")
same = read == 'she said ""yes' and theirs == SAID
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
