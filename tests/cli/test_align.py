"""funasr-align: tables of word times as the reference's, failures reported and counted."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from paraformer.data.corpus.tables import read_rows
from paraformer.decode.align import Alignment
from paraformer.decode.timestamps import SILENCE, Span
from paraformer.errors import ConfigError, DataError
from paraformer.output.result import tile
from paraformer.programs.align import align
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
MODEL = FIXTURES / "oracle" / "fa-zh"
FACTS = json.loads((MODEL / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def data(tmp_path):
    """The three clips, a file that is not there, and a recording without text."""
    folder = tmp_path / "data"
    folder.mkdir()
    wavs = {key: FIXTURES / path for key, path in FACTS["wavs"].items()}
    texts = {key: FACTS["utt"][key]["text"] for key in wavs}
    wavs |= {"lost": "missing.wav", "mute": wavs["clip_a"]}
    for name, table in (("wav.scp", wavs), ("text", {**texts, "lost": "你好"})):
        lines = "".join(f"{key} {value}\n" for key, value in sorted(table.items()))
        (folder / name).write_text(lines, "utf-8")
    return folder


def run(data, out, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "align.yaml")
    given = {"model": str(MODEL), "data": str(data), "out": str(out), "device": "cpu"}
    return align(OmegaConf.merge(config, {"min_success": 0.6, **given, **settings}))


def words_of(out, key):
    """[start, end] in ms of the words of an utterance in the ctm."""
    rows = [row.value.split() for row in read_rows(out / "ctm") if row.key == key]
    return [
        [round(1000 * float(start)), round(1000 * (float(start) + float(size)))]
        for _, start, size, _ in rows
    ]


def test_times_are_those_of_the_reference(data, tmp_path):
    """Of words of one token, which are the reference's too; none ends behind its recording."""
    out = tmp_path / "out"
    assert run(data, out) == 0
    (expected,) = FACTS["utt"]["clip_a"]["result"]
    for ours, theirs in zip(words_of(out, "clip_a"), expected["timestamp"], strict=True):
        assert abs(ours[0] - theirs[0]) <= 1
        assert abs(ours[1] - min(theirs[1], 1860)) <= 60
    rows = [row.value.split()[-1] for row in read_rows(out / "ctm") if row.key == "clip_a"]
    assert " ".join(rows) == expected["text"]


def test_intervals_are_without_gaps(data, tmp_path):
    out = tmp_path / "out"
    run(data, out)
    for key in FACTS["wavs"]:
        rows = [row.value.split() for row in read_rows(out / "intervals") if row.key == key]
        assert rows[0][0] == "0.000"
        assert all(before[1] == after[0] for before, after in zip(rows, rows[1:], strict=False))
        spoken = [row[2] for row in rows if row[2] != SILENCE]
        assert "".join(spoken) == FACTS["utt"][key]["text"].replace(" ", "")
    stats = json.loads((out / "stats.json").read_text("utf-8"))
    assert (stats["utterances"], stats["aligned"]) == (5, 3)


def test_a_run_that_was_stopped_goes_on(data, tmp_path):
    """What is finished is not read again, and all tables end up as those of one run."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(data, whole) == 0
    shutil.copytree(whole, parts)
    for name, lines in {"utt2dur": 1, "ctm": -1, "intervals": -2, "failed": 2}.items():
        kept = (parts / name).read_text("utf-8").splitlines(keepends=True)[:lines]
        (parts / name).write_text("".join(kept) + "clip_b 1 0.", "utf-8")
    (first,) = [row.key for row in read_rows(parts / "utt2dur")][:1]
    table = (data / "wav.scp").read_text("utf-8").splitlines()
    table = [f"{first} gone.wav" if line.startswith(first) else line for line in table]
    (data / "wav.scp").write_text("\n".join(table), "utf-8")
    with pytest.raises(ConfigError, match=r"made otherwise \(dtype was .*, is \"bf16\""):
        run(data, parts, resume=True, dtype="bf16")
    assert run(data, parts, resume=True) == 0
    for name in ("ctm", "intervals", "utt2dur", "failed"):
        assert (parts / name).read_text("utf-8") == (whole / name).read_text("utf-8"), name
    stats = json.loads((parts / "stats.json").read_text("utf-8"))
    assert (stats["utterances"], stats["aligned"]) == (5, 3)


def test_failures_are_named_and_counted(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert run(data, tmp_path / "out", min_success=0.95) == 1
    assert [row.key for row in read_rows(tmp_path / "out" / "failed")] == ["lost", "mute"]
    assert "aligned 3 of 5 utterances" in caplog.text
    assert "utterance 'mute': no text of this id" in caplog.text


def test_two_lists(data, tmp_path):
    texts = (data / "text").rename(tmp_path / "other.txt")
    assert run(data / "wav.scp", tmp_path / "out", text=str(texts)) == 0
    with pytest.raises(DataError, match="text: no such file"):
        run(data / "wav.scp", tmp_path / "out2")


def test_the_data_is_not_written_over(data):
    with pytest.raises(ConfigError, match="is the data directory"):
        run(data, data)


def test_batches_change_nothing(data, tmp_path):
    run(data, tmp_path / "one", batch_size=1)
    run(data, tmp_path / "all")
    for name in ("ctm", "intervals"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "all" / name).read_text()


def test_tiles_end_with_the_recording():
    spans = [Span("a", 0.1, 0.3), Span(SILENCE, 0.3, 0.5), Span("b", 0.5, 1.02)]
    assert tile(Alignment([], [], spans, [], []), 1.0) == [
        Span(SILENCE, 0.0, 0.1),
        Span("a", 0.1, 0.3),
        Span(SILENCE, 0.3, 0.5),
        Span("b", 0.5, 1.0),
    ]


@pytest.mark.cli
def test_the_program(data, tmp_path):
    command = [sys.executable, str(ROOT / "bin" / "align.py"), f"model={MODEL}", f"data={data}"]
    done = subprocess.run(
        [*command, f"out={tmp_path / 'out'}", "min_success=0.5", "num_threads=1"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "aligned 3 of 5 utterances, 51 words" in done.stderr
    assert done.stdout == ""
