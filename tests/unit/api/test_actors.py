"""A list shared by actors gives what one process gives, whatever becomes of them; Ray itself is
tried where it is, else a stand-in that does in this process what actors are asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from paraformer import AutoModel
from paraformer.api.actors import Actors
from paraformer.api.workers import Order, stream_shared
from paraformer.cli.main import main
from paraformer.errors import ConfigError
from paraformer.programs.decode import decode
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
MODEL = str(ORACLE / "paraformer")
CLIPS = [ORACLE / "inputs" / f"clip_{x}.flac" for x in "abc"]
QUIET = {"device": "cpu", "disable_pbar": True}


class RayError(Exception):
    """As Ray's own."""


class ActorDiedError(RayError):
    """As Ray's own."""


class RayTaskError(RayError):
    """As Ray's own."""


class StandIn:
    """Ray's functions as `Actors` calls them: what is sent is pickled, the last call that was made
    is answered first, and an actor dies over items as it is told.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, cpus=2, gpus=0, deadly=(), fault=None):
        """deadly: an id for each death over it."""
        self.cpus, self.gpus, self.fault = cpus, gpus, fault
        self.deadly, self.needs, self.connected, self.sent = list(deadly), [], False, []

    def init(self, **_):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        if self.fault is not None:
            raise self.fault
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.connected = True

    def is_initialized(self):
        return self.connected

    def shutdown(self):
        self.connected = False

    def cluster_resources(self):
        return {"CPU": float(self.cpus), **({"GPU": float(self.gpus)} if self.gpus else {})}

    def nodes(self):
        half = {"Alive": True, "Resources": {"CPU": self.cpus / 2}}
        return [half, half, {"Alive": False, "Resources": {"CPU": 99.0}}]

    def remote(self, **needs):
        self.needs.append(needs)
        return lambda kind: SimpleNamespace(remote=lambda: Handle(self, kind()))

    def wait(self, answers, num_returns):
        return answers[-num_returns:], answers[:-num_returns]

    def get(self, answer):
        return answer()

    def kill(self, handle):
        handle.dead = True


class Handle:
    """An actor of the stand-in."""

    def __init__(self, ray, real):
        self.dead = False
        self.begin = SimpleNamespace(remote=lambda *given: lambda: self.do(real.begin, given))
        self.work = SimpleNamespace(remote=lambda *given: lambda: self.do(real.work, given, ray))

    def do(self, method, given, ray=None):
        given = pickle.loads(pickle.dumps(given))
        if ray is not None:
            keys = [item.key for item in given[0]]
            ray.sent.append(keys)
            for key in {*keys} & {*ray.deadly}:
                ray.deadly.remove(key)
                self.dead = True
        if self.dead:
            raise ActorDiedError("it is gone")
        return pickle.loads(pickle.dumps(method(*given)))


@pytest.fixture
def stand_in(monkeypatch):
    """Puts one in the place of Ray."""
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    before = signal.getsignal(signal.SIGTERM)

    def put(**told):
        ray = StandIn(**told)
        monkeypatch.setitem(sys.modules, "ray", ray)
        return ray

    yield put
    assert signal.getsignal(signal.SIGTERM) == before
    os.environ.pop("RAY_USAGE_STATS_ENABLED", None)


def listing(folder, *rows):
    path = folder / "wav.scp"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(path)


def content(folder):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_an_actor_that_dies_costs_nothing_but_what_kills_three(stand_in, tmp_path, caplog):
    """A block is done again, utterance by utterance; a machine may be lost, so each has three."""
    rows = [f"u{n} {CLIPS[n % 3]}" for n in range(24)]
    rows[7] = "u7 missing.wav"
    source = listing(tmp_path, *rows)
    one = AutoModel(MODEL, **QUIET).generate(source, output_dir=str(tmp_path / "one"))
    ray = stand_in(deadly=["u1", "u10", "u10", "u10", "u10"])
    settings = {**QUIET, "output_dir": str(tmp_path / "two")}
    found = list(stream_shared(source, 2, MODEL, settings, {}, "ray"))
    why = "the actor at work on it ended (ActorDiedError); mend it, or try it with nj=1"
    assert found[10] == {**one[7], "key": "u10", "error": why}
    assert ray.sent.count(["u10"]) == 3 and ["u1"] in ray.sent and not ray.connected
    for mine, theirs in zip(found[:10] + found[11:], one[:10] + one[11:], strict=True):
        for name in ("key", "text", "tokens", "audio_seconds"):
            assert mine[name] == theirs[name]
    assert "an actor ended (ActorDiedError) with 'u0' and 2 more; they are tried" in caplog.text
    assert "an actor ended (ActorDiedError) with 'u10'; it is tried again" in caplog.text
    assert content(tmp_path / "two")["failed"].decode().splitlines()[1] == f"u10 {why}"
    again = stream_shared(source, 2, MODEL, {**settings, "resume": True}, {}, "ray")
    assert [result["key"] for result in again] == ["u7", "u10"]
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_a_data_directory_is_shared_too(stand_in, tmp_path):
    rows = [f"u{n} {CLIPS[n]}" for n in range(3)] + ["v missing.wav"]
    (tmp_path / "data").mkdir()
    listing(tmp_path / "data", *rows)
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "decode.yaml")
    given = {"model": str(ORACLE / "paraformer-streaming"), "data": str(tmp_path / "data")}
    given |= {"device": "cpu", "min_success": 0.75, "batch_size": 1}
    ray, outs = stand_in(), []
    for more in ({}, {"cluster": "ray", "nj": 2}):
        out = tmp_path / f"out{len(outs)}"
        assert decode(OmegaConf.merge(config, given, more, {"out": str(out)})) == 0
        outs.append(content(out))
    stats = [json.loads(out.pop("stats.json")) for out in outs]
    assert stats[0]["decoded"] == stats[1]["decoded"] == 3
    assert outs[0] == outs[1] and len(outs[0]["text"].splitlines()) == 3
    assert len(ray.needs) == 2


@pytest.mark.parametrize(
    ("there", "given", "needs", "settings", "room"),
    [
        ((8, 0), {}, {"num_cpus": 4}, {"ncpu": 4}, None),
        ((8, 2), {}, {"num_cpus": 4, "num_gpus": 1}, {"ncpu": 4, "device": "cuda"}, None),
        ((8, 2), {"device": "cpu"}, {"num_cpus": 4}, {"ncpu": 4, "device": "cpu"}, None),
        ((8, 1), {"device": "auto"}, {"num_cpus": 4, "num_gpus": 1}, {"ncpu": 4}, 1),
        ((4, 0), {"ncpu": 3}, {"num_cpus": 2}, {"ncpu": 3}, None),  # of machines with 2
        ((1, 0), {}, {"num_cpus": 1}, {"ncpu": 1}, 1),
        ((0, 0), {"device": "cuda:1"}, {"num_cpus": 1, "num_gpus": 1}, {"device": "cuda"}, 0),
    ],
)
def test_an_actor_has_its_share(stand_in, caplog, there, given, needs, settings, room):
    ray, actors = stand_in(cpus=there[0], gpus=there[1]), Actors()
    folders = {"output_dir": "x", "resume": True}  # which are whoever's that writes
    order = actors.begin(Order(MODEL, {**given, **folders}, 2, {}))
    assert actors._needs == needs
    assert {**order.settings, **settings} == order.settings
    assert not {*folders} & {*order.settings}
    said = f"nj=2: the cluster has room for {room} actors by now; more wait for machines"
    assert caplog.messages == ([said] if room is not None else [])
    assert ray.connected
    actors.end()
    assert not ray.connected


def test_a_cluster_of_the_caller_stays(stand_in):
    ray, actors = stand_in(), Actors()
    ray.connected = True
    actors.begin(Order(MODEL, {}, 2, {}))
    actors.end()
    assert ray.connected


def test_what_is_wrong_is_a_line(stand_in, tmp_path, capsys):
    source = listing(tmp_path, f"a {CLIPS[0]}", f"b {CLIPS[1]}")
    command = [f"+model={MODEL}", "+device=cpu", f"+input={source}"]
    stand_in(fault=ConnectionError("no head\nnode"))
    said = "cannot be reached (no head node); see RAY_ADDRESS, and `ray status`"
    assert main([*command, "+cluster=ray"]) == 1
    assert capsys.readouterr() == ("", f"funasr: cluster=ray: {said}\n")
    assert main([*command, "+cluster=dask"]) == 1
    assert capsys.readouterr().err == "funasr: cluster=dask: not known; use ray, or leave it out\n"
    assert main([f"+model={MODEL}", str(CLIPS[0]), "+cluster=ray"]) == 1
    said = "shares a list; give a list or a folder, or leave it out"
    assert capsys.readouterr().err == f"funasr: cluster: {said}\n"
    stand_in()
    with pytest.raises(ConfigError, match="^nj: shares recordings among processes"):
        stream_shared(source, 2, str(ORACLE / "ct_punc"), QUIET, {}, "ray")


def recognisers(place):
    """The processes of Ray's actors that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            actor = (entry / "cmdline").read_bytes().startswith(b"ray::Recogniser")
            if actor and (entry / "cwd").resolve() == place:
                found.append(int(entry.name))
    return found


