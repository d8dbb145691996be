"""Samples for punctuation: all words are seen, no sample is cut otherwise than asked, and a stopped
run goes on as if it had not been.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from paraformer.data.text.tokenizer import Vocabulary
from paraformer.errors import ConfigError, DataError
from paraformer.models.kinds import PUNCTUATION
from paraformer.models.release import build
from paraformer.train.optim import Optim
from paraformer.train.punctuation import (
    IGNORED,
    Passage,
    PassageLoader,
    PunctuationObjective,
    PunctuationTrainer,
    Sampling,
    read_passages,
)
from paraformer.train.snapshots import read_records, seed_everything
from paraformer.train.trainer import Training
from tests import tiny
from tests.parity.oracle import FIXTURES

MARKS = ["<unk>", "_", "，", "。", "？", "、"]
ENDS = [3, 4]
UNK = 49


def passages(count=6, size=90, seed=0):
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        ids = random.integers(1, UNK, size + number)
        labels = random.choice([1, 1, 1, 1, 2, 3], size + number)
        labels[-1] = 3
        found.append(Passage(f"p{number}", ids, labels))
    return found


def spans(batch):
    """Passage, begin and end of each row, as its key says."""
    for key in batch.keys:
        name, _, span = key.partition(":")
        begin, end = map(int, span.split("-"))
        yield name, begin, end


def test_lines_with_marks_become_numbers(tmp_path):
    (tmp_path / "text").write_text("a 好，吗？\nb 好ok\nc ，\n", encoding="utf8")
    first, second = read_passages(tmp_path / "text", Vocabulary(["好", "吗", "<unk>"]), MARKS)
    assert (first.key, first.ids.tolist(), first.labels.tolist()) == ("a", [0, 1], [2, 4])
    assert (second.key, second.ids.tolist(), second.labels.tolist()) == ("b", [0, 2], [1, 1])


def test_a_text_without_marks_teaches_nothing(tmp_path):
    (tmp_path / "text").write_text("a 好吗\n", encoding="utf8")
    with pytest.raises(DataError, match="no passage with one of ， 。 ？ 、"):
        read_passages(tmp_path / "text", Vocabulary(["好", "<unk>"]), MARKS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_words": 0}, "sampling.min_words=0: give a whole number of 1 or more"),
        ({"unknown_share": 1.5}, "sampling.unknown_share=1.5: give a number from 0 to 1"),
        ({"max_words": 5}, "sampling.min_words=8: more than max_words=5"),
    ],
)
def test_a_sample_has_limits(values, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**values)


def test_validation_sees_each_word_once():
    data = passages()
    loader = PassageLoader(data, ENDS, UNK, Sampling(max_words=40, batch_words=200))
    seen = {p.key: np.zeros(len(p.ids), int) for p in data}
    for batch in loader.epoch(0):
        for row, (name, begin, end) in enumerate(spans(batch)):
            seen[name][begin:end] += 1
            passage = next(p for p in data if p.key == name)
            assert batch.ids[row, : end - begin].tolist() == passage.ids[begin:end].tolist()
            assert batch.labels[row, : end - begin].tolist() == passage.labels[begin:end].tolist()
            assert (batch.labels[row, end - begin :] == IGNORED).all()
            assert int(batch.lengths[row]) == end - begin
    assert all((counts == 1).all() for counts in seen.values())


def test_samples_begin_where_sentences_do():
    data = passages()
    conf = Sampling(min_words=5, max_words=30, whole_share=0.5, batch_words=120)
    loader = PassageLoader(data, ENDS, UNK, conf, seed=3)
    seen = {p.key: np.zeros(len(p.ids), int) for p in data}
    ends = []
    for batch in loader.epoch(1):
        assert batch.ids.numel() <= 120 + 8 * 30  # rows of one batch differ by 8 words at most
        for name, begin, end in spans(batch):
            labels = next(p for p in data if p.key == name).labels
            # Or where a sentence of more than 30 words was cut.
            assert (
                begin == 0 or labels[begin - 1] in ENDS or not set(labels[begin - 30 : begin]) & {3}
            )
            assert end - begin <= 30
            ends.append(labels[end - 1] in ENDS)
            seen[name][begin:end] += 1
    assert 0.4 < np.mean(ends) < 0.95
    assert all((counts > 0).all() for counts in seen.values())


def test_an_epoch_is_the_same_again_and_from_the_middle():
    loader = PassageLoader(passages(), ENDS, UNK, Sampling(batch_words=200), seed=1)
    first, again = list(loader.epoch(2)), list(loader.epoch(2))
    assert [batch.keys for batch in first] == [batch.keys for batch in again]
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first, again, strict=True))
    later = list(loader.epoch(2, 2))
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first[2:], later, strict=True))
    assert [b.keys for b in first] != [b.keys for b in loader.epoch(3)]


def test_a_share_of_the_words_becomes_unknown():
    loader = PassageLoader(passages(40), ENDS, UNK, Sampling(unknown_share=0.25), seed=1)
    batches = list(loader.epoch(1))
    unknown = sum(int((b.ids == UNK).sum()) for b in batches)
    assert unknown / sum(b.ids.numel() for b in batches) == pytest.approx(0.25, abs=0.03)


def release(weights=None):
    config = yaml.safe_load((FIXTURES / "oracle/ct_punc/config.yaml").read_text("utf8"))
    config["tokenizer_conf"]["token_list"] = [*map(str, range(UNK)), "<unk>"]
    config["encoder_conf"]["num_blocks"] = 2
    if weights:
        config["model_conf"]["punc_weight"] = weights
    torch.manual_seed(0)
    return build(config, PUNCTUATION)


def test_the_loss_is_the_weighted_mean_over_words():
    weights = [1.0, 1.0, 2.0, 3.0, 1.0, 5.0]
    objective = PunctuationObjective(release(weights)).eval()
    batch = next(PassageLoader(passages(), ENDS, UNK, Sampling(max_words=25)).epoch(0))
    result = objective(batch, 1)
    total, scale, words = 0.0, 0.0, 0
    for ids, labels, length in zip(batch.ids, batch.labels, batch.lengths.tolist(), strict=True):
        logp = F.log_softmax(objective.model(ids[None, :length], torch.tensor([length]))[0], -1)
        for row, label in zip(logp, labels.tolist(), strict=False):
            total -= weights[label] * float(row[label].detach())
            scale, words = scale + weights[label], words + 1
    assert float(result.loss.detach()) == pytest.approx(total / scale, rel=1e-5)
    assert result.weight == words


def trainer(folder, steps, seed=1):
    seed_everything(0)
    data = passages(12)
    conf = Sampling(batch_words=200)
    return PunctuationTrainer(
        PunctuationObjective(release(), 0.1),
        PassageLoader(data, ENDS, UNK, conf, seed),
        PassageLoader(data[:2], ENDS, UNK, conf),
        Optim(lr=0.003, warmup_steps=3),
        Training(max_steps=steps, max_epoch=3),
        folder,
        torch.device("cpu"),
    )


def test_a_stopped_run_equals_one_that_never_stopped(tmp_path):
    whole = trainer(tmp_path / "whole", 9)
    whole.run()
    part = trainer(tmp_path / "part", 4)
    part.run()
    rest = trainer(tmp_path / "part", 9)
    assert rest.resume()
    rest.run()
    assert tiny.equal(dict(rest.objective.state_dict()), dict(whole.objective.state_dict()))
    assert rest.position == whole.position


def test_f1_of_an_epoch_is_that_of_the_best_marks(tmp_path):
    run = trainer(tmp_path, 2)
    run.run()
    record = read_records(tmp_path / "epochs.jsonl")[-1]
    hits = written = wanted = 0
    run.objective.eval()
    for batch in run.dev_loader.epoch(0):
        best = run.objective.model(batch.ids, batch.lengths).argmax(-1)
        best[batch.labels == IGNORED] = 1
        hits += int(((best == batch.labels) & (best > 1)).sum())
        written, wanted = written + int((best > 1).sum()), wanted + int((batch.labels > 1).sum())
    assert record["f1"] == pytest.approx(200 * hits / (written + wanted))
    assert record["token_error_rate"] == pytest.approx(1 - record["f1"] / 100)
