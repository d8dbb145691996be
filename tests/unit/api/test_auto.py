"""AutoModel: one result for each input, in its order, whatever the input is."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import paraformer
from paraformer import AutoModel
from paraformer.backends.devices import choose_device
from paraformer.data.audio.read import read_audio
from paraformer.errors import CheckpointError, ConfigError, DataError
from tests.conftest import ROOT, SHARED, needs_shared

FIXTURES = ROOT / "tests" / "fixtures"
MODEL = FIXTURES / "oracle" / "paraformer"
VAD, PUNC = FIXTURES / "oracle" / "fsmn_vad", FIXTURES / "oracle" / "ct_punc"
CLIPS = [FIXTURES / "oracle" / "inputs" / f"clip_{x}.flac" for x in "abc"]
EXPECTED = json.loads((MODEL / "expected.json").read_text(encoding="utf-8"))["utt"]
TEXTS = [EXPECTED[path.stem]["result"][0]["text"] for path in CLIPS]


@pytest.fixture(scope="module")
def model():
    return AutoModel(model=str(MODEL), device="cpu", disable_update=True, disable_pbar=True)


@pytest.fixture(scope="module")
def wave():
    return read_audio(CLIPS[0])


def texts(results):
    return [result["text"] for result in results]


def test_results_are_those_of_the_reference(model):
    results = model.generate(input=CLIPS)
    assert texts(results) == TEXTS
    assert [r["key"] for r in results] == ["clip_a", "clip_b", "clip_c"]
    assert model.model_path == str(MODEL)
    for result in results:
        assert len(result["tokens"]) == len(result["token_confidence"]) > 0
        assert 0 < result["confidence"] <= 1
        assert "error" not in result


@needs_shared
@pytest.mark.parametrize("kind", ["paraformer", "conformer"])
def test_results_of_the_larger_oracles(kind):
    folder = SHARED / "oracle" / kind
    facts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    model = AutoModel(model=folder, device="cpu")
    results = model.generate([SHARED / path for path in facts["wavs"].values()])
    expected = [facts["utt"][tag]["result"][0]["text"] for tag in facts["wavs"]]
    assert texts(results) == expected


def test_every_form_of_the_same_audio_gives_the_same_text(model, wave, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, wave.numpy(), 16000, subtype="PCM_16")
    samples, _ = soundfile.read(path, dtype="int16")
    forms = [
        path,
        str(path),
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        samples,
        samples.tobytes(),
        samples.astype(np.float32) / 32768,
        samples.astype(np.float64) / 32768,
        torch.from_numpy(samples),
        np.stack([samples, samples]),
        np.stack([samples, samples], axis=1),
    ]
    results = model.generate(forms)
    assert set(texts(results)) == {TEXTS[0]}
    assert len({r["key"] for r in results[2:]}) == len(forms) - 2
    assert {r["audio_seconds"] for r in results} == {1.85}


def write_wav(folder, name, samples, rate=16000, subtype="PCM_16"):
    soundfile.write(folder / name, samples, rate, subtype=subtype)
    return folder / name


def cut_file(folder, samples, size):
    content = write_wav(folder, "cut.wav", samples).read_bytes()[:size]
    (folder / "cut.wav").write_bytes(content)
    return folder / "cut.wav"


def wrong_sizes(folder, samples, size):
    content = bytearray(write_wav(folder, "sizes.wav", samples).read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", size)
    (folder / "sizes.wav").write_bytes(content)
    return folder / "sizes.wav"


def list_chunk(folder, samples):
    content = write_wav(folder, "list.wav", samples).read_bytes()
    extra = b"LIST" + struct.pack("<I", 5) + b"INFOx" + b"\0"
    (folder / "list.wav").write_bytes(content[:36] + extra + content[36:])
    return folder / "list.wav"


def empty_file(folder, _):
    (folder / "empty.wav").write_bytes(b"")
    return folder / "empty.wav"


def with_nan(_, samples):
    return np.where(np.arange(len(samples)) == 100, np.nan, samples)


def text_file(folder, _):
    (folder / "note.wav").write_text("this is no audio")
    return folder / "note.wav"


SAME, SOME, EMPTY = "same text", "some result", ""
BAD = {
    "missing": (lambda d, x: d / "missing.wav", "No such file"),
    "empty file": (empty_file, "empty"),
    "text named wav": (text_file, "decode"),
    "no samples": (lambda d, x: x[:0], EMPTY),
    "one sample": (lambda d, x: x[:1], EMPTY),
    "10 samples": (lambda d, x: x[:10], EMPTY),
    "silence": (lambda d, x: np.zeros(32000, np.float32), SOME),
    "8 kHz": (lambda d, x: write_wav(d, "8k.wav", x[::2], 8000), SOME),
    "stereo": (lambda d, x: write_wav(d, "st.wav", np.stack([x, x], 1)), SAME),
    "NaN": (with_nan, "NaN"),
    "float64": (lambda d, x: x.astype(np.float64), SAME),
    "int16": (lambda d, x: (x * 32768).astype(np.int16), SAME),
    "header only": (lambda d, x: cut_file(d, x, 20), "cut"),
    "half a sample": (lambda d, x: cut_file(d, x, 30001), SOME),
    "sizes 0": (lambda d, x: wrong_sizes(d, x, 0), SAME),
    "sizes unknown": (lambda d, x: wrong_sizes(d, x, 0xFFFFFFFF), SAME),
    "odd chunk": (list_chunk, SAME),
    "a folder as an array": (lambda d, x: np.zeros((20, 20)), "shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_result_or_one_clear_line(model, wave, tmp_path, caplog, name):
    """And the other inputs of the list are recognised."""
    make, wanted = BAD[name]
    source = make(tmp_path, wave.numpy())
    caplog.clear()
    results = model.generate([CLIPS[0], source, CLIPS[1]])
    assert texts(results)[::2] == TEXTS[:2]
    result = results[1]
    assert result["key"]
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(errors) == ("error" in result)
    if wanted in (SAME, SOME, EMPTY):
        assert "error" not in result
        if wanted == SAME:
            assert result["text"] == TEXTS[0]
        if wanted == EMPTY:
            assert result["text"] == ""
    else:
        assert result["text"] == ""
        assert wanted in result["error"]
        assert "\n" not in errors[0].getMessage()


def test_lists_from_any_editor_give_the_same(model, tmp_path):
    """K01: LF; CRLF; a byte order mark, a blank line, no final newline."""
    rows = [f"u{i} {path}" for i, path in enumerate(CLIPS, 1)]
    (tmp_path / "lf.scp").write_text("\n".join(rows) + "\n")
    (tmp_path / "crlf.scp").write_bytes(("\r\n".join(rows) + "\r\n").encode())
    (tmp_path / "bom.scp").write_bytes(("\ufeff" + "\n\n".join(rows)).encode())
    answers = [model.generate(tmp_path / f"{name}.scp") for name in ("lf", "crlf", "bom")]
    assert answers[0] == answers[1] == answers[2]
    assert [r["key"] for r in answers[0]] == ["u1", "u2", "u3"]
    assert texts(answers[0]) == TEXTS


def test_a_list_with_duplicates_and_missing_files(model, tmp_path):
    lines = [f"u1 {CLIPS[0]}", "u2 missing.wav", f"u1 {CLIPS[2]}", f"u4 {CLIPS[1]}"]
    (tmp_path / "wav.scp").write_text("\n".join(lines))
    results = model.generate(tmp_path / "wav.scp")
    assert texts(results) == [TEXTS[0], "", "", TEXTS[1]]
    assert "missing.wav" in results[1]["error"]
    assert ":3: id 'u1' stands already in line 1" in results[2]["error"]


def test_batches_change_nothing(model, wave):
    """K08, through the front door."""
    generator = np.random.default_rng(0)
    waves = [wave[: int(n)] for n in generator.uniform(8000, len(wave), 16)]
    alone = [model.generate(x)[0]["tokens"] for x in waves]
    for options in ({"batch_size": 1}, {"batch_size": 16}, {"batch_size_s": 20}):
        assert [r["tokens"] for r in model.generate(waves, **options)] == alone


def test_options_hold_for_one_call(model):
    before = model.generate(CLIPS[0])
    many = model.generate(CLIPS[0], nbest=3, key="me")[0]
    assert [many["key"], len(many["nbest"])] == ["me", 3]
    assert many["nbest"][0]["text"] == many["text"]
    assert model.generate(CLIPS[0]) == before


def test_options_of_the_model_are_the_defaults_of_each_call():
    model = AutoModel(MODEL, nbest=2)
    assert len(model.generate(CLIPS[0])[0]["nbest"]) == 2
    assert "nbest" not in model.generate(CLIPS[0], nbest=1)[0]


def test_sampling_rate_of_arrays(model, wave):
    slow = model.generate(wave, fs=8000)[0]
    assert slow["audio_seconds"] == pytest.approx(3.7)


def test_output_dir(model, tmp_path):
    model.generate([CLIPS[0], "missing.wav"], output_dir=str(tmp_path / "out"), nbest=2)
    folder = tmp_path / "out" / "1best_recog"
    tokens = " ".join(EXPECTED["clip_a"]["tokens"])
    assert (folder / "text").read_text("utf-8") == f"clip_a {TEXTS[0]}\nmissing\n"
    assert (folder / "token").read_text("utf-8") == f"clip_a {tokens}\nmissing\n"
    assert (tmp_path / "out" / "2best_recog" / "text").is_file()
    failed = (tmp_path / "out" / "failed").read_text("utf-8")
    assert failed.startswith("missing missing.wav: No such file") and failed.count("\n") == 1
    model.generate(CLIPS[1], output_dir=str(tmp_path / "out"))
    assert (folder / "text").read_text("utf-8") == f"clip_b {TEXTS[1]}\n"
    assert not (tmp_path / "out" / "2best_recog").exists()
    assert (tmp_path / "out" / "failed").read_text("utf-8") == ""


def test_output_dir_grows_with_the_results(model, tmp_path):
    """So that whoever stops it keeps what is finished."""
    results = model.stream(CLIPS, output_dir=str(tmp_path), batch_size_s=0.1)
    lines = [f"{path.stem} {text}\n" for path, text in zip(CLIPS, TEXTS, strict=True)]
    for count in (1, 2):
        next(results)
        written = (tmp_path / "1best_recog" / "text").read_text("utf-8")
        assert written == "".join(lines[:count])
    results.close()


def test_an_output_dir_that_cannot_be_written_is_refused_before_any_work(
    model, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("paraformer.api.auto.load_release", None)
    with pytest.raises(DataError, match="file: .*give another folder"):
        AutoModel(MODEL, output_dir=str(tmp_path / "file"))
    with pytest.raises(DataError, match="file: .*give another folder"):
        model.stream(CLIPS, output_dir=str(tmp_path / "file"))


def test_unknown_keywords_are_refused_with_the_nearest(model):
    with pytest.raises(ConfigError, match="'batch_sise'; did you mean 'batch_size'"):
        model.generate(CLIPS[0], batch_sise=3)
    with pytest.raises(ConfigError, match="'devise'; did you mean 'device'"):
        AutoModel(MODEL, devise="cpu")
    with pytest.raises(ConfigError, match="'frontend_conf.n_mel'; did you mean"):
        AutoModel(MODEL, frontend_conf={"n_mel": 80})
    with pytest.raises(ConfigError, match="generate: .*'zzz'; `funasr --help` lists"):
        model.generate(CLIPS[0], zzz=3)


def test_unknown_options_of_the_other_models_are_refused_too():
    with pytest.raises(ConfigError, match="vad_kwargs: .*'max_end_silence_tim'; .*silence_time'"):
        AutoModel(MODEL, vad_model=VAD, vad_kwargs={"max_end_silence_tim": 200})
    with pytest.raises(ConfigError, match="punc_kwargs: unknown key 'model_conf.sentence_end'"):
        AutoModel(MODEL, punc_model=PUNC, punc_kwargs={"model_conf": {"sentence_end": 3}})
    for part in ("vad", "punc"):
        with pytest.raises(ConfigError, match=f"{part}_kwargs: options of {part}_model; give it"):
            AutoModel(MODEL, **{f"{part}_kwargs": {"max_end_silence_time": 200}})


def test_a_model_without_times_says_so_where_sentences_want_them(model, caplog):
    (result,) = model.generate(CLIPS[0], sentence_timestamp=True)
    assert "gives words no times" in caplog.text
    assert "pred_timestamp=True" in caplog.text
    assert [one["text"] for one in result["sentence_info"]] == [TEXTS[0]]
    caplog.clear()
    model.generate(CLIPS[0], sentence_timestamp=True, pred_timestamp=True)
    model.generate(CLIPS[0])
    assert caplog.text == ""


@pytest.mark.parametrize("nested", [False, True])
def test_each_option_of_a_vad_stands_beside_its_configuration_or_in_it(nested):
    given = {"lookback_time_start_point": 70}
    given = {"model_conf": given} if nested else given
    for model in (AutoModel(VAD, **given), AutoModel(MODEL, vad_model=VAD, vad_kwargs=given)):
        assert model.task.vad.options.lookback_time_start_point == 70


@pytest.mark.parametrize("name", ["spk", "subtitle_segment_mode"])
def test_what_is_not_built_yet_is_refused(model, name):
    with pytest.raises(ConfigError, match=f"{name}: not built yet"):
        AutoModel(MODEL, **{name: "x"})
    with pytest.raises(ConfigError, match=f"{name}: not built yet"):
        model.generate(CLIPS[0], **{name: "x"})
    AutoModel(MODEL, **{name: None})


def test_keywords_override_the_configuration_nested():
    model = AutoModel(MODEL, predictor_conf={"tail_threshold": 0.0})
    release = model.recognizer.release
    assert release.model.predictor.tail_threshold == 0.0
    assert release.config["predictor_conf"]["l_order"] == 1


def test_the_configuration_is_read_once(monkeypatch):
    opened = []
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, *a, **k: opened.append(self.name) or read(self, *a, **k)
    )
    AutoModel(MODEL, frontend_conf={"dither": 0.0})
    assert opened.count("config.yaml") == opened.count("configuration.json") == 1


def test_init_param_replaces_the_weights(tmp_path):
    with pytest.raises(CheckpointError, match="misshapes|lacks|unknown"):
        AutoModel(MODEL, init_param=str(FIXTURES / "oracle" / "conformer" / "model.pt"))
    with pytest.raises(CheckpointError):
        AutoModel(MODEL, init_param=str(tmp_path / "none.pt"))


def test_a_directory_without_weights_refuses_to_load(tmp_path):
    shutil.copytree(MODEL, tmp_path / "m")
    (tmp_path / "m" / "model.pt").unlink()
    with pytest.raises(CheckpointError, match=r"model\.pt: no such file"):
        AutoModel(tmp_path / "m")


def test_global_threads_are_touched_only_when_asked():
    before = torch.get_num_threads()
    state = torch.random.get_rng_state()
    AutoModel(MODEL, seed=3).generate(CLIPS[0])
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)
    try:
        AutoModel(MODEL, ncpu=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_missing_device_is_the_cpu_and_said(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("cuda:0").type == "cpu"
    assert len(caplog.records) == 1
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    assert len(caplog.records) == 1
    with pytest.raises(ConfigError, match="device=gpu"):
        choose_device("gpu")


def test_bad_lists_are_errors_of_the_call(model, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        model.generate(tmp_path / "no.scp")
    with pytest.raises(DataError, match="no audio file"):
        model.generate(tmp_path)


def test_nothing_is_printed(model, capsys):
    model.generate(CLIPS)
    assert capsys.readouterr() == ("", "")


NO_TEXT = [-1, 3.5, True, [1], b"x", {"a": 1}]
WRONG = [
    *((name, value) for name in ("vad_model", "init_param", "hub") for value in NO_TEXT),
    *(("model", value) for value in (None, *NO_TEXT)),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_no_name_of_a_model_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"^{name}={re.escape(repr(value))}: give "):
        AutoModel(**{"model": str(MODEL), "device": "cpu", name: value})


CALLS = [
    *(({name: value}, name) for name in ("output_dir", "lm_file") for value in NO_TEXT),
    *(({"chunk_size": value}, "chunk_size") for value in (None, -1, 3.5, True, "x", [1], [])),
    *(({"data_type": value}, "data_type") for value in (3.5, True, object())),
    *(({"cache": value}, "cache") for value in ("x", -1, [], (0,))),
    *(({name: 10**30}, name) for name in ("nbest", "encoder_chunk_look_back", "fs")),
    ({"fs": "16000"}, "fs='16000'"),
]


@pytest.mark.parametrize(("options", "where"), CALLS)
def test_an_option_of_another_type_is_one_line(model, wave, options, where):
    with pytest.raises(ConfigError, match=f"^{where}.*: give |^data_type=.*: not in|^cache: give"):
        model.generate(wave, **options)


BUILT = [
    {"vad_kwargs": {"max_end_silence_time": 300}},
    {"vad_model": str(VAD)},
    {"punc_model": "ct-punc"},
    {"device": "cuda:1"},
    {"dtype": "bf16"},
]


@pytest.mark.parametrize("options", BUILT)
def test_what_is_chosen_with_the_model_is_not_ignored_in_a_call(model, wave, options):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"^{name}: is chosen once, in AutoModel\({name}="):
        model.generate(wave, **options)


def test_what_a_call_says_again_changes_nothing(model, wave):
    again = {"device": "cpu", "vad_model": None, "vad_kwargs": {}, "disable_log": True}
    assert texts(model.generate(wave, **again)) == TEXTS[:1]


def test_a_model_may_be_copied_and_sent_to_another_process(model, wave):
    bundled = AutoModel("paraformer-zh-mini", device="cpu", nbest=2, disable_pbar=True)
    for one in (model, bundled):
        other = pickle.loads(pickle.dumps(one))
        assert other.generate(wave) == copy.deepcopy(one).generate(wave) == one.generate(wave)


def test_a_notebook_completes_what_is_loaded_late():
    assert {"AutoModel", "LivePipeline", "Streamer"} <= {*dir(paraformer)}


def test_nothing_given_is_the_default(model, wave):
    given = {"output_dir": None, "lm_file": None, "data_type": None, "hotword": None}
    assert texts(model.generate(wave, **given)) == TEXTS[:1]


@pytest.mark.parametrize(
    ("form", "remedy"),
    [
        (lambda x: (x, 16000), "its sampling rate as fs"),
        (lambda x: (16000, x), "its sampling rate as fs"),
        (lambda x: list(x[:100]), "its sampling rate as fs"),
        (lambda x: x[:100].tolist(), "its sampling rate as fs"),
        (lambda x: io.StringIO("a note"), "open it with 'rb'"),
        (lambda x: open(__file__, encoding="utf-8"), "open it with 'rb'"),  # noqa: SIM115
    ],
)
def test_forms_that_are_no_audio_say_what_to_give(model, wave, form, remedy):
    with pytest.raises(DataError, match=f"^input: .*{remedy}"):
        model.generate(form(wave.numpy()))


def test_an_entry_of_a_data_set_says_what_to_give(model, wave):
    (result,) = model.generate({"array": wave.numpy(), "sampling_rate": 16000})
    assert result["error"].endswith("; give the array alone, its rate as fs")


def test_a_text_by_another_name_than_that_of_a_list(model, tmp_path):
    """Such as WeNet's data.list, or a Kaldi list without an ending."""
    for name in ("data.list", "wavs", "x" * 200 + ".wav"):
        path = tmp_path / name
        path.write_text(f"u1 {CLIPS[0]}\n你好\n", encoding="utf-8")
        (result,) = model.generate(path)
        assert "it is a text; the name of a list ends in .scp" in result["error"]
    (result,) = model.generate("x" * 5000)
    assert len(result["error"]) < 700
