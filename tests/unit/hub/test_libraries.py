"""The caches are those of the hubs' own libraries: what they fetch is found, and what is fetched
here they find. They also show that the server of these tests speaks the protocols.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paraformer.hub import directories as hub
from tests.hub_server import files_of, serve

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: it is in [dev]")
pytest.importorskip("modelscope_hub", reason="modelscope-hub is not installed: it is in [dev]")

FILES = {"config.yaml": b"model: x\n", "model.pt": bytes(5000), "example/a.wav": b"RIFF"}
# They read the environment when they are imported, so each has a process of its own.
PROGRAMS = {
    "hf": "from huggingface_hub import snapshot_download as fetch",
    "ms": "from modelscope_hub.compat.snapshot_download import snapshot_download as fetch",
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "MODELSCOPE_CACHE": str(tmp_path / "ms"),
        "MODELSCOPE_HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hf"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }.items():
        monkeypatch.setenv(name, value)
    revisions = dict.fromkeys(("main", "master", "v2.0.4"), FILES)
    with serve({"funasr/fsmn-vad": revisions, "iic/vad.x": revisions}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.address)
        yield server


def fetched_by_library(key: str, model: str, **options: object) -> str:
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    program = f"{PROGRAMS[key]}\nprint(fetch({model!r}{given}))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("options", [{}, {"revision": "v2.0.4"}], ids=["newest", "revision"])
@pytest.mark.parametrize(("key", "model"), [("hf", "funasr/fsmn-vad"), ("ms", "iic/vad.x")])
class TestLibraries:
    def test_what_a_library_fetched_is_found(self, server, key, model, options):
        folder = fetched_by_library(key, model, **options)
        server.requests.clear()
        assert str(hub.find_model(model, key, **options)) == folder
        assert server.requests == []

    def test_a_library_finds_what_was_fetched_here(self, server, key, model, options):
        folder = hub.find_model(model, key, **options)
        server.requests.clear()
        assert fetched_by_library(key, model, local_files_only=True, **options) == str(folder)
        assert not server.asked_for(model)


@pytest.mark.parametrize(("key", "model"), [("hf", "funasr/fsmn-vad"), ("ms", "iic/vad.x")])
@pytest.mark.parametrize("left_out", ["tokens.json", "am.mvn", "configuration.json"])
def test_the_rest_of_what_a_library_left_unfinished_is_fetched(server, key, model, left_out):
    metas = {
        "tokenizer_conf": {"token_list": "tokens.json"},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    }
    listing = json.dumps({"file_path_metas": metas}).encode()
    files = {**FILES, "tokens.json": b"[]", "am.mvn": b"x", "configuration.json": listing}
    files["config.yaml"] = b"model: x\ntokenizer: CharTokenizer\nfrontend: WavFrontend\n"
    server.models[model] = dict.fromkeys(("main", "master"), files)
    # One that lacks the list of its files as well lacks a file that config.yaml speaks of.
    patterns = {"tokens.json", left_out} if key == "ms" else {left_out}
    folder = fetched_by_library(key, model, ignore_patterns=sorted(patterns))
    server.requests.clear()
    assert str(hub.find_model(model, key)) == folder
    assert files_of(Path(folder)) == files
    assert not server.asked_for("model.pt")
    server.requests.clear()
    assert str(hub.find_model(model, key)) == folder and server.requests == []


def test_the_cache_is_in_order_for_huggingface_hub(server):
    hub.find_model("funasr/fsmn-vad", "hf")
    from huggingface_hub import scan_cache_dir

    report = scan_cache_dir(hub.HuggingFace().home("funasr/fsmn-vad").parent)
    (repository,) = report.repos
    (revision,) = repository.revisions
    assert report.warnings == []
    assert (repository.repo_id, revision.refs) == ("funasr/fsmn-vad", {"main"})
    assert {file.file_name for file in revision.files} == {"config.yaml", "model.pt", "a.wav"}
