"""Results of segments are files and tables of whole recordings, which sclite and players take."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile
from omegaconf import OmegaConf

from paraformer import AutoModel
from paraformer.api.auto import stream_pending
from paraformer.api.workers import stream_shared
from paraformer.cli.main import main
from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.origins import Origins
from paraformer.errors import DataError
from paraformer.output.timed_folder import TimedFolder
from paraformer.programs.align import align
from paraformer.programs.decode import decode
from paraformer.programs.decode_streaming import decode_streaming
from paraformer.programs.make_fbank import make_fbank
from tests.conftest import ROOT
from tests.unit.output.test_timed_formats import read_subtitles, read_textgrid

SCLITE = shutil.which("sclite") or "/usr/lib/sctk/bin/sclite"
needs_sclite = pytest.mark.skipif(
    not Path(SCLITE).is_file(), reason="sclite is not here (Debian: sctk)"
)
ORACLE = ROOT / "tests" / "fixtures" / "oracle"
QUIET = {"device": "cpu", "disable_pbar": True}


def result(key, start_ms, words, recording="call", **more):
    """A result of a segment: (word, start, end) in ms from where it begins."""
    fields = [{"text": w, "start": a, "end": b, "confidence": 0.5} for w, a, b in words]
    text = " ".join(w for w, _, _ in words)
    place = {"recording": recording, "start": start_ms, **more}
    return {"key": key, **place, "text": text, "words": fields, "audio_seconds": 9.0}


def written(folder, output_format, results, tables=(), **settings):
    for name, text in dict(tables).items():
        (folder / name).write_text(text, encoding="utf-8")
    origins = Origins([folder], segmented=True)
    files = TimedFolder(folder / "out", output_format, origins=origins, **settings)
    for one in results:
        files.add(one)
    files.close()
    return folder / "out"


OVERLAPPING = [
    result("b", 61_000, [("three", 0, 400), ("four", 500, 900)]),
    result("a", 1_250, [("one", 10, 300), ("two", 700, 1000)]),
    result("c", 1_500, [("yes", 0, 300)]),
    result("d", 0, [("other", 100, 200)], recording="apart"),
    {"key": "e", "recording": "call", "start": 5, "text": "", "audio_seconds": 0.0, "error": "no"},
]
MAPPED = {"reco2file_and_channel": "apart sw02 B\ncall sw01 A\n", "utt2spk": "a anna\nb bo\n"}


def test_a_ctm_has_recordings_and_their_times(tmp_path):
    """What Kaldi's convert_ctm.pl makes of segments and reco2file_and_channel, to the ms."""
    rows = (written(tmp_path, "ctm", OVERLAPPING) / "ctm").read_text().splitlines()
    assert rows == [
        "apart 1 0.100 0.100 other 0.5000",
        "call 1 1.260 0.290 one 0.5000",
        "call 1 1.500 0.300 yes 0.5000",
        "call 1 1.950 0.300 two 0.5000",
        "call 1 61.000 0.400 three 0.5000",
        "call 1 61.500 0.400 four 0.5000",
    ]
    mapped = (written(tmp_path, "ctm", OVERLAPPING, MAPPED) / "ctm").read_text()
    assert mapped.splitlines()[:2] == [
        "sw01 A 1.260 0.290 one 0.5000",
        "sw01 A 1.500 0.300 yes 0.5000",
    ]
    assert mapped.splitlines()[-1] == "sw02 B 0.100 0.100 other 0.5000"


def test_an_stm_has_speakers_where_they_are_known(tmp_path):
    rows = (written(tmp_path, "stm", OVERLAPPING, MAPPED) / "stm").read_text().splitlines()
    assert rows == [
        "sw01 A anna 1.260 2.250 one two",
        "sw01 A sw01 1.500 1.800 yes",
        "sw01 A bo 61.000 61.900 three four",
        "sw02 B sw02 0.100 0.200 other",
    ]


