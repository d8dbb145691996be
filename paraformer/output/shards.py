"""The folders of shards beside each other in one: whose they are, and that each has one writer."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from paraformer.errors import ConfigError
from paraformer.files import check_folder
from paraformer.output.resume import Made
from paraformer.shard import PREFIX, Shard, read_shard

log = logging.getLogger(__name__)

LOCK = ".lock"


def shard_folders(folder: str | Path) -> dict[int, Path]:
    """The folders of shards, by their numbers."""
    found = {}
    for path in Path(folder).glob(f"{PREFIX}*"):
        if path.is_dir() and re.fullmatch(r"[1-9][0-9]*", path.name.removeprefix(PREFIX)):
            found[int(path.name.removeprefix(PREFIX))] = path
    return dict(sorted(found.items()))


class Claim(NamedTuple):
    """A folder that is ours as long as its lock is held."""

    lock: FileLock

    def close(self) -> None:
        """Leave the folder to others."""
        self.lock.release()


def claim(output_dir: str | Path, shard: Shard) -> Claim:
    """Make the folder of a shard ours until the claim is closed, or this process ends. One that
    another process writes is refused, and so are parts of another number beside it: an utterance
    would be in two of them, or in none.
    """
    for path in shard_folders(output_dir).values():
        made = Made.read(path)
        other = read_shard(made.options.get("shard")) if made is not None else None
        if other is not None and other.shards != shard.shards:
            raise ConfigError(
                f"{path}: is one of {other.shards} shards, not of {shard.shards}; go on with "
                f"shard=i/{other.shards}, or give another output_dir"
            )
    mine = check_folder(shard.folder(output_dir))
    lock = FileLock(mine / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{mine}: another process writes this shard; wait for its end, or stop it"
        ) from None
    except NotImplementedError:
        log.warning("%s: cannot be locked here; let no other process write it", mine)
    return Claim(lock)
