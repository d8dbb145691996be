"""Recognise speech: audio files, lists or folders in, text out.

  funasr meeting.wav               # by a small model; for real speech: +model=paraformer-zh
  funasr a.wav b.wav --model path/to/model_dir --output-format json
  funasr +model=path/to/model_dir +input=data/test/wav.scp +output_dir=exp/decode
  funasr +model=path/to/fa-zh +input='[a.wav,text.txt]' +data_type='[sound,text]'
  funasr doctor                    # versions, device, extras, models; whether recognition works
  funasr doctor +model=NAME        # its directory, revision, and the SHA-256 of its weights
  funasr serve                     # websocket and HTTP, see funasr serve --help
  funasr export +model=NAME +out=DIR   # ONNX graphs, see funasr export --help
  funasr merge                     # one folder of the results of shards, see funasr merge --help
  funasr client ws://HOST:PORT x.wav    # recognise by a server, see funasr client --help
  funasr completion bash           # or zsh, fish: a script that completes these options

key=value, +key=value, ++key=value, --key=value and --key value are equal, and a value means itself.
One recording prints its text, a list or several files a line `key text` each (blanks in a key
become `_`), output_format=json an object a line. Subtitles (srt, vtt, lrc, tsv) and textgrid are
files in output_dir, or on stdout if there is one input; ctm, stm and rttm are a table, sorted as
sclite wants it. Of segments these are files and times of whole recordings. Results go to stdout,
all else to stderr. A command (`id sox x.mp3 -t wav - |`) runs only from a list of lines.
Exit code 1 if the only input fails, or less than min_success of a list; 130 after Ctrl-C and 143
after SIGTERM: what is finished is in output_dir, and the same command with resume=true does the
rest, what has failed included. Finished texts are not printed again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType

from paraformer import __version__
from paraformer import options as opts
from paraformer.cli import ends
from paraformer.cli.command_line import (
    KNOWN,
    SHORT,
    Arguments,
    help_text,
    parse,
    type_config,
    type_known,
)
from paraformer.errors import ConfigError

# Commands beside recognition, and their arguments.
COMMANDS = {
    "doctor": "[+model=NAME ...]",
    "completion": "bash|zsh|fish",
    "serve": "[+model=NAME +port=10095 ...]",
    "export": "+model=NAME +out=DIR [+layout=both +dtype=fp32 ...]",
    "merge": "+input=LIST +output_dir=FOLDER",
    "client": "ws://HOST:PORT x.wav [+connections=4 ...]",
}
WITH_HELP = ("serve", "client", "export", "merge")
WITH_INPUT = ("client", "merge")


def main(argv: Sequence[str] | None = None) -> int:
    """The `funasr` command; returns its exit code."""

    def work() -> int:
        with ends.sigterm_as_ctrl_c():
            return _main(sys.argv[1:] if argv is None else list(argv))

    try:
        return ends.run(work, _say)
    except ImportError as error:
        if str(error.name).startswith("paraformer"):
            raise
        _say(f"{' '.join(str(error).split())}; `funasr doctor` says what is missing here")
        return 1


def _main(argv: list[str]) -> int:
    options = argv[: argv.index("--")] if "--" in argv else argv
    if {"--help", "-h"} & set(options):
        print(_help(options))
        return 0
    if "--version" in options:
        print(f"funasr (paraformer-toolkit) {__version__}")
        return 0
    if argv and argv[0] in COMMANDS and not os.path.lexists(argv[0]):
        return _command(argv[0], argv[1:])
    return _recognise(parse(argv))


def _help(options: Sequence[str]) -> str:
    if options[0] in WITH_HELP:
        return _module(options[0]).help_text()
    return help_text(__doc__ or "")


def _module(name: str) -> ModuleType:
    from paraformer.cli import client, completion, doctor, export, merge, serve

    found: tuple[ModuleType, ...] = (client, completion, doctor, export, merge, serve)
    return {module.__name__.rpartition(".")[2]: module for module in found}[name]


def _command(name: str, arguments: Sequence[str]) -> int:
    """Each is a module of its own, which does without torch if it can."""
    if name == "completion" and len(arguments) == 1:
        own = {command: _module(command).KEYS for command in WITH_HELP}
        print(_module(name).completion(arguments[0], KNOWN, SHORT, COMMANDS, own))
        return 0
    given = parse(arguments)
    if name != "completion" and (name in WITH_INPUT or not given.inputs):
        return _module(name).main(given)
    raise ConfigError(f"{name}: write `funasr {name} {COMMANDS[name]}`")


def _recognise(arguments: Arguments) -> int:
    """Everything that the command line alone tells is refused before torch is loaded."""
    opts.refuse_not_built({k: v for k, v in arguments.values.items() if not _is_off(v)})
    settings, rest = type_known(arguments.values)
    own = [key for key in settings if key in opts.names(opts.CommandOptions)]
    command = opts.CommandOptions(**{key: settings.pop(key) for key in own})
    if not arguments.inputs:
        for key in rest:
            if opts.nearest(key, KNOWN) == "input":
                raise opts.unknown_key(key, KNOWN, "funasr")
        raise ConfigError("no input; give audio files, a list or a folder, see funasr --help")
    from paraformer.cli.recognition import begin_log, recognise

    begin_log(command.verbose, bool(settings.get("disable_log") or settings.get("log_level")))
    if not settings.get("disable_log"):
        opts.remark_language(arguments.values)
    settings.update(type_config(rest, command.model, settings))
    return recognise(arguments.inputs, command, settings, "model" in own)


def _is_off(value: str) -> bool:
    return value.lower() in ("", "null", "none", "false")


def _say(message: str) -> None:
    print("funasr:", message.removeprefix("funasr: "), file=sys.stderr)
