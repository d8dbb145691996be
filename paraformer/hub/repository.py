"""A model at a hub: which files it has there, which of them a model directory needs, and where
they lie on this machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from paraformer.documents import file_path_metas, flat_names, parse_json
from paraformer.files import replacing
from paraformer.hub.weights import is_cut

# Files of a released directory, besides those that its configuration.json names.
PATTERNS = ("*.yaml", "*.json", "*.mvn", "*.model", "model.pt", "tokens.txt", "seg_dict*", "jieba*")
SAFE = "model.safetensors"  # weights in the place of model.pt
# Files that belong to it, though the model works without them.
TEXTS = ("README*", "NOTICE*", "*LICEN[CS]E*")
EXAMPLES = "example/"
# Below the home of a model, for each revision: the files that it has, where its library notes none.
NOTES = ".files"
LISTING = "configuration.json"
CODE = (".py", ".pyc", ".sh", ".bat", ".exe", ".so", ".dll", ".dylib")
_BLOCK = 1 << 20


class Checksum(NamedTuple):
    """The checksum that a file must have: `sha256`, or `git`, the SHA-1 of a git object."""

    kind: str
    value: str

    def fits(self, path: Path) -> bool:
        """Whether the file on the disk is the one that was listed."""
        return digest(path, self.kind) == self.value


def digest(path: Path, kind: str = "sha256") -> str:
    """The checksum of a file; kind: see `Checksum`."""
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

    def listed(self, folder: Path) -> dict[str, int | None] | None:
        """The files of a snapshot and their sizes, as the cache notes them; None if it does not."""
        note = read_json(self._note(folder))
        if not isinstance(note, Mapping):
            return None
        return {str(path): size if type(size) is int else None for path, size in note.items()}

    def note(self, folder: Path, files: Iterable[RemoteFile]) -> None:
        """Note the files of a snapshot that has all that its revision has, though it names more."""
        text = json.dumps({file.path: file.size for file in files})
        with replacing(self._note(folder)) as draft:
            draft.write_text(text, encoding="utf-8", newline="\n")

    def _note(self, folder: Path) -> Path:
        home = next((f.parent for f in folder.parents if f.name == "snapshots"), folder.parent)
        return home / NOTES / f"{folder.name}.json"

    def lacks(self, folder: Path) -> list[str]:
        """Names of the files that a directory of the cache lacks to be a model, or that are "cut
        short"; empty if it is whole.
        """
        return lacking(folder, self.listed(folder))

    @abstractmethod
    def listing_url(self, model: str, revision: str) -> str:
        """The address at which the files of a revision are listed."""

    @abstractmethod
    def read_listing(self, answer: Any) -> Listing:
        """The list in the JSON of that address; KeyError, TypeError or ValueError if it is none."""

    @abstractmethod
    def file_url(self, model: str, revision: str, path: str) -> str:
        """The address of a file of a revision, or of a commit."""


class Repository(NamedTuple):
    """A model of a hub, in a revision; an empty one is the hub's usual one."""

    hub: Hub
    model: str
    revision: str = ""

    def cached(self) -> Path | None:
        """The directory of this machine that holds it, whole."""
        folders = self.hub.folders(self.model, self.revision)
        return next((folder for folder in folders if not self.hub.lacks(folder)), None)

    def places(self) -> list[Path]:
        """The folders that hold it in part, or else the one that it would be in."""
        there = [f for f in self.hub.folders(self.model, self.revision) if f.is_dir()]
        return there or [self.hub.home(self.model)]


def named_files(folder: Path, listed: Container[str] = ()) -> dict[str, str]:
    """The names that configuration.json gives to the files of a directory: `config` and
    `init_param` (the weights) always, nested ones with a dot, as `frontend_conf.cmvn_file`.

    Where the weights are neither there nor among the listed paths, those of SafeTensors are meant.
    """
    names = {"config": "config.yaml", "init_param": "model.pt"} | flat_names(_metas(folder) or {})
    there = [n for n in (names["init_param"], SAFE) if n in listed or (folder / n).is_file()]
    return {**names, "init_param": there[0]} if there else names


def _metas(folder: Path) -> Mapping[str, Any] | None:
    """See `file_path_metas`; None also where configuration.json cannot be read."""
    with suppress(OSError, ValueError):
        return file_path_metas(folder / LISTING)
    return None


def read_json(path: Path) -> Any:
    """None for a file that is not there, or is no JSON."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def lacking(folder: Path, listed: Mapping[str, int | None] | None = None) -> list[str]:
    """The files that a directory lacks to be a model, weights included; no server is asked.

    listed: the files of its revision and their sizes, if they are known. If they are not, a model
    has what its configuration.json names, or, without one, what its config.yaml speaks of.
    """
    names = named_files(folder)
    if listed is None:
        wanted = dict.fromkeys([*names.values(), *_spoken_of(folder, names["config"])])
    else:
        wanted = {path: size for path, size in listed.items() if _is_part(path, names)}
    wanted |= {name: wanted.get(name) for name in (names["config"], names["init_param"])}
    found = {path: _fault(folder / path, size) for path, size in wanted.items()}
    weights = names["init_param"]
    if not found[weights] and is_cut(folder / weights):
        found[weights] = f"{weights} (cut short)"
    return [fault for path, fault in found.items() if fault and not _is_code(path)]


def _fault(path: Path, size: int | None) -> str:
    """The name of a file that is missing, empty or cut short; "" if it is whole."""
    if not path.is_file() or not path.stat().st_size:
        return path.name
    return f"{path.name} (cut short)" if size not in (None, path.stat().st_size) else ""


def _spoken_of(folder: Path, config: str) -> list[str]:
    """The files that the parts in a config.yaml read, where no configuration.json names them."""
    if _metas(folder) is not None:
        return []
    try:
        text = (folder / config).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    names = ["am.mvn"] if re.search(r"^frontend: *(?!null)\S", text, re.MULTILINE) else []
    tokens = ("tokens.json", "tokens.txt", "bpe.model")
    tokenizer = re.search(r"^tokenizer: *(?!null)\S", text, re.MULTILINE)
    inside = re.search(r"^ *(token_list|bpemodel): *(?!null)", text, re.MULTILINE)
    if tokenizer and not inside and not any((folder / name).is_file() for name in tokens):
        names.append(tokens[0])
    return names


def needed(files: Iterable[RemoteFile], names: Mapping[str, str]) -> list[RemoteFile]:
    """The files that a model directory is made of, the weights last; never a program."""
    chosen = [f for f in files if _is_part(f.path, names) or _goes_along(f.path)]
    chosen = [f for f in chosen if not _is_code(f.path)]
    return sorted(chosen, key=lambda file: (file.path == names["init_param"], file.path))


def _is_part(path: str, names: Mapping[str, str]) -> bool:
    """Whether a path is of what a model is made of: named, or of such a name."""
    alone = "/" not in path and any(fnmatchcase(path, pattern) for pattern in PATTERNS)
    return path in names.values() or alone


def _goes_along(path: str) -> bool:
    """Whether a path is of what a model directory holds beside the model.

    >>> [_goes_along(path) for path in ("README.md", "example/a.wav", "fig/a.png", "x/README.md")]
    [True, True, False, False]
    """
    if "/" in path:
        return path.startswith(EXAMPLES)
    return any(fnmatchcase(path, pattern) for pattern in TEXTS)


def _is_code(path: str) -> bool:
    return path.lower().endswith(CODE)


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
