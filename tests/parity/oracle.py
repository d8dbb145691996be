"""Stored outputs of the reference (funasr 1.4.16) for models of random weights, and our side of
them.

tests/fixtures/oracle is the project's own (made as tests/fixtures/README.md says); ../shared/oracle
is read where it is at hand (by oracle/make/offline.py), and so are the directories that the
environment variable PARAFORMER_ORACLES lists. Tolerances are those of oracle/README.md. The
reference was run on one utterance at a time, since padding leaks in it; ours must give the same in
a padded batch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from paraformer.data.audio.read import read_audio
from paraformer.decode.text import postprocess
from paraformer.models.release import (
    AlignerRelease,
    Release,
    load_aligner,
    load_directory,
)
from paraformer.train.chunking import ReleasedChunks
from paraformer.train.losses import Losses, Weights, paraformer_losses
from tests.conftest import ROOT, SHARED, needs_shared

FIXTURES = ROOT / "tests" / "fixtures"
Lesson = tuple[Tensor, Tensor]  # features (T, D) and token ids (U,)


class Place(NamedTuple):
    """Directory of a model and its expected outputs; `root` is what its audio paths start from."""

    folder: Path
    root: Path


def _places() -> dict[str, list[Any]]:
    project = [("paraformer", "paraformer"), ("paraformer", "sanm_seed1"), ("conformer",) * 2]
    project += [(kind,) * 2 for kind in ("paraformer-streaming", "bicif", "seaco", "fa-zh")]
    found: dict[str, list[Any]] = {kind: [] for kind, _ in project}
    for kind, name in project:
        place = Place(FIXTURES / "oracle" / name, FIXTURES)
        found[kind].append(pytest.param(place, id=f"project-{name}"))
    for kind, places in found.items():
        place = Place(SHARED / "oracle" / kind, SHARED)
        places.append(pytest.param(place, id=f"shared-{kind}", marks=needs_shared))
    for path in filter(None, os.environ.get("PARAFORMER_ORACLES", "").split(os.pathsep)):
        facts = json.loads((Path(path) / "expected.json").read_text(encoding="utf-8"))
        kind = facts.get("kind", "paraformer-streaming")  # oracle/make/online.py writes none
        if kind in found:
            found[kind].append(pytest.param(Place(Path(path), SHARED), id=Path(path).name))
    return found


_PLACES = _places()
SANM, CONFORMER = _PLACES["paraformer"], _PLACES["conformer"]
ONLINE = _PLACES["paraformer-streaming"]
BICIF, SEACO, ALIGNER = _PLACES["bicif"], _PLACES["seaco"], _PLACES["fa-zh"]


class Oracle(NamedTuple):
    """One model with what the reference makes of it."""

    release: Release | AlignerRelease
    arrays: dict[str, Tensor]
    facts: dict[str, Any]
    root: Path

    @property
    def tags(self) -> list[str]:
        return list(self.facts["wavs"] if "wavs" in self.facts else self.facts["audio"])

    def wave(self, tag: str) -> Tensor:
        if "wavs" in self.facts:
            files = self.facts["wavs"][tag]
            files = [files] if isinstance(files, str) else files
            return torch.cat([read_audio(self.root / file) for file in files])
        first = self.facts["audio"][tag]["from_ms"] * 16
        wave = read_audio(self.root / "audio" / f"{tag}.wav")[first:]
        assert len(wave) == self.facts["audio"][tag]["samples"]
        return wave

    def feats(self) -> list[Tensor]:
        return [self.release.frontend(self.wave(tag)) for tag in self.tags]

    def recorded_feats(self) -> list[Tensor]:
        """The reference's features, ours where they were not stored."""
        pairs = zip(self.tags, self.feats(), strict=True)
        return [self.arrays.get(f"{tag}/feats", ours) for tag, ours in pairs]

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        tokenizer = self.release.tokenizer
        return [postprocess(tokenizer.ids_to_tokens(row)).text for row in ids]

    def single(self, number: int) -> dict[str, Any]:
        """What training says of utterance `number` alone."""
        return self.facts["train"]["single"][str(number)]

    def sound_lessons(self) -> list[int]:
        """Training utterances in which the reference fires all tokens (it may lose some)."""
        single = self.facts["train"]["single"]
        return [int(i) for i, fact in single.items() if fact["fires"] == fact["target_length"]]


def load_oracle(place: Place) -> Oracle:
    facts = json.loads((place.folder / "expected.json").read_text(encoding="utf-8"))
    arrays = load_arrays(place.folder)
    load = load_aligner if facts.get("kind") == "fa-zh" else load_directory
    return Oracle(load(place.folder), arrays, facts, place.root)


def released_chunks(oracle: Oracle) -> ReleasedChunks:
    conf = oracle.release.config["encoder_conf"]
    return ReleasedChunks(**{f.name: tuple(conf[f.name]) for f in fields(ReleasedChunks)})


def load_arrays(folder: Path) -> dict[str, Tensor]:
    return {k: torch.from_numpy(v) for k, v in np.load(folder / "expected.npz").items()}


def recognise(oracle: Oracle, feats: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Stages of recognition of a padded batch, each utterance's rows without padding."""
    model = oracle.release.model
    with torch.no_grad():
        memory, lengths = model.encode(*pad(feats))
        heard = model.predict(memory, lengths)
        logp = model.decode(heard.embeds, heard.token_lengths, memory, lengths)
        ctc_logp = memory if model.ctc_head is None else model.ctc_head(memory)
    rows = []
    for row, (t, u) in enumerate(zip(lengths.tolist(), heard.token_lengths.tolist(), strict=True)):
        rows.append(
            {
                "encoder_out": memory[row, :t],
                "alphas": heard.alphas[row, : t + 1],
                "cif_peak": heard.peaks[row, : t + 1],
                "acoustic_embeds": heard.embeds[row, :u],
                "logp": logp[row, :u],
                "ctc_logp": ctc_logp[row, :t],
            }
        )
    return rows


def read_lessons(oracle: Oracle) -> list[Lesson]:
    """Features and ids of each training utterance: part of a recording, and any text."""
    frontend = oracle.release.frontend
    lessons = []
    texts = oracle.facts["train"]["ids"]
    for number, (tag, ids) in enumerate(zip(oracle.tags, texts, strict=True)):
        feats = frontend(oracle.wave(tag)[: oracle.single(number)["samples"]])
        lessons.append((feats, torch.tensor(ids)))
    return lessons


def losses(oracle: Oracle, lessons: Sequence[Lesson], sampling_ratio: float) -> Losses:
    """Our losses of a padded batch, gradients in the model's parameters."""
    model = oracle.release.model
    conf = oracle.release.config["model_conf"]
    weights = Weights(**{k: v for k, v in conf.items() if k in Weights._fields})
    model.sampling_ratio = sampling_ratio
    model.zero_grad()
    encoded = model.encode(*pad([feats for feats, _ in lessons]))
    text, text_lengths = pad([ids for _, ids in lessons], model.ignore_id)
    result = paraformer_losses(model, weights, encoded, text, text_lengths)
    result.loss.backward()
    return result


def pad(rows: Sequence[Tensor], value: float = 0.0) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
    return padded, lengths


def close(ours: Tensor, theirs: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol)
