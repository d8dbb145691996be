"""Log-probabilities become token ids: greedy, n-best, CTC, and beam search with CTC scores."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.backends.face import length_mask

BLANK, SOS, EOS = 0, 1, 2
SPECIAL = (BLANK, SOS, EOS)
IMPOSSIBLE = -1e10  # finite, so that differences of scores stay numbers
PRE_BEAM_RATIO = 1.5  # candidates by the decoder alone, in beams (the reference's)
END_MARGIN, END_LENGTHS = -10.0, 3  # end detection, in nats and tokens (the reference's)
PATHS_PER_TEXT = 32  # how many paths are looked at for each different text of an n-best list


class Hypothesis(NamedTuple):
    """One reading of an utterance."""

    ids: list[int]  # tokens without blank, start and end
    score: float  # sum of log-probabilities (and, in beam search, of CTC and length bonus)
    confidences: list[float]  # probability of each token, 0 to 1
    positions: list[int]  # decoder position (CTC: first frame) of each token


def greedy_search(
    logp: Tensor, token_lengths: Tensor, special: Sequence[int] = SPECIAL
) -> list[Hypothesis]:
    """The best token of each position; logp (B, U, V), token_lengths (B,).

    >>> probabilities = torch.tensor([[[0.5, 0.0, 0.0, 0.4, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]])
    >>> greedy_search(probabilities.log(), torch.tensor([2]))[0].ids
    [4]
    """
    best, ids = logp.float().max(dim=-1)
    rows = zip(ids.tolist(), best.tolist(), token_lengths.tolist(), strict=True)
    return [as_reading(row[:n], scores[:n], sum(scores[:n]), special) for row, scores, n in rows]


def as_reading(
    path: Sequence[int], token_scores: Sequence[float], score: float, special: Sequence[int]
) -> Hypothesis:
    """A path with its special ids left out; token_scores are log-probabilities."""
    kept = [u for u, token in enumerate(path) if token not in special]
    confidences = [math.exp(token_scores[u]) for u in kept]
    return Hypothesis([path[u] for u in kept], score, confidences, kept)


def ctc_greedy_search(
    logp: Tensor, lengths: Tensor, special: Sequence[int] = SPECIAL
) -> list[Hypothesis]:
    """The best CTC path, repeats joined and blanks left out; logp (B, T, V), lengths (B,).

    A token's confidence is its highest probability over the frames that were joined.
    """
    frames = length_mask(lengths, logp.size(1))
    best, ids = logp.float().max(dim=-1)
    fresh = F.pad(ids[:, 1:] != ids[:, :-1], (1, 0), value=True)[:, : ids.size(1)]
    run = (fresh.cumsum(1) - 1).clamp(min=0)
    peaks = torch.full_like(best, -torch.inf)
    peaks = peaks.scatter_reduce(1, run, best.masked_fill(~frames, -torch.inf), "amax").exp()
    dropped = torch.isin(ids, torch.tensor(special, device=ids.device))
    scores = best.masked_fill(~frames, 0.0).sum(1)
    readings = []
    for row, kept in enumerate(fresh & frames & ~dropped):
        where = kept.nonzero().flatten()
        confidences = peaks[row, run[row, where]].tolist()
        readings.append(
            Hypothesis(ids[row, where].tolist(), float(scores[row]), confidences, where.tolist())
        )
    return readings


def nbest_search(
    logp: Tensor, token_lengths: Tensor, nbest: int, special: Sequence[int] = SPECIAL
) -> list[list[Hypothesis]]:
    """The `nbest` best different texts of each utterance, best first; logp (B, U, V).

    Positions are independent, so paths can be taken in exact order of their scores. Of those that
    differ in special ids only the best is kept; an utterance may have fewer than `nbest` texts.
    """
    lengths = token_lengths.tolist()
    return [
        _best_texts(scores[:n], nbest, special) for scores, n in zip(logp, lengths, strict=True)
    ]


def _best_texts(logp: Tensor, nbest: int, special: Sequence[int]) -> list[Hypothesis]:
    limit = nbest * PATHS_PER_TEXT
    logp = _best_special_only(logp.detach().cpu().double(), special)
    scores, ids = logp.topk(min(limit, logp.size(1)), dim=-1)
    score_table, id_table = scores.tolist(), ids.tolist()
    found: dict[tuple[int, ...], Hypothesis] = {}
    for changes in islice(ranked_paths((scores[:, :1] - scores).tolist()), limit):
        ranks = dict(changes)
        path = [row[ranks.get(u, 0)] for u, row in enumerate(id_table)]
        token_scores = [row[ranks.get(u, 0)] for u, row in enumerate(score_table)]
        reading = as_reading(path, token_scores, sum(token_scores), special)
        found.setdefault(tuple(reading.ids), reading)
        if len(found) == nbest:
            break
    return list(found.values())


def _best_special_only(logp: Tensor, special: Sequence[int]) -> Tensor:
    """Special ids all read as nothing: leave each position (U, V) its best one."""
    columns = torch.tensor([s for s in special if s < logp.size(1)], dtype=torch.long)
    if columns.numel() == 0:
        return logp
    values = logp[:, columns]
    best = values.argmax(dim=1, keepdim=True)
    alone = torch.full_like(values, -torch.inf).scatter(1, best, values.gather(1, best))
    return logp.index_copy(1, columns, alone)


def ranked_paths(gaps: Sequence[Sequence[float]]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Choices of one entry for each position in order of their summed gaps, found one at a time.

    gaps[u] rises from 0. A path is given as the (position, rank) pairs whose rank is not 0. With
    the positions sorted by their first gap each path has one parent, no worse than itself, and at
    most three children.

    >>> list(ranked_paths([[0.0, 2.0], [0.0, 1.0]]))
    [(), ((1, 1),), ((0, 1),), ((0, 1), (1, 1))]
    """
    yield ()
    order = [u for u, row in enumerate(gaps) if len(row) > 1 and row[1] < math.inf]
    order.sort(key=lambda u: gaps[u][1])
    table = [gaps[u] for u in order]
    heap: list[tuple[float, tuple[tuple[int, int], ...]]] = []
    if table:
        heap.append((table[0][1], ((0, 1),)))
    while heap:
        cost, changes = heapq.heappop(heap)
        yield tuple(sorted((order[place], rank) for place, rank in changes))
        *head, (place, rank) = changes
        row, before = table[place], cost - table[place][rank]
        if rank + 1 < len(row) and row[rank + 1] < math.inf:
            heapq.heappush(heap, (before + row[rank + 1], (*head, (place, rank + 1))))
        if place + 1 < len(table):
            step = table[place + 1][1]
            heapq.heappush(heap, (cost + step, (*changes, (place + 1, 1))))
            if rank == 1:
                heapq.heappush(heap, (before + step, (*head, (place + 1, 1))))


class CtcPrefixes(NamedTuple):
    """H prefixes and what CTC knows of them; column t holds paths over the first t frames."""

    last: Tensor  # (H,) last token, -1 for the empty prefix
    in_token: Tensor  # (H, T + 1) log-probability of the prefix with the last token at frame t
    in_blank: Tensor  # (H, T + 1) ... with a blank at frame t
    score: Tensor  # (H,) log-probability that the text begins with the prefix


class CtcPrefixScorer:
    """Scores of prefixes extended by tokens (Watanabe et al. 2017, doi 10.1109/JSTSP.2017.2763455).

    The recursion over frames is linear in the probabilities, so it is solved by cumulative sums of
    logarithms instead of a loop, for all prefixes and candidates at once, in float64.
    """

    def __init__(self, logp: Tensor, blank: int = BLANK, eos: int = EOS) -> None:
        self.logp = logp.detach().cpu().double().clamp(min=-1e4).t().contiguous()  # (V, T)
        self.blank, self.eos = blank, eos

    def start(self) -> CtcPrefixes:
        """The empty prefix alone, H = 1."""
        in_blank = F.pad(self.logp[self.blank].cumsum(0), (1, 0))[None]
        nothing = torch.full_like(in_blank, -torch.inf)
        return CtcPrefixes(torch.tensor([-1]), nothing, in_blank, torch.zeros(1).double())

    def extend(self, prefixes: CtcPrefixes, candidates: Tensor) -> CtcPrefixes:
        """Each prefix followed by each of the candidates (C,): fields (H, C) and (H, C, T + 1).

        The end symbol scores as the whole text being the prefix; a blank extends nothing.
        """
        emission = self.logp[candidates]
        ends = torch.logaddexp(prefixes.in_token, prefixes.in_blank)
        # After the same token only a blank in between makes a new one.
        repeat = (prefixes.last[:, None] == candidates)[..., None]
        entry = torch.where(repeat, prefixes.in_blank[:, None], ends[:, None])[..., :-1]
        entry = entry.masked_fill((candidates == self.blank)[:, None], -torch.inf)
        in_token = _accumulate(entry, emission)
        in_blank = _accumulate(in_token[..., :-1], self.logp[self.blank])
        score = torch.logsumexp(entry + emission, dim=-1)
        score = torch.where(candidates == self.eos, ends[:, -1:], score)
        last = candidates.expand(score.size(0), -1)
        return CtcPrefixes(last, in_token, in_blank, score.clamp(min=IMPOSSIBLE))


def _accumulate(inflow: Tensor, logp: Tensor) -> Tensor:
    """a(t) = (a(t - 1) + inflow(t - 1)) p(t), a(0) = 0, as logarithms: (.., T) -> (.., T + 1)."""
    upto = logp.cumsum(-1)
    state = upto + torch.logcumsumexp(inflow - (upto - logp), dim=-1)
    return F.pad(state, (1, 0), value=-torch.inf)


class _Beam(NamedTuple):
    """Running hypotheses, and the CTC side of them if there is one."""

    tokens: Tensor  # (H, i)
    scores: Tensor  # (H,)
    prefixes: CtcPrefixes | None


def beam_search(
    logp: Tensor,
    ctc_logp: Tensor | None = None,
    *,
    beam_size: int = 2,
    nbest: int = 1,
    ctc_weight: float = 0.0,
    penalty: float = 0.0,
    maxlenratio: float = 0.0,
    minlenratio: float = 0.0,
    blank: int = BLANK,
    eos: int = EOS,
) -> list[Hypothesis]:
    """Best readings of one utterance by its parallel posteriors (U, V), helped by CTC's (T, V).

    A token scores its decoder log-probability, ctc_weight times what it adds to the CTC prefix
    score, and penalty. eos ends a hypothesis early, and the last position ends all. maxlenratio > 0
    stops after that share of the frames, < 0 after -maxlenratio tokens; minlenratio > 0 forbids eos
    before that share of the frames.
    """
    steps = logp.detach().cpu().double() + penalty
    frames = steps.size(0) if ctc_logp is None else ctc_logp.size(0)
    count, least = _length_limits(steps.size(0), frames, maxlenratio, minlenratio)
    scorer, prefixes = None, None
    if ctc_logp is not None and ctc_weight > 0.0:
        scorer = CtcPrefixScorer(ctc_logp, blank, eos)
        prefixes = scorer.start()
    beam = _Beam(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1).double(), prefixes)
    ended: list[tuple[float, list[int]]] = []
    for i in range(count):
        step = steps[i].clone()
        if i < least:
            step[eos] = -torch.inf
        beam = _advance(beam, step, scorer, ctc_weight, beam_size)
        if i == count - 1:
            break
        beam = _part(beam, beam.tokens[:, -1] == eos, ended)
        # The reference looks one length late, and so do we: at `i`, where i + 1 tokens are there.
        if beam.scores.numel() == 0 or (maxlenratio == 0.0 and _hopeless(ended, i)):
            break
    _part(beam, torch.ones_like(beam.scores, dtype=torch.bool), ended)
    ended.sort(key=lambda pair: -pair[0])
    special = {blank, SOS, eos}
    return [_scored_reading(path, score, logp, sorted(special)) for score, path in ended[:nbest]]


