"""The bench: its table and JSON from made-up answers, its drivers of ours with tiny models.

What it measures is not looked at: the clock is for `make bench`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from paraformer import AutoModel
from paraformer.models.release import build, load_directory
from tests.bench import measure, offline, peers, report, run, service, streaming, vad
from tests.bench.contests import CONTESTS, contests
from tests.bench.corpus import make_corpus
from tests.bench.engines import EngineError, Once, driver
from tests.bench.large import SIZES, configuration, make
from tests.conftest import ROOT

TINY = SIZES["tiny"]
VAD = ROOT / "tests/fixtures/oracle/fsmn_vad"
# A driver in eight lines: answers with what it was asked, and dies when it is asked to.
PROGRAM = """
import json, sys
print(json.dumps({"task": "load"}), flush=True)
for line in sys.stdin:
    if line.strip() == "die":
        print("much", "more", file=sys.stderr)
        sys.exit("out of luck")
    print(json.dumps({"task": line.strip(), "argv": sys.argv[1:]}), flush=True)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("offline", "streaming"):
        make(folder / kind, kind, TINY)
    return folder


def options(model: Path, engine: str = "ours", seconds: float = 3.0) -> argparse.Namespace:
    given = {"engine": engine, "model": model, "seconds": seconds, "threads": 1}
    return argparse.Namespace(**given, clips=[], data=None)


# What is measured, and how


def test_speech_is_the_clips_over_and_over():
    with wave.open(str(measure.CLIPS[0])) as clip:
        first = np.frombuffer(clip.readframes(clip.getnframes()), "<i2") / 32768
    loop = measure.speech(100.0)
    assert loop.dtype == np.float32
    assert len(loop) == 1_600_000
    assert np.array_equal(loop[: len(first)], first.astype(np.float32))
    period = 45400 + 60400 + 57600 + 56250 + 65136  # samples of the five clips
    assert np.array_equal(loop[:period], loop[period : 2 * period])
    assert np.array_equal(measure.speech(2.0, start=1.5), loop[24000:56000])


def test_others_are_all_that_is_not_ours(monkeypatch: pytest.MonkeyPatch):
    """In two seconds all processors worked 3 s, ours 1 s of that: others used half of one."""
    tick = os.sysconf("SC_CLK_TCK")
    ticks = iter([(50 * tick, 7 * tick), (53 * tick, 8 * tick), (0, 0)])
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(measure.Meter, "_ticks", lambda self: next(ticks))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    with measure.Meter() as meter:
        pass
    assert (meter.wall_s, meter.cpu_s, meter.others) == (2.0, 1.0, 1.0)


def test_without_proc_the_load_is_unknown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure.Meter, "_ticks", lambda self: None)
    with measure.Meter() as meter:
        pass
    assert meter.facts()["others"] is None


# Models


@pytest.mark.parametrize("kind", ["offline", "streaming"])
def test_the_large_models_have_the_released_size(kind: str):
    """220 million: the weights of the released files take 880 MB at 4 bytes each."""
    with torch.device("meta"):
        model = build(configuration(kind, SIZES["large"])).model
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 220


def test_models_are_seeded_and_made_once(tmp_path: Path):
    folder = make(tmp_path / "a", "offline", TINY, seed=3)
    weights = folder / "model.pt"
    written = weights.stat().st_mtime_ns
    make(folder, "offline", TINY, seed=3)
    assert weights.stat().st_mtime_ns == written
    first = load_directory(folder).model.state_dict()
    second = load_directory(make(tmp_path / "b", "offline", TINY, seed=3)).model.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    other = load_directory(make(folder, "offline", TINY, seed=4)).model.state_dict()
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_about_four_tokens_a_second(models: Path):
    result = AutoModel(model=models / "offline").generate(input=measure.speech(30.0))
    assert 3.5 * 30 < len(result[0]["tokens"]) < 4.5 * 30


def test_half_a_model_is_made_again(tmp_path: Path):
    folder = make(tmp_path / "a", "offline", TINY)
    (folder / "made.json").unlink()
    (folder / "model.pt").write_bytes(b"")
    load_directory(make(folder, "offline", TINY))


# Drivers of ours


def test_offline_says_what_auto_model_says(models: Path):
    run_task = offline.load(options(models / "offline"))
    parts = np.array_split(measure.speech(3.0), 3)
    model = AutoModel(model=models / "offline")
    expected = [model.generate(input=part)[0]["text"] for part in parts]
    for task in ("3/1", "3/3"):
        answer = run_task(task)
        assert answer["texts"] == expected
        assert math.isclose(answer["rtf"], answer["wall_s"] / 3.0, abs_tol=1e-4)


