"""The door of the programs of this folder: it finds the package and ends errors in one line and
exit code 1.

Nothing here or in `paraformer.data.corpus.datadir` imports torch: the programs start at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paraformer.cli import ends
from paraformer.data.corpus.tables import format_table, read_table, write_text  # noqa: E402


def say(message: str) -> None:
    """A line on stderr, with the name of the program in front."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)


def say_uncarried(names: Sequence[str]) -> None:
    """Name the files of a data directory that are in no copy."""
    if names:
        say(f"not carried, since its ids are of nothing here: {' '.join(names)}")


def enter(main: Callable[[], int]) -> NoReturn:
    """Run `main`, whose result is the exit code."""

    def work() -> int:
        try:
            return main()
        except SystemExit as stop:  # argparse has printed its help, or its refusal
            return int(stop.code or 0)

    sys.exit(ends.run(work, say))


def report(destination: str, kept: int, counts: Mapping[str, int], record: str) -> int:
    """Say how many utterances were taken, and by reason how many others `record` names; 0."""
    say(f"{destination}: {kept} utterances, {sum(counts.values())} dropped")
    for reason, count in counts.items():
        say(f"{count} dropped: {reason}; see {record}")
    return 0


def convert(function: Callable[[Mapping[str, str]], dict[str, str]], description: str) -> int:
    """A program that reads one table and writes another."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", nargs="?", default="/dev/stdin")
    parser.add_argument("destination", nargs="?")
    args = parser.parse_args()
    text = format_table(function(read_table(args.source)))
    if args.destination:
        write_text(args.destination, text)
    else:
        sys.stdout.write(text)
    return 0
