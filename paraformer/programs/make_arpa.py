"""Estimate an n-gram language model from texts, for lm_file of decode.py and funasr: an ARPA file,
or, where `out` ends in .lm, one that needs no kenlm. `most` keeps so many n-grams of order 2 and
more.

`text` is Kaldi's, `id transcript` a line, or has a sentence a line. With `lang` (or a model
directory) it is read as the tokens of that model, and sentences with other ones are left out; else
it has tokens, with blanks between.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.corpus.tables import write_text
from paraformer.data.corpus.texts import read_texts
from paraformer.data.text.ngram import BEGIN, END, UNKNOWN, arpa_lines, estimate, prune
from paraformer.data.text.ngram_table import write_ngrams
from paraformer.data.text.tokenizer import (
    CharTokenizer,
    SentencepieceTokenizer,
    read_seg_dict,
    read_token_list,
)
from paraformer.errors import ConfigError
from paraformer.limits import Limits, check
from paraformer.programs.hydra_main import run

log = logging.getLogger(__name__)


def make_arpa(config: DictConfig) -> int:
    """Write the language model of `config.text` to `config.out`."""
    check("order", config.order, Limits(2, 9, whole=True))  # kenlm takes none of 1
    out = Path(config.out)
    if out.is_dir():
        raise ConfigError(f"out={config.out}: is a folder; name a file, such as lm.arpa")
    model = estimate(_sentences(config), config.order)
    if config.most is not None:
        check("most", config.most, Limits(1, whole=True))
        model = prune(model, config.most)
    if out.suffix == ".lm":
        write_ngrams(out, model)
    else:
        write_text(out, "\n".join(arpa_lines(model)) + "\n")
    sizes = ", ".join(str(level.size) for level in model.levels)
    log.info("%s: %s n-grams of order 1 to %d", config.out, sizes, config.order)
    return 0


def _sentences(config: DictConfig) -> Iterator[Sequence[str]]:
    """Those that are not empty; with `unique` each different one once."""
    seen: set[tuple[str, ...]] = set()
    for tokens in _all_sentences(config.text, config.lang):
        sentence = tuple(token for token in tokens if token not in (BEGIN, END))
        if not sentence or (config.unique and sentence in seen):
            continue
        if config.unique:
            seen.add(sentence)
        yield sentence


def _all_sentences(text: str, lang: str | None) -> Iterator[Sequence[str]]:
    if lang is None:
        for row in read_texts(text).rows:
            yield row.value.split()
        return
    folder = Path(lang)
    if (folder / "bpe.model").is_file():
        tokenizer: CharTokenizer | SentencepieceTokenizer = SentencepieceTokenizer(
            folder / "bpe.model"
        )
    else:
        seg_dict = folder / "seg_dict"
        known = read_seg_dict(seg_dict) if seg_dict.is_file() else None
        tokenizer = CharTokenizer(read_token_list(folder / "tokens.json"), known, UNKNOWN)
    for transcript in read_texts(text).table.values():
        tokens = tokenizer.ids_to_tokens(tokenizer.encode_transcript(transcript))
        if UNKNOWN not in tokens:  # or what no model says would seem likely
            yield tokens


def main() -> int:
    """`bin/make_arpa.py`."""
    return run("make_arpa", make_arpa)