def test_formats_are_ours_with_another_number_format(models: Path, monkeypatch):
    asked = []
    monkeypatch.setattr("paraformer.AutoModel", lambda **options: asked.append(options))
    for engine in measure.OURS:
        measure.auto_model(options(models / "offline", engine))
    assert [each.get("dtype") for each in asked] == [None, "bf16", "int8", None, None, None]
    rows = contests(run.parse(["--tasks", "formats"]), ["funasr"])
    assert {(row.program, row.rival) for row in rows} == {("offline", "ours, bf16")}
    assert {row.metric for row in rows} == {"rtf", "peak_mb"}


def test_streams_in_a_batch_say_what_each_says_alone(models: Path):
    run_task = streaming.load(options(models / "streaming"))
    alone, together = run_task("3/1"), run_task("3/3")
    assert together["texts"] == alone["texts"]
    assert all(alone["texts"])
    assert len(set(alone["texts"])) == 3  # each stream has its own place in the clips
    assert run_task("1/1")["texts"] == alone["texts"][:1]
    for metric in ("chunk_ms_mean", "chunk_ms_p50", "chunk_ms_p99", "rtf"):
        assert alone[metric] > 0
    assert alone["chunk_ms_p50"] <= alone["chunk_ms_p99"]


def test_an_engine_without_batches_is_not_asked_for_one():
    with pytest.raises(ValueError, match="funasr cannot step 8 of 8"):
        streaming.open_streams("funasr", None, "8/8")


def test_vad_finds_segments_of_the_recording():
    spans = vad.load(options(VAD, seconds=20.0))("all")["spans"]
    assert spans
    assert all(0 <= start < end <= 20_000 for start, end in spans)


def test_requests_of_eight_threads_to_one_model_get_what_each_alone_gets():
    """Seven sets of options, one of which would change the results of the others."""
    names = {"vad_model": "fsmn-vad-mini", "punc_model": "ct-punc-mini"}
    serving = service.Service({"model": "paraformer-zh-mini", **names}, lengths=(0.4, 3.0))
    said = {str(serving.expected[r]) for r in serving.requests if r.audio == 1}
    assert len(said) >= 4
    requests = list(service.drawn(serving, 40, 0.0, seed=0))
    facts = service.serve(serving, requests, threads=8)
    assert (facts["requests"], facts["different"]) == (40, 0)
    broken = service.Request(1, 0)
    serving.expected[broken] = []
    assert serving.differs(broken)


def test_hours_of_requests_are_drawn_by_their_audio():
    serving = argparse.Namespace(requests=[1.5], seconds=float)
    assert list(service.drawn(serving, 1, 0.002, seed=0)) == [1.5] * 5


def test_a_file_written_for_a_peer_is_read_back_equal(tmp_path: Path):
    samples = measure.speech(1.0)
    offline.write_wav(str(tmp_path / "a.wav"), samples)
    assert np.array_equal(measure.speech(1.0, [tmp_path / "a.wav"]), samples)


@pytest.mark.parametrize(
    ("conf", "width"), [(None, 560), (ROOT / "egs/aishell/s0/conf/train_tiny_conformer.yaml", 80)]
)
def test_the_corpus_can_be_trained_on(tmp_path: Path, conf: Path | None, width: int):
    from tests.bench import train

    data, lang = make_corpus(tmp_path, count=1)
    cmvn = None if conf else data / "am.mvn"
    release = build(train.configuration(lang, cmvn, conf))
    args = argparse.Namespace(data=data, seed=1, max_frames=1000)
    batch = next(train.batches(args, release))
    assert batch.keys == ["u000"]
    assert batch.feats.shape[2] == width
    assert torch.isfinite(train.our_step(release)(batch))
    # Four tokens in each second of 100 frames, all of them known.
    assert int((batch.text == release.tokenizer.unk_id).sum()) == 0
    assert int(batch.text_lengths.sum()) == pytest.approx(4 * batch.seconds, abs=1)


# Processes


def test_a_driver_answers_line_by_line(tmp_path: Path):
    (tmp_path / "p.py").write_text(PROGRAM)
    with driver([sys.executable, str(tmp_path / "p.py")], threads=3) as engine:
        assert engine.loaded == {"task": "load"}
        answer = {"task": "7/1", "argv": ["--threads", "3", "--tasks", "-"]}
        assert engine.ask("7/1") == answer
        assert engine.ask("1/1")["task"] == "1/1"


