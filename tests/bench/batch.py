"""A list of short clips in tars on a real Slurm of one node, as egs/batch says, beside one process.

One job is killed in the middle and sent again; then the shards are merged, and ids, texts, times
and what failed must be those of one process to the byte, confidences to 1e-4. Prints what was done
in which time: `tests/bench/batch.py exp/bench/batch --clips 2000 --jobs 8 --at-once 2`.

`--ray` does the same on two actors of Ray, of which one is killed, and then the command that was
started, which goes on; and times them in turn with `nj=2`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.slurm import cluster  # noqa: E402

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
SHARD = 500  # clips a tar
BROKEN = 100  # each so many is none
EXACT = ("1best_recog/text", "1best_recog/token", "failed")


def make_clips(folder: Path, count: int) -> None:
    """Distinct clips of 0.3 to 0.6 s, one of a hundred broken."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    waves = [soundfile.read(ORACLE / "inputs" / f"clip_{x}.flac", dtype="int16") for x in "abc"]
    for first in range(0, count, SHARD):
        with tarfile.open(folder / f"clips-{first // SHARD:04d}.tar", "w") as tar:
            for number in range(first, min(first + SHARD, count)):
                wave, rate = waves[number % 3]
                length = int(random.uniform(0.3, 0.6) * rate)
                start = int(random.integers(max(1, len(wave) - length)))
                cut = wave[start : start + length] * random.uniform(0.2, 1)
                content = io.BytesIO()
                soundfile.write(content, cut.astype(np.int16), rate, format="WAV")
                told = b"RIFF broken" if number % BROKEN == 7 else content.getvalue()
                member = tarfile.TarInfo(f"u{number:06d}.wav")
                member.size = len(told)
                tar.addfile(member, io.BytesIO(told))


def prepare(place: Path) -> dict[str, str]:
    """The command of the checkout by its name, and an environment that finds it."""
    door = place / "bin" / "funasr"
    door.parent.mkdir()
    door.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/bin/funasr.py" "$@"\n')
    door.chmod(0o755)
    path = f"{door.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def lines(path: Path) -> int:
    """How many lines a table has by now."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def job_of(task: int, out: Path) -> int:
    """The process that does a task of our array."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        ours = f"+output_dir={out}".encode() in command and b"funasr.py" in command
        if ours and f"SLURM_ARRAY_TASK_ID={task}".encode() in told:
            return int(entry.name)
    return 0


def kill_one(array: subprocess.Popen[bytes], out: Path, task: int, after: int) -> int:
    """Kill a job once it has done some of its part; how many it has then."""
    table = out / f"shard.{task}" / "1best_recog" / "text"
    while array.poll() is None:
        if lines(table) >= after and (process := job_of(task, out)):
            os.kill(process, signal.SIGKILL)
            return lines(table)
        time.sleep(0.02)
    raise SystemExit("batch: the array ended before a job could be killed; give more clips")


def compare(one: Path, out: Path) -> str:
    """What is equal in both folders; anything else ends the program."""
    for name in EXACT:
        if (one / name).read_bytes() != (out / name).read_bytes():
            raise SystemExit(f"batch: {name} differs")
    tables = [
        [row.split() for row in (p / "ctm").read_text("utf-8").splitlines()] for p in (one, out)
    ]
    if [row[:5] for row in tables[0]] != [row[:5] for row in tables[1]]:
        raise SystemExit("batch: times differ")
    apart = max(abs(float(a[5]) - float(b[5])) for a, b in zip(*tables, strict=True))
    if round(apart, 6) > 1e-4:  # they have four digits
        raise SystemExit(f"batch: confidences differ by {apart}")
    rows = len(tables[0])
    return (
        f"{', '.join(EXACT)} to the byte; {rows} words with equal times, confidences to {apart:g}"
    )


OPTIONS = [
    *(f"+model={ORACLE / 'paraformer'}", "+device=cpu", "+output_format=ctm"),
    *("+pred_timestamp=true", "+disable_pbar=true"),
]


