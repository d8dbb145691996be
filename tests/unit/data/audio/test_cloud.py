"""Objects of clouds are heard as files are: by moto's server, a local store that speaks S3."""

from __future__ import annotations

import gc
import gzip
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.parse

import numpy as np
import pytest
import soundfile
import torch

from paraformer import AutoModel
from paraformer.data.audio import cloud
from paraformer.data.audio.read import read_audio
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Inputs, Item, is_single, list_items
from paraformer.errors import AudioError, ConfigError, DataError, ParaformerError
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
CLIPS = {f"clip_{x}": (ORACLE / "inputs" / f"clip_{x}.flac").read_bytes() for x in "abc"}
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
QUIET = {"device": "cpu", "disable_pbar": True}


def tar_of(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, told in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(told)
            tar.addfile(member, io.BytesIO(told))
    return content.getvalue()


def wav(samples):
    content = io.BytesIO()
    soundfile.write(content, np.full(samples, 7, np.int16), 16000, format="WAV")
    return content.getvalue()


TAR = tar_of({f"{key}.flac": sound for key, sound in CLIPS.items()} | {"clip_a.txt": b"x"})


@pytest.fixture(scope="module")
def store():
    """The file system of a store with a bucket `box`; without keys it lets nobody in."""
    server_of = pytest.importorskip("moto.server", reason="no moto[server] here")
    s3fs = pytest.importorskip("s3fs", reason="no s3fs here: extra cloud")
    server = server_of.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("box")
        for key, sound in CLIPS.items():
            files.pipe_file(f"box/in/{key}.flac", sound)
        files.pipe_file("box/clips.tar", TAR)
        yield files
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_list_of_objects_is_one_of_files(store, tmp_path):
    lists = {
        name: "".join(f"u{n} {place}clip_{x}.flac\n" for n, x in enumerate("abcx"))
        for name, place in (("near", f"{ORACLE}/inputs/"), ("far", "s3://box/in/"))
    }
    model = AutoModel(str(ORACLE / "paraformer"), **QUIET)
    for name, text in lists.items():
        (tmp_path / f"{name}.scp").write_text(text)
    *near, _ = model.generate(str(tmp_path / "near.scp"))
    *far, lost = model.generate(str(tmp_path / "far.scp"))
    assert far == near
    assert lost["error"] == "s3://box/in/clip_x.flac: there is no such object; check the address"
    assert model.generate("s3://box/in/clip_a.flac")[0]["text"] == near[0]["text"]
    vad = AutoModel(str(ORACLE / "paraformer"), vad_model=str(ORACLE / "fsmn_vad"), **QUIET)
    cut = [vad.generate(f"{place}clip_a.flac") for place in (f"{ORACLE}/inputs/", "s3://box/in/")]
    assert cut[0] == cut[1]


CUTS = "u clip_c 0.5 1.25\nv clip_c 0 -1\n"


@pytest.mark.parametrize("end", [".scp", ".txt", ".jsonl", ".jsonl.gz", ".csv"])
def test_a_list_that_is_an_object_is_one_of_files(store, tmp_path, monkeypatch, end):
    """Its relative names lie beside it; a copy is here as long as somebody reads the list."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    names = {f"clip_{x}": f"../in/clip_{x}.flac" for x in "abc"}
    text = {
        ".scp": "".join(f"{key} {name}\n" for key, name in names.items()),
        ".csv": "file_name,text\n" + "".join(f"{name},x\n" for name in names.values()),
        ".jsonl": "".join(json.dumps({"audio_filepath": x}) + "\n" for x in names.values()),
    }.get(end.removesuffix(".gz"), "\n".join(names.values()))
    told = text.encode()
    store.pipe_file(f"box/lists/x{end}", gzip.compress(told) if end.endswith(".gz") else told)
    url = f"s3://box/lists/x{end}"
    assert not is_single(url)
    inputs = Inputs(url)
    wanted = {key: read_audio(str(ORACLE / "inputs" / f"{key}.flac")) for key in CLIPS}
    for _ in range(2):
        found = {item.key: item.read(None, 16000) for item in inputs}
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    (tmp_path / "segments").write_text(CUTS)
    cuts = list_items(url, segments=str(tmp_path / "segments"))
    assert [len(item.read(None, 16000)) for item in cuts] == [12000, len(wanted["clip_c"])]
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    del inputs, cuts, found
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_pattern_of_lists_and_a_process_that_is_forked(store):
    for x in "ab":
        store.pipe_file(f"box/few/{x}.scp", f"{x} /there/{x}.wav\n".encode())
    inputs = Inputs("s3://box/few/*.scp")
    child = os.fork()
    if not child:
        del inputs
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [(item.key, item.source) for item in inputs] == [
        ("a", "/there/a.wav"),
        ("b", "/there/b.wav"),
    ]


def test_what_is_wrong_with_a_list_is_said_with_its_address(store):
    for name, told in {
        "x.scp": b"u touch /tmp/x |\nv \xff\n",
        "y.jsonl": b'{"key": "u", "sauce": 1}\n{"key": "v", "source": "x"}\n',
        "z.txt": b"",
        "page.json": b"\n<html>Sorry</html>",
    }.items():
        store.pipe_file(f"box/wrong/{name}", told)
    place = "s3://box/wrong"
    for name, fault in {
        "x.scp": "x.scp:2: not UTF-8; convert the file",
        "z.txt": "z.txt: holds no lines; give `id file` a line",
        "page.json": "page.json: what came is a page, no list; check the address",
        "none.scp": "none.scp: there is no such object; check the address",
    }.items():
        with pytest.raises(ParaformerError) as caught:
            list_items(f"{place}/{name}")
        assert str(caught.value).startswith(f"{place}/{fault}")
    store.pipe_file("box/wrong/x.scp", b"u touch /tmp/x |\n")
    for name, fault in {
        "x.scp": "x.scp:1: a command is run only from a list of lines that lies on this machine",
        "y.jsonl": "y.jsonl:1: not {",
    }.items():
        item, *_ = list_items(f"{place}/{name}")
        with pytest.raises(DataError) as faulty:
            item.read(None, 16000)
        assert str(faulty.value).startswith(f"{place}/{fault}")


def test_names_beside_a_list_of_the_web_are_written_as_an_address(tmp_path, monkeypatch):
    def saved(url, file):
        file.write(b"u a #1.wav\nv ../\xe5\xbd\x95.wav\nw /data/x.wav\n")

    monkeypatch.setattr(cloud.web, "save", saved)
    assert [item.source for item in list_items("http://x.org:8/a/l.scp?key=1/2")] == [
        "http://x.org:8/a/a%20%231.wav",
        "http://x.org:8/%E5%BD%95.wav",
        "/data/x.wav",
    ]


def test_a_long_object_is_a_file_that_is_gone_afterwards(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store.pipe_file("box/long.wav", wav(16000 * 130))
    blocks = read_blocks(Item("x", "s3://box/long.wav"), 16000)
    assert len(next(blocks)) == 16000 * 60
    (copy,) = tmp_path.glob("paraformer-*/input")
    assert copy.stat().st_size == 44 + 2 * 16000 * 130
    assert [len(block) for block in blocks] == [16000 * 60, 16000 * 10]
    blocks = read_blocks(Item("x", "s3://box/long.wav"), 16000)
    next(blocks)
    blocks.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [1 << 22, 2000])
def test_a_tar_is_read_where_it_lies(store, monkeypatch, part):
    """Its bytes are fetched once a pass, of which there are two, and the first head once more."""
    monkeypatch.setattr(cloud, "PART_BYTES", part)
    store.pipe_file("box/clips.TAR", TAR)
    fetched, held, opened = [], [], cloud.Parts.__init__

    def watched(self, url):
        opened(self, url)
        fetch = self._file.cache.fetcher
        self._file.cache.fetcher = lambda a, b: fetched.append(b - a) or fetch(a, b)
        held.append(self)

    monkeypatch.setattr(cloud.Parts, "__init__", watched)
    items = list_items("s3://box/clips.TAR")
    assert [item.key for item in items] == [*CLIPS]
    assert [item.source for item in items] == [*CLIPS.values()]
    assert sum(fetched) <= 3 * len(TAR) + 3 * part and all(each._file.closed for each in held)
    assert not is_single("s3://box/clips.TAR") and is_single("s3://box/clip.wav")


def test_a_pattern_names_tars(store):
    for name in ("t-1.tar", "t-0.tar"):
        store.pipe_file(f"box/many/{name}", tar_of({f"{name}.wav": wav(9)}))
    items = list_items("s3://box/many/t-*.tar")
    assert [(item.key, len(item.read(None, 16000))) for item in items] == [("t-0.tar", 9)] + [
        ("t-1.tar", 9)
    ]


def test_what_is_wrong_with_a_tar_is_a_line(store):
    store.pipe_file("box/cut.tar", TAR[: len(TAR) // 2])
    *sound, fault = list_items("s3://box/cut.tar")
    assert [item.source for item in sound][0] == CLIPS["clip_a"]
    with pytest.raises(DataError, match=r"^s3://box/cut.tar: cannot be read as a tar .* make it"):
        fault.read(None, 16000)
    (fault,) = list_items("s3://box/none.tar")
    with pytest.raises(
        DataError, match=r"^s3://box/none.tar: there is no such object; check the a"
    ):
        fault.read(None, 16000)


def test_a_page_is_no_recording(store):
    store.pipe_file("box/page", b"<html>Sorry, nothing here for you.</html>")
    for read in (lambda url: read_audio(url), lambda url: next(read_blocks(Item("x", url), 16000))):
        with pytest.raises(
            AudioError, match=r"^s3://box/page: what came is no audio \(<html>Sorry"
        ):
            read("s3://box/page")


def test_without_credentials_it_says_so(store, monkeypatch, tmp_path):
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    type(store).clear_instance_cache()
    with pytest.raises(AudioError) as caught:
        read_audio("s3://box/in/clip_a.flac")
    type(store).clear_instance_cache()
    assert str(caught.value) == (
        "s3://box/in/clip_a.flac: Unable to locate credentials; check the address, and the "
        "credentials of this machine"
    )


class Google(http.server.BaseHTTPRequestHandler):
    """An emulator of Google's storage with one object, as its JSON API has it."""

    def do_GET(self):  # noqa: N802
        path, _, query = self.path.partition("?")
        name = urllib.parse.unquote(path).rpartition("/o/")[2]
        body, code = b"{}", 404
        if name == "in/clip_a.flac":
            told = {"name": name, "bucket": "box", "size": str(len(CLIPS["clip_a"]))}
            media = "alt=media" in query
            body, code = CLIPS["clip_a"] if media else json.dumps(told).encode(), 200
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given):
        pass


