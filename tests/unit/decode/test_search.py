"""Each search equals looking at everything, on vocabularies and lengths where that can be done."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from paraformer.decode.search import (
    BLANK,
    EOS,
    CtcPrefixScorer,
    beam_search,
    ctc_greedy_search,
    greedy_search,
    nbest_search,
    ranked_paths,
)

VOCABULARY = 6


def random_logp(*shape, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return F.log_softmax(torch.randn(*shape, generator=generator) * scale, dim=-1)


def spoken(path):
    return [token for token in path if token > EOS]


def ctc_log_probability(logp, text):
    """By torch's own CTC loss; logp (T, V)."""
    if not text:
        return float(logp[:, BLANK].double().sum())
    return -float(
        F.ctc_loss(
            logp.double()[:, None],
            torch.tensor([text]),
            torch.tensor([len(logp)]),
            torch.tensor([len(text)]),
            blank=BLANK,
            reduction="sum",
        )
    )


def prefix_log_probability(logp, prefix):
    """Sum over all texts that begin with the prefix."""
    frames, size = logp.shape
    texts = [
        (*prefix, *rest)
        for extra in range(frames - len(prefix) + 1)
        for rest in itertools.product(range(1, size), repeat=extra)
    ]
    values = torch.tensor([ctc_log_probability(logp, text) for text in texts])
    return float(values.logsumexp(0))


# greedy


def test_greedy_takes_the_best_of_each_position_and_drops_special_ids():
    logp = torch.full((2, 3, VOCABULARY), -9.0)
    for row, path in enumerate(([4, BLANK, 5], [3, 4, 3])):
        logp[row, range(3), path] = torch.tensor([-0.1, -0.2, -0.3])
    first, second = greedy_search(logp, torch.tensor([3, 2]))
    assert (first.ids, first.positions) == ([4, 5], [0, 2])
    assert first.score == pytest.approx(-0.6)
    assert first.confidences == pytest.approx([math.exp(-0.1), math.exp(-0.3)])
    assert (second.ids, second.score) == ([3, 4], pytest.approx(-0.3))


def test_no_positions_are_an_empty_text():
    nothing = torch.zeros(1, 0, VOCABULARY)
    empty = ([], 0.0, [], [])
    assert greedy_search(nothing, torch.tensor([0])) == [empty]
    assert nbest_search(nothing, torch.tensor([0]), 3) == [[empty]]
    assert ctc_greedy_search(nothing, torch.tensor([0])) == [empty]
    assert beam_search(nothing[0], random_logp(4, VOCABULARY), ctc_weight=0.4) == [empty]


def test_ctc_greedy_joins_repeats_and_keeps_the_highest_confidence():
    path = [BLANK, 4, 4, BLANK, 4, 5, 5, 5]
    best = torch.tensor([0.9, 0.5, 0.8, 0.6, 0.7, 0.5, 0.6, 0.95])
    logp = torch.full((1, 8, VOCABULARY), -9.0)
    logp[0, range(8), path] = best.log()
    (reading,) = ctc_greedy_search(logp, torch.tensor([7]))
    assert (reading.ids, reading.positions) == ([4, 4, 5], [1, 4, 5])
    assert reading.confidences == pytest.approx([0.8, 0.7, 0.6])
    assert reading.score == pytest.approx(float(best[:7].log().sum()))


def test_padding_does_not_change_a_batch():
    logp, lengths = random_logp(3, 9, VOCABULARY), torch.tensor([9, 1, 5])
    for search in (greedy_search, ctc_greedy_search):
        batch = search(logp, lengths)
        for row, count in enumerate(lengths.tolist()):
            (alone,) = search(logp[row : row + 1, :count], lengths[row : row + 1])
            assert batch[row]._replace(score=0.0) == alone._replace(score=0.0)
            assert batch[row].score == pytest.approx(alone.score, abs=1e-5)


# n-best


