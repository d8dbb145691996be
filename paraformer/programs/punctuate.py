"""Put marks into a Kaldi `text` (`id text` a line), or into plain lines without ids.

Words, blanks and case stay as they are. Of a shard=i/n `out` is a folder, in which shard.i gets
`text` and `failed` line by line, plain lines with the ids text_1 ... by their numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.corpus.tables import write_table, write_text
from paraformer.data.corpus.texts import read_texts
from paraformer.data.inputs.sources import Item, ListedItems
from paraformer.errors import ConfigError
from paraformer.files import check_folder
from paraformer.models.kinds import PUNCTUATION
from paraformer.output.tables import Layout
from paraformer.programs.hydra_main import run
from paraformer.programs.inference import Tally, keywords, load, made_of
from paraformer.shard import place_of, read_shard

log = logging.getLogger(__name__)

LAYOUT = Layout({"text": "text"}, place="", best="", keeps_failed=False)


def punctuate(config: DictConfig) -> int:
    """Write `config.out`: the lines of `config.text` with marks, an empty one empty; one that fails
    is reported and left out, and the exit code is 1.
    """
    if config.shard:
        return _punctuate_shard(config)
    if config.resume:
        raise ConfigError(
            "resume: goes on in the folder of a shard; give shard=1/1, or leave it out"
        )
    given = keywords(config)
    if Path(config.text).resolve() == Path(config.out).resolve():
        raise ConfigError(f"out={config.out}: is the text itself, which would be lost")
    if Path(config.out).is_dir():
        raise ConfigError(f"out={config.out}: is a folder; give a file in it")
    check_folder(Path(config.out).parent)
    texts = read_texts(config.text)
    items = ListedItems(Item(key, None, text=text) for key, text in texts.table.items())
    table: dict[str, str] = {}
    tally = Tally(len(items))
    for result in tally.counting(load(config, given, PUNCTUATION).write(items)):
        if result.error is None:
            table[result.key] = str(result.text)
    if texts.has_ids:
        write_table(config.out, table)
    else:
        _write_lines(Path(config.out), {row.line: table.get(row.key, "") for row in texts.rows})
    return _told(tally)


def _punctuate_shard(config: DictConfig) -> int:
    """The lines of one shard, which go on where they were with `config.resume`."""
    given = keywords(config)
    items = ListedItems(
        Item(key, None, text=text) for key, text in read_texts(config.text).table.items()
    ).of(read_shard(config.shard))
    out = check_folder(place_of(config.out, config.shard))
    model = load(config, given, PUNCTUATION, out)
    made = made_of(config, "punctuate", model)
    return _told(Tally(len(items)).count(model.write(items, LAYOUT, made)))


def _told(tally: Tally) -> int:
    log.info("punctuated %d of %d utterances", tally.done, tally.total)
    return tally.code(1.0)


def _write_lines(path: Path, texts: Mapping[int, str]) -> None:
    """Plain texts in the lines that they had, those between them blank."""
    last = max(texts, default=0)
    write_text(path, "".join(f"{texts.get(number, '')}\n" for number in range(1, last + 1)))


def main() -> int:
    """`bin/punctuate.py`."""
    return run("punctuate", punctuate)
