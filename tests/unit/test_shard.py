"""Parts of a list: each id is in one of them, whatever stands beside it; what schedulers tell."""

from __future__ import annotations

import hashlib

import pytest

from paraformer.data.inputs.sources import Inputs, Item, ListedItems
from paraformer.errors import ConfigError
from paraformer.shard import INDEXED, Shard, place_of, read_shard

SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX")
TOLD = (*SLURM, "SLURM_ARRAY_TASK_COUNT", *INDEXED, *filter(None, INDEXED.values()))


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)


def slurm(number, first, last, count):
    return dict(zip((*SLURM, "SLURM_ARRAY_TASK_COUNT"), (number, first, last, count), strict=True))


@pytest.mark.parametrize(
    ("said", "told", "expected"),
    [
        ("", {}, None),
        (None, {}, None),
        ("3/8", slurm(1, 1, 2, 2), (3, 8)),
        ("auto", slurm(3, 1, 8, 8), (3, 8)),
        ("auto", slurm(0, 0, 7, 8), (1, 8)),
        ("auto/8", slurm(5, 5, 5, 1), (5, 8)),  # one of an array is submitted again
        ("auto/8", {"JOB_COMPLETION_INDEX": "0"}, (1, 8)),
        ("auto", {"AWS_BATCH_JOB_ARRAY_INDEX": "7", "AWS_BATCH_JOB_ARRAY_SIZE": "8"}, (8, 8)),
        ("auto/9", {"AWS_BATCH_JOB_ARRAY_INDEX": "7"}, (8, 9)),
    ],
)
def test_which_part_is_meant(said, told, expected, monkeypatch):
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    assert read_shard(said) == (expected and Shard(*expected))


@pytest.mark.parametrize(
    ("said", "told", "line"),
    [
        ("3", {}, "is neither i/n, such as 2/8, nor auto"),
        ("a/b", {}, "is neither i/n"),
        ("١/٢", {}, "is neither i/n"),
        ("1/2/3", {}, "is neither i/n"),
        ("0/8", {}, "is number 0 of 8; the first is 1"),
        ("9/8", {}, "is number 9 of 8"),
        ("1/0", {}, "give a number of shards from 1"),
        ("1/99999999999", {}, "give a number of shards from 1"),
        ("auto", {}, "this is no job of a Slurm array"),
        ("auto", slurm(3, 3, 8, 6), "not 1-n, but 6 jobs from 3 to 8; write shard=auto/n"),
        ("auto", slurm(1, 1, 7, 4), "not 1-n"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN='' is no number"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "does not say of how many; write shard=auto/n"),
        ("auto/2", {"JOB_COMPLETION_INDEX": "2"}, "is number 3 of 2"),
    ],
)
def test_what_is_no_part_is_said_in_a_line(said, told, line, monkeypatch):
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match="^shard=") as caught:
        read_shard(said)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_where_results_go():
    assert place_of("out", "2/8").replace("\\", "/") == "out/shard.2"
    assert (place_of("out", ""), place_of("", "2/8")) == ("out", "")


def test_an_id_is_in_the_part_of_its_hash():
    """BLAKE2b as hashlib has it: the same on every machine, and in every version."""
    for key in ("u1", "声音", "a b", "\udcff"):
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        number = int(digest, 16) % 7 + 1
        assert [n for n in range(1, 8) if Shard(n, 7).holds(key)] == [number]


def test_parts_are_a_list_together_and_stay_when_it_grows(tmp_path):
    def parts(count):
        path = tmp_path / "l.scp"
        path.write_text("".join(f"u{n} {n}.wav\n" for n in range(count)))
        inputs = Inputs(path)
        assert inputs.of(None).total == count
        shares = [inputs.of(Shard(n, 4)) for n in (1, 2, 3, 4)]
        assert sum(share.total for share in shares) - count < 4
        return [[item.key for item in share] for share in shares], [i.key for i in inputs]

    few, all_few = parts(200)
    many, _ = parts(300)
    assert sorted(sum(few, [])) == sorted(all_few)
    for few_of, many_of in zip(few, many, strict=True):
        assert many_of[: len(few_of)] == few_of and len(few_of) > 20


def test_items_at_hand_have_the_same_parts():
    items = ListedItems(Item(f"u{n}", None) for n in range(50))
    first = items.of(Shard(1, 2))
    assert [i.key for i in first] == [i.key for i in items if Shard(1, 2).holds(i.key)]
    assert items.of(None) is items and first.of(Shard(1, 2)) == first
