"""Pack a Kaldi data directory into shards: `out`/shard-000000.tar ... and `out`/shards.list, which
training takes as `data`.

Of each utterance a shard holds audio and text, and where the directory has them the lines of ctm,
text_units and utt2spk. A file of audio is taken as it is; what a segment or a command gives is
written as WAV of 16 bits.
"""

from __future__ import annotations

import io
import logging
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

import soundfile
from omegaconf import DictConfig
from tqdm import tqdm

from paraformer.data.audio.media import AUDIO, HEADERLESS
from paraformer.data.batches.dataset import text_fault
from paraformer.data.batches.recordings import UNREADABLE, Reader
from paraformer.data.batches.selection import report_dropped
from paraformer.data.batches.shards import quote_key
from paraformer.data.corpus.ctm import read_times
from paraformer.data.corpus.tables import read_table, write_text
from paraformer.data.inputs.sources import Item, list_items
from paraformer.errors import DataError, ParaformerError
from paraformer.files import check_folder, remove_drafts, replacing
from paraformer.limits import Limits, check
from paraformer.options import SHARE
from paraformer.programs.hydra_main import run

log = logging.getLogger(__name__)


def make_shards(config: DictConfig) -> int:
    """Write the shards; an utterance without text or whose audio cannot be read is left out."""
    check("per_shard", config.per_shard, Limits(1, whole=True))
    check("min_success", config.min_success, SHARE)
    data, out = Path(config.data), check_folder(config.out)
    if not (data / "wav.scp").is_file():
        raise DataError(f"{data / 'wav.scp'}: no such file; give a data directory with audio")
    remove_drafts(out)
    for old in (out / "shards.list", *out.glob("shard-*.tar")):
        old.unlink(missing_ok=True)
    items = list_items(data)
    sides = read_sides(data, {item.key for item in items})
    dropped = Counter[str]()
    packed = pack(items, sides, Reader(config.fs), dropped)
    bar = iter(tqdm(packed, "make_shards", len(items), unit="utt", disable=None, leave=False))
    names: list[str] = []
    written = 0
    while part := list(islice(bar, config.per_shard)):
        names.append(f"shard-{len(names):06d}.tar")
        write_shard(out / names[-1], part)
        written += len(part)
    write_text(out / "shards.list", "".join(f"{name}\n" for name in names))
    report_dropped(data, dropped)
    log.info("%d of %d utterances in %d shards of %s", written, len(items), len(names), out)
    return 0 if written and written >= config.min_success * len(items) else 1


def read_sides(data: Path, utterances: Collection[str]) -> dict[str, dict[str, str]]:
    """Kind of member -> utterance -> what it holds; a ctm of recordings is shared out."""
    tables = {"txt": "text", "units": "text_units", "spk": "utt2spk"}
    sides = {
        kind: read_table(data / name)
        for kind, name in tables.items()
        if kind == "txt" or (data / name).is_file()
    }
    sides["ctm"] = {
        key: "".join(f"{key} 1 {a:.6f} {b - a:.6f} {word}\n" for a, b, word in words)
        for key, words in read_times(data, utterances).items()
    }
    return sides


def pack(
    items: Sequence[Item], sides: dict[str, dict[str, str]], reader: Reader, dropped: Counter[str]
) -> Iterator[list[tuple[str, bytes]]]:
    """The members of each utterance: names and contents; what is left out is counted by reason."""
    for item in items:
        if not sides["txt"].get(item.key):
            dropped[text_fault(item.key in sides["txt"], [])] += 1
            continue
        try:
            suffix, audio = read_bytes(item, reader)
        except ParaformerError as error:
            log.warning("utterance '%s': %s", item.key, error)
            dropped[UNREADABLE] += 1
            continue
        stem = quote_key(item.key)
        texts = {kind: table[item.key] for kind, table in sides.items() if item.key in table}
        members = [(f"{stem}.{kind}", text.encode()) for kind, text in texts.items()]
        yield [(f"{stem}{suffix}", audio), *members]


def read_bytes(item: Item, reader: Reader) -> tuple[str, bytes]:
    """Suffix and content of a file of audio."""
    path = Path(str(item.source))
    suffix = path.suffix.lower()
    if item.segment is None and suffix in AUDIO and suffix not in HEADERLESS and path.is_file():
        return suffix, path.read_bytes()
    file = io.BytesIO()
    soundfile.write(file, reader.read(item).numpy(), reader.fs, "PCM_16", format="WAV")
    return ".wav", file.getvalue()


def write_shard(path: Path, utterances: Sequence[Sequence[tuple[str, bytes]]]) -> None:
    """A tar, whole or not at all; the same content gives the same bytes."""
    with replacing(path) as draft, tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
        for members in utterances:
            for name, content in members:
                header = tarfile.TarInfo(name)
                header.size, header.mode = len(content), 0o644
                tar.addfile(header, io.BytesIO(content))


def main() -> int:
    """Entry of bin/make_shards.py."""
    return run("make_shards", make_shards)
