"""Reads TextGrid files of Praat, and makes data directories of corpora of them, such as meetings
with a tier for each speaker.

Standard library only: the programs in `utils/` start with it.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from paraformer.data.audio.media import AUDIO
from paraformer.data.corpus.datadir import DROPPED, write_data_dir
from paraformer.data.corpus.tags import tag_pattern
from paraformer.data.inputs.jsonl import Converted, write_dropped
from paraformer.errors import DataError

SUFFIX = ".textgrid"
# Only these count in such a file: texts, numbers and flags that stand free; the rest explains.
_ITEM = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?<!\S)(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)'
    r"|(?<!\S)(?P<flag><\w+>)(?!\S)|(?<!\S)!.*"
)
_NO_ID = re.compile(r"[\s/\\]+")


class Interval(NamedTuple):
    """A stretch of a tier, in seconds, and what was said."""

    start: float
    end: float
    text: str


class Tier(NamedTuple):
    """A row of intervals; they follow each other, but nothing here relies on that."""

    name: str
    intervals: list[Interval]


class Rules(NamedTuple):
    """Rules by which files become utterances."""

    tags: str = ""  # pairs of brackets; what stands in them is left out
    tiers: str = "*"  # pattern of the names of the tiers that are taken
    same_speakers: bool = False  # one name is one person in all recordings


def read_textgrid(path: str | Path) -> list[Tier]:
    """The tiers with intervals of a file in Praat's long or short text format; UTF-8 or UTF-16."""
    return parse_textgrid(_read(Path(path)), str(path))


def parse_textgrid(content: str, where: str) -> list[Tier]:
    """The tiers in the text of a file, which errors call `where`.

    >>> short = '"ooTextFile" "TextGrid" 0 2 <exists> 1 "IntervalTier" "A" 0 2 1 0 2 "a ""b"" c"'
    >>> parse_textgrid(short, "a")
    [Tier(name='A', intervals=[Interval(start=0.0, end=2.0, text='a "b" c')])]
    """
    items = _Items(content, where)
    kind, grid = items.text(), items.text()
    if (kind, grid) != ("ooTextFile", "TextGrid"):
        raise items.wrong("is no TextGrid")
    items.number(), items.number()
    if items.next("flag") != "<exists>":
        return []
    tiers = []
    for _ in range(items.count()):
        kind, name = items.text(), items.text()
        items.number(), items.number()
        size = items.count()
        if kind == "IntervalTier":
            rows = [Interval(items.number(), items.number(), items.text()) for _ in range(size)]
            tiers.append(Tier(name, rows))
        elif kind == "TextTier":
            for _ in range(size):
                items.number(), items.text()
        else:
            raise items.wrong(f"has a tier of the unknown kind '{kind}'")
    return tiers


class _Items:
    """The texts, numbers and flags that count in a file, one after another."""

    def __init__(self, content: str, where: str) -> None:
        self.content, self.where, self.place = content, where, 0
        self._found = (m for m in _ITEM.finditer(content) if m.lastgroup)

    def wrong(self, what: str) -> DataError:
        """The error at this place."""
        line = self.content.count("\n", 0, self.place) + 1
        return DataError(f"{self.where}:{line}: {what}; save it in Praat as a text file")

    def next(self, kind: str) -> str:
        """The next item, which must be of this kind."""
        match = next(self._found, None)
        if match is None:
            raise self.wrong(f"ends where a {kind} should stand")
        self.place = match.start()
        if match.lastgroup != kind:
            raise self.wrong(f"'{match[0][:30]}' stands where a {kind} should")
        return str(match[kind])

    def text(self) -> str:
        """The next text, in which quotes are doubled."""
        return self.next("text").replace('""', '"')

    def number(self) -> float:
        """The next number."""
        return float(self.next("number"))

    def count(self) -> int:
        """The next number, of things that follow."""
        number = self.number()
        if not (number.is_integer() and 0 <= number <= len(self.content)):
            raise self.wrong(f"{number:g} is no number of tiers or intervals")
        return int(number)


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a TextGrid file") from None
    if content.startswith(b"ooBinaryFile"):
        raise DataError(f"{path}: is in Praat's binary format; save it as a text file")
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: neither UTF-8 nor UTF-16; convert it, for instance: iconv -f gb18030 -t utf-8"
        ) from None


