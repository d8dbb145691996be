"""Hugging Face: its addresses, and the cache folder of its library."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from paraformer.files import replacing
from paraformer.hub.repository import (
    Checksum,
    Hub,
    Listing,
    RemoteFile,
    read_json,
    stated_sha256,
    stated_size,
)

_COMMIT = re.compile(r"[0-9a-f]{40}")


class HuggingFace(Hub):
    """Asked by plain HTTP: its library compares no checksum and begins again what an earlier run
    left unfinished (huggingface_hub 2.4). What it has fetched is found here, and the other way
    round.
    """

    key = "hf"
    title = "Hugging Face"
    default_revision = "main"
    cache_variable = "HF_HOME"
    token_variable = "HF_TOKEN"

    def endpoint(self) -> str:
        """HF_ENDPOINT."""
        return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"

    def secrets(self) -> dict[str, str]:
        """HF_TOKEN."""
        token = "".join(os.environ.get(self.token_variable, "").split())
        return {"Authorization": f"Bearer {token}"} if token else {}

    def home(self, model: str) -> Path:
        """In HF_HUB_CACHE, or `hub` of HF_HOME."""
        return _root() / f"models--{model.replace('/', '--')}"

    def folders(self, model: str, revision: str) -> list[Path]:
        """The commit that a branch or tag stood for when it was fetched."""
        home = self.home(model)
        if not revision:
            kept = sorted(f for f in home.glob("snapshots/*") if not self.lacks(f))
            alone = kept if len(kept) == 1 else []
            return [*self.folders(model, self.default_revision), *alone]
        if _COMMIT.fullmatch(revision):
            return [home / "snapshots" / revision]
        try:
            commit = (home / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return []
        return [home / "snapshots" / commit] if _COMMIT.fullmatch(commit) else []

    def revisions(self, model: str) -> list[str]:
        """Commits."""
        return sorted(f.name for f in self.home(model).glob("snapshots/*") if not self.lacks(f))

    def listed(self, folder: Path) -> dict[str, int | None] | None:
        """As huggingface_hub 2.4 notes them for a commit: `trees/COMMIT.json`."""
        tree = read_json(folder.parent.parent / "trees" / f"{folder.name}.json")
        files = tree.get("files") if isinstance(tree, Mapping) else None
        if not isinstance(files, Mapping):
            return super().listed(folder)
        return {str(path): _noted_size(entry) for path, entry in files.items()}

    def snapshot(self, model: str, revision: str, commit: str) -> Path:
        """By commit."""
        return self.home(model) / "snapshots" / commit

    def remember(self, model: str, revision: str, commit: str) -> None:
        """The commit of a branch or tag, in `refs`."""
        if revision == commit:
            return
        with replacing(self.home(model) / "refs" / revision) as draft:
            draft.write_text(commit, encoding="ascii")

    def listing_url(self, model: str, revision: str) -> str:
        """With sizes and checksums."""
        place = f"{quote(model)}/revision/{quote(revision, safe='')}"
        return f"{self.endpoint()}/api/models/{place}?blobs=true"

    def read_listing(self, answer: Any) -> Listing:
        """`sha`, the commit, and `siblings`: large files have an `lfs.sha256`, the others the id of
        their git object.
        """
        commit = answer["sha"]
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise ValueError(f"sha={commit}")
        return Listing(commit, [_listed(entry) for entry in answer["siblings"]])

    def file_url(self, model: str, revision: str, path: str) -> str:
        """The file itself, or a redirect to it."""
        return f"{self.endpoint()}/{quote(model)}/resolve/{quote(revision, safe='')}/{quote(path)}"


def _listed(entry: Any) -> RemoteFile:
    lfs = entry.get("lfs") or {}
    blob = str(entry.get("blobId") or "")
    checksum = stated_sha256(lfs.get("sha256"))
    if not lfs and _COMMIT.fullmatch(blob):
        checksum = Checksum("git", blob)
    size = stated_size(lfs.get("size", entry.get("size")))
    return RemoteFile(str(entry["rfilename"]), size, checksum)


def _noted_size(entry: Any) -> int | None:
    known = isinstance(entry, Mapping)
    return stated_size(entry.get("lfs_size") or entry.get("size")) if known else None


def _root() -> Path:
    """As huggingface_hub finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given := os.environ.get(variable):
            return Path(given).expanduser()
    if given := os.environ.get("HF_HOME"):
        return Path(given).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).expanduser() / "huggingface" / "hub"
