"""Hotwords as users give them (a string, a list, a file, an address, words with weights) become
token ids; what the model cannot hear is named and left out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from paraformer.backends.face import RecognitionEngine
from paraformer.data.audio.cloud import download
from paraformer.data.corpus.ids import URL
from paraformer.data.inputs.names import names_file
from paraformer.data.text.tokenizer import CharTokenizer, SentencepieceTokenizer
from paraformer.decode.word_tree import WordTree
from paraformer.documents import parse_json
from paraformer.errors import AudioError, DataError
from paraformer.limits import MOST_WEIGHT, Limits, check

log = logging.getLogger(__name__)

MOST_HOTWORDS = 50_000
MOST_ATTENDED = 5000  # of them by a decoder for hotwords, which weighs each at every token
MOST_TOKENS = 64  # of one hotword
BOOST = 1.0  # nats a token
SHOWN = 20  # hotwords that a message names
SAID = 60  # characters of them
_SEPARATORS = re.compile(r"[\s,，、;；]+")
_WEIGHT = re.compile(r"-?\d+(\.\d+)?")
_RUN = re.compile(r"[A-Za-z']+|.", re.DOTALL)
_ENCODINGS = ("utf-8-sig", "gb18030")

Tokenizer = CharTokenizer | SentencepieceTokenizer


class Hotword(NamedTuple):
    """A word or phrase to listen for."""

    text: str
    ids: tuple[int, ...]
    weight: float | None = None  # as given; the models here listen to all alike


class HotwordList(NamedTuple):
    """The hotwords that are listened for, and why the others are not."""

    words: list[Hotword]
    left_out: list[str]

    @property
    def ids(self) -> list[tuple[int, ...]]:
        """Token ids of the words, as `remember` of an engine takes them."""
        return [word.ids for word in self.words]


class Listening(NamedTuple):
    """A list as recognition takes it."""

    words: WordTree
    memory: Any | None  # of models with a decoder for hotwords; None for long lists


class _Given(NamedTuple):
    text: str
    weight: float | None = None


class HotwordMemo:
    """The hotwords of one model from call to call: the same list is encoded and named once."""

    def __init__(self, engine: RecognitionEngine) -> None:
        self.engine = engine
        self._last: tuple[list[_Given], Listening | None] = ([], None)

    def listening(self, given: object) -> Listening | None:
        """The hotwords as `Search.hotwords` takes them, from any form of the argument; a file is
        read anew each time.
        """
        entries = _filled(given)
        if entries != self._last[0]:
            found = _encoded(entries, self.engine.release.tokenizer)
            if entries:
                _report(found)
            heard = Listening(WordTree(found.ids), remember(self.engine, found))
            self._last = (entries, heard if found.words else None)
        return self._last[1]


def read_hotwords(given: object, tokenizer: Tokenizer) -> HotwordList:
    """The hotwords of any form of the argument, each once; None and an empty string are none.

    A string: each word between blanks, commas or semicolons is one; if it names a file (see
    `names_file`) or an address of one, each line of that. A line, or an entry of a list: one
    hotword, blanks inside belong to it, and a number behind the last is its weight. A mapping, or
    JSON in a string or file: hotwords with their weights.

    >>> tokenizer = CharTokenizer(["阿", "里", "a@@", "pi", "<unk>"], {"api": ["a@@", "pi"]})
    >>> read_hotwords("阿里 API", tokenizer).ids
    [(0, 1), (2, 3)]
    """
    entries = _filled(given)
    found = _encoded(entries, tokenizer)
    if entries:
        _report(found)
    return found


def said_hotwords(given: object) -> str:
    """The hotwords of any form of the argument as a line that differs where they do; of a longer
    list their beginning, how many there are, and a digest of all.

    >>> said_hotwords("阿里 API"), said_hotwords(["阿里", "API 2"])
    ('阿里, API', '阿里, API 2')
    """
    entries = _filled(given)
    words = [f"{text} {weight:g}" if weight is not None else text for text, weight in entries]
    line = ", ".join(words)
    if len(line) <= SAID:
        return line
    digest = hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{line[:SAID]}... ({len(words)} hotwords, {digest[:12]})"


def held_hotwords(given: object) -> object:
    """The same argument, of which a file or an address has been read: what takes it afterwards
    does not read it again.
    """
    return _filled(given) if isinstance(given, (str, Path)) and is_given(given) else given


def _filled(given: object) -> list[_Given]:
    return [entry for entry in _entries(given) if entry.text.strip()]


def _encoded(entries: Sequence[_Given], tokenizer: Tokenizer) -> HotwordList:
    words: dict[tuple[int, ...], Hotword] = {}
    left_out: list[str] = []
    for text, weight in entries:
        try:
            ids = _encode(text, tokenizer)
        except DataError as error:
            left_out.append(str(error))
            continue
        words.setdefault(ids, Hotword(text, ids, weight))
    if len(words) > MOST_HOTWORDS:
        raise DataError(
            f"hotword: {len(words)} hotwords; at most {MOST_HOTWORDS} are heard: give fewer"
        )
    return HotwordList(list(words.values()), left_out)


def remember(engine: RecognitionEngine, hotwords: HotwordList) -> Any | None:
    """`Bias.hotwords` for a model with a decoder for them, made once for many batches; None for an
    empty list, for other models, and for more words than such a decoder takes.
    """
    if not hotwords.words or not engine.hears_hotwords:
        return None
    if len(hotwords.words) > MOST_ATTENDED:
        log.warning(
            "hotword: %d hotwords, more than the %d that this model's decoder for them takes: they "
            "are heard by posteriors alone (hotword_boost)",
            len(hotwords.words),
            MOST_ATTENDED,
        )
        return None
    return engine.remember(hotwords.ids)


def own_boost(engine: RecognitionEngine) -> float:
    """How much `boost` prefers hotwords where the call does not say: `hotword_boost` of the model's
    config.yaml; else nothing if it has a decoder for them, and BOOST if it has none.
    """
    own = engine.release.config.get("hotword_boost")
    if own is None:
        return 0.0 if engine.hears_hotwords else BOOST
    check("config.yaml: hotword_boost", own, Limits(0, MOST_WEIGHT))
    return float(own)


def _report(found: HotwordList) -> None:
    names = ", ".join(word.text for word in found.words[:SHOWN])
    more = len(found.words) - SHOWN
    log.info("%d hotwords: %s%s", len(found.words), names, f" and {more} more" if more > 0 else "")
    for reason in found.left_out[:SHOWN]:
        log.warning("hotword %s", reason)
    if len(found.left_out) > SHOWN:
        log.warning("%d more hotwords are left out", len(found.left_out) - SHOWN)


def _entries(given: object) -> Iterator[_Given]:
    if given is None:
        return
    if isinstance(given, Path):
        yield from _in_file(given)
    elif isinstance(given, str):
        yield from _in_string(given.strip())
    elif isinstance(given, Mapping):
        for text, weight in given.items():
            yield _Given(str(text), _number(weight, str(text)))
    elif isinstance(given, Iterable) and not isinstance(given, (bytes, bytearray)):
        yield from _in_list(list(given))
    else:
        raise DataError(
            f"hotword: {type(given).__name__} holds no words; give a string, a list or a file"
        )


def _in_list(entries: Sequence[object]) -> Iterator[_Given]:
    """Words, or the lines of a file or the rows of a table, each of a word and maybe its weight."""
    if entries and all(isinstance(entry, bytes) for entry in entries):
        yield from _lines(b"".join(entries), "hotword")  # type: ignore[arg-type]
        return
    for entry in entries:
        if isinstance(entry, _Given):  # of `held_hotwords`
            yield entry
            continue
        row = entry if isinstance(entry, (list, tuple)) else [entry]
        numbers = row[1:] and isinstance(row[-1], (int, float))
        if not all(isinstance(part, str) for part in (row[:-1] if numbers else row)):
            raise DataError(f"hotword: {entry!r} in the list is no text; give words alone")
        yield _with_weight(" ".join(map(str, row)).removeprefix("\ufeff"))


def is_given(given: object) -> bool:
    """Whether there is a word in an argument, or what will be refused as none."""
    if given is None or isinstance(given, str):
        return bool(given and given.strip())
    return not hasattr(given, "__len__") or len(given) > 0


def _in_string(text: str) -> Iterator[_Given]:
    if URL.match(text):
        try:
            content = download(text)
        except AudioError as error:
            raise DataError(str(error)) from error
        yield from _lines(content, text)
    elif names_file(text):
        yield from _in_file(Path(text))
    elif text.startswith(("{", "[")):
        yield from _in_json(text, f"hotword: '{text}'")
    else:
        yield from (_Given(word) for word in _SEPARATORS.split(text))


def _in_json(text: str, where: str) -> Iterator[_Given]:
    try:
        yield from _entries(parse_json(text))
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error}); mend it") from error


def _in_file(path: Path) -> Iterator[_Given]:
    content = _read(path)
    if path.suffix.lower() == ".json":
        return _in_json(_text(content, str(path)), str(path))
    return _lines(content, str(path))


def _read(path: Path) -> bytes:
    try:
        return Path(os.path.expanduser(path)).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: {reason} (looked for {path.absolute()}); give a file of hotwords, one a line"
        ) from error


def _lines(content: bytes, where: str) -> Iterator[_Given]:
    return map(_with_weight, _text(content, where).splitlines())


def _text(content: bytes, where: str) -> str:
    for encoding in _ENCODINGS if b"\0" not in content else ():
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    raise DataError(f"{where}: neither UTF-8 nor GB18030 text; convert it with iconv")


def _with_weight(line: str) -> _Given:
    """A number behind a word is its weight; a number alone is a word."""
    *words, last = line.split() or [""]
    if words and _WEIGHT.fullmatch(last):
        return _Given(" ".join(words), float(last))
    return _Given(" ".join([*words, last]))


def _number(weight: object, text: str) -> float | None:
    if weight is None or (isinstance(weight, (int, float)) and not isinstance(weight, bool)):
        return None if weight is None else float(weight)
    raise DataError(f"hotword: the weight {weight!r} of '{text}' is no number; give one or none")


def _encode(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of a hotword; one that the model has no tokens for is a DataError."""
    plain = unicodedata.normalize("NFKC", text)
    if isinstance(tokenizer, SentencepieceTokenizer):
        pieces = tokenizer.tokenize(plain)
    else:
        pieces = [piece for word in plain.split() for piece in _pieces(word, text, tokenizer)]
    ids = tuple(tokenizer.tokens_to_ids(pieces))
    if not ids or tokenizer.unk_id in ids:
        raise DataError(f"'{text}' is left out: nothing in it is a word of this model")
    if len(ids) > MOST_TOKENS:
        raise DataError(f"'{text}' is left out: {len(ids)} tokens, more than {MOST_TOKENS}")
    return ids


def _pieces(word: str, text: str, tokenizer: CharTokenizer) -> list[str]:
    """Pieces of one word: its own, else those of its English runs and of all other characters.

    Capitals that are no word are spelled (NBA); other English words that the model does not know
    cannot be heard as one. Marks are nothing.
    """
    if whole := _look_up(word, tokenizer):
        return whole
    pieces: list[str] = []
    for run in _RUN.findall(word):
        found = _look_up(run, tokenizer)
        if not found and run.isupper():
            found = [piece for char in run for piece in _look_up(char, tokenizer) or [char]]
        if not found and unicodedata.category(run[0])[0] != "P":
            raise DataError(f"'{text}' is left out: the model does not know '{run}'")
        pieces += found
    return pieces


def _look_up(word: str, tokenizer: CharTokenizer) -> list[str]:
    """Pieces of a listed word or a token itself; nothing where it is neither."""
    if word.startswith("<"):
        return []  # <s> and its like are not spoken
    for form in (word.lower(), word):
        if tokenizer.seg_dict is not None and form in tokenizer.seg_dict:
            return tokenizer.seg_dict[form]
        if tokenizer.tokens_to_ids([form]) != [tokenizer.unk_id]:
            return [form]
    return []
