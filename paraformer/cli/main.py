"""Recognise speech: audio files, lists or folders in, text out.

  funasr meeting.wav
  funasr a.wav b.wav --model path/to/model_dir --output-format json
  funasr +model=path/to/model_dir +input=data/test/wav.scp +output_dir=exp/decode
  funasr +model=path/to/fa-zh +input='[a.wav,text.txt]' +data_type='[sound,text]'
  funasr doctor                    # versions, device, extras, models; whether recognition works
  funasr doctor +model=NAME        # its directory, revision, and the SHA-256 of its weights
  funasr completion bash           # or zsh, fish: a script that completes these options

key=value, +key=value, ++key=value, --key=value and --key value are equal, and a value means itself.
One recording prints its text, a list or several files a line `key text` each (blanks in a key
become `_`), output_format=json an object a line. Subtitles (srt, vtt, lrc, tsv) and textgrid are
files in output_dir, or on stdout if there is one input; ctm and stm are a table, sorted as sclite
wants it. Of segments these are files and times of whole recordings. Results go to stdout, all else
to stderr. A command (`id sox x.mp3 -t wav - |`) runs only from a list of lines.
Exit code 1 if the only input fails, or less than min_success of a list; 130 after Ctrl-C and 143
after SIGTERM: what is finished is in output_dir, and the same command with resume=true does the
rest, what has failed included. Finished texts are not printed again.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from paraformer import __version__
from paraformer import options as opts
from paraformer.cli import ends
from paraformer.cli.arguments import parse_override, typed
from paraformer.errors import CheckpointError, ConfigError, DataError, ParaformerError
from paraformer.progress import goes_on

if TYPE_CHECKING:
    from paraformer.api.auto import AutoModel

SHORT = {"m": "model", "H": "hub", "f": "output_format", "o": "output_dir", "l": "language"}
SHORT["v"] = "verbose"
ALIASES = {"format": "output_format", **opts.ALIASES}
KINDS = (opts.CommandOptions, opts.BuildOptions, opts.CallOptions)
KNOWN = opts.all_fields(*KINDS)
# Switches of the reference that need no value, besides those whose default is false.
SWITCHES = ("timestamps", "spk", "disable_update", "trust_remote_code", *opts.FORMAT_SWITCHES)
NESTED = ("vad_kwargs.", "punc_kwargs.")
COMMANDS = ("doctor", "completion")
HOME = ("~/", f"~{os.sep}")
# Loggers of what is said even where it is no warning.
TALKERS = ("paraformer.decode.hotwords", "paraformer.hub", "paraformer.data.inputs.sources")
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")


@dataclass
class Arguments:
    """The command line taken apart: inputs in order, and keys with their values as text."""

    inputs: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, value: str) -> None:
        """A later value of a key replaces an earlier one, but all inputs are wanted."""
        key = ALIASES.get(key, key)
        if key in (*opts.FILES, *opts.FOLDERS) and value.startswith(HOME):
            value = os.path.expanduser(value)  # which a shell does not do behind `+key=`
        if key == "input":
            self.inputs.append(value)
        else:
            self.values[key] = value


@dataclass
class Counts:
    """Of the utterances of a command; those of an earlier run are counted, but not their audio."""

    total: int = 0
    failures: int = 0
    seconds: float = 0.0

    def add(self, result: Mapping[str, Any]) -> None:
        """One more utterance."""
        self.total += 1
        self.failures += "error" in result
        self.seconds += result.get("audio_seconds", 0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """The `funasr` command; returns its exit code."""
    ends.begin()
    try:
        with _sigterm_as_ctrl_c():
            code = _main(sys.argv[1:] if argv is None else list(argv))
            ends.flush()
            return code
    except ParaformerError as error:
        print("funasr:", " ".join(str(error).split()).removeprefix("funasr: "), file=sys.stderr)
        return 1
    except ImportError as error:
        if str(error.name).startswith("paraformer"):
            raise
        message = " ".join(str(error).split())
        print(f"funasr: {message}; `funasr doctor` says what is missing here", file=sys.stderr)
        return 1
    except OSError as error:
        if message := ends.refusal(error):
            print(f"funasr: {message}", file=sys.stderr)
        return ends.CODE
    except KeyboardInterrupt as stop:
        print(f"funasr: {str(stop) or 'stopped'}", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops the command as Ctrl-C does."""


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Only where signals can be caught, in the main thread."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _main(argv: list[str]) -> int:
    options = argv[: argv.index("--")] if "--" in argv else argv
    if {"--help", "-h"} & set(options):
        print(help_text())
        return 0
    if "--version" in options:
        print(f"funasr (paraformer-toolkit) {__version__}")
        return 0
    if argv and argv[0] in COMMANDS and not os.path.lexists(argv[0]):
        return _command(argv[0], argv[1:])
    arguments = parse(argv)
    opts.refuse_not_built({k: v for k, v in arguments.values.items() if not _is_off(v)})
    settings, rest = type_known(arguments.values)
    command = opts.CommandOptions(**{k: settings.pop(k) for k in _command_keys(settings)})
    if not arguments.inputs:
        for key in rest:
            if opts.nearest(key, KNOWN) == "input":
                raise opts.unknown_key(key, KNOWN, "funasr")
        raise ConfigError("no input; give audio files, a list or a folder, see funasr --help")
    level = logging.INFO if command.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)
    # Said unless silence is asked for: hotwords that are heard, downloads, files passed over.
    quiet = settings.get("disable_log") or settings.get("log_level")
    for name in TALKERS:
        logging.getLogger(name).setLevel(logging.NOTSET if quiet else logging.INFO)
    settings.update(type_config(rest, command.model, settings))
    return recognise(arguments.inputs, command, settings)


