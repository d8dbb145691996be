"""A Kaldi data directory becomes batches, in a seeded order that can be resumed."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paraformer.data.batches.augment import Augment, quiet_frames
from paraformer.data.batches.recordings import UNREADABLE, Reader, read_numbers, read_recorded
from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.ctm import TimedWord, marks_of, read_times, report_unfit, timed_words
from paraformer.data.corpus.tables import read_table
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.sources import Item
from paraformer.errors import AudioError, DataError, ParaformerError
from paraformer.limits import check_fields, limited

log = logging.getLogger(__name__)

UNCOUNTED = "not in utt2num_frames"
MOST_LEFT_OUT = 100  # utterances of which none can be read, and the data are given up
NO_MARKS = torch.zeros(0, 0, 2)
FRAME_SECONDS = 0.01


class Utterance(NamedTuple):
    """One line of the data directory."""

    key: str
    feats: str  # ark:offset of its log-mel, "" where that is made of `audio`
    frames: int  # of 10 ms
    ids: list[int]  # its tokens
    units: list[int]  # its tokens in a second inventory (pinyin, ...), empty when there is none
    speaker: str
    audio: Item | None = None
    words: Sequence[TimedWord] = ()  # those whose times are known


class _Source(NamedTuple):
    """The place that an utterance's features come from, and the fault that forbids to use it."""

    feats: str
    audio: Item | None
    frames: int
    fault: str


class Example(NamedTuple):
    """One row of a batch: utterances joined, with quiet frames before, between and after."""

    parts: tuple[int, ...]
    gaps: tuple[int, ...]  # one more than parts
    frames: int


class Batch(NamedTuple):
    """Tensors of one step; padded feats are 0, padded ids are -1.

    Without rows (B = 0) where no audio of a batch could be read.
    """

    keys: list[str]
    feats: Tensor  # (B, T, D)
    lengths: Tensor  # (B,)
    text: Tensor  # (B, U)
    text_lengths: Tensor  # (B,)
    units: Tensor  # (B, W), W = 0 without a second inventory
    unit_lengths: Tensor  # (B,)
    seconds: float  # of audio
    marks: Tensor = NO_MARKS  # (B, M, 2) seconds and tokens begun by then, padded by 0
    copies: int = 1  # how many processes have these rows, where a batch is shared among them

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on another device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in self._asdict().items()
            if isinstance(value, Tensor)
        }
        return self._replace(**moved)


@dataclass(frozen=True)
class Batching:
    """Rules of sharing batches. Few distinct shapes keep the matrix library's plans in use."""

    max_frames: int = limited(14400, 1)  # of 10 ms in one batch, padding counted
    frame_step: int = limited(96, 1)  # lengths are rounded up to a multiple
    max_utterances: int = limited(64, 1)
    join_probability: float = limited(0.0, 0, 1)  # that others of its speaker follow
    join_max: int = limited(4, 2)
    join_frames: int = limited(800, 1)
    # quiet frames before, between and after
    gap: tuple[int, int] = limited((0, 0), 0, rising=True)

    def __post_init__(self) -> None:
        check_fields(self, "batching")


def read_utterances(
    data: str | Path,
    encode: Callable[[str], list[int]],
    stacked: int,
    units: dict[str, list[int]] | None = None,
    frontend: Frontend | None = None,
) -> tuple[list[Utterance], dict[str, list[str]]]:
    """Utterances of a data directory (text [utt2spk ctm], feats.scp and utt2num_frames), and the
    dropped keys by reason.

    stacked: frames of 10 ms in one encoder frame, of which an utterance needs more than tokens.
    frontend: what makes the features where the directory has no feats.scp, but wav.scp [segments].
    """
    folder = Path(data)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such directory; give a data directory")
    stored = frontend is None or (folder / "feats.scp").is_file()
    sources = _stored(folder) if frontend is None or stored else _recorded(folder, frontend)
    text = read_table(folder / "text")
    speakers = read_table(folder / "utt2spk") if (folder / "utt2spk").is_file() else {}
    times = read_times(folder, sources.keys() | text.keys())
    kept, dropped, unfit = [], defaultdict(list), []
    for key in sorted(text.keys() - sources.keys()):
        dropped["no features" if stored else "no audio"].append(key)
    for key, (feats, audio, frames, fault) in sources.items():
        ids = encode(text[key]) if key in text else []
        reason = text_fault(key in text, ids) or fault or too_short(ids, frames, stacked)
        if reason:
            dropped[reason].append(key)
            continue
        second = (units or {}).get(key, [])
        speaker, words = speakers.get(key, key), timed_words(times, key, ids, encode)
        if key in times and not words:
            unfit.append(key)
        kept.append(Utterance(key, feats, frames, ids, second, speaker, audio, words))
    report_unfit(folder, unfit)
    if not kept:
        reasons = ", ".join(f"{len(keys)} {reason}" for reason, keys in dropped.items())
        raise DataError(f"{folder}: no usable utterance ({reasons or 'it is empty'})")
    return kept, dict(dropped)


