"""English words cut at syllables by their spelling: CIF counts sounds, and so should the tokens."""

from __future__ import annotations

import re
from itertools import pairwise

# Consonants that open a syllable together, as in pro|gress; other groups keep one for the next.
_ONSET = re.compile(r"(?:s?[ptck]h?[lr]|[bdfg][lr]|[cgpstw]h|th[rw]|s[ptkmnw]|[dt]w|k?n|qu?|.)\Z")
# Two vowels that are heard apart: ra|di|o, qui|et, ac|tu|al, vi|o|lin, cre|ate, play|ing.
_APART = re.compile(
    r"(?<![aceginostxqu])i(?=[aou])|(?<=[bdlmnrv])i(?=et|enc|ent)|(?<![aeogq])u(?=a[lrt]|ou|i[dnt][eygi])"
    r"|e(?=o[lmng]|ing|um)|(?<=cr)e(?=at)|(?<=\bqu)i(?=et)|(?<=\bar)e(?=a)|(?<=\bid)e(?=a)|[aeo]y(?=[aei])|(?<=[aeiou])w(?=i)|o(?=i?ng|et|e[mr])|a(?=o)|y(?=[aio])"
)
# An e that is only written: at the end (also of the first half: some|where), in -es and in -ed.
_SILENT = re.compile(
    r"(?<=[^aeiouy])e(?=$|'|(?:ly|ments?|ful|fully|less|ness|body|one|things?|times?|where|what|work|land|"
    r"m[ae]n|town|sides?|line|like|dom|ty|board|wood)$)"
    r"|(?<=\bey)e|(?<=\bev)e(?=ry|ni)|(?<=[^aeiouycgszx])(?<![cs]h)e(?=s$)|(?<=[^aeiouydt])e(?=d$)|(?<=[gq]u)e$"
)
# A consonant that is a syllable of its own: ta|ble, rhy|thm.
_SYLLABIC = re.compile(r"(?<=[bcdfgkpstzv])l(?=e[sd]?$)|(?<=th|is|as)m(?=s?$)")


def syllables(word: str) -> list[str]:
    """Pieces of a lower-case English word, whose number follows its spoken syllables.

    A rule of spelling, not a dictionary: the pieces always join to the word again, and of common
    words about nine in ten have as many pieces as a pronouncing dictionary has syllables.

    >>> syllables("process"), syllables("close"), syllables("somewhere"), syllables("table")
    (['pro', 'cess'], ['close'], ['some', 'where'], ['ta', 'ble'])
    """
    nuclei = _nuclei(word)
    cuts = [_cut(word, left[1], right[0]) for left, right in pairwise(nuclei)]
    return [word[a:b] for a, b in pairwise([0, *cuts, len(word)])] if word else []


def _nuclei(word: str) -> list[tuple[int, int]]:
    """Start and end of each group of letters, mostly vowels, that carries a syllable."""
    silent = {found.start() for found in _SILENT.finditer(word)}
    syllabic = {found.start() for found in _SYLLABIC.finditer(word)}
    apart = {found.start() + 1 for found in _APART.finditer(word)}
    groups: list[tuple[int, int]] = []
    for i, letter in enumerate(word):
        if i not in syllabic and (i in silent or not _is_vowel(word, i, letter)):
            continue
        if groups and groups[-1][1] == i and i not in apart and i not in syllabic:
            groups[-1] = (groups[-1][0], i + 1)
        else:
            groups.append((i, i + 1))
    return groups


def _is_vowel(word: str, i: int, letter: str) -> bool:
    after = word[i + 1 : i + 2]
    if letter == "y":
        return not (after and after in "aeiou") or (i > 0 and word[i - 1] not in "aeiou")
    if letter == "u" and i > 0:
        return not (word[i - 1] in "qg" and after and after in "aeiou")
    return letter in "aeiou"


def _cut(word: str, left: int, right: int) -> int:
    """The place at which the consonants between two nuclei, word[left:right], are parted."""
    if right - left < 2:
        return right - (right - left) * (word[left:right] != "x")
    onset = _ONSET.search(word, left + (word[left:right] not in ("ch", "sh", "th", "ph")), right)
    return onset.start() if onset else right - 1
