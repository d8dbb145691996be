"""Text and token ids: characters, words of a seg_dict, sentencepiece; and their files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import sentencepiece

from paraformer.data.corpus.tables import read_whole, write_text
from paraformer.documents import parse_json
from paraformer.errors import CheckpointError, DataError

# The reference takes these apart into characters when a word is not in the seg_dict.
_SPELLED = re.compile("[\u4e00-\u9fa5A-Za-z0-9]")
_RUN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|<[^<>\s]+>|\S")
_LONGEST_NAME = 5  # capitals that are letters: NBA, but not SPEECH
_LONGEST_WORD = 64  # letters; what is longer is spelled
_MOST_CUTS = 1 << 16  # words whose pieces are remembered


class Vocabulary:
    """Tokens and their ids: the id of a token is its place in the list."""

    def __init__(self, tokens: Iterable[str], unk_symbol: str = "<unk>") -> None:
        self.tokens = list(tokens)
        self.unk_symbol = unk_symbol
        self._ids = _index(self.tokens, "tokens")
        if unk_symbol not in self._ids:
            raise DataError(f"tokens: no {unk_symbol} among {len(self.tokens)}; add it at the end")
        self.unk_id = self._ids[unk_symbol]

    def __len__(self) -> int:
        return len(self.tokens)

    def tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """The ids of tokens; unknown ones get that of `unk_symbol`."""
        return [self._ids.get(token, self.unk_id) for token in tokens]

    def is_known(self, token: str) -> bool:
        """Whether a token is in the list, and not the one for all that is not."""
        return token != self.unk_symbol and token in self._ids

    def ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids; one outside the list is an IndexError: the model has other tokens."""
        return [self.tokens[i] for i in ids]


class CharTokenizer(Vocabulary):
    """One token per character or, with a seg_dict, the pieces of each word.

    Without a seg_dict: `non_linguistic_symbols` stay whole, blanks are dropped, case is kept.
    With one: words between blanks are lower-cased and looked up; a word that is not listed is
    spelled, each character through the seg_dict, and what does not start with a Chinese
    character, a Latin letter or a digit is one unknown token.

    >>> seg_dict = {"你": ["你"], "hello": ["he@@", "llo"]}
    >>> CharTokenizer(["你", "he@@", "llo", "<unk>"], seg_dict).encode("你 HELLO")
    [0, 1, 2]
    """

    def __init__(
        self,
        tokens: Iterable[str],
        seg_dict: dict[str, list[str]] | None = None,
        unk_symbol: str = "<unk>",
        non_linguistic_symbols: Sequence[str] = (),
    ) -> None:
        super().__init__(tokens, unk_symbol)
        self.seg_dict = seg_dict
        longest_first = sorted(non_linguistic_symbols, key=len, reverse=True)
        self._cuts: dict[str, list[str]] = {}
        self._has_pieces = any(token.endswith("@@") for token in self.tokens)
        self._unit = re.compile("|".join([*map(re.escape, longest_first), r"\S"]))

    def tokenize(self, text: str) -> list[str]:
        """Pieces of a text as in the reference; nothing for an empty one (there `<unk>`)."""
        if self.seg_dict is None:
            return self._unit.findall(text)
        return [piece for word in text.split() for piece in self._segment(word.lower())]

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of a text, in linear time whatever the length of its words."""
        return self.tokens_to_ids(self.tokenize(text))

    def encode_transcript(self, text: str) -> list[int]:
        """Ids that a model is to learn for a transcript: those that are read as that text.

        An English word has the same pieces beside Chinese as between blanks, and one that is not in
        the seg_dict is cut into pieces of the vocabulary: the reference spells both, and letters in
        a row are read as one name (`open speech` as OPENSPEECH).
        """
        return self.tokens_to_ids(piece for _, pieces in self._parts(text) for piece in pieces)

    def unknown(self, text: str) -> list[str]:
        """The characters for which `encode_transcript` gives the unknown token."""
        parts = self._parts(text)
        return [part for part, pieces in parts if not all(map(self.is_known, pieces))]

    def _parts(self, text: str) -> Iterator[tuple[str, list[str]]]:
        """The words and characters of a transcript, each with its pieces."""
        if self.seg_dict is None and not self._has_pieces:
            yield from ((unit, [unit]) for unit in self.tokenize(text))
            return
        for word in text.split():
            if found := self._listed(word):
                yield word, found
                continue
            for run in script_runs(word):
                if found := self._listed(run) or self._cut(run):
                    yield run, found
                else:
                    yield from ((char, self._listed(char) or [self.unk_symbol]) for char in run)

    def _listed(self, word: str) -> list[str]:
        """The pieces of a word that the seg_dict has, or without one the word if it is a token."""
        if self.seg_dict is not None:
            return self.seg_dict.get(word.lower(), [])
        return [word] if word in self._ids else []

    def _cut(self, word: str) -> list[str]:
        """An English word as few tokens `piece@@ ... piece`, the first ones the longest; nothing
        for names in capitals, and where the vocabulary has no such tokens.
        """
        if len(word) < 2 or not word.isascii() or len(word) > _LONGEST_WORD:
            return []
        if word.isupper() and len(word) <= _LONGEST_NAME:
            return []
        if word not in self._cuts:
            if len(self._cuts) >= _MOST_CUTS:
                self._cuts.clear()
            self._cuts[word] = self._fewest(word.lower())
        return self._cuts[word]

    def _fewest(self, word: str) -> list[str]:
        rests: list[list[str] | None] = [None] * len(word)
        for start in range(len(word) - 1, -1, -1):
            for end in range(len(word), start, -1):
                last = end == len(word)
                piece = word[start:end] if last else f"{word[start:end]}@@"
                rest = [] if last else rests[end]
                if rest is None or piece not in self._ids:
                    continue
                best = rests[start]
                if best is None or len(rest) + 1 < len(best):
                    rests[start] = [piece, *rest]
        return rests[0] or []

    def _segment(self, word: str) -> list[str]:
        assert self.seg_dict is not None
        if word in self.seg_dict:
            return self.seg_dict[word]
        if not _SPELLED.match(word):
            return [self.unk_symbol]
        unknown = [self.unk_symbol]
        return [piece for char in word for piece in self.seg_dict.get(char, unknown)]


class SentencepieceTokenizer(Vocabulary):
    """Pieces of a sentencepiece model, of which `▁` begins a word.

    `tokens` gives the ids where a model numbers its outputs otherwise than its `bpe_model`; without
    it they are sentencepiece's own.
    """

    def __init__(self, bpe_model: str | Path, tokens: Iterable[str] | None = None) -> None:
        self.bpe_model = Path(bpe_model)
        self._processor = _load_sentencepiece(self.bpe_model)
        pieces = [self._processor.IdToPiece(i) for i in range(self._processor.GetPieceSize())]
        unk_symbol = pieces[self._processor.unk_id()]
        super().__init__(pieces if tokens is None else tokens, unk_symbol)

    def tokenize(self, text: str) -> list[str]:
        """Pieces of a text, as the model normalises and cuts it."""
        pieces: list[str] = self._processor.EncodeAsPieces(text)
        return pieces

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of a text."""
        return self.tokens_to_ids(self.tokenize(text))

    def encode_transcript(self, text: str) -> list[int]:
        """The tokens of `encode`: pieces themselves tell where a word begins."""
        return self.encode(text)

    def unknown(self, text: str) -> list[str]:
        """The pieces for which `encode` gives the unknown token."""
        return [piece for piece in self.tokenize(text) if not self.is_known(piece)]

    def detokenize(self, tokens: Sequence[str]) -> str:
        """Text of pieces: the inverse of `tokenize` up to the model's normalisation."""
        text: str = self._processor.DecodePieces(list(tokens))
        return text


