"""Recognise by a server: recordings go to `funasr serve` or FunASR's server, text comes back.

  funasr client ws://127.0.0.1:10095 a.wav
  funasr client wss://speech.example.org data/test/wav.scp +connections=16 +output_dir=exp/decode
  funasr client ws://127.0.0.1:10095 a.wav +mode=2pass        # as a stream, without its pace

Inputs, results and exit codes are those of `funasr`: one recording prints its text, a list a line
each, in order; exit code 1 if the only input fails, or less than min_success of a list. Sound is
read here and sent as samples, so a server sees no path. The token is `+token=`, or $FUNASR_TOKEN.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from paraformer import options as opts
from paraformer.cli.arguments import typed
from paraformer.cli.command_line import KNOWN, Arguments, help_line
from paraformer.errors import ConfigError, ParaformerError

if TYPE_CHECKING:
    from torch import Tensor

    from paraformer.data.inputs.sources import Item
    from paraformer.output.result import Result
    from paraformer.server.client import Client, Heard

OWN = opts.all_fields(opts.ClientOptions)
# Keys of `funasr` that say which recordings there are, what is wanted of them, and where it goes.
TAKEN = (
    *("min_success", "strict", "verbose", "key", "fs", "channel", "segments", "itn", "hotword"),
    *("output_dir", "resume", "shard", "output_format", "max_line_chars", "max_line_s"),
)
KEYS = {**OWN, **{key: KNOWN[key] for key in TAKEN}}
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
MODES = ("offline", "2pass", "online")


def main(arguments: Arguments) -> int:
    """Print the results; returns the exit code."""
    url, inputs = _address(arguments.inputs)
    settings = _typed(arguments.values)
    given = {key: settings.pop(key) for key in [*settings] if key in OWN}
    options = opts.ClientOptions(**given)
    own = [key for key in settings if key in opts.names(opts.CommandOptions)]
    command = opts.CommandOptions(**{key: settings.pop(key) for key in own})
    if options.mode not in MODES:
        raise ConfigError(f"mode={options.mode}: not known; use {', '.join(MODES)}")
    return _recognise(url, inputs, options, command, settings)


def help_text() -> str:
    """The text of `funasr client --help`."""
    return "\n".join([(__doc__ or "").strip(), "", *map(help_line, KEYS.values())])


def _address(inputs: Sequence[str]) -> tuple[str, list[str]]:
    """The address of the server, and what is to be recognised."""
    if not inputs or inputs[0].partition("://")[0] not in SCHEMES:
        raise ConfigError("client: name the server first: funasr client ws://127.0.0.1:10095 x.wav")
    if len(inputs) == 1:
        raise ConfigError("no input; give audio files, a list or a folder behind the address")
    scheme, _, place = inputs[0].partition("://")
    return f"{SCHEMES[scheme]}://{place}", list(inputs[1:])


def _typed(values: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        if key in KNOWN and key not in KEYS:
            raise ConfigError(f"client: {key} is of the server; give it to funasr serve")
        if key not in KEYS:
            raise opts.unknown_key(key, KEYS, "client", "funasr client")
        default = opts.default_of(KEYS[key])
        found[key] = typed(value, 0 if default is None else default, key)
    return found


def _recognise(
    url: str,
    inputs: list[str],
    options: opts.ClientOptions,
    command: opts.CommandOptions,
    settings: dict[str, Any],
) -> int:
    from paraformer.api.tasks import stream_items
    from paraformer.cli.recognition import begin_log, check_output, print_results
    from paraformer.data.inputs.sources import Inputs, is_single
    from paraformer.output.tables import TEXT
    from paraformer.progress import goes_on
    from paraformer.shard import place_of

    begin_log(command.verbose, False)
    alone = len(inputs) == 1 and is_single(inputs[0]) and settings.get("channel") != "split"
    folder = place_of(settings.get("output_dir", ""), settings.get("shard"))
    if folder:
        settings["resume"] = goes_on(folder, settings.get("resume", False))
    check_output(str(settings.get("output_format", "text")), alone, bool(folder))
    call = opts.CallOptions(**settings)
    asker = _Asker(url, options, call, settings)

    def results() -> Any:
        source = inputs[0] if len(inputs) == 1 else inputs
        listed = Inputs(source, call.key, call.segments, call.channel)
        return stream_items(listed, call, TEXT, asker.results, None)

    return print_results(results, command, settings, alone)


class _Asker:
    """Many connections to one server, over which items become results in their order."""

    def __init__(
        self,
        url: str,
        options: opts.ClientOptions,
        call: opts.CallOptions,
        settings: Mapping[str, Any],
    ) -> None:
        self.url, self.options, self.call = url, options, call
        self.start: dict[str, Any] = {"mode": options.mode, "chunk_size": [5, 10, 5]}
        if "itn" in settings:
            self.start["itn"] = call.itn
        if words := _hotwords(call.hotword):
            self.start["hotwords"] = json.dumps(words, ensure_ascii=False)

    def results(self, items: Iterator[Item], total: int) -> Iterator[Result]:
        """A result for each item; total: about how many there are."""
        from paraformer.data.inputs.sources import Cache
        from paraformer.server.client import RATE, Client

        count = max(1, min(self.options.connections, total))
        clients = [Client(self.url, self.options) for _ in range(count)]
        clients[0].connected()  # else nothing is of use
        idle, cache = deque(clients), Cache()
        asked = deque[tuple["Item", "Tensor | None", "Future[Heard]"]]()
        pool = ThreadPoolExecutor(count, "connection")
        try:
            for item in items:
                if len(asked) >= 2 * count:
                    yield self._result(*asked.popleft())
                try:
                    wave = item.read(self.call.fs, RATE, cache)
                except ParaformerError as error:
                    future = Future["Heard"]()
                    future.set_exception(error)
                    asked.append((item, None, future))
                    continue
                asked.append((item, wave, pool.submit(self._ask, idle, wave)))
            while asked:
                yield self._result(*asked.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for client in clients:
                client.close()
            pool.shutdown()

    def _ask(self, idle: deque[Client], wave: Tensor) -> Heard:
        client = idle.popleft()
        try:
            return client.recognise(wave, self.start)
        finally:
            idle.append(client)

    def _result(self, item: Item, wave: Tensor | None, future: Future[Heard]) -> Result:
        from paraformer.decode.text import join_texts
        from paraformer.output.result import Result
        from paraformer.server.client import RATE

        seconds = 0.0 if wave is None else len(wave) / RATE
        found: dict[str, Any] = {"text": "", "audio_seconds": round(seconds, 3)}
        try:
            heard = future.result()
        except ParaformerError as error:
            return Result.of(item, **found, error=str(error), seconds=seconds)
        online = self.options.mode == "online"
        found["text"] = "".join(heard.texts) if online else join_texts(heard.texts)
        if heard.words is not None:
            found["tokens"] = [word["text"] for word in heard.words]
            found["timestamp"] = [[word["start"], word["end"]] for word in heard.words]
            found["words"] = heard.words
        elif heard.times is not None:
            found["timestamp"] = heard.times
        return Result.of(item, **found, seconds=seconds, rows=[{"text": found["text"]}])


def _hotwords(given: object) -> dict[str, float]:
    """The words of a list, a file or an address, with their weights."""
    from paraformer.decode.hotwords import held_hotwords, is_given

    if not is_given(given):
        return {}
    held = held_hotwords(given)
    return {entry.text: entry.weight for entry in held}  # type: ignore[attr-defined]
