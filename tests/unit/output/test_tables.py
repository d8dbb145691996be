"""Results as lines."""

from __future__ import annotations

import json

import pytest

from paraformer.errors import ConfigError, DataError
from paraformer.output.result import Result
from paraformer.output.tables import SPEECH, ResultFolder, check_format, format_result

RESULT = {"key": "空 格", "text": "用 API 写", "confidence": 0.5}


def test_text_lines_split_at_the_first_blank():
    assert format_result(RESULT) == "空_格 用 API 写"
    assert format_result(RESULT, alone=True) == "用 API 写"


def test_an_empty_text_has_no_trailing_blank():
    assert format_result({"key": "u", "text": ""}) == "u"


def test_json_is_one_line_of_the_whole_result():
    line = format_result({**RESULT, "text": "a\nb"}, "json")
    assert "\n" not in line and "空" in line
    assert json.loads(line)["text"] == "a\nb"


@pytest.mark.parametrize("name", ["ass", "", "JSON"])
def test_unknown_formats_are_refused(name):
    with pytest.raises(ConfigError, match="use text, json, srt, .* or rttm"):
        check_format(name)


def test_what_has_times_is_no_line():
    with pytest.raises(ConfigError, match="text or json"):
        format_result(RESULT, "srt")


def content(folder):
    """Relative path to text of each file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in files}


def test_each_line_is_on_disk_as_soon_as_it_is_added(tmp_path):
    folder = ResultFolder(tmp_path / "new" / "out", SPEECH, nbest=2)
    names = ("1best_recog/text", "1best_recog/token", "2best_recog/text", "2best_recog/token")
    assert content(tmp_path / "new" / "out") == dict.fromkeys((*names, "failed"), "")
    folder.add(
        Result("b", rows=[{"text": "你好", "token": "你 好"}, {"text": "你", "token": "你"}])
    )
    one, two = "b 你好\n", "b 你 好\n"
    found = content(tmp_path / "new" / "out")
    assert [found[name] for name in names] == [one, two, "b 你\n", "b 你\n"]
    folder.add(Result("a", error="a.wav:\nis empty; record it again"))
    found = content(tmp_path / "new" / "out")
    assert [found[name] for name in names] == [one + "a\n", two + "a\n", "b 你\n", "b 你\n"]
    assert found["failed"] == "a a.wav: is empty; record it again\n"
    folder.close()


def test_nothing_of_an_earlier_run_remains_and_all_else_stays(tmp_path):
    earlier = ResultFolder(tmp_path, SPEECH, nbest=3)
    earlier.add(Result("a", error="an error", rows=[{"text": "一", "token": "一"}] * 3))
    earlier.close()
    for name in ("2best_recog/mine", "notes", "text"):
        (tmp_path / name).write_text("kept")
    ResultFolder(tmp_path, SPEECH).close()
    assert content(tmp_path) == {
        "1best_recog/text": "",
        "1best_recog/token": "",
        "failed": "",
        "2best_recog/mine": "kept",
        "notes": "kept",
        "text": "kept",
    }
    assert not (tmp_path / "3best_recog").exists()


@pytest.mark.parametrize("name", ["file", "file/out", "x" * 300, "1best_recog"])
def test_a_folder_that_cannot_be_written_is_named_at_once(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "1best_recog" / "1best_recog" / "text").mkdir(parents=True)
    with pytest.raises(DataError, match=f"{name}.*give another folder"):
        ResultFolder(tmp_path / name, SPEECH)


def test_names_of_any_encoding_can_be_written(tmp_path):
    folder = ResultFolder(tmp_path, SPEECH)
    rows = [{"text": "一", "token": "一"}]
    folder.add(Result("x\udcff\u3000y z", error="x\udcff.wav: no such file", rows=rows))
    folder.close()
    assert content(tmp_path)["1best_recog/text"] == "x\\udcff\u3000y_z 一\n"
    assert content(tmp_path)["failed"].endswith("x\\udcff.wav: no such file\n")
