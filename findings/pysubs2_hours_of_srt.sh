#!/usr/bin/env bash
# pysubs2 1.8.1 and subtitles of more than 99 hours.
#
# One expects: 100 hours and one second are read as such, or refused, and what is written from
# 100 hours on is later than what is written at 99 hours.
# What happens: in SRT `100:00:01,000` is read as one second (two digits of hours are looked for, so
# `1` is passed over), without a warning, while the same time in WebVTT is read rightly; and every
# time from 100 hours on is written as 99:59:59,999 in both, with a warning that is easily lost,
# though WebVTT has no such limit.
# Why it matters: live captions and monitoring recordings run for days. Whoever checks a long SRT by
# reading it back with pysubs2 sees lines of the fifth day at the start of the first.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here; install it" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q --disable-pip-version-check pysubs2==1.8.1
"$place/venv/bin/python" - <<'PYTHON'
import warnings

import pysubs2

hour = 3_600_000
srt = "1\n100:00:01,000 --> 100:00:02,000\nfifth day\n"
vtt = "WEBVTT\n\n" + srt.replace(",", ".")
read = {kind: pysubs2.SSAFile.from_string(text, kind)[0].start for kind, text in (("srt", srt), ("vtt", vtt))}
written = {}
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for kind in ("srt", "vtt"):
        file = pysubs2.SSAFile()
        file.append(pysubs2.SSAEvent(100 * hour + 1000, 120 * hour, "fifth day"))
        lines = file.to_string(kind).splitlines()
        written[kind] = next(line for line in lines if "-->" in line)
print(f"pysubs2 {pysubs2.VERSION}")
print(f"100:00:01 is read in ms as {read} ({100 * hour + 1000} is right)")
print(f"100:00:01 --> 120:00:00 is written as {written}, warnings: {len(said)}")
same = read == {"srt": 1000, "vtt": 100 * hour + 1000} and written == {
    "srt": "99:59:59,999 --> 99:59:59,999",
    "vtt": "99:59:59.999 --> 99:59:59.999",
}
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
