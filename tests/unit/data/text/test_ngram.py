"""N-gram models: numbers worked out by hand, sums of one, and what kenlm makes of the file."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from paraformer.data.text.ngram import (
    BEGIN,
    END,
    UNKNOWN,
    arpa_lines,
    discounts_of,
    estimate,
    prune,
)
from paraformer.errors import DataError


def read_arpa(lines):
    """An ARPA file as {n-gram: (log10 probability, log10 backoff)}, and the sizes it promises."""
    entries, sizes, size = {}, {}, 0
    for line in lines:
        if line.startswith("ngram "):
            order, number = line.removeprefix("ngram ").split("=")
            sizes[int(order)] = int(number)
        elif line.endswith("-grams:"):
            size = int(line.removeprefix("\\").removesuffix("-grams:"))
        elif "\t" in line:
            fields = line.split("\t")
            gram = tuple(fields[1].split())
            assert len(gram) == size
            entries[gram] = (float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0)
    return entries, sizes


def log10_share(entries, context, word):
    """Katz' rule, by which every reader of such a file goes."""
    if (*context, word) in entries:
        return entries[(*context, word)][0]
    if not context:
        return entries[UNKNOWN,][0]
    return entries.get(context, (0.0, 0.0))[1] + log10_share(entries, context[1:], word)


def model_of(sentences, order):
    return read_arpa(arpa_lines(estimate(sentences, order)))


def test_two_sentences_by_hand():
    """`a b` and `a`; discounts 0.5, 1, 1.5, since no n-gram occurs three times.

    Unigrams count what stands before them: a 1, b 1, </s> 2 of 4; discounting leaves (0.5 + 0.5
    + 1) / 4 = 1/2 to be shared by a, b, </s> and <unk>: p(a) = 0.5/4 + 1/8 = 1/4 = p(b), p(</s>) =
    1/4 + 1/8 = 3/8, p(<unk>) = 1/8. After <s>: (2 - 1)/2 + 1/2 p(a). After a (two words, 1/2 is
    left): 0.5/2 + 1/2 p. After b: 0.5 + 1/2 p(</s>).
    """
    entries, sizes = model_of([["a", "b"], ["a"]], 2)
    assert sizes == {1: 5, 2: 4}
    shares = {gram: 10**value for gram, (value, _) in entries.items() if value > -99}
    assert shares == pytest.approx(
        {
            ("a",): 0.25,
            ("b",): 0.25,
            (END,): 0.375,
            (UNKNOWN,): 0.125,
            (BEGIN, "a"): 0.5 + 0.5 * 0.25,
            ("a", "b"): 0.25 + 0.5 * 0.25,
            ("a", END): 0.25 + 0.5 * 0.375,
            ("b", END): 0.5 + 0.5 * 0.375,
        },
        rel=1e-5,
    )
    left = {gram: 10**backoff for gram, (_, backoff) in entries.items() if backoff}
    assert left == pytest.approx({("a",): 0.5, ("b",): 0.5, (BEGIN,): 0.5}, rel=1e-5)


def test_discounts_by_hand():
    """Five once, three twice, two thrice, one four times: Y = 5/11."""
    counts = [1] * 5 + [2] * 3 + [3] * 2 + [4]
    share = 5 / 11
    wanted = (1 - 2 * share * 3 / 5, 2 - 3 * share * 2 / 3, 3 - 4 * share * 1 / 2)
    assert discounts_of(counts) == pytest.approx(wanted)
    assert discounts_of([1, 1, 2]) == (0.5, 1.0, 1.5)


@pytest.fixture(scope="module")
def sentences():
    """Words drawn by their rank, so that all counts of counts occur."""
    draw = random.Random(0)
    words = [f"w{n}" for n in range(40)]
    weights = [1 / (n + 1) for n in range(40)]
    return [draw.choices(words, weights, k=draw.randint(1, 9)) for _ in range(400)]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_shares_after_every_context_sum_to_one(sentences, order):
    entries, sizes = model_of(sentences, order)
    assert sum(sizes.values()) == len(entries)
    words = [gram[0] for gram in entries if len(gram) == 1 and gram != (BEGIN,)]
    contexts = {gram[:-1] for gram in entries} | {("w39", "w38", "w37")[: order - 1]}
    if order > 2:
        contexts |= {(BEGIN, word) for word in words[:5]}
    for context in contexts:
        total = sum(10 ** log10_share(entries, context, word) for word in words)
        assert total == pytest.approx(1.0, abs=1e-4), context