def textgrids_to_data(
    sources: Iterable[str | Path], folder: str | Path, rules: Rules | None = None
) -> Converted:
    """Write wav.scp, segments, text, utt2spk and reco2file_and_channel of TextGrid files, or of all
    in folders, that have a recording of the same name there; the rest goes to dropped.txt.

    A recording has the name of its TextGrid, or that and more behind an underline, as the far
    microphones of AliMeeting. Each tier is a speaker; what they say at the same time stays.
    """
    rules, folder = rules or Rules(), Path(folder)
    grids, audio = _find(map(Path, sources))
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    dropped: dict[str, str] = {}
    for path in grids:
        name = _id(path.stem)
        wav, reason = _recording(path.stem, audio)
        if not reason and name in tables["wav.scp"]:
            reason = "another TextGrid of this name is taken"
        try:
            tiers = read_textgrid(path) if not reason else []
        except DataError as error:
            reason = str(error)
        rows = dict(_utterances(name, tiers, rules, dropped)) if not reason else {}
        if not rows:
            dropped["_".join(str(path).split())] = reason or "nothing is said in it"
            continue
        tables["wav.scp"][name] = os.path.abspath(wav)
        tables["reco2file_and_channel"][name] = f"{name} 1"
        for key, (speaker, segment, text) in rows.items():
            tables["segments"][key], tables["text"][key] = segment, text
            tables["utt2spk"][key] = speaker
    if not tables["text"]:
        reasons = "; ".join(f"{n} {why}" for why, n in Counter(dropped.values()).most_common(3))
        raise DataError(
            f"{folder}: no usable TextGrid ({reasons or 'none is there'}); give folders with "
            "TextGrid files and recordings of their names"
        )
    write_data_dir(folder, dict(tables))
    write_dropped(folder / DROPPED, dropped)
    return Converted(len(tables["text"]), dropped)


def _find(sources: Iterable[Path]) -> tuple[list[Path], dict[str, list[Path]]]:
    """TextGrid files in order, and the recordings in and beside the sources by their stems."""
    grids: dict[Path, None] = {}
    audio: dict[str, list[Path]] = defaultdict(list)
    for source in sources:
        if not source.exists():
            raise DataError(
                f"{source}: no such file or folder (looked for {source.absolute()}); check the path"
            )
        files = source.rglob("*") if source.is_dir() else [source, *source.parent.iterdir()]
        for path in sorted(files):
            suffix = path.suffix.lower()
            if suffix == SUFFIX and (source.is_dir() or path == source):
                grids[path] = None
            elif suffix in AUDIO and path not in audio[path.stem]:
                audio[path.stem].append(path)
    return list(grids), audio


def _recording(stem: str, audio: Mapping[str, Sequence[Path]]) -> tuple[Path, str]:
    """The recording of a TextGrid, or why it has none."""
    found = audio.get(stem) or [
        p for s, ps in audio.items() if s.startswith(f"{stem}_") for p in ps
    ]
    if len(found) == 1:
        return found[0], ""
    return Path(), "several recordings of this name" if found else "no recording of this name"


def _utterances(
    recording: str, tiers: Iterable[Tier], rules: Rules, dropped: dict[str, str]
) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Ids with speaker, segment and text of each; ids begin with their speaker, as Kaldi sorts."""
    pattern = tag_pattern(rules.tags)
    used: Counter[str] = Counter()
    for tier in tiers:
        if not fnmatchcase(tier.name, rules.tiers):
            continue
        own = _id(tier.name) or "unknown"
        speaker = own if rules.same_speakers else f"{recording}-{own}"
        for start, end, said in tier.intervals:
            text = " ".join(pattern.sub(" ", said).split())
            if not text:
                continue
            key = f"{speaker}-{recording}" if rules.same_speakers else speaker
            key += f"-{round(1000 * start):08d}-{round(1000 * end):08d}"
            used[key] += 1
            key += f"-{used[key]}" if used[key] > 1 else ""
            if not 0 <= round(1000 * start) < round(1000 * end):
                dropped[key] = "ends before it begins"
                continue
            yield key, (speaker, f"{recording} {start:.3f} {end:.3f}", text)


def _id(name: str) -> str:
    """A name as one word of a table."""
    return _NO_ID.sub("_", name.strip())
