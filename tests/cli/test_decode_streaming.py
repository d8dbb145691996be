"""bin/decode_streaming.py: text, times and delays of a list."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.recognize import Recognizer
from paraformer.decode.streaming import Chunking, StreamingRecognizer
from paraformer.decode.text import join_texts
from paraformer.decode.vad import VoiceActivity
from paraformer.models.release import load_directory, load_punctuation, load_vad, save_directory
from tests import tiny
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
ORACLE = ROOT / "tests" / "fixtures" / "oracle"
TOKEN_LIST = {"tokenizer_conf": {"unk_symbol": "<unk>"}}


def run(*arguments, check=True):
    command = [sys.executable, str(ROOT / "bin/decode_streaming.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return save_directory(folder, tiny.release({"decoder_conf": {"sanm_shfit": 2}}))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for number, samples in enumerate([32000, 9600, 17001]):
        noise = np.random.default_rng(number).normal(0, 0.1, samples)
        soundfile.write(folder / f"{number}.wav", noise, 16000, subtype="PCM_16")
        lines.append(f"u{number} {folder / f'{number}.wav'}\n")
    (folder / "wav.scp").write_text("".join(lines), encoding="utf8")
    return folder


def expected(model, data, chunking):
    recognizer = StreamingRecognizer(load_directory(model), chunking)
    found = {}
    for key, path in read_table(data / "wav.scp").items():
        wave = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        tokens, stream = recognizer.feed(recognizer.open(), wave, final=True)
        found[key] = (stream.text.text, tokens)
    return found


@pytest.mark.parametrize("streams", [1, 2, 5])
def test_text_and_times_of_a_list(model, data, tmp_path, streams):
    out = tmp_path / "out"
    cut = "chunk_size=[0,8,4]"
    run(f"model={model}", f"data={data}", f"out={out}", cut, f"streams={streams}")
    found = expected(model, data, Chunking((0, 8, 4)))
    assert read_table(out / "text") == {key: text for key, (text, _) in found.items()}
    rows = [line.split() for line in (out / "ctm").read_text(encoding="utf8").splitlines()]
    for key, (_, tokens) in found.items():
        own = [row for row in rows if row[0] == key]
        assert [row[4] for row in own] == [token.text for token in tokens]
        starts = [round(1000 * float(row[2])) for row in own]
        ends = [round(1000 * (float(row[2]) + float(row[3]))) for row in own]
        assert starts == [token.start_ms for token in tokens]
        assert ends == [token.end_ms for token in tokens]
    stats = json.loads((out / "stats.json").read_text(encoding="utf8"))
    assert (stats["utterances"], stats["decoded"]) == (3, 3)
    assert stats["audio_seconds"] == pytest.approx((32000 + 9600 + 17001) / 16000, abs=1e-3)
    assert 0 < stats["rtf"] < 100
    delays = read_table(out / "delay")
    assert set(delays) == set(found)
    # Text of a token comes when its chunk of 480 ms and the look-ahead are there, not before.
    assert all(float(line.split()[0]) > 0 for line in delays.values())
    assert (out / "failed").read_text(encoding="utf8") == ""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Speech with pauses, cut by the detector into the segments that come along."""
    folder = tmp_path_factory.mktemp("recordings")
    clips = [read_audio(ORACLE / "inputs" / f"clip_{name}.flac") for name in "ab"]
    quiet = torch.zeros(24000)
    detector, segments = VoiceActivity(load_vad(ORACLE / "fsmn_vad")), {}
    for key, parts in {"u0": clips, "u1": clips[::-1]}.items():
        wave = torch.cat([parts[0], quiet, parts[1], quiet])
        soundfile.write(folder / f"{key}.wav", wave.numpy(), 16000, subtype="PCM_16")
        wave = read_audio(folder / f"{key}.wav")
        segments[key] = [
            (s, wave[s.start_ms * 16 : s.end_ms * 16]) for s in detector.segments(wave)
        ]
    lines = [f"{key} {folder / key}.wav\n" for key in segments]
    (folder / "wav.scp").write_text("".join(lines), encoding="utf8")
    return folder, segments


def test_a_vad_cuts_the_stream_and_times_stay_those_of_the_recording(model, recordings, tmp_path):
    folder, segments = recordings
    out = tmp_path / "out"
    vad = f"+vad_model={ORACLE / 'fsmn_vad'}"
    run(f"model={model}", f"data={folder}", f"out={out}", "streams=2", vad)
    recognizer = StreamingRecognizer(load_directory(model))
    rows = [line.split() for line in (out / "ctm").read_text(encoding="utf8").splitlines()]
    for key, parts in segments.items():
        assert len(parts) >= 2
        fed = [(recognizer.feed(recognizer.open(), wave, True), span) for span, wave in parts]
        assert read_table(out / "text")[key] == join_texts(s.text.text for (_, s), _ in fed)
        own = [(row[4], round(1000 * float(row[2]))) for row in rows if row[0] == key]
        expected = [(t.text, t.start_ms + span.start_ms) for (ts, _), span in fed for t in ts]
        assert own == expected
        assert own


