"""Punctuation as a task of `AutoModel`: texts become texts with marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from paraformer.api.tasks import Task, no_digits, progress
from paraformer.data.corpus.texts import read_texts
from paraformer.data.inputs.names import names_file
from paraformer.data.inputs.sources import Item, ListedItems, given_keys
from paraformer.decode.itn import shared_numerals
from paraformer.decode.punctuate import PunctuationState, Punctuator
from paraformer.errors import ConfigError, ParaformerError
from paraformer.models.kinds import marks_streams
from paraformer.options import CallOptions
from paraformer.output.result import Result, text_result
from paraformer.output.tables import TEXT, Layout


class PunctuationTask(Task):
    """Texts with marks; the input is a text, a list of texts, or a file of them."""

    def __init__(self, punctuator: Punctuator) -> None:
        self.punctuator, self.device = punctuator, punctuator.device
        self.release = punctuator.engine.release

    def inputs(self, source: Any, call: CallOptions) -> ListedItems:
        """See `Task`."""
        return ListedItems(Item(key, None, text=text) for key, text in list_texts(source, call.key))

    def streams(self, cut: bool) -> bool:
        """See `Task`."""
        return marks_streams(self.release.config)

    def layout(self, call: CallOptions, cut: bool) -> Layout:
        """See `Task`."""
        return TEXT

    def silence(self, call: CallOptions, cut: bool) -> Result:
        """See `Task`."""
        return Result(text="", punc_array=[])

    def results(
        self, items: Iterator[Item], total: int, call: CallOptions, cut: bool
    ) -> Iterator[Result]:
        """See `Task`."""
        rewrite = shared_numerals().rewrite if call.itn else str
        for item in progress(items, total, call):
            try:
                found = self.punctuator.punctuate(str(item.text), call.split_size)
            except ParaformerError as error:
                yield self.silence(call, cut).failed(item, error)
                continue
            yield text_result(item, rewrite(found.text), found.punc_array)

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
        return Result(key, text=marked)


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
