"""Known times of words in data directories."""

from __future__ import annotations

import pytest

from paraformer.data.batches.dataset import Batching, Loader, read_utterances
from paraformer.data.corpus.ctm import (
    Mark,
    TimedWord,
    marks_of,
    read_ctm,
    read_times,
    timed_words,
)
from paraformer.data.corpus.origins import Origins
from paraformer.errors import DataError
from paraformer.output.timed_folder import TimedFolder
from tests import tiny


def write(tmp_path, text):
    path = tmp_path / "ctm"
    path.write_text(text, encoding="utf8")
    return path


def test_a_ctm_is_read_in_the_order_of_time(tmp_path):
    path = write(tmp_path, "a 1 0.50 0.25 二 0.9\na 1 0.10 0.30 一\nb A 0 1 三\n")
    assert read_ctm(path) == {"a": [(0.1, 0.4, "一"), (0.5, 0.75, "二")], "b": [(0.0, 1.0, "三")]}


@pytest.mark.parametrize("line", ["a 1 0.5", "a 1 x 0.2 一", "a 1 -1 0.2 一", "a 1 0 nan 一", "a"])
def test_what_is_no_line_of_a_ctm_is_named(tmp_path, line):
    with pytest.raises(DataError, match=r"ctm:2: .*; give `key channel"):
        read_ctm(write(tmp_path, f"b 1 0 1 一\n{line}\n"))


def test_comments_of_a_ctm_are_passed_over(tmp_path):
    path = write(tmp_path, ";; made by hand\n;;\na 1 0.5 0.25 二\n;;a 1 x\n")
    assert read_ctm(path) == {"a": [(0.5, 0.75, "二")]}


SEGMENTS = "u1 r1 1.0 2.0\nu2 r1 2.0 -1\nu3 r2 1.5 2.5\n"
WORDS = {"u1": [(0.1, 0.4, "一"), (0.5, 0.75, "二")], "u2": [(0.0, 0.5, "三")]}
WORDS["u3"] = [(0.25, 0.5, "四")]


def near(times):
    return {key: [(*map(pytest.approx, word[:2]), word[2]) for word in times[key]] for key in times}


@pytest.mark.parametrize(
    ("tables", "lines"),
    [
        ({}, ["r1 1 1.1 0.3 一", "r1 A 1.5 0.25 二", "r1 1 2.0 0.5 三", "r2 1 1.75 0.25 四"]),
        (
            {"reco2file_and_channel": "r1 sw A\nr2 sw B\n"},
            ["sw A 1.1 0.3 一", "sw A 1.5 0.25 二", "sw 1 2.0 0.5 三", "sw 2 1.75 0.25 四"],
        ),
        (
            {"segments": "u1 r 1 2 0\nu2 r 2 -1 0\nu3 r 1.5 2.5 1\n"},
            ["r 1 1.1 0.3 一", "r 1 1.5 0.25 二", "r 1 2.0 0.5 三", "r 2 1.75 0.25 四"],
        ),
        ({}, ["u1 1 0.1 0.3 一", "u1 1 0.5 0.25 二", "u2 1 0 0.5 三", "r2 1 1.75 0.25 四"]),
    ],
)
def test_a_ctm_of_recordings_is_shared_out(tmp_path, tables, lines):
    """By segments, and by the names and channels that Kaldi's get_ctm gives to recordings."""
    for name, text in ({"segments": SEGMENTS} | tables).items():
        (tmp_path / name).write_text(text)
    path = write(
        tmp_path, ";; times of recordings\n" + "\n".join([*lines, "r1 1 0.2 0.1 外"]) + "\n"
    )
    assert path.is_file()
    assert read_times(tmp_path, ["u1", "u2", "u3"]) == near(WORDS)


def test_our_own_ctm_of_segments_is_read_as_it_was_written(tmp_path):
    (tmp_path / "segments").write_text(SEGMENTS)
    files = TimedFolder(tmp_path, "ctm", origins=Origins([tmp_path], True))
    starts = {"u1": ("r1", 1000), "u2": ("r1", 2000), "u3": ("r2", 1500)}
    for key, words in WORDS.items():
        recording, start = starts[key]
        spans = [{"text": w, "start": round(1000 * a), "end": round(1000 * b)} for a, b, w in words]
        text = {"text": "".join(w for *_, w in words), "audio_seconds": 1.0}
        files.add({"key": key, "recording": recording, "start": start, "words": spans, **text})
    files.close()
    assert read_times(tmp_path, WORDS.keys()) == near(WORDS)


