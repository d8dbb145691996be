"""Serve recognition: websocket as FunASR's servers do, HTTP as OpenAI does.

  funasr serve                                        # the bundled models, this machine alone
  funasr serve +model=paraformer-zh-streaming +second_pass=paraformer-zh +vad_model=fsmn-vad
  funasr serve +host=0.0.0.0 +port=443 +token=SECRET +certfile=cert.pem +keyfile=key.pem

All doors are behind one port: FunASR's protocol at ws://HOST:PORT on any path, OpenAI's at
/v1/audio/transcriptions and /v1/models, /health, /ready and /metrics. SIGTERM lets what is open
end, for drain_s seconds at most. All keys of `funasr` that belong to a model or a call may be
given, and are those of every client.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from paraformer import options as opts
from paraformer import server
from paraformer.cli.arguments import typed
from paraformer.cli.command_line import KNOWN, Arguments, help_line, type_config, type_known
from paraformer.errors import ConfigError

# Beside the bundled model, where none is named.
BUNDLED = {"vad_model": "fsmn-vad-mini", "punc_model": "ct-punc-mini"}
OWN = opts.all_fields(opts.ServeOptions)
# Keys of `funasr` that mean nothing here.
IDLE = {*opts.names(opts.CommandOptions)} - {"model", "verbose"} | {
    *("key", "segments", "channel", "data_type", "cache", "is_final", "nbest", "fs"),
    *("output_dir", "output_format", "resume"),
}
# All that it takes.
KEYS = {**OWN, **{key: option for key, option in KNOWN.items() if key not in IDLE}}


def main(arguments: Arguments) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code."""
    given, rest = split(arguments.values)
    options = opts.ServeOptions(**given)
    settings, config = type_known(rest)
    named = "model" in settings
    model, verbose = settings.pop("model", opts.DEFAULT_MODEL), settings.pop("verbose", False)
    settings.update(type_config(config, model, settings))
    if not named:
        settings = {**BUNDLED, **settings}
    _begin_log(verbose, bool(settings.get("disable_log")))
    from paraformer.server.run import serve

    serve(options, model, settings, _say)
    return 0


def split(values: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The server's own options, typed; and the rest, as it came.

    >>> split({"port": "0", "itn": "true"})
    ({'port': 0}, {'itn': 'true'})
    """
    own: dict[str, Any] = {}
    rest: dict[str, str] = {}
    for key, value in values.items():
        if key in IDLE:
            raise ConfigError(f"serve: {key} belongs to recordings that are named; leave it out")
        if key in OWN:
            own[key] = typed(value, opts.default_of(OWN[key]), key)
        elif key not in KNOWN and opts.nearest(key, OWN):
            raise opts.unknown_key(key, OWN, "serve", "funasr serve")
        else:
            rest[key] = value
    return own, rest


def help_text() -> str:
    """The text of `funasr serve --help`."""
    return "\n".join([(__doc__ or "").strip(), "", *map(help_line, OWN.values())])


def _begin_log(verbose: bool, quiet: bool) -> None:
    """Messages go to stderr: warnings, and a line for each utterance; never what clients say."""
    from paraformer.decode import hotwords

    level = logging.INFO if verbose else logging.WARNING
    line = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=level, format=line, stream=sys.stderr)
    logging.getLogger(server.__name__).setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger(hotwords.__name__).setLevel(logging.ERROR)


def _say(line: str) -> None:
    print(f"funasr serve: {line}", file=sys.stderr, flush=True)
