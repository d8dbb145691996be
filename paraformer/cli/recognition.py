"""Recognition by `funasr`: inputs become printed results, and how many succeeded an exit code."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from paraformer import decode, hub
from paraformer import options as opts
from paraformer.cli.comparison import compares, print_comparison
from paraformer.cli.remarks import SmallModel
from paraformer.data import inputs as input_room
from paraformer.errors import CheckpointError, ConfigError, DataError
from paraformer.progress import goes_on
from paraformer.shard import place_of

if TYPE_CHECKING:
    from paraformer.api.auto import AutoModel
    from paraformer.output.sink import Results

# Rooms whose remarks are said even where they are no warnings: hotwords that are heard, downloads,
# files passed over.
TALKERS = (decode.__name__, hub.__name__, input_room.__name__)


@dataclass
class Counts:
    """Counts of the utterances of a command, with those of an earlier run, but not their audio."""

    total: int = 0
    failures: int = 0
    seconds: float = 0.0

    def add(self, result: Mapping[str, Any]) -> None:
        """One more utterance."""
        self.total += 1
        self.failures += "error" in result
        self.seconds += result.get("audio_seconds", 0.0)

    @property
    def successes(self) -> int:
        """The number of utterances that did not fail."""
        return self.total - self.failures

    def report(self, elapsed_seconds: float, verbose: bool) -> None:
        """Say on stderr how many were recognised, where that is asked for or some were not."""
        if not verbose and (self.failures == 0 or self.total == 1):
            return
        line = f"recognised {self.successes} of {self.total} utterances"
        if verbose and self.seconds:
            line += f", {self.seconds:.1f} s of audio in {elapsed_seconds:.2f} s: "
            line += f"real-time factor {elapsed_seconds / self.seconds:.3f}"
        print(line, file=sys.stderr)


def begin_log(verbose: bool, quiet: bool) -> None:
    """Messages go to stderr: warnings, and what `TALKERS` say unless silence is asked for."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)
    for name in TALKERS:
        logging.getLogger(name).setLevel(logging.NOTSET if quiet else logging.INFO)


def recognise(
    inputs: list[str], command: opts.CommandOptions, settings: dict[str, Any], named: bool
) -> int:
    """Print a result for each input as it comes; the exit code says whether enough succeeded.

    named: the user has chosen the model.
    """
    from paraformer.api.auto import AutoModel
    from paraformer.api.streaming import with_head
    from paraformer.data.inputs.sources import is_single

    pair = _is_pair(inputs, command, settings)
    if pair and len(inputs) == 1:
        inputs = [part.strip(" '\"") for part in inputs[0].strip("[]()").split(",", 1)]
    alone = len(inputs) == (2 if pair else 1) and is_single(inputs[0])
    alone = alone and settings.get("channel") != "split"
    if alone and settings.get("shard"):
        raise ConfigError("shard: is a part of a list; give a list or a folder, or leave it out")
    if alone and command.cluster:
        raise ConfigError("cluster: shares a list; give a list or a folder, or leave it out")
    folder = place_of(settings.get("output_dir", ""), settings.get("shard"))
    output_format = str(settings.get("output_format", "text"))
    if folder and "-" not in inputs:
        settings["resume"] = goes_on(folder, settings.get("resume", False))
    check_output(output_format, alone, bool(folder))
    stdin = with_head(cast(BufferedReader, sys.stdin.buffer)) if "-" in inputs else None
    model = None  # of a list that is shared, or goes on: loaded by whoever finds that it is needed
    shared = command.nj > 1 or command.cluster
    if alone or (not shared and (pair or not settings.get("resume"))):
        model = AutoModel(command.model, **settings)
    if model and alone and model.streaming and output_format == "text":
        blocks = _live_blocks(inputs[0], model, settings, stdin)
        if blocks is not None:
            code = _print_stream(model, blocks, settings)
            SmallModel(command.model, named).say()
            return code
    sources = [_source(name, stdin) for name in inputs]
    if model and compares(inputs, model, settings):
        return print_comparison(sources, model, settings)
    small = SmallModel(command.model, named)
    code = _print_results(sources, command, settings, model, alone, small)
    small.say()
    return code


def _is_pair(inputs: list[str], command: opts.CommandOptions, settings: dict[str, Any]) -> bool:
    """Tell whether the inputs are recordings and their texts: data_type says so, or there are two
    and the model is an aligner.
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


def check_output(output_format: str, alone: bool, has_folder: bool) -> None:
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


def _print_stream(model: AutoModel, blocks: Iterable[Any], settings: Mapping[str, Any]) -> int:
    """Print the text of a stream as it grows; with models beside, that of each segment once it has
    ended.
    """
    if any(settings.get(name) for name in ("vad_model", "punc_model", "second_pass")):
        from paraformer.api.live import FINAL

        for event in model.live().events(blocks):
            if event.kind == FINAL and event.text:
                speaker = f"{event.speaker}: " if event.speaker else ""
                print(f"{speaker}{event.text}", flush=True)
        return 0
    from paraformer.api.streaming import growing_text

    for part in growing_text(model.streamer(), blocks):
        print(part, end="", flush=True)
    print()
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


def _print_results(
    sources: list[str | bytes | Path],
    command: opts.CommandOptions,
    settings: dict[str, Any],
    model: AutoModel | None,
    alone: bool,
    small: SmallModel,
) -> int:
    """Print the results of a list, or of one input that is alone."""

    def results() -> Results:
        return _results(sources[0] if len(sources) == 1 else sources, command, settings, model)

    return print_results(results, command, settings, alone, small.add)


def print_results(
    make: Callable[[], Results],
    command: opts.CommandOptions,
    settings: dict[str, Any],
    alone: bool,
    watch: Callable[[dict[str, Any]], None] = lambda result: None,
) -> int:
    """Print results as they come; the exit code says whether enough succeeded. watch: is given
    each.
    """
    from paraformer.cli.show import printing

    begun, counts = time.perf_counter(), Counts()
    try:
        results = make()
        with closing(results), printing(results, settings, alone) as show:
            for result in results:
                counts.add(result)
                watch(result)
                if "error" in result and command.strict:
                    raise DataError(f"stopped at '{result['key']}', as strict=true asks")
                show(result)
        counts.total += results.skipped
    except KeyboardInterrupt as stop:
        folder = settings.get("output_dir")
        kept = f"; what is finished is in {folder}, +resume=true goes on" if folder else ""
        raise type(stop)(f"stopped{kept}") from None
    counts.report(time.perf_counter() - begun, command.verbose)
    if alone:
        return 1 if counts.failures else 0
    done, total = counts.successes, counts.total  # a shard may hold nothing
    return 0 if (done or not total) and done >= command.min_success * total else 1


def _results(
    source: Any, command: opts.CommandOptions, settings: dict[str, Any], model: AutoModel | None
) -> Results:
    """The results by a model, or by processes that have one each."""
    # On a terminal, results and a bar would stand in each other's way.
    shown = {"disable_pbar": True} if sys.stdout.isatty() else {}
    if model is not None:
        return model.stream(source, **shown)
    settings = {**settings, **shown}
    if command.nj == 1 and not command.cluster:
        from paraformer.api.auto import stream_pending

        return stream_pending(source, command.model, settings)
    from paraformer.api.workers import stream_shared

    levels = {name: logging.getLogger(name).level for name in ("", *TALKERS)}
    return stream_shared(source, command.nj, command.model, settings, levels, command.cluster)
