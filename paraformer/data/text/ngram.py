"""N-gram language models from sentences of tokens: estimated, pruned, and written as ARPA files."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paraformer.errors import DataError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0  # log10 of what is not predicted, as SRILM writes it
# For texts too small to estimate discounts from; those of lmplz --discount_fallback.
FALLBACK = (0.5, 1.0, 1.5)
LEAST_SHARE = 1e-9  # that is left to words that do not follow a context in the model

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Level(NamedTuple):
    """The n-grams of one length, in the order of their contexts and words; logarithms are to the
    base 10. A context and a suffix are places in the level below, of order 1 zeros.
    """

    context: Ints  # all words but the last
    word: Ints  # the last, a place in `NgramModel.words`
    suffix: Ints  # all words but the first
    seen: Ints  # how often it occurs in the text
    logp: Floats
    backoff: Floats  # nan where no longer n-gram begins so

    @property
    def size(self) -> int:
        """How many n-grams there are."""
        return len(self.word)


class NgramModel(NamedTuple):
    """A model, levels[0] with an n-gram for each of `words`, of which the first is <s>."""

    words: list[str]
    levels: list[Level]


def estimate(sentences: Iterable[Sequence[str]], order: int) -> NgramModel:
    """Sentences of tokens -> their n-grams, by interpolated Kneser-Ney smoothing with three
    discounts (Chen and Goodman, 1998).

    The unigrams are interpolated with the same share for each word, <unk> among them. It needs some
    50 bytes a token of the text for each order.
    """
    words, text = _numbered(sentences)
    levels: list[Level] = []
    lower = np.full(1, 1.0 / (len(words) - 1))  # of each word but <s>
    for level, counts in _counted(text, len(words), order):
        discounts = np.array((0.0, *discounts_of(counts[counts > 0])))
        taken = discounts[np.minimum(counts, 3)]
        totals = np.bincount(level.context, counts, len(lower))
        left = np.bincount(level.context, taken, len(lower))
        kept = np.divide(left, totals, out=np.full(len(lower), np.nan), where=totals > 0)
        lower = (counts - taken) / totals[level.context] + kept[level.context] * lower[level.suffix]
        if levels:
            levels[-1] = levels[-1]._replace(backoff=np.log10(kept))
        levels.append(level._replace(logp=np.log10(lower)))
    levels[0].logp[0] = NEVER
    return NgramModel(words, levels)


def _numbered(sentences: Iterable[Sequence[str]]) -> tuple[list[str], Ints]:
    """The words, and the sentences laid end to end as places in them, <s> and </s> around each."""
    places = {BEGIN: 0, END: 1, UNKNOWN: 2}
    text = array("i")
    for number, sentence in enumerate(sentences, 1):
        if {BEGIN, END} & {*sentence}:
            raise DataError(f"sentence {number}: {BEGIN} or {END} stands in it; take it out")
        text.append(0)
        text.extend(places.setdefault(word, len(places)) for word in sentence)
        text.append(1)
    if not text:
        raise DataError("no sentences to estimate a language model from; give some text")
    return list(places), np.array(text, dtype=np.int64)


def _counted(text: Ints, words: int, order: int) -> Iterator[tuple[Level, Ints]]:
    """Levels without their probabilities, the shortest first, and the counts that each is estimated
    from: of the longest n-grams how often they occur, of shorter ones after how many different
    words (at the beginning of a sentence: how often).
    """
    place = np.arange(len(text))
    place -= np.maximum.accumulate(np.where(text == 0, place, 0))  # in its sentence
    nothing = np.zeros(words, dtype=np.int64)
    found = np.bincount(text, minlength=words)
    level = _empty_level(nothing, np.arange(words), nothing, found)
    begins, ending = level.word == 0, text  # ending: the n-gram that ends with each word
    for size in range(2, order + 1):
        ends = np.flatnonzero(place >= size - 1)
        keys = ending[ends - 1] * words + text[ends]
        keys, first, which, found = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        longer = _empty_level(keys // words, keys % words, ending[ends[first]], found)
        after = np.bincount(longer.suffix, minlength=level.size)
        counts = np.where(begins, level.seen, after)
        counts[0] *= size > 2  # nothing predicts <s>
        yield level, counts
        begins = begins[longer.context]
        ending = np.full(len(text), -1)
        ending[ends] = which
        level = longer
    counts = level.seen.copy()
    counts[0] *= order > 1
    yield level, counts


def _empty_level(context: Ints, word: Ints, suffix: Ints, seen: Ints) -> Level:
    nothing = np.full(len(word), np.nan)
    return Level(context, word, suffix, seen, nothing, nothing)


def discounts_of(counts: Sequence[int] | Ints) -> tuple[float, float, float]:
    """The discounts of n-grams that are counted once, twice and more often."""
    once, twice, thrice, four = (int(n) for n in np.bincount(counts, minlength=5)[1:5])
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


def prune(model: NgramModel, most: int) -> NgramModel:
    """The model with its unigrams and those `most` longer n-grams whose loss would change it most
    (relative entropy: Stolcke 1998, arXiv cs/0006025), a context as likely as it is in the text.

    The first and the last words of an n-gram that stays stay as well.
    """
    weights = _importance(model.levels)
    kept = np.zeros(sum(map(len, weights)), dtype=bool)
    kept[np.argsort(-np.concatenate(weights), kind="stable")[:most]] = True
    ends = np.cumsum([len(each) for each in weights])[:-1]
    levels = model.levels[:1]
    places = np.arange(len(model.words))
    for level, stays in zip(model.levels[1:], np.split(kept, ends), strict=True):
        if not stays.any():
            break
        level = Level(*(column[stays] for column in level))
        level = level._replace(context=places[level.context], suffix=places[level.suffix])
        levels[-1] = levels[-1]._replace(backoff=_backoffs(levels[-1], level))
        levels.append(level)
        places = np.cumsum(stays) - 1
    levels[-1] = levels[-1]._replace(backoff=np.full(levels[-1].size, np.nan))
    return model._replace(levels=levels)


def _importance(levels: Sequence[Level]) -> list[Floats]:
    """The change of the model by the loss of each n-gram of order 2 and more, or by that of one
    which it begins or ends, if that is larger.
    """
    weights = []
    for below, level in pairwise(levels):
        share, lower = 10.0**level.logp, 10.0 ** below.logp[level.suffix]
        left = _left(level, share, below.size)[level.context]
        left_lower = _left(level, lower, below.size)[level.context]
        before, after = np.log(left / left_lower), np.log((left + share) / (left_lower + lower))
        change = share * (np.log(share / lower) - after) + left * (before - after)
        weights.append(below.seen[level.context] * change)
    for level, own, below in zip(levels[:1:-1], weights[:0:-1], weights[-2::-1], strict=True):
        np.maximum.at(below, level.context, own)
        np.maximum.at(below, level.suffix, own)
    return weights


def _backoffs(below: Level, level: Level) -> Floats:
    """The backoffs with which the shares after each context sum to one."""
    left = _left(level, 10.0**level.logp, below.size)
    left_lower = _left(level, 10.0 ** below.logp[level.suffix], below.size)
    goes_on = np.bincount(level.context, minlength=below.size) > 0
    backoffs: Floats = np.where(goes_on, np.log10(left / left_lower), np.nan)
    return backoffs


def _left(level: Level, shares: Floats, contexts: int) -> Floats:
    """The share that the words after each context leave to others."""
    taken = np.bincount(level.context, shares, contexts)
    return np.maximum(1.0 - taken, LEAST_SHARE).astype(np.float64)


def arpa_lines(model: NgramModel) -> Iterator[str]:
    """The lines of an ARPA file, without their ends."""
    yield "\\data\\"
    for size, level in enumerate(model.levels, 1):
        yield f"ngram {size}={level.size}"
    contexts = [""]
    for size, level in enumerate(model.levels, 1):
        yield ""
        yield f"\\{size}-grams:"
        columns = zip(level.context.tolist(), level.word.tolist(), strict=True)
        grams = [f"{contexts[context]}{model.words[word]}" for context, word in columns]
        for gram, logp, backoff in zip(grams, level.logp, level.backoff, strict=True):
            line = f"{logp:.7g}\t{gram}"
            yield line if np.isnan(backoff) else f"{line}\t{backoff:.7g}"
        contexts = [f"{gram} " for gram in grams]
    yield ""
    yield "\\end\\"
