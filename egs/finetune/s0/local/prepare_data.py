#!/usr/bin/env python3
"""Copy a Kaldi data directory, or make one of lists of FunASR, and keep what is sound in it.

    local/prepare_data.py SOURCE DESTINATION

SOURCE: a data directory, which stays as it is; or one or several lists, a.jsonl,b.jsonl; or two
tables, train_wav.scp,train_text.txt. Files of wav.scp get their whole paths; relative ones count
from the current folder, else from that of their table. Of DESTINATION nothing older is left. What
is dropped is counted by reason, and listed in DESTINATION/dropped.txt.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from paraformer.data.corpus.checks import DERIVED_TABLES, KNOWN_TABLES, entry_file
from paraformer.data.corpus.datadir import DataDir, remove_tables
from paraformer.data.corpus.tables import read_rows, write_text
from paraformer.data.inputs.jsonl import jsonl_to_data
from paraformer.errors import DataError, ParaformerError


def tables(source: str) -> dict[str, Path]:
    """The tables of a data directory, or a pair of wav.scp and text under names of their own."""
    pair = [Path(name) for name in source.split(",")]
    if len(pair) == 2:
        return dict(zip(("wav.scp", "text"), pair, strict=True))
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"{source}: no such directory, no .jsonl and no wav.scp,text; give one")
    found = {name: folder / name for name in (*KNOWN_TABLES, *DERIVED_TABLES)}
    return {name: path for name, path in found.items() if path.is_file()}


def copy(source: str, destination: Path) -> None:
    """Tables as they are, faults and all, but for the paths in wav.scp, and no others."""
    found = tables(source)
    destination.mkdir(parents=True, exist_ok=True)
    remove_tables(destination, but=found)
    for name, path in found.items():
        if name.endswith(".scp"):
            lines = (f"{row.key} {whole(row.value, path.parent)}\n" for row in read_rows(path))
            write_text(destination / name, "".join(lines))
        else:
            shutil.copyfile(path, destination / name)


def whole(value: str, folder: Path) -> str:
    """An entry with the whole path of its file: seen from here, else from its table. A command
    will run here.
    """
    if value.endswith("|"):
        return f"cd {shlex.quote(os.getcwd())} && {value}"
    file, _ = entry_file(value)
    for place in (Path(file), folder / file) if file else ():
        if place.is_file():
            return os.path.abspath(place) + value[len(file) :]
    return value


def main() -> int:
    """See the top of this file."""
    if len(sys.argv) != 3:
        print("usage: local/prepare_data.py SOURCE DESTINATION", file=sys.stderr)
        return 2
    source, destination = sys.argv[1], Path(sys.argv[2])
    try:
        if source.endswith(".jsonl"):
            done = jsonl_to_data(source.split(","), destination)
            kept, counts = done.kept, done.counts()
        else:
            copy(source, destination)
            repair = DataDir(destination).fix()
            kept, counts = repair.kept, repair.counts()
    except (ParaformerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{destination}: kept {kept}, dropped {sum(counts.values())}", file=sys.stderr)
    for reason, count in counts.items():
        print(f"dropped {count} x {reason}; see {destination}/dropped.txt", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
