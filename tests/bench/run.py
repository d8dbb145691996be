#!/usr/bin/env python3
"""Ours and the peers side by side: the same models, the same audio, in turn, in one run.

    make bench PEER=path/to/python           # a venv with funasr 1.4.16; or PEER_INSTALL=true
    make bench BENCH='--tasks offline,stream --rounds 1 --seconds 35 --stream-seconds 12'
    make bench BENCH=--onnx                  # and funasr-onnx, sherpa-onnx
    make bench BENCH='--tasks texts --data data/test --rounds 1 --threads 1'    # formats of ours

Prints a table and writes JSON. In each round every engine does a task in turn; figures are medians
of the rounds, and less is better. A ratio is ours by the peer's. The load of others is how many
processors all else on the machine used meanwhile: above 0.1 a figure says little by itself, and the
ratio of processor time more, best with --threads 1: threads that wait for each other take their
time too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from paraformer.data.corpus.tables import read_table, write_table  # noqa: E402
from paraformer.export.directory import export_model  # noqa: E402
from paraformer.hub.directories import find_model  # noqa: E402
from tests.bench.contests import CIF_RIVALS, CONTESTS, DEFAULT, TRAINED, contests  # noqa: E402
from tests.bench.corpus import make_corpus  # noqa: E402
from tests.bench.engines import Answer, Engine, EngineError, Once, driver  # noqa: E402
from tests.bench.large import KINDS, SIZES, VOICES, make  # noqa: E402
from tests.bench.measure import GRAPHS, OURS  # noqa: E402
from tests.bench.peers import (  # noqa: E402
    ONNX_ENGINES,
    SHARED,
    Peer,
    find_peer,
    make_onnx,
)
from tests.bench.report import (  # noqa: E402
    Contest,
    Row,
    Texts,
    compare,
    table,
    texts_table,
)

HERE = Path(__file__).resolve().parent
Answers = dict[tuple[str, str, str], list[Answer]]
Skipped = dict[tuple[str, str], str]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", default=DEFAULT, help=f"some of {','.join(CONTESTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=70.0, help="of audio, offline")
    parser.add_argument("--stream-seconds", type=float, default=24.0, help="of each stream")
    parser.add_argument("--streams", type=int, default=8, help="how many of them")
    parser.add_argument("--vad-seconds", type=float, default=600.0)
    parser.add_argument("--train-minutes", type=float, default=0.5, help="of each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--onnx", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--peer", help="python with funasr 1.4.16, default: .venv-peer")
    parser.add_argument("--install-peer", action="store_true", help="into .venv-peer")
    parser.add_argument("--models", type=Path, default=ROOT / "exp/bench", help="cache folder")
    parser.add_argument("--size", choices=list(SIZES), default="large")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vad-model", type=Path, help="default: the released one, or a small one")
    parser.add_argument("--data", type=Path, help="of texts: a data directory with text")
    parser.add_argument("--model", default="paraformer-zh-mini", help="of texts")
    parser.add_argument("--out", type=Path, default=ROOT / "exp/bench.json")
    args = parser.parse_args(argv)
    args.tasks = args.tasks.split(",")
    if ("texts" in args.tasks) != bool(args.data) or (args.data and args.tasks != ["texts"]):
        parser.error("--tasks texts: alone, and with --data")
    unknown = [task for task in args.tasks if task not in CONTESTS]
    if unknown:
        parser.error(f"--tasks: {','.join(unknown)} not among {','.join(CONTESTS)}")
    if args.rounds < 1:
        parser.error("--rounds: 1 or more")
    return args


class Bench:
    """One run: where the models and the peer are, what was answered, and what could not be."""

    def __init__(self, args: argparse.Namespace, peer: Peer) -> None:
        self.args, self.peer = args, peer
        self.answers: Answers = {}
        self.skipped: Skipped = {}
        self.contests = contests(args, ["funasr", *(ONNX_ENGINES if args.onnx else ())])
        self.models = args.models / f"{args.size}-{args.seed}"
        self.no_onnx = "not asked for"
        if any(row.rival in ONNX_ENGINES for row in self.contests):
            self._find_onnx()

    def _find_onnx(self) -> None:
        """The maker of the graphs makes weights of its own, which then are those of all."""
        say("the ONNX graphs are made where they are not there; minutes")
        folder = self.args.models / f"onnx-{self.args.seed}"
        self.no_onnx = make_onnx(self.peer, folder, self.args.seed)
        if not self.no_onnx:
            self.models = folder

    def measure(self) -> None:
        """Run everything."""
        for program in dict.fromkeys(row.program for row in self.contests):
            asked = [row for row in self.contests if row.program == program]
            if program == "cif":
                self._cif(asked)
            else:
                self._program(program, asked)

    def rows(self) -> list[Row]:
        """What has been measured so far."""
        return [compare(row, self.answers, self.skipped) for row in self.contests]

    def _program(self, program: str, rows: Sequence[Contest]) -> None:
        """All rounds of all tasks of a program, engine after engine within each task."""
        pairs = dict.fromkeys(
            pair for row in rows for pair in ((row.own, row.task), (row.rival, row.rival_task))
        )
        training = program == "train"
        data = make_corpus(self.models / program) if training else [self._model(program)]
        engines: dict[str, Engine] = {}
        with contextlib.ExitStack() as stack:
            for engine in dict.fromkeys(engine for engine, _ in pairs):
                started = self._start(stack, program, engine, data)
                if started:
                    engines[engine] = started
            for number in range(self.args.rounds):
                for engine, task in pairs:
                    if engine in engines and (program, engine) not in self.skipped:
                        say(f"round {number + 1}: {program} {task} {engine}")
                        self._ask(engines[engine], program, engine, task)

    def _ask(self, asked: Engine, program: str, engine: str, task: str) -> None:
        try:
            answer = asked.ask(task)
        except EngineError as error:
            self.skipped[program, engine] = str(error)
        else:
            self.answers.setdefault((program, engine, task), []).append(answer)

    def _start(
        self, stack: contextlib.ExitStack, program: str, engine: str, data: Sequence[Path]
    ) -> Engine | None:
        """An engine with its model loaded, which ends with the stack; None: `skipped` says why."""
        reason = "" if engine in OURS else self.peer.lacks(engine.partition(",")[0])
        if engine in ONNX_ENGINES:
            reason = reason or self.no_onnx
        if reason:
            self.skipped[program, engine] = reason
            return None
        command = self._command(program, engine, data)
        if program == "train":
            return Once(command, TRAINED)
        say(f"{program}: {engine} is loaded")
        try:
            started = stack.enter_context(driver(command, self.args.threads))
        except EngineError as error:
            self.skipped[program, engine] = str(error)
            return None
        self.answers[program, engine, "load"] = [started.loaded]
        return started

    def _command(self, program: str, engine: str, data: Sequence[Path]) -> list[str]:
        """What starts a driver."""
        args = self.args
        python = sys.executable if engine in OURS else str(self.peer.python)
        if program == "train":
            options = {
                "data": data[0],
                "lang": data[1],
                "out": self.models / f"train-{engine}",
                "minutes": args.train_minutes,
                "threads": args.threads,
            }
        else:
            long = args.vad_seconds
            seconds = {"streaming": args.stream_seconds, "vad": long, VOICES: long}
            folder = self._graphs(data[0], engine) if engine in GRAPHS else data[0]
            options = {"model": folder, "seconds": seconds.get(program, args.seconds)}
            options |= {"data": args.data} if args.data else {}
        given = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
        return [python, str(HERE / f"{program}.py"), "--engine", engine, *given]

    def _graphs(self, model: Path, engine: str) -> Path:
        """The graphs of a model in the numbers of an engine, made where they are not there yet."""
        folder = self.args.models / f"graphs-{model.parent.name}-{model.name}-{GRAPHS[engine]}"
        report, weights = folder / "export.json", model / "model.pt"
        if not report.is_file() or report.stat().st_mtime < weights.stat().st_mtime:
            say(f"{folder} is made")
            export_model(model, folder, dtype=GRAPHS[engine])
        return folder

    def texts(self) -> list[Texts]:
        """What each format of ours made of the data directory."""
        keys, model = list(read_table(self.args.data / "wav.scp")), self._model("offline")
        found = []
        for (_, engine, task), answers in self.answers.items():
            if task == "load":
                continue
            folder = self._graphs(model, engine) if engine in GRAPHS else model
            files = folder.glob("*.onnx" if engine in GRAPHS else "model.pt")
            size = sum(file.stat().st_size for file in files)
            hyps = dict(zip(keys, answers[0]["texts"], strict=True))
            found.append(Texts(engine, size, hyps, answers))
        return found

    def _model(self, program: str) -> Path:
        """The directory for a program; ours is made where it is not there yet."""
        if self.args.data:
            return find_model(self.args.model)
        if program == "vad":
            released = SHARED / "models/fsmn-vad"
            small = ROOT / "tests/fixtures/oracle/fsmn_vad"
            return self.args.vad_model or (released if released.is_dir() else small)
        folder = self.models / program
        if not self.no_onnx and program in KINDS:
            return folder
        assert program in (*KINDS, VOICES)
        say(f"{folder} is made, unless it is there")
        return make(folder, program, SIZES[self.args.size], self.args.seed)

    def _cif(self, rows: Sequence[Contest]) -> None:
        """cif.py measures all three in turn by itself."""
        reason = self.peer.lacks("funasr")
        if not reason:
            say("cif: ours and funasr")
            command = [sys.executable, str(HERE / "cif.py"), "--peer", str(self.peer.python)]
            command += ["--rounds", str(self.args.rounds), "--threads", str(self.args.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf8")
            reason = "" if done.stdout.startswith("{") else "cif.py failed"
        if reason:
            self.skipped.update({("cif", row.rival): reason for row in rows})
            return
        result = json.loads(done.stdout)
        if not result["equal"]:
            say(f"cif: ours and the peer's differ: {result['relative_difference']}")
        for name, value in result["ms"].items():
            answer = {"ms": value, "others": result["others"]}
            self.answers["cif", CIF_RIVALS.get(name, name), "all"] = [answer]


def say(text: str) -> None:
    """To whoever waits."""
    print(text, file=sys.stderr, flush=True)


def facts(args: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """What one has to know to measure the same again."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, encoding="utf8"
    )
    return {
        "command": shlex.join(sys.argv),
        "commit": commit.stdout.strip(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": processor(),
        "processors": os.cpu_count(),
        "torch": metadata.version("torch"),
        "peer": dict(bench.peer.versions),
        **{key: getattr(args, key) for key in ("rounds", "threads", "seed", "size", "streams")},
        **{key: getattr(args, key) for key in ("seconds", "stream_seconds", "vad_seconds")},
    }


def processor() -> str:
    """Its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_json(path: Path, bench: Bench, rows: Sequence[Row]) -> None:
    """The facts, the rows, and every answer but what was said."""
    said = ("texts", "spans")
    answers = [
        {
            "program": program,
            "engine": engine,
            "task": task,
            "rounds": [{k: v for k, v in a.items() if k not in said} for a in rounds],
        }
        for (program, engine, task), rounds in bench.answers.items()
    ]
    document = {
        **facts(bench.args, bench),
        "rows": [row._asdict() for row in rows],
        "answers": answers,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf8")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if ours did not run, 130 if it was stopped before the end."""
    args = parse(argv)
    bench = Bench(args, find_peer(args.peer, install=args.install_peer, onnx=args.onnx))
    stopped = False
    try:
        bench.measure()
    except KeyboardInterrupt:
        stopped = True
    rows = bench.rows()
    print(table(rows))
    if args.data:
        formats = bench.texts()
        print(texts_table(read_table(args.data / "text"), formats))
        for each in formats:
            write_table(args.out.with_suffix("") / each.format.replace(", ", "-"), each.hyps)
    write_json(args.out, bench, rows)
    say(f"{args.out}: {'what was measured until the stop' if stopped else 'all figures'}")
    failed = {program: why for (program, engine), why in bench.skipped.items() if engine == "ours"}
    for program, why in failed.items():
        say(f"{program}: ours failed: {why}")
    return 130 if stopped else int(bool(failed))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
