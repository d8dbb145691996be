"""Files with times are read back by their libraries with equal content."""

from __future__ import annotations

import html
import re

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraformer.errors import DataError
from paraformer.output.subtitle_lines import LineLimits, transcript
from paraformer.output.tables import TIMED_FILES, TIMED_TABLES
from paraformer.output.timed_folder import TimedFolder
from paraformer.output.timed_formats import format_timed

# 五 has a pause of more than a second before it; the marks are written as people do.
TEXT = "你好，API 2024 & <b>！五 {\\i}"
WORDS = [
    {"text": "你", "start": 100, "end": 300, "confidence": 0.9},
    {"text": "好", "start": 300, "end": 600, "confidence": 0.8},
    {"text": "API", "start": 700, "end": 1234, "confidence": 1.0},
    {"text": "2024", "start": 1234, "end": 2000, "confidence": 0.25},
    {"text": "b", "start": 2000, "end": 2100, "confidence": 0.25},
    {"text": "五", "start": 3600_000, "end": 3600_500, "confidence": 0.5},
    {"text": "i", "start": 3600_500, "end": 3600_900, "confidence": 0.5},
]
RESULT = {"key": "录 音", "text": TEXT, "audio_seconds": 3601.5, "words": WORDS}
SEGMENTS = {
    "key": "s",
    "text": "你 好 hello",
    "audio_seconds": 5.0,
    "segments": [
        {"start": 0, "end": 1500, "text": "你好"},
        {"start": 2000, "end": 4000, "text": "hello"},
    ],
}
WORD_LISTS = st.lists(
    st.tuples(
        st.text(st.characters(categories=["L", "N"], codec="utf-8"), min_size=1, max_size=8),
        st.integers(0, 2000),
        st.integers(1, 900),
        st.sampled_from(["", "，", "。", ". ", ' "']),
    ),
    min_size=1,
    max_size=25,
)


def build(rows):
    """A result of (word, gap before in ms, length in ms, mark behind)."""
    words, at = [], 0
    for text, gap, size, _ in rows:
        at += gap
        words.append({"text": text, "start": at, "end": at + size, "confidence": 0.5})
        at += size
    text = "".join(f"{row[0]}{row[3] or ' '}" for row in rows)
    return {"key": "a", "text": text, "audio_seconds": (at + 1) / 1000, "words": words}


def lines_of(result):
    return [line[:3] for line in transcript(result).lines(LineLimits())]


def read_subtitles(text, kind):
    events = pysubs2.SSAFile.from_string(text, kind, keep_html_tags=True)
    shown = [html.unescape(e.text) if kind == "vtt" else e.text for e in events]
    return [(text, e.start, e.end) for text, e in zip(shown, events, strict=True)]


