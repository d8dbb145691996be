"""One folder of the results of shards, as of a single run, in the order of the list.

  funasr merge +input=wav.scp +output_dir=exp/batch        # the input and the folder of the shards
  funasr merge wav.scp +output_dir=exp/batch +min_success=1

output_dir holds the folders shard.1, shard.2 ... of runs with shard=i/n. Their tables and files
come to stand beside them, and `missing`: the ids that no shard has done, nor named in `failed`.
Exit code 1 if less than min_success of the list is done. Run it again when more is done. data= and
out= are other names of the two, those of bin/merge_results.py, which does the same.
"""

from __future__ import annotations

import logging
import sys

from paraformer import options as opts
from paraformer.cli.arguments import typed
from paraformer.cli.command_line import KNOWN, Arguments, help_line
from paraformer.errors import ConfigError

KEYS = {key: KNOWN[key] for key in ("input", "output_dir", "segments", "min_success")}
OTHER_NAMES = {"data": "input", "out": "output_dir"}


def main(arguments: Arguments) -> int:
    """Merge the shards of a folder; returns the exit code."""
    given = Arguments([*arguments.inputs])
    for key, value in arguments.values.items():
        name = OTHER_NAMES.get(key, key)
        if name not in KEYS:
            raise opts.unknown_key(key, KEYS, "merge", "funasr merge")
        given.add(name, value)
    folder = given.values.get("output_dir")
    if len(given.inputs) != 1 or not folder:
        raise ConfigError("merge: give input=LIST, that of the shards, and output_dir=FOLDER")
    least = typed(given.values.get("min_success", "0.95"), 0.95, "min_success")
    command = opts.CommandOptions(min_success=least)  # type: ignore[arg-type]
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    from paraformer.output.merge import merge

    merged = merge(folder, given.inputs[0], given.values.get("segments", ""))
    return merged.code(command.min_success)


def help_text() -> str:
    """The text of `funasr merge --help`."""
    return "\n".join([(__doc__ or "").strip(), "", *map(help_line, KEYS.values())])
