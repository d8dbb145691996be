"""Text of a Kaldi data directory by a streaming model, as it would come while one speaks.

Writes into `out`: text, ctm (`recording channel start duration token confidence`, seconds), delay
(`id first last rtf`: milliseconds from the end of the first token to its text, and from the end of
the audio to the last text; compute time by audio time), failed (`id reason`), each line as soon as
it is known and those before it are written; made_with.json: the models and options of all this; at
the end, stats.json. The ctm of segments has the times of their recordings, and is made of
results.jsonl in the end. With `streams` above 1 so many utterances are decoded side by side.
Without `simulate`, delays are what the compute times would make of audio that comes in real time.

With `vad_model` a recording of any length is decoded in segments; `second_pass`, a model of whole
recordings, which may listen for hotwords, writes their text once they have ended, and `punc_model`
puts marks into it.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, fields
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from paraformer.api.live import DEAF, FINAL, Event, LivePipeline, LiveState
from paraformer.api.record import made_by
from paraformer.backends.devices import choose_device, choose_format
from paraformer.data.corpus.tables import write_text
from paraformer.data.inputs.sources import Cache, Item
from paraformer.decode.hotwords import HotwordMemo
from paraformer.decode.recognize import Recognizer, Search
from paraformer.decode.streaming import Chunking, Token
from paraformer.decode.text import join_texts
from paraformer.errors import ConfigError, ParaformerError
from paraformer.hub.directories import find_model
from paraformer.limits import Limits, check, check_values
from paraformer.models.release import load_directory
from paraformer.output.result import Result, head
from paraformer.output.tables import GrowingTables, find_finished
from paraformer.output.timed_folder import TimedFolder
from paraformer.programs.decode import LIMITS, data_items, origins_of, raw_rate, result_folder
from paraformer.programs.hydra_main import defaults_of, plain, run
from paraformer.progress import goes_on

log = logging.getLogger(__name__)

TABLES = ("text", "delay", "failed")
MODELS = ("model", "vad_model", "punc_model", "second_pass")


@dataclass
class Lane:
    """One utterance on its way through the models."""

    item: Item
    wave: Tensor
    state: LiveState
    begun: float  # by the clock
    fed: int = 0  # samples
    free: float = 0.0  # seconds since `begun` at which the last chunk was done
    spent: float = 0.0  # seconds of computing, those of its whole batch
    texts: list[str] = field(default_factory=list)  # of the segments that have ended
    tokens: list[Token] = field(default_factory=list)
    first_delay: float | None = None
    ended: bool = False
    error: ParaformerError | None = None  # why it has no text
    seconds: float = 0.0  # of the audio, once it has ended

    def take(self, stride: int) -> Tensor:
        """The next chunk of the audio, maybe short or empty at the end."""
        block = self.wave[self.fed : self.fed + stride]
        self.fed += len(block)
        self.ended = len(block) < stride
        return block

    def close(self, rate: int) -> None:
        """It has ended; its audio need not be held until it is written."""
        self.seconds, self.wave = len(self.wave) / rate, self.wave[:0]

    def note(self, events: list[Event], rate: int, seconds: float, now: float | None) -> None:
        """Events of a chunk that took so long; `now` by a clock that keeps real time, if any."""
        heard = self.fed / rate
        self.free = max(self.free, heard) + seconds if now is None else now - self.begun
        self.spent += seconds
        for event in events:
            if event.tokens and self.first_delay is None:
                self.first_delay = 1000 * self.free - event.tokens[0].end_ms
            if event.kind == FINAL:
                self.texts.append(event.text)
                self.tokens += event.tokens


class Server:
    """Feeds the lanes chunk by chunk, those that have one ready together."""

    def __init__(self, pipeline: LivePipeline, simulate: bool) -> None:
        self.pipeline, self.simulate = pipeline, simulate
        self.rate, self.stride = pipeline.rate, pipeline.recognizer.stride

    def open(self, item: Item, wave: Tensor) -> Lane:
        """A lane for one more utterance, whose speaker begins now."""
        return Lane(item, wave, self.pipeline.open(), time.perf_counter())

    def step(self, lanes: list[Lane]) -> list[Lane]:
        """Give the next chunk to the lanes that are due; returns those that ended."""
        due = self._wait(lanes) if self.simulate else lanes
        blocks = [lane.take(self.stride) for lane in due]
        began = time.perf_counter()
        events, states = self.pipeline.feed_all(
            [lane.state for lane in due], blocks, [lane.ended for lane in due]
        )
        done = time.perf_counter()
        for lane, new, state in zip(due, events, states, strict=True):
            lane.state = state
            if isinstance(new, ParaformerError):
                lane.error, lane.ended = new, True
                continue
            lane.note(new, self.rate, done - began, done if self.simulate else None)
        return [lane for lane in due if lane.ended]

    def _wait(self, lanes: list[Lane]) -> list[Lane]:
        """Sleep until the speaker of a lane has said its next chunk."""
        heard = [min(lane.fed + self.stride, len(lane.wave)) / self.rate for lane in lanes]
        due = [lane.begun + seconds for lane, seconds in zip(lanes, heard, strict=True)]
        time.sleep(max(0.0, min(due) - time.perf_counter()))
        now = time.perf_counter()
        return [lane for lane, when in zip(lanes, due, strict=True) if when <= now]


@dataclass
class Totals:
    """Sums over the utterances that were decoded."""

    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    done: int = 0


@dataclass
class Sheets:
    """The tables that the utterances are written to."""

    tables: GrowingTables
    ctm: TimedFolder


def lane_result(lane: Lane) -> Result:
    """The tokens of an utterance that has ended, and their times."""
    tokens = [
        {"text": t.text, "start": t.start_ms, "end": t.end_ms, "confidence": t.confidence}
        for t in lane.tokens
    ]
    text = join_texts(lane.texts)
    return {**head(lane.item), "text": text, "words": tokens, "audio_seconds": lane.seconds}


def write_lane(sheets: Sheets, lane: Lane, totals: Totals) -> None:
    """The lines of an utterance that has ended."""
    key, seconds, tables = lane.item.key, lane.seconds, sheets.tables
    if lane.error is not None:
        report_failed(tables, key, lane.error)
        return
    last = 1000 * (lane.free - seconds)
    rtf = lane.spent / seconds if seconds else 0.0
    tables.add("text", key, join_texts(lane.texts))
    sheets.ctm.add(lane_result(lane))
    first = "-" if lane.first_delay is None else f"{lane.first_delay:.0f}"
    tables.add("delay", key, f"{first} {last:.0f} {rtf:.4f}")
    totals.done += 1
    totals.seconds += seconds
    totals.last.append(last)
    totals.first += [] if lane.first_delay is None else [lane.first_delay]


def report_failed(tables: GrowingTables, key: str, error: ParaformerError) -> None:
    """Why an utterance has no text."""
    log.warning("utterance '%s': %s", key, error)
    tables.add("failed", key, str(error))


def waves(
    items: list[Item], rate: int, fs: int | None, tables: GrowingTables
) -> Iterator[tuple[Item, Tensor]]:
    """The utterances that can be read; the others are reported. fs: of samples without header."""
    cache = Cache()
    for item in items:
        try:
            yield item, item.read(fs, rate, cache)
        except ParaformerError as error:
            report_failed(tables, item.key, error)


def decode_list(
    server: Server, items: list[Item], sheets: Sheets, most: int, fs: int | None = None
) -> Totals:
    """Decode the items, at most so many at a time; their lines are in the order of the list."""
    totals, lanes, unwritten = Totals(), list[Lane](), deque[Lane]()
    coming = waves(items, server.rate, fs, sheets.tables)
    with tqdm(total=len(items), desc="decode", unit="utt", disable=None, leave=False) as bar:
        while True:
            while len(lanes) < most and (pair := next(coming, None)) is not None:
                lanes.append(server.open(*pair))
                unwritten.append(lanes[-1])
            if not lanes:
                return totals
            for lane in server.step(lanes):
                lane.close(server.rate)
                bar.update()
            while unwritten and unwritten[0].ended:
                write_lane(sheets, unwritten.popleft(), totals)
            lanes = [lane for lane in lanes if not lane.ended]


def statistics_of(config: DictConfig, totals: Totals, total: int, elapsed: float) -> dict[str, Any]:
    """What stats.json says; delays in milliseconds."""

    def spread(values: list[float]) -> dict[str, float] | None:
        if not values:
            return None
        ordered = sorted(values)
        ninth = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
        return {"median": round(statistics.median(ordered), 1), "p90": round(ninth, 1)}

    return {
        **{name: config[name] and str(config[name]) for name in MODELS},
        "data": str(config.data),
        "chunk_size": list(config.chunk_size),
        "encoder_chunk_look_back": config.encoder_chunk_look_back,
        "decoder_chunk_look_back": config.decoder_chunk_look_back,
        "streams": config.streams,
        "simulate": config.simulate,
        "utterances": total,
        "decoded": totals.done,
        "audio_seconds": round(totals.seconds, 3),
        "elapsed_seconds": round(elapsed, 3),
        "rtf": round(elapsed / totals.seconds, 5) if totals.seconds else None,
        "first_token_delay_ms": spread(totals.first),
        "last_token_delay_ms": spread(totals.last),
    }


def load_pipeline(config: DictConfig, chunking: Chunking) -> LivePipeline:
    """The models of the configuration."""
    device = choose_device(config.device)
    dtype = choose_format(config.dtype, device)
    second = search = None
    if config.second_pass:
        second = Recognizer(load_directory(find_model(config.second_pass)), device, dtype)
        given = {f.name: config[f.name] for f in fields(Search) if f.name in config}
        memo = HotwordMemo(second.engine)
        search = Search(**given, hotwords=memo.listening(config.hotword))
    elif config.hotword:
        raise ConfigError(DEAF)
    return LivePipeline(
        config.model,
        config.vad_model or None,
        config.punc_model or None,
        second,
        chunking=chunking,
        device=device,
        dtype=dtype,
        search=search,
        itn=config.itn,
    )


def decode_streaming(config: DictConfig) -> int:
    """Decode `config.data`; an utterance that cannot be read is reported, counted and skipped."""
    check_values({name: config[name] for name in ("num_threads", "min_success")}, LIMITS)
    check("streams", config.streams, Limits(1, whole=True))
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    chunking = Chunking(
        tuple(config.chunk_size), config.encoder_chunk_look_back, config.decoder_chunk_look_back
    )
    fs = raw_rate(config.fs)
    out = result_folder(config.out, config.data)
    pipeline = load_pipeline(config, chunking)
    items = data_items(Path(config.data))
    keys = [item.key for item in items]
    resume = goes_on(out, config.resume)
    # A line of `text` comes first and one of `delay` last.
    directories = {name: find_model(config[name]) for name in MODELS if config[name]}
    made = made_by(directories, plain(config), defaults_of("decode_streaming"))
    origins = origins_of(Path(config.data), items)
    ctm = TimedFolder(out, "ctm", resume=resume, origins=origins, exact=True)
    finished = find_finished(out, ["text", "delay"], ctm.beside, made) if resume else None
    tables = GrowingTables(out, [*TABLES, "stats.json"], TABLES, finished, made)
    begun = time.perf_counter()
    with closing(ctm), closing(tables):
        server = Server(pipeline, config.simulate)
        pending = list(compress(items, tables.pending(keys)))
        totals = decode_list(server, pending, Sheets(tables, ctm), config.streams, fs)
        tables.finish(keys)
    totals.done += len(items) - len(pending)
    stats = statistics_of(config, totals, len(items), time.perf_counter() - begun)
    write_text(out / "stats.json", json.dumps(stats, ensure_ascii=False, indent=1) + "\n")
    log.info("decoded %d of %d utterances", totals.done, len(items))
    return 0 if totals.done >= config.min_success * len(items) else 1


def main() -> int:
    """`bin/decode_streaming.py`."""
    return run("decode_streaming", decode_streaming)
