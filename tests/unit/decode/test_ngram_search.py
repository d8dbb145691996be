"""The search with n-grams finds what looking at everything finds."""

from __future__ import annotations

import itertools

import pytest
import torch

from paraformer.data.text.ngram import estimate
from paraformer.data.text.ngram_table import NgramTable, write_ngrams
from paraformer.decode.ngram_search import ngram_search
from paraformer.decode.search import as_reading, greedy_search

TOKENS = ["<blank>", "<s>", "</s>", "a", "b", "c", "<unk>"]
SPECIAL = [0, 1, 2]


@pytest.fixture(scope="module", params=[2, 3, 4])
def table(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "x.lm"
    write_ngrams(path, estimate([[*"abcab"], [*"bca"], [*"cab"], [*"aab"]], request.param))
    return NgramTable(path)


def heard(rows=3, positions=5, seed=0):
    torch.manual_seed(seed)
    logp = (2 * torch.randn(rows, positions, len(TOKENS))).log_softmax(-1)
    logp[0, 1, 0] = 1.0  # there the decoder says nothing
    return logp, torch.tensor([positions, 3, 0][:rows]), torch.zeros(rows, positions).bool()


def search(table, logp, counts, held, **options):
    words = table.places(TOKENS)
    given = {"weight": 0.7, "bonus": 0.3, "special": SPECIAL, **options}
    found = ngram_search(logp, counts, held, table, words, **given)
    return [[as_reading(*path, given["special"]) for path in paths] for paths in found]


def everything(table, logp, count, held):
    """Sums and ids of all readings, the best first."""
    choices = []
    for u in range(count):
        best = int(logp[u].argmax())
        plain = [v for v in range(len(TOKENS)) if v not in SPECIAL]
        choices.append([best] if held[u] or best in SPECIAL else plain)
    found = []
    for path in itertools.product(*choices):
        ids = [v for v in path if v not in SPECIAL]
        score = sum(float(logp[u, v]) for u, v in enumerate(path))
        said = table.score([TOKENS[v] for v in ids])
        found.append((score + 0.7 * said + 0.3 * len(ids), ids))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_readings_is_found(table, seed):
    logp, counts, held = heard(seed=seed)
    held[0, 3] = True
    for nbest in (1, 5):
        found = search(table, logp, counts, held, beam=64, nbest=nbest)
        for row, readings in enumerate(found):
            wanted = everything(table, logp[row], counts[row], held[row])[:nbest]
            assert [reading.ids for reading in readings] == [ids for _, ids in wanted]
            scores = [reading.score for reading in readings]
            assert scores == pytest.approx([score for score, _ in wanted], abs=1e-4)


def test_confidences_and_positions_are_those_of_the_decoder(table):
    logp, counts, held = heard()
    for row, (found,) in enumerate(search(table, logp, counts, held)):
        said = [
            float(logp[row, u, v].exp()) for u, v in zip(found.positions, found.ids, strict=True)
        ]
        assert found.confidences == pytest.approx(said, abs=1e-5)
        assert len(found.ids) == len(greedy_search(logp, counts)[row].ids)


def test_what_stands_beside_an_utterance_changes_nothing(table):
    logp, counts, held = heard()
    together = search(table, logp, counts, held, nbest=3)
    for row, count in enumerate(counts.tolist()):
        part = slice(row, row + 1)
        alone = search(table, logp[part, :count], counts[part], held[part, :count], nbest=3)
        assert alone[0] == together[row]


def test_without_weight_it_is_the_greedy_search(table):
    logp, counts, held = heard()
    found = search(table, logp, counts, held, weight=0.0, bonus=0.0)
    assert [each[0].ids for each in found] == [each.ids for each in greedy_search(logp, counts)]


def test_a_sentence_in_pieces_is_worth_what_it_is_as_a_whole(table):
    """Each piece goes on from the tokens before it, and only the last one is ended."""
    logp, _, _ = heard(rows=1, seed=1)
    held = torch.ones(1, 5, dtype=torch.bool)  # so the tokens are the decoder's
    logp[..., SPECIAL] = -9.0
    path = logp[0].argmax(-1).tolist()
    total = 0.0
    for first, last in ((0, 1), (1, 1), (1, 4), (4, 5)):
        (found,) = ngram_search(
            *(logp[:, first:last], torch.tensor([last - first]), held[:, first:last]),
            *(table, table.places(TOKENS)),
            weight=0.7,
            special=SPECIAL,
            before=[path[:first]],
            ends=[last == 5],
        )
        assert found[0].ids == path[first:last]
        total += found[0].total
    score = float(logp[0].max(-1).values.sum()) + 0.7 * table.score([TOKENS[v] for v in path])
    assert total == pytest.approx(score, abs=1e-5)
