"""The pages of egs/service: they start by options that there are, and copy what exists."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from paraformer.cli import serve
from paraformer.cli.command_line import parse
from paraformer.options import ServeOptions
from tests.conftest import ROOT

PAGES = ROOT / "egs" / "service"
INSTRUCTIONS = {
    *("FROM", "ARG", "ENV", "COPY", "RUN", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"),
    "ENTRYPOINT",
}


def served(arguments):
    """The options of `funasr serve` that arguments mean."""
    own, rest = serve.split(parse(arguments).values)
    assert rest == {}
    return ServeOptions(**own)


@pytest.fixture(scope="module")
def image():
    """The instructions of the Dockerfile, as (name, argument)."""
    text = (PAGES / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


def test_the_image_copies_what_there_is_and_runs_sound_lines(image):
    assert {name for name, _ in image} == INSTRUCTIONS
    for name, argument in image:
        if name == "COPY":
            *paths, target = argument.split()
            assert target.startswith("/src/") and all((ROOT / path).exists() for path in paths)
        if name == "RUN":
            check = subprocess.run(["bash", "-n", "-c", argument], capture_output=True, text=True)
            assert (check.returncode, check.stderr) == (0, "")
    runs = [argument for name, argument in image if name == "RUN"]
    assert [shlex.split(run)[0] for run in runs] == [
        "python",
        *["$VENV/bin/pip"] * 2,
        "$VENV/bin/funasr",
    ]
    variables = dict(
        part.split("=") for name, given in image if name == "ENV" for part in given.split()
    )
    used = {name for run in runs for name in re.findall(r"\$\{?(\w+)", run)}
    assert used == {"VENV", "SRC", "TORCH_INDEX"} and {*variables} >= {"VENV", "SRC"}
    (pinned,) = re.findall(r" torch==(\S+)", "\n".join(runs))
    assert f" torch=={pinned}" in (ROOT / "Makefile").read_text("utf-8")
    (extra,) = re.findall(r"\$SRC\[(\w+)\]", "\n".join(runs))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert extra in setup["options.extras_require"]
    files = (ROOT / "setup.cfg").read_text("utf-8")
    assert "file: README.md" in files and "LICENSE" in files  # why they are copied


def test_the_image_starts_the_service(image):
    told = dict(image)
    command = json.loads(told["ENTRYPOINT"])
    assert command[:2] == ["/opt/funasr/bin/funasr", "serve"]
    assert served(command[2:]) == ServeOptions(host="0.0.0.0")
    assert int(told["EXPOSE"]) == ServeOptions().port and told["STOPSIGNAL"] == "SIGTERM"
    assert f":{ServeOptions().port}/health" in told["HEALTHCHECK"]
    assert "root" not in told["USER"] and int(told["USER"].split(":")[0]) > 0


def test_the_manifest_has_probes_that_there_are_and_time_to_drain(image):
    deployment, service = yaml.safe_load_all((PAGES / "kubernetes.yaml").read_text("utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = served(json.loads(dict(image)["ENTRYPOINT"])[2:] + container["args"])
    assert pod["terminationGracePeriodSeconds"] > options.drain_s + 5
    (port,) = container["ports"]
    assert port["containerPort"] == options.port == service["spec"]["ports"][0]["port"]
    probes = {
        name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")
    }
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert [probe["path"] for probe in probes.values()] == ["/ready", "/ready", "/health"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert [variable["name"] for variable in container["env"]] == ["FUNASR_TOKEN"]


def test_the_unit_starts_the_service_and_leaves_it_time_to_drain(tmp_path):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(PAGES / "funasr.service", "utf-8")
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command[:2] == ["/opt/funasr/bin/funasr", "serve"]
    options = served(command[2:])
    assert (
        options.host == "0.0.0.0" and float(unit["Service"]["TimeoutStopSec"]) > options.drain_s + 5
    )
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    text = (PAGES / "funasr.service").read_text("utf-8").replace(command[0], shutil.which("true"))
    (tmp_path / "funasr.service").write_text(text, "utf-8")
    check = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "funasr.service"], capture_output=True, text=True
    )
    assert "funasr.service" not in check.stderr, check.stderr
