"""bin/punctuate.py and bin/score_punctuation.py on Kaldi `text` files."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from paraformer.data.corpus.tables import read_table
from paraformer.data.text.tokenizer import read_token_list
from paraformer.decode.punctuate import Punctuator
from paraformer.models.release import load_punctuation
from tests.conftest import ROOT
from tests.parity.oracle import FIXTURES

pytestmark = pytest.mark.cli
MODEL = FIXTURES / "oracle/ct_punc"
TEXT = "u2 今天天气怎么样\tOK  3.14 吗\nu1 你好，World！\nu3\n"

# ，: 1 hit, 2 written, 2 wanted; 。: 1, 2, 2; ？: 0, 1, 1.
REF = "a 好，ok 吗？\nb 你，们。\nc 是。\n"
HYP = "a 好，ok, 吗。\nb 你们？\nc 是。\n"
LINES = [
    "%F1 ， 50.00 [ precision 50.00, recall 50.00, 1 of 2 written, 2 in the reference ]",
    "%F1 。 50.00 [ precision 50.00, recall 50.00, 1 of 2 written, 2 in the reference ]",
    "%F1 ？ 0.00 [ precision 0.00, recall 0.00, 0 of 1 written, 1 in the reference ]",
    "%F1 all 40.00 [ precision 40.00, recall 40.00, 2 of 5 written, 5 in the reference ]",
]


def program(folder, name, *arguments):
    command = [sys.executable, ROOT / f"bin/{name}.py", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").write_text(TEXT, encoding="utf8")
    (tmp_path / "ref").write_text(REF, encoding="utf8")
    (tmp_path / "hyp").write_text(HYP, encoding="utf8")
    return tmp_path


def test_each_line_is_that_of_the_library(folder):
    done = program(folder, "punctuate", f"model={MODEL}", "text=text", "out=out/text")
    assert done.returncode == 0, done.stderr
    assert "punctuated 3 of 3 utterances" in done.stderr
    marker = Punctuator(load_punctuation(MODEL))
    expected = {k: marker.punctuate(v).text for k, v in read_table(folder / "text").items()}
    assert read_table(folder / "out/text") == dict(sorted(expected.items()))
    assert expected["u1"] != "你好，World！" or expected["u2"] != "今天天气怎么样\tOK  3.14 吗"
    assert expected["u3"] == ""


def test_plain_lines_stay_in_their_lines(folder):
    (folder / "plain.txt").write_text("今天天气怎么样\n\nhello world how are you\n", "utf8")
    done = program(folder, "punctuate", f"model={MODEL}", "text=plain.txt", "out=marked.txt")
    assert done.returncode == 0, done.stderr
    first, blank, second = (folder / "marked.txt").read_text("utf8").splitlines()
    marker = Punctuator(load_punctuation(MODEL))
    assert (first, blank) == (marker.punctuate("今天天气怎么样").text, "")
    assert second == marker.punctuate("hello world how are you").text


def test_the_size_of_windows_counts(folder):
    words = "".join(read_token_list(MODEL / "tokens.json")[3:200])
    (folder / "text").write_text(f"u {words}\n", encoding="utf8")
    for size in (2, 20):
        done = program(
            folder, "punctuate", f"model={MODEL}", "text=text", f"out={size}", f"split_size={size}"
        )
        assert done.returncode == 0, done.stderr
    assert read_table(folder / "2") != read_table(folder / "20")


def test_the_bundled_model_marks_its_examples(tmp_path):
    example = ROOT / "paraformer/bundled/ct-punc-mini/example/text.txt"
    done = program(tmp_path, "punctuate", f"text={example}", "out=marked")
    assert done.returncode == 0, done.stderr
    marked = read_table(tmp_path / "marked")
    assert marked["demo_1"] == "今天下雨，所以我们没有出门，在家里看了一天的书。"
    assert marked["demo_2"] == "明天你有空吗？我想请你吃饭。"
    assert " happy new year " in marked["demo_3"]
    weights = example.parent.parent / "model.pt"
    assert weights.stat().st_size < 10e6


def test_scores_are_printed_and_written(folder):
    done = program(folder, "score_punctuation", "ref=ref", "hyp=hyp", "out=f1")
    assert (done.returncode, done.stdout.splitlines()) == (0, LINES), done.stderr
    assert (folder / "f1").read_text("utf8").splitlines() == LINES


def test_the_last_mark_of_a_line_may_be_left_out(folder):
    done = program(folder, "score_punctuation", "ref=ref", "hyp=hyp", "last=false")
    assert done.stdout.splitlines() == [
        LINES[0],
        "%F1 all 50.00 [ precision 50.00, recall 50.00, 1 of 2 written, 2 in the reference ]",
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("punctuate", ["text=text"], "needs out=..."),
        ("punctuate", ["text=nowhere", "out=x"], "nowhere: no such file"),
        ("punctuate", ["text=text", "out=x", "model=nothing"], "model 'nothing': no such"),
        ("punctuate", ["text=text", "out=x", "split_size=0"], "split_size=0: give a whole number"),
        ("punctuate", ["text=text", "out=./text"], "out=./text: is the text itself"),
        ("score_punctuation", ["ref=ref", "hyp=text"], "lacks 3 lines, such as 'a'"),
        ("score_punctuation", ["ref=ref", "hyp=other"], "hypothesis 'b'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(folder, name, arguments, message):
    (folder / "other").write_text(HYP.replace("你们", "我们"), encoding="utf8")
    if name == "punctuate" and not any(a.startswith("model=") for a in arguments):
        arguments = [*arguments, f"model={MODEL}"]
    done = program(folder, name, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
