"""Punctuation as a task of `AutoModel`: texts become texts with marks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from paraformer.data.inputs import given_keys
from paraformer.data.items import at_hand
from paraformer.data.tables import read_table
from paraformer.decode.itn import shared_numerals
from paraformer.decode.punctuate import PunctuationState, Punctuator
from paraformer.errors import ConfigError, ParaformerError
from paraformer.options import CallOptions
from paraformer.output import Output, Results, Tables
from paraformer.results import WRITTEN, Result
from paraformer.tasks import no_digits, progress

TEXT_LISTS = (".txt", ".text", ".scp")


class PunctuationTask:
    """Texts with marks."""

    def __init__(self, punctuator: Punctuator) -> None:
        self.punctuator, self.device = punctuator, punctuator.device

    def stream(self, source: Any, call: CallOptions, cut: bool) -> Results:
        """See `Task`: a text, a list of texts, or a file of lines `id text`."""
        texts = list_texts(source, call.key)
        output = Output(call, len(texts), Tables())
        pending = output.pending((text[0], at_hand(text)) for text in texts)
        return output.stream(self._marked(pending, output.left, call))

    def _marked(
        self, texts: Iterator[tuple[str, str]], total: int, call: CallOptions
    ) -> Iterator[Result]:
        numerals = shared_numerals() if call.itn else None
        for key, text in progress(texts, total, call):
            try:
                found = self.punctuator.punctuate(text)
            except ParaformerError as error:
                yield {"key": key, "text": "", "punc_array": [], "error": str(error)}
                continue
            shown = found.text if numerals is None else numerals.rewrite(found.text)
            result: Result = {"key": key, "text": shown, "punc_array": found.punc_array}
            yield {**result, WRITTEN: [(shown, [])]}

    def feed(self, source: Any, call: CallOptions) -> Result:
        """See `Task`."""
        no_digits(call)
        ((key, text),) = list_texts(source, call.key)
        state: PunctuationState = call.cache.get("state") or PunctuationState()
        marked, state = self.punctuator.punctuate_chunk(text, state)
        if call.is_final:
            marked += self.punctuator.finish(state)
        call.cache.clear()
        if not call.is_final:
            call.cache["state"] = state
        return {"key": key, "text": marked}


def list_texts(source: Any, key: Any = "") -> list[tuple[str, str]]:
    """Keys and texts of an input of a punctuation model: a text, texts, or a file `id text`.

    A `Path` is a file, and so is a string that ends as one and either is there or has no blanks, or
    that names a file in a folder.
    """
    if isinstance(source, Path) or (isinstance(source, str) and _names_file(source)):
        return list(read_table(source).items())
    texts = [source] if isinstance(source, str) or not _has_entries(source) else list(source)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("input: is no text; give a text, a list of texts or a file `id text`")
    keys = given_keys(key, len(texts))
    if keys is None:
        keys = [f"text_{n}" if len(texts) > 1 else "text" for n in range(1, len(texts) + 1)]
    return list(zip(keys, texts, strict=True))


def _names_file(source: str) -> bool:
    if source.endswith(TEXT_LISTS):
        return len(source.split()) == 1 or os.path.isfile(source)
    return bool(os.path.dirname(source)) and os.path.isfile(source)


def _has_entries(source: object) -> bool:
    return isinstance(source, Iterable) and not isinstance(source, Mapping)
