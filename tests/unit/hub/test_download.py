"""Models are fetched from both hubs: from a server on this machine that speaks their protocols."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from paraformer.api.auto import AutoModel
from paraformer.cli.main import main
from paraformer.errors import CheckpointError, DownloadError
from paraformer.hub import directories as hub
from paraformer.hub import transport
from paraformer.hub.huggingface import HuggingFace
from paraformer.hub.modelscope import ModelScope
from tests.conftest import ROOT
from tests.hub_server import commit_of, files_of, serve

WEIGHTS = random.Random(0).randbytes(700_000)  # more than two blocks of a download
FILES = {
    "README.md": b"# a model\n",
    "am.mvn": b"<Nnet>\n",
    "config.yaml": b"model: Paraformer\n",
    "configuration.json": b'{"file_path_metas": {"init_param": "model.pt"}}',
    "example/asr_example.wav": b"RIFF" * 100,
    "example/run.py": b"raise SystemExit\n",
    "fig/struct.png": b"png",
    "finetune.sh": b"exit 1\n",
    "model.onnx": b"onnx",
    "model.pt": WEIGHTS,
    "model.py": b"raise SystemExit\n",
    "tokens.json": b"[]",
}
OTHERS = {"example/run.py", "fig/struct.png", "finetune.sh", "model.onnx", "model.py"}
NEEDED = {path: content for path, content in FILES.items() if path not in OTHERS}
OLD = {**FILES, "README.md": b"# an old model\n", "model.pt": WEIGHTS[::-1]}
KEYS = ("ms", "hf")
MODELS = dict(zip(KEYS, hub.RELEASED["fsmn-vad"], strict=True))
DEFAULTS = {"ms": "master", "hf": "main"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    models = {MODELS[key]: {DEFAULTS[key]: FILES, "v2.0.4": OLD} for key in KEYS}
    with serve(models) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/")
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.address)
        yield server


def no_socket(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("touches the network")

    for name in ("socket", "getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)


def replace_files(server, files):
    for key in KEYS:
        server.models[MODELS[key]][DEFAULTS[key]] = files


@pytest.mark.parametrize("key", KEYS)
def test_a_short_name_is_fetched_once(server, monkeypatch, key, capfd):
    folder = hub.find_model("fsmn-vad", key)
    assert files_of(folder) == NEEDED
    requests = server.asked_for("model.pt") if key == "ms" else server.asked_for("storage")
    assert len(server.requests) == 1 + len(NEEDED) + (2 if key == "hf" else 0)  # 2 are redirected
    assert requests[-1] is server.requests[-1], "the weights are the last"
    server.requests.clear()
    assert hub.find_model(MODELS[key], key) == folder
    server.shutdown()
    server.server_close()
    no_socket(monkeypatch)
    assert hub.find_model("fsmn-vad", key) == folder
    assert hub.find_model("fsmn-vad", key, offline=True) == folder
    assert hub.find_model("fsmn-vad", key, DEFAULTS[key]) == folder
    assert server.requests == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("key", KEYS)
def test_nothing_else_is_left_in_the_cache(server, tmp_path, key):
    folder = hub.find_model("fsmn-vad", key)
    home = hub.HUBS[key][1]().home(MODELS[key])
    rest = {p for p in home.rglob("*") if p.is_file() and folder not in p.parents}
    assert {path.relative_to(home).as_posix() for path in rest} <= {".lock", "refs/main"}


@pytest.mark.parametrize("key", KEYS)
def test_a_revision_has_a_directory_of_its_own(server, key):
    old = hub.find_model("fsmn-vad", key, "v2.0.4")
    assert (old / "model.pt").read_bytes() == OLD["model.pt"]
    assert hub.find_model("fsmn-vad", key) == old, "it is the model that is here"
    newest = hub.find_model("fsmn-vad", key, DEFAULTS[key])
    assert (newest / "model.pt").read_bytes() == WEIGHTS
    assert newest != old
    assert hub.find_model("fsmn-vad", key) == newest
    assert hub.find_model("fsmn-vad", key, "v2.0.4") == old
    with pytest.raises(DownloadError, match=r"HTTP 404: .*no revision 'v9'"):
        hub.find_model("fsmn-vad", key, "v9")


@pytest.mark.parametrize("key", KEYS)
def test_a_revision_of_the_same_files_is_found_too(server, key):
    folder = hub.find_model("fsmn-vad", key)
    server.models[MODELS[key]]["v3"] = FILES
    same = hub.find_model("fsmn-vad", key, "v3")
    assert (same / "model.pt").read_bytes() == WEIGHTS
    assert (same == folder) == (key == "hf"), "there a revision is a commit"
    assert hub.find_model("fsmn-vad", key, "v3", offline=True) == same


@pytest.mark.parametrize("key", KEYS)
def test_a_newer_version_is_not_asked_for(server, key):
    folder = hub.find_model("fsmn-vad", key)
    replace_files(server, {**FILES, "model.pt": b"new"})
    assert hub.find_model("fsmn-vad", key) == folder
    assert (folder / "model.pt").read_bytes() == WEIGHTS


def test_a_commit_of_hugging_face_is_a_revision(server):
    commit = commit_of(OLD)
    folder = hub.find_model("fsmn-vad", "hf", commit)
    assert folder.name == commit
    assert (folder / "model.pt").read_bytes() == OLD["model.pt"]
    assert hub.find_model("fsmn-vad", "hf", commit, offline=True) == folder


METAS = {
    "init_param": "model.pt",
    "tokenizer_conf": {"token_list": "tokens.json", "seg_dict_file": "seg_dict"},
    "frontend_conf": {"cmvn_file": "am.mvn"},
}
WHOLE = {
    **NEEDED,
    "seg_dict": b"a b\n",
    "configuration.json": json.dumps({"file_path_metas": METAS}).encode(),
}


def unfinished(key: str, files) -> Path:
    """A snapshot of the newest version as a library left it."""
    home = hub.HUBS[key][1]().home(MODELS[key])
    name = "master" if key == "ms" else commit_of(WHOLE)
    folder = home / "snapshots" / name
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit_of(WHOLE))
    return folder


def asked_for_files(server) -> set[str]:
    """The model's files that were asked for."""
    return {path for path in WHOLE if server.asked_for(f"FilePath={path}")} | {
        path for path in WHOLE if server.asked_for(f"/resolve/{commit_of(WHOLE)}/{path}")
    }


