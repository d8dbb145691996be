"""`bin/make_arpa.py`: a file that decode.py takes, and what it refuses."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from paraformer.data.corpus.tables import read_table
from paraformer.data.text.ngram_table import NgramTable
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
MODEL = ROOT / "paraformer/bundled/paraformer-zh-mini"


def run(program, folder, *arguments):
    command = [sys.executable, ROOT / "bin" / program, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").write_text("u1 你好世界\nu2 你好世界\nu3\nu4 好 hello\n", encoding="utf-8")
    (tmp_path / "tokens").write_text("a b\na\na\n", encoding="utf-8")
    return tmp_path


def entries(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split("\t")[1]: line.split("\t")[0] for line in lines if "\t" in line}


def test_a_line_is_a_sentence_of_tokens(folder):
    """Those are the numbers of `a b` and `a` in test_ngram.py: a sentence counts once."""
    done = run("make_arpa.py", folder, "text=tokens", "out=lm/x.arpa", "order=2")
    assert done.returncode == 0, done.stderr
    assert "5, 4 n-grams of order 1 to 2" in done.stderr
    found = entries(folder / "lm/x.arpa")
    assert 10 ** float(found["a b"]) == pytest.approx(0.375, rel=1e-5)
    done = run("make_arpa.py", folder, "text=tokens", "out=x.arpa", "order=2", "unique=false")
    assert done.returncode == 0, done.stderr
    assert 10 ** float(entries(folder / "x.arpa")["a b"]) != pytest.approx(0.375, rel=1e-3)


def test_ids_of_a_kaldi_text_are_no_tokens(folder):
    (folder / "text").write_text("u1 a b\nu2 a\n", encoding="utf-8")
    for name in ("text", "tokens"):
        done = run("make_arpa.py", folder, f"text={name}", f"out={name}.arpa", "order=2")
        assert done.returncode == 0, done.stderr
    assert entries(folder / "text.arpa") == entries(folder / "tokens.arpa")


def test_kaldi_text_is_read_as_the_tokens_of_a_model(folder):
    done = run("make_arpa.py", folder, "text=text", f"lang={MODEL}", "out=lm.arpa")
    assert done.returncode == 0, done.stderr
    found = entries(folder / "lm.arpa")
    assert {"<s> 你 好", "你 好 世", "世 界 </s>", "好"} <= set(found)
    assert "u1" not in found


def test_decoding_with_it(folder):
    pytest.importorskip("kenlm", reason="needs kenlm: pip install .[lm]")
    (wav,) = list((MODEL / "example").glob("*.wav"))[:1]
    (folder / "data").mkdir()
    (folder / "data/wav.scp").write_text(f"u1 {wav}\n")
    options = ("nbest=3", "lm_file=none")
    plain = run("decode.py", folder, f"model={MODEL}", "data=data", "out=plain", *options)
    assert plain.returncode == 0, plain.stderr
    third = read_table(folder / "plain/nbest/3/token")["u1"]
    (folder / "third").write_text(third + "\n", encoding="utf-8")
    assert run("make_arpa.py", folder, "text=third", "out=lm.arpa").returncode == 0
    options = ("lm_file=lm.arpa", "lm_weight=30", "lm_nbest=3", "device=cpu")
    done = run("decode.py", folder, f"model={MODEL}", "data=data", "out=out", *options)
    assert done.returncode == 0, done.stderr
    lines = ["INFO: computes on cpu in fp32", "INFO: decoded 1 of 1 utterances"]
    assert done.stderr.splitlines() == lines  # kenlm says nothing of its own
    assert read_table(folder / "out/token")["u1"] == third
    assert read_table(folder / "plain/token")["u1"] != third


def test_a_pruned_model_that_needs_no_kenlm(folder):
    options = ("text=tokens", "order=2", "most=2")
    done = run("make_arpa.py", folder, *options, "out=lm/x.lm")
    assert done.returncode == 0, done.stderr
    assert "5, 2 n-grams of order 1 to 2" in done.stderr
    table = NgramTable(folder / "lm/x.lm")
    assert run("make_arpa.py", folder, *options, "out=x.arpa").returncode == 0
    found = entries(folder / "x.arpa")
    assert sorted(table.words) == sorted(gram for gram in found if " " not in gram)
    for gram in (gram for gram in found if " " in gram):
        first, last = table.places(gram.split())
        logp, _ = table.step(np.array([[first]]), np.array([last]))
        assert math.exp(logp[0]) == pytest.approx(10 ** float(found[gram]), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("text=nowhere", "out=x"), "nowhere: no such file"),
        (("text=tokens", "out=."), "is a folder; name a file"),
        (("text=tokens", "out=x", "order=1"), "order=1: give a whole number from 2 to 9"),
        (("text=tokens", "out=x", "most=0"), "most=0: give a whole number"),
        (("text=text", "out=x", "lang=nowhere"), "nowhere/tokens.json"),
    ],
)
def test_a_fault_is_one_line(folder, arguments, message):
    done = run("make_arpa.py", folder, *arguments)
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1
