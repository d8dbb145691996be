"""Results as lines."""

from __future__ import annotations

import json

import pytest

from paraformer.errors import ConfigError, DataError
from paraformer.formats import ResultFolder, check_format, format_result

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


@pytest.mark.parametrize("name", ["srt", "", "JSON"])
def test_unknown_formats_are_refused(name):
    with pytest.raises(ConfigError, match="text or json"):
        check_format(name)


def test_a_folder_of_results_keeps_the_order_of_the_input(tmp_path):
    folder = ResultFolder(tmp_path / "out", nbest=2)
    folder.add("b", [("你好", ["你", "好"]), ("你", ["你"])])
    folder.add("a", [])
    folder.write()
    assert (tmp_path / "out/1best_recog/text").read_text("utf-8") == "b 你好\na\n"
    assert (tmp_path / "out/1best_recog/token").read_text("utf-8") == "b 你 好\na\n"
    assert (tmp_path / "out/2best_recog/text").read_text("utf-8") == "b 你\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    folder = ResultFolder(tmp_path / "file")
    folder.add("a", [])
    with pytest.raises(DataError, match="file"):
        folder.write()