@pytest.mark.parametrize(
    "missing", ["tokens.json", "am.mvn", "seg_dict", "model.pt", "config.yaml"]
)
@pytest.mark.parametrize("key", KEYS)
def test_the_rest_of_an_unfinished_snapshot_is_fetched(server, key, missing):
    replace_files(server, WHOLE)
    folder = unfinished(key, {path: c for path, c in WHOLE.items() if path != missing})
    with pytest.raises(CheckpointError, match=rf"{folder} \(lacks {missing}\)"):
        hub.find_model("fsmn-vad", key, offline=True)
    assert hub.find_model("fsmn-vad", key) == folder and files_of(folder) == WHOLE
    assert asked_for_files(server) == {missing}
    server.requests.clear()
    assert hub.find_model("fsmn-vad", key) == folder
    assert not server.requests


@pytest.mark.parametrize("missing", ["configuration.json", "half of model.pt"])
def test_the_files_that_huggingface_hub_notes_must_be_there(server, missing):
    """As version 2.4 writes `trees/COMMIT.json`; nothing in these weights tells their size."""
    replace_files(server, WHOLE)
    files = {path: c for path, c in WHOLE.items() if path != missing and path != "README.md"}
    if missing.startswith("half"):
        files["model.pt"] = WEIGHTS[: len(WEIGHTS) // 2]
    folder = unfinished("hf", files)
    tree = {path: {"size": len(content), "blob_id": "x"} for path, content in WHOLE.items()}
    note = folder.parent.parent / "trees" / f"{folder.name}.json"
    note.parent.mkdir()
    note.write_text(json.dumps({"format_version": 1, "files": tree}))
    assert hub.find_model("fsmn-vad", "hf") == folder and files_of(folder) == WHOLE
    (folder / "README.md").unlink()
    server.requests.clear()
    assert hub.find_model("fsmn-vad", "hf") == folder, "a model does without"
    assert not server.requests


@pytest.mark.parametrize("key", KEYS)
def test_a_name_of_what_the_hub_does_not_have_is_asked_for_once(server, key):
    metas = {**METAS, "jieba_usr_dict": "nowhere"}
    files = {**WHOLE, "configuration.json": json.dumps({"file_path_metas": metas}).encode()}
    replace_files(server, files)
    folder = hub.find_model("fsmn-vad", key)
    server.requests.clear()
    assert hub.find_model("fsmn-vad", key) == hub.find_model("fsmn-vad", key, offline=True)
    assert not server.requests
    (folder / "am.mvn").unlink()
    assert files_of(hub.find_model("fsmn-vad", key)) == files


def test_what_lies_in_a_flat_folder_is_not_fetched_again(server):
    """Neither what is unfinished there, nor what fits a revision that its note may be wrong of."""
    flat = ModelScope().folders(MODELS["ms"], "")[0]
    for path in ("model.pt", "config.yaml"):
        flat.mkdir(parents=True, exist_ok=True)
        (flat / path).write_bytes(WHOLE[path])
    replace_files(server, WHOLE)
    (flat / "configuration.json").write_bytes(WHOLE["configuration.json"])
    folder = hub.find_model("fsmn-vad", "ms")
    assert files_of(folder) == WHOLE and folder != flat
    assert not asked_for_files(server) & {"model.pt", "config.yaml", "configuration.json"}


@pytest.mark.parametrize("without_length", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_a_connection_that_is_cut_is_gone_on_with(server, key, without_length):
    server.faults.without_length = without_length
    server.faults.cuts["model.pt"] = [1000, 300_000, 1]
    folder = hub.find_model("fsmn-vad", key)
    assert files_of(folder) == NEEDED
    ranges = [r.headers.get("range") for r in server.asked_for("model.pt" if key == "ms" else "st")]
    assert [r for r in ranges if r] == ["bytes=1000-", "bytes=301000-", "bytes=301001-"]


@pytest.mark.parametrize("key", KEYS)
def test_the_next_run_goes_on_where_the_first_one_stopped(server, key):
    server.faults.cuts["model.pt"] = [300_000, 0]
    with pytest.raises(DownloadError, match="broke after 300000 bytes; check the connection"):
        hub.find_model("fsmn-vad", key)
    with pytest.raises(CheckpointError, match="not on this machine"):
        hub.find_model("fsmn-vad", key, offline=True)
    server.requests.clear()
    folder = hub.find_model("fsmn-vad", key)
    assert files_of(folder) == NEEDED
    ranges = [r.headers.get("range") for r in server.requests]
    assert [r for r in ranges if r][-1] == "bytes=300000-"
    assert not server.asked_for("am.mvn"), "what was whole is not fetched again"


@pytest.mark.parametrize("key", KEYS)
def test_a_server_that_ignores_ranges_sends_all_again(server, key):
    server.faults.ignores_ranges = True
    server.faults.cuts["model.pt"] = [300_000, 400_000]
    assert files_of(hub.find_model("fsmn-vad", key)) == NEEDED


@pytest.mark.parametrize("key", KEYS)
def test_a_part_of_another_version_is_not_gone_on_with(server, key):
    server.faults.cuts["model.pt"] = [300_000, 0]
    with pytest.raises(DownloadError):
        hub.find_model("fsmn-vad", key)
    replace_files(server, {**FILES, "model.pt": OLD["model.pt"]})
    folder = hub.find_model("fsmn-vad", key)
    assert (folder / "model.pt").read_bytes() == OLD["model.pt"]
    assert not list(hub.HUBS[key][1]().home(MODELS[key]).glob(".parts")), "nor is it kept"


@pytest.mark.parametrize("key", KEYS)
def test_a_hub_that_states_no_checksum_is_believed_for_one_run(server, key):
    server.faults.states_nothing = True
    server.faults.cuts["model.pt"] = [300_000, 100_000, 0]
    with pytest.raises(DownloadError, match="broke after 400000 bytes"):
        hub.find_model("fsmn-vad", key)
    replace_files(server, {**FILES, "model.pt": OLD["model.pt"]})
    folder = hub.find_model("fsmn-vad", key)
    assert (folder / "model.pt").read_bytes() == OLD["model.pt"]


@pytest.mark.parametrize("key", KEYS)
def test_a_part_that_is_more_than_the_server_has_is_thrown_away(server, key):
    server.faults.cuts["model.pt"] = [300_000, 0]
    with pytest.raises(DownloadError):
        hub.find_model("fsmn-vad", key)
    server.faults.content["model.pt"] = WEIGHTS[:1000]
    with pytest.raises(DownloadError, match="does not fit"):
        hub.find_model("fsmn-vad", key)
    server.faults.content.clear()
    assert files_of(hub.find_model("fsmn-vad", key)) == NEEDED


@pytest.mark.parametrize(
    "wrong", [WEIGHTS[::-1], WEIGHTS[:-1], WEIGHTS + b"x", b""], ids=["other", "short", "long", "0"]
)
@pytest.mark.parametrize("path", ["model.pt", "config.yaml"])
@pytest.mark.parametrize("key", KEYS)
def test_what_does_not_fit_is_thrown_away(server, key, path, wrong):
    server.faults.content[path] = wrong
    with pytest.raises(DownloadError, match="does not fit the size or checksum") as error:
        hub.find_model("fsmn-vad", key)
    assert "\n" not in str(error.value)
    home = hub.HUBS[key][1]().home(MODELS[key])
    assert not any(p.stat().st_size == len(wrong) for p in home.rglob("*.pt"))
    assert list((home / ".parts").iterdir()) == []
    server.faults.content.clear()
    assert files_of(hub.find_model("fsmn-vad", key)) == NEEDED


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("what", ["list", "model.pt"])
@pytest.mark.parametrize("key", KEYS)
def test_a_refusal_is_one_line_and_is_not_tried_again(server, key, what, status):
    server.faults.status[what] = status
    with pytest.raises(DownloadError, match=f"HTTP {status}: ") as error:
        hub.find_model("fsmn-vad", key)
    assert "\n" not in str(error.value) and MODELS[key] in str(error.value)
    assert len(server.requests) == len({request.path for request in server.requests})
    if what == "list":
        assert not hub.HUBS[key][1]().home(MODELS[key]).exists()


def test_a_server_that_is_not_there_is_one_line(server, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(DownloadError, match=r"refused.*; check the connection to Hugging Face"):
        hub.find_model("fsmn-vad", "hf")

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match="its address is not found"):
        hub.find_model("fsmn-vad", "ms")


def test_a_server_that_says_nothing_is_left_soon(server, monkeypatch):
    monkeypatch.setattr(transport, "TIMEOUT_SECONDS", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(DownloadError, match="no answer in"):
            hub.find_model("fsmn-vad", "hf")


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "http://", "ftp://127.0.0.1", "http://127.0.0.1:x", "http://[::1"]
)
def test_an_address_that_is_none_is_one_line(server, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(DownloadError, match=r"check the connection to Hugging Face") as error:
        hub.find_model("fsmn-vad", "hf")
    assert "\n" not in str(error.value)


def answering(body: bytes, head: str = "200 OK"):
    """A server that gives one answer to everybody."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):  # whoever has read enough hangs up
                connection.recv(65536)
                connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)

    threading.Thread(target=answer, daemon=True).start()
    return listener


@pytest.mark.parametrize(
    "body",
    [
        b"<html>sign in</html>",
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"Data": 3, "sha": 3, "siblings": 3}',
        b'{"sha": "' + b"c" * 40 + b'", "siblings": [3], "Data": {"Files": [3]}}',
        b'{"Success": false, "Message": "no such\\nmodel", "sha": "x"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=range(10),
)
@pytest.mark.parametrize("key", KEYS)
def test_what_is_no_list_is_one_line(server, monkeypatch, key, body):
    with answering(body) as listener:
        for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(DownloadError, match="no list of files.*is it the hub's address") as err:
            hub.find_model("fsmn-vad", key)
    assert "\n" not in str(err.value)


def test_what_modelscope_says_is_passed_on(server, monkeypatch):
    with answering(b'{"Success": false, "Message": "under repair", "Data": null}') as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
        with pytest.raises(DownloadError, match="under repair"):
            hub.find_model("fsmn-vad")


def test_a_list_without_end_is_not_read_to_its_end(server, monkeypatch):
    monkeypatch.setattr(transport, "MOST_LIST_BYTES", 1000)
    with answering(b"[" + b"1," * 2_000_000) as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(DownloadError, match=r"no list of files \(\d{1,6} bytes\)"):
            hub.find_model("fsmn-vad", "hf")


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/", "http://127.0.0.1:1/"]
)
def test_a_redirect_leads_to_files_of_servers_alone(server, monkeypatch, target):
    with answering(b"", f"302 Found\r\nLocation: {target}\r\nContent-Length: 0") as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(DownloadError) as error:
            hub.find_model("fsmn-vad", "hf")
    assert "\n" not in str(error.value)


def test_who_asks_is_told_to_the_hub_alone(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms_secret")
    hub.find_model("fsmn-vad", "hf")
    stored = server.asked_for("/storage/")
    told = [r for r in server.requests if r not in stored]
    assert stored and all("secret" not in str(request.headers) for request in stored)
    assert all(request.headers["authorization"] == "Bearer hf_secret" for request in told)
    server.requests.clear()
    hub.find_model("fsmn-vad", "ms")
    assert all(r.headers["cookie"] == "m_session_id=ms_secret" for r in server.requests)


def test_https_is_not_left_by_a_redirect():
    redirects = transport._Redirects()
    request = transport.urllib.request.Request("https://hub/x", headers={"Cookie": "a"})
    for target in ("http://hub/y", "ftp://hub/y"):
        with pytest.raises(OSError, match="is not followed"):
            redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, target)
    same = redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://hub/y")
    other = redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://cdn/y")
    assert same.get_header("Cookie") == "a" and other.get_header("Cookie") is None


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "C:/evil", "..\\evil"])
@pytest.mark.parametrize("key", KEYS)
def test_a_listed_file_cannot_leave_the_directory(server, tmp_path, key, path):
    replace_files(server, {**FILES, path: b"evil"})
    with pytest.raises(DownloadError, match="outside the model's directory"):
        hub.find_model("fsmn-vad", key)
    assert len(server.requests) == 1 and not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("missing", ["model.pt", "config.yaml"])
@pytest.mark.parametrize("key", KEYS)
def test_what_is_no_model_directory_is_not_fetched(server, key, missing):
    replace_files(server, {path: c for path, c in FILES.items() if path != missing})
    with pytest.raises(DownloadError, match=f"has no {missing} of it"):
        hub.find_model("fsmn-vad", key)
    assert not server.asked_for("am.mvn") and not server.asked_for("storage")


@pytest.mark.parametrize("key", KEYS)
def test_files_that_the_configuration_names_are_fetched_but_no_program(server, key):
    metas = {"init_param": "vad.bin", "frontend_conf": {"cmvn_file": "conf/cmvn"}, "x": "model.py"}
    files = {**FILES, "vad.bin": b"weights", "conf/cmvn": b"cmvn"}
    del files["model.pt"]
    files["configuration.json"] = json.dumps({"file_path_metas": metas}).encode()
    replace_files(server, files)
    fetched = files_of(hub.find_model("fsmn-vad", key))
    assert fetched["vad.bin"] == b"weights" and fetched["conf/cmvn"] == b"cmvn"
    assert not [path for path in fetched if path.endswith((".py", ".sh"))]


def test_a_full_disk_is_one_line(server, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 9 * 10**5, 10**5))
        with pytest.raises(DownloadError, match=r"1 MB are to be fetched, and 0 MB are free"):
            hub.find_model("fsmn-vad", "hf")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("key", KEYS)
def test_a_disk_that_becomes_full_is_one_line(server, key):
    server.faults.cuts["model.pt"] = [10, 0]
    with pytest.raises(DownloadError):
        hub.find_model("fsmn-vad", key)
    home = hub.HUBS[key][1]().home(MODELS[key])
    (part,) = (home / ".parts").iterdir()
    part.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"No space left on device; \w+=FOLDER keeps models"):
        hub.find_model("fsmn-vad", key)


@pytest.mark.parametrize("key", KEYS)
def test_a_cache_that_cannot_be_written_is_one_line(server, monkeypatch, tmp_path, key):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"Not a directory; (HF_HOME|MODELSCOPE_CACHE)=FOLDER"):
        hub.find_model("fsmn-vad", key)


@pytest.mark.parametrize("key", KEYS)
def test_two_at_once_fetch_a_model_once(server, key):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: hub.find_model("fsmn-vad", key), range(4)))
    assert len(set(found)) == 1 and files_of(found[0]) == NEEDED
    assert len(server.asked_for("am.mvn")) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_on_a_terminal(server, monkeypatch, progress, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    hub.find_model("fsmn-vad", "ms", progress=progress)
    assert (MODELS["ms"] in terminal.getvalue()) is progress
    assert capsys.readouterr().out == ""


def test_addresses_of_mirrors(monkeypatch):
    for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    assert HuggingFace().endpoint() == "https://huggingface.co"
    assert ModelScope().endpoint() == "https://www.modelscope.cn"
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com/")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "www.modelscope.ai")
    assert HuggingFace().endpoint() == "https://hf-mirror.com"
    assert ModelScope().endpoint() == "https://www.modelscope.ai"
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")
    assert ModelScope().endpoint() == "http://127.0.0.1:1"


@pytest.fixture
def mini(server):
    """The bundled VAD under a released id, at both hubs."""
    files = files_of(ROOT / "paraformer" / "bundled" / "fsmn-vad-mini")
    replace_files(server, files)
    return server


@pytest.fixture
def wav():
    return ROOT / "paraformer" / "bundled" / "fsmn-vad-mini" / "example" / "vad_example.wav"


@pytest.mark.parametrize("key", KEYS)
def test_a_model_that_was_fetched_works(mini, monkeypatch, wav, key):
    expected = AutoModel("fsmn-vad-mini").generate(str(wav))
    model = AutoModel("fsmn-vad", hub=key)
    no_socket(monkeypatch)
    assert model.generate(str(wav)) == expected
    assert AutoModel("fsmn-vad", hub=key).generate(str(wav)) == expected
    assert Path(model.model_path, "example", "vad_example.wav").read_bytes() == wav.read_bytes()


@pytest.mark.cli
def test_the_command_fetches_and_prints_results_alone(mini, wav, capfd):
    command = [sys.executable, "-m", "paraformer", "+model=fsmn-vad", "+hub=hf", f"+input={wav}"]
    first, second = (
        subprocess.run(argv, capture_output=True, text=True, timeout=300, cwd=ROOT)
        for argv in (command, [*command, "+disable_log=true"])
    )
    assert first.returncode == second.returncode == 0
    assert main(["+model=fsmn-vad-mini", f"+input={wav}"]) == 0
    assert first.stdout == second.stdout == capfd.readouterr().out != ""
    assert first.stderr.startswith("INFO: fetching funasr/fsmn-vad (main) from Hugging Face into ")
    assert second.stderr == ""
    assert len(mini.asked_for("/revision/main")) == 1
    assert main(["+model=fsmn-vad", "+hub=ms", "+offline=true", f"+input={wav}"]) == 1
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("funasr: model 'fsmn-vad': not on this machine (looked for ")
