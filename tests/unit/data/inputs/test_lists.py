"""Lists of recordings: what they cost, whose commands run, how channels and segments share them."""

from __future__ import annotations

import json
import re
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.inputs.sources import Cache, Inputs, list_items
from paraformer.errors import AudioError, ConfigError, DataError, ParaformerError

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Half a second of noise as a.wav; two channels of it as two.wav."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((8000, 2))
    soundfile.write(tmp_path / "a.wav", noise[:, 0], RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "two.wav", noise, RATE, subtype="PCM_16")
    return tmp_path


def read(item, cache=None):
    return item.read(None, RATE, cache)


def reason(item):
    with pytest.raises(ParaformerError) as raised:
        read(item)
    return str(raised.value)


def test_a_line_is_looked_at_when_its_turn_comes(folder):
    """The file of the second line comes into being after the list was opened."""
    listed = folder / "wav.scp"
    listed.write_text("u1 a.wav\nu2 late.wav\n")
    inputs = Inputs(listed)
    items = iter(inputs)
    assert next(items).key == "u1"
    (folder / "a.wav").rename(folder / "late.wav")
    assert len(read(next(items))) == 8000
    assert [item.key for item in inputs] == ["u1", "u2"]
    assert inputs.total == 2


@pytest.mark.parametrize("name", ["wav.scp", "l.jsonl"])
def test_a_list_of_any_length_is_not_held_in_memory(folder, name):
    """At most 32 bytes a line at any time, where an id alone is a string of 70."""
    lines = 50_000
    with (folder / name).open("w") as file:
        for n in range(lines):
            entry = {"key": f"speaker-utterance{n:08d}", "source": "a.wav"}
            row = f"{entry['key']} a.wav" if name == "wav.scp" else json.dumps(entry)
            file.write(row + "\n")
    tracemalloc.start()
    try:
        inputs = Inputs(folder / name)
        assert next(iter(inputs)).key == "speaker-utterance00000000"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert inputs.total == lines
    assert most < 32 * lines


def test_a_list_that_changes_while_it_is_read_is_refused(folder):
    (folder / "l.txt").write_text("a.wav\n")
    inputs = Inputs(folder / "l.txt")
    (folder / "l.txt").write_text("a.wav\ntwo.wav\n")
    with pytest.raises(DataError, match="has changed while it was read"):
        list(inputs)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.jsonl", '{"key": "u1", "source": "touch X |"}\n{"key": "u2", "source": "a.wav"}\n'),
        ("l.jsonl", '"touch X |"\n"a.wav"\n'),
        ("l.json", '{"u1": "touch X | ", "u2": "a.wav"}'),
        ("l.json", "u1 touch X |\nu2 a.wav\n"),
    ],
)
def test_json_runs_no_commands(folder, name, text, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / name).write_text(text)
    bad, good = list_items(name)
    assert reason(bad) == (
        f"{name}:1: a command is run only from a list of lines `id command |`, never from JSON; "
        "write such a list"
    )
    assert len(read(good)) == 8000
    assert not (folder / "X").exists()


@pytest.mark.parametrize("pattern", ["*", "**/*", "[l]*", "lists/*", "li*"])
def test_a_list_that_a_pattern_finds_runs_no_commands(folder, pattern, monkeypatch):
    """Nor does one in a folder that it finds: whose lists they are, nobody has said."""
    monkeypatch.chdir(folder)
    (folder / "lists").mkdir()
    for name in ("l.txt", "lists/l.scp", "lists/wav.scp"):
        (folder / name).write_text("u touch X; cat 'a.wav' |\nv a.wav\n")
    items = [item for item in list_items(pattern) if item.key in ("u", "v")]
    assert {item.key for item in items} == {"u", "v"}
    for item in items:
        if item.key == "u":
            assert "a command is run only from a list of lines that is named" in reason(item)
        else:
            assert len(read(item)) == 8000
    assert not (folder / "X").exists()