def lines(path):
    return path.read_bytes().count(b"\n") if path.is_file() else 0


@pytest.mark.cli
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here: extra ray")
def test_of_a_real_ray_an_actor_and_the_driver_are_killed(tmp_path, monkeypatch):
    """Two hundred recordings, two of them broken, by two actors: one is killed, then the command
    that was started; it goes on, and all is as from one process.
    """
    (tmp_path / "broken.wav").write_bytes(b"RIFF broken")
    rows = [f"u{n:03d} sleep 0.05; cat {CLIPS[n % 3]} |" for n in range(200)]
    rows[7] = rows[107] = "{} broken.wav"
    rows = [row.format(f"u{n:03d}") for n, row in enumerate(rows)]
    place = tmp_path.resolve()
    source = listing(place, *rows)
    given = {**QUIET, "output_format": "ctm", "pred_timestamp": True}
    monkeypatch.chdir(place)
    AutoModel(MODEL, **given).generate(source, output_dir="one")
    command = [sys.executable, str(ROOT / "bin" / "funasr.py"), f"+model={MODEL}", "+cluster=ray"]
    command += ["+nj=2", "+input=wav.scp", "+output_dir=two", "+resume=true"]
    command += [f"+{key}={str(value).lower()}" for key, value in given.items()]
    table, deadline = place / "two" / "1best_recog" / "text", time.monotonic() + 600
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)
        for least, victims in ((20, lambda: recognisers(place)[:1]), (60, lambda: [process.pid])):
            while lines(table) < least:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            for victim in victims():
                os.kill(victim, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        while recognisers(place):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        begun = lines(table)
        assert 60 <= begun < 200
        code = subprocess.call(command, cwd=place, env=environment, stdout=log, stderr=log)
    said = (place / "log").read_text("utf-8", "replace")
    assert code == 0 and "an actor ended (ActorDiedError)" in said
    assert "198 of 200 utterances" in said
    one, two = content(place / "one"), content(place / "two")
    tables = [[row.split() for row in out.pop("ctm").decode().splitlines()] for out in (one, two)]
    assert [row[:5] for row in tables[0]] == [row[:5] for row in tables[1]]
    for mine, theirs in zip(*tables, strict=True):
        assert float(mine[5]) == pytest.approx(float(theirs[5]), abs=2e-4)
    results = [out.pop("results.jsonl", b"") for out in (one, two)]
    assert len(results[0].splitlines()) == len(results[1].splitlines())
    assert one == two
