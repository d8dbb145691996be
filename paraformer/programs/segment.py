"""Where in recordings somebody speaks, by a released voice activity detector.

Writes into `out` a data directory without transcripts, of which nothing older is left: wav.scp (the
recordings with speech), segments, utt2dur, and what `data` says of recordings (reco2dur,
reco2file_and_channel); failed (`id reason`); and on demand RTTM and label files for Audacity.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from paraformer.api.record import made_by
from paraformer.backends.devices import choose_device
from paraformer.data.corpus.checks import RECORDING_TABLES
from paraformer.data.corpus.datadir import write_data_dir
from paraformer.data.corpus.tables import format_table, read_rows, read_table
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item
from paraformer.decode.endpoint import Span
from paraformer.decode.vad import VoiceActivity
from paraformer.errors import ConfigError, ParaformerError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model
from paraformer.limits import check_values
from paraformer.models.release import load_vad
from paraformer.options import CallOptions, limits_of
from paraformer.output.resume import MADE_WITH, Made, row_id
from paraformer.output.tables import GrowingTables, find_finished
from paraformer.programs.decode import LIMITS, raw_rate
from paraformer.programs.hydra_main import defaults_of, plain, run
from paraformer.progress import goes_on

log = logging.getLogger(__name__)

DRAFT = ".found"  # `id [seconds, [start, end], ...]`, in ms
VAD_OPTIONS = ("max_end_silence_time", "max_single_segment_time", "speech_noise_thres")


@dataclass
class Found:
    """Segments of each recording that could be read, why others could not, seconds of audio."""

    spans: dict[str, list[Span]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def utterances(self) -> Iterator[tuple[str, str, Span]]:
        """Id, recording and span of each segment; ids hold the times in hundredths of a second."""
        for recording, spans in self.spans.items():
            for span in spans:
                times = f"{span.start_ms // 10:07d}-{span.end_ms // 10:07d}"
                yield f"{recording}-{times}", recording, span


def segment(config: DictConfig) -> int:
    """Segment `config.data`; a recording that cannot be read is reported, counted and skipped."""
    check_values({name: config[name] for name in ("num_threads", "min_success")}, LIMITS)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    fs = raw_rate(config.fs)
    out = check_folder(config.out)
    directory = find_model(config.model)
    detector = _detector(directory, config)
    table = Path(config.data)
    table = table / "wav.scp" if table.is_dir() else table
    sources = read_table(table)
    if (out / "wav.scp").resolve() == table.resolve():
        raise ConfigError(f"out={config.out}: {table} would be written over; give another folder")
    known = {} if table.name != "wav.scp" else _recording_tables(table.parent)
    found = Found()
    made = made_by({"model": directory}, plain(config), defaults_of("segment"))
    with closing(_draft(out, found, sorted(sources), goes_on(out, config.resume), made)) as draft:
        pending = [key for key in sorted(sources) if key not in found.spans]
        bar = tqdm(pending, desc="segment", unit="rec", disable=None, leave=False)
        for key in bar:
            seconds = _search(detector, Item(key, sources[key], from_list=True), found, fs)
            if key in found.spans:
                draft.add(DRAFT, key, json.dumps([seconds, *found.spans[key]]))
    _write(out, {**known, "wav.scp": sources}, found, config)
    for name in (DRAFT, MADE_WITH):
        (out / name).unlink()
    spoken = sum(span.end_ms - span.start_ms for _, _, span in found.utterances()) / 1000
    count = sum(len(spans) for spans in found.spans.values())
    log.info("%d segments, %.1f s of %.1f s", count, spoken, found.seconds)
    log.info("segmented %d of %d recordings", len(found.spans), len(sources))
    return 0 if len(found.spans) >= config.min_success * len(sources) else 1


def _draft(out: Path, found: Found, keys: list[str], resume: bool, made: Made) -> GrowingTables:
    """The table of what is found, which a run that is stopped leaves; resume: it is read first."""
    finished = find_finished(out, [DRAFT], [], made) if resume else None
    rows = {row.key: row.value for row in read_rows(out / DRAFT)} if len(finished or ()) else {}
    for key in keys:
        if row_id(key) in rows:
            seconds, *spans = json.loads(rows[row_id(key)])
            found.spans[key] = [Span(*span) for span in spans]
            found.seconds += seconds
    return GrowingTables(out, [DRAFT], [DRAFT], finished, made)


def _detector(directory: Path, config: DictConfig) -> VoiceActivity:
    limit = config.max_single_segment_time
    overrides = {} if limit is None else {"max_single_segment_time": limit}
    given = {name: config[name] for name in VAD_OPTIONS if config[name] is not None}
    check_values(given, limits_of(CallOptions, VAD_OPTIONS))
    release = load_vad(directory, overrides)
    return VoiceActivity(release, device=choose_device(config.device)).adjusted(
        max_end_silence_time=config.max_end_silence_time,
        speech_noise_thres=config.speech_noise_thres,
        dynamic_silence=config.dynamic_silence,
    )


def _search(detector: VoiceActivity, item: Item, found: Found, fs: int | None) -> float:
    """Segment one recording, of which never more than a minute is held where that can be; returns
    its seconds.
    """
    samples = 0

    def counted() -> Iterator[Tensor]:
        nonlocal samples
        for block in read_blocks(item, detector.frontend.fs, raw_fs=fs):
            samples += len(block)
            yield block

    try:
        spans = detector.segments(counted())
    except ParaformerError as error:
        log.warning("recording '%s': %s", item.key, error)
        found.failed[item.key] = " ".join(str(error).split())
        return 0.0
    found.spans[item.key] = spans
    found.seconds += samples / detector.frontend.fs
    return samples / detector.frontend.fs


def _recording_tables(folder: Path) -> dict[str, dict[str, str]]:
    """The tables of recordings beside a wav.scp."""
    there = [name for name in RECORDING_TABLES if (folder / name).is_file()]
    return {name: read_table(folder / name) for name in there}


def _write(out: Path, sources: dict[str, dict[str, str]], found: Found, config: DictConfig) -> None:
    """sources: tables of recordings, of which those with speech stay."""
    segments, durations, speakers = {}, {}, []
    for name, recording, (start, end) in found.utterances():
        segments[name] = f"{recording} {start / 1000:.2f} {end / 1000:.2f}"
        durations[name] = f"{(end - start) / 1000:.2f}"
        speakers.append(
            f"SPEAKER {recording} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} "
            "<NA> <NA> speech <NA> <NA>\n"
        )
    spoken = [key for key, spans in found.spans.items() if spans]
    kept = {
        name: {key: table[key] for key in spoken if key in table} for name, table in sources.items()
    }
    kept = {name: table for name, table in kept.items() if table or name == "wav.scp"}
    others: dict[str, str | None] = {"failed": format_table(found.failed)}
    others["rttm"] = "".join(speakers) if config.rttm else None
    if config.audacity:
        for recording, spans in found.spans.items():
            lines = [f"{a / 1000:.6f}\t{b / 1000:.6f}\tspeech\n" for a, b in spans]
            name = recording.replace("/", "_")
            others[f"labels/{name}.txt"] = "".join(lines)
    write_data_dir(out, {**kept, "segments": segments, "utt2dur": durations}, others=others)


def main() -> int:
    """Entry of `bin/segment.py` and `funasr-segment`."""
    return run("segment", segment)
