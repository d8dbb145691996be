"""Put marks into a Kaldi `text` (`id text` a line), or into plain lines without ids.

Words, blanks and case stay as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from paraformer.backends.devices import choose_device, choose_format
from paraformer.data.corpus.tables import write_table, write_text
from paraformer.data.corpus.texts import read_texts
from paraformer.decode.itn import shared_numerals
from paraformer.decode.punctuate import Punctuator
from paraformer.errors import ConfigError, ParaformerError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model
from paraformer.limits import Limits, check_values
from paraformer.models.release import load_punctuation
from paraformer.options import THREADS
from paraformer.programs.hydra_main import run

LIMITS = {"num_threads": THREADS._replace(low=0), "split_size": Limits(1, whole=True)}

log = logging.getLogger(__name__)


def punctuate(config: DictConfig) -> int:
    """Write `config.out`: the lines of `config.text` with marks, an empty one empty; one that fails
    is reported and left out, and the exit code is 1.
    """
    check_values({name: config[name] for name in LIMITS}, LIMITS)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if Path(config.out).resolve() == Path(config.text).resolve():
        raise ConfigError(f"out={config.out}: is the text itself, which would be lost")
    if Path(config.out).is_dir():
        raise ConfigError(f"out={config.out}: is a folder; give a file in it")
    check_folder(Path(config.out).parent)
    texts = read_texts(config.text)
    rewrite = shared_numerals().rewrite if config.itn else str
    device = choose_device(config.device)
    dtype = choose_format(config.dtype, device)
    punctuator = Punctuator(load_punctuation(find_model(config.model)), device, dtype)
    table: dict[str, str] = {}
    bar = tqdm(texts.table.items(), desc="punctuate", unit="utt", disable=None, leave=False)
    for key, text in bar:
        try:
            table[key] = rewrite(punctuator.punctuate(text, config.split_size).text)
        except ParaformerError as error:
            log.warning("utterance '%s': %s", key, error)
    if texts.has_ids:
        write_table(config.out, table)
    else:
        _write_lines(Path(config.out), {row.line: table.get(row.key, "") for row in texts.rows})
    log.info("punctuated %d of %d utterances", len(table), len(texts.table))
    return 0 if len(table) == len(texts.table) else 1


def _write_lines(path: Path, texts: Mapping[int, str]) -> None:
    """Plain texts in the lines that they had, those between them blank."""
    last = max(texts, default=0)
    write_text(path, "".join(f"{texts.get(number, '')}\n" for number in range(1, last + 1)))


def main() -> int:
    """`bin/punctuate.py`."""
    return run("punctuate", punctuate)
