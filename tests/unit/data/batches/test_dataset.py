"""Each utterance comes once an epoch, in batches under the budget, in an order that is repeatable
and can be entered anywhere.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import kaldiio
import numpy as np
import pytest
import torch

from paraformer.data.batches.augment import Augment
from paraformer.data.batches.dataset import Batching, Loader, Utterance, plan_epoch, read_utterances
from paraformer.data.corpus.tables import read_table, write_table
from paraformer.errors import DataError
from tests import tiny


def utterances(count=200, seed=0, speakers=7):
    random = np.random.default_rng(seed)
    return [
        Utterance(f"u{i}", "", int(n), [3], [], f"s{i % speakers}")
        for i, n in enumerate(random.integers(30, 900, count))
    ]


def examples(plan):
    return [example for batch in plan for example in batch]


JOINING = Batching(max_frames=4000, join_probability=0.7, join_max=4, join_frames=1200, gap=(0, 30))


@pytest.mark.parametrize("batching", [Batching(max_frames=4000), JOINING], ids=["plain", "joined"])
@pytest.mark.parametrize("seed", range(5))
def test_each_utterance_comes_once_an_epoch(batching, seed):
    plan = plan_epoch(utterances(), batching, np.random.default_rng(seed))
    assert Counter(i for e in examples(plan) for i in e.parts) == Counter(range(200))


@pytest.mark.parametrize("batching", [Batching(max_frames=4000), JOINING], ids=["plain", "joined"])
@pytest.mark.parametrize("seed", range(5))
def test_batches_keep_the_budget_with_padding_counted(batching, seed):
    for batch in plan_epoch(utterances(), batching, np.random.default_rng(seed)):
        longest = max(example.frames for example in batch)
        steps = -(-longest // batching.frame_step)
        assert len(batch) * steps * batching.frame_step <= 4000
        assert all(-(-e.frames // batching.frame_step) == steps for e in batch)


def test_an_utterance_over_the_budget_is_a_batch_of_its_own():
    plan = plan_epoch(utterances(), Batching(max_frames=100), np.random.default_rng(0))
    assert len(plan) == 200


def test_batches_have_at_most_so_many_utterances():
    batching = Batching(max_frames=10**6, max_utterances=3)
    plan = plan_epoch(utterances(), batching, np.random.default_rng(0))
    assert max(map(len, plan)) == 3


def test_joined_utterances_are_of_one_speaker_and_not_too_long():
    spoken = utterances()
    joined = examples(plan_epoch(spoken, JOINING, np.random.default_rng(0)))
    assert any(len(e.parts) > 1 for e in joined)
    for example in joined:
        assert len({spoken[i].speaker for i in example.parts}) == 1
        assert len(example.parts) <= 4
        speech = sum(spoken[i].frames for i in example.parts)
        assert len(example.parts) == 1 or speech <= 1200
        assert len(example.gaps) == len(example.parts) + 1
        assert all(0 <= gap <= 30 for gap in example.gaps)
        assert example.frames == speech + sum(example.gaps)


def test_nothing_is_joined_or_shuffled_for_validation():
    plan = plan_epoch(utterances(), JOINING, None)
    found = examples(plan)
    assert all(len(e.parts) == 1 and sum(e.gaps) == 0 for e in found)
    assert plan == plan_epoch(utterances(), JOINING, None)


# loader


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_data(tmp_path_factory.mktemp("data"), 15)


def encode(text):
    return [tiny.TOKENS.index(c) for c in text]


@pytest.fixture
def loader(data):
    def make(augment=None, seed=3, **batching):
        kept, _ = read_utterances(data, encode, 6)
        batching = Batching(**{"max_frames": 600, "frame_step": 48, **batching})
        return Loader(kept, tiny.frontend(), batching, augment, seed)

    return make


JOIN = {"join_probability": 0.8, "gap": (2, 9)}
AUGMENT = Augment(gain_db=6.0, warp=0.1, noise_probability=0.5, freq_masks=1, time_masks=1)


def test_the_order_is_the_same_for_the_same_seed_and_epoch_alone(loader):
    assert loader().plan(1) == loader().plan(1)
    assert loader().plan(1) != loader().plan(2)
    assert loader().plan(1) != loader(seed=4).plan(1)


@pytest.mark.parametrize("start", [0, 1, 4, 10**6])
def test_an_epoch_can_be_entered_anywhere(loader, start):
    """What comes from there is the same to the bit, augmentation included."""
    whole = list(loader(AUGMENT, **JOIN).epoch(2))
    rest = list(loader(AUGMENT, **JOIN).epoch(2, start))
    assert tiny.equal([tuple(b) for b in rest], [tuple(b) for b in whole[start:]])


def test_the_generators_of_torch_are_left_alone(loader):
    before = torch.get_rng_state()
    list(loader(AUGMENT, **JOIN).epoch(1))
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_holds_features_and_text_of_its_utterances(loader, data):
    text = read_table(data / "text")
    feats = kaldiio.load_scp(str(data / "feats.scp"))
    seen = []
    frontend = tiny.frontend()
    for batch in loader().epoch(1):
        assert batch.feats.size(1) % 8 == 0  # 48 frames of 10 ms, 6 to an encoder frame
        for row, key in enumerate(batch.keys):
            seen.append(key)
            expected = frontend.features(torch.tensor(feats[key]))
            length = int(batch.lengths[row])
            torch.testing.assert_close(batch.feats[row, :length], expected)
            assert batch.feats[row, length:].abs().sum() == 0
            size = int(batch.text_lengths[row])
            assert batch.text[row, :size].tolist() == encode(text[key])
            assert (batch.text[row, size:] == -1).all()
        assert batch.seconds == pytest.approx(sum(len(feats[k]) for k in batch.keys) / 100)
    assert sorted(seen) == sorted(text)


def test_joined_utterances_have_their_text_in_turn_and_quiet_frames_between(loader, data):
    text = read_table(data / "text")
    made = loader(**JOIN)
    frames = {u.key: u.frames for u in made.utterances}
    joined = 0
    for batch in made.epoch(1):
        for row, name in enumerate(batch.keys):
            keys = name.split("+")
            joined += len(keys) > 1
            size = int(batch.text_lengths[row])
            assert batch.text[row, :size].tolist() == encode("".join(text[k] for k in keys))
            gaps = int(batch.lengths[row]) - sum(frames[k] for k in keys) / 6
            assert (len(keys) + 1) * 2 / 6 <= gaps < (len(keys) + 1) * 9 / 6 + 1
    assert joined


def test_units_follow_the_utterances(data):
    units = {f"s{i % 3}-u{i:02d}": [1 + i] * 2 for i in range(15)}
    kept, _ = read_utterances(data, encode, 6, units)
    loader = Loader(kept, tiny.frontend(), Batching(max_frames=600), seed=1)
    for batch in loader.epoch(1):
        assert [row[:2] for row in batch.units.tolist()] == [units[k] for k in batch.keys]
        assert batch.unit_lengths.tolist() == [2] * len(batch.keys)


def test_a_loader_that_is_left_early_ends_its_thread(loader):
    before = threading.active_count()
    batches = loader().epoch(1, ahead=1)
    next(batches)
    batches.close()
    limit = time.monotonic() + 20  # for the batch that it is at
    while threading.active_count() > before and time.monotonic() < limit:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_missing_features_are_an_error_that_names_them(loader):
    made = loader()
    made.utterances = [u._replace(feats="nowhere.ark:7") for u in made.utterances]
    with pytest.raises(DataError, match="no features can be read from nowhere.ark:7"):
        list(made.epoch(1))


# what is kept of a data directory


def test_what_cannot_be_trained_on_is_named_with_its_reason(data, tmp_path):
    feats, text = read_table(data / "feats.scp"), read_table(data / "text")
    frames = read_table(data / "utt2num_frames")
    keys = list(feats)
    del text[keys[0]], feats[keys[1]], frames[keys[4]]
    text[keys[2]] = ""
    text[keys[3]] = "一" * (int(frames[keys[3]]) // 6 - 1)
    tables = {"text": text, "feats.scp": feats, "utt2num_frames": frames}
    for name, table in tables.items():
        write_table(tmp_path / name, table)
    kept, dropped = read_utterances(tmp_path, encode, 6)
    assert sorted(u.key for u in kept) == sorted(keys[5:])
    assert dropped == {
        "no features": [keys[1]],
        "no transcript": [keys[0]],
        "empty transcript": [keys[2]],
        "more tokens than frames": [keys[3]],
        "not in utt2num_frames": [keys[4]],
    }
    assert kept[0].speaker == kept[0].key  # no utt2spk: each is its own


def test_as_many_tokens_as_frames_allow_are_kept(data, tmp_path):
    """With the end symbol there is still one frame more than tokens."""
    key, feat = next(iter(read_table(data / "feats.scp").items()))
    write_table(tmp_path / "feats.scp", {key: feat})
    write_table(tmp_path / "utt2num_frames", {key: "60"})
    write_table(tmp_path / "text", {key: "一" * 8})
    (kept,), dropped = read_utterances(tmp_path, encode, 6)
    assert len(kept.ids) == 8
    assert not dropped


def test_a_directory_without_anything_to_train_on(tmp_path):
    for name in ("text", "feats.scp", "utt2num_frames"):
        write_table(tmp_path / name, {"u1": ""} if name == "text" else {"u1": "9"})
    with pytest.raises(DataError, match="no usable utterance.*empty transcript"):
        read_utterances(tmp_path, encode, 6)