def script_runs(word: str) -> list[str]:
    """The English words, the tags and all other characters in what stands between two blanks.

    >>> script_runs("打开it's<noise>mp3")
    ['打', '开', "it's", '<noise>', 'mp', '3']
    """
    return _RUN.findall(word)


def read_token_list(path: str | Path) -> list[str]:
    """Tokens of a `.json` list, or of any other file with one token a line; the id is the place."""
    path = Path(path)
    text = read_whole(path)
    if path.suffix == ".json":
        tokens = _parse_json_list(path, text)
    else:
        tokens = _without_numbers([line.rstrip() for line in text.rstrip().split("\n")])
    if tokens in ([], [""]):
        raise DataError(f"{path}: no tokens; make it with bin/make_tokens.py")
    _index(tokens, str(path))
    return tokens


def write_token_list(path: str | Path, tokens: Sequence[str]) -> None:
    """A JSON list if `path` ends in `.json`, else one token a line."""
    _index(tokens, str(path))
    path = Path(path)
    if path.suffix == ".json":
        text = json.dumps(list(tokens), ensure_ascii=False, indent=0) + "\n"
    else:
        text = "".join(f"{token}\n" for token in tokens)
    write_text(path, text)


def read_seg_dict(path: str | Path) -> dict[str, list[str]]:
    """Lines `word piece piece ...`; a word that stands twice has the pieces of its later line."""
    rows = [line.split() for line in read_whole(path).splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def write_seg_dict(path: str | Path, seg_dict: dict[str, list[str]]) -> None:
    """One line a word, in the order of the dictionary."""
    lines = (f"{word} {' '.join(pieces)}\n" for word, pieces in seg_dict.items())
    write_text(path, "".join(lines))


def _index(tokens: Sequence[str], where: str) -> dict[str, int]:
    ids: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if token in ids:
            raise DataError(
                f"{where}: token '{token}' stands at places {ids[token]} and {i}; keep one of them"
            )
        ids[token] = i
    return ids


def _without_numbers(lines: list[str]) -> list[str]:
    """Take away the ids of a Kaldi list `token id`, if each is the place of its line."""
    if all(line.split()[1:] == [str(i)] for i, line in enumerate(lines)):
        return [line.split()[0] for line in lines]
    return lines


def _parse_json_list(path: Path, text: str) -> list[str]:
    try:
        tokens = parse_json(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"{path}:{line}: not JSON; give a list of tokens") from error
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise DataError(f"{path}: not a list of texts; give one text per token")
    return tokens


def _load_sentencepiece(path: Path) -> sentencepiece.SentencePieceProcessor:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; the model directory lacks its bpe.model")
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise CheckpointError(f"{path}: not a sentencepiece model; copy it again") from error
