"""Error rates of recognised text: what counts as one unit, the alignment, the report."""

from __future__ import annotations

import gc
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby
from operator import add, ne
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein

from paraformer.data.corpus.tags import TAGS, tag_pattern
from paraformer.errors import DataError
from paraformer.extras import load_extra

# Han with its extensions, kana, bopomofo, hangul: each character is a unit of its own.
_CJK = (
    "\u3005-\u3007\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U000323af"
)
_LETTER = rf"[^\W\d_{_CJK}]"
_CHINESE = re.compile(f"[{_CJK}]")
_SPELLED = re.compile(_LETTER)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Written for the apostrophe; blanks without width; the Korean letter that serves as a middle dot.
_SIGNS = {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u200b": " ", "\ufeff": " ", "\u318d": " "}
# Joiners, variants of one character, directions: the default ignorable code points of Unicode.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\uffa0\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BASIC, _RARE = 0x10000, 0x1F000  # where the scripts of the basic plane end, and all others
_IS_RARE = re.compile("[\U00010a00-\U0001efff]")
_ROWS = ("REF", "HYP", "OPS")
_LARGE = 20_000_000  # cells of a table, 80 MB

Units = list[str]


def units(text: str, raw: bool = False, tags: str = TAGS, simplified: bool = False) -> Units:
    """The units that are compared: a Chinese character, a word of a script with blanks or a number
    is one, accents and vowel signs with the letter that carries them.

    Full-width and half-width, upper and lower case are equal (NFKC, case folding); marks, symbols,
    blanks and signs that are not seen do not count; letters apart are one word (`A P I` = `API`),
    since that is how results are written; numbers are not spelled out. `tags` are the pairs of
    brackets of what is no speech, such as `<noise>`: with `<>[]()` also `[noise]` and `(noise)`.
    With `simplified` traditional characters count as the simplified ones (needs OpenCC). With `raw`
    each character counts as it stands, marks and blanks too.

    >>> units("Ｈello，世 界! it’s 1,000.5 A P I")
    ['hello', '世', '界', "it's", '1000.5', 'api']
    """
    if raw:
        return list(text)
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    text = unicodedata.normalize("NFKC", text).casefold()
    text = _THOUSANDS.sub("", _UNSEEN.sub("", tag_pattern(tags).sub(" ", text)))
    joined: Units = _unit_pattern(_RARE if _IS_RARE.search(text) else _BASIC).findall(text)
    if _SPELLED.search(text):
        runs = _runs(joined, _SPELLED)
        joined = [word for spelt, run in runs for word in (["".join(run)] if spelt else run)]
    return _in_simplified(joined) if simplified else joined


@lru_cache
def _unit_pattern(end: int) -> re.Pattern[str]:
    """The pattern of a unit with the accents and vowel signs below `end`; to know all is slower."""
    chars = map(chr, range(0x300, end))
    marks = "".join(char for char in chars if unicodedata.category(char)[0] == "M")
    word = f"{_LETTER}+(?:[{marks}]+{_LETTER}*)*"
    return re.compile(rf"[{_CJK}][{marks}]*|{word}(?:'{word})*|\d+(?:[.:]\d+)*%?")


def _in_simplified(words: Units) -> Units:
    """Chinese units as simplified characters, by phrases: 乾 is 干, but not in 乾坤."""
    convert = _simplifier(load_extra("opencc", "simplified"))
    found: Units = []
    for is_chinese, run in _runs(words, _CHINESE):
        found += convert("".join(run)) if is_chinese else run
    return found


@lru_cache(maxsize=1)
def _simplifier(opencc: ModuleType) -> Callable[[str], str]:
    convert: Callable[[str], str] = opencc.OpenCC("t2s").convert
    return convert


def pinyin(text: str, tones: bool = True, tags: str = TAGS) -> Units:
    """Syllables as pronounced in context (`hang2` or `xing2`), other units as they are.

    The neutral tone is 5; without `tones` the numbers are left out. Needs pypinyin.
    """
    convert = _pinyin_converter(tones)
    spoken: Units = []
    for is_chinese, run in _runs(units(text, tags=tags), _CHINESE):
        spoken += convert("".join(run)) if is_chinese else run
    return spoken


def _runs(words: Units, pattern: re.Pattern[str]) -> Iterator[tuple[bool, Units]]:
    """Cut into runs of neighbours that all match, or all do not."""
    for matches, run in groupby(words, key=lambda word: pattern.fullmatch(word) is not None):
        yield matches, list(run)


@dataclass(frozen=True)
class Counts:
    """Errors against `reference` units; counts of utterances are added to those of a corpus."""

    reference: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.reference + other.reference,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
        )

    @property
    def errors(self) -> int:
        """All three kinds together: the edit distance."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def percent(self) -> float:
        """Errors per hundred reference units; infinite where an empty reference met insertions."""
        return _percent(self.errors, self.reference)

    def line(self, name: str = "CER") -> str:
        """The line that Kaldi writes: `%CER 5.10 [ 51 / 1000, 3 ins, 4 del, 44 sub ]`."""
        return (
            f"%{name} {self.percent:.2f} [ {self.errors} / {self.reference}, "
            f"{self.insertions} ins, {self.deletions} del, {self.substitutions} sub ]"
        )


class Pair(NamedTuple):
    """A reference unit and what stands for it; None where there is nothing."""

    ref: str | None
    hyp: str | None

    @property
    def op(self) -> str:
        """One of `=`, `S`, `D`, `I`."""
        if self.ref is None:
            return "I"
        if self.hyp is None:
            return "D"
        return "=" if self.ref == self.hyp else "S"


@lru_cache(maxsize=1 << 16)
def _pair(ref: str | None, hyp: str | None) -> Pair:
    """The pair of these units, made once: a large set has millions of pairs, few different."""
    return Pair(ref, hyp)


def align(ref: Sequence[str], hyp: Sequence[str]) -> list[Pair]:
    """Units side by side with the fewest errors, and with the fewest substitutions among those.

    >>> [pair.op for pair in align("今天很好啊", "金天天很好")]
    ['S', '=', 'I', '=', '=', 'D']
    """
    pairs = _fewest_errors(ref, hyp)
    errors = count(pairs)
    # Only two substitutions can be traded for a deletion, a match and an insertion.
    if errors.substitutions < 2 or len(ref) * errors.errors > _LARGE:
        return pairs
    matches = errors.reference - errors.deletions - errors.substitutions
    if errors.substitutions == errors.errors and matches == LCSseq.similarity(ref, hyp):
        return pairs
    return _most_matches(ref, hyp, errors.errors)


def _fewest_errors(ref: Sequence[str], hyp: Sequence[str]) -> list[Pair]:
    if ref == hyp:
        return [*map(_pair, ref, hyp)]
    pairs: list[Pair] = []
    for op in Levenshtein.opcodes(ref, hyp):
        if op.tag == "equal":
            same = ref[op.src_start : op.src_end]
            pairs += map(_pair, same, same)
            continue
        left: list[str | None] = [*ref[op.src_start : op.src_end]]
        right: list[str | None] = [*hyp[op.dest_start : op.dest_end]]
        width = max(len(left), len(right))
        left += [None] * (width - len(left))
        right += [None] * (width - len(right))
        pairs += map(_pair, left, right)
    return pairs


def _most_matches(ref: Sequence[str], hyp: Sequence[str], errors: int) -> list[Pair]:
    """The classical table, where a substitution costs a trifle more than an insertion.

    Of each row only the cells that an alignment of so many errors can touch are filled: those at
    most so many insertions right, and so many deletions left, of the diagonal. Costs are told
    without those of the insertions before the column, so that a row is a running minimum.
    """
    gap = len(ref) + len(hyp) + 1
    left, right = (errors + len(ref) - len(hyp)) // 2, (errors + len(hyp) - len(ref)) // 2
    never, kind = (1 << 29, np.int32) if gap * gap < 1 << 29 else (1 << 60, np.int64)
    edges = np.full(len(ref) + len(hyp) + left + right + 2, never, kind)
    edges[left + 1 : left + 1 + len(hyp)] = 1
    changes = _changes(ref, hyp, edges, left + 1, -gap)
    width = left + right + 1
    table = np.full((len(ref) + 1, width + 1), never, kind)
    table[0, left:width] = 0
    for i, unit in enumerate(ref, 1):
        above, row = table[i - 1], table[i, :width]
        np.add(above[:width], changes[unit][i : i + width], out=row)
        np.minimum(row, above[1:] + gap, out=row)
        np.minimum.accumulate(row, out=row)
    pairs: list[Pair] = []
    i, j = len(ref), len(hyp)
    while i or j:
        place = j - i + left
        cost = table[i, place]
        if i and cost == table[i - 1, place + 1] + gap:
            pair = _pair(ref[i := i - 1], None)
        elif j and place and cost == table[i, place - 1]:
            pair = _pair(None, hyp[j := j - 1])
        else:
            pair = _pair(ref[i := i - 1], hyp[j := j - 1])
        pairs.append(pair)
    return pairs[::-1]


def _changes(
    ref: Sequence[str], hyp: Sequence[str], edges: np.ndarray, first: int, match: int
) -> dict[str, np.ndarray]:
    """For each unit of the reference the cost of standing beside each of the hypothesis, less that
    of an insertion: that of `edges`, whose place `first` is the first unit, or of a match.
    """
    places: dict[str, list[int]] = {unit: [] for unit in ref}
    for place, unit in enumerate(hyp, first):
        if unit in places:
            places[unit].append(place)
    found = {}
    for unit, matches in places.items():
        found[unit] = edges.copy() if matches else edges
        found[unit][matches] = match
    return found


def count(pairs: Iterable[Pair]) -> Counts:
    """Errors of an alignment."""
    return Counts(*_errors([*pairs]))


def _errors(pairs: Sequence[Pair]) -> tuple[int, int, int, int]:
    """The fields of `Counts`."""
    if not pairs:
        return 0, 0, 0, 0
    ref, hyp = zip(*pairs, strict=True)
    insertions, deletions, wrong = ref.count(None), hyp.count(None), sum(map(ne, ref, hyp))
    return len(ref) - insertions, insertions, deletions, wrong - insertions - deletions


@dataclass
class Report:
    """Alignments of a test set by utterance, in the order of the references."""

    alignments: dict[str, list[Pair]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        """Errors of the whole set."""
        return self._totals[0]

    @cached_property
    def _totals(self) -> tuple[Counts, int]:
        """All errors, and how many utterances have some."""
        sums, wrong = [0, 0, 0, 0], 0
        for pairs in self.alignments.values():
            found = _errors(pairs)
            wrong += any(found[1:])
            sums = [*map(add, sums, found)]
        return Counts(*sums), wrong

    def sentence_line(self) -> str:
        """`%SER 40.00 [ 2 / 5 ]`: utterances with at least one error."""
        wrong, total = self._totals[1], len(self.alignments)
        return f"%SER {_percent(wrong, total):.2f} [ {wrong} / {total} ]"


def score(
    refs: Mapping[str, str], hyps: Mapping[str, str], split: Callable[[str], Units] = units
) -> Report:
    """Compare by id: a missing hypothesis is all deletions, an id without reference is reported.

    `split` makes the units: `units`, `pinyin`, or one of them with its options.
    """
    if not refs:
        raise DataError("reference: no utterances; each line is `id text`")
    if hyps and not refs.keys() & hyps.keys():
        ours, theirs = next(iter(refs)), next(iter(hyps))
        raise DataError(f"hypothesis: no id of the reference ('{ours}', '{theirs}'); other set?")
    alignments = {}
    with _no_collection():
        for key, ref in refs.items():
            said, hyp = split(ref), hyps.get(key, "")
            alignments[key] = align(said, said if hyp == ref else split(hyp))
    missing = [key for key in refs if key not in hyps]
    return Report(alignments, missing, [key for key in hyps if key not in refs])


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python looks for no circles among objects: in a million alignments, which have none, that
    took a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def format_aligned(key: str, pairs: Sequence[Pair]) -> str:
    """Three rows of columns for the eye; `*` fills a gap, OPS is empty where both agree.

    >>> print(format_aligned("u1", align(["欢", "迎", "you", "all"], ["欢", "you", "all", "啊"])))
    u1 %CER 50.00 [ 2 / 4, 1 ins, 1 del, 0 sub ]
    REF  欢 迎 you all **
    HYP  欢 ** you all 啊
    OPS     D          I
    """
    columns = zip(*map(_cells, pairs), strict=True) if pairs else ((), (), ())
    rows = [f"{name}  {' '.join(cells)}" for name, cells in zip(_ROWS, columns, strict=True)]
    return "\n".join([f"{key} {count(pairs).line()}", *(row.rstrip() for row in rows)])


@lru_cache(maxsize=1 << 16)
def _cells(pair: Pair) -> tuple[str, str, str]:
    """The column of a pair: its three cells, equally wide."""
    ref, hyp, op = pair.ref or "", pair.hyp or "", pair.op.replace("=", "")
    width = max(_width(ref), _width(hyp))
    cells = ref or "*" * width, hyp or "*" * width, op
    first, second, third = (cell + " " * (width - _width(cell)) for cell in cells)
    return first, second, third


def _percent(part: int, whole: int) -> float:
    if whole:
        return 100.0 * part / whole
    return float("inf") if part else 0.0


def _width(text: str) -> int:
    """Columns of a terminal: two for a Chinese character, none for a combining mark."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _pinyin_converter(tones: bool) -> Callable[[str], Units]:
    pypinyin = load_extra("pypinyin", "pinyin")
    style = pypinyin.Style.TONE3 if tones else pypinyin.Style.NORMAL

    # An unknown character stays itself: pypinyin would make one unit of several.
    options: dict[str, Any] = {"neutral_tone_with_five": tones, "errors": list}

    def convert(text: str) -> Units:
        syllables: Units = pypinyin.lazy_pinyin(text, style=style, **options)
        return syllables

    return convert


