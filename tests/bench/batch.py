"""A list of short clips in tars on a real Slurm of one node, as egs/batch says, and on two actors
of Ray, beside one process: `tests/bench/batch.py exp/bench/batch --slurm --ray --clips 100000`.

`--slurm` sends an array of jobs with `shard=auto`. One is killed in the middle and sent again; what
must be refused is tried meanwhile: a second writer of a shard, shards of another number. `--ray`
kills one of two actors, then the command that was started, which goes on. Whatever was killed, ids,
texts, times and what failed must be those of one process to the byte, confidences to 1e-4. Clips
and the run of one process are made once a folder.

`--table` times `nj=2`, an array of two jobs and two actors in turn, on the same clips, for a quiet
machine: `tests/bench/batch.py exp/bench/table --table --clips 20000 --rounds 3`. The processor time
beside it is that of all processes at work in the folder, Ray's own with them, a clip.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.slurm import cluster  # noqa: E402

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
SHARD = 500  # clips a tar
BROKEN = 100  # each so many is none
TEXT = "1best_recog/text"
EXACT = (TEXT, "1best_recog/token", "failed")
KILLED = 3  # the job that is


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


def prepare(place: Path) -> None:
    """Write the command of the checkout by its name."""
    door = place / "bin" / "funasr"
    door.parent.mkdir()
    door.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/bin/funasr.py" "$@"\n')
    door.chmod(0o755)


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
RAY = ("+cluster=ray", "+nj=2")
SEEN = 0.2  # seconds between two looks
# Of a process that works in our folder, what its command line holds -> what it is called.
ROLES = {b"ray::Recogniser": "actor", b"funasr.py": "command", b"spawn_main": "worker"}


def workers(place: Path) -> dict[int, str]:
    """The processes at work in a folder, by what they are called."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").resolve() == place:
                command = (entry / "cmdline").read_bytes()
                role = next((name for mark, name in ROLES.items() if mark in command), None)
                if role is not None:
                    found[int(entry.name)] = role
    return found


