"""The value of a number in Chinese characters, exact at any size, and its digits."""

from __future__ import annotations

import re

DIGITS = "零一二三四五六七八九"
_UNITS = (("亿", 10**8), ("万", 10**4), ("千", 1000), ("百", 100), ("十", 10))
_SIZES = dict(_UNITS)
_BARE_TEN = re.compile("(?<![一二三四五六七八九])十")
_SHORT = re.compile("([百千万亿])([一二三四五六七八九])$")  # 三千五 is 3500, 三千零五 is not


def value(text: str) -> int | None:
    """The number that a text of 零 to 九, 两, 十, 百, 千, 万 and 亿 says; None where it is none.

    >>> [value(text) for text in ("一百二十万零五百", "两千零一", "三万五", "十", "二三十", "百")]
    [1200500, 2001, 35000, 10, None, None]
    """
    plain = _BARE_TEN.sub("一十", text.replace("两", "二").replace("〇", "零"))
    short = _SHORT.search(plain)
    if len(plain) > 1 and ("零" in (plain[0], plain[-1]) or "零零" in plain):
        return None
    whole = _sum(plain[: short.start(2)] if short else plain)
    if whole is None:
        return None
    tenths = DIGITS.index(short[2]) * _SIZES[short[1]] // 10 if short else 0
    # Only what reads as it was said: no 百 before a 千, nothing twice.
    said = _said(whole) + (short[2] if short else "")
    return whole + tenths if said == (plain.replace("零", "") or "零") else None


def _sum(text: str) -> int | None:
    """The sum of what stands before each unit, times the unit, and what stands behind it."""
    text = text.lstrip("零") or text[:1]
    for sign, size in _UNITS:
        head, found, tail = text.rpartition(sign)
        if found:
            many, rest = _sum(head), _sum(tail) if tail else 0
            return None if many is None or rest is None else many * size + rest
    return DIGITS.index(text) if len(text) == 1 and text in DIGITS else None


def _said(number: int) -> str:
    """A number in Chinese without its 零, but for 0 itself; 10 is 一十."""
    for sign, size in _UNITS:
        if number >= size:
            many, rest = divmod(number, size)
            return _said(many) + sign + (_said(rest) if rest else "")
    return DIGITS[number]


def written(number: int) -> str:
    """Digits; whole ten thousands from a million on with 万 and 亿.

    >>> [written(number) for number in (120000, 1500000, 350000000, 350000020, 3 * 10**12)]
    ['120000', '150万', '3亿5000万', '350000020', '3万亿']
    """
    if number < 10**6 or number % 10**4:
        return str(number)
    whole, rest = divmod(number, 10**8)
    large = f"{whole // 10**4}万亿" if whole and not whole % 10**4 else f"{whole}亿" * (whole > 0)
    return large + f"{rest // 10**4}万" * (rest > 0)
