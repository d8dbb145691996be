"""ModelScope: its addresses, and the cache folders of its library, old and new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from paraformer.hub.repository import (
    LISTING,
    Hub,
    Listing,
    RemoteFile,
    named_files,
    stated_sha256,
    stated_size,
)


class ModelScope(Hub):
    """Asked by plain HTTP: its library asks a server that fails for half a minute, and the server
    about what is here already (modelscope 1.40). What it has fetched is found here, and the other
    way round.
    """

    key = "ms"
    title = "ModelScope"
    default_revision = "master"
    cache_variable = "MODELSCOPE_CACHE"
    token_variable = "MODELSCOPE_API_TOKEN"

    def endpoint(self) -> str:
        """MODELSCOPE_ENDPOINT or MODELSCOPE_DOMAIN, with or without https://."""
        given = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or ""
        address = given.strip().rstrip("/") or "https://www.modelscope.cn"
        return address if "://" in address else f"https://{address}"

    def secrets(self) -> dict[str, str]:
        """The session of MODELSCOPE_API_TOKEN."""
        token = "".join(os.environ.get(self.token_variable, "").split())
        return {"Cookie": f"m_session_id={token}"} if token else {}

    def home(self, model: str) -> Path:
        """As modelscope 1.38 and later name it."""
        return _root() / "models" / model.replace("/", "--")

    def folders(self, model: str, revision: str) -> list[Path]:
        """A flat folder of an earlier library holds one revision, whichever it is; then those by
        revision.
        """
        snapshots = self.home(model) / "snapshots"
        flat = _flat_folders(model)
        if revision:
            return [snapshots / revision, *(f for f in flat if flat_revision(f) == revision)]
        kept = self.revisions(model)
        alone = [snapshots / kept[0]] if len(kept) == 1 else []
        return [*flat, snapshots / self.default_revision, *alone]

    def revisions(self, model: str) -> list[str]:
        """Those of the folders by revision."""
        snapshots = self.home(model) / "snapshots"
        return sorted(f.name for f in snapshots.glob("*") if not self.lacks(f))

    def snapshot(self, model: str, revision: str, commit: str) -> Path:
        """Named by branch or tag, as its library does."""
        return self.home(model) / "snapshots" / revision

    def remember(self, model: str, revision: str, commit: str) -> None:
        """The folder says it all."""

    def listing_url(self, model: str, revision: str) -> str:
        """All files, those of folders too."""
        query = urlencode({"Revision": revision, "Recursive": "True"})
        return f"{self.endpoint()}/api/v1/models/{quote(model)}/repo/files?{query}"

    def read_listing(self, answer: Any) -> Listing:
        """`Data.Files`, each with Path, Type, Size and Sha256."""
        if answer.get("Success") is False:
            raise ValueError(answer.get("Message") or "no success")
        entries = answer["Data"]["Files"] or ()
        return Listing("", [_listed(entry) for entry in entries if entry.get("Type") != "tree"])

    def file_url(self, model: str, revision: str, path: str) -> str:
        """The file itself, or a redirect to it."""
        query = urlencode({"Revision": revision, "FilePath": path})
        return f"{self.endpoint()}/api/v1/models/{quote(model)}/repo?{query}"


def _listed(entry: Any) -> RemoteFile:
    size, checksum = stated_size(entry.get("Size")), stated_sha256(entry.get("Sha256"))
    return RemoteFile(str(entry["Path"]), size, checksum)


def _root() -> Path:
    given = os.environ.get(ModelScope.cache_variable)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "modelscope"


def _flat_folders(model: str) -> list[Path]:
    """The folders in which modelscope before 1.38 kept a model: by default below `hub`, later below
    `models` of it, with ___ for each dot.
    """
    owner, name = model.split("/")
    names = dict.fromkeys((name.replace(".", "___"), name))
    tops = (_root(), _root() / "hub")
    return [top / part / owner / n for top in tops for part in ("models", "") for n in names]


def flat_revision(folder: Path) -> str:
    """The revision that the library noted in `.mv`: `Revision:v2.0.4,CreatedAt:...`; "" if none.

    It wrote the note last. A file that is newer is of another revision: modelscope 1.38 and later
    fetch any into such a folder, and leave the note as it was.
    """
    try:
        note = (folder / ".mv").read_text(encoding="utf-8")
        written = (folder / ".mv").stat().st_mtime_ns
        names = {*named_files(folder).values(), LISTING}
        files = [folder / name for name in names if (folder / name).is_file()]
        if any(file.stat().st_mtime_ns > written for file in files):
            return ""
    except (OSError, UnicodeDecodeError):
        return ""
    return note.partition("Revision:")[2].partition(",")[0].strip()
