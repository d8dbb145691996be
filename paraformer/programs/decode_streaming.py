"""Text of a Kaldi data directory by a streaming model, as it would come while one speaks.

Writes into `out`: text, ctm (`recording channel start duration token confidence`, seconds), delay
(`id first last rtf`: milliseconds from the end of the first token to its text, and from the end of
the audio to the last text; compute time by audio time), failed (`id reason`), each line as soon as
it is known and those before it are written; made_with.json: the models and options of all this; at
the end, stats.json. The ctm of segments has the times of their recordings, and is made of
results.jsonl in the end. With `streams` above 1 so many utterances are decoded side by side.
Without `simulate`, delays are what the compute times would make of audio that comes in real time.

With `vad_model` a recording of any length is decoded in segments; `second_pass`, a model of whole
recordings, which may listen for hotwords, writes their text once they have ended, and `punc_model`
puts marks into it.
"""

from __future__ import annotations

import logging
import statistics
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from paraformer.api.live import DEAF
from paraformer.api.serving import Lanes
from paraformer.data.inputs.data_folder import data_items
from paraformer.errors import ConfigError
from paraformer.models.kinds import RECOGNISER
from paraformer.output.tables import Layout
from paraformer.programs.hydra_main import plain, run
from paraformer.programs.inference import STATS, Tally, keywords, load, made_of, result_folder
from paraformer.shard import read_shard

log = logging.getLogger(__name__)

LAYOUT = Layout(
    {"text": "text", "delay": "delay"},
    place="",
    best="",
    keeps_failed=False,
    stale=(STATS,),
    timed="ctm",
)
MODELS = ("model", "vad_model", "punc_model", "second_pass")
TOLD = ("chunk_size", "encoder_chunk_look_back", "decoder_chunk_look_back", "streams", "simulate")


def decode_streaming(config: DictConfig) -> int:
    """Decode `config.data`; an utterance that cannot be read is reported, counted and skipped."""
    given = keywords(config)
    if config.hotword and not config.second_pass:
        raise ConfigError(DEAF)
    data = Path(config.data)
    out = result_folder(config.out, data, config.shard)
    model = load(config, given, RECOGNISER, out)
    lanes = Lanes(model.live().pipeline, config.streams, config.simulate, config.fs)
    items = data_items(data, config.channel).of(read_shard(config.shard))
    made = made_of(config, "decode_streaming", model)
    results = model.write(items, LAYOUT, made, lanes.results)
    tally = Tally(len(items))
    delays = [r.delays_ms for r in tally.counting(results) if r.delays_ms is not None]
    values = plain(config)
    told: dict[str, Any] = {name: values[name] and str(values[name]) for name in MODELS}
    told |= {"data": str(config.data), **{name: values[name] for name in TOLD}}
    late = {
        "first_token_delay_ms": spread([first for first, _ in delays if first is not None]),
        "last_token_delay_ms": spread([last for _, last in delays]),
    }
    tally.write(out, told, "decoded", late)
    log.info("decoded %d of %d utterances", tally.done, tally.total)
    return tally.code(config.min_success)


def spread(values: list[float]) -> dict[str, float] | None:
    """The median of these, and what nine in ten are not above."""
    if not values:
        return None
    ninth = sorted(values)[min(len(values) - 1, int(0.9 * len(values)))]
    return {"median": round(statistics.median(values), 1), "p90": round(ninth, 1)}


def main() -> int:
    """`bin/decode_streaming.py`."""
    return run("decode_streaming", decode_streaming)
