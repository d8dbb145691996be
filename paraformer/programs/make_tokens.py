"""Make the token list of a model from training transcripts: Kaldi `text`, or plain lines.

type=char: a token per character and per piece of an English word -> tokens.txt tokens.json seg_dict
type=bpe:  sentencepiece pieces, for languages with blanks -> bpe.model tokens.txt tokens.json
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.corpus.texts import read_texts
from paraformer.data.text.lexicon import build_lexicon, train_bpe
from paraformer.data.text.tokenizer import SentencepieceTokenizer, write_seg_dict, write_token_list
from paraformer.errors import ConfigError, DataError
from paraformer.files import check_folder, together
from paraformer.limits import Limits, check
from paraformer.programs.hydra_main import run

_log = logging.getLogger(__name__)


def make_tokens(config: DictConfig) -> int:
    """Write the files of `config.type` into the folder `config.out`."""
    texts = [text for text in read_texts(config.text).table.values() if text.strip()]
    if not texts:
        raise DataError(f"{config.text}: no transcripts; each line is `id transcript`")
    check("min_count", config.min_count, Limits(1, whole=True))
    check("bpe_size", config.bpe_size, Limits(5, whole=True))
    out = check_folder(config.out)
    # A bpe.model of an earlier run would make this directory a sentencepiece model.
    with together(out, ("tokens.json", "tokens.txt"), ("seg_dict", "bpe.model")) as draft:
        if config.type == "char":
            tokens = _make_char(texts, config.english, config.min_count, draft)
        elif config.type == "bpe":
            tokens = _make_bpe(texts, config.bpe_size, draft)
        else:
            raise ConfigError(f"type={config.type}: unknown type; choose char or bpe")
        write_token_list(draft / "tokens.txt", tokens)
        write_token_list(draft / "tokens.json", tokens)
    _log.info("%d tokens from %d transcripts in %s", len(tokens), len(texts), out)
    return 0


def _make_char(texts: Sequence[str], english: str, min_count: int, out: Path) -> list[str]:
    lexicon = build_lexicon(texts, english, min_count)
    write_seg_dict(out / "seg_dict", lexicon.seg_dict)
    return lexicon.tokens


def _make_bpe(texts: Sequence[str], size: int, out: Path) -> list[str]:
    (out / "bpe.model").write_bytes(train_bpe(texts, size))
    return SentencepieceTokenizer(out / "bpe.model").tokens


def main() -> int:
    """`bin/make_tokens.py`."""
    return run("make_tokens", make_tokens)
