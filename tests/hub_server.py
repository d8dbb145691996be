"""A server on this machine that answers as ModelScope and Hugging Face do, and can misbehave."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

Files = dict[str, bytes]


def files_of(folder: Path) -> Files:
    """All files of a directory, by their paths in it."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def commit_of(files: Files) -> str:
    return hashlib.sha1(json.dumps({p: sha256(c) for p, c in files.items()}).encode()).hexdigest()


def is_large(path: str) -> bool:
    """Whether Hugging Face keeps such a file beside git, by a rule of these tests."""
    return path.endswith((".pt", ".wav"))


@dataclass
class Faults:
    """How the server misbehaves with a file (by its path), or with lists (by the name `list`)."""

    status: dict[str, int] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)  # sent in place of what is listed
    cuts: dict[str, list[int]] = field(default_factory=dict)  # bytes after which each answer ends
    ignores_ranges: bool = False
    without_length: bool = False
    states_nothing: bool = False  # lists neither sizes nor checksums


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802
        self.answer()

    def do_HEAD(self) -> None:  # noqa: N802
        self.answer()

    def answer(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.requests.append(Request(self.command, self.path, headers))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}
        for pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                answer(self, query, **match.groupdict())
                return
        self.refuse(404)

    def files(self, model: str, revision: str) -> Files | None:
        """The files of a revision, or of a commit; None if there are none, which is answered."""
        revisions = self.server.models.get(model, {})
        commits = {commit_of(files): files for files in revisions.values()}
        status = self.server.faults.status.get("list")
        if status or revision not in {**revisions, **commits}:
            self.refuse(status or 404)
            return None
        return {**revisions, **commits}[revision]

    def refuse(self, status: int) -> None:
        self.send_json({"error": "refused", "Code": 10010205001, "Message": "refused"}, status)

    def send_json(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_file(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        faults = self.server.faults
        if path in faults.status:
            self.refuse(faults.status[path])
            return
        content = faults.content.get(path, content)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        begin = int(start[1]) if start and not faults.ignores_ranges else 0
        if begin and begin >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if not faults.without_length:
            self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = faults.cuts.get(path)
        self.wfile.write(content[begin : begin + cuts.pop(0)] if cuts else content[begin:])
        self.close_connection = True

    # Hugging Face

    def hf_info(self, query: dict[str, str], model: str, revision: str = "main") -> None:
        files = self.files(model, revision)
        if files is not None:
            listed = [self.hf_entry(path, content) for path, content in files.items()]
            self.send_json({"id": model, "sha": commit_of(files), "siblings": listed})

    def hf_entry(self, path: str, content: bytes) -> dict[str, object]:
        if self.server.faults.states_nothing:
            return {"rfilename": path}
        entry: dict[str, object] = {"rfilename": path, "size": len(content)}
        if is_large(path):
            entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
        return {**entry, "blobId": git_id(content)}

    def hf_tree(self, query: dict[str, str], model: str, revision: str) -> None:
        files = self.files(model, revision)
        if files is None:
            return
        tree = []
        for path, content in files.items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_id(content)}
            if is_large(path):
                lfs = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
                entry["lfs"] = lfs
            tree.append(entry)
        self.send_json(tree)

    def hf_file(self, query: dict[str, str], model: str, revision: str, path: str) -> None:
        files = self.files(model, revision)
        if files is None:
            return
        if path not in files:
            self.refuse(404)
            return
        headers = {"X-Repo-Commit": commit_of(files), "ETag": f'"{git_id(files[path])}"'}
        if not is_large(path):
            self.send_file(path, files[path], headers)
            return
        headers["X-Linked-Etag"] = f'"{sha256(files[path])}"'
        headers["X-Linked-Size"] = str(len(files[path]))
        self.redirect(path, files[path], headers)

    def redirect(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        """To another host, as large files lie."""
        self.server.stored[sha256(content)] = (path, content)
        self.send_response(302)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Location", f"{self.server.storage}/storage/{sha256(content)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def stored(self, query: dict[str, str], digest: str) -> None:
        path, content = self.server.stored[digest]
        self.send_file(path, content, {"ETag": f'"{digest}"'})

    # ModelScope

    def ms_list(self, query: dict[str, str], model: str) -> None:
        files = self.files(model, query.get("Revision", "master"))
        if files is None:
            return
        folders = sorted({path.rpartition("/")[0] for path in files} - {""})
        entries: list[dict[str, object]] = [
            {"Path": path, "Name": path.rpartition("/")[2], "Type": "tree"} for path in folders
        ]
        for path, content in files.items():
            entry = {"Path": path, "Name": path.rpartition("/")[2], "Type": "blob"}
            if not self.server.faults.states_nothing:
                entry |= {"Size": len(content), "Sha256": sha256(content)}
            entries.append(entry)
        self.send_json({"Code": 200, "Success": True, "Data": {"Files": entries}})

    def ms_revisions(self, query: dict[str, str], model: str) -> None:
        revisions = [{"Revision": name, "CreatedAt": 1} for name in self.server.models[model]]
        branches = [r for r in revisions if r["Revision"] == "master"]
        tags = [r for r in revisions if r["Revision"] != "master"]
        kinds = {"Branches": branches, "Tags": tags}
        self.send_json({"Code": 200, "Success": True, "Data": {"RevisionMap": kinds}})

    def ms_info(self, query: dict[str, str], model: str) -> None:
        self.send_json({"Code": 200, "Success": True, "Data": {"Id": 1, "Path": model}})

    def ms_file(self, query: dict[str, str], model: str) -> None:
        files = self.files(model, query.get("Revision", "master"))
        if files is None:
            return
        path = query["FilePath"]
        if path not in files:
            self.refuse(404)
        else:
            self.send_file(path, files[path], {})


MODEL = r"(?P<model>[^/]+/[^/]+)"
ROUTES = [
    (rf"/api/models/{MODEL}", Handler.hf_info),
    (rf"/api/models/{MODEL}/revision/(?P<revision>.+)", Handler.hf_info),
    (rf"/api/models/{MODEL}/tree/(?P<revision>[^/]+)/?", Handler.hf_tree),
    (rf"/{MODEL}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.hf_file),
    (r"/storage/(?P<digest>.+)", Handler.stored),
    (rf"/api/v1/models/{MODEL}/repo/files", Handler.ms_list),
    (rf"/api/v1/models/{MODEL}/revisions", Handler.ms_revisions),
    (rf"/api/v1/models/{MODEL}/repo", Handler.ms_file),
    (rf"/api/v1/models/{MODEL}", Handler.ms_info),
]


class HubServer(ThreadingHTTPServer):
    """models: id to revision to files. `requests` are those that came, in their order."""

    daemon_threads = True

    def __init__(self, models: dict[str, dict[str, Files]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = models
        self.faults = Faults()
        self.requests: list[Request] = []
        self.stored: dict[str, tuple[str, bytes]] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.storage = f"http://localhost:{self.server_port}"  # another name, so another host

    def asked_for(self, part: str) -> list[Request]:
        """The requests with this in their address."""
        return [r for r in self.requests if part in r.path or quote(part) in r.path]


@contextmanager
def serve(models: dict[str, dict[str, Files]]) -> Iterator[HubServer]:
    """A server that answers in the background, until the end of the block."""
    server = HubServer(models)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