def test_nothing_but_a_list_runs_commands(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for source in ("touch X |", ["touch X |"], {"key": "u", "source": "touch X |"}):
        (item,) = list_items(source)
        assert "a command is run only from" in reason(item)
    assert not (folder / "X").exists()
    (folder / "wav.scp").write_text("u touch X; cat 'a.wav' |\n")
    assert len(read(list_items("wav.scp")[0])) == 8000
    assert (folder / "X").exists()


def test_commands_are_run_as_a_shell_does(folder, monkeypatch):
    """Quotes in quotes, pipes in pipes; one that fails says so with its code and last words."""
    monkeypatch.chdir(folder)
    (folder / "a.wav").rename(folder / "it's a.wav")
    rows = ["u1 sh -c \"cat 'it'\\''s a.wav'\" | cat |", 'u2 cat "it\'s a.wav" | head -c 99999 |  ']
    rows += ["u3 echo first >&2; echo last words >&2; exit 7 |", "u4 gone/x.wav"]
    (folder / "wav.scp").write_text("".join(f"{row}\n" for row in rows))
    items = list_items("wav.scp")
    assert [len(read(item)) for item in items[:2]] == [8000, 8000]
    assert re.search(r"exit code 7, 0 bytes \(last words\)", reason(items[2]))
    assert reason(items[3]) == (
        f"gone/x.wav: No such file or directory (in {folder}); check the path"
    )


def test_a_broken_line_of_json_costs_no_other(folder):
    rows = ['{"key": "u1", "source": "a.wav"}', '{"key": "u2", "sour', "[7", "7", "", '""', "null"]
    rows += ['{"key": "u\u20288", "source": "a.wav"}', '{"key": "u9", "source": 7}']
    rows += ['{"key": "u1", "source": "a.wav"}', "[" * 100_000]
    (folder / "l.jsonl").write_text("\n".join(rows), encoding="utf-8")
    items = list_items(folder / "l.jsonl")
    assert [item.key for item in items if isinstance(item.source, str)] == ["u1", "u\u20288"]
    wrong = [(item.key, reason(item)) for item in items if not isinstance(item.source, str)]
    for (key, why), line in zip(wrong, (2, 3, 4, 6, 7, 9, 10, 11), strict=True):
        assert key == {9: "u9", 10: "u1"}.get(line, f"{folder}/l.jsonl:{line}")
        assert line == 9 or why.startswith(f"{folder}/l.jsonl:{line}: ")


def test_a_first_line_that_is_broken_costs_no_other(folder):
    (folder / "l.jsonl").write_text('{"key\n{"key": "u2", "source": "a.wav"}\n')
    bad, good = list_items(folder / "l.jsonl")
    assert "l.jsonl:1" in reason(bad) and good.key == "u2"


def test_a_pattern_of_any_depth(folder):
    (folder / "b" / "c").mkdir(parents=True)
    for place in ("b/x.wav", "b/c/y.wav"):
        (folder / place).write_bytes((folder / "a.wav").read_bytes())
    found = [item.key for item in list_items(str(folder / "**" / "*.wav"))]
    assert found == ["a", "y", "x", "two"]
    assert [item.key for item in list_items(str(folder / "b" / "**"))] == ["y", "x"]


def test_names_with_blanks_below_folders(folder):
    """Of the list, of the working folder; beside lines with an id, and without."""
    (folder / "my dir").mkdir()
    for place in ("my dir/x y.wav", "z 1.wav"):
        (folder / place).write_bytes((folder / "a.wav").read_bytes())
    (folder / "l.txt").write_text("my dir/x y.wav\nu a.wav\nz 1.wav\nz 2.wav\n")
    items = list_items(folder / "l.txt")
    assert [item.key for item in items] == ["x y", "u", "z 1", "z"]
    assert [len(read(item)) for item in items[:3]] == [8000] * 3


def test_each_channel_is_an_item_of_its_own(folder):
    (folder / "wav.scp").write_text(
        f"u1 two.wav\nu2 missing.wav\nu3 a.wav\nu4 cat '{folder}/two.wav' |\n"
    )
    items = list_items(folder / "wav.scp", channel="split")
    keys = ["u1_ch0", "u1_ch1", "u2", "u3_ch0", "u4_ch0", "u4_ch1"]
    assert [item.key for item in items] == keys
    assert [item.channel for item in items] == [0, 1, "mix", 0, 0, 1]
    samples, _ = soundfile.read(folder / "two.wav", dtype="float32")
    for item, column in zip((items[0], items[1], items[4], items[5]), (0, 1, 0, 1), strict=True):
        for cache in (None, Cache()):
            assert torch.equal(read(item, cache), torch.from_numpy(samples[:, column].copy()))
    assert "missing.wav" in reason(items[2])
    assert Inputs(folder / "wav.scp", channel="split").total == 8


def test_one_channel_of_each(folder):
    items = list_items([folder / "two.wav", folder / "a.wav"], channel="1")
    assert [item.key for item in items] == ["two", "a"]
    samples, _ = soundfile.read(folder / "two.wav", dtype="float32")
    assert torch.equal(read(items[0]), torch.from_numpy(samples[:, 1].copy()))
    with pytest.raises(AudioError, match="no channel 1"):
        read(items[1])
    with pytest.raises(ConfigError, match="channel: 'left'; give mix, split or a number"):
        list_items(folder / "a.wav", channel="left")


def test_segments_and_channels_read_a_recording_once(folder, monkeypatch):
    (folder / "wav.scp").write_text("r two.wav\n")
    (folder / "segments").write_text("s1 r 0 0.25\ns2 r 0.25 -1\n")
    items = list_items(folder / "wav.scp", channel="split")
    assert [item.key for item in items] == ["s1_ch0", "s1_ch1", "s2_ch0", "s2_ch1"]
    samples, _ = soundfile.read(folder / "two.wav", dtype="float32")
    cache = Cache()
    first = read(items[0], cache)
    (folder / "two.wav").unlink()
    rest = [read(item, cache) for item in items[1:]]
    expected = [samples[:4000, 0], samples[:4000, 1], samples[4000:, 0], samples[4000:, 1]]
    for wave, column in zip([first, *rest], expected, strict=True):
        assert torch.equal(wave, torch.from_numpy(column.copy()))


def test_no_file_is_looked_for_before_its_item_is_made(folder, monkeypatch):
    """What a rerun skips costs nothing, however slow the disk is."""
    (folder / "wav.scp").write_text("u1 a.wav\nu2 two.wav\n")
    inputs = Inputs(folder / "wav.scp")
    looked = []
    monkeypatch.setattr(
        "paraformer.data.inputs.lists.ListFile.locate", lambda self, x: looked.append(x)
    )
    keyed = list(inputs.keyed())
    assert [key for key, _ in keyed] == ["u1", "u2"] and not looked
    keyed[1][1]()
    assert looked == ["two.wav"]