def test_channels_of_a_recording_are_told_apart(tmp_path):
    """By the fifth column of segments, from 0; in NIST's tables from 1, or from the table's own."""
    sides = [
        result("a", 0, [("left", 0, 500)], channel=0),
        result("b", 200, [("right", 0, 500)], channel=1),
    ]
    rows = (written(tmp_path, "ctm", sides) / "ctm").read_text().splitlines()
    assert [row.split()[:3] for row in rows] == [["call", "1", "0.000"], ["call", "2", "0.200"]]
    table = {"reco2file_and_channel": "call sw01 A\n"}
    rows = (written(tmp_path, "ctm", sides, table) / "ctm").read_text().splitlines()
    assert [row.split()[:2] for row in rows] == [["sw01", "A"], ["sw01", "B"]]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_are_one_file_a_recording(tmp_path, kind):
    out = written(tmp_path, kind, OVERLAPPING)
    names = {path.name for path in out.iterdir()}
    assert names == {f"call.{kind}", f"apart.{kind}", "results.jsonl"}
    assert read_subtitles((out / f"call.{kind}").read_text(), kind) == [
        ("one two", 1260, 2250),
        ("yes", 1500, 1800),
        ("three four", 61_000, 61_900),
    ]


def test_tables_of_lines_count_from_the_recording(tmp_path):
    out = written(tmp_path, "tsv", OVERLAPPING)
    rows = (out / "call.tsv").read_text().splitlines()
    assert rows[1:] == ["1260\t2250\tone two", "1500\t1800\tyes", "61000\t61900\tthree four"]
    out = written(tmp_path, "lrc", OVERLAPPING)
    assert "[01:01.00]three four\n[01:01.90]\n" in (out / "call.lrc").read_text()


def test_what_overlaps_has_a_tier_of_its_own(tmp_path):
    pytest.importorskip("praatio", reason="the extra subtitles is not installed")
    out = written(tmp_path, "textgrid", OVERLAPPING)
    end, tiers = read_textgrid((out / "call.TextGrid").read_text(), tmp_path / "g")
    assert end == 70_000  # 61 s, and 9 s of audio from there
    assert tiers["lines"] == [("one two", 1260, 2250), ("three four", 61_000, 61_900)]
    assert (tiers["words_2"], tiers["lines_2"]) == ([("yes", 1500, 1800)],) * 2


def test_a_table_that_is_none_is_refused_before_any_work(tmp_path):
    (tmp_path / "reco2file_and_channel").write_text("call sw01\n")
    with pytest.raises(DataError, match="'call': not of the form: recording file channel"):
        TimedFolder(tmp_path / "out", "ctm", origins=Origins([tmp_path], True))


def test_a_recording_that_the_table_lacks_keeps_its_name(tmp_path, caplog):
    table = {"reco2file_and_channel": "apart sw02 B\n"}
    rows = (written(tmp_path, "ctm", OVERLAPPING, table) / "ctm").read_text().splitlines()
    assert rows[0].startswith("call 1 ") and rows[-1].startswith("sw02 B ")
    assert caplog.text.count("lacks recording 'call'") == 1


# sclite