@dataclass(frozen=True)
class MarkCounts:
    """Punctuation marks that were written, those that should be, and the hits among them."""

    hits: int = 0
    written: int = 0
    reference: int = 0

    def __add__(self, other: MarkCounts) -> MarkCounts:
        return MarkCounts(
            self.hits + other.hits,
            self.written + other.written,
            self.reference + other.reference,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall in per cent; 0 where there is no hit."""
        return _percent(2 * self.hits, self.written + self.reference) if self.hits else 0.0

    def line(self, name: str) -> str:
        """`%F1 ， 60.00 [ precision 75.00, recall 50.00, 3 of 4 written, 6 in the reference ]`."""
        precision = _percent(self.hits, self.written) if self.hits else 0.0
        recall = _percent(self.hits, self.reference) if self.hits else 0.0
        return (
            f"%F1 {name} {self.f1:.2f} [ precision {precision:.2f}, recall {recall:.2f}, "
            f"{self.hits} of {self.written} written, {self.reference} in the reference ]"
        )


def count_marks(ref: Sequence[str], hyp: Sequence[str]) -> dict[str, MarkCounts]:
    """For each mark how often it stands behind a word in both, in `hyp` and in `ref`.

    ref, hyp: the mark behind each word, "" for none. A word with another mark than it should have
    is a miss of the one and a false alarm of the other.

    >>> count_marks(["，", "", "。"], ["，", "，", "？"])["，"]
    MarkCounts(hits=1, written=2, reference=1)
    """
    counts: dict[str, MarkCounts] = {}
    for right, written in zip(ref, hyp, strict=True):
        for mark in {right, written} - {""}:
            one = MarkCounts(int(right == written), int(mark == written), int(mark == right))
            counts[mark] = counts.get(mark, MarkCounts()) + one
    return counts
