"""One folder of the results of shards, as of a single run, in the order of the list.

`out` holds the folders shard.1, shard.2 ... of runs with shard=i/n; `data` is what those were
given, a list or a data directory. Writes beside them all tables and files that they have, and
`missing`: the ids that no shard has done, nor named in `failed`. Run it again when more is done.
Shards of `segment` are data directories: utils/combine_data.py makes one of them.
"""

from __future__ import annotations

from omegaconf import DictConfig

from paraformer.limits import check_values
from paraformer.options import ProgramOptions, limits_of
from paraformer.output.merge import merge
from paraformer.programs.hydra_main import run


def merge_results(config: DictConfig) -> int:
    """Merge the shards in `config.out`."""
    check_values({"min_success": config.min_success}, limits_of(ProgramOptions))
    merged = merge(str(config.out), str(config.data), str(config.segments))
    return merged.code(config.min_success)


def main() -> int:
    """`bin/merge_results.py` and `funasr-merge_results`."""
    return run("merge_results", merge_results)
