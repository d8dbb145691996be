"""Lists of FunASR, one JSON object a line (`key source source_len target target_len`), become Kaldi
data directories and back.

Standard library only: the programs in `utils/` start with it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.datadir import DROPPED, DataDir, Utterance, write_data_dir
from paraformer.data.corpus.ids import URL
from paraformer.data.corpus.tables import read_whole, readable, write_table, write_text
from paraformer.data.corpus.transcripts import wav_seconds
from paraformer.documents import parse_json
from paraformer.errors import AudioError, DataError

FRAMES_PER_SECOND = 100  # what FunASR counts the source of speech in
_RATE = 16000
_BLANKS = " \t\r\n\ufeff"


class Converted(NamedTuple):
    """The number of lines that were taken, and the reasons why others were not."""

    kept: int
    dropped: dict[str, str]  # id, or `list:line` -> reason

    def counts(self) -> dict[str, int]:
        """Reason to number of what was dropped, the most frequent first."""
        return dict(Counter(self.dropped.values()).most_common())


def jsonl_to_data(lists: Iterable[str | Path], folder: str | Path) -> Converted:
    """Write wav.scp, text and utt2spk of the lines that can be used; the rest goes to dropped.txt.

    A relative path counts from the current folder, else from that of its list. A source is a file:
    one that ends in `|`, which Kaldi would run, is dropped.
    """
    wavs: dict[str, str] = {}
    texts: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for path in map(Path, lists):
        for number, line in enumerate(read_whole(path).split("\n"), 1):
            if not line.strip():
                continue
            key, source, target, reason = _entry(line, path.parent)
            if not reason and key in wavs:
                reason = "key stands twice, the first is kept"
            if reason:
                dropped["_".join(f"{path}:{number}".split())] = reason
            else:
                wavs[key], texts[key] = source, target
    folder = Path(folder)
    if not wavs:
        raise DataError(f"{folder}: no usable line ({_reasons(dropped) or 'the lists are empty'})")
    speakers = {key: key for key in wavs}
    write_data_dir(folder, {"wav.scp": wavs, "text": texts, "utt2spk": speakers})
    write_dropped(folder / DROPPED, dropped)
    return Converted(len(wavs), dropped)


def _entry(line: str, folder: Path) -> tuple[str, str, str, str]:
    """Key, source and target of a line, or why it cannot be used."""
    try:
        value = parse_json(line)
    except ValueError:
        return "", "", "", "not JSON"
    if not isinstance(value, dict):
        return "", "", "", "not a JSON object"
    key, source, target = (value.get(name) for name in ("key", "source", "target"))
    key = "" if key is None else str(key)
    if not key or any(mark in key for mark in _BLANKS):
        return "", "", "", "key is empty or holds a blank"
    if any(readable(text) != text for text in map(str, (key, source, target))):
        return "", "", "", "not UTF-8"
    if not isinstance(source, str) or not source.strip() or "\n" in source:
        return key, "", "", "no source"
    if source.rstrip().endswith("|"):
        return key, "", "", "source is a command"
    if not isinstance(target, str) or not target.strip():
        return key, "", "", "no target"
    located = _locate(source.strip(), folder)
    reason = "" if located else "no such file"
    return key, located, " ".join(target.split()), reason


def _locate(source: str, folder: Path) -> str:
    """The whole path of a file that is there, "" where none is; URLs are not looked up."""
    if URL.match(source):
        return source
    places = (Path(source), folder / source)
    return next((os.path.abspath(place) for place in places if os.path.isfile(place)), "")


def data_to_jsonl(data: str | Path, path: str | Path) -> Converted:
    """Write a line for each utterance that is a file of its own and has a text; the rest goes to
    `path`.dropped.

    source_len is in frames of 10 ms, as FunASR counts: of utt2num_frames, of utt2dur or of the
    header of the file; target_len in characters, or in words where there are blanks.
    """
    folder = DataDir(data)
    if "segments" in folder:
        raise DataError(
            f"{folder.path}: has segments, and a list has whole files alone; cut the recordings"
        )
    wavs, texts = folder.table("wav.scp"), folder.table("text")
    known = {utterance.id: utterance for utterance in folder.iter_utterances()}
    lines, dropped = list[str](), dict[str, str]()
    for key in sorted(wavs.keys() | texts.keys()):
        source, text = wavs.get(key, ""), texts.get(key, "").strip()
        reason = _why_not(source, text)
        located = "" if reason else _locate(source, folder.path)
        frames = _frames(located, known.get(key)) if located else 0
        if not reason and not frames:
            reason = "length not known, make utt2dur" if located else "no such file"
        if reason:
            dropped[key] = reason
        else:
            lines.append(_line(key, located, frames, text))
    if not lines:
        raise DataError(
            f"{folder.path}: no usable utterance ({_reasons(dropped) or 'it is empty'})"
        )
    write_text(path, "".join(lines))
    write_dropped(Path(f"{path}.dropped"), dropped)
    return Converted(len(lines), dropped)


def _line(key: str, source: str, frames: int, text: str) -> str:
    size = len(text.split()) if " " in text else len(text)
    entry = {"key": key, "source": source, "source_len": frames, "target": text, "target_len": size}
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _why_not(source: str, text: str) -> str:
    if not source:
        return "no audio"
    if not text:
        return "no transcript"
    return "audio is a command" if source.endswith("|") else ""


def _frames(source: str, utterance: Utterance | None) -> int:
    """Frames of 10 ms, 0 where nothing tells."""
    if utterance is not None and utterance.frames:
        return utterance.frames
    told = utterance.duration_seconds if utterance is not None else None
    seconds = told or wav_seconds(Path(source)) or _file_seconds(source)
    return round(seconds * FRAMES_PER_SECOND)


def _file_seconds(source: str) -> float:
    """Seconds of a file that is no PCM wav, by its header or by reading it; 0 if unreadable."""
    # Directories that know their lengths need no torch.
    from paraformer.data.audio.read import read_audio
    from paraformer.data.audio.soundfiles import header

    found = header(Path(source))
    if found is not None:
        return float(found.duration)
    try:
        return len(read_audio(source, target_fs=_RATE)) / _RATE
    except AudioError:
        return 0.0


def _reasons(dropped: dict[str, str]) -> str:
    return ", ".join(
        f"{count} {reason}" for reason, count in Converted(0, dropped).counts().items()
    )


def write_dropped(path: Path, dropped: dict[str, str]) -> None:
    """Write the table of what was not taken, id and reason; none where all was."""
    path.unlink(missing_ok=True)
    if dropped:
        write_table(path, dropped)
