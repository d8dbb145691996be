"""Mean and variance of features after LFR, for the normalisation before the encoder: am.mvn."""

from __future__ import annotations

import logging

import numpy as np
import torch
from omegaconf import DictConfig
from tqdm import tqdm

from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.tables import read_table
from paraformer.data.features.cmvn import CmvnStatistics, write_cmvn
from paraformer.data.features.frontend import low_frame_rate
from paraformer.errors import DataError
from paraformer.limits import Limits, check
from paraformer.options import SHARE
from paraformer.programs.hydra_main import run

log = logging.getLogger(__name__)


def compute_cmvn(config: DictConfig) -> int:
    """Count every frame of `feats` and write `out`; features that cannot be read are reported,
    counted and skipped.
    """
    check("min_success", config.min_success, SHARE)
    check("lfr_m", config.lfr_m, Limits(1, whole=True))
    check("lfr_n", config.lfr_n, Limits(1, whole=True))
    feats = read_table(config.feats)
    statistics = CmvnStatistics()
    failed: list[str] = []
    for utterance, place in tqdm(feats.items(), "compute_cmvn", disable=None, leave=False):
        try:
            matrix = read_matrix(place, f"{config.feats}: utterance '{utterance}'")
            statistics.add(low_frame_rate(matrix, config.lfr_m, config.lfr_n))
        except DataError as error:
            log.warning("%s", error)
            failed.append(str(error))
    if failed and len(feats) - len(failed) < max(1, config.min_success * len(feats)):
        raise DataError(f"{len(failed)} of {len(feats)} utterances cannot be read; {failed[0]}")
    cmvn = statistics.result()
    write_cmvn(config.out, cmvn)
    log.info(
        "%s: %d columns from %d frames of %d utterances",
        config.out,
        len(cmvn.shift),
        statistics.frames,
        len(feats) - len(failed),
    )
    return 0


def read_matrix(place: str, where: str) -> torch.Tensor:
    """Features (T, D) from `file.ark:offset`; `where` says in an error whose they are."""
    try:
        matrix = load_archive(place)
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: cannot read features at {place} ({error})") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or not matrix.size:
        raise DataError(f"{where}: no features at {place}; make them with steps/make_fbank.sh")
    if not np.isfinite(matrix).all():
        raise DataError(f"{where}: NaN or infinity at {place}; make feats.scp again")
    return torch.from_numpy(matrix.copy()).float()


def main() -> int:
    """Entry of `bin/compute_cmvn.py` and `funasr-compute-cmvn`."""
    return run("cmvn", compute_cmvn)
