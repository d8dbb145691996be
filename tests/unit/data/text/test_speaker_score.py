"""cpCER: the least errors over all ways in which speakers stand for each other, found by trying."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from omegaconf import OmegaConf

pytest.importorskip("scipy", reason="pairs of speakers are an extra: pip install scipy")

from paraformer.data.text.score import score, units  # noqa: E402
from paraformer.data.text.speaker_score import Said, read_stm, speaker_texts  # noqa: E402
from paraformer.errors import DataError  # noqa: E402
from paraformer.programs.compute_cer import compute_cer  # noqa: E402
from tests.conftest import ROOT  # noqa: E402


def distance(one, other):
    """Edit distance by its definition."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def least(refs, hyps):
    """The fewest errors of all permutations, speakers without another one beside nothing."""
    most = max(len(refs), len(hyps))
    refs, hyps = ([*texts, *[""] * (most - len(texts))] for texts in (refs, hyps))
    return min(sum(map(distance, refs, order)) for order in permutations(hyps))


def drawn(pick, speakers):
    texts = ["".join(pick.choices("天地人你我他", k=pick.randint(0, 8))) for _ in range(speakers)]
    said = [Said(n, f"s{k}", text[n::2]) for n in (0, 1) for k, text in enumerate(texts)]
    return said, ["".join(text[n::2] for n in (0, 1)) for text in texts]


@pytest.mark.parametrize("seed", range(30))
def test_errors_are_the_least_of_all_permutations(seed):
    pick = random.Random(seed)
    (ref, said), (hyp, heard) = (drawn(pick, pick.randint(1, 5)) for _ in range(2))
    found = score(*speaker_texts({"r": ref}, {"r": hyp}, units), units)
    assert found.counts.errors == least(said, heard)
    assert found.counts.reference == sum(map(len, said))


STM = """;; a comment
call 1 Ann 0.0 2.0 <o> 今天 天气
call 1 Bob 2.0 3.0 很好
call 1 Ann 3.5 4.0 明天
call 1 inter_segment_gap 4.0 5.0 IGNORE_TIME_SEGMENT_IN_SCORING
"""
# Ann's last words are given to Bob.
HYP = """call 1 SPK0 0.0 2.0 今天天气
call 1 SPK1 2.0 4.0 很好明天
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "stm").write_text(STM, encoding="utf-8")
    (tmp_path / "hyp.stm").write_text(HYP, encoding="utf-8")
    return tmp_path


def run(**settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "score.yaml")
    return compute_cer(OmegaConf.merge(config, settings))


def test_words_of_a_wrong_speaker_count(files, capsys):
    given = {"ref": str(files / "stm"), "hyp": str(files / "hyp.stm")}
    assert run(**given) == 0
    lines = [
        "%CER 0.00 [ 0 / 8, 0 ins, 0 del, 0 sub ]",
        "%cpCER 50.00 [ 4 / 8, 2 ins, 2 del, 0 sub ]",
        "call:Ann=SPK0 %CER 33.33 [ 2 / 6, 0 ins, 2 del, 0 sub ]",
        "call:Bob=SPK1 %CER 100.00 [ 2 / 2, 2 ins, 0 del, 0 sub ]",
    ]
    assert capsys.readouterr().out.splitlines() == lines
    run(**given, out=str(files / "out"))
    assert capsys.readouterr().out.splitlines() == lines[:2]
    assert (files / "out" / "speakers").read_text("utf-8").splitlines() == lines[2:]


def test_speakers_without_another(files, capsys):
    (files / "hyp.stm").write_text("call 1 SPK0 0 1 很好\n", encoding="utf-8")
    run(ref=str(files / "stm"), hyp=str(files / "hyp.stm"))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "%cpCER 75.00 [ 6 / 8, 0 ins, 6 del, 0 sub ]",
        "call:Ann=- %CER 100.00 [ 6 / 6, 0 ins, 6 del, 0 sub ]",
        "call:Bob=SPK0 %CER 0.00 [ 0 / 2, 0 ins, 0 del, 0 sub ]",
    ]


@pytest.mark.parametrize("line", ["a 1 x 0", "a 1 x y 2 好"])
def test_what_is_no_stm_is_one_line(tmp_path, line):
    (tmp_path / "x.stm").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match="x.stm:1: no line of an STM"):
        read_stm(tmp_path / "x.stm")
