"""A Kaldi archive that grows, and goes on growing after a run that was stopped."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import kaldiio
import numpy as np
from torch import Tensor

from paraformer.data.corpus.tables import write_table
from paraformer.errors import writing
from paraformer.files import check_folder, together
from paraformer.output.resume import MADE_WITH, Made
from paraformer.output.tables import table_line


class _Row(NamedTuple):
    """The place of the features of an utterance: byte of the matrix, frames, byte behind it."""

    place: int
    frames: int
    end: int


class GrowingArchive:
    """NAME.ark, NAME.scp and NAME.utt2num_frames of a stem `folder/NAME`. Until all is there it is
    NAME.ark.part, beside which NAME.rows.part says what it holds; resume: both are gone on with.
    """

    def __init__(
        self,
        stem: str,
        compression: int | None = None,
        resume: bool = False,
        made: Made | None = None,
    ) -> None:
        """compression: Kaldi's method; None: float32. made: what the features are made with."""
        self.stem, self.compression = stem, compression
        check_folder(Path(stem).parent)
        self._draft, self._list = Path(f"{stem}.ark.part"), Path(f"{stem}.rows.part")
        self._made = Path(f"{stem}.{MADE_WITH}.part")
        if made is not None and resume:
            made.refuse_other(self._list.parent, [self._list.name], self._made.name)
        self._rows = self._kept() if resume else {}
        self._ark = self._draft.open("ab")
        self._ark.truncate(max((row.end for row in self._rows.values()), default=0))
        with self._list.open("w", encoding="utf-8", errors="surrogateescape") as table:
            table.writelines(_line(key, row) for key, row in self._rows.items())
        self._table = self._list.open("a", encoding="utf-8", errors="surrogateescape")
        if made is not None:
            made.write(self._made.parent, self._made.name)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, utterance: str, feats: Tensor) -> None:
        """Write the features (T, n_mels) of an utterance."""
        place = self._ark.seek(0, 2) + len(utterance.encode()) + 1
        matrix = feats.numpy().astype(np.float32, copy=False)
        with writing(self._draft):
            kaldiio.save_ark(self._ark, {utterance: matrix}, compression_method=self.compression)
            self._ark.flush()
        self._rows[utterance] = _Row(place, len(feats), self._ark.tell())
        with writing(self._list):
            self._table.write(_line(utterance, self._rows[utterance]))
            self._table.flush()

    def close(self) -> None:
        """Close the files; what they hold can be gone on with."""
        for path, file in ((self._draft, self._ark), (self._list, self._table)):
            with writing(path):
                file.close()

    def finish(self) -> None:
        """Give the archive its name, and write its tables. No scp ever points into the archive of
        another run.
        """
        self.close()
        rows, name = self._rows, Path(self.stem).name
        with together(Path(self.stem).parent, (f"{name}.scp", f"{name}.utt2num_frames")) as draft:
            places = {key: f"{self.stem}.ark:{row.place}" for key, row in rows.items()}
            write_table(draft / f"{name}.scp", places)
            frames = {key: str(row.frames) for key, row in rows.items()}
            write_table(draft / f"{name}.utt2num_frames", frames)
            # Last: where its tables find no room, the archive stays, to be gone on with.
            self._draft.replace(draft / f"{name}.ark")
        self._list.unlink()
        self._made.unlink(missing_ok=True)

    def _kept(self) -> dict[str, _Row]:
        """The rows that an earlier run has written whole."""
        rows: dict[str, _Row] = {}
        if not (self._draft.is_file() and self._list.is_file()):
            return rows
        size = self._draft.stat().st_size
        text = self._list.read_text(encoding="utf-8", errors="surrogateescape")
        for line in text.split("\n")[:-1]:  # the last is not whole
            key, *numbers = line.rsplit(" ", 3)
            with suppress(ValueError, TypeError):
                row = _Row(*map(int, numbers))
                if row.end <= size:
                    rows[key] = row
        return rows


def _line(key: str, row: _Row) -> str:
    return table_line(key, " ".join(map(str, row))) + "\n"
