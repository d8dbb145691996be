"""score_der.py: error rates by hand, and those of pyannote-metrics and simpleder."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

pytest.importorskip("scipy", reason="pairs of speakers are an extra: pip install scipy")

from paraformer.data.corpus.der import DiarizationErrors, score_turns  # noqa: E402
from paraformer.data.corpus.rttm import NamedTurn, joined, read_rttm  # noqa: E402
from paraformer.errors import DataError  # noqa: E402
from tests.conftest import ROOT  # noqa: E402


def turns(*rows):
    return [NamedTurn(*row) for row in rows]


REF = turns((0, 10, "A"), (10, 20, "B"), (18, 24, "C"))
HYP = turns((0, 8, "x"), (11, 20, "y"), (20, 26, "x"))


@pytest.mark.parametrize(
    ("collar", "overlap", "expected"),
    [
        # A is x, B is y: 8-10, 10-11 and one of 18-20 are missed, 20-24 is x for C, then nobody.
        (0.0, True, (2 + 1 + 2, 2, 4, 26)),
        (0.0, False, (2 + 1, 2, 4, 22)),
        # Of 0.25 s: 8-9.75, 10.25-11, 18.25-19.75; 20.25-23.75; 24.25-26.
        (0.25, True, (1.75 + 0.75 + 1.5, 1.75, 3.5, 9.5 + 7.5 + 2 * 1.5 + 3.5)),
    ],
)
def test_parts_by_hand(collar, overlap, expected):
    found = score_turns(REF, HYP, collar=collar, overlap=overlap)
    assert found == pytest.approx(DiarizationErrors(*expected))


def test_only_what_is_scored_counts():
    assert score_turns(REF, HYP, [(0, 9)]) == pytest.approx(DiarizationErrors(1, 0, 0, 9))
    assert score_turns([], HYP, [(0, 9)]).line().startswith("%DER - ")


def drawn(seed, overlap):
    """Turns of up to four speakers; those of one do not overlap."""
    pick = random.Random(seed)
    found = []
    for speaker in "ABCD"[: pick.randint(1, 4)]:
        time = pick.uniform(0, 6)
        while time < 60:
            length = pick.uniform(0.2, 6)
            found.append((round(time, 2), round(time + length, 2), speaker))
            time += length + pick.uniform(0.01, 20)
    if not overlap:
        found.sort()
        nexts = [*found[1:], (1e9, 0, "")]
        found = [(s, min(e, after[0]), n) for (s, e, n), after in zip(found, nexts, strict=True)]
    return sorted(turns(*(row for row in found if row[1] > row[0])))


@pytest.mark.parametrize("collar", [0.0, 0.25])
@pytest.mark.parametrize("overlap", [True, False])
def test_the_parts_are_those_of_pyannote(collar, overlap):
    core = pytest.importorskip("pyannote.core", reason="pip install pyannote.metrics")
    metrics = pytest.importorskip("pyannote.metrics.diarization")

    def annotated(rows):
        made = core.Annotation()
        for number, (start, end, name) in enumerate(rows):
            made[core.Segment(start, end), number] = name
        return made

    for seed in range(40):
        ref, hyp = drawn(seed, True), drawn(1000 + seed, True)
        theirs = metrics.DiarizationErrorRate(collar=2 * collar, skip_overlap=not overlap)
        uem = core.Timeline([core.Segment(0, 70)])
        parts = theirs(annotated(ref), annotated(hyp), uem=uem, detailed=True)
        expected = [parts[x] for x in ("missed detection", "false alarm", "confusion", "total")]
        found = score_turns(ref, hyp, [(0, 70)], collar, overlap)
        assert list(found) == pytest.approx(expected, abs=1e-6), seed


def test_the_rate_is_that_of_simpleder():
    simpleder = pytest.importorskip("simpleder", reason="pip install simpleder")
    for seed in range(40):
        ref, hyp = drawn(seed, False), drawn(1000 + seed, False)
        rows = [[(t.speaker, t.start, t.end) for t in part] for part in (ref, hyp)]
        found = score_turns(ref, hyp)
        assert found.wrong / found.total == pytest.approx(simpleder.DER(*rows), abs=1e-6), seed


def test_turns_of_one_speaker_are_joined(tmp_path):
    path = tmp_path / "rttm"
    rows = [("0", "2", "a b"), ("1.5", "1", "a"), ("4", "0", "a"), ("3", "1", "b")]
    lines = [f"SPEAKER f 1 {s} {d} <NA> <NA> {n} <NA> <NA>" for s, d, n in rows[1:]]
    path.write_text("\n".join(["SPKR-INFO f 1 <NA> <NA> <NA> unknown a <NA>", *lines, lines[0]]))
    assert read_rttm(path) == {"f": turns((1.5, 2.5, "a"), (3, 4, "b"))}
    assert joined([(0, 2), (1, 5), (5, 6), (7, 8)]) == [(0, 6), (7, 8)]


@pytest.mark.parametrize(
    "line", ["SPEAKER f 1 x 1 <NA> <NA> a", "SPEAKER f 1 0 -1 <NA> <NA> a", "SPEAKER f"]
)
def test_what_is_no_rttm_is_one_line(tmp_path, line):
    (tmp_path / "rttm").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"rttm:1: no line of an RTTM"):
        read_rttm(tmp_path / "rttm")


def test_the_program_prints_both_rates(tmp_path):
    def write(name, rows):
        lines = [f"SPEAKER f 1 {s} {e - s} <NA> <NA> {n} <NA> <NA>\n" for s, e, n in rows]
        (tmp_path / name).write_text("".join(lines))
        return f"{name.split('.')[0]}={tmp_path / name}"

    command = [sys.executable, str(ROOT / "bin" / "score_der.py"), "collar=0"]
    command += [write("ref.rttm", REF), write("hyp.rttm", HYP), f"out={tmp_path / 'each'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # 11 of 26 s, and 9 of 22 s
    assert done.stdout.splitlines()[:2] == [
        "%DER 42.31 [ missed 19.23, false alarm 7.69, confusion 15.38 of 26.000 s ]",
        "%DER_SINGLE 40.91 [ missed 13.64, false alarm 9.09, confusion 18.18 of 22.000 s ]",
    ]
    assert (tmp_path / "each").read_text().splitlines()[0].startswith("f %DER 42.31")
