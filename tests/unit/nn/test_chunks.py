"""Plans of chunks: which frame stands where, and who sees whom."""

from __future__ import annotations

import pytest
import torch

from paraformer.nn.chunks import ALL, make_plan, scama_rule, streaming_rule


def frames_of(plan, row=0):
    size = int(plan.frames.max())
    return [
        [int(f) if f < size else None for f in chunk]
        for chunk in plan.frames[row].unflatten(0, (-1, plan.rule.rows)).tolist()
    ]


def test_rows_of_a_stream():
    """[1, 2, 1]: chunk k brings 2 frames, and 2 cached ones stand before them."""
    plan = make_plan(torch.tensor([5]), streaming_rule((1, 2, 1), 4, 1), 5)
    assert frames_of(plan) == [[None, None, 0, 1], [0, 1, 2, 3], [2, 3, 4, None]]
    assert plan.real[0].tolist() == [True] * 11 + [False]
    current = plan.current[0].unflatten(0, (3, 4)).int().tolist()
    assert current == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]]


def test_the_last_chunk_may_bring_nothing_but_what_was_looked_ahead():
    plan = make_plan(torch.tensor([4]), streaming_rule((0, 2, 1), 4, 1), 4)
    assert frames_of(plan) == [[None, 0, 1], [1, 2, 3], [3, None, None]]
    assert plan.real[0].tolist() == [True] * 7 + [False] * 2
    assert plan.current[0].int().tolist() == [1, 1, 0, 1, 1, 0, 1, 0, 0]


def test_every_frame_is_current_once():
    for length in range(1, 30):
        for sizes in ((0, 4, 2), (3, 4, 2), (0, 5, 0), (0, 10, 5)):
            plan = make_plan(torch.tensor([length]), streaming_rule(sizes, 1, 1), length)
            inside = plan.current[0] & (plan.frames[0] < length)
            assert plan.frames[0][inside].tolist() == list(range(length)), (length, sizes)


@pytest.mark.parametrize(("back", "seen"), [(0, []), (1, [2, 3]), (2, [0, 1, 2, 3])])
def test_look_back_counts_chunks(back, seen):
    plan = make_plan(torch.tensor([6]), streaming_rule((0, 2, 0), back, 1), 6)
    assert plan.visible[0, 0, 4].nonzero().flatten().tolist() == [*seen, 4, 5]


def test_all_of_the_past():
    plan = make_plan(torch.tensor([8]), streaming_rule((0, 2, 1), ALL, 1), 8)
    rows = plan.visible[0, 0, 9].nonzero().flatten().tolist()
    assert rows == [0, 1, 3, 4, 6, 7, 9, 10, 11]  # no look-ahead row of an earlier chunk


def test_a_short_utterance_beside_a_long_one_has_the_plan_it_has_alone():
    rule = streaming_rule((0, 4, 2), 2, 1)
    both = make_plan(torch.tensor([13, 6]), rule, 13)
    alone = make_plan(torch.tensor([6]), rule, 6)
    size = alone.frames.size(1)
    real = alone.real[0]
    assert torch.equal(both.real[1, :size], real)
    assert not both.real[1, size:].any()
    assert torch.equal(both.current[1, :size], alone.current[0])
    ours, theirs = both.visible[1, 0, :size, :size], alone.visible[0, 0]
    assert torch.equal(ours[real], theirs[real])


def test_tokens_see_their_chunk_and_the_newest_rows_of_those_that_fired():
    """Weights fire in chunks 0 and 2 alone; the decoder does no step for chunk 1."""
    plan = make_plan(torch.tensor([6]), streaming_rule((0, 2, 0), 0, 1), 6)
    weights = torch.tensor([[0.5, 0.5, 0.0, 0.0, 1.0, 0.0]])
    weights = torch.nn.functional.pad(weights, (0, plan.frames.size(1) - 6))
    keys = plan.token_keys(weights.double().cumsum(1), torch.tensor([2]), 2)[0, 0]
    assert keys[0].nonzero().flatten().tolist() == [0, 1]
    assert keys[1].nonzero().flatten().tolist() == [0, 1, 4, 5]


def test_unroll_and_roll_up_give_back_the_frames():
    x = torch.randn(2, 9, 3)
    lengths = torch.tensor([9, 4])
    plan = make_plan(lengths, scama_rule(4, 3, 0, 1, 1), 9)
    back, counts = plan.roll_up(plan.unroll(x))
    assert counts.tolist() == [9, 4]
    assert torch.equal(back[0, :9], x[0])
    assert torch.equal(back[1, :4], x[1, :4])


@pytest.mark.parametrize("rule", [streaming_rule((0, 4, 2), 1, 1), scama_rule(6, 4, 0, 1, 1)])
def test_an_utterance_without_frames(rule):
    plan = make_plan(torch.tensor([0, 5]), rule, 5)
    assert (plan.frames[0] == 5).all()
    assert plan.visible[0, 0].any(-1).all()  # no softmax over nothing
