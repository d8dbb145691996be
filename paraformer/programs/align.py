"""When each word of known texts was spoken, by a released forced aligner.

Writes into `out`: ctm (`recording channel start duration word`, NIST's and Kaldi's table of word
times; of segments the times are those of their recordings, and results.jsonl has what was found);
intervals (`id start end word`: words and `<sil>` without gaps from 0 to the end of each utterance,
as a TextGrid tier has them), both in seconds; utt2dur (`id seconds`); failed (`id reason`), each
line as soon as it is known; and at the end stats.json.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.corpus.origins import Origins
from paraformer.data.corpus.texts import read_texts
from paraformer.data.inputs.data_folder import data_items
from paraformer.data.inputs.sources import ListedItems, list_items
from paraformer.decode.align import pair_texts
from paraformer.errors import DataError
from paraformer.models.kinds import ALIGNER
from paraformer.output.tables import Layout
from paraformer.programs.hydra_main import run
from paraformer.programs.inference import STATS, Tally, keywords, load, made_of, result_folder
from paraformer.shard import read_shard

log = logging.getLogger(__name__)

LAYOUT = Layout(
    {"intervals": "intervals", "utt2dur": "utt2dur"},  # the last line of each utterance
    place="",
    best="",
    several=("intervals",),
    keeps_failed=False,
    stale=(STATS,),
    timed="ctm",
)
ABSENT = DataError("no text of this id; add it to the table of texts")


def align(config: DictConfig) -> int:
    """Align `config.data` with its texts; what cannot be aligned is reported and counted."""
    given = keywords(config)
    data = Path(config.data)
    folder = data if data.is_dir() else data.parent
    out = result_folder(config.out, folder, config.shard)
    items = _items(data, config.channel)
    texts = _texts(Path(config.text or folder / "text"), [item.key for item in items])
    pairs = (replace(item, text=texts.get(item.key, ABSENT)) for item in items)
    items = ListedItems(pairs, items.origins).of(read_shard(config.shard))
    model = load(config, given, ALIGNER, out)
    results = model.write(items, LAYOUT, made_of(config, "align", model))
    tally = Tally(len(items)).count(results)
    tally.write(out, {"model": str(config.model), "data": str(config.data)}, "aligned")
    log.info("aligned %d of %d utterances, %d words", tally.done, tally.total, tally.words)
    return tally.code(config.min_success)


def _items(data: Path, channel: object) -> ListedItems:
    """The utterances of a data directory, or those of a list in its order."""
    if data.is_dir():
        return data_items(data, channel)
    items = list_items(data, channel=channel)
    return ListedItems(items, Origins([data.parent], any(item.recording for item in items)))


def _texts(path: Path, keys: Sequence[str]) -> Mapping[str, str | DataError]:
    """Those of a table, or the lines of a plain file, which go to the recordings in their order."""
    read = read_texts(path, keys)
    return read.table if read.has_ids else dict(zip(keys, pair_texts(path, keys), strict=True))


def main() -> int:
    """Entry of `bin/align.py` and `funasr-align`."""
    return run("align", align)