def _stored(folder: Path) -> dict[str, _Source]:
    """Features that lie in archives."""
    if not (folder / "feats.scp").is_file():
        raise DataError(f"{folder / 'feats.scp'}: no such file; run steps/make_fbank.sh {folder}")
    counts = read_numbers(folder / "utt2num_frames")
    return {
        key: _Source(feats, None, int(counts.get(key, 0)), "" if key in counts else UNCOUNTED)
        for key, feats in read_table(folder / "feats.scp").items()
    }


def _recorded(folder: Path, frontend: Frontend) -> dict[str, _Source]:
    """Features that are made when their turn comes."""
    if not (folder / "wav.scp").is_file():
        raise DataError(f"{folder}: neither feats.scp nor wav.scp is there; make one of the two")
    recorded = read_recorded(folder, frontend)
    return {r.item.key: _Source("", r.item, r.frames, r.fault) for r in recorded}


def text_fault(listed: bool, ids: list[int]) -> str:
    """The fault of a transcript, of which these tokens were made; "" if there is none."""
    if not listed:
        return "no transcript"
    return "" if ids else "empty transcript"


def too_short(ids: list[int], frames: int, stacked: int) -> str:
    """The fault of an utterance that has not at least one encoder frame more than its tokens and
    their end; "" if it has.
    """
    return "more tokens than frames" if len(ids) + 1 >= frames // stacked else ""


def encoder_stride(frontend: Frontend) -> int:
    """Frames of 10 ms in one encoder frame: those stacked, else what Conv2dSubsampling takes."""
    return frontend.lfr_n if frontend.lfr_n > 1 else 4


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


def _read_features(utterance: Utterance, n_mels: int) -> np.ndarray:
    """Log-mel (T, n_mels) from the archive."""
    where = f"{utterance.key}: no features can be read from {utterance.feats}"
    try:
        feats = np.asarray(load_archive(utterance.feats), dtype=np.float32)
    except (OSError, ValueError) as error:
        raise DataError(f"{where} ({error}); run steps/make_fbank.sh again") from error
    if feats.ndim != 2 or feats.shape[1] != n_mels or not len(feats):
        raise DataError(
            f"{where} ({feats.shape}, not (frames, {n_mels})); run steps/make_fbank.sh again, "
            "with the n_mels of the model"
        )
    if not np.isfinite(feats).all():
        raise DataError(f"{where} (NaN or infinity in them); run steps/make_fbank.sh again")
    return feats


