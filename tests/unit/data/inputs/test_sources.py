"""What may be given as `input`, and the ids that come of it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.inputs.sources import Cache, is_missing, is_single, list_items
from paraformer.errors import AudioError, ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    """Half a second of noise as a.wav and below/b.wav."""
    (tmp_path / "below").mkdir()
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for name in ("a.wav", "below/b.wav"):
        soundfile.write(tmp_path / name, noise, 16000, subtype="PCM_16")
    return tmp_path


def keys(source, **options):
    return [item.key for item in list_items(source, **options)]


def read(item):
    return item.read(None, 16000)


def test_a_file_is_known_by_its_stem(folder):
    assert keys(folder / "a.wav") == ["a"]
    assert keys(str(folder / "missing.wav")) == ["missing"]
    assert keys(r"C:\audio\会议.wav") == ["会议"]
    assert keys("https://host/x/y.mp3?token=1") == ["y"]


def test_arrays_have_keys_of_their_own():
    arrays = [np.zeros(10), torch.zeros(10), b"\0\0"]
    assert len(set(keys(arrays))) == 3
    assert keys(np.zeros(10), key="me") == ["me"]
    assert keys(arrays, key=["x", "y", "z"]) == ["x", "y", "z"]
    with pytest.raises(ConfigError, match="2 ids for 3"):
        list_items(arrays, key=["x", "y"])


def test_a_folder_is_all_its_audio(folder):
    assert keys(folder) == ["a", "b"]
    (folder / "below" / "a.wav").write_bytes((folder / "a.wav").read_bytes())
    assert keys(folder) == ["a", "below_a", "b"]


@pytest.mark.parametrize(
    "suffix",
    ["wav", "rf64", "flac", "ogg", "oga", "opus", "mp3", "aiff", "aif", "au", "caf", "w64"]
    + ["m4a", "mp4", "mkv", "webm", "amr", "wma", "MOV", "pcm", "raw"],
)
def test_a_folder_has_files_of_each_kind_that_is_read(tmp_path, suffix):
    (tmp_path / f"x.{suffix}").write_bytes(b"")
    (tmp_path / "x.pdf").write_bytes(b"")
    assert keys(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/x.wav", "b/x.wav"], ["a_x", "b_x"]),
        (["b/x.wav", "a/x.wav", "c/y.wav"], ["b_x", "a_x", "y"]),
        (["/t/1/a/x.wav", "/t/2/a/x.wav", "/t/2/b/x.wav"], ["1_a_x", "2_a_x", "b_x"]),
        (["a/x.wav", "c/a/x.wav", "b/x.wav"], ["a_x", "c_a_x", "b_x"]),
        (["x.wav", "a/x.wav"], ["x", "a_x"]),
        (["../a/x.wav", "../b/x.wav"], ["a_x", "b_x"]),
        (["a/x.wav", "a/x.flac", "b/x.wav"], ["a_x.wav", "a_x.flac", "b_x"]),
        (["a/x.wav", "a/x.wav", "./a/x.wav"], ["x", "x_2", "x_3"]),
        (["a/b_x.wav", "c/b_x.wav", "a_b/x.wav", "c/x.wav"], ["a_b_x", "c_b_x", "a_b_x_2", "c_x"]),
        (["https://h/a/x.mp3?q=1", "https://h/b/x.mp3?q=1"], ["a_x", "b_x"]),
        ([r"C:\1\x.wav", r"C:\2\x.wav"], ["1_x", "2_x"]),
        (["a/my x.wav", "b/my x.wav"], ["a_my x", "b_my x"]),
        (["a/\udcff.wav", "b/\udcff.wav"], [r"a_\xff", r"b_\xff"]),
    ],
)
def test_one_name_in_several_folders_gets_those_that_tell_it_apart(paths, expected):
    assert keys(paths) == expected
    assert keys([np.zeros(9), *paths])[1:] == expected


def test_ids_of_lists_stay_and_their_bare_names_are_told_apart(folder):
    (folder / "l.txt").write_text("a/x.wav\nb/x.wav\nx y.wav\na_x z.wav\n")
    assert keys(folder / "l.txt") == ["a_x_2", "b_x", "x", "a_x"]
    (folder / "l.json").write_text(json.dumps(["a/x.wav", {"source": "b/x.wav"}]))
    assert keys(folder / "l.json") == ["a_x", "b_x"]
    (folder / "m.txt").write_text("u a/x.wav\n")
    assert keys([folder / "m.txt", "b/x.wav", "u.wav", "c/x.wav"]) == ["u", "b_x", "u_2", "c_x"]


def test_many_files_of_one_name_are_quick_to_tell_apart():
    paths = [f"{n // 100}/{n}/audio.wav" for n in range(20000)]
    assert keys(paths) == [f"{n}_audio" for n in range(20000)]


def test_one_file_many_times_is_quick_to_number():
    assert keys(["a/x.wav"] * 20000) == ["x", *(f"x_{n}" for n in range(2, 20001))]


def test_folders_with_files_of_one_name(folder, tmp_path):
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes((folder / "a.wav").read_bytes())
    assert keys([tmp_path / "1", tmp_path / "2"]) == ["1_a", "2_a"]
    assert keys([tmp_path / "1"]) == ["a"]


def test_recordings_cut_by_segments_are_those_of_their_list(folder):
    (folder / "l.txt").write_text("a.wav\nbelow/a.wav\n")
    (folder / "segments").write_text("u1 a 0 0.1\nu2 below_a 0 0.2\n")
    items = list_items(folder / "l.txt", segments=str(folder / "segments"))
    assert [(item.key, str(item.source)) for item in items] == [
        ("u1", str(folder / "a.wav")),
        ("u2", "below/a.wav"),
    ]


def test_names_that_are_not_utf8(folder, tmp_path):
    """As an input, in a folder and as a pattern: read, and named by what can be written."""
    odd = os.fsdecode(bytes(tmp_path / "x") + b"\xff.wav")
    os.rename(folder / "a.wav", odd)
    for source in (odd, folder, str(folder / "x*.wav")):
        item = list_items(source)[-1]
        assert item.key == r"x\xff"
        assert len(read(item)) == 8000
    (folder / "l.txt").write_bytes(b"u x\xff.wav\n")
    with pytest.raises(DataError, match="l.txt:1: not UTF-8; convert"):
        list_items(folder / "l.txt")


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no audio file"):
        list_items(tmp_path)


def test_a_data_directory_is_its_wav_scp(folder):
    (folder / "wav.scp").write_text("u1 a.wav\n")
    (item,) = list_items(folder)
    assert item.key == "u1"
    assert len(read(item)) == 8000


def test_a_pattern_is_the_files_it_matches(folder):
    assert keys(str(folder / "*.wav")) == ["a"]
    odd = folder / "x[1].wav"
    odd.write_bytes((folder / "a.wav").read_bytes())
    assert keys(str(odd)) == ["x[1]"]


@pytest.mark.parametrize("name", ["wav.scp", "list.txt", "x.text"])
@pytest.mark.parametrize(
    "form", ["{}", "{}\r\n", "\ufeff{}\n", "\n\n{}\n\n"], ids=["bare", "crlf", "bom", "blank lines"]
)
def test_lists_from_any_editor_are_the_same(folder, name, form):
    end = "\r\n" if "\r" in form else "\n"
    rows = end.join([f"u1 {folder / 'a.wav'}", f"u2\t{folder / 'below/b.wav'}"])
    (folder / name).write_bytes(form.format(rows).encode())
    items = list_items(folder / name)
    assert [item.key for item in items] == ["u1", "u2"]
    assert all(len(read(item)) == 8000 for item in items)


def test_lines_without_an_id_take_the_stem(folder):
    spaced = folder / "my file.wav"
    spaced.write_bytes((folder / "a.wav").read_bytes())
    (folder / "l.txt").write_text("a.wav\nmy file.wav\n")
    items = list_items(folder / "l.txt")
    assert [item.key for item in items] == ["a", "my file"]
    assert all(len(read(item)) == 8000 for item in items)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.jsonl", '{"key": "u1", "source": "a.wav"}\n{"key": "u2", "source": "a.wav"}\n'),
        ("l.json", '[{"key": "u1", "source": "a.wav"}, {"key": "u2", "source": "a.wav"}]'),
        ("l.json", '{"u1": "a.wav", "u2": "a.wav"}'),
        ("l.json", "u1 a.wav\nu2 a.wav\n"),
    ],
)
def test_lists_in_json(folder, name, text):
    (folder / name).write_text("\ufeff" + text)
    items = list_items(folder / name)
    assert [item.key for item in items] == ["u1", "u2"]
    assert all(len(read(item)) == 8000 for item in items)


def test_an_entry_that_is_no_object_is_an_error_of_its_own(folder):
    (folder / "l.json").write_text(json.dumps(["a.wav", 7]))
    good, bad = list_items(folder / "l.json")
    assert len(read(good)) == 8000
    with pytest.raises(DataError, match=r"l.json:2"):
        read(bad)


def test_an_id_that_stands_twice_is_refused_with_both_lines(folder):
    (folder / "wav.scp").write_text("u a.wav\nv a.wav\nu below/b.wav\n")
    first, other, second = list_items(folder / "wav.scp")
    assert len(read(first)) == len(read(other)) == 8000
    with pytest.raises(DataError, match=r"wav.scp:3: id 'u' stands already in line 1"):
        read(second)


def test_a_missing_list_is_an_error(tmp_path):
    for name in ("no.scp", "no.jsonl"):
        with pytest.raises(DataError, match="no such file"):
            list_items(tmp_path / name)


def test_commands_run_from_a_list_only(folder):
    (folder / "wav.scp").write_text(f"u cat '{folder / 'a.wav'}' |\n")
    assert len(read(list_items(folder / "wav.scp")[0])) == 8000
    with pytest.raises(AudioError, match="only from a wav.scp"):
        read(list_items(f"cat {folder / 'a.wav'} |")[0])


def test_segments_cut_recordings(folder):
    (folder / "wav.scp").write_text("r a.wav\n")
    (folder / "segments").write_text("u1 r 0 0.1\nu2 r 0.25 -1\nu3 x 0 1\nu4 r 5 6\nu5 r 1 0\n")
    items = list_items(folder / "wav.scp")
    cache = Cache()
    whole = read(list_items(folder / "a.wav")[0])
    assert torch.equal(items[0].read(None, 16000, cache), whole[:1600])
    assert torch.equal(items[1].read(None, 16000, cache), whole[4000:])
    for item, reason in zip(items[2:], ["no recording 'x'", "segment from", "length"], strict=True):
        with pytest.raises((DataError, AudioError), match=reason):
            read(item)
    other = folder / "other"
    (folder / "segments").rename(other)
    (folder / "segments").write_text("\n")
    with pytest.raises(DataError, match="segments: holds no lines; give `id recording start end`"):
        list_items(folder / "wav.scp")
    (folder / "segments").unlink()
    assert keys(folder / "wav.scp") == ["r"]
    assert keys(folder / "wav.scp", segments=str(other))[:2] == ["u1", "u2"]
    for single in (folder / "a.wav", folder / "below", np.zeros(10)):
        with pytest.raises(ConfigError, match="segments: cut the recordings of a list"):
            list_items(single, segments=str(other))


def test_a_list_is_any_of_these(folder):
    wav = folder / "a.wav"
    sources = [wav, str(wav), wav.read_bytes(), io.BytesIO(wav.read_bytes()), [np.zeros(8000)]]
    items = list_items([*sources, {"key": "k", "source": str(wav)}])
    assert [item.key for item in items] == ["a", "a_2", "audio_3", "audio_4", "audio_5", "k"]
    assert all(len(read(item)) == 8000 for item in items)


@pytest.mark.parametrize("source", ["", " ", 7, None, [0.1, 0.2]])
def test_what_holds_no_audio_is_refused(source):
    with pytest.raises(DataError, match="input"):
        list_items(source)


def test_single_inputs(folder):
    (folder / "wav.scp").write_text("u1 a.wav\n")
    assert is_single(str(folder / "a.wav")) and is_single(b"") and is_single(np.zeros(1))
    for several in (folder, folder / "wav.scp", str(folder / "*.wav"), [folder / "a.wav"]):
        assert not is_single(several)
    assert is_single(Path("missing.wav"))


def test_a_name_that_the_system_refuses_does_not_end_the_list(tmp_path):
    path = tmp_path / "wav.scp"
    path.write_text(f"a /{'x' * 300}.wav\nb b.wav\n", encoding="utf8")
    assert [item.key for item in list_items(str(path))] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("nosuch.wav", True),
        ("nosuch.ark:15", True),
        ("here.ark:15", False),
        ("here.ark", False),
        ("sox x.mp3 -t wav - |", False),
        ("https://example.org/nosuch.wav", False),
        ("nosuch.scp", False),  # a list says so itself
        (b"nosuch.wav", False),
    ],
)
def test_a_single_file_that_is_not_there_is_known(tmp_path, monkeypatch, name, missing):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.ark").write_bytes(b"x")
    assert is_missing(name) is missing
