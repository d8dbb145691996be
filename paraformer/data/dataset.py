"""A Kaldi data directory with features becomes batches, in a seeded order that can be resumed."""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import kaldiio
import numpy as np
import torch
from torch import Tensor

from paraformer.data.augment import Augment, quiet_frames
from paraformer.data.frontend import Frontend
from paraformer.data.tables import read_table
from paraformer.errors import DataError

log = logging.getLogger(__name__)


class Utterance(NamedTuple):
    """One line of the data directory."""

    key: str
    feats: str  # ark:offset of its log-mel
    frames: int  # of 10 ms
    ids: list[int]  # its tokens
    units: list[int]  # its tokens in a second inventory (pinyin, ...), empty when there is none
    speaker: str


class Example(NamedTuple):
    """One row of a batch: utterances joined, with quiet frames before, between and after."""

    parts: tuple[int, ...]
    gaps: tuple[int, ...]  # one more than parts
    frames: int


class Batch(NamedTuple):
    """Tensors of one step; padded feats are 0, padded ids are -1."""

    keys: list[str]
    feats: Tensor  # (B, T, D)
    lengths: Tensor  # (B,)
    text: Tensor  # (B, U)
    text_lengths: Tensor  # (B,)
    units: Tensor  # (B, W), W = 0 without a second inventory
    unit_lengths: Tensor  # (B,)
    seconds: float  # of audio

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on another device."""
        return Batch(
            self.keys,
            self.feats.to(device),
            self.lengths.to(device),
            self.text.to(device),
            self.text_lengths.to(device),
            self.units.to(device),
            self.unit_lengths.to(device),
            self.seconds,
        )


@dataclass(frozen=True)
class Batching:
    """How utterances share batches. Few distinct shapes keep the matrix library's plans in use."""

    max_frames: int = 14400  # of 10 ms in one batch, padding counted
    frame_step: int = 96  # lengths are rounded up to a multiple
    max_utterances: int = 64
    join_probability: float = 0.0  # that an utterance is followed by others of its speaker
    join_max: int = 4
    join_frames: int = 800
    gap: tuple[int, int] = (0, 0)  # quiet frames before, between and after


