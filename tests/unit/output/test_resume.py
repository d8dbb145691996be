"""A run that goes on where it was stopped ends as if it never had been."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import soundfile

from paraformer import AutoModel
from paraformer.errors import ConfigError
from paraformer.models.release import save_directory
from paraformer.output.result import Result
from paraformer.output.resume import Finished, Made
from paraformer.output.tables import SPEECH, ResultFolder
from paraformer.progress import goes_on, tell_progress
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
CLIPS = [ORACLE / "inputs" / f"clip_{x}.flac" for x in "abc"]
ONLINE = {"model": "ParaformerStreaming", "decoder_conf": {"sanm_shfit": 2}}


def content(folder):
    """Relative path to content of each file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write(folder, **tables):
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8")


def test_what_is_finished_stays_and_all_else_goes(tmp_path):
    """b has failed, c stands in one table only, the last line is half a line."""
    write(
        tmp_path, text="a 一\nb\nd 四\nc 三\ne 五", token="a 一\nb\nd 四\ne 五\n", failed="b why\n"
    )
    write(tmp_path, ctm="a 1 0.1\na 1 0.2\nb 1 0.1\nc 1 0.1\nd 1 0.")
    finished = Finished(tmp_path, ["text", "token"], ["ctm"])
    assert [finished.take(key) for key in "abcdea"] == [True, False, False, True, False, False]
    expected = {"text": "a 一\nd 四\n", "token": "a 一\nd 四\n", "failed": ""}
    expected["ctm"] = "a 1 0.1\na 1 0.2\n"
    assert content(tmp_path) == {name: text.encode() for name, text in expected.items()}


def test_a_job_that_is_started_again_goes_on_with_its_own_work_alone(tmp_path, monkeypatch):
    """And says how far it was, in the file that its scheduler names."""
    out, told = tmp_path / "out", tmp_path / "progress"
    out.mkdir()
    write(out, text="of yesterday\n")
    assert not goes_on(out) and goes_on(out, True) and not told.exists()
    monkeypatch.setenv("JOB_PROGRESS", str(told))
    assert not goes_on(out), "what lies there is of another job"
    first = told.read_text()
    write(out, text="a 1\n")
    assert goes_on(out) and told.read_text() != first
    second = told.read_text()
    assert goes_on(out) and told.read_text() == second, "no progress"
    assert not goes_on(tmp_path / "other") and goes_on(out)
    tell_progress(tmp_path / "exp", "1 2 3")
    assert json.loads(told.read_text())[str(tmp_path / "exp")] == "1 2 3"
    told.write_text("words of a script")
    assert not goes_on(out)


def test_lines_end_up_in_the_order_of_the_ids(tmp_path):
    """Those of ids that are not asked for stay in front; all lines of one stay in their order."""
    write(tmp_path, text="x 0\nc 3\na 1\ny 9\n", ctm="c 1 0\nc 1 1\na 1 0\n", failed="")
    finished = Finished(tmp_path, ["text"], ["ctm"])
    finished.sort(["a", "b", "c"])
    assert content(tmp_path)["text"] == b"x 0\ny 9\na 1\nc 3\n"
    assert content(tmp_path)["ctm"] == b"a 1 0\nc 1 0\nc 1 1\n"


def test_ids_that_stand_twice_are_told_apart_by_their_number(tmp_path):
    write(tmp_path, text="a 1\nb 2\na 3\n", failed="")
    finished = Finished(tmp_path, ["text"])
    assert [finished.take("a") for _ in range(3)] == [True, True, False]
    finished.sort(["a", "b", "a"])
    assert content(tmp_path)["text"] == b"a 1\nb 2\na 3\n"


def test_ids_are_compared_as_tables_have_them(tmp_path):
    write(tmp_path, text="a_b 1\nx\\udcff 2\n", failed="")
    write(tmp_path, **{"results.jsonl": json.dumps({"key": "a b"}) + '\n{"key": "z"}\n{"k'})
    finished = Finished(tmp_path, ["text"], ["results.jsonl"])
    assert finished.take("a b") and finished.take("x\udcff")
    assert content(tmp_path)["results.jsonl"] == b'{"key": "a b"}\n'


