"""Recognise speech: audio files, lists or folders in, text out.

  funasr meeting.wav
  funasr a.wav b.wav --model path/to/model_dir --output-format json
  funasr +model=path/to/model_dir +input=data/test/wav.scp +output_dir=exp/decode

key=value, +key=value, ++key=value, --key=value and --key value are equal, and a value means itself.
One recording prints its text, a list or several files a line `key text` each (blanks in a key
become `_`), output_format=json an object a line. Results go to stdout, all else to stderr. Exit
code 1 if the only input fails, or less than min_success of a list.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from typing import TYPE_CHECKING, Any, cast

from paraformer import __version__
from paraformer import options as opts
from paraformer.errors import CheckpointError, ConfigError, DataError, ParaformerError
from paraformer.limits import check_fields
from paraformer.programs.overrides import parse_override, typed

if TYPE_CHECKING:
    from paraformer.auto import AutoModel

SHORT = {"m": "model", "H": "hub", "f": "output_format", "o": "output_dir", "l": "language"}
SHORT["v"] = "verbose"
ALIASES = {"model_hub": "hub", "format": "output_format"}
KINDS = (opts.CommandOptions, opts.BuildOptions, opts.CallOptions)
KNOWN = opts.all_fields(*KINDS)
# Switches of the reference that need no value, besides those whose default is false.
SWITCHES = ("timestamps", "spk", "disable_update", "trust_remote_code")
NESTED = ("vad_kwargs.", "punc_kwargs.")
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")


@dataclass
class Arguments:
    """The command line taken apart: inputs in order, and keys with their values as text."""

    inputs: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, value: str) -> None:
        """A later value of a key replaces an earlier one, but all inputs are wanted."""
        key = ALIASES.get(key, key)
        if key == "input":
            self.inputs.append(value)
        else:
            self.values[key] = value


def main(argv: Sequence[str] | None = None) -> int:
    """The `funasr` command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return _main(sys.argv[1:] if argv is None else list(argv))
    except ParaformerError as error:
        message = " ".join(str(error).split()).removeprefix("funasr: ")
        print(f"funasr: {message}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `… | head` has read enough; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _main(argv: list[str]) -> int:
    options = argv[: argv.index("--")] if "--" in argv else argv
    if {"--help", "-h"} & set(options):
        print(help_text())
        return 0
    if "--version" in options:
        print(f"funasr (paraformer-toolkit) {__version__}")
        return 0
    arguments = parse(argv)
    opts.refuse_not_built({k: v for k, v in arguments.values.items() if not _is_off(v)})
    settings, rest = type_known(arguments.values)
    command = opts.CommandOptions(**{k: settings.pop(k) for k in _command_keys(settings)})
    check_fields(command)
    if not arguments.inputs:
        for key in rest:
            if opts.nearest(key, KNOWN) == "input":
                raise opts.unknown_key(key, KNOWN, "funasr")
        raise ConfigError("no input; give audio files, a list or a folder, see funasr --help")
    level = logging.INFO if command.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)
    settings.update(type_config(rest, command.model, str(settings.get("hub", "ms"))))
    return recognise(arguments.inputs, command, settings)


def parse(argv: Sequence[str]) -> Arguments:
    """Take a command line apart; an argument that is an existing path is a path.

    >>> parse(["+key=007", "--output-format", "json", "--verbose", "x y.wav"])
    Arguments(inputs=['x y.wav'], values={'key': '007', 'output_format': 'json', 'verbose': 'true'})
    """
    arguments = Arguments()
    waiting = list(reversed(argv))
    while waiting:
        argument = waiting.pop()
        override = parse_override(argument)
        if argument == "--":
            arguments.inputs += reversed(waiting)
            break
        if os.path.lexists(argument) or argument == "-":
            arguments.inputs.append(argument)
        elif override:
            arguments.add(override.key, override.value)
        elif argument.startswith("-"):
            _parse_dashed(argument, waiting, arguments)
        else:
            arguments.inputs.append(argument)
    return arguments


def _parse_dashed(argument: str, waiting: list[str], arguments: Arguments) -> None:
    """`--key value`, `--key=value`, `-m value`, or a switch without a value."""
    name, equals, value = argument.partition("=")
    key = name[2:].replace("-", "_") if name.startswith("--") else SHORT.get(name[1:], "")
    key = ALIASES.get(key, key)
    if not key:
        raise ConfigError(f"{name}: unknown option; `funasr --help` lists the known keys")
    if equals:
        arguments.add(key, value)
        return
    is_switch = key in SWITCHES or (key in KNOWN and KNOWN[key].default is False)
    if is_switch and not (waiting and waiting[-1].lower() in BOOLEANS):
        arguments.add(key, "true")
    elif waiting:
        arguments.add(key, waiting.pop())
    elif key in KNOWN:
        raise ConfigError(f"{name}: needs a value")
    else:
        raise opts.unknown_key(key, KNOWN, "funasr")


