"""A full disk, a closed pipe, a closed stdout: one line and an exit code, or silence."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch

from paraformer import files
from paraformer.cli import ends
from paraformer.cli.main import main
from paraformer.models.weights import write_torch
from paraformer.output.tables import GrowingTables
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
FULL = "/dev/full"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="no /dev/full on this system")
LINE = "stdout: No space left on device; make room, or write elsewhere\n"
# One of each way in: the command, a program of bin, one of utils, one that runs jobs.
WAYS = [["bin/funasr.py", "--help"], ["bin/compute_cer.py", "--help"]]
WAYS += [["utils/copy_data_dir.py", "--help"], ["utils/run.py", "--help"]]
WAYS += [["bin/funasr.py", "doctor"], ["bin/decode.py", "--cfg", "job"]]


def start(arguments: list[str], **streams) -> subprocess.Popen[str]:
    # Unbuffered, stdout fails at each word rather than at the end.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, **streams
    )


@needs_full
def test_a_full_disk_behind_stdout_is_one_line():
    with open(FULL, "w") as full:
        processes = [start(way, stdout=full) for way in WAYS]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err.count("\n")) == (1, 1) and err.endswith(LINE), err


@needs_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_named_however_long_the_text_is(unbuffered):
    """A text longer than the buffers fails where it is printed, a shorter one behind the end."""
    says = "import sys; from paraformer.cli import ends\n"
    says += "print_it = lambda: print('x' * int(sys.argv[1]))\n"
    says += "sys.exit(ends.run(print_it, lambda text: print(text, file=sys.stderr)))"
    for length in ("10", "5000", "9000", "100000"):
        command = [sys.executable, "-c", says, length]
        with open(FULL, "w") as full:
            env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
            done = subprocess.run(
                command, cwd=ROOT, env=env, stdout=full, stderr=subprocess.PIPE, text=True
            )
        assert (done.returncode, done.stderr) == (1, LINE)


def test_a_reader_that_has_seen_enough_is_no_fault_to_speak_of():
    """As behind `| head -1`: nobody reads the pipe any more."""
    reader, writer = os.pipe()
    os.close(reader)
    processes = [start(way, stdout=writer) for way in WAYS]
    os.close(writer)
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (1, "")


def test_a_stdout_that_the_caller_has_closed_takes_what_is_said():
    script = f"exec {sys.executable} bin/funasr.py --help >&-"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_system_refuses_is_one_line_wherever_it_happens(monkeypatch, capsys):
    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.tmp")

    monkeypatch.setattr("paraformer.cli.main._main", refuse)
    assert main(["x.wav"]) == 1
    assert capsys.readouterr().err == "funasr: x.tmp: " + LINE.removeprefix("stdout: ")
    assert ends.refusal(PermissionError(13, "Permission denied", "x")) == (
        "x: Permission denied; check the path"
    )


@needs_full
def test_files_say_which_of_them_did_not_fit(tmp_path):
    """Tables line by line, and weights, of which the old ones stay."""
    (tmp_path / "text").symlink_to(FULL)
    tables = GrowingTables(tmp_path, [], ["text"])
    for call in (lambda: tables.add("text", "a", "b"), tables.close):
        with pytest.raises(Exception, match=f"{tmp_path}/text: No space left on device; give"):
            call()
    weights = tmp_path / "model.pt"
    write_torch({"x": torch.ones(1)}, weights)
    before = weights.read_bytes()
    draft = files._draft(tmp_path, weights.name)
    draft.symlink_to(FULL)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_torch({"x": torch.ones(9000)}, weights)
    assert caught.value.filename == str(weights)
    assert weights.read_bytes() == before and not os.path.lexists(draft)


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_sigterm_is_told_from_ctrl_c_by_whoever_raises_it_anew(capsys):
    """As Ray does, which waits in its own code."""

    def work(number):
        with ends.sigterm_as_ctrl_c():
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("stopped; all is here") from None

    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        assert ends.run(lambda number=number: work(number), print) == code
        assert capsys.readouterr().out == "stopped; all is here\n"