@pytest.mark.parametrize("bytes_lost", range(0, 40, 3))
def test_a_kill_at_any_byte_loses_no_more_than_a_line(tmp_path, bytes_lost):
    """Whatever of the last lines is on disk, going on gives the files of one run."""
    rows = [[{"text": f"文 {n}", "token": f"文{n}"}] * 2 for n in range(4)]
    results = [Result(f"k{n}", rows=row) for n, row in enumerate(rows)]
    results[1].error = "wrong"
    keys = [result.key for result in results]
    whole = ResultFolder(tmp_path / "whole", SPEECH, nbest=2)
    for result in results:
        whole.add(result)
    whole.close()
    cut = ResultFolder(tmp_path / "cut", SPEECH, nbest=2)
    for result in results[:3]:
        cut.add(result)
    cut.close()
    # Written last to first: what is lost of one table is all of those behind it.
    for name in ("1best_recog/token", "1best_recog/text", "2best_recog/token"):
        path = tmp_path / "cut" / name
        line = len("k2 文 2\n".encode())
        lost = min(bytes_lost, line)
        path.write_bytes(path.read_bytes()[: -lost or None])
        bytes_lost -= lost
    again = ResultFolder(tmp_path / "cut", SPEECH, nbest=2, resume=True)
    for result in results:
        if not again.take(result.key):
            again.add(result)
    again.finish(keys)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Utterances, recordings with a VAD, streams, and a VAD alone."""
    streaming = save_directory(tmp_path_factory.mktemp("online"), tiny.release(ONLINE))
    offline, vad = str(ORACLE / "paraformer"), str(ORACLE / "fsmn_vad")
    quiet = {"device": "cpu", "disable_pbar": True}
    return {
        "utterances": AutoModel(offline, **quiet),
        "recordings": AutoModel(offline, vad_model=vad, **quiet),
        "streams": AutoModel(str(streaming), **quiet),
        "vad": AutoModel(vad, **quiet),
    }


@pytest.mark.parametrize("kind", ["utterances", "recordings", "streams", "vad"])
def test_a_list_that_was_stopped_is_finished_as_if_it_never_was(models, tmp_path, kind):
    """Stopped behind the second of five, of which the first cannot be read until later."""
    late = tmp_path / "late.wav"
    listed = [late, CLIPS[0], CLIPS[2], tmp_path / "never.wav", CLIPS[1]]
    options = {"batch_size_s": 0.1, "output_dir": str(tmp_path / "out")}
    results = models[kind].stream(listed, **options)
    assert next(results)["key"] == "late" and next(results)["key"] == "clip_a"
    results.close()
    soundfile.write(late, np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    again = models[kind].stream(listed, resume=True, **options)
    found = [result["key"] for result in again]
    assert again.skipped == 5 - len(found) and "clip_a" not in found
    assert {"late", "never"} <= {*found}
    whole = {**options, "output_dir": str(tmp_path / "whole")}
    models[kind].generate(listed, **whole)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    finished = models[kind].generate(listed, resume=True, **options)
    assert [result["key"] for result in finished] == ["never"]


def test_formats_with_tables_go_on_too(models, tmp_path):
    options = {"output_format": "ctm", "batch_size_s": 0.1}
    out, whole = str(tmp_path / "out"), str(tmp_path / "whole")
    results = models["utterances"].stream(CLIPS, output_dir=out, **options)
    next(results)
    results.close()
    with (tmp_path / "out" / "ctm").open("a") as file:
        file.write("clip_b 1 0.0")
    models["utterances"].generate(CLIPS, output_dir=out, resume=True, **options)
    models["utterances"].generate(CLIPS, output_dir=whole, **options)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_without_resume_the_folder_is_written_anew(models, tmp_path):
    models["utterances"].generate(CLIPS, output_dir=str(tmp_path))
    models["utterances"].generate(CLIPS[:1], output_dir=str(tmp_path))
    assert content(tmp_path)["1best_recog/text"].count(b"\n") == 1


def test_what_lacks_an_extra_leaves_an_earlier_run_as_it_is(models, tmp_path, monkeypatch):
    models["utterances"].generate(CLIPS, output_dir=str(tmp_path))
    before = content(tmp_path)
    monkeypatch.setitem(sys.modules, "praatio.textgrid", None)
    with pytest.raises(ConfigError, match="output_format=textgrid: needs the package praatio"):
        models["utterances"].generate(CLIPS, output_dir=str(tmp_path), output_format="textgrid")
    assert content(tmp_path) == before


def test_without_a_folder_there_is_nothing_to_go_on_with(models):
    with pytest.raises(ConfigError, match="resume: .*give output_dir"):
        models["utterances"].generate(CLIPS, resume=True)
    with pytest.raises(ConfigError, match="resume: .*give output_dir"):
        AutoModel("no such model", resume=True)


def test_a_record_without_a_number_format_is_one_of_float32():
    old, plain, half = (Made(options, {}) for options in ({}, {"dtype": "fp32"}, {"dtype": "bf16"}))
    assert plain.differences(old) == old.differences(plain) == ""
    assert half.differences(old) == 'dtype was "fp32", is "bf16"'