def test_a_program_is_started_with_the_options_of_its_task():
    code = "import json, sys; print(json.dumps({'options': sys.argv[1:]}))"
    once = Once([sys.executable, "-c", code, "--fast"], {"large": ["--size", "9"]})
    assert once.ask("large") == {"options": ["--fast", "--size", "9"]}
    assert once.ask("all") == {"options": ["--fast"]}


def test_a_driver_that_dies_says_why(tmp_path: Path):
    (tmp_path / "p.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "p.py")]
    with driver(command, 1) as engine, pytest.raises(EngineError, match="^out of luck$"):
        engine.ask("die")


def test_a_driver_that_does_not_start_says_why():
    command = [sys.executable, "-c", "import no_such_engine"]
    with pytest.raises(EngineError, match="No module named 'no_such_engine'"):
        driver(command, threads=1).__enter__()


def test_a_program_started_for_each_round():
    once = Once([sys.executable, "-c", "print('loading'); print('{\"a\": 1}')"])
    assert once.ask("all") == once.ask("all") == {"a": 1}
    with pytest.raises(EngineError, match="NameError"):
        Once([sys.executable, "-c", "nothing"]).ask("all")


# Peers


def test_without_a_peer_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(peers.VARIABLE, raising=False)
    monkeypatch.setattr(peers, "VENV", tmp_path / "none")
    peer = peers.find_peer(None)
    assert "PEER_INSTALL=true" in peer.lacks("funasr")
    missing = peers.find_peer(str(tmp_path / "python"))
    assert "does not run" in missing.lacks("funasr")


def test_a_python_without_the_engine_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(peers.VARIABLE, sys.executable)
    peer = peers.find_peer(None)
    assert peer.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert peer.lacks("sherpa-onnx") == f"{sys.executable} has no sherpa-onnx"
    assert not peer.lacks("torch")


def test_an_environment_that_cannot_be_made_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """No registry: pip is told to look nowhere."""
    monkeypatch.setattr(peers, "VENV", tmp_path / "file" / "venv")
    monkeypatch.delenv(peers.VARIABLE, raising=False)
    (tmp_path / "file").write_text("")
    peer = peers.find_peer(None, install=True)
    assert peer.python is None
    assert peer.reason.startswith("python")


def test_onnx_needs_the_maker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    peer = peers.Peer("python", {"funasr": "1.4.16", "onnx": "1"})
    monkeypatch.setattr(peers, "MAKER", tmp_path / "make_large.py")
    assert peers.make_onnx(peer, tmp_path, 0) == f"{tmp_path / 'make_large.py'} is not here"
    assert "has no onnx" in peers.make_onnx(peer._replace(versions={"funasr": "1"}), tmp_path, 0)
    for name in peers.ONNX_FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert peers.make_onnx(peer, tmp_path, 0) == ""


# Table and JSON

OURS = [
    {"rtf": 0.4, "cpu_s": 2.0, "others": 0.0, "texts": ["一二三"]},
    {"rtf": 0.2, "cpu_s": 4.0, "others": 0.5, "texts": ["一二三"]},
    {"rtf": 0.1, "cpu_s": 3.0, "others": 1.5, "texts": ["一二三"]},
]
THEIRS = [{"rtf": 0.25, "cpu_s": 2.0, "others": None, "texts": ["一 二 四", ""]}]
ANSWERS = {("offline", "ours", "7/1"): OURS, ("offline", "funasr", "7/1"): THEIRS}


def contest(target: float | None = 1.0) -> report.Contest:
    return report.Contest("7 parts", "offline", "7/1", "funasr", "7/1", "rtf", target)


def test_a_row_has_medians_and_their_ratio():
    row = report.compare(contest(), ANSWERS, {})
    assert (row.ours_value, row.peer_value, row.ratio) == (0.2, 0.25, 0.8)
    assert row.processor_ratio == 1.5
    assert row.others == (0.5, None)
    assert row.agreement == pytest.approx(2 / 3)
    assert row.met is True
    assert report.compare(contest(0.8), ANSWERS, {}).met is True
    assert report.compare(contest(0.7), ANSWERS, {}).met is False
    assert report.compare(contest(None), ANSWERS, {}).met is None


def test_a_percentile_has_no_processor_time():
    answers = {key: [{**a, "chunk_ms_p99": 9.0} for a in got] for key, got in ANSWERS.items()}
    row = report.compare(contest()._replace(metric="chunk_ms_p99"), answers, {})
    assert (row.ratio, row.processor_ratio) == (1.0, None)


def test_a_peer_that_is_not_here_is_a_row_with_the_reason():
    ours = {("offline", "ours", "7/1"): OURS}
    row = report.compare(contest(), ours, {("offline", "funasr"): "not installed"})
    assert (row.ours_value, row.ratio, row.met) == (0.2, None, None)
    assert row.skipped == "not installed"
    assert "| funasr skipped: not installed |" in report.table([row])


def test_the_table():
    rows = [
        report.compare(contest(), ANSWERS, {}),
        report.compare(contest(0.7), ANSWERS, {}),
    ]
    lines = report.table(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[0][:4] == ["task", "ours", "peer", "ratio"]
    assert cells[0][5] == "load of others"
    name = "7 parts: real-time factor"
    assert cells[2] == [name, "0.2", "funasr 0.25", "0.80", "1.50", "0.5", "1, met"]
    assert cells[3][-1] == "0.7, missed"
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4] == "7 parts, funasr: outputs agree to 66.7 %"
    assert lines[5].startswith("others used up to 0.5 processors")
    quiet = [row._replace(others=(0.0, None), agreement=1.0) for row in rows]
    assert len(report.table(quiet).splitlines()) == 4


def test_segments_agree_as_whole_segments():
    ours, theirs = {"spans": [[0, 5], [6, 9]]}, {"spans": [[0, 5], [6, 10]]}
    assert report.agreement(ours, theirs) == 0.5
    assert report.agreement({"rtf": 1.0}, {"rtf": 1.0}) is None


def test_every_contest_is_against_all_that_can_do_it():
    args = run.parse(["--tasks", "stream,streams", "--streams", "4"])
    rows = contests(args, ["funasr", "sherpa-onnx"])
    pairs = {(row.task, row.rival, row.rival_task) for row in rows}
    assert pairs == {
        ("1/1", "funasr", "1/1"),
        ("1/1", "sherpa-onnx", "1/1"),
        ("4/4", "funasr", "4/1"),
        ("4/4", "sherpa-onnx", "4/4"),
        ("4/4", "ours", "4/1"),
    }
    targets = {(row.rival, row.metric): row.target for row in rows if row.target}
    assert targets == {("funasr", "chunk_ms_mean"): 0.8, ("ours", "rtf"): 0.5}


@pytest.mark.parametrize("wrong", [["--tasks", "offline,none"], ["--rounds", "0"]])
def test_a_wrong_command_line_is_refused(wrong: list[str]):
    with pytest.raises(SystemExit):
        run.parse(wrong)


def test_all_tasks_have_rows():
    tasks = ",".join(name for name in CONTESTS if name != "texts")
    rows = contests(run.parse(["--tasks", tasks, "--onnx"]), ["funasr"])
    programs = {"offline", "streaming", "vad", "speakers", "cif", "train"}
    assert {row.program for row in rows} == programs
    assert {row.metric for row in rows} <= set(report.UNITS)


def test_graphs_in_eight_bits_are_beside_torch_and_the_peers_by_the_same_graphs():
    rows = contests(run.parse(["--tasks", "graphs", "--onnx"]), ["funasr", "sherpa-onnx"])
    peers_of = [row.rival for row in rows if row.task == "7/1"]
    torch_formats = ["ours", "ours, bf16", "ours, int8"]
    assert peers_of == [*torch_formats, "funasr-onnx, int8", "sherpa-onnx, int8"]
    assert {row.own for row in rows} == {"ours, onnx int8"}
    assert contests(run.parse(["--tasks", "graphs"]), ["funasr"]) == []
    answers = {("offline", "ours, onnx int8", "7/1"): OURS, ("offline", "ours", "7/1"): THEIRS}
    row = report.compare(rows[0], answers, {})
    assert (row.peer, row.ratio) == ("ours", 0.8)


def test_each_engine_of_a_row_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without FunASR's maker of graphs, which these rows need not."""

    class Said:
        def ask(self, task: str) -> dict[str, float]:
            return {"rtf": 0.5, "cpu_s": 2.0}

    monkeypatch.setattr(run.Bench, "_start", lambda *given: Said())
    where = ["--size", "tiny", "--models", str(tmp_path), "--rounds", "1"]
    bench = run.Bench(run.parse(["--tasks", "graphs", "--onnx", *where]), peers.Peer(None, {}))
    bench.measure()
    rows = bench.rows()
    assert len(rows) == 10 and {(row.ratio, row.processor_ratio) for row in rows} == {(1.0, 1.0)}


def test_formats_are_told_by_their_texts_of_a_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Of three units each has one wrong: one is left out, then another one is in its place."""
    answers = {
        "ours": {"wall_s": 4.0, "cpu_s": 2.0, "rtf": 0.4, "peak_mb": 600, "texts": ["一", "四"]},
        "ours, int8": {"wall_s": 1.0, "cpu_s": 1.0, "rtf": 0.1, "texts": ["一五", "四"]},
    }
    for name, text in {"wav.scp": "a x.wav\nb y.wav\n", "text": "a 一 二\nb 四\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf8")

    def measure_all(bench: run.Bench) -> None:
        pairs = {("offline", engine, "2/1"): [each] for engine, each in answers.items()}
        bench.answers.update(pairs)

    monkeypatch.setattr(run.Bench, "measure", measure_all)
    out = tmp_path / "bench.json"
    given = ["--tasks", "texts", "--data", str(tmp_path), "--peer", sys.executable]
    assert run.main([*given, "--out", str(out)]) == 0
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    cells = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines if line}
    size = cells["ours"][0]
    assert cells["format"][1] == "texts changed of 2"
    assert cells["ours"][1:] == ["0", "33.33 % (1 of 3)", "1.00", "1.00", "0.4", "600"]
    assert cells["ours, int8"] == [size, "1", "33.33 % (1 of 3)", "0.25", "0.50", "0.1", ""]
    assert (tmp_path / "bench/ours-int8").read_text("utf8") == "a 一五\nb 四\n"


def test_recordings_of_a_data_directory_are_heard_whole(models: Path, tmp_path: Path):
    clips = measure.CLIPS[:2]
    listed = "".join(f"{place} {clip}\n" for place, clip in enumerate(clips))
    (tmp_path / "wav.scp").write_text(listed, encoding="utf8")
    args = options(models / "offline")
    args.data = tmp_path
    model = AutoModel(model=models / "offline")
    expected = [model.generate(str(clip))[0]["text"] for clip in clips]
    assert offline.load(args)("2/1")["texts"] == expected
    assert offline.load(args)("1/1")["texts"] == expected[:1]


@pytest.mark.parametrize("wrong", [["--tasks", "texts"], ["--data", "data/test"]])
def test_texts_want_a_data_directory(wrong: list[str]):
    with pytest.raises(SystemExit):
        run.parse(wrong)


def test_a_run_that_is_stopped_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def measure_some(bench: run.Bench) -> None:
        bench.answers.update(ANSWERS)
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Bench, "measure", measure_some)
    out = tmp_path / "bench.json"
    assert run.main(["--tasks", "offline", "--peer", sys.executable, "--out", str(out)]) == 130
    rows = json.loads(out.read_text("utf8"))["rows"]
    assert [row["ratio"] for row in rows] == [0.8, None, None]
    assert [row["skipped"] for row in rows] == ["", "not measured", "not measured"]
    assert "funasr 0.25" in capsys.readouterr().out


@pytest.mark.cli
def test_one_command_from_models_to_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Without a peer: each row has our figure, and the reason why there is no other."""
    monkeypatch.delenv(peers.VARIABLE, raising=False)
    monkeypatch.setattr(peers, "VENV", tmp_path / "none")
    out = tmp_path / "bench.json"
    short = (
        "--tasks streams,vad,speakers,cif --rounds 2 --stream-seconds 2 --streams 2 --vad-seconds 5"
    )
    where = ["--size", "tiny", "--models", str(tmp_path), "--out", str(out)]
    assert run.main([*short.split(), *where, "--vad-model", str(VAD), "--threads", "1"]) == 0
    written = json.loads(out.read_text("utf8"))
    assert written["rounds"] == 2
    rows = written["rows"]
    assert len(rows) == 2 + 1 + 2 + 2
    reasons = {row["skipped"] for row in rows if row["peer"] != "ours, one after another"}
    assert reasons == {"no peer here; PEER=path/to/python or PEER_INSTALL=true"}
    (both,) = (row for row in rows if row["peer"] == "ours, one after another")
    assert both["agreement"] == 1.0
    assert both["ratio"] == pytest.approx(both["ours_value"] / both["peer_value"])
    assert all(row["ours_value"] > 0 for row in rows if not row["task"].startswith("CIF"))
    answers = {(a["program"], a["engine"], a["task"]): a["rounds"] for a in written["answers"]}
    assert len(answers["streaming", "ours", "2/2"]) == 2
    assert len(answers["streaming", "ours", "load"]) == 1
    assert report.HEADER[0] in capsys.readouterr().out
