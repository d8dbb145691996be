"""`bin/combine.py`: folders of decode.py become one."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraformer.data.corpus.tables import read_table, write_table
from paraformer.programs import combine

Tables = dict[str, str]


def decoded(folder: Path, tokens: Tables, scores: Tables | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "token", tokens)
    write_table(folder / "score", scores or dict.fromkeys(tokens, "-1.0 0.9"))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["combine.py", *arguments])
    return combine.main()


def test_systems_vote_and_one_that_lacks_an_utterance_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    a = decoded(tmp_path / "a", {"u1": "今 天 he@@ llo", "u2": "好"})
    b = decoded(tmp_path / "b", {"u1": "明 天 he@@ llo"})
    c = decoded(tmp_path / "c", {"u1": "明 天 he@@ y", "u2": "号"})
    out = tmp_path / "out"
    assert run(monkeypatch, f"systems=[{a},{b},{c}]", f"out={out}") == 0
    assert read_table(out / "token") == {"u1": "明 天 he@@ llo", "u2": "好"}
    assert read_table(out / "text") == {"u1": "明天hello", "u2": "好"}
    assert run(monkeypatch, f"systems=[{a},{b}]", "weights=[3,1]", f"out={out}") == 0
    assert read_table(out / "text")["u1"] == "今天hello"


def test_readings_share_a_vote_by_their_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """exp(-1), twice exp(-1.5): 0.37 against 0.45; at scale 3 0.05 against 0.02."""
    best = decoded(tmp_path / "a" / "nbest" / "1", {"u": "a b"}, {"u": "-1.0 0.5"}).parents[1]
    decoded(best, {"u": "a b"})
    for rank in (2, 3):
        decoded(best / "nbest" / str(rank), {"u": "a c"}, {"u": "-1.5 0.5"})
    for scale, expected in (("1", "a c"), ("3", "a b")):
        out = tmp_path / f"out{scale}"
        assert run(monkeypatch, f"systems=[{best}]", "nbest=3", f"scale={scale}", f"out={out}") == 0
        assert read_table(out / "token") == {"u": expected}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["out=o"], "names none"),
        (["systems=[a]", "weights=[1,2]", "out=o"], "2 for 1 systems"),
        (["systems=[a]", "out=a"], "is one of the systems"),
        (["systems=[a]", "nbest=2", "out=o"], "decode with nbest=2"),
        (["systems=[b]", "out=o"], "no such file"),
        (["systems=[c]", "out=o"], "decode again"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
):
    monkeypatch.chdir(tmp_path)
    decoded(Path("a"), {"u": "a"})
    decoded(Path("c"), {"u": "a"}, {"u": "much"})
    assert run(monkeypatch, *arguments) == 1
    said = capsys.readouterr().err.strip()
    assert line in said
    assert "\n" not in said