def actors(place: Path) -> list[int]:
    """The processes of Ray's actors that were started from a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = (entry / "cmdline").read_bytes().startswith(b"ray::Recogniser")
            if ours and (entry / "cwd").resolve() == place.resolve():
                found.append(int(entry.name))
    return found


def seconds_of_second_half(table: Path, process: subprocess.Popen[bytes], total: int) -> float:
    """Seconds from the middle of a table to its end, while a process writes it: by then all that
    share the list have begun.
    """
    begun = 0.0
    while process.poll() is None:
        there = lines(table)
        begun = begun or (time.monotonic() if there >= total // 2 else 0.0)
        if there == total:
            break
        time.sleep(0.02)
    ended = time.monotonic()
    process.wait()
    return ended - begun


RAY = ("+cluster=ray", "+nj=2")


class Bench:
    """Clips in a folder, and runs of the command over all of them."""

    def __init__(self, place: Path, clips: int) -> None:
        self.place, self.clips = place, clips
        make_clips(place / "tars", clips)
        self.env = prepare(place)

    def begin(self, out: str, *more: str) -> tuple[Path, subprocess.Popen[bytes]]:
        """The table that a run writes, and its process."""
        command = [str(self.place / "bin" / "funasr"), f"+input={self.place / 'tars' / '*.tar'}"]
        silent = subprocess.DEVNULL
        process = subprocess.Popen(
            [*command, *OPTIONS, f"+output_dir={out}", *more],
            env=self.env,
            cwd=self.place,
            stdout=silent,
            stderr=silent,
        )
        return self.place / out / "1best_recog" / "text", process

    def kill(self) -> None:
        """Kill an actor, then the command; go on, and compare with one process."""
        one = self.begin("one")[1].wait()
        table, process = self.begin("killed", *RAY)
        for least in (self.clips // 8, self.clips // 2):
            while lines(table) < least and process.poll() is None:
                time.sleep(0.02)
            victim = actors(self.place)[0] if least < self.clips // 2 else process.pid
            os.kill(victim, signal.SIGKILL)
        process.wait()
        print(f"an actor, then the command killed by SIGKILL, after {lines(table)} clips")
        code = self.begin("killed", *RAY, "+resume=true")[1].wait()
        print(f"one process ended with {one}, the killed command, with resume=true, with {code}")
        print(compare(self.place / "one", self.place / "killed"), flush=True)

    def time(self, rounds: int) -> None:
        """Time two processes and two actors in turn."""
        for number in range(rounds):
            for name, more in (("nj=2", ["+nj=2"]), ("cluster=ray nj=2", RAY)):
                out, begun = f"{name.split('=')[0]}{number}", time.monotonic()
                half = seconds_of_second_half(*self.begin(out, *more), self.clips)
                whole = time.monotonic() - begun
                print(f"{name}: {half:.1f} s the second half, {whole:.1f} s in all", flush=True)
                compare(self.place / "one", self.place / out)


def run(place: Path, clips: int, jobs: int, at_once: int) -> None:
    """Do all of it, and say how long it took."""
    make_clips(place / "tars", clips)
    env, given = prepare(place), OPTIONS
    pattern, one, out = str(place / "tars" / "*.tar"), place / "one", place / "out"
    silent = {"stdout": subprocess.DEVNULL}

    def timed(command: list[str], **more: object) -> float:
        begun = time.monotonic()
        subprocess.run(command, check=True, **more)  # type: ignore[call-overload]
        return time.monotonic() - begun

    funasr = str(place / "bin" / "funasr")
    alone = timed([funasr, f"+input={pattern}", f"+output_dir={one}", *given], env=env, **silent)
    print(f"one process: {clips} clips in {alone:.0f} s", flush=True)
    with cluster(place / "slurm") as slurm:
        page = [str(ROOT / "egs/batch/slurm.sh"), pattern, str(out), *given]
        send = ["sbatch", "--wait", "--cpus-per-task=1", f"--chdir={place}"]
        env = {**env, **{k: v for k, v in slurm.items() if k.startswith("SLURM")}}
        env["PATH"] = f"{place / 'bin'}{os.pathsep}{slurm['PATH']}"
        begun = time.monotonic()
        array = subprocess.Popen([*send, f"--array=1-{jobs}%{at_once}", *page], env=env, **silent)
        done = kill_one(array, out, 3, clips // jobs // 4)
        code = array.wait()
        print(
            f"array of {jobs}, {at_once} at a time: {time.monotonic() - begun:.0f} s; job 3 killed"
        )
        print(f"  by SIGKILL after {done} clips; sbatch --wait ended with {code}", flush=True)
        again = timed([*send, "--array=3", *page, f"+shard=auto/{jobs}"], env=env, **silent)
        print(f"job 3 again: {again:.0f} s", flush=True)
    timed([funasr, "merge", f"+input={pattern}", f"+output_dir={out}"], env=env)
    print(compare(one, out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    if told.ray:
        bench = Bench(told.place.absolute(), told.clips)
        bench.kill()
        bench.time(told.rounds)
        sys.exit()
    run(told.place.absolute(), told.clips, told.jobs, told.at_once)
