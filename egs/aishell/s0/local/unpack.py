#!/usr/bin/env python3
"""Unpack data_aishell.tgz and the archives of its speakers, without leaving the folder.

    local/unpack.py ARCHIVE FOLDER

An archive that is done leaves a mark behind (`.NAME.done`), so that a run that was stopped goes on
with the next one. Members with absolute paths, with `..`, links and devices are refused.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path, PurePosixPath

from paraformer.errors import DataError, ParaformerError


def check_member(archive: Path, member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A folder or a file below the one that is unpacked into; nothing else is let through."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise DataError(f"{archive}: member '{member.name}' is no file below it; fetch it again")
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def unpack(archive: Path, folder: Path) -> bool:
    """Unpack one archive; False where it has been done before."""
    mark = folder / f".{archive.name}.done"
    if mark.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                tar.extract(check_member(archive, member), folder, set_attrs=False)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); fetch it again") from error
    mark.touch()
    return True


def main() -> int:
    """The archive itself, then those of the speakers, which hold {train,dev,test}/SPEAKER."""
    if len(sys.argv) != 3:
        print("usage: local/unpack.py ARCHIVE FOLDER", file=sys.stderr)
        return 2
    archive, folder = Path(sys.argv[1]), Path(sys.argv[2])
    unpack(archive, folder)
    speakers = sorted((folder / "data_aishell/wav").glob("*.tar.gz"))
    done = sum(unpack(path, path.parent) for path in speakers)
    print(f"{folder}: {len(speakers)} speakers, {done} of them now", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ParaformerError as error:
        sys.exit(f"local/unpack.py: {error}")
