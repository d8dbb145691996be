"""Text of a Kaldi data directory by a trained model.

Writes into `out`: text, token and score (the utterance's log-probability and mean confidence), with
a line for each utterance that could be decoded; failed (`id reason`); and with nbest above 1,
nbest/N/{text,token,score}; each line as soon as it is known. output_format adds to these: json
results.jsonl; ctm or stm a table of that name; srt, vtt, lrc, tsv and textgrid a file for each
recording, which are made of results.jsonl in the end where there are segments. made_with.json says
what made them; at the end, stats.json.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from paraformer.api.record import made_by
from paraformer.backends.devices import choose_device, choose_format
from paraformer.data.audio.channels import MIX
from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.origins import Origins
from paraformer.data.corpus.segments import Place, read_places
from paraformer.data.corpus.tables import read_table, readable, write_text
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.sources import Item, Segment, list_items
from paraformer.decode.hotwords import HotwordMemo
from paraformer.decode.itn import Numerals, shared_numerals
from paraformer.decode.language_model import shared_language_model
from paraformer.decode.longform import (
    Cutting,
    LongRecognizer,
    PauseSegmenter,
    joined,
    read_sources,
)
from paraformer.decode.recognize import Batching, Outcome, Recognizer, Search
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model
from paraformer.limits import Limits, check, check_values
from paraformer.models.release import load_directory
from paraformer.options import RATE, SHARE, THREADS, CallOptions, limits_of
from paraformer.output.result import WRITTEN, head, in_digits, outcome_result
from paraformer.output.resume import Made
from paraformer.output.subtitle_lines import LineLimits
from paraformer.output.tables import GrowingTables, check_format, find_finished
from paraformer.output.timed_folder import TimedFolder
from paraformer.output.timed_formats import is_timed
from paraformer.programs.hydra_main import defaults_of, plain, run
from paraformer.progress import goes_on

log = logging.getLogger(__name__)

Feats = Tensor | ParaformerError
TABLES = ("text", "token", "score")
SEGMENT = "bin/segment.py"
UNCUT = (
    "features are not cut: time and memory grow with the square of the length; make segments with "
    f"{SEGMENT}, or give use_feats=false"
)
LIMITS = {
    "num_threads": THREADS._replace(low=0),
    "min_success": SHARE,
    "batch_frames": Limits(1, whole=True),
    "batch_size": Limits(1, whole=True),
}
OWN_LIMITS = {**LIMITS, **limits_of(CallOptions, ("max_whole_s", "max_segment_s"))}


@dataclass
class Work:
    """Utterances in the order of their ids, and what decodes them: outcomes with the seconds of
    each, 0 where it was not read.
    """

    items: list[Item]
    decode: Callable[[list[Item], Recognizer, Search, Batching], Iterator[tuple[Outcome, float]]]

    def those(self, chosen: Sequence[bool]) -> Work:
        """The same of some utterances."""
        return Work(list(compress(self.items, chosen)), self.decode)


class Texts:
    """The tables of the results in `out`. Only resume keeps what an earlier run has finished there;
    beside: tables of other writers, whose lines come before those here; numerals: what writes the
    numbers of the texts in digits, not of the tokens; made: what they are made with.
    """

    def __init__(
        self,
        out: Path,
        nbest: int,
        resume: bool = False,
        beside: Sequence[str] = (),
        numerals: Numerals | None = None,
        made: Made | None = None,
    ) -> None:
        self.done, self.numerals = 0, numerals
        ranks = [f"nbest/{rank}/" for rank in range(1, nbest + 1)] if nbest > 1 else []
        self.ranks = ["", *ranks]
        names = [f"{rank}{name}" for rank in self.ranks for name in TABLES]
        stale = [f"{folder}{name}" for folder in ("", "nbest/*/") for name in TABLES]
        others = [*names[len(TABLES) :], *beside]
        finished = find_finished(out, TABLES, others, made) if resume else None
        stale += ["failed", "stats.json"]
        self.tables = GrowingTables(out, stale, [*names, "failed"], finished, made)

    def add(self, key: str, outcome: Outcome) -> None:
        """Write an utterance's readings, the best one in `out` itself, or why there are none."""
        if isinstance(outcome, ParaformerError):
            log.warning("utterance '%s': %s", key, outcome)
            self.tables.add("failed", key, str(outcome))
            return
        self.done += 1
        ranked = list(zip(self.ranks, [outcome.best, *outcome.nbest], strict=False))
        for rank, reading in reversed(ranked):  # the tables of `out` itself last: see `Finished`
            text = self.numerals.rewrite(reading.tight) if self.numerals else reading.tight
            values = (text, " ".join(reading.tokens))
            score = f"{reading.score:.4f} {reading.confidence:.4f}"
            for name, value in zip(TABLES, (*values, score), strict=True):
                self.tables.add(f"{rank}{name}", key, value)


