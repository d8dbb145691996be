"""Large corpora as shards, tar files of audio and text that are read from end to end: training
data that is never listed as a whole.

`KEY.txt` and audio (`KEY.wav`, `.flac`, ...) stand beside each other in a tar, in any order, and
optionally `KEY.ctm`, `KEY.units` and `KEY.spk` (see `paraformer.programs.make_shards`).
"""

from __future__ import annotations

import logging
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paraformer.data.audio.containers import kind_of
from paraformer.data.audio.media import AUDIO
from paraformer.data.audio.soundfiles import header, is_raw
from paraformer.data.batches.augment import Augment
from paraformer.data.batches.dataset import (
    WHOLE,
    Batch,
    Batching,
    Loader,
    Share,
    Utterance,
    encoder_stride,
    made_ahead,
    text_fault,
    too_short,
)
from paraformer.data.batches.recordings import UNREADABLE
from paraformer.data.batches.selection import Chooser
from paraformer.data.corpus.ctm import ctm_words, timed_words
from paraformer.data.corpus.tables import decoded, parse_rows
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.sources import Item
from paraformer.errors import AudioError, DataError

log = logging.getLogger(__name__)

GROUP = 1024  # lines of a list that are shuffled together, and whose beginning is remembered
SCAN_BYTES = 1 << 20
LOST = "shard cannot be read to its end"
BLOCK = 4096  # utterances that are shuffled together
BLOCK_BYTES = 1 << 31  # and their audio; 4,096 of 16 s as WAV
# One member, unpacked: two hours of audio at 16 kHz, a million words beside it.
MOST_AUDIO_BYTES = 1 << 28
MOST_SIDE_BYTES = 1 << 24
TOO_LARGE = "too large for one utterance"
SIDES = ("txt", "ctm", "units", "spk")


