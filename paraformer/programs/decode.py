"""Text of a Kaldi data directory by a trained model.

Writes into `out`: text, token and score (the utterance's log-probability and mean confidence), with
a line for each utterance that could be decoded; failed (`id reason`); and with nbest above 1,
nbest/N/{text,token,score}; each line as soon as it is known. output_format adds to these: json
results.jsonl; ctm, stm or rttm a table of that name; srt, vtt, lrc, tsv and textgrid a file for
each recording, which are made of results.jsonl in the end where there are segments. made_with.json
says what made them; at the end, stats.json.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.inputs.data_folder import data_items, stored_items
from paraformer.models.kinds import RECOGNISER
from paraformer.output.tables import Layout
from paraformer.programs.hydra_main import run
from paraformer.programs.inference import (
    STATS,
    Tally,
    keywords,
    load,
    made_of,
    result_folder,
    shared,
)
from paraformer.shard import read_shard

log = logging.getLogger(__name__)

LAYOUT = Layout(
    {"text": "tight", "token": "token", "score": "score"},
    place="nbest/{}/",
    best="",
    keeps_failed=False,
    stale=(STATS,),
    with_json=True,
)


def decode(config: DictConfig) -> int:
    """Decode `config.data`; an utterance that cannot be read is reported, counted and skipped."""
    given = keywords(config)
    data = Path(config.data)
    out = result_folder(config.out, data, config.shard)
    cut = config.vad_model or config.rttm
    stored = config.use_feats and not cut and (data / "feats.scp").is_file()
    model = load(config, given, RECOGNISER, out)
    items = stored_items(data) if stored else data_items(data, config.channel)
    items = items.of(read_shard(config.shard))
    work = shared(config, given) if config.nj > 1 or config.cluster else None
    results = model.write(items, LAYOUT, made_of(config, "decode", model), work)
    tally = Tally(len(items)).count(results)
    tally.write(out, {"model": str(config.model), "data": str(config.data)}, "decoded")
    log.info("decoded %d of %d utterances", tally.done, tally.total)
    return tally.code(config.min_success)


def main() -> int:
    """`bin/decode.py`."""
    return run("decode", decode)