def _command(name: str, arguments: Sequence[str]) -> int:
    """What is no recognition: each is a module of its own, which does without torch if it can."""
    if name == "completion" and len(arguments) == 1:
        from paraformer.cli.completion import completion

        print(completion(arguments[0], KNOWN, SHORT, COMMANDS))
        return 0
    if name == "doctor" and not (given := parse(arguments)).inputs:
        from paraformer.cli import doctor

        return doctor.main(given.values)
    forms = {"completion": "bash|zsh|fish", "doctor": "[+model=NAME ...]"}
    raise ConfigError(f"{name}: write `funasr {name} {forms[name]}`")


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
        if key in KNOWN or key in opts.FORMAT_SWITCHES:
            default = KNOWN[key].default if key in KNOWN else False
            # The optional ones are numbers.
            settings[key] = typed(value, 0 if default is None else default, key)
        elif key.startswith(NESTED):
            part, _, name = key.partition(".")
            settings.setdefault(part, {})[name] = typed(value, None, key)
        elif key not in (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT):
            rest[key] = value
    return opts.one_format(settings), rest


def type_config(
    values: Mapping[str, str], model: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Keys of the model's config.yaml as nested dicts, each typed by the value it replaces."""
    if not values:
        return {}
    from paraformer.hub.directories import find_model

    hub, revision = settings.get("hub", "ms"), settings.get("model_revision")
    try:
        known = _config_keys(find_model(model, hub, revision, offline=True))
    except CheckpointError:
        key = next(iter(values))
        if opts.nearest(key, KNOWN):  # before anything is fetched
            raise opts.unknown_key(key, KNOWN, "funasr") from None
        offline = bool(settings.get("offline"))
        known = _config_keys(find_model(model, hub, revision, offline=offline))
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


def _config_keys(directory: Path) -> dict[str, Any]:
    """Keys of a model's config.yaml, nested ones with dots, and their values."""
    from paraformer.api.auto import flatten
    from paraformer.models.release import override_keys, read_config

    return flatten(override_keys(read_config(directory, {})))


def recognise(inputs: list[str], command: opts.CommandOptions, settings: dict[str, Any]) -> int:
    """Print a result for each input as it comes; the exit code says whether enough succeeded."""
    from paraformer.api.auto import AutoModel
    from paraformer.api.streaming import with_head
    from paraformer.data.inputs.sources import is_single

    output_format = str(settings.get("output_format", "text"))
    pair = _is_pair(inputs, command, settings)
    if pair and len(inputs) == 1:
        inputs = [part.strip(" '\"") for part in inputs[0].strip("[]()").split(",", 1)]
    alone = len(inputs) == (2 if pair else 1) and is_single(inputs[0])
    alone = alone and settings.get("channel") != "split"
    if settings.get("output_dir") and "-" not in inputs:
        settings["resume"] = goes_on(settings["output_dir"], settings.get("resume", False))
    _check_output(output_format, alone, bool(settings.get("output_dir")))
    shared = command.nj > 1 and not alone
    stdin = with_head(cast(BufferedReader, sys.stdin.buffer)) if "-" in inputs else None
    if shared or (settings.get("resume") and not alone and not pair):
        return _recognise_list(inputs, command, settings, stdin)
    model = AutoModel(command.model, **settings)
    if alone and model.streaming and output_format == "text":
        blocks = _live_blocks(inputs[0], model, settings, stdin)
        if blocks is not None:
            live = any(settings.get(name) for name in ("vad_model", "punc_model", "second_pass"))
            return _show_finals(model, blocks) if live else _show_growing(model, blocks)
    return _recognise_list(inputs, command, settings, stdin, model, alone)


def _is_pair(inputs: list[str], command: opts.CommandOptions, settings: dict[str, Any]) -> bool:
    """Whether the inputs are recordings and their texts: as data_type says, or else, if they are
    two, as an aligner takes them.
    """
    if settings.get("data_type") is not None or len(inputs) != 2:
        return len(opts.data_types(settings.get("data_type"))) == 2
    from paraformer.hub.directories import find_model
    from paraformer.models.kinds import ALIGNER, kind_of
    from paraformer.models.release import read_config

    place = settings.get("hub", "ms"), settings.get("model_revision")
    try:
        return kind_of(read_config(find_model(command.model, *place, offline=True), {})) is ALIGNER
    except CheckpointError:  # not here, or not sound, which is said where it is loaded
        return False


def _recognise_list(
    inputs: list[str],
    command: opts.CommandOptions,
    settings: dict[str, Any],
    stdin: BufferedReader | None,
    model: AutoModel | None = None,
    alone: bool = False,
) -> int:
    """The results of inputs by a model, or by processes that have one each."""
    from paraformer.cli.show import printing

    source: Any = [_source(name, stdin) for name in inputs]
    source = source[0] if len(source) == 1 else source
    begun = time.perf_counter()
    # On a terminal, results and a bar would stand in each other's way.
    shown = {"disable_pbar": True} if sys.stdout.isatty() else {}
    counts = Counts()
    try:
        if model is None and command.nj == 1:
            from paraformer.api.auto import stream_pending

            results = stream_pending(source, command.model, {**settings, **shown})
        elif model is None:
            from paraformer.api.workers import stream_shared

            levels = {name: logging.getLogger(name).level for name in ("", *TALKERS)}
            results = stream_shared(
                source, command.nj, command.model, {**settings, **shown}, levels
            )
        else:
            results = model.stream(source, **shown)
        with closing(results), printing(results.origins, settings, alone) as show:
            for result in results:
                counts.add(result)
                if "error" in result and command.strict:
                    raise DataError(f"stopped at '{result['key']}', as strict=true asks")
                show(result)
        counts.total += results.skipped
    except KeyboardInterrupt as stop:
        folder = settings.get("output_dir")
        kept = f"; what is finished is in {folder}, +resume=true goes on" if folder else ""
        raise type(stop)(f"stopped{kept}") from None
    _report(counts, time.perf_counter() - begun, command.verbose)
    if alone:
        return 1 if counts.failures else 0
    done = counts.total - counts.failures
    return 0 if done and done >= command.min_success * counts.total else 1


def _check_output(output_format: str, alone: bool, has_folder: bool) -> None:
    """Refuse a format that is not known, or whose files have no place, before any work is done."""
    from paraformer.output.tables import TIMED_FILES, check_format
    from paraformer.output.timed_formats import check_extra

    check_format(output_format)
    check_extra(output_format)
    if output_format in TIMED_FILES and not alone and not has_folder:
        raise ConfigError(
            f"output_format={output_format}: is a file for each recording; give output_dir=FOLDER"
        )


def _live_blocks(
    name: str, model: AutoModel, settings: Mapping[str, Any], stdin: BufferedReader | None
) -> Iterable[Any] | None:
    """The samples of the microphone behind stdin, or of a file whose text somebody watches; None
    where results are to be lines.
    """
    from paraformer.api.streaming import is_audio_file, raw_blocks, refuse_no_audio
    from paraformer.data.audio.channels import MIX, check_channel
    from paraformer.data.audio.read import read_audio

    frontend = model.recognizer.release.frontend
    if name == "-" and settings.get("resume"):
        raise ConfigError("resume: a stream from stdin is not heard twice; leave it out")
    if stdin and not settings.get("output_dir") and not is_audio_file(stdin):
        refuse_no_audio(stdin.peek())
        if settings.get("fs") not in (None, frontend.fs):
            raise ConfigError(f"fs={settings['fs']}: raw samples must have {frontend.fs} Hz")
        return raw_blocks(stdin, frontend.fs // 10)
    lines = not sys.stdout.isatty() or settings.get("output_dir") or settings.get("itn")
    if name == "-" or lines:
        return None
    channel = check_channel(settings.get("channel", MIX))
    wave = read_audio(name, fs=settings.get("fs"), target_fs=frontend.fs, channel=channel)
    return wave.split(frontend.fs // 10)


def _show_growing(model: AutoModel, blocks: Iterable[Any]) -> int:
    """Print the text of a stream as it grows."""
    from paraformer.api.streaming import growing_text

    for part in growing_text(model.streamer(), blocks):
        print(part, end="", flush=True)
    print()
    return 0


def _show_finals(model: AutoModel, blocks: Iterable[Any]) -> int:
    """Print the text of each segment of a stream as soon as it has ended."""
    from paraformer.api.live import FINAL

    for event in model.live().events(blocks):
        if event.kind == FINAL and event.text:
            print(event.text, flush=True)
    return 0


def _source(name: str, stdin: BufferedReader | None) -> str | bytes | Path:
    if name != "-" or stdin is None:
        # Such as Kaldi's `text`, which could be a text itself.
        bare = not os.path.splitext(name)[1] and os.path.isfile(name)
        return Path(name) if bare else name
    from paraformer.api.streaming import refuse_no_audio

    content = stdin.read()
    refuse_no_audio(content)
    return content


def _report(counts: Counts, elapsed: float, verbose: bool) -> None:
    if not verbose and (counts.failures == 0 or counts.total == 1):
        return
    line = f"recognised {counts.total - counts.failures} of {counts.total} utterances"
    if verbose and counts.seconds:
        factor = elapsed / counts.seconds
        line += f", {counts.seconds:.1f} s of audio in {elapsed:.2f} s: "
        line += f"real-time factor {factor:.3f}"
    print(line, file=sys.stderr)


def _command_keys(settings: Iterable[str]) -> list[str]:
    return [key for key in settings if key in opts.names(opts.CommandOptions)]


def _is_off(value: str) -> bool:
    return value.lower() in ("", "null", "none", "false")


def as_typed(default: object) -> str:
    """A default as it would be typed.

    >>> [as_typed(x) for x in (None, True, [0, 10, 5], {}, 0.5)]
    ['', 'true', '[0,10,5]', '', '0.5']
    """
    if default is None or default == {}:
        return ""
    text = str(default).replace(" ", "")
    return text.lower() if isinstance(default, bool) else text


def help_text() -> str:
    """What `funasr --help` prints: every key with its default."""
    lines = [(__doc__ or "").strip()]
    titles = ("command", "model", "each call")
    for title, kind in zip(titles, KINDS, strict=True):
        lines.append(f"\n{title}:")
        for name, option in opts.all_fields(kind).items():
            shown = as_typed(opts.default_of(option))
            lines.append(f"  {name + '=' + shown:<30} {option.metadata['help']}")
    shorts = ", ".join(f"-{short} {name}" for short, name in SHORT.items() if name in KNOWN)
    lines.append(
        f"\nKeys of the model's config.yaml may follow too (frontend_conf.dither=0).\n{shorts}"
    )
    return "\n".join(lines)
