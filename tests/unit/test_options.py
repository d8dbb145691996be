"""Each option is heard as it was given: in any form that holds several, once, and when it is 0 or
false; the rate of an input is its own. Its default stands in `options`, and programs have the same.
"""

from __future__ import annotations

import csv
import io
import json
import pickle

import numpy as np
import pytest
import soundfile
import yaml

from paraformer import AutoModel, options
from paraformer.data.audio.read import count_channels, read_audio, read_channels
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import given_keys, list_items
from paraformer.decode.align import pair_texts
from paraformer.errors import AudioError, ConfigError, DataError
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
MODEL, VAD, PUNC = (ORACLE / name for name in ("paraformer", "fsmn_vad", "ct_punc"))
CLIPS = [str(ORACLE / "inputs" / f"clip_{x}.flac") for x in "abc"]
SLOW = np.sin(np.arange(8000) * 0.3).astype(np.float32) / 2  # a second of 8 kHz


@pytest.fixture(scope="module")
def model():
    return AutoModel(str(MODEL), device="cpu", disable_pbar=True)


@pytest.fixture(scope="module")
def vad():
    return AutoModel(str(VAD), disable_pbar=True)


@pytest.fixture(scope="module")
def words(model):
    tokens = [t for t in model.recognizer.release.tokenizer.tokens if "\u4e00" <= t <= "\u9fff"]
    return ["".join(tokens[:2]), "".join(tokens[2:4])]


# What holds several

FORMS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda words: (word for word in words),
    "map": lambda words: map(str, words),
    "keys of a dict": lambda words: dict.fromkeys(words).keys(),
    "array": np.array,
    "open file": lambda words: io.StringIO("\ufeff" + "\n".join(words) + "\n"),
    "open file of bytes": lambda words: io.BytesIO("\r\n".join(words).encode()),
    "csv reader": lambda words: csv.reader(["\ufeff" + words[0], f"{words[1]},20", ""]),
    "rows with weights": lambda words: [(word, 20) for word in words],
}


def heard(model):
    memo = model.task.hotwords
    words = memo._last[1].words.words if memo._last[1] else []
    return ["".join(memo.engine.release.tokenizer.ids_to_tokens(ids)) for ids in words]


@pytest.mark.parametrize("form", FORMS)
def test_hotwords_are_heard_in_any_form(model, words, form):
    model.generate(CLIPS[0], hotword="")
    assert heard(model) == []
    model.generate(CLIPS[0], hotword=FORMS[form](words))
    assert heard(model) == words


def test_hotwords_of_a_model_are_heard_in_every_call(words):
    model = AutoModel(str(MODEL), device="cpu", disable_pbar=True, hotword=(w for w in words))
    for one in (model, model, pickle.loads(pickle.dumps(model))):
        one.generate(CLIPS[0])
        assert heard(one) == words
        one.task.hotwords.listening("")


@pytest.mark.parametrize("form", ["list", "tuple", "generator", "map", "keys of a dict", "array"])
def test_inputs_and_ids_are_read_in_any_form(vad, form):
    given = FORMS[form]
    results = vad.generate(given(CLIPS), key=given(["x", "y", "z"]))
    assert [result["key"] for result in results] == ["x", "y", "z"]
    assert given_keys(given(["x", "y"]), 2) == ["x", "y"]
    assert pair_texts(given(["一", "二"]), ["x", "y"]) == ["一", "二"]
    with pytest.raises(ConfigError, match="key: 2 ids for 1 inputs"):
        vad.generate(CLIPS[0], key=given(["x", "y"]))


def test_texts_are_read_in_any_form():
    punctuator = AutoModel(str(PUNC), device="cpu", disable_pbar=True)
    expected = punctuator.generate(["你好", "再见"])
    for given in (map(str, ["你好", "再见"]), io.StringIO("你好\n再见\n")):
        assert punctuator.generate(given) == expected
    assert punctuator.generate(["你好", "再见"], cache={}) == expected  # it takes no pieces
    streaming = AutoModel(str(ORACLE / "ct_punc_streaming"), device="cpu")
    with pytest.raises(ConfigError, match="one piece of one text a call"):
        streaming.generate(["你好", "再见"], cache={})


def test_a_size_of_chunks_in_any_form(vad):
    (expected,) = vad.generate(CLIPS[0], chunk_size=200)
    for given in ([200], (200,), np.array([200]).tolist(), iter([200])):
        assert vad.generate(CLIPS[0], chunk_size=given) == [expected]


# What is false, but given


def test_zero_is_a_value():
    assert given_keys(0, 1) == ["0"]
    (item,) = list_items({"key": 0, "source": SLOW})
    assert item.key == "0"


@pytest.mark.parametrize("fs", [0, 0.0, -1, True, "8000"])
def test_a_rate_that_is_none_is_refused(tmp_path, vad, fs):
    with pytest.raises(ConfigError, match="fs="):
        read_audio(SLOW, fs=fs)
    with pytest.raises(ConfigError, match="fs="):
        read_channels(SLOW, fs=fs)
    with pytest.raises(ConfigError, match="fs="):
        vad.generate(SLOW, fs=fs)
    (result,) = vad.generate({"key": "x", "source": SLOW, "fs": fs})
    assert result["key"] == "x" and "fs=" in result["error"]