@pytest.mark.parametrize("seed", range(5))
def test_paths_come_in_order_and_none_is_missing(seed):
    gaps, _ = torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)).sort(dim=1)
    gaps = (gaps - gaps[:, :1]).tolist()
    costs = [sum(gaps[u][rank] for u, rank in path) for path in ranked_paths(gaps)]
    expected = sorted(map(sum, itertools.product(*gaps)))
    assert costs == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_nbest_equals_looking_at_all_paths(seed):
    logp = random_logp(4, VOCABULARY, seed=seed, scale=1.0)
    best = {}
    for path in itertools.product(range(VOCABULARY), repeat=4):
        score = sum(float(logp[u, v]) for u, v in enumerate(path))
        text = tuple(spoken(path))
        best[text] = max(best.get(text, -math.inf), score)
    expected = sorted(best.items(), key=lambda item: -item[1])[:12]
    (found,) = nbest_search(logp[None], torch.tensor([4]), 12)
    assert [tuple(h.ids) for h in found] == [text for text, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected])


def test_the_best_of_nbest_is_greedy():
    logp, lengths = random_logp(2, 7, 30), torch.tensor([7, 4])
    greedy = greedy_search(logp, lengths)
    for (best, *_), expected in zip(nbest_search(logp, lengths, 4), greedy, strict=True):
        assert (best.ids, best.positions) == (expected.ids, expected.positions)
        assert best.score == pytest.approx(expected.score, abs=1e-5)


def test_nbest_gives_fewer_where_there_are_fewer():
    logp = torch.tensor([[[0.5, 0.2, 0.1, 0.2]]]).log()
    (found,) = nbest_search(logp, torch.tensor([1]), 10)
    assert [h.ids for h in found] == [[], [3]]


def test_nbest_of_a_long_uncertain_utterance_is_bounded():
    """A blank and a token alike at 200 positions: 2 ** 200 paths, 201 texts."""
    logp = torch.full((1, 200, 4), -40.0)
    logp[..., BLANK] = logp[..., 3] = math.log(0.5)
    (found,) = nbest_search(logp, torch.tensor([200]), 5)
    assert 1 <= len(found) <= 5


# CTC prefix scores


@pytest.mark.parametrize("seed", range(3))
def test_prefix_scores_equal_sums_over_all_texts(seed):
    logp = random_logp(4, 4, seed=seed)  # ids 1..3 are tokens, EOS among them
    scorer = CtcPrefixScorer(logp, eos=99)
    prefixes, candidates = scorer.start(), torch.arange(1, 4)
    texts = [()]
    for _ in range(3):
        extended = scorer.extend(prefixes, candidates)
        texts = [(*text, int(c)) for text in texts for c in candidates]
        expected = [prefix_log_probability(logp, text) for text in texts]
        torch.testing.assert_close(
            extended.score.flatten().exp(), torch.tensor(expected).double().exp()
        )
        prefixes = type(extended)(*(field.flatten(0, 1) for field in extended))


@pytest.mark.parametrize("text", [(), (3,), (3, 3), (4, 3, 5)])
def test_the_end_scores_the_whole_text(text):
    logp = random_logp(7, VOCABULARY)
    scorer = CtcPrefixScorer(logp)
    prefixes = scorer.start()
    for token in text:
        extended = scorer.extend(prefixes, torch.tensor([token]))
        prefixes = type(extended)(*(field[:, 0] for field in extended))
    end = scorer.extend(prefixes, torch.tensor([EOS, BLANK])).score[0]
    assert float(end[0]) == pytest.approx(ctc_log_probability(logp, text))
    assert end[1] < -1e9


def test_prefix_scores_of_a_long_utterance_stay_exact():
    """Sharp posteriors over 3000 frames: sums of logarithms down to about -60,000."""
    logp = random_logp(3000, VOCABULARY, scale=12.0)
    scorer, prefixes = CtcPrefixScorer(logp), None
    prefixes = scorer.start()
    text = (3, 4, 4, 5) * 10
    for token in text:
        extended = scorer.extend(prefixes, torch.tensor([token]))
        prefixes = type(extended)(*(field[:, 0] for field in extended))
    end = scorer.extend(prefixes, torch.tensor([EOS])).score
    assert float(end) == pytest.approx(ctc_log_probability(logp, text), abs=1e-6)


# beam search


def all_hypotheses(logp, ctc_logp, ctc_weight, penalty):
    """Every path through the positions, eos ending it early: (score, text), best first."""
    count, size = logp.shape
    found = []
    for length in range(1, count + 1):
        for path in itertools.product(range(1, size), repeat=length):
            if EOS in path[:-1] or (length < count and path[-1] != EOS):
                continue
            score = sum(float(logp[u, v]) + penalty for u, v in enumerate(path))
            ended = path[-1] == EOS
            text = path[:-1] if ended else path
            ctc = (
                ctc_log_probability(ctc_logp, text)
                if ended
                else prefix_log_probability(ctc_logp, text)
            )
            found.append((score + ctc_weight * ctc, spoken(path)))
    return sorted(found, key=lambda pair: -pair[0])