class Spent:
    """Processor seconds of all processes that work in a folder, those that have ended with them."""

    def __init__(self, place: Path) -> None:
        self.place, self.each = place, dict[str, float]()

    def look(self) -> float:
        """Ask the kernel; what a process did since the last look before it ended is lost."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").resolve() == self.place:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    ticks = int(fields[11]) + int(fields[12])  # utime and stime
                    self.each[entry.name] = ticks / os.sysconf("SC_CLK_TCK")
        return sum(self.each.values())


class Peaks:
    """The most memory that a process of each role has had resident, in MB."""

    def __init__(self, place: Path) -> None:
        self.place, self.found = place, dict[str, int]()

    def look(self) -> None:
        """Ask the kernel, which keeps the peak of each process as long as that runs."""
        for process, role in workers(self.place).items():
            with contextlib.suppress(OSError):
                told = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
                peak = int(told[1]) // 1000 if told else 0
                self.found[role] = max(self.found.get(role, 0), peak)

    def __str__(self) -> str:
        return ", ".join(f"{role} {peak} MB" for role, peak in self.found.items())


class Bench:
    """Clips in a folder, and runs of the command over all of them."""

    def __init__(self, place: Path, clips: int) -> None:
        self.place, self.clips = place, clips
        if not (place / "bin").is_dir():
            make_clips(place / "tars", clips)
            prepare(place)
        path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
        self.pattern = str(place / "tars" / "*.tar")

    def begin(self, out: str, *more: str, **streams: int) -> subprocess.Popen[bytes]:
        """A run of the command into a folder."""
        command = ["funasr", f"+input={self.pattern}", *OPTIONS, f"+output_dir={out}", *more]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
        return subprocess.Popen(command, env=self.env, cwd=self.place, **silent)

    def watch(
        self, process: subprocess.Popen[bytes], until: Callable[[], bool] | None = None
    ) -> Peaks:
        """See how large the processes grow until one ends, or something has happened."""
        peaks = Peaks(self.place)
        while process.poll() is None and not (until is not None and until()):
            peaks.look()
            time.sleep(SEEN)
        return peaks

    def one(self) -> None:
        """What one process finds, found once."""
        done = self.place / "one.done"
        if done.is_file():
            return
        begun, process = time.monotonic(), self.begin("one")
        peaks = self.watch(process)
        print(f"one process: {self.clips} clips, {time.monotonic() - begun:.0f} s, {peaks}")
        print(f"  ended with {process.returncode}; {self.counts('one')}", flush=True)
        done.touch()

    def counts(self, out: str) -> str:
        """How many clips a folder has a line of, and how many of them have failed."""
        folder = self.place / out
        return f"{lines(folder / TEXT)} lines, {lines(folder / 'failed')} of them failed"

    def merge(self, out: str) -> None:
        """Make one folder of the shards, and compare it with that of one process."""
        told = [f"+input={self.pattern}", f"+output_dir={out}"]
        subprocess.run(["funasr", "merge", *told], env=self.env, cwd=self.place, check=True)
        print(f"merged: {self.counts(out)}; {compare(self.place / 'one', self.place / out)}")

    def ray(self) -> None:
        """Kill an actor, then the command; go on, and compare with one process."""
        table, process = self.place / "killed" / TEXT, self.begin("killed", *RAY)
        for share in (8, 2):
            self.watch(process, lambda least=self.clips // share: lines(table) >= least)
            found = [number for number, role in workers(self.place).items() if role == "actor"]
            os.kill(found[0] if share == 8 else process.pid, signal.SIGKILL)
            name = "an actor" if share == 8 else "the command"
            print(f"{name} killed by SIGKILL after {lines(table)} clips", flush=True)
        process.wait()
        kept = lines(table)
        process = self.begin("killed", *RAY, "+resume=true")
        peaks = self.watch(process)
        print(f"with resume=true from {kept} clips on it ended with {process.returncode}; {peaks}")
        print(f"{self.counts('killed')}; {compare(self.place / 'one', self.place / 'killed')}")

    @contextlib.contextmanager
    def scheduler(self) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
        """A Slurm; gives what sends an array of our page to it and waits."""
        with cluster(Path(tempfile.mkdtemp(prefix="slurm-", dir=self.place))) as slurm:
            env = {**self.env, **{k: v for k, v in slurm.items() if k.startswith("SLURM")}}
            env["PATH"] = f"{self.place / 'bin'}{os.pathsep}{slurm['PATH']}"

            def send(array: str, out: str, *more: str) -> subprocess.Popen[bytes]:
                page = [str(ROOT / "egs/batch/slurm.sh"), self.pattern, out, *OPTIONS, *more]
                how = ["--wait", "--cpus-per-task=1", f"--chdir={self.place}", f"--array={array}"]
                silent = subprocess.DEVNULL
                return subprocess.Popen(["sbatch", *how, *page], env=env, stdout=silent)

            yield send

    def slurm(self, jobs: int, at_once: int) -> None:
        """Kill a job of an array and send it again; try what must be refused; merge."""
        out, begun = self.place / "out", time.monotonic()
        with self.scheduler() as send:
            array = send(f"1-{jobs}%{at_once}", str(out))
            victim, process = self.catch(array, out, [KILLED], self.clips // jobs // 4)
            os.kill(process, signal.SIGKILL)
            done = lines(out / f"shard.{victim}" / TEXT)
            print(f"job {victim} of {jobs} killed by SIGKILL after {done} clips", flush=True)
            others = [number for number in range(1, jobs + 1) if number != victim]
            twice, process = self.catch(array, out, others, 1)
            os.kill(process, signal.SIGSTOP)
            self.refused(f"+shard={twice}/{jobs}", "another process writes this shard")
            self.refused(f"+shard=1/{jobs - 1}", f"is one of {jobs} shards, not of {jobs - 1}")
            os.kill(process, signal.SIGCONT)
            peaks = self.watch(array)
            print(f"array: {time.monotonic() - begun:.0f} s, {peaks}; ended {array.returncode}")
            code = send(str(victim), str(out), f"+shard=auto/{jobs}").wait()
            print(f"job {victim} again from {done} clips on ended with {code}", flush=True)
        before = contents(out / f"shard.{twice}")
        code = self.begin("out", f"+shard={twice}/{jobs}", "+resume=true").wait()
        same = "the same" if before == contents(out / f"shard.{twice}") else "ANOTHER"
        print(f"shard {twice} once more ended with {code}, and its folder is {same}")
        self.merge("out")

    def catch(
        self, array: subprocess.Popen[bytes], out: Path, tasks: Sequence[int], least: int
    ) -> tuple[int, int]:
        """One of these jobs that is at work and has done so many clips, and its process."""
        while array.poll() is None:
            for task in tasks:
                done = lines(out / f"shard.{task}" / TEXT)
                if done >= least and (process := job_of(task, out)):
                    return task, process
            time.sleep(0.02)
        raise SystemExit("batch: the array ended before a job could be caught; give more clips")

    def refused(self, shard: str, line: str) -> None:
        """Try to write a shard that is not to be written."""
        process = self.begin("out", shard, "+resume=true", stderr=subprocess.PIPE)
        told = process.communicate()[1].decode()
        if process.returncode != 1 or line not in told:
            raise SystemExit(f"batch: {shard} ended with {process.returncode}: {told}")
        print(f"{shard} is refused meanwhile: {line}", flush=True)

    def table(self, rounds: int) -> None:
        """Time two processes, jobs and actors in turn: clips a second while both are at work."""
        found: dict[str, list[tuple[float, float, float]]] = {}
        with self.scheduler() as send:
            starts = {
                "nj=2": lambda out: self.begin(out, "+nj=2"),
                "array of 2": lambda out: send("1-2", str(self.place / out)),
                "cluster=ray nj=2": lambda out: self.begin(out, *RAY),
            }
            for number in range(rounds):
                for name, start in starts.items():
                    out, begun = f"{name.split('=')[0].split()[0]}{number}", time.monotonic()
                    half = self.second_half(out, start(out))
                    found.setdefault(name, []).append((*half, time.monotonic() - begun))
                    if name == "array of 2":
                        self.merge(out)
                    print(name, compare(self.place / "one", self.place / out), flush=True)
        for name, each in found.items():
            rate, spent, whole = (statistics.median(column) for column in zip(*each, strict=True))
            told = f"{rate:.0f} clips/s in the second half | {1e6 * spent:.0f} us of processor time"
            print(f"| {name} | {told} a clip | {whole:.1f} s in all |")

    def second_half(self, out: str, process: subprocess.Popen[bytes]) -> tuple[float, float]:
        """Clips a second, and processor seconds a clip, from the middle of the results to their
        end: by then all that share the list have begun.
        """
        folder, total = self.place / out, lines(self.place / "one" / TEXT)
        spent, there = Spent(self.place), 0
        begun = seen = (0.0, 0.0, 0)
        while process.poll() is None and there < total:
            time.sleep(SEEN / 4)
            there = sum(lines(each) for each in (folder / TEXT, *folder.glob(f"shard.*/{TEXT}")))
            if there >= total // 2:
                seen = (time.monotonic(), spent.look(), there)
                begun = begun if begun[2] else seen
        process.wait()
        seconds, processor, clips = (b - a for a, b in zip(begun, seen, strict=True))
        return clips / seconds, processor / clips


def contents(folder: Path) -> dict[str, bytes]:
    """The files of results in a folder."""
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("place", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--slurm", action="store_true")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    bench = Bench(told.place.absolute(), told.clips)
    bench.one()
    if told.slurm:
        bench.slurm(told.jobs, told.at_once)
    if told.ray:
        bench.ray()
    if told.table:
        bench.table(told.rounds)