def read_textgrid(text, path):
    textgrid = pytest.importorskip("praatio.textgrid")
    path.write_text(text, encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    tiers = {name: grid.getTier(name).entries for name in grid.tierNames}
    spans = {
        name: [(e.label, round(1000 * e.start), round(1000 * e.end)) for e in entries]
        for name, entries in tiers.items()
    }
    return round(1000 * grid.maxTimestamp), spans


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_come_back(kind):
    expected = lines_of(RESULT)
    assert [text for text, _, _ in expected] == ["你好，API 2024 & <b>！", "五 {\\i}"]
    found = read_subtitles(format_timed(RESULT, kind), kind)
    # A backslash would be a command; WebVTT times of an hour are read too.
    assert found == [(t.replace("\\", "＼"), start, end) for t, start, end in expected]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
@given(rows=WORD_LISTS)
def test_any_subtitles_come_back(kind, rows):
    result = build(rows)
    assert read_subtitles(format_timed(result, kind), kind) == lines_of(result)


@pytest.mark.parametrize("kind", ["srt", "vtt"])
@given(hours=st.integers(0, 2000), ms=st.integers(0, 3_599_000))
def test_the_clock_of_subtitles_does_not_end(kind, hours, ms):
    """pysubs2 itself stops at 99:59:59,999, and reads two digits of hours in SRT."""
    start = hours * 3_600_000 + ms
    word = {"text": "好", "start": start, "end": start + 900, "confidence": 0.5}
    result = {"key": "a", "text": "好", "audio_seconds": start / 1000 + 1, "words": [word]}
    clock = r"(\d{2,}):(\d\d):(\d\d)[,.](\d{3})"
    found = re.findall(clock, format_timed(result, kind))
    times = [((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(z) for h, m, s, z in found]
    assert times == [start, start + 900]


def test_srt_as_players_know_it():
    head = "1\n00:00:00,100 --> 00:00:02,100\n你好，API 2024 & <b>！\n\n2\n01:00:00,000 --> "
    assert format_timed(RESULT, "srt").startswith(head)
    vtt = format_timed(RESULT, "vtt")
    assert vtt.startswith("WEBVTT\n\n")
    assert "00:00:00.100 --> 00:00:02.100\n你好，API 2024 &amp; &lt;b&gt;！\n" in vtt


def test_textgrid_comes_back(tmp_path):
    end, tiers = read_textgrid(format_timed(RESULT, "textgrid"), tmp_path / "a.TextGrid")
    assert end == 3601_500
    assert tiers["words"] == [(w["text"], w["start"], w["end"]) for w in WORDS]
    assert tiers["lines"] == lines_of(RESULT)


@given(rows=WORD_LISTS)
def test_any_textgrid_comes_back(rows, tmp_path_factory):
    result = build(rows)
    path = tmp_path_factory.mktemp("grid") / "a.TextGrid"
    _, tiers = read_textgrid(format_timed(result, "textgrid"), path)
    assert tiers["words"] == [(w["text"], w["start"], w["end"]) for w in result["words"]]
    assert tiers["lines"] == lines_of(result)


@given(rows=WORD_LISTS)
def test_any_ctm_comes_back(rows):
    result = build(rows)
    found = []
    for line in format_timed(result, "ctm").splitlines():
        key, channel, start, size, word, confidence = line.split(" ")
        assert (key, channel, confidence) == ("a", "1", "0.5000")
        begin = round(1000 * float(start))
        found.append((word, begin, begin + round(1000 * float(size))))
    assert found == [(w["text"], w["start"], w["end"]) for w in result["words"]]


def test_ctm_and_stm_are_tables_of_fields():
    ctm = format_timed(RESULT, "ctm").splitlines()
    assert ctm[2] == "录_音 1 0.700 0.534 API 1.0000"
    bare = {**RESULT, "words": [{"text": "你", "start": 0, "end": 90}], "text": "你"}
    assert format_timed(bare, "ctm") == "录_音 1 0.000 0.090 你\n"
    assert format_timed(RESULT, "stm").splitlines() == [
        "录_音 1 录_音 0.100 2.100 你 好 API 2024 b",
        "录_音 1 录_音 3600.000 3600.900 五 i",
    ]
    spoken = {**RESULT, "words": [{**WORDS[0], "speaker": "spk 1"}], "text": "你"}
    assert format_timed(spoken, "stm") == "录_音 1 spk_1 0.100 0.300 你\n"
    assert format_timed(spoken, "tsv") == "start\tend\ttext\n100\t300\tspk 1: 你\n"


def test_lrc_shows_a_line_until_silence():
    assert format_timed(RESULT, "lrc").splitlines() == [
        "[00:00.10]你好，API 2024 & <b>！",
        "[00:02.10]",
        "[60:00.00]五 {\\i}",
        "[60:00.90]",
    ]


def test_segments_stand_in_for_words(tmp_path):
    expected = [("你好", 0, 1500), ("hello", 2000, 4000)]
    for kind in ("srt", "vtt"):
        assert read_subtitles(format_timed(SEGMENTS, kind), kind) == expected
    grid = read_textgrid(format_timed(SEGMENTS, "textgrid"), tmp_path / "g")
    assert grid == (5000, {"lines": expected})
    assert format_timed(SEGMENTS, "stm").splitlines()[1] == "s 1 s 2.000 4.000 hello"
    with pytest.raises(DataError, match="ctm needs those of words; take a model"):
        format_timed(SEGMENTS, "ctm")


@pytest.mark.parametrize("kind", [*TIMED_FILES, *TIMED_TABLES])
def test_silence_is_no_error(kind):
    text = format_timed({"key": "a", "text": "", "audio_seconds": 1.0, "words": []}, kind)
    assert "text" not in text.replace("start\tend\ttext", "").replace("text = ", "")
    with pytest.raises(DataError, match="gives no times"):
        format_timed({"key": "a", "text": "你", "audio_seconds": 1.0}, kind)


def test_a_folder_has_a_file_for_each_recording(tmp_path):
    folder = TimedFolder(tmp_path / "out", "lrc")
    for key in ("a/b", "a_b", "..", "c d", "e:0", 'f?*"<>|'):
        folder.add({**RESULT, "key": key})
    folder.add({"key": "bad", "text": "", "audio_seconds": 0.0, "error": "no such file"})
    folder.close()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["_.lrc", "a_b.lrc", "a_b_2.lrc", "c_d.lrc", "e_0.lrc", "f______.lrc"]
    assert (tmp_path / "out" / "c_d.lrc").read_text("utf-8") == format_timed(RESULT, "lrc")
    grids = TimedFolder(tmp_path, "textgrid")
    grids.add(RESULT)
    assert (tmp_path / "录_音.TextGrid").is_file()


def test_a_long_id_has_a_file_too(tmp_path):
    """File systems take 255 bytes; what is cut off does not make one file of two."""
    folder = TimedFolder(tmp_path, "lrc")
    for key in ("a" * 300, "a" * 301, "好" * 90):
        folder.add({"key": key, "text": "", "words": [], "audio_seconds": 1.0})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a" * 200 + ".lrc", "a" * 200 + "_2.lrc", "好" * 66 + ".lrc"}


def test_a_table_is_sorted_as_sclite_wants_it(tmp_path):
    folder = TimedFolder(tmp_path, "ctm")
    for key in ("b", "录", "B", "a"):
        folder.add({**RESULT, "key": key})
    folder.close()
    rows = [line.split(" ") for line in (tmp_path / "ctm").read_text("utf-8").splitlines()]
    assert [row[0] for row in rows][::7] == ["B", "a", "b", "录"]
    assert all([row[4] for row in rows[i : i + 7]][0] == "你" for i in range(0, 28, 7))
    TimedFolder(tmp_path, "ctm").close()
    assert (tmp_path / "ctm").read_text() == ""
