"""Punctuation as a task of `AutoModel`: texts become texts with marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from paraformer.api.tasks import no_digits, progress
from paraformer.data.corpus.texts import read_texts
from paraformer.data.inputs.audio_items import at_hand
from paraformer.data.inputs.names import names_file
from paraformer.data.inputs.sources import given_keys
from paraformer.decode.itn import shared_numerals
from paraformer.decode.punctuate import PunctuationState, Punctuator
from paraformer.errors import ConfigError, ParaformerError
from paraformer.options import CallOptions
from paraformer.output.result import WRITTEN, Result
from paraformer.output.resume import Made
from paraformer.output.sink import Output, Results, Tables


class PunctuationTask:
    """Texts with marks."""

    def __init__(self, punctuator: Punctuator) -> None:
        self.punctuator, self.device = punctuator, punctuator.device

    def stream(
        self, source: Any, call: CallOptions, cut: bool, made: Made | None = None
    ) -> Results:
        """See `Task`: a text, a list of texts, or a file of them."""
        texts = list_texts(source, call.key)
        output = Output(call, len(texts), Tables(), made=made)
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
        texts = list_texts(source, call.key)
        if len(texts) != 1:
            raise ConfigError("cache: give one piece of one text a call")
        ((key, text),) = texts
        state: PunctuationState = call.cache.get("state") or PunctuationState()
        marked, state = self.punctuator.punctuate_chunk(text, state)
        if call.is_final:
            marked += self.punctuator.finish(state)
        call.cache.clear()
        if not call.is_final:
            call.cache["state"] = state
        return {"key": key, "text": marked}


def list_texts(source: Any, key: Any = "") -> list[tuple[str, str]]:
    """Keys and texts of an input of a punctuation model: a text, texts, or a file of them (see
    `names_file`), plain or a table `id text` (see `read_texts`).
    """
    if names_file(source):
        return list(read_texts(source).table.items())
    texts = [source] if isinstance(source, str) or not _has_entries(source) else list(source)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("input: is no text; give a text, a list of texts or a file of texts")
    texts = [text.rstrip("\r\n") for text in texts]  # as an open file gives them
    keys = given_keys(key, len(texts))
    if keys is None:
        keys = [f"text_{n}" if len(texts) > 1 else "text" for n in range(1, len(texts) + 1)]
    return list(zip(keys, texts, strict=True))


def _has_entries(source: object) -> bool:
    return isinstance(source, Iterable) and not isinstance(source, Mapping)