def read_utterances(
    data: str | Path,
    encode: Callable[[str], list[int]],
    stacked: int,
    units: dict[str, list[int]] | None = None,
) -> tuple[list[Utterance], dict[str, list[str]]]:
    """Utterances of a data directory (text, feats.scp, utt2num_frames, utt2spk), and the dropped
    keys by reason.

    stacked: frames of 10 ms in one encoder frame, of which an utterance needs more than tokens.
    """
    folder = Path(data)
    if not (folder / "feats.scp").is_file():
        raise DataError(f"{folder / 'feats.scp'}: no such file; run steps/make_fbank.sh {folder}")
    text, feats = read_table(folder / "text"), read_table(folder / "feats.scp")
    frames = read_table(folder / "utt2num_frames")
    speakers = read_table(folder / "utt2spk") if (folder / "utt2spk").is_file() else {}
    kept, dropped = [], defaultdict(list)
    for key in text.keys() - feats.keys():
        dropped["no features"].append(key)
    for key, feat in feats.items():
        ids = encode(text[key]) if key in text else []
        count = int(frames.get(key, 0))
        reason = _fault(key in text, ids, count // stacked, key in frames)
        if reason:
            dropped[reason].append(key)
            continue
        kept.append(
            Utterance(key, feat, count, ids, (units or {}).get(key, []), speakers.get(key, key))
        )
    if not kept:
        reasons = ", ".join(f"{len(keys)} {reason}" for reason, keys in dropped.items())
        raise DataError(f"{folder}: no usable utterance ({reasons or 'feats.scp is empty'})")
    return kept, dict(dropped)


def _fault(listed: bool, ids: list[int], encoder_frames: int, counted: bool) -> str:
    if not listed:
        return "no transcript"
    if not ids:
        return "empty transcript"
    if not counted:
        return "not in utt2num_frames"
    return "more tokens than frames" if len(ids) + 1 >= encoder_frames else ""


def plan_epoch(
    utterances: Sequence[Utterance], batching: Batching, random: np.random.Generator | None
) -> list[list[Example]]:
    """All utterances once, in batches of nearly equal length; without `random`, in order and
    unjoined.
    """
    examples = _examples(utterances, batching, random)
    buckets: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        buckets[-(-example.frames // batching.frame_step)].append(example)
    batches = []
    for steps, members in sorted(buckets.items()):
        size = batching.max_frames // (steps * batching.frame_step)
        size = min(max(size, 1), batching.max_utterances)
        batches += [members[i : i + size] for i in range(0, len(members), size)]
    if random is not None:
        random.shuffle(batches)
    return batches


def _examples(
    utterances: Sequence[Utterance], batching: Batching, random: np.random.Generator | None
) -> list[Example]:
    if random is None:
        return [Example((i,), (0, 0), u.frames) for i, u in enumerate(utterances)]
    by_speaker: dict[str, list[int]] = defaultdict(list)
    for i in random.permutation(len(utterances)).tolist():
        by_speaker[utterances[i].speaker].append(i)
    examples = []
    for members in by_speaker.values():
        while members:
            examples.append(_join(members, utterances, batching, random))
    return [examples[i] for i in random.permutation(len(examples)).tolist()]


def _join(
    members: list[int],
    utterances: Sequence[Utterance],
    batching: Batching,
    random: np.random.Generator,
) -> Example:
    """Take one utterance of a speaker, or several, from the end of `members`."""
    parts = [members.pop()]
    if random.random() < batching.join_probability:
        wanted = int(random.integers(2, batching.join_max + 1))
        frames = utterances[parts[0]].frames
        while len(parts) < wanted and members:
            frames += utterances[members[-1]].frames
            if frames > batching.join_frames:
                break
            parts.append(members.pop())
    gaps = random.integers(batching.gap[0], batching.gap[1] + 1, len(parts) + 1).tolist()
    return Example(tuple(parts), tuple(gaps), sum(utterances[i].frames for i in parts) + sum(gaps))


def _read_features(utterance: Utterance) -> np.ndarray:
    """Log-mel (T, n_mels) from the archive."""
    try:
        return np.asarray(kaldiio.load_mat(utterance.feats), dtype=np.float32)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{utterance.key}: no features can be read from {utterance.feats} ({error}); "
            "run steps/make_fbank.sh again"
        ) from error


def _pad(rows: Sequence[Sequence[int]], multiple: int = 4) -> tuple[Tensor, Tensor]:
    lengths = [len(row) for row in rows]
    width = -(-max(lengths) // multiple) * multiple
    padded = torch.full((len(rows), width), -1, dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded, torch.tensor(lengths)


def _put(ready: queue.Queue[Any], item: object, stop: threading.Event) -> bool:
    """Wait for a free place in the queue; False when nobody wants the item any more."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False


class Loader:
    """Batches of one epoch after another; `frontend` stacks and normalises what `augment` made."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        frontend: Frontend,
        batching: Batching,
        augment: Augment | None = None,
        seed: int | None = None,
    ) -> None:
        """seed: None reads in order without joining, as validation does."""
        self.utterances, self.frontend, self.batching = utterances, frontend, batching
        self.augment, self.seed = augment, seed
        cmvn = frontend.cmvn
        mean = -cmvn.shift[: frontend.n_mels].numpy() if cmvn is not None else None
        self.mean = np.zeros(frontend.n_mels, np.float32) if mean is None else mean

    def plan(self, epoch: int) -> list[list[Example]]:
        """The batches of an epoch, the same whenever they are asked for."""
        random = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        return plan_epoch(self.utterances, self.batching, random)

    def epoch(self, epoch: int, start: int = 0, ahead: int = 8) -> Iterator[Batch]:
        """Batches of an epoch from number `start`, made by a thread up to `ahead` before they are
        needed.
        """
        plan = self.plan(epoch)
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(ahead)
        stop = threading.Event()

        def work() -> None:
            try:
                for number in range(start, len(plan)):
                    seed = (self.seed or 0, epoch, number)
                    if not _put(ready, self.collate(plan[number], seed), stop):
                        return
                _put(ready, None, stop)
            except Exception as error:  # noqa: BLE001  (raised again where the batches are used)
                _put(ready, error, stop)

        threading.Thread(target=work, daemon=True).start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()

    def collate(self, examples: Sequence[Example], seed: Sequence[int]) -> Batch:
        """Read, augment, stack and pad the rows of one batch."""
        random = np.random.default_rng(tuple(seed))
        rows = [self.frontend.normalize(self._features(e, random)) for e in examples]
        lengths = torch.tensor([len(row) for row in rows])
        step = -(-self.batching.frame_step // self.frontend.lfr_n)
        width = -(-int(lengths.max()) // step) * step
        feats = torch.zeros(len(rows), width, self.frontend.output_size)
        for i, row in enumerate(rows):
            feats[i, : len(row)] = row
        members = [[self.utterances[i] for i in e.parts] for e in examples]
        text, text_lengths = _pad([[t for u in m for t in u.ids] for m in members])
        units, unit_lengths = _pad([[t for u in m for t in u.units] for m in members])
        keys = ["+".join(u.key for u in m) for m in members]
        seconds = sum(e.frames for e in examples) / 100
        return Batch(keys, feats, lengths, text, text_lengths, units, unit_lengths, seconds)

    def _features(self, example: Example, random: np.random.Generator) -> Tensor:
        pieces: list[np.ndarray] = []
        for gap, part in zip(example.gaps, example.parts, strict=False):
            x = _read_features(self.utterances[part])
            pieces += [quiet_frames(x, gap, random), x] if gap else [x]
        if example.gaps[-1]:
            pieces.append(quiet_frames(x, example.gaps[-1], random))
        joined = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
        if self.augment is not None:
            joined = self.augment(joined, self.mean, random)
        return self.frontend.stack(torch.from_numpy(np.require(joined, None, ["C", "W"])))