def _length_limits(
    positions: int, frames: int, maxlenratio: float, minlenratio: float
) -> tuple[int, int]:
    """How many positions are decoded at most, and how many come before an eos is allowed."""
    most = positions
    if maxlenratio < 0.0:
        most = max(1, int(-maxlenratio))
    elif maxlenratio > 0.0:
        most = max(1, int(maxlenratio * frames))
    return min(most, positions), int(minlenratio * frames)


def _advance(
    beam: _Beam, step: Tensor, scorer: CtcPrefixScorer | None, ctc_weight: float, beam_size: int
) -> _Beam:
    """All hypotheses by one token, the best `beam_size` of them kept; step (V,)."""
    width = int(PRE_BEAM_RATIO * beam_size) if scorer is not None else beam_size
    step_scores, candidates = step.topk(min(width, step.numel()))
    scores = beam.scores[:, None] + step_scores
    extended = None
    if scorer is not None and beam.prefixes is not None:
        extended = scorer.extend(beam.prefixes, candidates)
        scores = scores + ctc_weight * (extended.score - beam.prefixes.score[:, None])
    best, flat = scores.flatten().topk(min(beam_size, scores.numel()))
    flat = flat[best > -torch.inf]
    parent, choice = flat // candidates.numel(), flat % candidates.numel()
    tokens = torch.cat((beam.tokens[parent], candidates[choice][:, None]), dim=1)
    if extended is not None:
        extended = CtcPrefixes(*(field[parent, choice] for field in extended))
    return _Beam(tokens, scores[parent, choice], extended)


def _part(beam: _Beam, done: Tensor, ended: list[tuple[float, list[int]]]) -> _Beam:
    """Move the hypotheses that are `done` (H,) to `ended`, return the others."""
    ended.extend(zip(beam.scores[done].tolist(), beam.tokens[done].tolist(), strict=True))
    prefixes = beam.prefixes
    if prefixes is not None:
        prefixes = CtcPrefixes(*(field[~done] for field in prefixes))
    return _Beam(beam.tokens[~done], beam.scores[~done], prefixes)


def _hopeless(ended: list[tuple[float, list[int]]], length: int) -> bool:
    """Whether the best that ended at each of the last lengths is far below the best of all."""
    if not ended:
        return False
    best = max(score for score, _ in ended)
    for size in range(length, length - END_LENGTHS, -1):
        same = [score for score, path in ended if len(path) == size]
        if not same or max(same) - best >= END_MARGIN:
            return False
    return True


def _scored_reading(
    path: list[int], score: float, logp: Tensor, special: Sequence[int]
) -> Hypothesis:
    token_scores = logp[torch.arange(len(path)), torch.tensor(path, dtype=torch.long)].tolist()
    return as_reading(path, token_scores, score, special)
