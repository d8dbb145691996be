"""`python -m paraformer.as_funasr`: see the package."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from paraformer.as_funasr import FOLDER


def main(arguments: Sequence[str]) -> str | None:
    """Run a program with its arguments, or tell the folder; returns why that cannot be."""
    if not arguments:
        sys.stdout.write(f"{FOLDER}\n")
        return None
    program = arguments[0]
    if not os.path.isfile(program):
        return f"as_funasr: {program}: no such program; give the path of a Python file"
    before = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *before])  # for those that it starts
    sys.argv = list(arguments)
    sys.path.insert(1, os.path.dirname(os.path.abspath(program)))
    runpy.run_path(program, run_name="__main__")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
