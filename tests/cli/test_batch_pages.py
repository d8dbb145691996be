"""The pages of egs/batch: each runs, or says what the options and the schedulers know."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest
import yaml

from paraformer.cli.command_line import parse, type_known
from paraformer.shard import read_shard
from tests.conftest import ROOT

PAGES = ROOT / "egs" / "batch"
MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"
CLIP = ROOT / "tests" / "fixtures" / "oracle" / "inputs" / "clip_a.flac"


@pytest.fixture
def place(tmp_path):
    """A folder with a list, and the command of the checkout by its installed name."""
    (tmp_path / "wav.scp").write_text("".join(f"u{n} {CLIP}\n" for n in range(3)))
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "funasr"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/bin/funasr.py" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def run(place, *command, **environment):
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        command, cwd=place, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.cli
@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_the_makefile_does_all_parts_and_merges_them(place):
    page = ("make", "-f", str(PAGES / "Makefile"), "SHARDS=2", f"OPTIONS=+model={MODEL}")
    run(place, *page)
    text = (place / "exp/batch/1best_recog/text").read_text("utf-8")
    assert [line.split()[0] for line in text.splitlines()] == ["u0", "u1", "u2"]
    assert len({*(line.split(" ", 1)[1] for line in text.splitlines())}) == 1


@pytest.mark.cli
@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_the_slurm_page_does_its_part(place):
    array = {"TASK_ID": "1", "TASK_MIN": "1", "TASK_MAX": "1", "TASK_COUNT": "1"}
    told = {f"SLURM_ARRAY_{name}": value for name, value in array.items()}
    run(place, "bash", str(PAGES / "slurm.sh"), "wav.scp", "out", f"+model={MODEL}", **told)
    assert len((place / "out/shard.1/1best_recog/text").read_text("utf-8").splitlines()) == 3


def test_the_manifest_is_of_an_indexed_job_whose_options_there_are(monkeypatch):
    job = yaml.safe_load((PAGES / "kubernetes.yaml").read_text("utf-8"))
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"], spec["completionMode"]) == (
        "batch/v1",
        "Job",
        "Indexed",
    )
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # as podFailurePolicy wants it
    (container,) = spec["template"]["spec"]["containers"]
    given, unknown = type_known(parse(container["args"]).values)
    assert unknown == {} and container["command"] == ["funasr"]
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    for index in range(spec["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert read_shard(given["shard"]) == (index + 1, spec["completions"])
