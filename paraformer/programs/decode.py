"""Text of a Kaldi data directory by a trained model.

Writes into `out`: text, token and score (the utterance's log-probability and mean confidence), with
a line for each utterance that could be decoded; failed (`id reason`); stats.json; and with nbest
above 1, nbest/N/{text,token,score}.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import kaldiio
import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from paraformer.auto import choose_device
from paraformer.data.frontend import Frontend
from paraformer.data.inputs import Cache, Item, list_items
from paraformer.data.tables import read_table, write_table, write_text
from paraformer.decode.recognize import Batching, Outcome, Reading, Recognizer, Search
from paraformer.errors import DataError, ParaformerError
from paraformer.hub import find_model
from paraformer.models.checkpoint import load_directory
from paraformer.programs.hydra_main import run

log = logging.getLogger(__name__)

Feats = Tensor | ParaformerError


@dataclass
class Work:
    """Utterances in the order of their ids, and the seconds of audio seen so far."""

    keys: list[str]
    feats: Iterator[Feats]
    seconds: list[float] = field(default_factory=list)


@dataclass
class Texts:
    """Tables of the results, one list entry for each rank of an n-best."""

    nbest: list[dict[str, Reading]]
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, outcome: Outcome) -> None:
        """Keep an utterance's readings, or why there are none."""
        if isinstance(outcome, ParaformerError):
            log.warning("utterance '%s': %s", key, outcome)
            self.failed[key] = " ".join(str(outcome).split())
            return
        for table, reading in zip(self.nbest, outcome.nbest, strict=False):
            table[key] = reading

    def write(self, out: Path) -> None:
        """All tables; the best readings in `out` itself."""
        _write_readings(out, self.nbest[0])
        if len(self.nbest) > 1:
            for rank, table in enumerate(self.nbest, 1):
                _write_readings(out / "nbest" / str(rank), table)
        write_table(out / "failed", self.failed)


def decode(config: DictConfig) -> int:
    """Decode `config.data`; an utterance that cannot be read is reported, counted and skipped."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    search = Search(
        config.nbest,
        config.decoding_ctc_weight,
        config.beam_size,
        config.penalty,
        config.maxlenratio,
        config.minlenratio,
    )
    batching = Batching(config.batch_size, config.batch_frames / 100)
    release = load_directory(find_model(config.model))
    dtype = torch.bfloat16 if config.bf16 else None
    recognizer = Recognizer(release, choose_device(config.device), dtype)
    work = _open(Path(config.data), release.frontend, config.use_feats)
    texts = Texts([{} for _ in range(config.nbest)])
    begun = time.perf_counter()
    outcomes = recognizer.stream(work.feats, search, batching)
    bar = tqdm(outcomes, total=len(work.keys), desc="decode", unit="utt", disable=None, leave=False)
    for key, outcome in zip(work.keys, bar, strict=True):
        texts.add(key, outcome)
    elapsed = time.perf_counter() - begun
    texts.write(Path(config.out))
    total, done = len(work.keys), len(texts.nbest[0])
    _write_stats(Path(config.out), config, total, done, sum(work.seconds), elapsed)
    log.info("decoded %d of %d utterances", done, total)
    return 0 if done >= config.min_success * total else 1


def _open(data: Path, frontend: Frontend, use_feats: bool) -> Work:
    if not data.is_dir():
        raise DataError(f"{data}: no such directory; give a data directory with wav.scp")
    if use_feats and (data / "feats.scp").is_file():
        table = dict(sorted(read_table(data / "feats.scp").items()))
        work = Work(list(table), iter(()))
        work.feats = _stored(list(table.values()), frontend, work.seconds)
        return work
    for name in ("wav.scp", "segments"):
        if name == "wav.scp" or (data / name).is_file():
            read_table(data / name)  # refuses what is missing or stands twice
    items = sorted(list_items(data), key=lambda item: item.key)
    work = Work([item.key for item in items], iter(()))
    work.feats = _computed(items, frontend, work.seconds)
    return work


def _stored(places: Sequence[str], frontend: Frontend, seconds: list[float]) -> Iterator[Feats]:
    """Log-mel features of an archive, stacked and normalised."""
    for place in places:
        try:
            fbank = torch.from_numpy(np.array(kaldiio.load_mat(place), dtype=np.float32))
        except (OSError, ValueError, RuntimeError) as error:
            yield DataError(f"{place}: no features there ({error}); make feats.scp again")
            continue
        if fbank.dim() != 2 or fbank.size(1) != frontend.n_mels:
            shape = tuple(fbank.shape)
            yield DataError(f"{place}: {shape}, not (frames, {frontend.n_mels}); make it again")
            continue
        if not fbank.isfinite().all():
            yield DataError(f"{place}: features hold NaN or infinity; make feats.scp again")
            continue
        seconds.append(len(fbank) * frontend.frame_shift / 1000)
        yield frontend.normalize(frontend.stack(fbank))


def _computed(items: Sequence[Item], frontend: Frontend, seconds: list[float]) -> Iterator[Feats]:
    """Features of the audio itself."""
    cache = Cache()
    for item in items:
        try:
            wave = item.read(None, frontend.fs, cache)
        except ParaformerError as error:
            yield error
            continue
        seconds.append(len(wave) / frontend.fs)
        yield frontend(wave)


def _write_readings(folder: Path, table: dict[str, Reading]) -> None:
    write_table(folder / "text", {key: r.tight for key, r in table.items()})
    write_table(folder / "token", {key: " ".join(r.tokens) for key, r in table.items()})
    scores = {key: f"{r.score:.4f} {r.confidence:.4f}" for key, r in table.items()}
    write_table(folder / "score", scores)


def _write_stats(
    out: Path, config: DictConfig, total: int, done: int, seconds: float, elapsed: float
) -> None:
    stats = {
        "model": str(config.model),
        "data": str(config.data),
        "utterances": total,
        "decoded": done,
        "audio_seconds": round(seconds, 3),
        "elapsed_seconds": round(elapsed, 3),
        "rtf": round(elapsed / seconds, 5) if seconds else None,
    }
    write_text(out / "stats.json", json.dumps(stats, ensure_ascii=False, indent=1) + "\n")


def main() -> int:
    """`bin/decode.py`."""
    return run("decode", decode)
