"""Parts of the programs that run a model over a list: their configuration as keywords of
`AutoModel`, the folder of their results, and what they count.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from paraformer import options as opts
from paraformer.api.auto import AutoModel
from paraformer.api.record import made_by
from paraformer.api.tasks import Work
from paraformer.api.workers import Crew, Order, hands_of
from paraformer.data.corpus.tables import readable, write_text
from paraformer.errors import ConfigError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model
from paraformer.limits import check_values
from paraformer.models.kinds import Kind, refuse_other
from paraformer.models.release import read_config
from paraformer.output.result import Result
from paraformer.output.resume import Made
from paraformer.output.sink import Results
from paraformer.output.tables import FORMATS, check_format
from paraformer.programs.hydra_main import defaults_of, plain
from paraformer.progress import goes_on
from paraformer.shard import place_of

log = logging.getLogger(__name__)

STATS = "stats.json"


def result_folder(out: str, data: Path, shard: str = "") -> Path:
    """The folder of the results, of a shard that in `out`, tried before the model is loaded."""
    if Path(out).resolve() == data.resolve():
        raise ConfigError(f"out={out}: is the data directory, whose text would be lost")
    return check_folder(place_of(out, shard))


def keywords(config: DictConfig) -> dict[str, Any]:
    """Those of `AutoModel` that a configuration has, with the numbers within their limits."""
    values = plain(config)
    check_values(values, opts.limits_of(opts.ProgramOptions))
    check_format(values.get("output_format", FORMATS[0]))
    known = opts.all_fields(opts.BuildOptions, opts.CallOptions)
    numbers = {name for name, option in known.items() if isinstance(option.default, (int, float))}
    # null leaves a text to its default; in the place of a number it is a fault.
    said = {name: values[name] for name in known if name in values}
    given = {name: value for name, value in said.items() if value is not None or name in numbers}
    check_values(given, opts.limits_of(opts.CallOptions))
    if values.get("num_threads"):
        given["ncpu"] = values["num_threads"]
    if "batch_frames" in values:
        given["batch_size_s"] = values["batch_frames"] / 100
    return given


def load(
    config: DictConfig, given: Mapping[str, Any], kind: Kind, out: Path | None = None
) -> AutoModel:
    """The model of a configuration, which must be of that kind, with these keywords.

    out: where results go, `config.out` or the shard in it, with those of an earlier run if this one
    goes on.
    """
    given = {**given}
    if out is not None:
        given |= {"output_dir": str(config.out), "resume": goes_on(out, config.resume)}
    build = opts.BuildOptions(**{n: given[n] for n in opts.names(opts.BuildOptions) if n in given})
    directory = find_model(config.model, build.hub, build.model_revision, offline=build.offline)
    refuse_other(read_config(directory, {}), kind, where=directory)
    return AutoModel(config.model, **given)


def shared(config: DictConfig, given: Mapping[str, Any]) -> Work:
    """The work of `nj` processes, or actors of a cluster, with these keywords."""
    check_values({"nj": config.nj}, opts.limits_of(opts.CommandOptions))
    levels = {"": logging.getLogger().level}
    order = Order(str(config.model), given, config.nj, levels, whole=True)
    return Crew(order, hands_of(config.cluster)).results


def made_of(config: DictConfig, program: str, model: AutoModel) -> Made:
    """The record of the models and options that a program makes its results with."""
    return made_by(model.directories, plain(config), defaults_of(program))


@dataclass
class Tally:
    """Of the utterances of a list; those of an earlier run are counted, but not their audio."""

    total: int
    noun: str = "utterance"
    done: int = 0
    words: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """One more utterance; the log says why one has failed."""
        self.seconds += result.seconds
        if result.error is not None:
            log.warning("%s '%s': %s", self.noun, result.key, result.error)
            self.failed[result.key] = result.error
            return
        self.done += 1
        self.words += len(result.words or ())

    def counting(self, results: Results) -> Iterator[Result]:
        """Each result, once it is counted."""
        begun = time.perf_counter()
        for result in results.found:
            self.add(result)
            yield result
        self.done += results.skipped
        self.elapsed = time.perf_counter() - begun

    def code(self, min_success: float) -> int:
        """The exit code: 1 if a smaller share is done."""
        return 0 if self.done >= min_success * self.total else 1

    def count(self, results: Results) -> Tally:
        """All of these."""
        for _ in self.counting(results):
            pass
        return self

    def write(
        self, out: Path, told: Mapping[str, Any], verb: str, more: Mapping[str, Any] | None = None
    ) -> None:
        """Write stats.json: what was told, and the counts."""
        stats = {
            **{key: readable(x) if isinstance(x, str) else x for key, x in told.items()},
            "utterances": self.total,
            verb: self.done,
            **({"words": self.words} if verb == "aligned" else {}),
            "audio_seconds": round(self.seconds, 3),
            "elapsed_seconds": round(self.elapsed, 3),
            "rtf": round(self.elapsed / self.seconds, 5) if self.seconds else None,
            **(more or {}),
        }
        write_text(out / STATS, json.dumps(stats, ensure_ascii=False, indent=1) + "\n")
