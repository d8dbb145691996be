"""Shards give the utterances of their data directory, in an order that is repeatable and can be
entered anywhere, and never need a whole list in memory.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from paraformer.data.batches.augment import Augment
from paraformer.data.batches.dataset import Batching, Loader, Share, read_utterances
from paraformer.data.batches.selection import Choice, Chooser
from paraformer.data.batches.shards import GROUP, Place, ShardList, ShardLoader, read_shard
from paraformer.data.corpus.tables import read_table, write_table
from paraformer.data.text.tokenizer import CharTokenizer
from paraformer.errors import DataError
from paraformer.programs.make_shards import make_shards
from paraformer.programs.utterances import load_set
from tests import tiny

COUNT = 40
UNITS = {"a": 1, "b": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data directory: files of audio, segments of one, commands, and a key with a path in it."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    names = ("wav.scp", "text", "utt2spk", "text_units", "ctm")
    tables: dict[str, dict[str, str]] = {name: {} for name in names}
    for number in range(COUNT):
        key = "../up%/s0-00" if number == 0 else f"s{number % 3}-{number:02d}"
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * random.standard_normal(random.integers(9000, 24000)), 16000)
        tables["wav.scp"][key] = f"cat {path} |" if number % 4 == 1 else str(path)
        tables["text"][key] = "一二三四"[number % 3 :]
        tables["utt2spk"][key] = f"s{number % 3}"
        tables["text_units"][key] = "a b"
        tables["ctm"][key] = f"1 0.1 0.3 {tables['text'][key]}"
    for name, table in tables.items():
        write_table(folder / name, table)
    return folder


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    return pack(data, tmp_path_factory.mktemp("shards"))


def chooser(**choice):
    return Chooser(CharTokenizer(tiny.TOKENS), Choice(**choice))


def pack(data, out):
    config = {"data": str(data), "out": str(out), "per_shard": 7, "fs": 16000, "min_success": 0.5}
    assert make_shards(OmegaConf.create(config)) == 0
    return out / "shards.list"


BATCHING = Batching(max_frames=600, frame_step=48, join_probability=0.5, gap=(0, 5))
AUGMENT = Augment(gain_db=3.0, noise_probability=0.5)


def loader(shards, seed=3, block=16, share=None, batching=BATCHING):
    front = tiny.frontend()
    more = {} if share is None else {"share": share}
    listed = ShardList(shards)
    return ShardLoader(
        listed, chooser(), UNITS, front, batching, AUGMENT, seed, block=block, **more
    )


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def same(ours, theirs):
    return tiny.equal([tuple(b) for b in ours], [tuple(b) for b in theirs])


def test_shards_hold_what_the_directory_does(data, shards):
    """Rows of a loader in order: those of the directory, of which a third is commands."""
    plain = Batching(max_frames=10**6, frame_step=10**5, max_utterances=1)
    units = {key: [1, 2] for key in ("../up%/s0-00", *(f"s{n % 3}-{n:02d}" for n in range(COUNT)))}
    kept, _ = read_utterances(data, chooser().encode, 6, units, tiny.frontend())
    theirs = {b.keys[0]: b for b in Loader(kept, tiny.frontend(), plain).epoch(0)}
    front, listed = tiny.frontend(), ShardList(shards)
    ours = {b.keys[0]: b for b in ShardLoader(listed, chooser(), UNITS, front, plain).epoch(0)}
    assert ours.keys() == theirs.keys() and len(ours) == COUNT
    for key, batch in ours.items():
        for one, other in zip(batch, theirs[key], strict=True):
            if hasattr(one, "shape"):
                # What a command gives is rounded to 16 bits.
                assert one.shape == other.shape
                assert np.allclose(one, other, atol=2e-2)


def test_what_cannot_be_packed_is_counted_by_reason(data, tmp_path, caplog):
    folder, text = tmp_path / "data", read_table(data / "text")
    silent, empty, broken, *_ = sorted(text)
    write_table(
        folder / "text", {k: "" if k == empty else t for k, t in text.items() if k != silent}
    )
    wavs = read_table(data / "wav.scp") | {broken: str(tmp_path / "none.wav")}
    write_table(folder / "wav.scp", wavs)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/shard-000099.tar").touch()
    listed = pack(folder, tmp_path / "out")
    assert warnings(caplog, folder) == [
        "1 dropped: audio cannot be read",
        "1 dropped: empty transcript",
        "1 dropped: no transcript",
    ]
    names = listed.read_text().splitlines()
    keys = {m.key for name in names for m in read_shard(str(listed.parent / name))}
    assert keys == text.keys() - {silent, empty, broken}
    assert {path.name for path in listed.parent.iterdir()} == {"shards.list", *names}


def test_members_too_large_for_an_utterance_are_counted(shards, monkeypatch, caplog):
    """A packed tar may hold a thousand times its own size."""
    listed, lengths = ShardList(shards), {}
    for name in listed.order(None):
        lengths |= {member.key: len(member.audio) for member in read_shard(name)}
    bound = sorted(lengths.values())[COUNT // 2]
    monkeypatch.setattr("paraformer.data.batches.shards.MOST_AUDIO_BYTES", bound)
    plain = Batching(max_frames=10**6, frame_step=10**5, max_utterances=1)
    loader = ShardLoader(listed, chooser(), {}, tiny.frontend(), plain)
    keys = {key for batch in loader.epoch(0) for key in batch.keys}
    assert keys == {key for key, length in lengths.items() if length <= bound}
    large = COUNT - len(keys)
    assert f"{large} dropped: too large for one utterance" in caplog.text


def test_a_block_is_bounded_in_bytes_too(shards, monkeypatch):
    """Whatever the bound, an epoch has each utterance once, and can be entered anywhere."""
    unbounded = len(list(loader(shards)._blocks(1, Place())))
    monkeypatch.setattr("paraformer.data.batches.shards.BLOCK_BYTES", 100_000)
    assert len(list(loader(shards)._blocks(1, Place()))) > unbounded
    whole = list(loader(shards).epoch(1))
    keys = [key for batch in whole for row in batch.keys for key in row.split("+")]
    assert len(keys) == len(set(keys)) == COUNT
    for start in (1, len(whole) // 2):
        assert same(loader(shards).epoch(1, start), whole[start:])


def test_members_of_a_tar_stay_in_its_folder(shards):
    """The key `../up%/s0-00` is there as one name, and what is no plain file is passed over."""
    with tarfile.open(shards.parent / "shard-000000.tar") as tar:
        names = tar.getnames()
    assert "..%2Fup%25%2Fs0-00.wav" in names
    assert not any("/" in name for name in names)


def test_links_and_devices_are_passed_over(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        text = tarfile.TarInfo("a.txt")
        text.size = 3
        tar.addfile(text, io.BytesIO("一".encode()))
    assert [(member.key, member.audio) for member in read_shard(str(path))] == [("a", b"")]
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match=r"x\.tar: cannot be read as tar"):
        list(read_shard(str(path)))


def test_each_utterance_comes_once_an_epoch_in_another_order(shards):
    orders = []
    for epoch in (1, 2):
        keys = [key for b in loader(shards).epoch(epoch) for key in b.keys]
        assert Counter("+".join(keys).split("+")) == dict.fromkeys(
            Counter("+".join(keys).split("+")), 1
        )
        assert len("+".join(keys).split("+")) == COUNT
        orders.append(keys)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("done", [1, 3, 7, 11])
def test_an_epoch_can_be_entered_in_the_middle_of_the_list(shards, done, monkeypatch):
    """Bit for bit, and the shards before are not read again."""
    whole = list(loader(shards).epoch(2))
    assert len(whole) > 11
    first = loader(shards)
    batches = first.epoch(2)
    assert same(islice(batches, done), whole[:done])
    place = first.place(done)
    batches.close()
    second = loader(shards)
    second.go_to(place)
    assert same(second.epoch(2, done), whole[done:])
    assert same(loader(shards).epoch(2, done), whole[done:])  # and without a place
    if done == 11:
        assert place[0] > 0


def test_two_processes_share_the_rows_of_one(shards):
    whole = [key for b in loader(shards).epoch(1) for key in b.keys]
    halves = [list(loader(shards, share=Share(rank, 2)).epoch(1)) for rank in (0, 1)]
    assert len(halves[0]) == len(halves[1])
    keys = [
        key for half in halves for b in half for key in b.keys if b.copies == 1 or half is halves[0]
    ]
    assert sorted(keys) == sorted(whole)


def warnings(caplog, where):
    """What was said of a data directory or of a list, in the order of the alphabet."""
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith(f"{where}: ")]
    caplog.clear()
    return sorted(line.removeprefix(f"{where}: ") for line in lines)


def test_what_is_not_used_of_shards_is_what_is_not_of_their_directory(data, tmp_path, caplog):
    """The same utterances, and the same lines, once: of an epoch, of the next, of two processes."""
    folder, text = tmp_path / "data", read_table(data / "text")
    crowded, unknown, *_ = sorted(text)
    write_table(folder / "text", text | {crowded: text[crowded] * 30, unknown: "一鑫二森"})
    write_table(folder / "wav.scp", read_table(data / "wav.scp"))
    listed, front = pack(folder, tmp_path / "shards"), tiny.frontend()
    limits = {"max_seconds": 1.3, "drop_unknown": True}
    kept = load_set(folder, chooser(**limits), front, {}, tmp_path / "dropped")
    expected = warnings(caplog, folder)
    reasons = {"more tokens than frames", "unknown characters", "longer than 1.3 s"}
    assert set(read_table(tmp_path / "dropped").values()) == reasons
    assert len(expected) == 4 and any(
        "1 hold unknown 鑫 (1) 森 (1); dropped" in x for x in expected
    )
    first, second = (
        ShardLoader(ShardList(listed), chooser(**limits), {}, front, BATCHING, share=share)
        for share in (Share(0, 2), Share(1, 2))
    )
    for epoch in (0, 1):
        rows = zip(first.epoch(epoch), second.epoch(epoch), strict=True)
        assert {key for pair in rows for b in pair for key in b.keys} == {u.key for u in kept}
    assert warnings(caplog, listed) == expected


def test_members_that_lack_something_are_counted(tmp_path):
    path = tmp_path / "x.tar"
    wav = io.BytesIO()
    soundfile.write(wav, np.zeros(16000), 16000, format="WAV")
    members = {
        "a.txt": "一".encode(),
        "b.wav": wav.getvalue(),
        "c.wav": wav.getvalue()[:20],
        "c.txt": "一".encode(),
        "d.wav": wav.getvalue(),
        "d.txt": b"\xff",
        "e.wav": np.arange(1000, 9000, dtype="<i2").tobytes(),  # without a header
        "e.txt": "一".encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (tmp_path / "shards.list").write_text("x.tar\n")
    with pytest.raises(DataError, match=r"shards.list: no usable utterance \(") as error:
        list(loader(tmp_path / "shards.list").epoch(1))
    reasons = str(error.value).partition("(")[2].rstrip(")").split(", ")
    assert sorted(reasons) == [
        "1 audio cannot be read",
        "1 no transcript",
        "1 not UTF-8",
        "2 no audio",
    ]


def test_a_list_that_holds_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        ShardList(tmp_path / "shards.list")
    (tmp_path / "shards.list").write_text("\n")
    with pytest.raises(DataError, match="no usable utterance"):
        list(loader(tmp_path / "shards.list").epoch(1))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory in /proc")
def test_a_list_of_five_million_lines_is_never_held_in_memory(tmp_path):
    """Each line comes once, in a shuffled order that can be entered anywhere; the list has 95
    MB."""
    count, path = 5_000_000, tmp_path / "shards.list"
    with path.open("w") as file:
        for begin in range(0, count, 100_000):
            numbers = range(begin, begin + 100_000)
            file.write("".join(f"shard-{number:07d}.tar\n" for number in numbers))
    before = grown = resident()
    listed = ShardList(path)
    listed._locate = lambda line: line  # there are no such files
    seen = np.zeros(count, bool)
    entered = list(islice(listed.order((1, 2), 3_210_987), 5))
    for place, line in enumerate(listed.order((1, 2))):
        seen[int(line[6:13])] = True
        if place % 250_000 == 0:
            grown = max(grown, resident())
        if 3_210_987 <= place < 3_210_992:
            assert line == entered[place - 3_210_987]
    assert place + 1 == count and seen.all()
    assert grown - before < 30_000_000  # bytes, of which `seen` has five million
    assert len(listed.starts) == -(-count // GROUP)


def test_a_ctm_of_recordings_is_packed_by_utterance(tmp_path, caplog):
    """Segments of one recording, whose words count from its start, in a shard as in training."""
    soundfile.write(tmp_path / "r.wav", np.random.default_rng(0).normal(0, 0.1, 48000), 16000)
    tables = {"wav.scp": f"r {tmp_path}/r.wav", "segments": "a r 0 1.5\nb r 1.5 3"}
    tables |= {"text": "a 一\nb 二", "ctm": ";; c\nr 1 0.5 0.25 一\nr 1 1.75 0.5 二"}
    for name, text in tables.items():
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    plain = Batching(max_frames=10**6, frame_step=10**5, max_utterances=1)
    packed = pack(tmp_path, tmp_path / "out")
    ours = [*ShardLoader(ShardList(packed), chooser(), {}, tiny.frontend(), plain).epoch(0)]
    kept, _ = read_utterances(tmp_path, chooser().encode, 6, {}, tiny.frontend())
    for batches in (ours, Loader(kept, tiny.frontend(), plain).epoch(0)):
        marks = {batch.keys[0]: batch.marks[0].tolist() for batch in batches}
        assert marks == {"a": [[0.5, 1], [0.75, 2]], "b": [[0.25, 1], [0.75, 2]]}
    (tmp_path / "text").write_text("a 一\nb 三\n", encoding="utf-8")
    packed = pack(tmp_path, tmp_path / "out")
    list(ShardLoader(ShardList(packed), chooser(), {}, tiny.frontend(), plain).epoch(0))
    assert "the words in the ctm of 'b' are not its text" in caplog.text