class ShardList:
    """A file with a path a line, however long: of all its lines only where each `GROUP` of them
    begins is kept.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.starts = _group_starts(self.path)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give a list of shards") from None
        if not self.starts:
            raise DataError(f"{path}: is empty; give the path of a shard a line")

    def order(self, seed: Sequence[int] | None, start: int = 0) -> Iterator[str]:
        """The shards from number `start` of an order that the seed gives, of the list with None:
        groups are shuffled, and lines in each. Relative paths count from here, else from the list.
        """
        groups = range(len(self.starts))
        random = None if seed is None else np.random.default_rng((*seed, 0))
        order = groups if random is None else random.permutation(len(groups))
        for group in order:
            size = self._size(int(group))
            if start >= size:
                start -= size
                continue
            lines = self._lines(int(group))
            if seed is not None:
                places = np.random.default_rng((*seed, 1, group)).permutation(len(lines))
                lines = [lines[place] for place in places]
            yield from map(self._locate, lines[start:])
            start = 0

    def _size(self, group: int) -> int:
        return GROUP if group + 1 < len(self.starts) else len(self._lines(group))

    def _lines(self, group: int) -> list[str]:
        begin, *end = self.starts[group : group + 2]
        with self.path.open("rb") as file:
            file.seek(begin)
            content = file.read(end[0] - begin if end else -1)
        text = decoded(content, f"{self.path}: ").removeprefix("\ufeff")
        return [line for line in text.splitlines() if line.strip()]

    def _locate(self, line: str) -> str:
        beside = self.path.parent / line
        return line if Path(line).is_file() or not beside.is_file() else str(beside)


def _group_starts(path: Path) -> list[int]:
    """Bytes at which each group of lines begins."""
    size, lines, starts, place = path.stat().st_size, 0, [0], 0
    with path.open("rb") as file:
        while chunk := file.read(SCAN_BYTES):
            ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + 1
            first = (-lines - 1) % GROUP  # the first end here that closes a group
            starts += (place + ends[first::GROUP]).tolist()
            lines, place = lines + len(ends), place + len(chunk)
    return [start for start in starts if start < size]


class Member(NamedTuple):
    """An utterance as it stands in a shard."""

    key: str
    audio: bytes  # empty where it has none
    sides: Mapping[str, bytes]
    fault: str = ""  # why it cannot be used, whatever else it has


def read_shard(path: str) -> Iterator[Member]:
    """Utterances of a tar in order. Nothing is unpacked, and links and devices are passed over, so
    that no member can reach a file outside of it. What is too large is passed over as well: a
    packed tar may hold a thousand times its own size. DataError where the tar is damaged, behind
    the utterances that stand before the damage.
    """
    found = Member("", b"", {})
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                name, _, kind = member.name.removeprefix("./").rpartition(".")
                if not member.isreg() or not (kind in SIDES or f".{kind.lower()}" in AUDIO):
                    continue
                if name != found.key:
                    yield from _named(found)
                    found = Member(name, b"", {})
                found = _with_file(found, kind, tar, member)
            yield from _named(found)
    except Exception as error:  # of a damaged header tarfile raises many kinds
        raise DataError(
            f"{path}: cannot be read as tar ({error}); make this shard again"
        ) from error


def _with_file(found: Member, kind: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Member:
    """An utterance with one more of its files."""
    if member.size > (MOST_SIDE_BYTES if kind in SIDES else MOST_AUDIO_BYTES):
        return found._replace(fault=TOO_LARGE)
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if kind in SIDES:
        return found._replace(sides={**found.sides, kind: content})
    return found._replace(audio=_sound(member.name, content))


def _sound(name: str, content: bytes) -> bytes:
    """The bytes of an audio file; none, with a warning, if they are of no known format."""
    if is_raw(name) or kind_of(content):
        return content
    log.warning("%s: of no known format, which is left out; raw samples are named .pcm", name)
    return b""


def _named(found: Member) -> Iterator[Member]:
    """An utterance by its key, if there was one."""
    if found.key:
        yield found._replace(key=unquote_key(found.key))


def quote_key(key: str) -> str:
    """A key as the name of a member, which cannot leave the folder that the tar is unpacked in.

    >>> quote_key("../50%/a"), unquote_key("..%2F50%25%2Fa")
    ('..%2F50%25%2Fa', '../50%/a')
    """
    for mark in ("%", "/", "\\"):
        key = key.replace(mark, f"%{ord(mark):02X}")
    return key


def unquote_key(name: str) -> str:
    """The key of a member."""
    for mark in ("\\", "/", "%"):
        name = name.replace(f"%{ord(mark):02X}", mark)
    return name


class Place(NamedTuple):
    """The beginning of a block of utterances: a shard of the order, an utterance in it, a batch."""

    shard: int = 0
    utterance: int = 0
    block: int = 0
    batch: int = 0


class _Block(NamedTuple):
    """Utterances that are shuffled together, where they begin, and where the next ones do."""

    begin: Place
    utterances: list[Utterance]
    shard: int
    utterance: int


class ShardLoader:
    """Batches of one epoch after another from a list of shards, in the manner of `Loader`: the
    order of the shards is drawn for each epoch, and `block` utterances after another are shuffled
    and share batches.
    """

    def __init__(
        self,
        shards: ShardList,
        chooser: Chooser,
        units: Mapping[str, int],
        frontend: Frontend,
        batching: Batching,
        augment: Augment | None = None,
        seed: int | None = None,
        readers: int = 1,
        share: Share = WHOLE,
        block: int = BLOCK,
    ) -> None:
        """See `Loader`; chooser: which utterances are used; units: the second inventory."""
        self.shards, self.chooser, self.units, self.block = shards, chooser, units, block
        self.frontend, self.batching, self.augment = frontend, batching, augment
        self.seed, self.readers, self.share = seed, readers, share
        self._unfit = False  # whether words that are not their text have been named
        self._next = Place()
        self._begun: deque[Place] = deque()
        self._left_out: dict[str, str] = {}  # of the epoch

    def place(self, batch: int) -> list[int]:
        """The beginning of the block that holds batch number `batch` of the epoch."""
        begun = [place for place in self._begun if place.batch <= batch]
        return list(begun[-1] if batch and begun else Place())

    def go_to(self, place: list[int]) -> None:
        """Begin the next epoch there."""
        self._next = Place(*place)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from number `start`; without `go_to`, what lies before is read, but
        not decoded.
        """
        self.chooser.forget()
        first = self._next if self._next.batch <= start else Place()
        self._next, self._begun = Place(), deque(maxlen=64)
        try:
            yield from made_ahead(self._makers(epoch, first, start), self.readers)
        finally:  # an epoch may be left in its middle
            if self._left_out:
                self.chooser.dropped[UNREADABLE] += len(self._left_out)
                self._left_out.clear()
            if self.share.rank == 0:  # all processes read the same
                self.chooser.report(self.shards.path)

    def _makers(self, epoch: int, first: Place, start: int) -> Iterator[Callable[[], Batch]]:
        """A function for each batch that makes it; meanwhile a thread reads the next block."""
        number, found = first.batch, False
        with ThreadPoolExecutor(1, "shards") as pool:
            blocks = self._blocks(epoch, first)
            coming = pool.submit(next, blocks, None)
            while (block := coming.result()) is not None:
                coming = pool.submit(next, blocks, None)
                found = True
                # As long as a batch of a block may be the last that is done, it is remembered.
                self._begun.append(block.begin._replace(batch=number))
                loader = self._loader(block)
                for batch, examples in enumerate(loader.plan(epoch), number):
                    number = batch + 1
                    if batch >= start:
                        yield partial(loader.collate, examples, (self.seed or 0, epoch, batch))
        if not found and not first.batch:
            reasons = self.chooser.reasons() or "no shards"
            raise DataError(f"{self.shards.path}: no usable utterance ({reasons})")

    def _loader(self, block: _Block) -> Loader:
        seed = None if self.seed is None else (self.seed + 7919 * block.begin.block) % 2**32
        return Loader(
            block.utterances,
            self.frontend,
            self.batching,
            self.augment,
            seed,
            share=self.share,
            left_out=self._left_out,
        )

    def _blocks(self, epoch: int, first: Place) -> Iterator[_Block]:
        """The utterances of an epoch in its order of shards, block by block."""
        seed = None if self.seed is None else (self.seed, epoch)
        begin, kept, held = first, list[Utterance](), 0
        skipped = first.utterance
        for shard, path in enumerate(self.shards.order(seed, first.shard), first.shard):
            done = 0
            for done, member in enumerate(self._sound(path), 1):
                if done <= skipped:
                    continue
                utterance = self._utterance(member)
                if utterance is not None:
                    kept.append(utterance)
                    held += len(member.audio)
                if len(kept) == self.block or held > BLOCK_BYTES:
                    yield _Block(begin, kept, shard, done)
                    begin, kept, held = Place(shard, done, begin.block + 1), [], 0
            skipped = 0
        if kept:
            yield _Block(begin, kept, shard, done)

    def _sound(self, path: str) -> Iterator[Member]:
        """The utterances of a shard, of a damaged one those before the damage."""
        try:
            yield from read_shard(path)
        except DataError as error:
            self.chooser.dropped[LOST] += 1
            if self.share.rank == 0:
                log.warning("%s", error)

    def _utterance(self, member: Member) -> Utterance | None:
        """The utterance of a member; None if it cannot be used, which is counted."""
        try:
            sides = {kind: side.decode("utf-8").strip() for kind, side in member.sides.items()}
        except UnicodeDecodeError:
            self.chooser.dropped["not UTF-8"] += 1
            return None
        text = sides.get("txt", "")
        ids, frames = self.chooser.encode(text), self._frames(member)
        reason = (
            member.fault
            or ("" if member.audio else "no audio")
            or text_fault("txt" in sides, ids)
            or ("" if frames else UNREADABLE)
            or too_short(ids, frames, encoder_stride(self.frontend))
            or self.chooser.why_not(ids, frames, text)
        )
        if reason:
            self.chooser.dropped[reason] += 1
            return None
        try:
            times = ctm_words(parse_rows(sides.get("ctm", "")), f"{member.key}.ctm")
            units = self._units(member.key, sides.get("units", "").split())
        except DataError as error:
            if self.share.rank == 0:
                log.warning("%s", error)
            self.chooser.dropped["ctm or units are wrong"] += 1
            return None
        words = timed_words(times, member.key, ids, self.chooser.encode)
        if times and not words and not self._unfit and self.share.rank == 0:
            self._unfit = True
            log.warning(
                "%s: the words in the ctm of '%s' are not its text: it has no times, nor has any "
                "other of that kind",
                *(self.shards.path, member.key),
            )
        speaker, item = sides.get("spk", member.key), Item(member.key, member.audio)
        return Utterance(member.key, "", frames, ids, units, speaker, item, words)

    def _units(self, key: str, names: Sequence[str]) -> list[int]:
        if not self.units:
            return []
        unknown = [name for name in names if name not in self.units]
        if unknown:
            raise DataError(
                f"{self.shards.path}: '{key}': unit {unknown[0]} is not in the inventory"
            )
        return [self.units[name] for name in names]

    def _frames(self, member: Member) -> int:
        """Frames of 10 ms, 0 where the audio does not tell, or is not there."""
        fs = self.frontend.fs
        if not member.audio:
            return 0
        info = header(member.audio)
        if info is not None:
            return self.frontend.frames(-(-fs * info.frames // info.samplerate))
        try:
            return self.frontend.frames(len(Item(member.key, member.audio).read(None, fs)))
        except AudioError as error:
            if self.share.rank == 0:
                log.warning("utterance '%s': %s", member.key, error)
            return 0
