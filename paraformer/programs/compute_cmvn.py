"""Mean and variance of features after LFR, for the normalisation before the encoder: am.mvn."""

from __future__ import annotations

import logging

import kaldiio
import torch
from omegaconf import DictConfig
from tqdm import tqdm

from paraformer.data.cmvn import CmvnStatistics, write_cmvn
from paraformer.data.frontend import low_frame_rate
from paraformer.data.tables import read_table
from paraformer.errors import ConfigError, DataError
from paraformer.programs.hydra_main import run

log = logging.getLogger(__name__)


def compute_cmvn(config: DictConfig) -> int:
    """Count every frame of `feats` and write `out`; features that cannot be read stop it."""
    if min(config.lfr_m, config.lfr_n) < 1:
        raise ConfigError(f"lfr_m={config.lfr_m} lfr_n={config.lfr_n}: give 1 or more")
    feats = read_table(config.feats)
    statistics = CmvnStatistics()
    for utterance, place in tqdm(feats.items(), "compute_cmvn", disable=None, leave=False):
        matrix = read_matrix(place, f"{config.feats}: utterance '{utterance}'")
        statistics.add(low_frame_rate(matrix, config.lfr_m, config.lfr_n))
    cmvn = statistics.result()
    write_cmvn(config.out, cmvn)
    log.info(
        "%s: %d columns from %d frames of %d utterances",
        config.out,
        len(cmvn.shift),
        statistics.frames,
        len(feats),
    )
    return 0


def read_matrix(place: str, where: str) -> torch.Tensor:
    """Features (T, D) from `file.ark:offset`; `where` says in an error whose they are."""
    try:
        matrix = kaldiio.load_mat(place)
        return torch.from_numpy(matrix.copy()).float().view(len(matrix), -1)
    except (OSError, ValueError, AttributeError, TypeError, RuntimeError) as error:
        raise DataError(f"{where}: cannot read features at {place} ({error})") from error


def main() -> int:
    """Entry of `bin/compute_cmvn.py` and `funasr-compute-cmvn`."""
    return run("cmvn", compute_cmvn)
