"""decode.py: from a data directory and a model to text."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from paraformer import AutoModel
from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table
from paraformer.decode.recognize import Recognizer
from paraformer.errors import ConfigError, DataError
from paraformer.models.release import load_directory
from paraformer.programs.decode import decode
from paraformer.programs.make_fbank import make_fbank
from tests.conftest import ROOT

INPUTS = ROOT / "tests" / "fixtures" / "oracle" / "inputs"
MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"
EXPECTED = json.loads((MODEL / "expected.json").read_text(encoding="utf-8"))["utt"]
TEXTS = {key: utterance["result"][0]["text"] for key, utterance in EXPECTED.items()}


def configured(program, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / f"{program}.yaml")
    return OmegaConf.merge(config, settings)


def run(data, out, **settings):
    return decode(
        configured(
            "decode", model=str(MODEL), data=str(data), out=str(out), device="cpu", **settings
        )
    )


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [f"{key} {INPUTS / key}.flac" for key in sorted(TEXTS, reverse=True)]
    (folder / "wav.scp").write_text("\n".join(rows))
    return folder


def test_text_from_audio(data, tmp_path):
    assert run(data, tmp_path / "out") == 0
    assert read_table(tmp_path / "out" / "text") == TEXTS
    tokens = read_table(tmp_path / "out" / "token")
    assert {k: v.split() for k, v in tokens.items()} == {
        k: v["tokens"] for k, v in EXPECTED.items()
    }
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert (stats["decoded"], stats["utterances"]) == (3, 3)
    assert stats["audio_seconds"] == pytest.approx(7.1, abs=0.01)
    assert stats["rtf"] > 0
    assert not (tmp_path / "out" / "failed").read_text()


def test_text_from_features(data, tmp_path):
    settings = {"data": str(data), "out": str(tmp_path / "fbank"), "compress": False}
    assert make_fbank(configured("fbank", **settings)) == 0
    (tmp_path / "fbank" / "data.scp").rename(data / "feats.scp")
    (data / "wav.scp").unlink()
    assert run(data, tmp_path / "out") == 0
    assert read_table(tmp_path / "out" / "text") == TEXTS


def test_batches_change_nothing(data, tmp_path):
    for frames in (1, 300, 100000):
        assert run(data, tmp_path / str(frames), batch_frames=frames) == 0
        assert read_table(tmp_path / str(frames) / "text") == TEXTS


def test_what_cannot_be_decoded_is_listed_with_its_reason(data, tmp_path):
    with (data / "wav.scp").open("a") as file:
        file.write("\nlost missing.wav\n")
    assert run(data, tmp_path / "out") == 1
    assert read_table(tmp_path / "out" / "text") == TEXTS
    failed = read_table(tmp_path / "out" / "failed")
    assert list(failed) == ["lost"] and "missing.wav" in failed["lost"]
    assert run(data, tmp_path / "out", min_success=0.75) == 0


def test_features_that_do_not_fit_are_listed(data, tmp_path):
    settings = {"data": str(data), "out": str(tmp_path / "fbank"), "n_mels": 40}
    assert make_fbank(configured("fbank", **settings)) == 0
    (tmp_path / "fbank" / "data.scp").rename(data / "feats.scp")
    with (data / "feats.scp").open("a") as file:
        file.write("lost missing.ark:10\n")
    assert run(data, tmp_path / "out") == 1
    assert len(read_table(tmp_path / "out" / "failed")) == 4
    assert run(data, tmp_path / "out", use_feats=False) == 0


def test_segments(data, tmp_path):
    (data / "segments").write_text("all clip_a 0 -1\nnone clip_x 0 1\npart clip_a 0.5 1.0\n")
    assert run(data, tmp_path / "out", min_success=0.5) == 0
    text = read_table(tmp_path / "out" / "text")
    assert list(text) == ["all", "part"]
    assert text["all"] == TEXTS["clip_a"]


def test_nbest(data, tmp_path):
    assert run(data, tmp_path / "out", nbest=3) == 0
    folders = [tmp_path / "out" / "nbest" / str(n) for n in (1, 2, 3)]
    texts = [read_table(folder / "text") for folder in folders]
    assert texts[0] == read_table(tmp_path / "out" / "text") == TEXTS
    assert all(len({text[key] for text in texts}) == 3 for key in TEXTS)


def test_nothing_of_an_earlier_run_remains(data, tmp_path):
    assert run(data, tmp_path / "out", nbest=3) == 0
    (data / "wav.scp").write_text(f"a {INPUTS / 'clip_a.flac'}\n")
    assert run(data, tmp_path / "out") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"text", "token", "score", "failed", "stats.json", "made_with.json"}
    assert list(read_table(tmp_path / "out" / "text")) == ["a"]


def test_lines_are_there_before_the_next_utterance_is_read(data, tmp_path):
    """A command in wav.scp sees the text of the utterance before it; the end is in stats.json."""
    out = tmp_path / "out"
    rows = [f"a {INPUTS / 'clip_a.flac'}", f"b cp -r {out} {tmp_path / 'seen'}; false |"]
    (data / "wav.scp").write_text("\n".join(rows))
    assert run(data, out, batch_frames=1, min_success=0.5) == 0
    assert read_table(tmp_path / "seen" / "text") == {"a": TEXTS["clip_a"]}
    assert not (tmp_path / "seen" / "stats.json").exists()
    assert (out / "stats.json").exists()


def test_where_results_cannot_go_is_refused_before_the_model_is_loaded(data, tmp_path):
    (tmp_path / "file").write_text("")
    for out, message in ((tmp_path / "file", "give another folder"), (data, "would be lost")):
        with pytest.raises((ConfigError, DataError), match=message):
            decode(configured("decode", model="nowhere", data=str(data), out=str(out)))


def test_duplicates_and_missing_directories_are_refused(data, tmp_path):
    with pytest.raises(DataError, match="no such directory"):
        run(tmp_path / "nowhere", tmp_path / "out")
    with (data / "wav.scp").open("a") as file:
        file.write("\nclip_a other.wav\n")
    with pytest.raises(DataError, match="stands already in line 3"):
        run(data, tmp_path / "out")
    with pytest.raises(ConfigError, match="no CTC head"):
        (data / "wav.scp").write_text(f"a {INPUTS / 'clip_a.flac'}\n")
        run(data, tmp_path / "out", decoding_ctc_weight=0.3)


def test_a_vad_and_marks_are_those_of_the_api(data, tmp_path):
    """Features that are there are of whole recordings, so they are not read then."""
    (data / "feats.scp").write_text("clip_a nowhere.ark:3\n")
    models = {"vad_model": "fsmn_vad", "punc_model": "ct_punc"}
    models = {use: str(MODEL.parent / name) for use, name in models.items()}
    assert run(data, tmp_path / "out", **models) == 0
    model = AutoModel(str(MODEL), device="cpu", disable_pbar=True, **models)
    found = model.generate(str(data / "wav.scp"))
    assert read_table(tmp_path / "out" / "text") == {r["key"]: r["text"] for r in found}


def test_a_channel_of_a_recording(data, tmp_path):
    wave, rate = soundfile.read(INPUTS / "clip_a.flac", dtype="int16")
    both = np.stack([np.zeros_like(wave), wave], 1)
    soundfile.write(tmp_path / "both.wav", both, rate)
    (data / "wav.scp").write_text(f"a {tmp_path}/both.wav\n")
    assert run(data, tmp_path / "out", channel=1) == 0
    assert read_table(tmp_path / "out" / "text") == {"a": TEXTS["clip_a"]}
    assert run(data, tmp_path / "out", channel="split") == 0
    assert list(read_table(tmp_path / "out" / "text")) == ["a_ch0", "a_ch1"]
    assert read_table(tmp_path / "out" / "text")["a_ch1"] == TEXTS["clip_a"]


def test_a_streaming_model_hears_recordings_as_a_whole(data, tmp_path):
    model = MODEL.parent / "paraformer-streaming"
    config = configured("decode", data=str(data), out=str(tmp_path / "out"), device="cpu")
    assert decode(OmegaConf.merge(config, {"model": str(model)})) == 0
    waves = {key: read_audio(INPUTS / f"{key}.flac") for key in TEXTS}
    whole = Recognizer(load_directory(model)).recognize(waves.values())
    texts = {key: outcome.best.tight for key, outcome in zip(waves, whole, strict=True)}
    assert read_table(tmp_path / "out" / "text") == texts


@pytest.mark.cli
def test_the_program(data, tmp_path):
    command = [sys.executable, str(ROOT / "bin" / "decode.py"), f"model={MODEL}", f"data={data}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "timeout": 300}
    done = subprocess.run([*command, "out=出 来"], env=environment, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("decoded 3 of 3 utterances\n")
    assert read_table(tmp_path / "出 来" / "text") == TEXTS
    done = subprocess.run([*command, "out=x", "nbst=2"], env=environment, **options)
    assert done.returncode == 1
    assert "did you mean 'nbest'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("output_format", ["text", "ctm", "json"])
def test_a_list_that_was_stopped_goes_on(data, tmp_path, output_format):
    """Killed in the middle of a line; what had failed can be read now."""
    names = (data / "wav.scp").read_text().splitlines()
    settings = {"nbest": 2, "output_format": output_format}
    assert run(data, tmp_path / "whole", **settings) == 0
    (data / "wav.scp").write_text("\n".join([names[0], names[1].split()[0] + " missing.wav"]))
    assert run(data, tmp_path / "out", **settings) == 1
    for name in ("text", "nbest/2/token"):
        with (tmp_path / "out" / name).open("a") as file:
            file.write(f"{names[2].split()[0]} 半")
    (data / "wav.scp").write_text("\n".join(names))
    assert run(data, tmp_path / "out", resume=True, **settings) == 0
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file() and path.name not in ("stats.json", "results.jsonl"):
            assert (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes() == (
                path.read_bytes()
            )
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert (stats["decoded"], stats["utterances"]) == (3, 3)
    assert not list((tmp_path / "out").rglob(".*"))
    if output_format == "json":
        rows = (tmp_path / "out" / "results.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(row)["key"] for row in rows] == sorted(TEXTS)