def test_an_object_of_google_is_read(monkeypatch):
    gcsfs = pytest.importorskip("gcsfs", reason="no gcsfs here: extra cloud")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Google)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
    gcsfs.GCSFileSystem.clear_instance_cache()
    assert cloud.download("gs://box/in/clip_a.flac") == CLIPS["clip_a"]
    with pytest.raises(AudioError, match=r"^gs://box/none.wav: there is no such object; check the"):
        read_audio("gs://box/none.wav")
    server.shutdown()
    server.server_close()


def test_an_address_of_the_web_is_a_tar_too(tmp_path, monkeypatch):
    """A server that gives parts of files; Python's own does not, and is told apart."""
    pytest.importorskip("aiohttp", reason="no aiohttp here: extra cloud")
    (tmp_path / "clips.tar").write_bytes(TAR)

    class Ranges(http.server.SimpleHTTPRequestHandler):
        parts = True

        def do_GET(self):  # noqa: N802
            told = self.headers.get("Range")
            if told is None or not self.parts:
                super().do_GET()
                return
            start, end = map(int, told.removeprefix("bytes=").split("-"))
            body = TAR[start : end + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(TAR)}")
            self.end_headers()
            self.wfile.write(body)

        def end_headers(self):
            if self.parts:
                self.send_header("Accept-Ranges", "bytes")
            super().end_headers()

        def log_message(self, *given):
            pass

    def served(*given):
        return Ranges(*given, directory=str(tmp_path))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/clips.tar"
    assert [item.source for item in list_items(url)] == [*CLIPS.values()]
    Ranges.parts = False
    monkeypatch.setattr(cloud, "PART_BYTES", 2000)
    *_, fault = list_items(url)
    with pytest.raises(DataError, match=r"clips.tar: The HTTP server doesn't .* range requests"):
        fault.read(None, 16000)
    server.shutdown()
    server.server_close()


def test_without_the_extra_it_says_so(monkeypatch):
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError) as caught:
            read_audio(f"{scheme}://box/x.wav")
        assert str(caught.value) == (
            f"{scheme}://box/x.wav: needs the package {package}; "
            "pip install 'paraformer-toolkit[cloud]'"
        )


@pytest.mark.cli
def test_files_load_no_client_of_a_cloud():
    code = (
        "import sys\nfrom paraformer.cli.main import main\n"
        f"assert main(['{ORACLE}/inputs/clip_a.flac', '+model={ORACLE}/paraformer']) == 0\n"
        "heavy = {'ray', 's3fs', 'gcsfs', 'aiohttp', 'botocore', 'pyarrow'}\n"
        "assert not heavy & {*sys.modules}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