def _pad(rows: Sequence[Sequence[int]], multiple: int = 4) -> tuple[Tensor, Tensor]:
    lengths = [len(row) for row in rows]
    width = -(-max(lengths, default=0) // multiple) * multiple
    padded = torch.full((len(rows), width), -1, dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded, torch.tensor(lengths, dtype=torch.int64)


def _marks(rows: Sequence[tuple[Sequence[Utterance], Sequence[int]]]) -> Tensor:
    """Utterances of each row and the frames at which they begin -> (B, M, 2), see `Batch`."""
    marks = [
        marks_of(
            [
                (begin * FRAME_SECONDS, len(u.ids), u.words)
                for u, begin in zip(members, begins, strict=True)
            ]
        )
        for members, begins in rows
    ]
    padded = torch.zeros(len(rows), max(map(len, marks), default=0), 2)
    for row, found in zip(padded, marks, strict=True):
        if found:
            row[: len(found)] = torch.tensor(found)
    return padded


class Share(NamedTuple):
    """The number of this process, from 0, among all that read."""

    rank: int = 0
    world: int = 1

    def of(self, rows: int) -> tuple[range, int]:
        """The rows of a batch that are this process's, and how many processes have them: all,
        where a batch has too few for each to get one.

        >>> Share(1, 2).of(5), Share(1, 2).of(1)
        ((range(1, 5, 2), 1), (range(0, 1), 2))
        """
        if rows < self.world:
            return range(rows), self.world
        return range(self.rank, rows, self.world), 1


WHOLE = Share()


def made_ahead(
    makers: Iterable[Callable[[], Batch]], readers: int, ahead: int = 8
) -> Iterator[Batch]:
    """The batches of the makers, in order; threads make up to `ahead` before they are needed."""
    pool = ThreadPoolExecutor(readers, "reader")
    tasks = (pool.submit(maker) for maker in makers)
    waiting: deque[Future[Batch]] = deque(islice(tasks, ahead))
    try:
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(islice(tasks, 1))
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Loader:
    """Batches of one epoch after another; `frontend` stacks and normalises what `augment` made.

    Utterances whose features or audio cannot be read are left out; where none of the first
    `MOST_LEFT_OUT` can be, the data are wrong, which is an error.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        frontend: Frontend,
        batching: Batching,
        augment: Augment | None = None,
        seed: int | None = None,
        readers: int = 1,
        share: Share = WHOLE,
        left_out: dict[str, str] | None = None,
    ) -> None:
        """seed: None reads in order without joining, as validation does. readers: threads that
        make batches. share: the rows of each batch that this process reads. left_out: where those
        that cannot be read are noted.
        """
        self.utterances, self.frontend, self.batching = utterances, frontend, batching
        self.augment, self.seed, self.readers, self.share = augment, seed, readers, share
        self.reader = Reader(frontend.fs)
        # Utterances whose audio or features were found to be bad, and why.
        self.left_out: dict[str, str] = {} if left_out is None else left_out
        self._read, self._lost = False, 0  # whether any could be read, and how many could not
        cmvn = frontend.cmvn
        mean = -cmvn.shift[: frontend.n_mels].numpy() if cmvn is not None else None
        self.mean = np.zeros(frontend.n_mels, np.float32) if mean is None else mean

    def plan(self, epoch: int) -> list[list[Example]]:
        """The batches of an epoch, the same whenever they are asked for."""
        random = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        return plan_epoch(self.utterances, self.batching, random)

    def epoch(self, epoch: int, start: int = 0, ahead: int = 8) -> Iterator[Batch]:
        """Batches of an epoch from number `start`, made by threads up to `ahead` before they are
        needed.
        """
        plan = self.plan(epoch)
        makers = (
            partial(self.collate, plan[number], (self.seed or 0, epoch, number))
            for number in range(start, len(plan))
        )
        usable = start > 0
        for batch in made_ahead(makers, self.readers, ahead):
            usable = usable or bool(batch.keys)
            yield batch
        if self.left_out:
            self._report(usable)

    def _report(self, usable: bool) -> None:
        key, reason = next(iter(self.left_out.items()))
        count, total = len(self.left_out), len(self.utterances)
        if not usable:
            raise DataError(f"none of {total} utterances can be used; '{key}': {reason}")
        stored = self.utterances[0].audio is None
        what = "features cannot be read" if stored else UNREADABLE
        log.warning("%d of %d utterances are left out: %s", count, total, what)

    def collate(self, examples: Sequence[Example], seed: Sequence[int]) -> Batch:
        """Read, augment, stack and pad the rows of one batch, less what cannot be read, and of
        them the share of this process.
        """
        places, copies = self.share.of(len(examples))
        # A row draws the same numbers whichever process has it.
        randoms = {place: np.random.default_rng((*seed, place)) for place in places}
        made = [
            (examples[place].frames, *row)
            for place, random in randoms.items()
            if (row := self._row(examples[place], random))
        ]
        rows, members = [x for _, x, _, _ in made], [parts for _, _, parts, _ in made]
        lengths = torch.tensor([len(x) for x in rows], dtype=torch.int64)
        step = -(-self.batching.frame_step // self.frontend.lfr_n)
        width = -(-max(map(len, rows), default=0) // step) * step
        feats = torch.zeros(len(rows), width, self.frontend.output_size)
        for i, x in enumerate(rows):
            feats[i, : len(x)] = x
        text, text_lengths = _pad([[t for u in m for t in u.ids] for m in members])
        units, unit_lengths = _pad([[t for u in m for t in u.units] for m in members])
        keys = ["+".join(u.key for u in m) for m in members]
        seconds = sum(frames for frames, _, _, _ in made) * FRAME_SECONDS
        marks = _marks([(parts, begins) for _, _, parts, begins in made])
        second = (units, unit_lengths, seconds, marks, copies)
        return Batch(keys, feats, lengths, text, text_lengths, *second)

    def _row(
        self, example: Example, random: np.random.Generator
    ) -> tuple[Tensor, list[Utterance], list[int]] | None:
        """Features (T, D) of a row, the utterances in it and the frames of 10 ms at which they
        begin; None where none could be read.
        """
        pieces: list[np.ndarray] = []
        members: list[Utterance] = []
        begins: list[int] = []
        for gap, part in zip(example.gaps, example.parts, strict=False):
            utterance = self.utterances[part]
            try:
                x = self._log_mel(utterance)
                self._read = True
            except ParaformerError as error:
                self._leave_out(utterance.key, str(error))
                continue
            pieces += [quiet_frames(x, gap, random), x] if gap else [x]
            members.append(utterance)
            begins.append(sum(map(len, pieces)) - len(x))
        if not members:
            return None
        if example.gaps[-1]:
            pieces.append(quiet_frames(x, example.gaps[-1], random))
        joined = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
        if self.augment is not None:
            joined = self.augment(joined, self.mean, random)
        row = self.frontend.features(torch.from_numpy(np.require(joined, None, ["C", "W"])))
        return row, members, begins

    def _log_mel(self, utterance: Utterance) -> np.ndarray:
        """Log-mel (T, n_mels) from the archive or of the audio."""
        if utterance.audio is None:
            return _read_features(utterance, self.frontend.n_mels)
        feats = self.frontend.fbank(self.reader.read(utterance.audio)).numpy()
        reason = too_short(utterance.ids, len(feats), encoder_stride(self.frontend))
        if reason:
            raise AudioError(f"{len(feats)} frames: {reason}; its length in the tables is wrong")
        return feats

    def _leave_out(self, key: str, reason: str) -> None:
        if key not in self.left_out:
            log.warning("utterance '%s': %s; left out", key, reason)
        self.left_out[key] = reason
        self._lost += 1
        if not self._read and self._lost >= MOST_LEFT_OUT:
            self._report(usable=False)
