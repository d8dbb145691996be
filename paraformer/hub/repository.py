"""A model at a hub: which files it has there, which of them a model directory needs, and where
they lie on this machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

# What a released directory is made of, besides what its configuration.json names.
PATTERNS = (
    "*.yaml",
    "*.json",
    "*.mvn",
    "*.model",
    "model.pt",
    "tokens.txt",
    "seg_dict*",
    "jieba*",
    "README*",
    "NOTICE*",
    "*LICEN[CS]E*",
)
EXAMPLES = "example/"
CODE = (".py", ".pyc", ".sh", ".bat", ".exe", ".so", ".dll", ".dylib")
_BLOCK = 1 << 20


class Checksum(NamedTuple):
    """What a file must add up to: `sha256`, or `git`, the SHA-1 of a git object."""

    kind: str
    value: str

    def fits(self, path: Path) -> bool:
        """Whether the file on the disk is the one that was listed."""
        return digest(path, self.kind) == self.value


def digest(path: Path, kind: str = "sha256") -> str:
    """What a file adds up to; kind: see `Checksum`."""
    sums = hashlib.sha256() if kind == "sha256" else hashlib.sha1()
    if kind == "git":
        sums.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            sums.update(block)
    return sums.hexdigest()


class RemoteFile(NamedTuple):
    """A file that a hub lists; its size in bytes and its checksum where the hub says them."""

    path: str
    size: int | None
    checksum: Checksum | None


class Listing(NamedTuple):
    """The files of a revision; `commit` is what a branch or tag stands for at present."""

    commit: str
    files: list[RemoteFile]


class Hub(ABC):
    """A service that keeps models, and the cache of its own library on this machine."""

    key: ClassVar[str]
    title: ClassVar[str]
    default_revision: ClassVar[str]
    cache_variable: ClassVar[str]
    token_variable: ClassVar[str]

    @abstractmethod
    def endpoint(self) -> str:
        """Address of the service or of a mirror, without a slash at its end."""

    @abstractmethod
    def secrets(self) -> dict[str, str]:
        """Headers that say who asks; for this service alone."""

    @abstractmethod
    def home(self, model: str) -> Path:
        """The folder of the cache that a model is fetched into, all revisions."""

    @abstractmethod
    def folders(self, model: str, revision: str) -> list[Path]:
        """Directories of the cache that may hold the model, the likeliest first."""

    @abstractmethod
    def revisions(self, model: str) -> list[str]:
        """The revisions that lie in the cache."""

    @abstractmethod
    def snapshot(self, model: str, revision: str, commit: str) -> Path:
        """The directory of a revision in the cache."""

    @abstractmethod
    def remember(self, model: str, revision: str, commit: str) -> None:
        """Note in the cache that a revision is complete."""

    @abstractmethod
    def listing_url(self, model: str, revision: str) -> str:
        """Where the files of a revision are listed."""

    @abstractmethod
    def read_listing(self, answer: Any) -> Listing:
        """What that address answers, JSON; KeyError, TypeError or ValueError if it is no list."""

    @abstractmethod
    def file_url(self, model: str, revision: str, path: str) -> str:
        """Where a file of a revision, or commit, is."""


class Repository(NamedTuple):
    """A model of a hub, in a revision; an empty one is the hub's usual one."""

    hub: Hub
    model: str
    revision: str = ""

    def cached(self) -> Path | None:
        """The directory of this machine that holds it, whole."""
        folders = self.hub.folders(self.model, self.revision)
        return next((folder for folder in folders if is_complete(folder)), None)

    def places(self) -> list[Path]:
        """Where it was looked for: what is there in part, or else the folder it would be in."""
        there = [f for f in self.hub.folders(self.model, self.revision) if f.is_dir()]
        return there or [self.hub.home(self.model)]


def named_files(folder: Path) -> dict[str, str]:
    """What configuration.json calls the files of a directory: `config` and `init_param` (the
    weights) always, nested ones with a dot, as `frontend_conf.cmvn_file`.
    """
    names = {"config": "config.yaml", "init_param": "model.pt"}
    try:
        content = json.loads((folder / "configuration.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return names
    metas = content.get("file_path_metas") if isinstance(content, Mapping) else None
    return names | _flat(metas if isinstance(metas, Mapping) else {})


def _flat(names: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in names.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{part}": name for part, name in _flat(value).items()})
        elif isinstance(value, str) and value:
            flat[key] = value
    return flat


def is_complete(folder: Path) -> bool:
    """Whether a directory has its configuration and its weights, which are always fetched last."""
    names = named_files(folder)
    return (folder / names["config"]).is_file() and (folder / names["init_param"]).is_file()


def needed(files: Iterable[RemoteFile], names: Mapping[str, str]) -> list[RemoteFile]:
    """The files that a model directory is made of, the weights last; never a program."""
    named = set(names.values())
    chosen = [f for f in files if f.path in named or _belongs(f.path)]
    chosen = [f for f in chosen if not f.path.lower().endswith(CODE)]
    return sorted(chosen, key=lambda file: (file.path == names["init_param"], file.path))


def _belongs(path: str) -> bool:
    """Whether a path is of a model directory, by its name alone.

    >>> [_belongs(path) for path in ("am.mvn", "example/a.wav", "fig/a.png", "runs/config.yaml")]
    [True, True, False, False]
    """
    if "/" in path:
        return path.startswith(EXAMPLES)
    return any(fnmatchcase(path, pattern) for pattern in PATTERNS)


def stays_inside(path: str) -> bool:
    r"""Whether a listed path names something below its directory, on every system.

    >>> [stays_inside(p) for p in ("a/b.wav", "../a", "/a", "a//b", "C:a", "a\\b", "", "a/.")]
    [True, False, False, False, False, False, False, False]
    """
    parts = path.split("/")
    return not re.search(r"[\\:\0]", path) and not {"", ".", ".."} & set(parts)


def stated_sha256(value: object) -> Checksum | None:
    """A SHA-256 as a hub states it; None if it is none.

    >>> stated_sha256("AB" * 32).value[:4], stated_sha256("")
    ('abab', None)
    """
    text = str(value or "").lower()
    return Checksum("sha256", text) if re.fullmatch(r"[0-9a-f]{64}", text) else None


def stated_size(value: object) -> int | None:
    """A size as a hub states it; None if it is not known, which some say by 0.

    >>> [stated_size(x) for x in (7, 0, -1, None, "7", True)]
    [7, None, None, None, None, None]
    """
    return value if type(value) is int and value > 0 else None
