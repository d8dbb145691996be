"""Tags of corpora, such as `<noise>`: which brackets hold what is no speech."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from paraformer.errors import ConfigError

TAGS = "<>"  # pairs of brackets


@lru_cache
def tag_pattern(tags: str) -> re.Pattern[str]:
    """A pattern of brackets and all between them; in `<>` stand no blanks: `1 < 2` is no tag.

    >>> tag_pattern("<>[]").sub("", "<noise>你[deep sigh]好")
    '你好'
    """
    pairs = [unicodedata.normalize("NFKC", tags[i : i + 2]) for i in range(0, len(tags), 2)]
    if any(len(pair) != 2 or pair[0] == pair[1] or pair[0].isalnum() for pair in pairs):
        raise ConfigError(f"tags={tags}: are no pairs of brackets; give for instance <>[]()")
    kinds = []
    for pair in pairs:
        opening, closing = map(re.escape, pair)
        blank = r"\s" if opening == "<" else ""
        kinds.append(f"{opening}[^{opening}{closing}{blank}]+{closing}")
    return re.compile("|".join(kinds) or r"(?!)")
