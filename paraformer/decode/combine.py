"""Several readings of an utterance become one by votes, token for token (ROVER, Fiscus 1997)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTHING = ""  # what a place holds for the readings that have no token there

Place = dict[str, float]  # token -> summed weight of the readings that have it there
Reading = tuple[Sequence[str], float]  # tokens, weight


def combine(readings: Iterable[Reading]) -> list[str]:
    """The tokens that most weight is given to, place by place.

    Readings are laid onto the first one after another, so the likeliest comes first; a place costs
    the share of the readings so far that say something else, which is the expected number of errors
    against one of them. Where two tokens have one weight, the one that came first is taken.

    >>> "".join(combine([("今天很好", 1), ("今天好", 1), ("金天很好", 1)]))
    '今天很好'
    """
    places: list[Place] = []
    total = 0.0
    for tokens, weight in readings:
        places = _lay(places, total, tokens, weight)
        total += weight
    best = (max(place, key=lambda token: place[token]) for place in places)
    return [token for token in best if token != NOTHING]


def _lay(places: list[Place], total: float, tokens: Sequence[str], weight: float) -> list[Place]:
    """The places with one more reading, at the least cost; a token between two is a new place."""
    laid: list[Place] = []
    for place, token in _path(places, total, tokens):
        place = {NOTHING: total} if place is None and total else dict(place or {})
        place[token] = place.get(token, 0.0) + weight
        laid.append(place)
    return laid


def _path(
    places: Sequence[Place], total: float, tokens: Sequence[str]
) -> list[tuple[Place | None, str]]:
    """Each place with the token laid onto it, and None with each that gets a new place."""
    skips = [total - place.get(NOTHING, 0.0) for place in places]
    costs = [[total * j for j in range(len(tokens) + 1)]]
    for place, skip in zip(places, skips, strict=True):
        above, row = costs[-1], [costs[-1][0] + skip]
        for j, token in enumerate(tokens):
            onto = above[j] + total - place.get(token, 0.0)
            row.append(min(onto, above[j + 1] + skip, row[j] + total))
        costs.append(row)
    path: list[tuple[Place | None, str]] = []
    i, j = len(places), len(tokens)
    while i or j:
        here = costs[i][j]
        if i and j and here == costs[i - 1][j - 1] + total - places[i - 1].get(tokens[j - 1], 0.0):
            path.append((places[i := i - 1], tokens[j := j - 1]))
        elif i and here == costs[i - 1][j] + skips[i - 1]:
            path.append((places[i := i - 1], NOTHING))
        else:
            path.append((None, tokens[j := j - 1]))
    return path[::-1]
