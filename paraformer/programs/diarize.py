"""Who speaks when in the recordings of a Kaldi data directory, by a speaker model beside a VAD.

Writes into `out`: rttm (or results.jsonl, or a TextGrid for each recording), reco2num_spk (how many
speakers each recording has), failed (`id reason`), made_with.json and stats.json. Blanks in names
become `_`, since the fields of an RTTM hold none.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.audio.channels import SPLIT, check_channel
from paraformer.data.corpus.tables import read_table
from paraformer.data.inputs.data_folder import in_folder
from paraformer.data.inputs.sources import Item
from paraformer.errors import ConfigError
from paraformer.models.kinds import SPEAKER
from paraformer.output.tables import Layout
from paraformer.programs.hydra_main import run
from paraformer.programs.inference import STATS, Tally, keywords, load, made_of, result_folder

log = logging.getLogger(__name__)

LAYOUT = Layout(
    {"reco2num_spk": "speakers"},
    place="",
    best="",
    keeps_failed=False,
    stale=(STATS,),
    with_json=True,
)


def diarize(config: DictConfig) -> int:
    """Tell the turns of `config.data`; a recording that cannot be read is reported, counted and
    skipped.
    """
    given = keywords(config)
    data = Path(config.data)
    channel = check_channel(config.channel)
    if channel == SPLIT:
        raise ConfigError("channel=split: turns are of recordings; give a number, or mix")
    table = data if data.is_file() else data / "wav.scp"
    sources = read_table(table)
    out = result_folder(config.out, table.parent)
    model = load(config, given, SPEAKER, out)
    items = (Item(key, sources[key], from_list=True, channel=channel) for key in sources)
    listed = in_folder(table.parent, items)
    results = model.write(listed, LAYOUT, made_of(config, "diarize", model))
    tally = Tally(len(listed), "recording").count(results)
    tally.write(out, {"model": str(config.model), "data": str(config.data)}, "diarized")
    log.info("diarized %d of %d recordings", tally.done, tally.total)
    return tally.code(config.min_success)


def main() -> int:
    """Entry of `bin/diarize.py` and `funasr-diarize`."""
    return run("diarize", diarize)
