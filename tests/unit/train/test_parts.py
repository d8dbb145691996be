"""A batch too large for memory is learnt in parts, whose gradients are those of the whole."""

from __future__ import annotations

import pytest
import torch

from paraformer.errors import DataError
from paraformer.train.losses import Losses
from paraformer.train.optim import Optim
from paraformer.train.parts import mean_of, parts_of, rows_of
from paraformer.train.punctuation import WordBatch
from paraformer.train.trainer import Trainer, Training

LENGTHS = [3, 1, 4, 2, 5]


class Sum(torch.nn.Module):
    """A loss that is a mean over words, on a device that has memory for so many rows."""

    faster, leaves_out, metric = None, False, "loss"

    def __init__(self, most):
        super().__init__()
        self.model = torch.nn.Linear(1, 1, bias=False)
        self.most, self.seen = most, []

    def forward(self, batch, step):
        self.seen.append(len(batch.keys))
        if len(batch.keys) > self.most:
            raise torch.OutOfMemoryError("no memory")
        size = batch.lengths.sum()
        loss = (self.model(batch.ids[..., None].float()).squeeze(-1) ** 2).sum() / size
        return Losses(loss, float(size), {"loss": loss.detach()})


def batch():
    ids = torch.zeros(5, 5, dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.arange(1, length + 1) + row
    return WordBatch(list("abcde"), ids, torch.tensor(LENGTHS), ids)


def learn(most, tmp_path, pending=False):
    torch.manual_seed(0)
    objective = Sum(most)
    settings = (Optim(), Training(), tmp_path, torch.device("cpu"))
    trainer = Trainer(objective, None, None, *settings)
    trainer.pending = pending
    result = trainer._learn(batch(), 1)
    return objective, result


def test_parts_hold_each_row_once():
    parts = list(parts_of(batch(), 2))
    assert [part.keys for part in parts] == [["a", "b"], ["c", "d", "e"]]
    assert torch.equal(torch.cat([part.ids for part in parts]), batch().ids)
    assert [rows_of(part) for part in parts] == [2, 3]


def test_the_mean_of_parts_counts_their_weights():
    parts = [Losses(torch.tensor(v), w, {"loss": torch.tensor(v)}) for v, w in ((1.0, 1), (4.0, 3))]
    whole = mean_of(parts)
    assert (float(whole.loss), whole.weight) == (3.25, 4)


@pytest.mark.parametrize(("most", "seen"), [(5, [5]), (3, [5, 2, 3]), (1, [5, 2, 1, 1, 1, 2])])
def test_gradients_and_losses_are_those_of_the_whole(most, seen, tmp_path, caplog):
    whole, wanted = learn(5, tmp_path)
    parts, found = learn(most, tmp_path)
    assert parts.seen[: len(seen)] == seen
    torch.testing.assert_close(parts.model.weight.grad, whole.model.weight.grad)
    torch.testing.assert_close(found.loss, wanted.loss.detach())
    assert found.weight == wanted.weight == sum(LENGTHS)
    assert caplog.text.count("no memory for 5 rows at once") == (most < 5)


@pytest.mark.parametrize("most", [0, 3])
def test_where_parts_do_not_help_the_remedy_is_named(most, tmp_path):
    with pytest.raises(DataError, match="no memory to train on 5 rows at once; lower batching.max"):
        learn(most, tmp_path, pending=most == 3)
