"""Copy a released directory, with new tokens to be learnt by fine-tuning if there are any, and its
weights in the format that is asked for.

New tokens stand behind the old ones, which keep their ids (so does <unk>) and their scores. The
rows of new tokens begin as ones that the model nearly never says; to its n-grams, which go along,
they are unknown words, each as likely as <unk>. A model whose tokens.json was lengthened by hand
gets the rows that it lacks. Prints how many rows are new.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from paraformer.data.corpus.tables import read_rows
from paraformer.data.corpus.texts import read_texts
from paraformer.data.text.tokenizer import CharTokenizer
from paraformer.errors import CheckpointError, ConfigError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model
from paraformer.models.kinds import ALIGNER, RECOGNISER, kind_of
from paraformer.models.release import (
    NAMES,
    WEIGHTS,
    AlignerRelease,
    Config,
    Release,
    Tokenizer,
    build_any,
    build_tokenizer,
    load_release,
    merge,
    read_config,
    save_directory,
    weights_of,
    writing_directory,
)
from paraformer.models.side_files import carry_over
from paraformer.models.weights import grow_rows, load_state, read_weights, stored_dtype
from paraformer.programs.hydra_main import run
from paraformer.programs.settings import read_settings

_log = logging.getLogger(__name__)

OUTPUT = "decoder.output_layer.weight"  # has a row for each token


class Addition(NamedTuple):
    """New tokens in their order, and the words that are spelled with them."""

    tokens: list[str]
    words: dict[str, list[str]]


def extend_model(config: DictConfig) -> int:
    """Write `config.out`; made before, it has to be what is asked for now."""
    read_settings(config)
    source = find_model(config.model)
    settings, weights = read_config(source, {}), weights_of(source)
    if config.format not in WEIGHTS:
        raise ConfigError(f"format={config.format}: not known; {' or '.join(WEIGHTS)}")
    if (kind := kind_of(settings)) not in (None, RECOGNISER, ALIGNER):
        if config.tokens or config.text:
            raise CheckpointError(f"{weights}: only a recogniser has tokens to say")
        _write(config, load_release(settings, source, kind, graphs=False), source, weights)
        print(0)
        return 0
    tokenizer, state = build_tokenizer(settings), read_weights(weights)
    rows = len(state[OUTPUT]) if OUTPUT in state else len(tokenizer)
    _refuse_shifted(tokenizer, rows, source)
    added = _addition(config, tokenizer, source)
    if added.tokens and OUTPUT not in state:
        raise CheckpointError(f"{weights}: has no {OUTPUT}; only a recogniser has tokens to say")
    grown = _grow(settings, [*tokenizer.tokens, *added.tokens], added.words, rows)
    shapes = {name: value.shape for name, value in grown.model.state_dict().items()}
    state, names = grow_rows(state, shapes, rows, len(grown.tokenizer))
    new, out = grown.tokenizer.tokens[rows:], check_folder(config.out)
    if (out / "config.yaml").is_file():  # it comes last
        _compare(out, grown.tokenizer, state)
        if weights_of(out).name == WEIGHTS[config.format]:
            print(len(new))
            return 0
    load_state(grown.model, state, weights)
    _write(config, grown, source, weights)
    _log.info("%s: %d new rows: %s", out, len(new), " ".join(new) or "none is needed")
    _log.info("%s: grew by them: %s", out, ", ".join(names) or "nothing")
    print(len(new))
    return 0


def _write(config: DictConfig, release: Release[Any], source: Path, weights: Path) -> None:
    """Write a model that was made of that of a directory, in numbers of the same type."""
    out = check_folder(config.out)
    with writing_directory(out) as draft:
        carry_over(source, draft, out)
        dtype = stored_dtype(weights)
        save_directory(draft, release, dtype=dtype, weights=WEIGHTS[config.format])
        if ngrams := release.config.get("lm_file"):  # of words, not of ids: new ones are <unk>
            shutil.copyfile(ngrams, draft / str(NAMES["lm_file"]))


def _refuse_shifted(tokenizer: Tokenizer, rows: int, source: Path) -> None:
    """Tokens that were put in by hand have to stand behind those that the model has rows for."""
    if len(tokenizer) < rows:
        raise CheckpointError(
            f"{source}: {len(tokenizer)} tokens for {rows} rows of its weights; add the others"
        )
    if tokenizer.unk_id >= rows:
        raise CheckpointError(
            f"{source}: the weights have {rows} rows, and {tokenizer.unk_symbol} stands at place "
            f"{tokenizer.unk_id}; put new tokens behind all the old ones"
        )


def _addition(config: DictConfig, tokenizer: Tokenizer, source: Path) -> Addition:
    """The tokens that are asked for."""
    if not config.tokens and not config.text:
        return Addition([], {})
    if not isinstance(tokenizer, CharTokenizer):
        raise ConfigError(f"{source}: its tokens are pieces of its bpe.model; none can be added")
    lines = _listed(config.tokens) if config.tokens else []
    if config.text:
        lines += _of_text(read_texts(config.text).table, tokenizer, config.min_count)
    return find_addition(lines, tokenizer)


def _listed(path: str) -> list[list[str]]:
    """Lines `character` or `word piece piece ...`."""
    return [[row.key, *row.value.split()] for row in read_rows(path)]


def _of_text(texts: Mapping[str, str], tokenizer: CharTokenizer, min_count: int) -> list[list[str]]:
    """Unknown letters and digits, the most frequent first; marks are left out."""
    counts: Counter[str] = Counter()
    for text in texts.values():
        counts.update(tokenizer.unknown(text))
    marks = [(piece, count) for piece, count in counts.items() if not _spoken(piece)]
    if marks:
        shown = " ".join(piece for piece, _ in marks[:20])
        _log.warning("%d unknown pieces are no single letters or digits: %s", len(marks), shown)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [[piece] for piece, count in ranked if count >= min_count and _spoken(piece)]


def _spoken(piece: str) -> bool:
    return len(piece) == 1 and piece.isalnum()


def find_addition(lines: Iterable[list[str]], tokenizer: CharTokenizer) -> Addition:
    """Lines of `word piece ...` -> what of them the tokenizer does not know yet.

    >>> known = CharTokenizer(["你", "<unk>"], {"你": ["你"]})
    >>> find_addition([["你"], ["龘"], ["Hello", "he@@", "llo"]], known)
    Addition(tokens=['龘', 'he@@', 'llo'], words={'龘': ['龘'], 'hello': ['he@@', 'llo']})
    """
    tokens: dict[str, None] = {}
    words: dict[str, list[str]] = {}
    old = set(tokenizer.tokens)
    for word, *spelled in lines:
        name = word.lower()
        pieces = spelled or [name]
        if tokenizer.seg_dict is None and (spelled or len(word) > 1):
            raise ConfigError(f"tokens: '{word}': this model spells; give single characters")
        if tokenizer.seg_dict is None:
            pieces = [word]
        elif tokenizer.seg_dict.get(name) != pieces:
            words[name] = pieces
        tokens.update(dict.fromkeys(piece for piece in pieces if piece not in old))
    return Addition(list(tokens), words)


def _grow(
    settings: Config, tokens: list[str], words: dict[str, list[str]], rows: int
) -> Release | AlignerRelease:
    """The model with fresh weights for more tokens than `rows`."""
    grown = build_any(merge(settings, {"tokenizer_conf": {"token_list": tokens}}))
    tokenizer = grown.tokenizer
    if isinstance(tokenizer, CharTokenizer) and tokenizer.seg_dict is not None:
        tokenizer.seg_dict.update(words)
        for token in tokens[rows:]:  # characters that somebody put into the list alone
            if len(token) == 1:
                tokenizer.seg_dict.setdefault(token.lower(), [token])
    return grown


def _compare(out: Path, wanted: Tokenizer, state: Mapping[str, Tensor]) -> None:
    """Refuse what is there already if it is not what would be made."""
    there = build_tokenizer(read_config(out, {}))
    same = there.tokens == wanted.tokens
    if isinstance(there, CharTokenizer) and isinstance(wanted, CharTokenizer):
        same = same and there.seg_dict == wanted.seg_dict
    if not same:
        raise ConfigError(
            f"{out}: was made with {len(there)} tokens, others than the {len(wanted)} asked for "
            "now; its training cannot go on with them: give another folder, or remove this one"
        )
    before = read_weights(weights_of(out))
    if not all(
        name in before and torch.equal(value, before[name]) for name, value in state.items()
    ):
        raise ConfigError(f"{out}: was made of another model; give another folder, or remove it")
    _log.info("%s: is there already", out)


def main() -> int:
    """`bin/extend_model.py`."""
    return run("extend_model", extend_model)
