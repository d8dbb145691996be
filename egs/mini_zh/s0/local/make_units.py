#!/usr/bin/env python3
"""Write `text_units` of a data directory: the sounds of its text, a second target for training.

    local/make_units.py DATA_DIR SEG_DICT UNITS

A Chinese character becomes its initial and its final with tone (pypinyin, in context), an English
word the pieces of SEG_DICT in capitals. UNITS, the inventory, is written if it is not there;
otherwise unknown units are left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from paraformer.data.corpus.tables import read_rows, read_table, write_table, write_text
from paraformer.data.text.tokenizer import read_seg_dict
from paraformer.errors import ConfigError, ParaformerError

RUN = re.compile(r"[\u4e00-\u9fa5]+|[^\u4e00-\u9fa5\s]+")


def units_of(text: str, seg_dict: dict[str, list[str]]) -> list[str]:
    """Initials and toned finals; a syllable without an initial is its final alone."""
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise ConfigError("needs pypinyin; pip install 'paraformer-toolkit[train]'") from error
    units = []
    for run in RUN.findall(text):
        if not re.match(r"[\u4e00-\u9fa5]", run):
            units += [piece.upper() for piece in seg_dict.get(run.lower(), [])]
            continue
        initials = lazy_pinyin(run, style=Style.INITIALS, strict=False)
        finals = lazy_pinyin(
            run, style=Style.FINALS_TONE3, strict=False, neutral_tone_with_five=True
        )
        units += [unit for pair in zip(initials, finals, strict=True) for unit in pair if unit]
    return units


def main() -> int:
    """Write the table and, the first time, the inventory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("seg_dict", type=Path)
    parser.add_argument("units", type=Path)
    args = parser.parse_args()
    seg_dict = read_seg_dict(args.seg_dict)
    table = {key: units_of(text, seg_dict) for key, text in read_table(args.data / "text").items()}
    if not args.units.is_file():
        inventory = sorted({unit for units in table.values() for unit in units})
        write_text(args.units, "\n".join(inventory) + "\n")
    known = {row.key for row in read_rows(args.units)}
    lines = {key: " ".join(u for u in units if u in known) for key, units in table.items()}
    write_table(args.data / "text_units", lines)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ParaformerError as error:
        sys.exit(f"local/make_units.py: {error}")
