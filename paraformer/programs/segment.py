"""Where in recordings somebody speaks, by a released voice activity detector.

Writes into `out` a data directory without transcripts, of which nothing older is left: wav.scp (the
recordings with speech), segments, utt2dur, and what `data` says of recordings (reco2dur,
reco2file_and_channel); failed (`id reason`); and on demand RTTM and label files for Audacity.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from paraformer.data.audio.channels import MIX, SPLIT, check_channel
from paraformer.data.corpus.checks import RECORDING_TABLES
from paraformer.data.corpus.datadir import write_data_dir
from paraformer.data.corpus.tables import format_table, read_rows, read_table
from paraformer.data.inputs.sources import Item, ListedItems
from paraformer.decode.endpoint import Span
from paraformer.errors import ConfigError
from paraformer.files import check_folder
from paraformer.models.kinds import VAD
from paraformer.output.resume import MADE_WITH, row_id
from paraformer.output.tables import Layout
from paraformer.programs.hydra_main import run
from paraformer.programs.inference import Tally, keywords, load, made_of
from paraformer.shard import place_of, read_shard

log = logging.getLogger(__name__)

DRAFT = ".found"  # `id [seconds, [start, end], ...]`, in ms, which a run that is stopped leaves
LAYOUT = Layout({DRAFT: "found"}, place="", best="", keeps_failed=False, names_failed=False)
Tables = dict[str, dict[str, str]]


def segment(config: DictConfig) -> int:
    """Segment `config.data`; a recording that cannot be read is reported, counted and skipped."""
    given = {k: v for k, v in keywords(config).items() if k != "rttm"}  # here whether to write it
    out = check_folder(place_of(config.out, config.shard))
    channel = check_channel(config.channel)
    if channel == SPLIT:
        raise ConfigError("channel=split: segments are of recordings; give a number, or mix")
    table = Path(config.data)
    table = table / "wav.scp" if table.is_dir() else table
    sources = read_table(table)
    if (out / "wav.scp").resolve() == table.resolve():
        raise ConfigError(f"out={config.out}: {table} would be written over; give another folder")
    known = {} if table.name != "wav.scp" else _recording_tables(table.parent)
    model = load(config, given, VAD, out)
    items = ListedItems(
        Item(key, sources[key], from_list=True, channel=channel) for key in sorted(sources)
    ).of(read_shard(config.shard))
    made = made_of(
        OmegaConf.masked_copy(config, [str(k) for k in config if k != "rttm"]), "segment", model
    )
    results = model.write(items, LAYOUT, made)
    tally = Tally(len(items), "recording").count(results)
    found = {row.key: json.loads(row.value) for row in read_rows(out / DRAFT)}
    found = {key: found[row_id(key)] for key in sorted(sources) if row_id(key) in found}
    spans = {key: [Span(*span) for span in rows[1:]] for key, rows in found.items()}
    _write(out, {**known, "wav.scp": sources}, spans, tally, config)
    (out / DRAFT).unlink()
    if not config.shard:  # that of one says which it is
        (out / MADE_WITH).unlink()
    spoken = sum(span.end_ms - span.start_ms for each in spans.values() for span in each) / 1000
    heard = sum(seconds for seconds, *_ in found.values())
    count = sum(len(each) for each in spans.values())
    log.info("%d segments, %.1f s of %.1f s", count, spoken, heard)
    log.info("segmented %d of %d recordings", tally.done, tally.total)
    return tally.code(config.min_success)


def _recording_tables(folder: Path) -> Tables:
    """The tables of recordings beside a wav.scp."""
    there = [name for name in RECORDING_TABLES if (folder / name).is_file()]
    return {name: read_table(folder / name) for name in there}


def _write(
    out: Path, sources: Tables, found: dict[str, list[Span]], tally: Tally, config: DictConfig
) -> None:
    """sources: tables of recordings, of which those with speech stay."""
    segments, durations, speakers = {}, {}, []
    channel = "" if config.channel == MIX else f" {config.channel}"
    for recording, spans in found.items():
        for start, end in spans:
            # Ids hold the times in hundredths of a second.
            name = f"{recording}-{start // 10:07d}-{end // 10:07d}"
            segments[name] = f"{recording} {start / 1000:.2f} {end / 1000:.2f}{channel}"
            durations[name] = f"{(end - start) / 1000:.2f}"
            speakers.append(
                f"SPEAKER {recording} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} "
                "<NA> <NA> speech <NA> <NA>\n"
            )
    spoken = [key for key, spans in found.items() if spans]
    kept = {
        name: {key: table[key] for key in spoken if key in table} for name, table in sources.items()
    }
    kept = {name: table for name, table in kept.items() if table or name == "wav.scp"}
    failed = {key: " ".join(reason.split()) for key, reason in tally.failed.items()}
    others: dict[str, str | None] = {"failed": format_table(failed)}
    others["rttm"] = "".join(speakers) if config.rttm else None
    if config.audacity:
        for recording, spans in found.items():
            lines = [f"{a / 1000:.6f}\t{b / 1000:.6f}\tspeech\n" for a, b in spans]
            name = recording.replace("/", "_")
            others[f"labels/{name}.txt"] = "".join(lines)
    write_data_dir(out, {**kept, "segments": segments, "utt2dur": durations}, others=others)


def main() -> int:
    """Entry of `bin/segment.py` and `funasr-segment`."""
    return run("segment", segment)
