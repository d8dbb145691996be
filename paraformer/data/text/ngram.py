"""N-gram language models from sentences of tokens, written as ARPA files."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from paraformer.errors import DataError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0  # log10 of what is not predicted, as SRILM writes it
# For texts too small to estimate discounts from; those of lmplz --discount_fallback.
FALLBACK = (0.5, 1.0, 1.5)

Gram = tuple[str, ...]
Counts = dict[Gram, int]


class Entry(NamedTuple):
    """An n-gram of an ARPA file; both numbers are logarithms to the base 10."""

    probability: float
    backoff: float | None  # None where no longer n-gram begins so


def estimate(sentences: Iterable[Sequence[str]], order: int) -> list[dict[Gram, Entry]]:
    """Sentences of tokens -> the n-grams of each order, by interpolated Kneser-Ney smoothing with
    three discounts (Chen and Goodman, 1998).

    The unigrams are interpolated with the same share for each word, <unk> among them. Memory grows
    with the number of different n-grams, not with the text.
    """
    tables = count(sentences, order)
    levels: list[dict[Gram, Entry]] = []
    lower: dict[Gram, float] = {}
    for size, counts in enumerate(tables, 1):
        discounts = discounts_of(counts.values())
        totals, kept = _contexts(counts, discounts)
        if size == 1:
            known = {gram[0] for gram in counts} | {UNKNOWN}
            lower = {(): 1.0 / len(known)}
            counts = {(word,): counts.get((word,), 0) for word in sorted(known)}
        shares = {
            gram: (number - _discount(number, discounts)) / totals[gram[:-1]]
            + kept[gram[:-1]] * lower[gram[1:]]
            for gram, number in counts.items()
        }
        if levels:
            levels[-1] = _with_backoffs(levels[-1], kept)
        level = {gram: Entry(math.log10(share), None) for gram, share in shares.items()}
        levels.append({(BEGIN,): Entry(NEVER, None), **level} if size == 1 else level)
        lower = shares
    return levels


def count(sentences: Iterable[Sequence[str]], order: int) -> list[Counts]:
    """The counts that each order is estimated from: of the longest n-grams how often they occur,
    of shorter ones after how many different words (at the beginning of a sentence: how often).

    >>> [dict(table) for table in count([["a"], ["a"]], 2)]
    [{('a',): 1, ('</s>',): 1}, {('<s>', 'a'): 2, ('a', '</s>'): 2}]
    """
    tables: list[Counts] = [Counter() for _ in range(order)]
    for number, words in enumerate(sentences, 1):
        if {BEGIN, END} & {*words}:
            raise DataError(f"sentence {number}: {BEGIN} or {END} stands in it; take it out")
        padded = (BEGIN, *words, END)
        for size in range(2, min(order, len(padded) + 1)):
            tables[size - 1][padded[:size]] += 1
        for begin in range(len(padded) - order + 1):
            tables[-1][padded[begin : begin + order]] += 1
    if order == 1:
        del tables[0][BEGIN,]
    for size in range(order - 1, 0, -1):
        for gram in tables[size]:
            tables[size - 1][gram[1:]] += 1
    if not tables[0]:
        raise DataError("no sentences to estimate a language model from; give some text")
    return tables


def discounts_of(counts: Iterable[int]) -> tuple[float, float, float]:
    """The discounts of n-grams that are counted once, twice and more often."""
    seen = Counter(counts)
    once, twice, thrice, four = (seen[number] for number in range(1, 5))
    if not (once and twice and thrice):
        return FALLBACK
    share = once / (once + 2.0 * twice)
    found = (
        1.0 - 2.0 * share * twice / once,
        2.0 - 3.0 * share * thrice / twice,
        3.0 - 4.0 * share * four / thrice,
    )
    sound = all(0.0 < discount <= number for number, discount in enumerate(found, 1))
    return found if sound else FALLBACK


def _discount(number: int, discounts: tuple[float, float, float]) -> float:
    return discounts[min(number, 3) - 1] if number else 0.0


def _contexts(
    counts: Counts, discounts: tuple[float, float, float]
) -> tuple[dict[Gram, int], dict[Gram, float]]:
    """The sum of the counts of each context, and the share that discounting leaves."""
    totals: dict[Gram, int] = defaultdict(int)
    taken: dict[Gram, float] = defaultdict(float)
    for gram, number in counts.items():
        totals[gram[:-1]] += number
        taken[gram[:-1]] += _discount(number, discounts)
    return totals, {context: taken[context] / total for context, total in totals.items()}


def _with_backoffs(level: dict[Gram, Entry], kept: dict[Gram, float]) -> dict[Gram, Entry]:
    return {
        gram: entry._replace(backoff=math.log10(kept[gram])) if gram in kept else entry
        for gram, entry in level.items()
    }


def arpa_lines(levels: Sequence[dict[Gram, Entry]]) -> Iterator[str]:
    """The lines of an ARPA file, without their ends."""
    yield "\\data\\"
    for size, level in enumerate(levels, 1):
        yield f"ngram {size}={len(level)}"
    for size, level in enumerate(levels, 1):
        yield ""
        yield f"\\{size}-grams:"
        for gram, (probability, backoff) in level.items():
            line = f"{probability:.7g}\t{' '.join(gram)}"
            yield line if backoff is None else f"{line}\t{backoff:.7g}"
    yield ""
    yield "\\end\\"