def test_a_ctm_of_another_directory_is_refused(tmp_path, caplog):
    write(tmp_path, "x 1 0 1 一\ny 1 0 1 二\n")
    with pytest.raises(
        DataError, match="ctm: 'x 1' and 1 more are of no utterance and no recording"
    ):
        read_times(tmp_path, ["u1"])
    write(tmp_path, "x 1 0 1 一\nu1 1 0 1 二\n")
    assert read_times(tmp_path, ["u1"]) == {"u1": [(0.0, 1.0, "二")]}
    assert "'x 1' is of no utterance and no recording here" in caplog.text
    (tmp_path / "segments").write_text("u1 r1 5 6\n")
    write(tmp_path, "r1 1 0 1 一\n")
    assert read_times(tmp_path, ["u1"]) == {}
    assert "none of its words lies in an utterance" in caplog.text


def test_words_that_are_not_the_text_are_counted(tmp_path, caplog):
    data = tiny.write_data(tmp_path / "data", count=3)
    utterances, _ = read_utterances(data, tiny.release().tokenizer.encode, 6)
    write(data, "".join(f"{u.key} 1 0 0.1 好\n" for u in utterances))
    found, _ = read_utterances(data, tiny.release().tokenizer.encode, 6)
    assert not any(u.words for u in found)
    first = utterances[0].key
    assert f"the words of 3 utterances are not their text, first '{first}'" in caplog.text


def encode(text):
    return [ord(char) for char in text]


def test_words_that_are_not_the_text_are_left_out():
    table = {"a": [(0.0, 0.5, "一二"), (0.5, 0.9, "三")]}
    assert timed_words(table, "a", encode("一二三"), encode) == [
        TimedWord(0.0, 0.5, 2),
        TimedWord(0.5, 0.9, 1),
    ]
    assert timed_words(table, "a", encode("一二"), encode) == []
    assert timed_words(table, "b", encode("一二三"), encode) == []


def test_a_part_without_times_is_counted_over():
    known = [TimedWord(0.1, 0.4, 2)]
    marks = marks_of([(0.0, 2, known), (1.0, 3, []), (2.0, 2, known)])
    assert marks == [Mark(0.1, 1), Mark(2.1, 6), Mark(2.4, 8)]
    assert marks_of([(0.0, 2, known), (1.0, 3, [])]) == [Mark(0.1, 1)]  # its end is not known


def test_marks_stand_where_the_joined_features_put_them(tmp_path):
    data = tiny.write_data(tmp_path / "data", count=6, speakers=1)
    release = tiny.release()
    utterances, _ = read_utterances(data, release.tokenizer.encode, 6)
    write(data, "".join(f"{u.key} 1 0.05 0.3 {text_of(data, u.key)}\n" for u in utterances))
    timed, _ = read_utterances(data, release.tokenizer.encode, 6)
    assert all(len(u.words) == 1 for u in timed)
    batching = Batching(join_probability=1.0, join_max=3, join_frames=2000, gap=(5, 9))
    loader = Loader(timed, release.frontend, batching, seed=3)
    (plan,) = [loader.plan(1)[0]]
    batch = loader.collate(plan, (0, 1, 0))
    for example, marks in zip(plan, batch.marks, strict=True):
        begin, begun, expected = 0.0, 0, []
        for gap, part in zip(example.gaps, example.parts, strict=False):
            begin += gap / 100
            expected.append((begin + 0.05, begun + 1))
            last = (begin + 0.35, begun + len(timed[part].ids) + 1)
            begin, begun = begin + timed[part].frames / 100, begun + len(timed[part].ids)
        found = [tuple(mark) for mark in marks.tolist() if mark[1] > 0]
        assert found == [pytest.approx(mark, abs=1e-4) for mark in [*expected, last]]


def text_of(data, key):
    lines = (data / "text").read_text(encoding="utf8").splitlines()
    return next(line.split(" ", 1)[1].replace(" ", "") for line in lines if line.startswith(key))
