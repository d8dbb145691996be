"""VAD, recognition and punctuation one behind the other equal the reference's AutoModel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from paraformer.api.auto import AutoModel
from paraformer.data.audio.read import read_audio
from tests.conftest import SHARED, needs_shared

pytestmark = needs_shared
PIPELINE = SHARED / "oracle" / "pipeline"
EXAMPLE = SHARED / "audio" / "vad_example.wav"
VAD = SHARED / "models" / "fsmn-vad"


@pytest.fixture(scope="module")
def cases():
    return json.loads((PIPELINE / "expected.json").read_text(encoding="utf8"))["cases"]


@pytest.fixture(scope="module")
def model():
    return AutoModel(str(PIPELINE / "asr-paraformer"), vad_model=str(VAD))


@pytest.fixture(scope="module")
def marked():
    punc = SHARED / "oracle" / "ct-punc"
    return AutoModel(str(PIPELINE / "asr-paraformer"), vad_model=str(VAD), punc_model=str(punc))


@pytest.fixture(scope="module")
def timed():
    return AutoModel(str(PIPELINE / "asr-bicif"), vad_model=str(VAD))


@pytest.fixture(scope="module")
def timed_marked():
    punc = SHARED / "oracle" / "ct-punc"
    return AutoModel(str(PIPELINE / "asr-bicif"), vad_model=str(VAD), punc_model=str(punc))


def without_blanks(text):
    return "".join(text.split()).lower()


def test_text_of_segments_joined(model, cases):
    (expected,) = cases["paraformer + vad(800), sentence_timestamp, no punc"]
    (found,) = model.generate(str(EXAMPLE))
    assert found["text"] == expected["text"]
    sentences = expected["sentence_info"]
    if sentences:  # one a segment
        spans = [[s["start"], s["end"]] for s in sentences]
        assert [[s["start"], s["end"]] for s in found["segments"]] == spans


def test_text_with_marks(marked, cases):
    """Blanks and case are set aside: ours keeps the case, and blanks between English words."""
    (expected,) = cases["paraformer + vad(800) + punc"]
    (found,) = marked.generate(str(EXAMPLE), return_raw_text=True)
    assert without_blanks(found["text"]) == without_blanks(expected["text"])
    (plain,) = cases["paraformer + vad(800), sentence_timestamp, no punc"]
    assert found["raw_text"] == plain["text"]


@pytest.mark.parametrize("options", [{}, {"merge_vad": True, "merge_length_s": 15}])
def test_times_of_segments_joined(timed, cases, options):
    name = "bicif + vad(800)" + (", merge_vad, merge_length_s=15" if options else "")
    (expected,) = cases[name]
    (found,) = timed.generate(str(EXAMPLE), **options)
    assert (found["text"], found["timestamp"]) == (expected["text"], expected["timestamp"])
    check_words(found)


def check_words(result):
    """As many as the reference's times; they rise, and lie inside their segments."""
    times = [ms for word in result["words"] for ms in (word["start"], word["end"])]
    assert times == sorted(times)
    for word, (start, end) in zip(result["words"], result["timestamp"], strict=True):
        assert word["start"] == start and end - 60 <= word["end"] <= end
        assert any(s["start"] <= start <= word["end"] <= s["end"] for s in result["segments"])


def test_silence_has_no_times(timed, cases):
    (expected,) = cases["bicif + vad(800), zeros 2 s"]
    (found,) = timed.generate(np.zeros(32000, np.float32))
    assert (found["text"], found["timestamp"]) == (expected["text"], expected["timestamp"])
    assert found["words"] == []


def check_sentences(found, expected):
    """Cut at the same places, with the same times; joined, ours are the text. The texts of the
    reference's are made of its words by counting, and slip where two are English.
    """
    assert without_blanks(found["text"]) == without_blanks(expected["text"])
    assert found["timestamp"] == expected["timestamp"]
    assert "".join(s["text"] for s in found["sentence_info"]) == found["text"]
    most = int(1000 * found["audio_seconds"])
    for ours, theirs in zip(found["sentence_info"], expected["sentence_info"], strict=True):
        assert ours["timestamp"] == theirs["timestamp"]
        assert (ours["start"], ours["end"]) == (theirs["start"], min(theirs["end"], most))


