"""N-grams as sorted numbers in one file, which is mapped: nothing is read but what is looked up.

The file begins with `MAGIC` and a line of JSON: the name, type and length of each array that
follows, the first at a multiple of ALIGN bytes, each where the one before ends, rounded up to it.
`words` are the words as UTF-8, a line each; of n-grams of order N, `keysN` are the places of their
contexts among those of order N - 1, times the number of words, plus the place of the last word;
`logpN` and `backoffN` say which value of `logp_valuesN` and `backoff_valuesN` each has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraformer.data.text.ngram import BEGIN, END, UNKNOWN, Floats, Ints, NgramModel
from paraformer.errors import ConfigError
from paraformer.files import replacing

MAGIC = b"paraformer n-grams 1\n"
ALIGN = 64
VALUES = 256  # that a column has, so that a byte tells which
NATS = np.log(10.0)  # of a logarithm to the base 10

Array = NDArray[Any]


def write_ngrams(path: str | Path, model: NgramModel) -> int:
    """Write the file of a model, and say how many bytes it has."""
    arrays: dict[str, Array] = {"words": np.frombuffer("\n".join(model.words).encode(), np.uint8)}
    below = 1
    for size, level in enumerate(model.levels, 1):
        if size > 1:
            largest = below * len(model.words)
            kind = np.uint32 if largest <= np.iinfo(np.uint32).max else np.uint64
            arrays[f"keys{size}"] = (level.context * len(model.words) + level.word).astype(kind)
        columns = {"logp": level.logp, "backoff": np.nan_to_num(level.backoff)}
        for name, column in columns.items():
            if name == "logp" or size < len(model.levels):
                values, codes = quantised(column)
                arrays |= {f"{name}_values{size}": values, f"{name}{size}": codes}
        below = level.size
    head = json.dumps([(name, each.dtype.str, len(each)) for name, each in arrays.items()])
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(MAGIC + head.encode() + b"\n")
        for each in arrays.values():
            file.write(b"\0" * (-file.tell() % ALIGN) + each.tobytes())
        return file.tell()


def quantised(column: Floats) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Values, and which of them each number has: the numbers themselves if no more than VALUES
    differ, else the nearest of as many, which lie where they do.

    >>> values, codes = quantised(np.array([-1.5, -0.25, -1.5]))
    >>> values.tolist(), codes.tolist()
    ([-1.5, -0.25], [0, 1, 0])
    """
    values = np.unique(column)
    if len(values) > VALUES:
        middles = (np.arange(VALUES) + 0.5) * len(column) / VALUES
        values = np.unique(np.sort(column)[middles.astype(np.int64)])
    codes = np.searchsorted((values[1:] + values[:-1]) / 2.0, column)
    return values.astype(np.float32), codes.astype(np.uint8)


class NgramTable:
    """The n-grams of a file, looked up for any number of contexts at once.

    A state is a row of ORDER - 1 numbers: the last word, and the places of the longer n-grams that
    end with it, -1 where there are none.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._arrays = _mapped(Path(path))
            self.words = self._arrays["words"].tobytes().decode().split("\n")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}: no n-grams ({error}); copy it again") from None
        self.order = sum(name.startswith("logp_") for name in self._arrays)
        self._places = {word: place for place, word in enumerate(self.words)}

    def places(self, words: Sequence[str]) -> Ints:
        """The numbers of words (N,), that of <unk> for unknown ones."""
        unknown = self._places[UNKNOWN]
        return np.array([self._places.get(word, unknown) for word in words], dtype=np.int64)

    @property
    def start(self) -> Ints:
        """The state (ORDER - 1,) at the beginning of a sentence."""
        nothing = np.full(self.order - 1, -1)
        nothing[0] = self._places[BEGIN]
        return nothing

    @property
    def end(self) -> int:
        """The number of </s>."""
        return self._places[END]

    def step(self, states: Ints, words: Ints) -> tuple[Floats, Ints]:
        """States (N, ORDER - 1), numbers of the words (N,) that follow -> their log-probabilities
        (N,), natural ones, and the states behind them.

        Of the n-grams that end with the word the longest that is there has the probability; it is
        multiplied by the backoffs of the longer contexts that are there.
        """
        logp = self._value("logp", 1, words)
        behind = np.full_like(states, -1)
        behind[:, 0] = words
        for size in range(2, self.order + 1):
            context = states[:, size - 2]
            place = self._find(self._arrays[f"keys{size}"], context, words)
            backoff = np.where(context >= 0, self._value("backoff", size - 1, context), 0.0)
            logp = np.where(place >= 0, self._value("logp", size, place), logp + backoff)
            if size < self.order:
                behind[:, size - 1] = place
        return NATS * logp, behind

    def futures(self, states: Ints) -> Ints:
        """States (..., ORDER - 1) -> numbers (...), equal for those behind which words are as
        likely.
        """
        longest = (self.order - 2) - np.argmax(states[..., ::-1] >= 0, axis=-1)
        places = np.take_along_axis(states, longest[..., None], axis=-1)[..., 0]
        return places * self.order + longest

    def score(self, words: Sequence[str]) -> float:
        """Natural logarithm of the probability of a whole sentence, its end counted."""
        total, state = 0.0, self.start[None]
        for word in (*self.places(words), self.end):
            logp, state = self.step(state, np.array([word]))
            total += float(logp[0])
        return total

    def _value(self, name: str, size: int, places: Ints) -> Floats:
        """A number of each of the n-grams (N,) of an order; of -1 any."""
        values, codes = self._arrays[f"{name}_values{size}"], self._arrays[f"{name}{size}"]
        found: Floats = values[codes[places]].astype(np.float64)
        return found

    def _find(self, keys: Array, contexts: Ints, words: Ints) -> Ints:
        """The places (N,) of n-grams, -1 where there is no such context or no such n-gram."""
        wanted = (np.maximum(contexts, 0) * len(self.words) + words).astype(keys.dtype)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((contexts >= 0) & (keys[place] == wanted), place, -1)


def is_ngram_table(path: Path) -> bool:
    """Whether a file begins as those of `write_ngrams` do."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _mapped(path: Path) -> Mapping[str, Array]:
    """The arrays of a file by their names."""
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        listed, place = json.loads(file.readline()), file.tell()
    whole = np.memmap(path, np.uint8, "r")
    arrays = {}
    for name, kind, length in listed:
        place += -place % ALIGN
        end = place + length * np.dtype(kind).itemsize
        arrays[name] = np.asarray(whole[place:end]).view(kind)
        if len(arrays[name]) != length:
            raise ValueError("it ends too early")
        place = end
    return arrays
