"""A model is fetched into the cache of its hub: by one process at a time, the weights last, so that
a directory with weights is whole.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from paraformer.errors import DownloadError
from paraformer.files import replacing
from paraformer.hub.repository import (
    LISTING,
    Listing,
    RemoteFile,
    Repository,
    named_files,
    needed,
    stays_inside,
)
from paraformer.hub.transport import Client, check_space, size_of

log = logging.getLogger(__name__)

PARTS = ".parts"


def download(repository: Repository, progress: bool = True) -> Path:
    """Fetch what a model directory needs of a repository; returns the directory.

    What an earlier run began is gone on with. progress shows a bar if stderr is a terminal.
    """
    hub, model = repository.hub, repository.model
    client, home = Client.of(repository), hub.home(model)
    listing = _listing(client, repository.revision or hub.default_revision)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home / ".lock", model):
            # Another process may just have fetched it.
            return repository.cached() or _fetch(client, listing, home, progress)
    except OSError as error:
        raise DownloadError(
            f"{error.filename or home}: {error.strerror or error}; {hub.cache_variable}=FOLDER "
            "keeps models elsewhere"
        ) from error


def _fetch(client: Client, listing: Listing, home: Path, progress: bool) -> Path:
    hub, model = client.repository.hub, client.repository.model
    revision = client.repository.revision or hub.default_revision
    folder = hub.snapshot(model, revision, listing.commit)
    at = listing.commit or revision
    others = [f for f in hub.folders(model, "") if f.is_dir() and f != folder]
    log.info("fetching %s (%s) from %s into %s", model, revision, hub.title, folder)

    def fetch(files: list[RemoteFile]) -> None:
        files = [file for file in files if not _is_there(file, folder / file.path)]
        files = [file for file in files if not _take(file, folder, others)]
        total = sum(file.size or 0 for file in files)
        check_space(home, total - sum(size_of(_part(home, file)) for file in files))
        disable = None if progress else True
        with tqdm(
            total=total, desc=model, unit="B", unit_scale=True, disable=disable, leave=False
        ) as bar:
            for file in files:
                url, part = hub.file_url(model, at, file.path), _part(home, file)
                client.fetch(file, url, folder / file.path, part, bar.update)

    # It says how the other files are called.
    fetch([file for file in listing.files if file.path == LISTING])
    chosen = _chosen(client.repository, listing, folder)
    fetch(chosen)
    if hub.lacks(folder):  # its configuration.json names what the hub does not have
        hub.note(folder, chosen)
    hub.remember(model, revision, listing.commit)
    _remove_parts(home)
    return folder


def _listing(client: Client, revision: str) -> Listing:
    """The files of a revision; all of them stay below their directory."""
    hub, model = client.repository.hub, client.repository.model
    url = hub.listing_url(model, revision)
    answer = client.listing(url)
    try:
        listing = hub.read_listing(answer)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DownloadError(
            f"{url}: is no list of files ({error!r}); is it the hub's address?"
        ) from None
    for file in listing.files:
        if not stays_inside(file.path):
            raise DownloadError(
                f"{url}: lists '{file.path}', which is outside the model's directory"
            )
    return listing


def _chosen(repository: Repository, listing: Listing, folder: Path) -> list[RemoteFile]:
    names = named_files(folder, {file.path for file in listing.files})
    chosen = needed(listing.files, names)
    paths = {file.path for file in chosen}
    for name in (names["config"], names["init_param"]):
        if name not in paths:
            raise DownloadError(
                f"model '{repository.model}': {repository.hub.title} has no {name} of it, so it is "
                "no Paraformer model directory; check the name"
            )
    return chosen


def _part(home: Path, file: RemoteFile) -> Path:
    """The path at which a file grows. It is named by the content, so that a download never goes on
    with another version.
    """
    name = file.checksum.value if file.checksum else file.path.replace("/", "--")
    return home / PARTS / name


def _is_there(file: RemoteFile, path: Path) -> bool:
    return file.checksum is not None and path.is_file() and file.checksum.fits(path)


def _take(file: RemoteFile, folder: Path, others: Iterable[Path]) -> bool:
    """Take a file over from another directory of the model, be it an unfinished one."""
    target = folder / file.path
    for other in others:
        if _is_there(file, other / file.path):
            with replacing(target) as draft:
                try:
                    os.link(os.path.realpath(other / file.path), draft)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(other / file.path, draft)
            return True
    return False


def _remove_parts(home: Path) -> None:
    parts = home / PARTS
    if parts.is_dir():  # nothing had to be fetched where another revision has the same files
        shutil.rmtree(parts)


@contextmanager
def _alone(path: Path, model: str) -> Iterator[None]:
    """Hold the lock of a model; whoever must wait for another process says so."""
    lock = FileLock(os.fspath(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being fetched by another process; waiting for it", model)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
