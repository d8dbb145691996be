"""Tables of n-grams say what the ARPA file of the same model says, and kenlm of that."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from paraformer.data.text.ngram import BEGIN, END, arpa_lines, estimate, prune
from paraformer.data.text.ngram_table import (
    MAGIC,
    NgramTable,
    is_ngram_table,
    quantised,
    write_ngrams,
)
from paraformer.errors import ConfigError
from tests.unit.data.text.test_ngram import log10_share, read_arpa


@pytest.fixture(scope="module")
def sentences():
    """So few words that no column has more than 256 values, which are then kept as they are."""
    draw = random.Random(0)
    words = ["甲", "乙", "b", "c", "d@@"]
    return [draw.choices(words, (5, 4, 3, 2, 1), k=draw.randint(1, 7)) for _ in range(60)]


def table_of(folder, model):
    write_ngrams(folder / "x.lm", model)
    return NgramTable(folder / "x.lm")


def test_two_sentences_by_hand(tmp_path):
    """The numbers of `a b` and `a` that test_ngram.py works out."""
    table = table_of(tmp_path, estimate([["a", "b"], ["a"]], 2))
    assert table.score(["a"]) == pytest.approx(math.log(0.625 * 0.4375), abs=1e-6)
    assert table.score(["a", "b"]) == pytest.approx(math.log(0.625 * 0.375 * 0.6875), abs=1e-6)
    assert table.score(["b"]) == pytest.approx(math.log(0.5 * 0.25 * 0.6875), abs=1e-6)
    wanted = math.log(0.5 * 0.125 * 0.375)  # after <unk> there is no backoff
    assert table.score(["never"]) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("most", [10_000, 40])
def test_a_table_says_what_the_arpa_file_says(sentences, tmp_path, order, most):
    model = prune(estimate(sentences, order), most)
    table = table_of(tmp_path, model)
    lines = list(arpa_lines(model))
    entries, _ = read_arpa(lines)
    said = [*sentences[:20], ["甲", "never", "乙"], ["never"], ["d@@"] * 6, []]
    scores = [table.score(words) for words in said]
    for words, score in zip(said, scores, strict=True):
        known = ["<unk>" if word == "never" else word for word in words]
        padded = (BEGIN, *known, END)
        total = sum(
            log10_share(entries, padded[max(0, n - order + 1) : n], padded[n])
            for n in range(1, len(padded))
        )
        assert score == pytest.approx(total * math.log(10.0), abs=1e-5)
    kenlm = pytest.importorskip("kenlm", reason="needs kenlm: pip install .[lm]")
    (tmp_path / "x.arpa").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = kenlm.Model(str(tmp_path / "x.arpa"))
    found = [read.score(" ".join(words)) * math.log(10.0) for words in said]
    assert scores == pytest.approx(found, abs=1e-4)


def test_many_are_looked_up_as_one(sentences, tmp_path):
    table = table_of(tmp_path, estimate(sentences, 3))
    words = np.arange(len(table.words))
    _, states = table.step(np.repeat(table.start[None], len(words), 0), words)
    logp, behind = table.step(states, words[::-1].copy())
    for place, word in enumerate(words[::-1]):
        one, after = table.step(states[[place]], np.array([word]))
        assert one[0] == logp[place] and (after[0] == behind[place]).all()


def test_the_same_future_has_the_same_number(sentences, tmp_path):
    """After an n-gram that is not in the model only its last words count."""
    table = table_of(tmp_path, prune(estimate(sentences, 3), 12))
    words = np.arange(1, len(table.words))
    pairs = np.array([(one, other) for one in words for other in words])
    start = np.repeat(table.start[None], len(pairs), 0)
    _, states = table.step(table.step(start, pairs[:, 0])[1], pairs[:, 1])
    futures = table.futures(states)
    likely = {}
    for state, future in zip(states, futures, strict=True):
        logp, _ = table.step(np.repeat(state[None], len(words), 0), words)
        assert likely.setdefault(int(future), logp.tolist()) == logp.tolist()
    assert len(words) < len(likely) < len(pairs)


def test_more_values_than_a_byte_tells_become_the_nearest_of_as_many():
    column = np.random.default_rng(0).normal(size=5000)
    values, codes = quantised(column)
    assert len(values) == 256 and (np.diff(values) > 0).all()
    nearest = np.abs(column[:, None] - values).argmin(1)
    assert np.abs(column - values[codes]) == pytest.approx(np.abs(column - values[nearest]))
    assert np.abs(column - values[codes]).mean() < 0.01


def test_a_damaged_file_is_one_line(tmp_path):
    write_ngrams(tmp_path / "x.lm", estimate([["a", "b"], ["a"]], 2))
    whole = (tmp_path / "x.lm").read_bytes()
    assert is_ngram_table(tmp_path / "x.lm")
    for damaged in (whole[:-1], whole[:200], MAGIC, MAGIC + b"[]\n", MAGIC + b"[[1]]\n"):
        (tmp_path / "y.lm").write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"y\.lm: no n-grams .*; copy it again"):
            NgramTable(tmp_path / "y.lm")