def decode(config: DictConfig) -> int:
    """Decode `config.data`; an utterance that cannot be read is reported, counted and skipped."""
    check_values({name: config[name] for name in OWN_LIMITS}, OWN_LIMITS)
    check_format(config.output_format)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    search = _search(config)
    numerals = shared_numerals() if config.itn else None
    batching = Batching(config.batch_size, config.batch_frames / 100)
    out = result_folder(config.out, config.data)
    directory = find_model(config.model)
    made = made_by({"model": directory}, plain(config), defaults_of("decode"))
    recognizer = _recognizer(directory, config)
    memo = HotwordMemo(recognizer.engine)
    search = replace(search, hotwords=memo.listening(config.hotword))
    cutting = Cutting(config.max_segment_s, whole_s=config.max_whole_s)
    listed = _open(Path(config.data), config.use_feats, raw_rate(config.fs), cutting)
    resume = goes_on(out, config.resume)
    files = _result_files(out, config, listed.items, resume)
    texts = Texts(out, config.nbest, resume, files.beside if files else (), numerals, made)
    keys = [item.key for item in listed.items]
    pending = texts.tables.pending(keys)
    work = listed.those(pending)
    begun = time.perf_counter()
    outcomes = work.decode(work.items, recognizer, search, batching)
    bar = iter(tqdm(outcomes, "decode", len(work.items), unit="utt", disable=None, leave=False))
    heard = 0.0
    with closing(texts.tables), closing(files) if files else nullcontext():
        for item, todo in zip(listed.items, pending, strict=True):
            if todo:
                outcome, seconds = next(bar)
                heard += seconds
                _add(texts, files, item, outcome, seconds)
            elif files:
                files.keep(item.key)
        texts.tables.finish(keys)
    elapsed = time.perf_counter() - begun
    total, done = len(keys), len(keys) - len(work.items) + texts.done
    _write_stats(out, config, total, done, heard, elapsed)
    log.info("decoded %d of %d utterances", done, total)
    return 0 if done >= config.min_success * total else 1


def _search(config: DictConfig) -> Search:
    """The search that the configuration asks for, but for hotwords, which need the model."""
    given = {f.name: config[f.name] for f in fields(Search) if f.name in config}
    given["pred_timestamp"] |= is_timed(config.output_format)
    return Search(**given, lm=shared_language_model(config.lm_file or ""))


def _recognizer(directory: Path, config: DictConfig) -> Recognizer:
    device = choose_device(config.device)
    dtype = choose_format(config.dtype, device)
    return Recognizer(load_directory(directory), device, dtype)


def _add(
    texts: Texts, files: TimedFolder | None, item: Item, outcome: Outcome, seconds: float
) -> None:
    if files:
        result = {**head(item), **outcome_result(outcome, seconds, len(texts.ranks))}
        if texts.numerals and "error" not in result:
            result = in_digits(result, texts.numerals)
        result.pop(WRITTEN, None)
        files.add(result)
    texts.add(item.key, outcome)


def _result_files(
    out: Path, config: DictConfig, items: Sequence[Item], resume: bool
) -> TimedFolder | None:
    """Where results go besides the tables."""
    if config.output_format == "text":
        return None
    limits = LineLimits(config.max_line_chars, config.max_line_s)
    origins = origins_of(Path(config.data), items)
    return TimedFolder(out, config.output_format, limits, resume, origins)


def origins_of(folder: Path, items: Sequence[Item]) -> Origins:
    """Speakers and channels of utterances, as the tables of a data directory tell them."""
    return Origins([folder], any(item.recording for item in items))


def result_folder(out: str, data: str) -> Path:
    """The folder of the results, tried before the model is loaded."""
    if Path(out).resolve() == Path(data).resolve():
        raise ConfigError(f"out={out}: is the data directory, whose text would be lost")
    return check_folder(out)