def type_known(values: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values of known parameters, typed by their defaults; and the rest, as it came.

    >>> type_known({"key": "007", "fs": "8000", "frontend_conf.dither": "0"})
    ({'key': '007', 'fs': 8000}, {'frontend_conf.dither': '0'})
    """
    settings: dict[str, Any] = {}
    rest: dict[str, str] = {}
    for key, value in values.items():
        if key in KNOWN:
            default = KNOWN[key].default
            # The optional ones are numbers.
            settings[key] = typed(value, 0 if default is None else default, key)
        elif key.startswith(NESTED):
            part, _, name = key.partition(".")
            settings.setdefault(part, {})[name] = typed(value, None, key)
        elif key not in (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT):
            rest[key] = value
    return settings, rest


def type_config(values: Mapping[str, str], model: str, hub: str) -> dict[str, Any]:
    """Keys of the model's config.yaml as nested dicts, each typed by the value it replaces."""
    if not values:
        return {}
    from paraformer.auto import flatten
    from paraformer.hub import find_model
    from paraformer.models.checkpoint import override_keys, read_config

    try:
        known = flatten(override_keys(read_config(find_model(model, hub), {})))
    except CheckpointError:
        key = next(iter(values))
        if opts.nearest(key, KNOWN):
            raise opts.unknown_key(key, KNOWN, "funasr") from None
        raise
    nested: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise opts.unknown_key(key, (*KNOWN, *known), "funasr")
        *parts, leaf = key.split(".")
        place = nested
        for part in parts:
            place = place.setdefault(part, {})
        place[leaf] = typed(value, known[key], key)
    return nested


def recognise(inputs: list[str], command: opts.CommandOptions, settings: dict[str, Any]) -> int:
    """Print a result for each input as it comes; the exit code says whether enough succeeded."""
    from paraformer.auto import AutoModel
    from paraformer.data.inputs import is_single
    from paraformer.formats import check_format, format_result
    from paraformer.tasks import shown_text

    check_format(command.output_format)
    alone = len(inputs) == 1 and is_single(inputs[0])
    if sys.stdout.isatty():
        settings["disable_pbar"] = True
    model = AutoModel(command.model, **settings)
    if alone and model.streaming and command.output_format == "text":
        blocks = _live_blocks(inputs[0], model, settings)
        if blocks is not None:
            live = any(settings.get(name) for name in ("vad_model", "punc_model", "second_pass"))
            return _show_finals(model, blocks) if live else _show_growing(model, blocks)
    source: Any = [_source(name) for name in inputs]
    begun = time.perf_counter()
    results = model.stream(source[0] if len(source) == 1 else source)
    total, failures, seconds = 0, 0, 0.0
    for result in results:
        total += 1
        seconds += result.get("audio_seconds", 0.0)
        if "error" in result:
            failures += 1
            if command.strict:
                raise DataError(f"stopped at '{result['key']}', as strict=true asks")
            if alone and command.output_format == "text":
                continue
        if command.output_format == "text" and "text" in result:
            result = {**result, "text": shown_text(result)}
        print(format_result(result, command.output_format, alone), flush=True)
    _report(total, failures, seconds, time.perf_counter() - begun, command.verbose)
    if alone:
        return 1 if failures else 0
    return 0 if total > failures and total - failures >= command.min_success * total else 1


def _live_blocks(name: str, model: AutoModel, settings: Mapping[str, Any]) -> Iterable[Any] | None:
    """The samples of the microphone behind stdin, or of a file whose text somebody watches; None
    where results are to be lines.
    """
    from paraformer.data.audio import read_audio
    from paraformer.online import is_audio_file, raw_blocks

    frontend = model.recognizer.release.frontend
    stdin = cast(BufferedReader, sys.stdin.buffer)
    if name == "-" and not is_audio_file(stdin):
        if settings.get("fs") not in (None, frontend.fs):
            raise ConfigError(f"fs={settings['fs']}: raw samples must have {frontend.fs} Hz")
        return raw_blocks(stdin, frontend.fs // 10)
    if name == "-" or not sys.stdout.isatty() or settings.get("output_dir"):
        return None
    wave = read_audio(name, fs=settings.get("fs"), target_fs=frontend.fs)
    return wave.split(frontend.fs // 10)


def _show_growing(model: AutoModel, blocks: Iterable[Any]) -> int:
    """Print the text of a stream as it grows."""
    from paraformer.online import growing_text

    for part in growing_text(model.streamer(), blocks):
        print(part, end="", flush=True)
    print()
    return 0


def _show_finals(model: AutoModel, blocks: Iterable[Any]) -> int:
    """Print the text of each segment of a stream as soon as it has ended."""
    from paraformer.live import FINAL

    for event in model.live().events(blocks):
        if event.kind == FINAL and event.text:
            print(event.text, flush=True)
    return 0


def _source(name: str) -> str | bytes:
    return sys.stdin.buffer.read() if name == "-" else name


def _report(total: int, failures: int, seconds: float, elapsed: float, verbose: bool) -> None:
    if not verbose and (failures == 0 or total == 1):
        return
    line = f"recognised {total - failures} of {total} utterances"
    if verbose and seconds:
        factor = elapsed / seconds
        line += f", {seconds:.1f} s of audio in {elapsed:.2f} s: real-time factor {factor:.3f}"
    print(line, file=sys.stderr)


def _command_keys(settings: Iterable[str]) -> list[str]:
    return [key for key in settings if key in opts.names(opts.CommandOptions)]


def _is_off(value: str) -> bool:
    return value.lower() in ("", "null", "none", "false")


def help_text() -> str:
    """What `funasr --help` prints: every key with its default."""
    lines = [(__doc__ or "").strip()]
    titles = ("command", "model", "each call")
    for title, kind in zip(titles, KINDS, strict=True):
        lines.append(f"\n{title}:")
        for name, option in opts.all_fields(kind).items():
            default = "" if option.default is None else str(option.default)
            shown = default.lower() if isinstance(option.default, bool) else default
            lines.append(f"  {name + '=' + shown:<30} {option.metadata['help']}")
    shorts = ", ".join(f"-{short} {name}" for short, name in SHORT.items() if name in KNOWN)
    lines.append(
        f"\nKeys of the model's config.yaml may follow too (frontend_conf.dither=0).\n{shorts}"
    )
    return "\n".join(lines)