def score(folder, reference, hypothesis):
    """Correct, substituted, deleted, inserted words of all, by sclite."""
    command = [SCLITE, "-r", str(reference), "stm", "-h", str(hypothesis), "ctm", "-o", "pra"]
    done = subprocess.run(
        [*command, "stdout"], capture_output=True, text=True, check=True, cwd=folder
    )
    assert "do not match" not in done.stdout + done.stderr
    counts = re.findall(r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    return [sum(map(int, column)) for column in zip(*counts, strict=True)]


@needs_sclite
@pytest.mark.parametrize("mapped", [False, True])
def test_sclite_counts_the_errors_that_were_made(tmp_path, mapped):
    """Segments of 6 recordings in any order, each word right, wrong, left out or put in."""
    draw = random.Random(7)
    expected, results, reference, files = [0, 0, 0, 0], [], [], []
    for number in range(6):
        recording, channel = f"r{number}", "AB"[number % 2] if mapped else "1"
        file = f"f{number // 2}" if mapped else recording
        files.append(f"{recording} {file} {channel}\n")
        for part in range(5):
            start, said, heard = 1000 * (20 * part) + draw.randrange(999), [], []
            for place in range(8):
                # Right ones between, for sclite counts a word too many and one too few as one.
                kind = draw.choice([0, 1, 2, 3]) if place % 2 else 0
                expected[kind] += 1
                span = (1000 * place + 100, 1000 * place + 600)
                said += [f"w{place}"] if kind != 3 else []
                heard += {0: [(f"w{place}", *span)], 1: [(f"x{place}", *span)], 2: []}.get(
                    kind, [(f"y{place}", *span)]
                )
            begin, end = (start - 10) / 1000, (start + 8000) / 1000
            row = f"{file} {channel} spk {begin:.3f} {end:.3f} {' '.join(said)}\n"
            reference.append((file, channel, begin, row))
            results.append(result(f"{recording}-{part}", start, heard, recording=recording))
    draw.shuffle(results)
    (tmp_path / "ref.stm").write_text("".join(row for *_, row in sorted(reference)))
    tables = {"reco2file_and_channel": "".join(files)} if mapped else {}
    out = written(tmp_path, "ctm", results, tables)
    assert score(tmp_path, tmp_path / "ref.stm", out / "ctm") == expected
    # Our own stm is a reference too, from which nothing differs.
    written(tmp_path, "stm", results, tables)
    words = sum(len(one["words"]) for one in results)
    assert score(tmp_path, out / "stm", out / "ctm") == [words, 0, 0, 0]


@needs_sclite
def test_a_word_in_brackets_is_no_label_of_an_stm(tmp_path):
    odd = [result("a", 0, [("<unk>", 0, 400), ("yes", 500, 900)])]
    out = written(tmp_path, "stm", odd)
    assert (out / "stm").read_text() == "call 1 call 0.000 0.900 <o> <unk> yes\n"
    written(tmp_path, "ctm", odd)
    assert score(tmp_path, out / "stm", out / "ctm") == [2, 0, 0, 0]


# Every road to it


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two recordings of clips behind one another, in five segments; f has not been recorded."""
    folder = tmp_path_factory.mktemp("data")
    clips = {name: read_audio(ORACLE / "inputs" / f"clip_{name}.flac") for name in "abc"}
    segments, texts = {}, {}
    rows = {"r2": "ab", "r1": "cba"}
    for recording, names in rows.items():
        at, waves = 0, []
        for place, name in enumerate(names):
            waves.append(clips[name].numpy())
            times = f"{at / 16000:.3f} {(at + len(waves[-1])) / 16000:.3f}"
            segments[f"{name}{place}-{recording}"] = f"{recording} {times}"
            texts[f"{name}{place}-{recording}"] = "一二"
            at += len(waves[-1])
        joined = [sample for wave in waves for sample in wave]
        soundfile.write(folder / f"{recording}.wav", joined, 16000, subtype="PCM_16")
    wavs = {recording: folder / f"{recording}.wav" for recording in rows}
    segments["f-lost"] = "r1 900 901"
    speakers = {key: key[0] for key in segments}
    tables = {"wav.scp": wavs, "segments": segments, "utt2spk": speakers, "text": texts}
    files = {"r1": "sw1 A", "r2": "sw1 B"}
    for name, table in {**tables, "reco2file_and_channel": files}.items():
        lines = "".join(f"{key} {table[key]}\n" for key in sorted(table))
        (folder / name).write_text(lines, encoding="utf-8")
    return folder


MODEL = str(ORACLE / "bicif")


def starts(data):
    """Utterance to file, channel and start in ms."""
    rows = [line.split() for line in (data / "segments").read_text().splitlines()]
    channels = {"r1": "A", "r2": "B"}
    return {key: ("sw1", channels[r], round(1000 * float(begin))) for key, r, begin, _ in rows}


def expected_ctm(data, found):
    """Rows of words that count from their segments, moved by arithmetic."""
    rows = []
    for one in found:
        if one["key"] in starts(data):
            file, channel, begin = starts(data)[one["key"]]
            for word in one.get("words", ()):
                length = (word["end"] - word["start"]) / 1000
                at = begin + word["start"]
                row = f"{file} {channel} {at / 1000:.3f} {length:.3f} {word['text']}"
                rows.append((channel, at, f"{row} {word['confidence']:.4f}"))
    return [row for *_, row in sorted(rows, key=lambda row: row[:2])]


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "results.jsonl"
    }


@pytest.fixture(scope="module")
def model():
    return AutoModel(MODEL, **QUIET)


def test_funasr_writes_recordings(model, data, tmp_path, capsys):
    options = {"output_dir": str(tmp_path / "out"), "output_format": "ctm"}
    found = model.generate(str(data), **options)
    assert [one["key"] for one in found if "error" in one] == ["f-lost"]
    assert {(one["recording"], one["start"]) for one in found} >= {("r1", 0), ("r2", 0)}
    rows = (tmp_path / "out" / "ctm").read_text("utf-8").splitlines()
    assert rows == expected_ctm(data, found) and len(rows) > 10
    # On stdout too, and for a list.
    arguments = [f"+model={MODEL}", "+device=cpu", "+output_format=ctm", "+min_success=0.5"]
    assert main([*arguments, f"+input={data / 'wav.scp'}"]) == 0
    assert capsys.readouterr().out.splitlines() == rows


@pytest.mark.parametrize("output_format", ["stm", "tsv"])
def test_stopped_and_shared_runs_write_the_same(model, data, tmp_path, output_format):
    options = {"output_format": output_format, "batch_size": 1}
    model.generate(str(data), output_dir=str(tmp_path / "whole"), **options)
    whole = content(tmp_path / "whole")
    assert whole.keys() >= ({"stm"} if output_format == "stm" else {"r1.tsv", "r2.tsv"})
    settings = {**QUIET, **options, "output_dir": str(tmp_path / "out")}
    stopped = model.stream(str(data), output_dir=str(tmp_path / "out"), **options)
    assert next(stopped)["key"] == "a0-r2"
    stopped.close()
    assert content(tmp_path / "out") != whole
    with (tmp_path / "out" / "results.jsonl").open("a") as file:
        file.write('{"key": "b0-')
    rest = list(stream_pending(str(data), MODEL, {**settings, "resume": True}))
    assert len(rest) == 5
    assert content(tmp_path / "out") == whole
    if output_format == "stm":
        settings["output_dir"] = str(tmp_path / "shared")
        list(stream_shared(str(data), 1, MODEL, settings, {}))
        assert content(tmp_path / "shared") == whole


def configured(program, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / f"{program}.yaml")
    given = {
        key: str(value) if isinstance(value, Path) else value for key, value in settings.items()
    }
    return OmegaConf.merge(config, {"device": "cpu", "min_success": 0.5, **given})


def test_decode_writes_recordings_from_audio_and_from_features(data, tmp_path):
    settings = {"model": MODEL, "data": data, "output_format": "ctm"}
    assert decode(configured("decode", out=tmp_path / "out", **settings)) == 0
    found = [json.loads(row) for row in (tmp_path / "out" / "results.jsonl").open(encoding="utf-8")]
    rows = (tmp_path / "out" / "ctm").read_text("utf-8").splitlines()
    assert rows == expected_ctm(data, found) and len(rows) > 10
    copy = shutil.copytree(data, tmp_path / "data")
    fbank = OmegaConf.load(ROOT / "paraformer" / "conf" / "fbank.yaml")
    where = {"data": str(copy), "out": str(copy / "fbank"), "name": "x", "min_success": 0.5}
    assert make_fbank(OmegaConf.merge(fbank, where)) == 0
    shutil.move(copy / "fbank" / "x.scp", copy / "feats.scp")
    settings["data"] = copy
    assert decode(configured("decode", out=tmp_path / "feats", **settings)) == 0
    stored = (tmp_path / "feats" / "ctm").read_text("utf-8").splitlines()
    assert [row.split()[:2] for row in stored] == [row.split()[:2] for row in rows]
    assert decode(configured("decode", out=tmp_path / "out", resume=True, **settings)) == 0
    assert (tmp_path / "out" / "ctm").read_text("utf-8").splitlines() == rows


def test_an_aligner_writes_recordings(data, tmp_path):
    settings = {"model": ORACLE / "fa-zh", "data": data, "out": tmp_path / "out"}
    assert align(configured("align", **settings)) == 0
    rows = [row.split() for row in (tmp_path / "out" / "ctm").read_text("utf-8").splitlines()]
    assert [row[4] for row in rows] == ["一", "二"] * 5
    assert [row[:2] for row in rows] == [["sw1", "A"]] * 6 + [["sw1", "B"]] * 4
    intervals = [row.split() for row in (tmp_path / "out" / "intervals").open(encoding="utf-8")]
    spoken = {(k, w): round(1000 * float(start)) for k, start, _, w in intervals}
    begins = starts(data)
    moved = [(begins[k][1], begins[k][2] + spoken[k, w]) for k, w in spoken if w != "<sil>"]
    assert sorted(moved) == [(row[1], round(1000 * float(row[2]))) for row in rows]


def test_streams_write_recordings(data, tmp_path):
    settings = {"model": ORACLE / "paraformer-streaming", "data": data, "out": tmp_path / "out"}
    assert decode_streaming(configured("decode_streaming", streams=3, **settings)) == 0
    found = [json.loads(row) for row in (tmp_path / "out" / "results.jsonl").open(encoding="utf-8")]
    rows = (tmp_path / "out" / "ctm").read_text("utf-8").splitlines()
    assert rows == expected_ctm(data, found) and rows
    (tmp_path / "out" / "ctm").unlink()
    assert decode_streaming(configured("decode_streaming", resume=True, **settings)) == 0
    assert (tmp_path / "out" / "ctm").read_text("utf-8").splitlines() == rows
