"""Options that several programs have: the rate of samples without a header, whose results are those
of a WAV of that rate; digits; hotwords of streams; the order of lines.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from paraformer.data.corpus.tables import read_table
from paraformer.decode.text import join_texts
from paraformer.errors import ConfigError, DataError
from paraformer.models.release import save_directory
from paraformer.programs.align import align
from paraformer.programs.decode import decode
from paraformer.programs.decode_streaming import decode_streaming
from paraformer.programs.make_fbank import make_fbank
from paraformer.programs.punctuate import punctuate
from paraformer.programs.segment import segment
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
# Program -> its configuration, its key of the rate, its model, and the tables that it writes.
PROGRAMS = {
    decode: ("decode", "fs", ORACLE / "paraformer", ("text", "token", "score")),
    segment: ("segment", "fs", ORACLE / "fsmn_vad", ("segments", "utt2dur")),
    align: ("align", "fs", ORACLE / "fa-zh", ("ctm", "intervals")),
    decode_streaming: ("decode_streaming", "fs", None, ("text", "ctm")),
    make_fbank: ("fbank", "raw_fs", None, ("x.utt2num_frames",)),
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """The same speech at 8 kHz: in a WAV, as raw samples, and as those of a command."""
    folder = tmp_path_factory.mktemp("raw")
    wave, _ = soundfile.read(ORACLE / "inputs" / "clip_b.flac", dtype="int16")
    soundfile.write(folder / "a.wav", wave[::2], 8000, subtype="PCM_16")
    wave[::2].astype("<i2").tofile(folder / "a.pcm")
    for name, source in {"wav": "a.wav", "pcm": "a.pcm", "pipe": "a.pcm"}.items():
        (folder / name).mkdir()
        place = f"cat {folder / source} |" if name == "pipe" else f"{folder / source}"
        (folder / name / "wav.scp").write_text(f"u1 {place}\n")
        (folder / name / "text").write_text("u1 你好\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def streaming(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return save_directory(folder, tiny.release({"decoder_conf": {"sanm_shfit": 2}}))


def run(program, data, out, streaming, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / f"{PROGRAMS[program][0]}.yaml")
    given = {"data": str(data), "out": str(out)}
    if program is make_fbank:
        given["name"] = "x"
    else:
        given |= {"device": "cpu", "model": str(PROGRAMS[program][2] or streaming)}
    return program(OmegaConf.merge(config, given, settings))


@pytest.mark.parametrize("program", PROGRAMS)
def test_raw_samples_are_those_of_a_file_of_that_rate(program, lists, streaming, tmp_path):
    _, key, _, tables = PROGRAMS[program]

    def written(name, **settings):
        assert run(program, lists / name, tmp_path / name, streaming, **settings) == 0
        return [(tmp_path / name / table).read_text("utf-8") for table in tables]

    expected = written("wav")
    assert any(expected)
    assert written("wav", **{key: 44100}) == expected  # a header goes before
    assert written("pcm", **{key: 8000}) == expected
    assert written("pipe", **{key: 8000}) == expected
    if program in (segment, make_fbank):
        assert written("pcm") != expected  # half as long


WRONG = [
    *((p, {"num_threads": -1}) for p in PROGRAMS),
    *((p, {"min_success": 2}) for p in PROGRAMS),
    (segment, {"max_end_silence_time": "x"}),
    (segment, {"max_single_segment_time": 0}),
    (segment, {"speech_noise_thres": 5}),
    (decode_streaming, {"streams": 1.5}),
    (decode_streaming, {"streams": 0}),
]


@pytest.mark.parametrize(("program", "options"), WRONG)
def test_a_number_out_of_its_limits_is_refused(program, options, lists, tmp_path):
    ((key, value),) = options.items()
    with pytest.raises(ConfigError, match=f"^{key}={value!r}: give a "):
        run(program, lists / "wav", tmp_path / "out", "nowhere", **options)


@pytest.mark.parametrize("program", PROGRAMS)
def test_where_nothing_can_be_written_is_said_before_the_work(
    program, lists, tmp_path, monkeypatch
):
    monkeypatch.setattr("paraformer.data.audio.read._read", None)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="is a file; give another folder"):
        run(program, lists / "wav", tmp_path / "out", ORACLE / "paraformer-streaming")


def test_what_is_no_list_says_so(tmp_path, streaming):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(800), 16000)
    for program in (segment, make_fbank):
        with pytest.raises(DataError, match="x.wav:1: not UTF-8, with bytes that no text"):
            run(program, path, tmp_path / "out", streaming)
    for program in (decode, decode_streaming):
        with pytest.raises(DataError, match="x.wav: is a file; give the data directory"):
            run(program, path, tmp_path / "out", streaming)
    path.write_text("u1 x.wav\n", encoding="utf-16")
    with pytest.raises(DataError, match=":1: not UTF-8; .*iconv -f utf-16 -t utf-8"):
        run(segment, path, tmp_path / "out", streaming)
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "punctuate.yaml")
    (tmp_path / "text").write_text("u1 你好\n", encoding="utf-8")
    for out, why in ((tmp_path, "is a folder; give a file"), (path / "y", "give another folder")):
        given = {"text": str(tmp_path / "text"), "out": str(out), "model": "nowhere"}
        with pytest.raises((ConfigError, DataError), match=why):
            punctuate(OmegaConf.merge(config, given))


@pytest.mark.parametrize("rate", [0, -8000, 1.5, "8k", True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_rate_that_is_none_is_refused(program, lists, tmp_path, rate):
    key = PROGRAMS[program][1]
    with pytest.raises(ConfigError, match=f"^{key}={rate!r}: give a whole number from 1 to"):
        run(program, lists / "pcm", tmp_path / "out", "nowhere", **{key: rate})


def test_texts_with_digits_beside_tokens_as_they_were(tmp_path):
    """The numbers of a random model of digits; what they become is that of `Numerals`."""
    pytest.importorskip("jieba", reason="the extra itn is not installed")
    from paraformer.decode.itn import Numerals

    tables = ("text", "token", "score", "nbest/2/text", "results.jsonl")
    model = save_directory(tmp_path / "model", tiny.release(seed=5))
    (tmp_path / "wav.scp").write_text(f"u1 {ORACLE / 'inputs' / 'clip_b.flac'}\n")
    found = {}
    for itn in (False, True):
        out = tmp_path / str(itn)
        settings = {"model": str(model), "itn": itn, "output_format": "json", "nbest": 2}
        assert run(decode, tmp_path, out, model, **settings) == 0
        found[itn] = {name: (out / name).read_text("utf-8") for name in tables}
    numerals = Numerals()
    for name in ("text", "nbest/2/text"):
        key, text = found[False][name].split()
        assert found[True][name].split() == [key, numerals.rewrite(text)]
    assert found[True]["text"] != found[False]["text"]
    assert found[True]["token"] == found[False]["token"]
    assert found[True]["score"] == found[False]["score"]
    assert f'"text": "{found[True]["text"].split()[1]}"' in found[True]["results.jsonl"]


def test_marks_and_digits_of_a_text(tmp_path):
    pytest.importorskip("jieba", reason="the extra itn is not installed")
    from paraformer.decode.itn import Numerals

    (tmp_path / "text").write_text("u1 二零二六年我们二十三个人一起去了\nu2\n", "utf-8")
    model, found = ORACLE / "ct_punc", []
    for itn in (False, True):
        config = OmegaConf.load(ROOT / "paraformer" / "conf" / "punctuate.yaml")
        given = {"text": str(tmp_path / "text"), "out": str(tmp_path / "out"), "itn": itn}
        assert (
            punctuate(OmegaConf.merge(config, {"model": str(model), "device": "cpu", **given})) == 0
        )
        found.append(read_table(tmp_path / "out"))
    plain, digits = found
    assert digits == {"u1": Numerals().rewrite(plain["u1"]), "u2": ""}
    assert "23" in digits["u1"]


def test_a_second_pass_of_streams_hears_hotwords(tmp_path):
    """The texts are the reference's, with and without hotwords."""
    clip = ORACLE / "inputs" / "clip_a.flac"
    facts = json.loads((ORACLE / "seaco" / "expected.json").read_text("utf-8"))["hotword"]
    (tmp_path / "wav.scp").write_text(f"u1 {clip}\n")
    streaming, out = ORACLE / "paraformer-streaming", tmp_path / "out"
    for name in ("none", "many"):
        heard = {"second_pass": str(ORACLE / "seaco"), "hotword": facts[name]["hotword"]}
        assert run(decode_streaming, tmp_path, out, streaming, **heard) == 0
        text = facts[name]["results"][0]["text"]
        assert read_table(out / "text") == {"u1": join_texts(text.split())}
    with pytest.raises(ConfigError, match="^hotword: streams hear none; give second_pass"):
        run(decode_streaming, tmp_path, out, streaming, hotword="阿里")