def test_a_second_pass_and_marks(model, recordings, tmp_path):
    folder, segments = recordings
    out, second = tmp_path / "out", save_directory(tmp_path / "second", tiny.release(seed=3))
    models = [f"+vad_model={ORACLE / 'fsmn_vad'}", f"+punc_model={ORACLE / 'ct_punc'}"]
    run(f"model={model}", f"data={folder}", f"out={out}", *models, f"+second_pass={second}")
    offline = Recognizer(load_directory(second))
    punctuator = Punctuator(load_punctuation(ORACLE / "ct_punc"))
    rows = [line.split() for line in (out / "ctm").read_text(encoding="utf8").splitlines()]
    for key, parts in segments.items():
        best = [outcome.best for outcome in offline.recognize([wave for _, wave in parts])]
        marked = [punctuator.punctuate(r.tight).text if r.tight else "" for r in best]
        assert read_table(out / "text")[key] == join_texts(marked)
        assert [row[4] for row in rows if row[0] == key] == [t for r in best for t in r.tokens]
    stats = json.loads((out / "stats.json").read_text(encoding="utf8"))
    assert stats["second_pass"] == str(second)


def test_in_real_time_it_takes_as_long_as_the_audio(model, data, tmp_path):
    out = tmp_path / "out"
    run(f"model={model}", f"data={data}", f"out={out}", "simulate=true", "streams=3")
    stats = json.loads((out / "stats.json").read_text(encoding="utf8"))
    assert stats["elapsed_seconds"] >= 2.0
    assert read_table(out / "text") == {
        key: text for key, (text, _) in expected(model, data, None).items()
    }


def test_what_cannot_be_read_is_reported_and_the_rest_decoded(model, data, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = (data / "wav.scp").read_text(encoding="utf8")
    (folder / "wav.scp").write_text(f"{lines}u9 {tmp_path}/missing.wav\n", encoding="utf8")
    out = tmp_path / "out"
    done = run(f"model={model}", f"data={folder}", f"out={out}", check=False)
    assert done.returncode == 1  # 3 of 4 are under min_success
    assert "u9" in done.stderr
    assert len(read_table(out / "text")) == 3
    assert "missing.wav" in read_table(out / "failed")["u9"]
    again = run(f"model={model}", f"data={folder}", f"out={out}", "min_success=0.7")
    assert "decoded 3 of 4" in again.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("streams=0", "streams"),
        ("chunk_size=[0,10]", "chunk_size"),
        ("chunk_size=[0,0,5]", "three"),
        ("+second_pass=nowhere", "nowhere"),
    ],
)
def test_bad_options_are_one_line(model, data, tmp_path, option, message):
    done = run(f"model={model}", f"data={data}", f"out={tmp_path / 'o'}", option, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_does_not_stream_is_refused(data, tmp_path):
    folder = save_directory(tmp_path / "m", tiny.release())
    done = run(f"model={folder}", f"data={data}", f"out={tmp_path / 'o'}", check=False)
    assert done.returncode == 1
    assert "does not stream" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_list_that_was_stopped_goes_on(model, data, tmp_path):
    """u1 has failed, the lines of u2 were cut in the middle of `delay`: both are done again."""
    run(f"model={model}", f"data={data}", f"out={tmp_path / 'whole'}")
    run(f"model={model}", f"data={data}", f"out={tmp_path / 'out'}")
    for name in ("text", "ctm", "delay"):
        path = tmp_path / "out" / name
        rows = [row for row in path.read_text("utf8").splitlines(True) if not row.startswith("u1")]
        path.write_text("".join(rows)[: -3 if name == "delay" else None], "utf8")
    (tmp_path / "out" / "failed").write_text("u1 not yet there\n")
    kept = (tmp_path / "out" / "delay").read_text("utf8").splitlines()[0]
    done = run(f"model={model}", f"data={data}", f"out={tmp_path / 'out'}", "resume=true")
    assert "decoded 3 of 3" in done.stderr
    for name in ("text", "ctm", "failed"):
        whole = (tmp_path / "whole" / name).read_text("utf8")
        assert (tmp_path / "out" / name).read_text("utf8") == whole
    delays = (tmp_path / "out" / "delay").read_text("utf8").splitlines()
    assert delays[0] == kept  # not decoded again
    assert [row.split()[0] for row in delays] == ["u0", "u1", "u2"]
