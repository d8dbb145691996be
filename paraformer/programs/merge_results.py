"""One folder of the results of shards, as of a single run, in the order of the list.

`out` holds the folders shard.1, shard.2 ... of runs with shard=i/n; `data` is what those were
given, a list or a data directory. Writes beside them all tables and files that they have, and
`missing`: the ids that no shard has done, nor named in `failed`. Run it again when more is done.
Shards of `segment` are data directories: utils/combine_data.py makes one of them.
"""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.audio.channels import MIX
from paraformer.data.corpus.origins import Origins
from paraformer.data.inputs.data_folder import data_items, stored_items
from paraformer.data.inputs.sources import Inputs
from paraformer.errors import ConfigError
from paraformer.limits import check_values
from paraformer.options import ProgramOptions, limits_of
from paraformer.output.merge import MISSING, Shards
from paraformer.programs.hydra_main import run

log = logging.getLogger(__name__)
SHOWN = 5


def merge_results(config: DictConfig) -> int:
    """Merge the shards in `config.out`; what is missing or has failed is named and counted."""
    check_values({"min_success": config.min_success}, limits_of(ProgramOptions))
    out = Path(config.out)
    if not out.is_dir():
        raise ConfigError(f"out={config.out}: no such folder; give the one that holds the shards")
    shards = Shards(out)
    keys, origins = _list(config, shards)
    merged = shards.write(keys, origins)
    if absent := shards.absent():
        log.warning("not there: shards %s", " ".join(map(str, absent)))
    for name in ("failed", MISSING):
        if count := getattr(merged, name):
            with (out / name).open(encoding="utf-8", errors="replace") as file:
                ids = [line.split(" ", 1)[0].rstrip() for line in islice(file, SHOWN)]
            more = " ..." if count > SHOWN else ""
            log.warning("%d utterances %s: %s%s (%s)", count, name, " ".join(ids), more, out / name)
    log.info("merged %d of %d utterances", merged.done, merged.total)
    return merged.code(config.min_success)


def _list(config: DictConfig, shards: Shards) -> tuple[list[str], Origins]:
    """The ids of all that the shards were given, in the order of one run, and their origins."""
    data, options = Path(config.data), shards.record.options
    channel = options.get("channel", MIX)
    if shards.of_command or not data.is_dir():
        inputs = Inputs(str(config.data), segments=str(config.segments), channel=channel)
        return [key for key, _ in inputs.keyed()], inputs.origins
    has_feats = "token" in shards.names and (data / "feats.scp").is_file()
    stored = has_feats and options.get("use_feats", True) and "vad_model" not in options
    items = stored_items(data) if stored else data_items(data, channel)
    return [item.key for item in items], items.origins


def main() -> int:
    """`bin/merge_results.py` and `funasr-merge_results`."""
    return run("merge_results", merge_results)