def test_sentences_with_their_times(timed_marked, cases):
    (expected,) = cases["bicif + vad(800) + punc, sentence_timestamp, return_raw_text"]
    options = {"sentence_timestamp": True, "return_raw_text": True}
    (found,) = timed_marked.generate(str(EXAMPLE), **options)
    check_sentences(found, expected)
    check_words(found)
    assert found["raw_text"] == expected["raw_text"]
    raw = "".join(sentence["raw_text"] for sentence in found["sentence_info"])
    assert without_blanks(raw) == without_blanks(expected["raw_text"])


def test_sentences_with_english_marks(timed_marked, cases):
    """They are in the sentences alone."""
    (expected,) = cases["bicif + vad(800) + punc, sentence_timestamp, en_post_proc"]
    (found,) = timed_marked.generate(str(EXAMPLE), sentence_timestamp=True, en_post_proc=True)
    assert without_blanks(found["text"]) == without_blanks(expected["text"])
    for ours, theirs in zip(found["sentence_info"], expected["sentence_info"], strict=True):
        assert ours["text"][-1] == theirs["text"][-1]
        assert ours["timestamp"] == theirs["timestamp"]


def test_sentences_of_a_list(timed_marked, cases):
    wave = read_audio(EXAMPLE).numpy()
    parts = [wave[:480000], wave[480000:800000]]
    found = timed_marked.generate(parts, sentence_timestamp=True)
    for ours, theirs in zip(found, cases["bicif + vad(800) + punc, list of two"], strict=True):
        check_sentences(ours, theirs)


def test_marks_and_times_without_a_vad(cases):
    punc = SHARED / "oracle" / "ct-punc"
    model = AutoModel(str(PIPELINE / "asr-bicif"), punc_model=str(punc))
    (found,) = model.generate(read_audio(EXAMPLE).numpy()[:480000], return_raw_text=True)
    (expected,) = cases["bicif + punc, no vad, return_raw_text"]
    assert without_blanks(found["text"]) == without_blanks(expected["text"])
    assert found["timestamp"] == expected["timestamp"]
    assert found["raw_text"] == expected["raw_text"]


def test_sentences_of_a_model_without_times_are_segments(marked, cases):
    """The reference leaves out the marks; ours are the text."""
    (expected,) = cases["paraformer + vad(800) + punc, sentence_timestamp"]
    (found,) = marked.generate(str(EXAMPLE), sentence_timestamp=True, return_raw_text=True)
    assert "".join(s["text"] for s in found["sentence_info"]) == found["text"]
    for ours, theirs in zip(found["sentence_info"], expected["sentence_info"], strict=True):
        assert ours["raw_text"] == theirs["text"]
        for name in ("start", "end", "timestamp"):
            assert ours[name] == theirs[name]


def test_segments_in_place_of_sentences(model, cases):
    (expected,) = cases["paraformer + vad(800), sentence_timestamp, no punc"]
    (found,) = model.generate(str(EXAMPLE), sentence_timestamp=True)
    assert found["sentence_info"] == expected["sentence_info"]


def test_times_that_were_asked_for(marked, cases):
    (expected,) = cases["paraformer + vad(800) + punc, sentence_timestamp, output_timestamp"]
    (found,) = marked.generate(str(EXAMPLE), sentence_timestamp=True, output_timestamp=True)
    check_sentences(found, expected)


def test_output_dir_has_recordings(timed, cases, tmp_path):
    """The reference's has segments, with made up keys."""
    timed.generate(str(EXAMPLE), output_dir=str(tmp_path))
    (expected,) = cases["bicif + vad(800)"]
    for name in ("text", "timestamp"):
        line = (tmp_path / "1best_recog" / name).read_text("utf-8")
        assert line == f"vad_example {expected[name]}\n"


def test_segments_are_those_of_the_detector_alone(model):
    (heard,) = model.generate(str(EXAMPLE))
    (found,) = AutoModel(str(VAD)).generate(str(EXAMPLE))
    assert [[s["start"], s["end"]] for s in heard["segments"]] == found["value"]


def test_a_list_and_its_file_give_a_result_each(model, tmp_path):
    lines = f"a {EXAMPLE}\nb {SHARED / 'audio' / 'mid.wav'}\n"
    (tmp_path / "wav.scp").write_text(lines, encoding="utf8")
    out = tmp_path / "out"
    results = model.generate(str(tmp_path / "wav.scp"), output_dir=str(out))
    alone = [model.generate(line.split()[1])[0]["text"] for line in lines.splitlines()]
    assert [r["key"] for r in results] == ["a", "b"]
    assert [r["text"] for r in results] == alone
    table = (out / "1best_recog" / "text").read_text(encoding="utf8").splitlines()
    assert [line.split()[0] for line in table] == ["a", "b"]


