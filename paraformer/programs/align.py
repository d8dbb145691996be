"""When each word of known texts was spoken, by a released forced aligner.

Writes into `out`: ctm (`recording channel start duration word`, NIST's and Kaldi's table of word
times; of segments the times are those of their recordings, and results.jsonl has what was found);
intervals (`id start end word`: words and `<sil>` without gaps from 0 to the end of each utterance,
as a TextGrid tier has them), both in seconds; utt2dur (`id seconds`); failed (`id reason`), each
line as soon as it is known; and at the end stats.json.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import compress
from pathlib import Path

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from paraformer.api.record import made_by
from paraformer.backends.devices import choose_device, choose_format
from paraformer.data.corpus.origins import Origins
from paraformer.data.corpus.tables import write_text
from paraformer.data.corpus.texts import read_texts
from paraformer.data.inputs.sources import Item, list_items
from paraformer.decode.align import Alignment, ForcedAligner, Outcome, pair_texts, read_pairs
from paraformer.decode.recognize import Batching
from paraformer.decode.timestamps import SILENCE, Span
from paraformer.errors import DataError, ParaformerError
from paraformer.hub.directories import find_model
from paraformer.limits import check_values
from paraformer.models.release import load_aligner
from paraformer.output.result import alignment_result, head
from paraformer.output.resume import Made
from paraformer.output.tables import GrowingTables, find_finished
from paraformer.output.timed_folder import TimedFolder
from paraformer.programs.decode import LIMITS, data_items, origins_of, raw_rate, result_folder
from paraformer.programs.hydra_main import defaults_of, plain, run
from paraformer.progress import goes_on

log = logging.getLogger(__name__)

WHOLE = "utt2dur"  # the last line of each utterance
TABLES = ("intervals", WHOLE, "failed")


class Times:
    """The tables of the results in `out`. Only resume keeps what an earlier run has finished."""

    def __init__(
        self, out: Path, origins: Origins, resume: bool = False, made: Made | None = None
    ) -> None:
        """made: what the results are made with."""
        self.done = self.words = 0
        self.ctm = TimedFolder(out, "ctm", resume=resume, origins=origins, exact=True)
        others = [TABLES[0], *self.ctm.beside]
        finished = find_finished(out, [WHOLE], others, made) if resume else None
        self.tables = GrowingTables(out, [*TABLES, "stats.json"], TABLES, finished, made)

    def add(self, item: Item, script: str, outcome: Outcome, seconds: float) -> None:
        """Write the word times of an utterance, or why there are none."""
        if isinstance(outcome, ParaformerError):
            log.warning("utterance '%s': %s", item.key, outcome)
            self.tables.add("failed", item.key, str(outcome))
            return
        self.done += 1
        self.words += len(outcome.words)
        self.ctm.add({**head(item), **alignment_result(outcome, script, seconds)})
        for text, start, end in tile(outcome, seconds):
            self.tables.add("intervals", item.key, f"{start:.3f} {end:.3f} {text}")
        self.tables.add(WHOLE, item.key, f"{seconds:.3f}")


def tile(found: Alignment, seconds: float) -> list[Span]:
    """Words and silences that follow each other without a gap from 0 to `seconds`, in whole ms."""
    tiled: list[Span] = []
    before = 0.0
    for text, start, end in found.spans:
        start, end = (min(round(x, 3), round(seconds, 3)) for x in (start, end))
        if start > before:
            tiled.append(Span(SILENCE, before, start))
        if text != SILENCE or end > start:
            tiled.append(Span(text, start, end))
        before = end
    if round(seconds, 3) > before:
        tiled.append(Span(SILENCE, before, round(seconds, 3)))
    return tiled


def align(config: DictConfig) -> int:
    """Align `config.data` with its texts; what cannot be aligned is reported and counted."""
    check_values({name: config[name] for name in LIMITS}, LIMITS)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    data, fs = Path(config.data), raw_rate(config.fs)
    folder = data if data.is_dir() else data.parent
    out = result_folder(config.out, str(folder))
    items = data_items(data) if data.is_dir() else list_items(data)
    texts = _texts(Path(config.text or folder / "text"), [item.key for item in items])
    directory = find_model(config.model)
    release = load_aligner(directory)
    device = choose_device(config.device)
    aligner = ForcedAligner(release, device, choose_format(config.dtype, device))
    batching = Batching(config.batch_size, config.batch_frames / 100)
    seconds: list[float] = []
    made = made_by({"model": directory}, plain(config), defaults_of("align"))
    times = Times(out, origins_of(folder, items), goes_on(out, config.resume), made)
    keys = [item.key for item in items]
    pending = list(compress(items, times.tables.pending(keys)))
    times.done = len(items) - len(pending)
    begun = time.perf_counter()
    absent = DataError("no text of this id; add it to the table of texts")
    pairs = [(item, texts.get(item.key, absent)) for item in pending]
    outcomes = aligner.stream(read_pairs(pairs, release.frontend, fs, seconds), batching)
    bar = tqdm(outcomes, total=len(pending), desc="align", unit="utt", disable=None, leave=False)
    with closing(times.tables), closing(times.ctm):
        for place, outcome in enumerate(bar):
            item, script = pairs[place]
            times.add(item, str(script), outcome, seconds[place])
        times.tables.finish(keys)
    _write_stats(out, config, times, len(items), seconds, time.perf_counter() - begun)
    log.info("aligned %d of %d utterances, %d words", times.done, len(items), times.words)
    return 0 if times.done >= config.min_success * len(items) else 1


def _texts(path: Path, keys: Sequence[str]) -> Mapping[str, str | DataError]:
    """Those of a table, or the lines of a plain file, which go to the recordings in their order."""
    read = read_texts(path, keys)
    return read.table if read.has_ids else dict(zip(keys, pair_texts(path, keys), strict=True))


def _write_stats(
    out: Path, config: DictConfig, times: Times, total: int, seconds: list[float], elapsed: float
) -> None:
    heard = sum(seconds)
    stats = {
        "model": str(config.model),
        "data": str(config.data),
        "utterances": total,
        "aligned": times.done,
        "words": times.words,
        "audio_seconds": round(heard, 3),
        "elapsed_seconds": round(elapsed, 3),
        "rtf": round(elapsed / heard, 5) if heard else None,
    }
    write_text(out / "stats.json", json.dumps(stats, ensure_ascii=False, indent=1) + "\n")


def main() -> int:
    """Entry of `bin/align.py` and `funasr-align`."""
    return run("align", align)