def data_items(data: Path) -> list[Item]:
    """The utterances of a data directory in the order of their ids, by wav.scp and segments."""
    _must_be_folder(data)
    for name in ("wav.scp", "segments"):
        if name == "wav.scp" or (data / name).is_file():
            read_table(data / name)  # refuses what is missing or stands twice
    return sorted(list_items(data), key=lambda item: item.key)


def raw_rate(fs: int | None) -> int | None:
    """`fs` of a program: the sampling rate of samples without a header; None: the usual one."""
    if fs is not None:
        check("fs", fs, RATE)
    return fs


def _must_be_folder(data: Path) -> None:
    if data.is_file():
        raise DataError(f"{data}: is a file; give the data directory that holds wav.scp")
    if not data.is_dir():
        raise DataError(f"{data}: no such directory; give a data directory with wav.scp")


def _open(data: Path, use_feats: bool, fs: int | None, cutting: Cutting) -> Work:
    _must_be_folder(data)
    if use_feats and (data / "feats.scp").is_file():
        table = read_table(data / "feats.scp")
        segments = read_places(data / "segments") if (data / "segments").is_file() else {}
        items = [_stored_item(key, table[key], segments.get(key)) for key in sorted(table)]
        return Work(items, partial(_stored, whole_s=cutting.whole_s))
    return Work(data_items(data), partial(_computed, fs=fs, cutting=cutting))


def _stored_item(key: str, archive: str, place: Place | None) -> Item:
    """An utterance whose features lie in an archive."""
    if place is None:
        return Item(key, archive)
    channel = MIX if place.channel is None else place.channel
    segment = Segment(place.start, place.end)
    return Item(key, archive, segment, recording=place.recording, channel=channel)


def _stored(
    items: Sequence[Item],
    recognizer: Recognizer,
    search: Search,
    batching: Batching,
    whole_s: float,
) -> Iterator[tuple[Outcome, float]]:
    """By the log-mel features of an archive, each utterance as a whole."""
    seconds = deque[float]()
    places = [str(item.source) for item in items]
    feats = _read_stored(places, recognizer.release.frontend, seconds, whole_s)
    for outcome in recognizer.stream(feats, search, batching):
        yield outcome, seconds.popleft()


def _read_stored(
    places: Sequence[str], frontend: Frontend, seconds: deque[float], whole_s: float
) -> Iterator[Feats]:
    """Log-mel features, stacked and normalised; the first that are long are named."""
    unsaid = True
    for place in places:
        seconds.append(0.0)
        try:
            fbank = torch.from_numpy(np.array(load_archive(place), dtype=np.float32))
        except (OSError, ValueError) as error:
            yield DataError(f"{place}: no features there ({error}); make feats.scp again")
            continue
        if fbank.dim() != 2 or fbank.size(1) != frontend.n_mels:
            shape = tuple(fbank.shape)
            yield DataError(f"{place}: {shape}, not (frames, {frontend.n_mels}); make it again")
            continue
        if not fbank.isfinite().all():
            yield DataError(f"{place}: features hold NaN or infinity; make feats.scp again")
            continue
        seconds[-1] = len(fbank) * frontend.frame_shift / 1000
        if unsaid and seconds[-1] > whole_s:
            unsaid = False
            log.warning("%s: has more than %g s; %s", place, whole_s, UNCUT)
        yield frontend.features(fbank)


def _computed(
    items: Sequence[Item],
    recognizer: Recognizer,
    search: Search,
    batching: Batching,
    fs: int | None,
    cutting: Cutting,
) -> Iterator[tuple[Outcome, float]]:
    """By the audio itself, cut where it is long; fs: rate of samples without a header."""
    rate = recognizer.release.frontend.fs
    sources = read_sources(items, cutting, rate, fs, search.nbest, f"make segments with {SEGMENT}")
    long = LongRecognizer(recognizer, PauseSegmenter(rate, cutting))
    for recording in long.stream(sources, search, batching):
        yield joined(recording), recording.seconds


def _write_stats(
    out: Path, config: DictConfig, total: int, done: int, seconds: float, elapsed: float
) -> None:
    stats = {
        "model": readable(str(config.model)),
        "data": readable(str(config.data)),
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
