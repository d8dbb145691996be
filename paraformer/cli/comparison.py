"""Comparison of two voices by `funasr`: how alike they are, and whether they are one speaker's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paraformer.output.resume import row_id

if TYPE_CHECKING:
    from paraformer.api.auto import AutoModel


def compares(inputs: Sequence[str], model: AutoModel | None, settings: Mapping[str, Any]) -> bool:
    """Whether two recordings are given to a speaker model, whose embeddings go into no folder."""
    from paraformer.api.speakers import DiarizationTask, SpeakerTask
    from paraformer.data.inputs.sources import is_single

    if model is None or len(inputs) != 2 or not all(map(is_single, inputs)):
        return False
    task = model.task
    embeds = isinstance(task, SpeakerTask) and not isinstance(task, DiarizationTask)
    return embeds and not settings.get("output_dir") and settings.get("channel") != "split"


def print_comparison(sources: Sequence[Any], model: AutoModel, settings: Mapping[str, Any]) -> int:
    """Print `enrol test cosine same|different`, or the same in JSON; the exit code says whether
    both could be heard.
    """
    from paraformer.api.speakers import SpeakerTask
    from paraformer.decode.voices import similarity

    assert isinstance(model.task, SpeakerTask)  # see `compares`
    threshold = model.task.voices.threshold(settings.get("spk_threshold"))
    found = list(model.stream(list(sources), disable_pbar=True))
    if any("error" in result for result in found):
        return 1
    score = similarity(*(result["spk_embedding"][0] for result in found))
    enrol, test = (str(result["key"]) for result in found)
    told = {"enrol": enrol, "test": test, "score": round(score, 4), "same": score >= threshold}
    if settings.get("output_format") == "json":
        print(json.dumps({**told, "threshold": threshold}, ensure_ascii=False))
    else:
        answer = "same" if told["same"] else "different"
        print(f"{row_id(enrol)} {row_id(test)} {score:.4f} {answer}")
    return 0
