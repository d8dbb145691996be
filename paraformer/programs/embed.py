"""Embeddings of the voices of a Kaldi data directory, by a released speaker model.

Writes into `out`: embedding.ark and embedding.scp (a vector for each utterance that was heard),
failed (`id reason`) and stats.json. Nothing stands there before all is done.
"""

from __future__ import annotations

import logging
from pathlib import Path

import kaldiio
from omegaconf import DictConfig

from paraformer.data.corpus.tables import format_table, write_table, write_text
from paraformer.data.inputs.data_folder import data_items
from paraformer.errors import writing
from paraformer.files import together
from paraformer.models.kinds import SPEAKER
from paraformer.output.resume import FAILED, row_id
from paraformer.programs.hydra_main import run
from paraformer.programs.inference import Tally, keywords, load, result_folder

log = logging.getLogger(__name__)

ARCHIVE, TABLE = "embedding.ark", "embedding.scp"


def embed(config: DictConfig) -> int:
    """Embed `config.data`; an utterance that cannot be heard is reported, counted and skipped."""
    given = keywords(config)
    data = Path(config.data)
    out = result_folder(config.out, data)
    model = load(config, given, SPEAKER)
    items = data_items(data, config.channel)
    tally, places = Tally(len(items)), dict[str, str]()
    with together(out, (TABLE,)) as draft:
        with writing(draft / ARCHIVE), (draft / ARCHIVE).open("wb") as archive:
            for result in tally.counting(model.write(items)):
                if result.spk_embedding is None:
                    continue
                key = row_id(result.key)
                places[key] = f"{out / ARCHIVE}:{archive.tell() + len(key.encode()) + 1}"
                kaldiio.save_ark(archive, {key: result.spk_embedding[0].numpy()})
        write_table(draft / TABLE, dict(sorted(places.items())))
        failed = {row_id(key): " ".join(reason.split()) for key, reason in tally.failed.items()}
        write_text(draft / FAILED, format_table(failed))
    tally.write(out, {"model": str(config.model), "data": str(config.data)}, "embedded")
    log.info("embedded %d of %d utterances", tally.done, tally.total)
    return tally.code(config.min_success)


def main() -> int:
    """Entry of `bin/embed.py` and `funasr-embed`."""
    return run("embed", embed)