def test_lines_of_streams_side_by_side_are_in_the_order_of_the_list(tmp_path, streaming):
    """The first is the longest, so that it ends last; each line of a table of its own words."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number, seconds in enumerate([4.0, 0.3, 2.0, 0.3, 0.3]):
        noise = np.random.default_rng(number).normal(0, 0.1, round(16000 * seconds))
        soundfile.write(folder / f"{number}.wav", noise, 16000, subtype="PCM_16")
        rows.append(f"u{number} {folder / f'{number}.wav'}\n")
    rows.insert(2, f"u1x {folder / 'missing.wav'}\n")
    (folder / "wav.scp").write_text("".join(rows))
    for streams in (1, 3):
        settings = {"streams": streams, "min_success": 0.5}
        run(decode_streaming, folder, tmp_path / str(streams), streaming, **settings)
    for name in ("text", "delay"):
        keys = [row.split()[0] for row in (tmp_path / "3" / name).read_text("utf-8").splitlines()]
        assert keys == ["u0", "u1", "u2", "u3", "u4"]
    for name in ("text", "ctm", "failed"):
        one, three = ((tmp_path / n / name).read_text("utf-8") for n in ("1", "3"))
        assert one == three
    stats = (tmp_path / "3" / "stats.json").read_text("utf-8")
    assert '"decoded": 5' in stats and '"audio_seconds": 6.9' in stats
