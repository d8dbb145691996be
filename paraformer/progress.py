"""A job of a scheduler tells it that its work goes on when it is started again, and how far it has
come. `utils/slurm.py` reads that.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from paraformer.documents import parse_json
from paraformer.files import replacing

# The environment names a file by it in which a job says how far it is; see utils/slurm.py.
PROGRESS = "JOB_PROGRESS"


def goes_on(folder: str | Path, asked: bool = False) -> bool:
    """Tell whether a run keeps what is finished in the folder of its results, or file: it was asked
    to, or an earlier start of the same job of a scheduler has begun there. The scheduler is told
    that this work goes on, and how many bytes of results there are.
    """
    if not os.environ.get(PROGRESS):
        return asked
    begun = os.fspath(Path(folder).absolute()) in _told()
    files = (path for path in (Path(folder), *Path(folder).rglob("*")) if path.is_file())
    tell_progress(folder, str(sum(path.stat().st_size for path in files)))
    return asked or begun


def tell_progress(folder: str | Path, amount: str) -> None:
    """Tell the scheduler, if there is one, that the work in a folder goes on when it is started
    again, and how far it was at this start: two starts with the same amount make no progress.
    """
    place = os.environ.get(PROGRESS)
    if place:
        told = {**_told(), os.fspath(Path(folder).absolute()): amount}
        with replacing(place) as draft:
            draft.write_text(json.dumps(told) + "\n", encoding="utf-8", newline="\n")


def _told() -> dict[str, str]:
    """Folder -> amount, as this job has told it so far."""
    try:
        told = parse_json(Path(os.environ.get(PROGRESS, "")).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