def test_what_a_model_is_built_with_is_not_turned_off_in_a_call(model):
    loud = AutoModel(str(MODEL), device="cpu", punc_model=str(PUNC), disable_pbar=True)
    with pytest.raises(ConfigError, match="punc_model: is chosen once"):
        loud.generate(CLIPS[0], punc_model="")
    loud.generate(CLIPS[0], punc_model=None)
    model.generate(CLIPS[0], punc_model="", offline=False)


@pytest.mark.parametrize("given", [0, 0.0, False])
def test_hotwords_that_are_none_are_refused(model, vad, given):
    with pytest.raises(DataError, match="holds no words"):
        model.generate(CLIPS[0], hotword=given)
    with pytest.raises(ConfigError, match="hotword: goes with a recogniser"):
        vad.generate(CLIPS[0], hotword=given)


# Rates


def seconds(item):
    return len(item.read(None, 16000)) / 16000


def test_an_open_sound_file_has_its_own_rate(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([SLOW, -SLOW / 2], 1), 8000, "FLOAT")
    expected = read_audio(path)
    for given in (lambda f: f, lambda f: [f], lambda f: {"key": "x", "source": f}):
        with soundfile.SoundFile(path) as file:
            (item,) = list_items(given(file))
            assert np.array_equal(item.read(48000, 16000), expected)
            assert np.array_equal(np.concatenate(list(read_blocks(item, 16000))), expected)
    with soundfile.SoundFile(path) as file:
        assert np.array_equal(read_audio(file, fs=48000), expected)
    with soundfile.SoundFile(path) as file:
        items = list_items({"key": "x", "source": file}, channel="split")
        assert [item.key for item in items] == ["x_ch0", "x_ch1"]
        assert [seconds(item) for item in items] == [1.0, 1.0]


def test_an_entry_has_its_own_rate(tmp_path):
    entry = {"key": "x", "source": SLOW, "fs": 8000}
    (item,) = list_items(entry)
    assert seconds(item) == 1.0 and count_channels(SLOW) == 1
    assert np.array_equal(item.read(48000, 16000), read_audio(SLOW, fs=8000))
    raw = (SLOW * 32767).astype("<i2").tobytes()
    (tmp_path / "x.pcm").write_bytes(raw)
    lines = [{"key": "a", "source": "x.pcm", "fs": 8000}, {"key": "b", "source": "x.pcm"}]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [seconds(item) for item in list_items(tmp_path / "l.jsonl")] == [1.0, 0.5]
    assert [seconds(i) for i in list_items([entry, {"source": raw, "fs": 16000}])] == [1.0, 0.5]
    soundfile.write(tmp_path / "x.wav", SLOW, 8000)  # a file knows better
    assert seconds(list_items({"source": str(tmp_path / "x.wav"), "fs": 16000})[0]) == 1.0


def test_a_piece_of_a_stream_of_another_rate_is_refused(vad):
    with pytest.raises(ConfigError, match="fs=8000: the pieces of a stream must have 16000 Hz"):
        vad.generate({"source": SLOW, "fs": 8000}, cache={}, chunk_size=200)


def test_unknown_keys_of_an_entry_are_refused(tmp_path, vad):
    bad, good = {"key": "x", "source": SLOW, "rate": 8000}, {"key": "y", "source": SLOW}
    first, second = vad.generate([bad, good])
    assert first["key"] == "x" and "error" not in second
    assert "unknown key 'rate'; an entry has fs, key, source" in first["error"]
    trained = {"key": "a", "source": CLIPS[0], "source_len": 9, "target": "一", "target_len": 1}
    (tmp_path / "l.jsonl").write_text(json.dumps(trained) + "\n" + '{"source": "b.wav", "x": 1}\n')
    good, bad = list_items(tmp_path / "l.jsonl")
    assert good.source == CLIPS[0]
    with pytest.raises(DataError, match=r"l.jsonl:2: unknown key 'x'"):
        bad.read(None, 16000)


def test_a_text_file_as_an_entry_is_one_clear_error(tmp_path):
    with pytest.raises((AudioError, DataError), match="open it with 'rb'"):
        list_items({"key": "x", "source": io.StringIO("x")})


# Keys of programs that mean another thing by the same name.
OTHERWISE = {
    *((file, "resume") for file in ("train", "train_punctuation", "train_vad")),  # of snapshots
    ("train_speaker", "resume"),
    *((file, "fs") for file in ("fbank", "make_shards")),  # the rate that is written
    *(("diarize", name) for name in ("vad_model", "output_format")),  # it always has a VAD
    ("enroll", "vad_model"),
    ("segment", "rttm"),  # whether it is written
}
CONFIGURATIONS = sorted((ROOT / "paraformer" / "conf").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_programs_have_the_defaults_of_the_options(path):
    """`model` is each program's own; nothing is null in a file and the empty text in Python."""
    known = options.all_fields(options.BuildOptions, options.CallOptions, options.CommandOptions)
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    wrong = {}
    for name in given.keys() & known.keys() - {"model"}:
        pair = [None if v == "" else v for v in (given[name], options.default_of(known[name]))]
        if (path.stem, name) not in OTHERWISE and pair[0] != pair[1]:
            wrong[name] = pair
    assert wrong == {}


def test_what_means_another_thing_has_another_default():
    for file, name in OTHERWISE:
        text = (ROOT / "paraformer" / "conf" / f"{file}.yaml").read_text(encoding="utf-8")
        assert yaml.safe_load(text)[name] is not None
