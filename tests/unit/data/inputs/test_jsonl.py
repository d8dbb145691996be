"""Lists of FunASR and data directories become each other, and what cannot is named."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch

from paraformer.data.corpus.tables import read_table, write_table
from paraformer.data.inputs.jsonl import data_to_jsonl, jsonl_to_data
from paraformer.errors import DataError


def write_wav(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, torch.zeros(int(16000 * seconds)).numpy(), 16000)
    return str(path)


def write_list(path, *lines):
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", "utf8")
    return path


def test_a_directory_becomes_a_list_and_the_same_directory_again(tmp_path):
    data = tmp_path / "data"
    write_table(
        data / "wav.scp",
        {"a": write_wav(tmp_path / "a.wav"), "b": write_wav(tmp_path / "b c.flac", 1.25)},
    )
    write_table(data / "text", {"a": "你好", "b": "good morning"})
    write_table(data / "utt2spk", {"a": "a", "b": "b"})
    assert data_to_jsonl(data, tmp_path / "x.jsonl").kept == 2
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text("utf8").splitlines()]
    assert lines == [
        # By the reference's rules: frames of 10 ms; words where there is a blank, else characters.
        {
            "key": "a",
            "source": str(tmp_path / "a.wav"),
            "source_len": 50,
            "target": "你好",
            "target_len": 2,
        },
        {
            "key": "b",
            "source": str(tmp_path / "b c.flac"),
            "source_len": 125,
            "target": "good morning",
            "target_len": 2,
        },
    ]
    assert jsonl_to_data([tmp_path / "x.jsonl"], tmp_path / "again").dropped == {}
    for name in ("wav.scp", "text", "utt2spk"):
        assert (tmp_path / "again" / name).read_bytes() == (data / name).read_bytes()


def test_lines_that_cannot_be_used_are_named(tmp_path):
    wav = write_wav(tmp_path / "a.wav")
    good = {"key": "a", "source": "a.wav", "target": "一\n二"}
    path = write_list(
        tmp_path / "my list.jsonl",
        good,
        {"key": "a", "source": wav, "target": "三"},
        "{broken",
        {"key": "c", "source": f"touch {tmp_path}/ran; cat {wav} |", "target": "四"},
        {"key": "d", "source": str(tmp_path / "none.wav"), "target": "五"},
        {"key": "e", "source": wav, "target": "  "},
        {"key": "f", "target": "六"},
        {"key": "g\ng /etc/passwd", "source": wav, "target": "七"},
        {"key": "h", "source": f"{wav}\ni x", "target": "八"},
        '["a"]',
    )
    done = jsonl_to_data([path], tmp_path / "data")
    assert read_table(tmp_path / "data/wav.scp") == {"a": wav}
    assert read_table(tmp_path / "data/text") == {"a": "一 二"}
    assert done.counts() == {
        "no source": 2,
        "key stands twice, the first is kept": 1,
        "not JSON": 1,
        "source is a command": 1,
        "no such file": 1,
        "no target": 1,
        "key is empty or holds a blank": 1,
        "not a JSON object": 1,
    }
    listed = read_table(tmp_path / "data/dropped.txt")
    assert listed == done.dropped and len(listed) == 9
    assert listed["_".join(f"{path}:3".split())] == "not JSON"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[" * 100_000, "not JSON"),
        ('{"key": ' + "9" * 5000 + ', "source": "a.wav", "target": "二"}', "not JSON"),
        ({"key": "b\ud800", "source": "a.wav", "target": "二"}, "not UTF-8"),
        ({"key": "b", "source": "a.wav", "target": "\ud800"}, "not UTF-8"),
        ({"key": "\ufeffb", "source": "a.wav", "target": "二"}, "key is empty or holds a blank"),
        ({"key": "b", "source": "x" * 5000, "target": "二"}, "no such file"),
        ({"key": "b", "source": "a.wav\0", "target": "二"}, "no such file"),
    ],
)
def test_no_line_costs_another(tmp_path, line, reason):
    wav = write_wav(tmp_path / "a.wav")
    good = {"key": "a", "source": wav, "target": "一"}
    done = jsonl_to_data([write_list(tmp_path / "l.jsonl", line, good)], tmp_path / "data")
    assert done.dropped == {f"{tmp_path}/l.jsonl:1": reason}
    assert read_table(tmp_path / "data/wav.scp") == {"a": wav}


def test_utterances_that_are_no_files_are_named(tmp_path):
    data, wav = tmp_path / "data", write_wav(tmp_path / "a.wav")
    sources = {"a": wav, "b": f"cat {wav} |", "c": "none.wav", "d": wav, "e": wav}
    write_table(data / "wav.scp", sources)
    write_table(data / "text", dict.fromkeys((*"abcd", "f"), "一") | {"d": ""})
    done = data_to_jsonl(data, tmp_path / "x.jsonl")
    assert done.kept == 1
    assert done.dropped == {
        "b": "audio is a command",
        "c": "no such file",
        "d": "no transcript",
        "e": "no transcript",
        "f": "no audio",
    }
    assert read_table(tmp_path / "x.jsonl.dropped") == done.dropped


def test_what_a_list_cannot_say_is_refused(tmp_path):
    data = tmp_path / "data"
    write_table(data / "wav.scp", {"r": write_wav(tmp_path / "r.wav")})
    write_table(data / "segments", {"r-1": "r 0.0 0.2"})
    write_table(data / "text", {"r-1": "一"})
    with pytest.raises(DataError, match="has segments, and a list has whole files alone"):
        data_to_jsonl(data, tmp_path / "x.jsonl")
    with pytest.raises(DataError, match=r"no usable line \(1 not JSON\)"):
        jsonl_to_data([write_list(tmp_path / "bad.jsonl", "{")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("table", "value"), [("utt2dur", "long"), ("utt2num_frames", "1.5")])
def test_a_length_that_is_none_is_one_line(tmp_path, table, value):
    write_wav(tmp_path / "a.wav")
    for name, line in {"wav.scp": tmp_path / "a.wav", "text": "好", table: value}.items():
        (tmp_path / name).write_text(f"a {line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"{table}: 'a': not a positive .*; make the file again"):
        data_to_jsonl(tmp_path, tmp_path / "x.jsonl")