@pytest.mark.parametrize(("ctc_weight", "penalty"), [(0.4, 0.0), (1.0, 0.7), (0.2, -0.5)])
def test_a_wide_beam_equals_looking_at_everything(ctc_weight, penalty):
    logp, ctc_logp = random_logp(3, 4, seed=1, scale=0.5), random_logp(4, 4, seed=2)
    expected = all_hypotheses(logp, ctc_logp, ctc_weight, penalty)[:10]
    options = {"ctc_weight": ctc_weight, "penalty": penalty}
    found = beam_search(logp, ctc_logp, beam_size=500, nbest=10, **options)
    assert [h.ids for h in found] == [text for _, text in expected]
    assert [h.score for h in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_without_ctc_the_best_is_the_best_of_each_position():
    logp = random_logp(6, VOCABULARY)
    logp[:, EOS] = -50.0
    for options in ({}, {"ctc_weight": 0.0}, {"ctc_weight": 0.5}):
        ctc_logp = random_logp(9, VOCABULARY) if options.get("ctc_weight") == 0.0 else None
        (best,) = beam_search(logp, ctc_logp, beam_size=3, **options)
        (greedy,) = greedy_search(logp[None], torch.tensor([6]))
        assert (best.ids, best.positions) == (greedy.ids, greedy.positions)
        assert best.confidences == pytest.approx(greedy.confidences)


def test_ctc_corrects_the_decoder():
    logp = torch.tensor([[0.01, 0.01, 0.01, 0.50, 0.47], [0.01, 0.01, 0.01, 0.01, 0.96]]).log()
    heard = torch.tensor([[0.01, 0.01, 0.01, 0.01, 0.96], [0.96, 0.01, 0.01, 0.01, 0.01]]).log()
    heard = torch.cat((heard, heard))
    assert beam_search(logp, heard, ctc_weight=0.0)[0].ids == [3, 4]
    assert beam_search(logp, heard, ctc_weight=0.5)[0].ids == [4, 4]


def test_eos_ends_a_hypothesis_unless_it_is_too_early():
    logp = torch.full((4, VOCABULARY), -5.0)
    logp[range(4), [3, EOS, 4, 5]] = -0.1
    assert beam_search(logp, beam_size=4)[0].ids == [3]
    best = beam_search(logp, beam_size=4, minlenratio=0.5)[0]  # half of 4 positions
    assert best.positions[-1] == 3


def test_length_can_be_limited():
    logp, ctc_logp = random_logp(6, 30), random_logp(8, 30)
    options = {"ctc_weight": 0.3, "beam_size": 3}
    for ratio, length in ((-2.0, 2), (0.5, 4), (9.0, 6)):
        found = beam_search(logp, ctc_logp, maxlenratio=ratio, nbest=9, **options)
        assert max(h.positions[-1] + 1 for h in found) == length


def test_search_stops_where_no_longer_text_can_win():
    """The best text ends first; texts that end later fall behind by 5 nats each."""
    logp = torch.full((40, VOCABULARY), -60.0)
    logp[:, EOS], logp[:, 3] = -5.0, -5.0
    found = beam_search(logp, beam_size=2, nbest=99)
    assert found[0].ids == []
    assert max(len(h.ids) for h in found) < 10


def test_more_tokens_than_ctc_has_frames_still_gives_a_text():
    logp, ctc_logp = random_logp(9, VOCABULARY), random_logp(2, VOCABULARY)
    (best,) = beam_search(logp, ctc_logp, ctc_weight=0.4, beam_size=3)
    assert math.isfinite(best.score)
    (best,) = beam_search(logp, ctc_logp[:0], ctc_weight=0.4, beam_size=3)
    assert math.isfinite(best.score)


def test_posteriors_that_need_gradients_are_taken():
    logp = random_logp(1, 4, VOCABULARY).requires_grad_()
    lengths = torch.tensor([4])
    assert greedy_search(logp, lengths)[0].ids == nbest_search(logp, lengths, 1)[0][0].ids
    assert beam_search(logp[0], logp[0], ctc_weight=0.1)
