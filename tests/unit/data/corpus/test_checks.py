"""The memory of the checks and the order of what they say; test_datadir.py: what they find."""

from __future__ import annotations

import tracemalloc

import pytest

from paraformer.data.corpus.checks import in_all, in_any, shared
from paraformer.data.corpus.datadir import DataDir

COUNT = 3000
NAMES = ("wav.scp", "feats.scp", "text", "utt2spk", "utt2dur")


@pytest.fixture
def made(tmp_path):
    """A directory of five tables; ids have 20 characters, values 60."""
    for name in NAMES:
        value = {"utt2dur": "3.25", "utt2spk": "s"}.get(name, "/" * 60)
        lines = (f"BAC009S0002W{i:08} {value}\n" for i in range(COUNT))
        (tmp_path / name).write_text("".join(lines))
    (tmp_path / "utt2note").write_text((tmp_path / "text").read_text())
    return tmp_path


def peak_of(function):
    """Bytes at the most, an utterance and table; the least of three times, for threads of other
    tests that still run are counted too.
    """
    function()  # modules and caches
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        try:
            function()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks) / COUNT / len(NAMES)


@pytest.mark.parametrize(
    "work",
    [
        lambda folder: DataDir(folder).validate(files=False),
        lambda folder: DataDir(folder).fix(files=False),
        lambda folder: DataDir(folder).split(3, "utterance"),
        lambda folder: DataDir(folder).copy(folder / "copy", utt_prefix="x"),
        lambda folder: DataDir(folder).subset(DataDir(folder).utterances, folder / "part"),
    ],
    ids=["validate", "fix", "split", "copy", "subset"],
)
def test_tables_are_not_held_in_memory(made, work):
    # An id is a str of 69 bytes, a value one of 109; as rows and dicts they took 320 to 450.
    assert peak_of(lambda: work(made)) < 200


def test_equal_sets_of_ids_are_kept_once():
    one, other = {"a", "b"}, {"b"}
    assert shared({"b", "a"}, [other, one]) is one
    assert in_all([one, one]) is one and in_any([one, one]) is one
    assert (in_all([one, other]), in_any([one, other])) == ({"b"}, {"a", "b"})


def test_repeated_ids_count_by_their_first_row_and_disorder_is_named_once(tmp_path):
    (tmp_path / "text").write_text("b 1\na 2\nb 3\na 2\n")
    faults = DataDir(tmp_path).validate(wav=False, feats=False)
    assert [(fault.reason, fault.line) for fault in faults] == [
        ("two entries in text", 3),
        ("repeated line", 4),
        ("not sorted", 2),
    ]
