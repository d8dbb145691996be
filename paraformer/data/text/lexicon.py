"""Tokens of a new model from its transcripts: characters and pieces of words, or sentencepiece."""

from __future__ import annotations

import io
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import sentencepiece

from paraformer.data.text.syllables import syllables
from paraformer.data.text.tokenizer import script_runs
from paraformer.errors import ConfigError, DataError

# Places 0, 1, 2 and the last one are part of the released format.
FIRST_TOKENS = ("<blank>", "<s>", "</s>")
LAST_TOKEN = "<unk>"

ENGLISH_CUTS: dict[str, Callable[[str], list[str]]] = {
    "syllables": syllables,
    "letters": list,
    "words": lambda word: [word],
}
_ENGLISH = re.compile("[a-z][a-z']*|'[a-z]+")
_SYMBOL = re.compile(r"<[^<>\s]+>")


class Lexicon(NamedTuple):
    """The tokens of a character model, and the pieces of each word and character."""

    tokens: list[str]
    seg_dict: dict[str, list[str]]


def build_lexicon(texts: Iterable[str], english: str = "syllables", min_count: int = 1) -> Lexicon:
    """Tokens and seg_dict with which `CharTokenizer` knows every word of `texts`.

    English words are lower-cased and cut as `english` says (syllables, letters or words), with `@@`
    on all pieces but the last: one token for a long word would leave CIF with a count that does not
    follow the rhythm of speech. Everything else is a token per character; `<noise>` and the like
    stay whole. Pieces seen fewer than `min_count` times become `<unk>`, words with such a piece are
    spelled; for that, and for new words, the 26 letters are always tokens where there is English.

    >>> build_lexicon(["请 process"]).seg_dict["process"]
    ['pro@@', 'cess']
    """
    if english not in ENGLISH_CUTS:
        raise ConfigError(f"english={english}: unknown; choose one of {', '.join(ENGLISH_CUTS)}")
    written = Counter(word for text in texts for word in text.lower().split())
    words: Counter[str] = Counter()
    spelled: set[str] = set()
    for word, count in written.items():
        runs = script_runs(word)
        for run in runs:
            words[run] += count
        # One of several scripts is spelled, with marks that stand in none of its pieces: it's5.
        spelled |= set(word) if len(runs) > 1 else set()
    for special in (*FIRST_TOKENS, LAST_TOKEN):
        words.pop(special, None)
    if not words:
        raise DataError("text: no words to make tokens from; is each line `id transcript`?")
    pieces = {word: _pieces(word, ENGLISH_CUTS[english]) for word in words}
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for piece in pieces[word]:
            counts[piece] += count
    kept = {piece for piece, count in counts.items() if count >= min_count}
    english_words = [word for word in words if _ENGLISH.fullmatch(word)]
    if english_words:
        kept.update(string.ascii_lowercase)
    kept |= spelled - counts.keys()
    seg_dict = {piece: [piece] for piece in kept if len(piece) == 1 or _SYMBOL.fullmatch(piece)}
    seg_dict.update((word, pieces[word]) for word in english_words if kept.issuperset(pieces[word]))
    return Lexicon([*FIRST_TOKENS, *sorted(kept), LAST_TOKEN], dict(sorted(seg_dict.items())))


def train_bpe(texts: Iterable[str], size: int) -> bytes:
    """A sentencepiece BPE model of `size` pieces, as the content of a `bpe.model`.

    Its own ids are those of the released layout (`<blank>` 0, `<s>` 1, `</s>` 2, `<unk>` last),
    since the reference takes ids from the model and never from `tokens.json`.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            max_sentence_length=1 << 16,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=size - 1,
            pad_piece=FIRST_TOKENS[0],
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _wrong_size(size, str(error)) from error
    return model.getvalue()


def _wrong_size(size: int, message: str) -> ConfigError:
    least = re.search(r"required_chars\. \d+ vs (\d+)", message)
    if least:
        return ConfigError(
            f"bpe_size={size}: too small for its characters; give at least {least[1]}"
        )
    return ConfigError(f"bpe_size={size}: the text gives fewer pieces; give less, or more text")


def _pieces(word: str, cut: Callable[[str], list[str]]) -> list[str]:
    if _SYMBOL.fullmatch(word):
        return [word]
    if not _ENGLISH.fullmatch(word):
        return list(word)
    *first, last = cut(word)
    return [f"{piece}@@" for piece in first] + [last]