def test_bytes_are_what_the_file_is(model):
    content = (SHARED / "audio" / "mid.wav").read_bytes()
    assert (
        model.generate(content)[0]["text"]
        == model.generate(str(SHARED / "audio" / "mid.wav"))[0]["text"]
    )


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """The two parts of the recording in the forms that the reference was given."""
    folder = tmp_path_factory.mktemp("forms")
    wave = read_audio(EXAMPLE).numpy()
    for name, part in (("a", wave[:480000]), ("b", wave[480000:800000])):
        soundfile.write(folder / f"{name}.wav", part, 16000, subtype="PCM_16")
    wavs = [str(folder / f"{name}.wav") for name in "ab"]
    ids = {"scp": "utt-{} {}\n", "jsonl": '{{"key": "j-{}", "source": "{}"}}\n', "txt": "{1}\n"}
    for ending, line in ids.items():
        lines = [line.format(name, wav) for name, wav in zip("ab", wavs, strict=True)]
        (folder / f"list.{ending}").write_text("".join(lines), encoding="utf8")
    return {
        "input wav.scp": folder / "list.scp",
        "input jsonl": folder / "list.jsonl",
        "input wav path": wavs[1],
        "input bytes (wav file)": (folder / "b.wav").read_bytes(),
        "input bytes (raw pcm)": (wave[480000:800000] * 32768).astype("<i2").tobytes(),
        "input list of paths": wavs,
        "bicif alone, paths.txt without ids": folder / "list.txt",
    }


FORMS = ["wav.scp", "jsonl", "wav path", "bytes (wav file)", "bytes (raw pcm)", "list of paths"]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_input(timed_marked, cases, forms, form):
    expected = cases[f"input {form}"]
    given = forms[f"input {form}"]
    found = timed_marked.generate(str(given) if isinstance(given, Path) else given)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs["key"] in ("x", ours["key"])  # x: made up there
        assert without_blanks(ours["text"]) == without_blanks(theirs["text"])
        assert ours["timestamp"] == theirs["timestamp"]


def test_batch_sizes_change_nothing(timed, cases):
    (expected,) = cases["bicif + vad(800), batch_size_s=20, batch_size_threshold_s=5"]
    (found,) = timed.generate(str(EXAMPLE), batch_size_s=20, batch_size_threshold_s=5)
    assert (found["text"], found["timestamp"]) == (expected["text"], expected["timestamp"])


def test_a_list_without_a_vad_and_its_folder(cases, forms, tmp_path):
    model = AutoModel(str(PIPELINE / "asr-bicif"))
    for case, options in (
        ("bicif alone, wav.scp, output_dir", {"output_dir": str(tmp_path)}),
        ("bicif alone, paths.txt without ids", {}),
    ):
        given = forms["input wav.scp" if options else case]
        found = model.generate(str(given), **options)
        for ours, theirs in zip(found, cases[case], strict=True):
            assert theirs["key"] in ("x", ours["key"])
            assert (ours["text"], ours["timestamp"]) == (theirs["text"], theirs["timestamp"])
    files = json.loads((PIPELINE / "expected.json").read_text("utf8"))["output_dir files"]["o1"]
    for name, content in files.items():
        assert (tmp_path / name).read_text("utf8")[:4000] == content


def test_marks_in_the_folder_of_a_list(timed_marked, cases, forms, tmp_path):
    """The reference writes a line a segment there, with made up keys; ours one a recording."""
    found = timed_marked.generate(str(forms["input wav.scp"]), output_dir=str(tmp_path))
    for ours, theirs in zip(found, cases["bicif + vad + punc, wav.scp, output_dir"], strict=True):
        assert ours["key"] == theirs["key"]
        assert without_blanks(ours["text"]) == without_blanks(theirs["text"])
        assert ours["timestamp"] == theirs["timestamp"]
    lines = (tmp_path / "1best_recog/text").read_text("utf8").splitlines()
    assert lines == [f"{result['key']} {result['text']}" for result in found]
