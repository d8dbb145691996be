"""A shard is the part of a list that one process of several does: which part, told by its numbers
or by the scheduler of an array of jobs, and where its results go.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from paraformer.errors import ConfigError

AUTO = "auto"
MOST_SHARDS = 1_000_000
PREFIX = "shard."  # of the folder of each
# The number of a job within its array, counted from 0, and of how many, where that is told.
INDEXED = {
    "JOB_COMPLETION_INDEX": "",  # Kubernetes, an Indexed Job
    "AWS_BATCH_JOB_ARRAY_INDEX": "AWS_BATCH_JOB_ARRAY_SIZE",
}
_FORM = re.compile(rf"({AUTO}|[0-9]+)(?:/([0-9]+))?")


class Shard(NamedTuple):
    """One of so many parts. An id belongs to the same one in any list, so that a list may grow."""

    number: int  # from 1
    shards: int

    def __str__(self) -> str:
        return f"{self.number}/{self.shards}"

    def holds(self, key: str) -> bool:
        """Whether what has this id is in this part.

        >>> [[k for k in "abcdefgh" if Shard(n, 3).holds(k)] for n in (1, 2, 3)]
        [['c', 'f'], ['g', 'h'], ['a', 'b', 'd', 'e']]
        """
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.shards == self.number - 1

    def folder(self, output_dir: str | Path) -> Path:
        """Where its results go."""
        return Path(output_dir) / f"{PREFIX}{self.number}"


def read_shard(said: object) -> Shard | None:
    """The part that an option names; None for all of the list.

    >>> read_shard("2/8"), read_shard("")
    (Shard(number=2, shards=8), None)
    """
    text = str(said or "").strip()
    if not text:
        return None
    match = _FORM.fullmatch(text)
    if match is None or (match[1] != AUTO and match[2] is None):
        raise ConfigError(f"shard={text}: is neither i/n, such as 2/8, nor auto; give one of them")
    count = int(match[2]) if match[2] else None
    if match[1] == AUTO:
        number, count = _told(count)
    else:
        number = int(match[1])
    if count is None or not 1 <= count <= MOST_SHARDS:
        raise ConfigError(f"shard={text}: give a number of shards from 1 to {MOST_SHARDS}")
    if not 1 <= number <= count:
        raise ConfigError(f"shard={text}: is number {number} of {count}; the first is 1")
    return Shard(number, count)


def place_of(output_dir: str | Path, said: object) -> str:
    """The folder of the results of a run: `output_dir`, or that of its shard in it."""
    shard = read_shard(said)
    return str(shard.folder(output_dir)) if shard and str(output_dir) else str(output_dir)


def _told(count: int | None) -> tuple[int, int | None]:
    """The number of this job, and of how many, as its scheduler says; count: as the user does."""
    told = os.environ
    if told.get("SLURM_ARRAY_TASK_ID"):
        return _slurm(told, count)
    for name, size in INDEXED.items():
        if told.get(name):
            known = _whole(told, size) if size and told.get(size) else None
            if count is None and known is None:
                raise ConfigError(
                    f"shard={AUTO}: {name} does not say of how many; write shard={AUTO}/n"
                )
            return _whole(told, name) + 1, known if count is None else count
    raise ConfigError(
        f"shard={AUTO}: this is no job of a Slurm array, a Kubernetes Indexed Job or an AWS Batch "
        "array; give shard=i/n"
    )


def _slurm(told: Mapping[str, str], count: int | None) -> tuple[int, int | None]:
    """Of an array 1-n or 0-m; of a part of one, such as what is submitted again, count is given,
    and numbers are from 1.
    """
    number = _whole(told, "SLURM_ARRAY_TASK_ID")
    if count is not None:
        return number, count
    names = ("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_COUNT")
    first, last, size = (_whole(told, name) for name in names)
    if first not in (0, 1) or last - first + 1 != size:
        raise ConfigError(
            f"shard={AUTO}: this Slurm array is not 1-n, but {size} jobs from {first} to {last}; "
            f"write shard={AUTO}/n, n being the number of shards"
        )
    return number - first + 1, size


def _whole(told: Mapping[str, str], name: str) -> int:
    value = told.get(name, "")
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ConfigError(f"shard={AUTO}: {name}='{value}' is no number; give shard=i/n")
    return int(value)
