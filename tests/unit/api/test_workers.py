"""A list shared by processes gives what one gives, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest
import torch

from paraformer import AutoModel
from paraformer.api import workers
from paraformer.api.auto import SharedWork, layout_ahead
from paraformer.api.workers import Chunk, Crew, Order, Ready, _chunks, prepare, stream_shared
from paraformer.cli.main import main
from paraformer.data.inputs.sources import Item
from paraformer.errors import ConfigError
from paraformer.output.result import silence
from paraformer.output.tables import SPEECH
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
MODEL, VAD = str(ORACLE / "paraformer"), str(ORACLE / "fsmn_vad")
CLIPS = [ORACLE / "inputs" / f"clip_{x}.flac" for x in "abc"]
QUIET = {"device": "cpu", "disable_pbar": True}
posix = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")


def shared(source, processes=2, **settings):
    return stream_shared(source, processes, MODEL, {**QUIET, **settings}, {})


def content(folder):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def listing(folder, *rows):
    path = folder / "wav.scp"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(path)


@posix
def test_processes_take_turns_on_the_gpus(monkeypatch):
    """Stand-ins: two GPUs; a device that is named is the one of all."""
    given = []

    class Model:
        def __init__(self, name, **settings):
            given.append((settings["device"], settings["ncpu"]))

        def shared_work(self, whole):
            return SharedWork(None, None, None)

    monkeypatch.setattr("paraformer.api.auto.AutoModel", Model)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("auto", "cuda:1", "cpu"):
        for rank in range(3):
            prepare(rank, Order("x", {"device": device, "ncpu": 1}, 3, {}))
    names = ["cuda:0", "cuda:1", "cuda:0", *["cuda:1"] * 3, *["cpu"] * 3]
    assert given == [(name, 1) for name in names]


def test_a_process_that_is_killed_costs_one_utterance(tmp_path, caplog):
    """The command kills its parent; all else is as from one process, and so is what follows."""
    rows = [f"u{n} {CLIPS[n % 3]}" for n in range(24)]
    rows[7] = "u7 missing.wav"
    sound = listing(tmp_path, *rows)
    one = AutoModel(MODEL, **QUIET).generate(sound, output_dir=str(tmp_path / "one"))
    killer = listing(tmp_path, rows[0], f"u1 kill -9 $PPID; cat {CLIPS[1]} |", *rows[2:])
    found = list(shared(killer, output_dir=str(tmp_path / "two")))
    why = (
        "the process at work on it ended (killed by SIGKILL, as a system does that has no memory "
        "left); mend it, or try it with nj=1"
    )
    assert found[1] == {**one[7], "key": "u1", "error": why}
    for mine, theirs in zip(found[:1] + found[2:], one[:1] + one[2:], strict=True):
        # Batches are others, and with them the last bits of probabilities.
        for name in ("key", "text", "tokens", "audio_seconds"):
            assert mine[name] == theirs[name]
        assert mine["confidence"] == pytest.approx(theirs["confidence"], abs=2e-4)
    assert f"u1 {why}\n".encode() in content(tmp_path / "two")["failed"]
    assert f"'u1': {why}" in caplog.text
    assert "with 'u0' and 2 more; they are tried one by one" in caplog.text
    sound = listing(tmp_path, *rows)
    again = list(shared(sound, 1, output_dir=str(tmp_path / "two"), resume=True))
    assert [result["key"] for result in again] == ["u1", "u7"]
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_recordings_and_channels_are_shared_too(tmp_path):
    options = {"vad_model": VAD, "output_format": "stm", "channel": "split"}
    rows = [str(path) for path in (*CLIPS, tmp_path / "missing.wav")]
    one = AutoModel(MODEL, **QUIET, **options).generate(rows, output_dir=str(tmp_path / "one"))
    results = shared(rows, output_dir=str(tmp_path / "two"), **options)
    assert [(r["key"], r.get("channel")) for r in results] == [
        *((f"{path.stem}_ch0", 0) for path in CLIPS),
        ("missing", None),
    ]
    assert len(one) == 4
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_what_is_wrong_is_said_once(tmp_path):
    source = listing(tmp_path, f"a {CLIPS[0]}", f"b {CLIPS[1]}")
    with pytest.raises(ConfigError, match="^nj: shares recordings among processes"):
        stream_shared(source, 2, str(ORACLE / "ct_punc"), QUIET, {})


KINDS = {
    "paraformer": [{}, {"pred_timestamp": True}, {"output_format": "srt"}, {"vad_model": VAD}],
    "bicif": [{}, {"chunk_size": [0, 10, 5], "model_conf": {"predictor_bias": 1}}],
    "seaco": [{}],
    "paraformer-streaming": [{}],
    "fsmn_vad": [{}, {"max_end_silence_time": 300}],
}


@pytest.mark.parametrize(("name", "settings"), [(n, s) for n, each in KINDS.items() for s in each])
def test_what_is_written_is_known_without_weights(name, settings):
    model, given = str(ORACLE / name), {**QUIET, **settings}
    assert layout_ahead(model, given) == AutoModel(model, **given).shared_work()[0]


def test_of_other_tasks_and_of_what_is_not_here_it_is_not_known(tmp_path):
    assert layout_ahead(str(ORACLE / "ct_punc"), QUIET) is None
    assert layout_ahead(str(tmp_path / "nothing"), QUIET) is None


def test_no_model_is_loaded_where_nothing_is_left_to_do(tmp_path, monkeypatch, capsys):
    """The files stay as they are; what is left loads a model."""
    source = listing(tmp_path, *(f"u{n} {CLIPS[n]}" for n in range(3)))
    out = tmp_path / "out"
    command = [f"+model={MODEL}", f"+input={source}", f"+output_dir={out}", "+device=cpu"]
    assert main(command) == 0
    written = content(out)
    capsys.readouterr()

    def load(*_):
        raise ConfigError("a model is loaded")

    monkeypatch.setattr(AutoModel, "_load", load)
    monkeypatch.setattr(Crew, "begin", load)
    for nj in ("1", "2"):
        assert main([*command, "+resume=true", f"+nj={nj}"]) == 0
        assert capsys.readouterr() == ("", "")
        assert content(out) == written
    listing(tmp_path, *(f"u{n} {CLIPS[n % 3]}" for n in range(4)))
    for nj in ("1", "2"):
        assert main([*command, "+resume=true", f"+nj={nj}"]) == 1
        assert capsys.readouterr() == ("", "funasr: a model is loaded\n")
    monkeypatch.undo()
    assert main([*command, "+resume=true"]) == 0
    assert capsys.readouterr().out.startswith("u3 ")
    assert content(out)["1best_recog/text"].startswith(written["1best_recog/text"])


def test_chunks_become_small_where_the_list_ends():
    items = list(range(1000))
    chunks = [chunk.items for chunk in _chunks(iter(items), 1000, 2)]
    assert [x for chunk in chunks for x in chunk] == items
    sizes = [len(chunk) for chunk in chunks]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 64 and sizes[-1] == 1
    # More than was announced.
    assert sum(len(chunk.items) for chunk in _chunks(iter(items), 10, 2)) == 1000


class Noted:
    """A hand that works when it is heard, and ends once, over the items that it is told."""

    def __init__(self, deadly, notes):
        self.deadly, self.notes, self.given, self.begun = deadly, notes, deque(), False

    def send(self, items):
        self.notes.append(([int(item.key) for item in items], len(self.given)))
        self.given.append(items)

    def receive(self):
        if not self.begun:
            self.begun = True
            return [Ready(SPEECH, silence())]
        items = self.given.popleft()
        if self.deadly & {item.key for item in items}:
            self.deadly.clear()
            raise EOFError
        return items

    def stop(self):
        pass

    def bury(self):
        return "told to"


class NotedHands:
    """Hands of which the one that was started last is heard first."""

    one, all, tries = "a hand", "the hands", 2

    def __init__(self, *deadly):
        self.deadly, self.notes = {*deadly}, []

    def begin(self, order):
        return order

    def start(self, rank, order):
        return Noted(self.deadly, self.notes)

    def heard(self, hands):
        return [next(hand for hand in reversed(hands) if hand.given or not hand.begun)]

    def end(self):
        pass


def test_the_next_whole_chunk_lies_ready(monkeypatch):
    """Whole ones alone: the last of a list are for whoever has nothing."""
    monkeypatch.setattr(workers, "CHUNK", 4)
    hands = NotedHands()
    items = [Item(str(number), "") for number in range(80)]
    assert list(Crew(Order("x", {}, 2, {}), hands).results(iter(items), 80)) == items
    before = [(len(items), others) for items, others in hands.notes]
    assert {others for _, others in before} == {0, 1}
    assert {size for size, others in before if others} == {4} and before[-1] == (1, 0)


def test_what_lay_ready_where_a_hand_ended_is_done_by_another_one(monkeypatch):
    """Its results come as if nothing had been, and of what was at work each alone."""
    monkeypatch.setattr(workers, "CHUNK", 4)
    hands = NotedHands("1")
    items = [Item(str(number), "") for number in range(40)]
    assert list(Crew(Order("x", {}, 1, {}), hands).results(iter(items), 40)) == items
    given = [items for items, _ in hands.notes]
    assert given[:2] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert given.count([4, 5, 6, 7]) == 2
    assert [given.count([item]) for item in range(4)] == [1, 1, 1, 1]


def test_what_has_ended_a_process_is_tried_one_by_one():
    chunk = Chunk(["a", "b", "c"])
    assert chunk.rest() == ["a", "b", "c"]
    chunk.add({})
    chunk.alone = True
    assert chunk.rest() == ["b"]


@pytest.mark.skipif(sys.platform != "linux", reason="`ps -s` is that of Linux")
@pytest.mark.cli
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_stops_all_processes(tmp_path, number, code, capsys):
    """Ctrl-C, which all processes of a terminal get, and SIGTERM to the command alone."""
    rows = [f"u{n} {CLIPS[n % 3]}" for n in range(4)]
    (tmp_path / "x.amr").write_bytes(b"#!AMR\n" + bytes(50))
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexec sleep 300\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    source = listing(tmp_path, *rows[:2], f"u2 {tmp_path}/x.amr", "u3 exec sleep 300 |")
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "bin" / "funasr.py"), f"+model={MODEL}", "+nj=2"]
    command += [f"+input={source}", f"+output_dir={out}", "+device=cpu"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        shown = b"".join(process.stdout.readline() for _ in range(2))
        assert comes_true(lambda: list(tmp_path.glob("paraformer-*/decoded.log")))
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert b"Traceback" not in said
    assert said.decode().splitlines()[-1] == (
        f"funasr: stopped; what is finished is in {out}, +resume=true goes on"
    )
    assert (out / "1best_recog" / "text").read_bytes() == shown
    assert comes_true(lambda: not living(process.pid))
    assert not list(tmp_path.glob("paraformer-*"))
    listing(tmp_path, *rows)
    options = ["+device=cpu", f"+input={source}", f"+output_dir={out}", "+resume=true"]
    assert main([f"+model={MODEL}", *options, "-f", "json"]) == 0
    keys = [json.loads(line)["key"] for line in capsys.readouterr().out.splitlines()]
    assert keys == ["u2", "u3"]


def living(session):
    """The processes of a session."""
    listed = subprocess.run(["ps", "-s", str(session), "-o", "stat="], capture_output=True)
    return [line for line in listed.stdout.split() if not line.startswith(b"Z")]


def comes_true(condition):
    """Whether it does within a minute."""
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False