def test_what_is_longer_stands_in_what_is_shorter(sentences):
    """Every reader needs the beginning of an n-gram as an entry, for its backoff."""
    entries, _ = model_of(sentences, 3)
    for gram in entries:
        assert len(gram) == 1 or {gram[:-1], gram[1:]} <= entries.keys()


def test_the_model_prefers_what_it_was_made_of(sentences):
    entries, _ = model_of(sentences[:350], 3)

    def score(words):
        padded = (BEGIN, *words, END)
        return sum(
            log10_share(entries, padded[max(0, n - 2) : n], padded[n])
            for n in range(1, len(padded))
        )

    held_out = sentences[350:]
    true = sum(map(score, held_out))
    shuffled = sum(score(["w39", *words[1:]]) for words in held_out)
    uniform = sum(len(words) + 1 for words in held_out) * math.log10(1 / 42)
    assert true > shuffled
    assert true > uniform


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kenlm_reads_the_file_and_finds_the_same(sentences, order, tmp_path):
    kenlm = pytest.importorskip("kenlm", reason="needs kenlm: pip install .[lm]")
    lines = list(arpa_lines(estimate(sentences, order)))
    path = tmp_path / "lm.arpa"
    path.write_text("\n".join(lines) + "\n")
    entries, _ = read_arpa(lines)
    if order == 1:
        with pytest.raises(OSError, match=r".*"):  # kenlm takes no unigram model
            kenlm.Model(str(path))
        return
    model = kenlm.Model(str(path))
    assert model.order == order
    for words in [*sentences[:20], ["w1", "never", "w2"], ["never"], []]:
        padded = (BEGIN, *words, END)
        total = sum(
            log10_share(entries, padded[max(0, n - order + 1) : n], padded[n])
            for n in range(1, len(padded))
        )
        assert model.score(" ".join(words)) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("most", [1, 60, 300])
def test_a_pruned_model_is_one_of_so_many_n_grams(sentences, most):
    entries, sizes = read_arpa(arpa_lines(prune(estimate(sentences, 3), most)))
    assert sum(sizes.values()) - sizes[1] == most
    words = [gram[0] for gram in entries if len(gram) == 1 and gram != (BEGIN,)]
    for context in {gram[:-1] for gram in entries} | {("w39", "w38")}:
        total = sum(10 ** log10_share(entries, context, word) for word in words)
        assert total == pytest.approx(1.0, abs=1e-4), context
    for gram in entries:
        assert len(gram) == 1 or {gram[:-1], gram[1:]} <= entries.keys()


def test_the_n_gram_that_goes_is_the_one_whose_loss_changes_least():
    """The relative entropy to each model that lacks one bigram, summed over all contexts as often
    as these are in the text.
    """
    text = [[*"ab"], [*"aab"], [*"ba"], [*"abab"], ["b"]]
    model = estimate(text, 2)
    full, _ = read_arpa(arpa_lines(model))
    pruned, _ = read_arpa(arpa_lines(prune(model, model.levels[1].size - 1)))
    words = ["a", "b", END, UNKNOWN]
    seen = {BEGIN: 5, "a": 6, "b": 6}

    def distance(gone):
        total = 0.0
        for context, times in seen.items():
            kept = [w for w in words if (context, w) in full and (context, w) != gone]
            left = 1 - sum(10 ** full[context, w][0] for w in kept)
            lower = 1 - sum(10 ** full[w,][0] for w in kept)
            for word in words:
                share = 10 ** log10_share(full, (context,), word)
                other = share if word in kept else left / lower * 10 ** full[word,][0]
                total += times * share * math.log(share / other)
        return total

    bigrams = [gram for gram in full if len(gram) == 2]
    assert full.keys() - pruned.keys() == {min(bigrams, key=distance)}


def test_memory_follows_the_n_grams_not_the_text():
    """A text that is repeated is read as it comes."""
    text = itertools.chain.from_iterable(itertools.repeat([["a", "b"], ["b", "a"]], 20000))
    assert sum(level.size for level in estimate(text, 3).levels) < 20


@pytest.mark.parametrize(
    ("sentences", "message"),
    [([], "no sentences"), ([["a"], ["b", "</s>"]], "sentence 2: <s> or </s>")],
)
def test_faults(sentences, message):
    with pytest.raises(DataError, match=message):
        estimate(sentences, 2)
