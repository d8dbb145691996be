"""Audio with damage of every kind, from a fixed seed: samples or one clear error, no traceback, no
hang, no gigabytes; and what is sound between it stays what it is.

PARAFORMER_FUZZ=20000 runs so many examples, and with the ffmpeg program where it is installed.
"""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import count_channels, read_audio, read_channels
from paraformer.data.audio.soundfiles import header_samples
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item
from paraformer.errors import AudioError
from tests.bench.measure import peak_mb
from tests.conftest import ROOT

EXAMPLES = int(os.environ.get("PARAFORMER_FUZZ", "0"))
FEW = 600
SOUND_EVERY = 50
NAMES = [b"RIFF", b"RF64", b"riff", b"WAVE", b"ds64", b"fmt ", b"LIST", b"data", b"fact", b"desc"]
NAMES += [b"FORM", b"COMM", b"SSND", b".snd", b"caff", b"fLaC", b"OggS", b"Xing", b"Info", b"ID3"]
SIZES = [0, 1, 2, 3, 7, 8, 15, 16, 18, 24, 36, 40, 44, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF]
SIZES += [0x10000, 0xFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]


def sound_files():
    """Small files of each format that soundfile writes, one with chunks before its samples."""
    wave = 0.3 * np.sin(np.arange(3000) * 0.05)
    stereo = np.stack([wave, wave[::-1]], 1)
    kinds = [("WAV", "PCM_16", wave), ("WAV", "ALAW", wave), ("WAV", "IMA_ADPCM", wave)]
    kinds += [("WAV", "FLOAT", stereo), ("WAVEX", "PCM_24", stereo), ("WAV", "GSM610", wave)]
    kinds += [("RF64", "PCM_16", wave), ("W64", "PCM_16", stereo), ("AIFF", "PCM_16", wave)]
    kinds += [("AU", "PCM_16", wave), ("CAF", "ALAC_16", stereo), ("CAF", "PCM_16", wave)]
    kinds += [("FLAC", "PCM_16", wave), ("OGG", "VORBIS", stereo), ("OGG", "OPUS", wave)]
    kinds += [("MP3", "MPEG_LAYER_III", stereo)]
    found = []
    for form, subtype, samples in kinds:
        file = io.BytesIO()
        rate = 8000 if subtype in ("GSM610", "OPUS") else 16000
        soundfile.write(file, samples, rate, format=form, subtype=subtype)
        found.append(file.getvalue())
    listed = struct.pack("<4sI", b"LIST", 5) + b"INFOx\0"
    found.append(found[0][:36] + listed + found[0][36:])
    found.append(found[-2].replace(b"Xing", b"Xxxx").replace(b"Info", b"Ixxx"))  # no length told
    return found


def overwritten(rng, content, place, new):
    content[place : place + len(new)] = new


def size_of_a_chunk(rng, content):
    """Another number behind a chunk's name, in one of the widths and byte orders."""
    places = [p for name in NAMES for p in (content.find(name),) if p >= 0]
    place = rng.choice(places or [0]) + rng.choice([4, 4, 4, 8, 12, 16, 20, 22])
    value = rng.choice([*SIZES, rng.getrandbits(32), len(content) - place])
    form = rng.choice(["<I", ">I", "<H", ">H", "<Q", ">Q"])
    new = struct.pack(form, value & (1 << 8 * struct.calcsize(form)) - 1)
    overwritten(rng, content, place, new)


def bytes_of_the_head(rng, content):
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(min(len(content), 128))] = rng.getrandbits(8)


def bytes_anywhere(rng, content):
    for _ in range(rng.randint(1, 20)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def cut(rng, content):
    del content[rng.randint(1, len(content)) :]


def a_part_lost(rng, content):
    place = rng.randrange(len(content))
    del content[place : place + rng.choice([1, 2, 7, 100])]


def a_part_twice(rng, content):
    first, last = sorted(rng.randrange(len(content)) for _ in range(2))
    content[first:first] = content[first:last]


def a_part_of_another(rng, content):
    other = rng.choice(FILES)
    place = rng.randrange(min(len(content), len(other)))
    overwritten(rng, content, place, other[place : place + rng.randint(1, 200)])


DAMAGES = [size_of_a_chunk, size_of_a_chunk, bytes_of_the_head, bytes_anywhere]
DAMAGES += [cut, a_part_lost, a_part_twice, a_part_of_another]
FILES = sound_files()


def damaged(seed):
    """The example of a seed."""
    rng = random.Random(seed)
    content = bytearray(rng.choice(FILES))
    for _ in range(rng.choice([1, 1, 2, 3])):
        if content:
            rng.choice(DAMAGES)(rng, content)
    return bytes(content), rng.choice([read_as_bytes, read_as_file, read_in_blocks, read_each])


def read_as_bytes(content, path):
    return read_audio(content)


def read_as_file(content, path):
    path.write_bytes(content)
    header_samples(str(path), 16000)
    return read_audio(path, channel=0)


def read_in_blocks(content, path):
    path.write_bytes(content)
    return torch.cat(list(read_blocks(Item("x", path), 16000, 1)))


def read_each(content, path):
    count = count_channels(content)
    found = read_channels(content)
    assert len(found) == count
    return found


def check(content, read, path):
    """What came of an example, or how it went wrong."""
    try:
        wave = read(content, path)
    except AudioError as error:
        return "refused" if str(error) and "\n" not in str(error) else f"message {error}"
    if wave.dtype != torch.float32 or not wave.isfinite().all():
        return "samples that are none"
    return "read"


def main(count, first_seed):
    """Run the examples; print as JSON what came of them, and the peak of memory in MB."""
    outcomes, wrong = Counter(), []
    expected = [read_audio(file) for file in FILES]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first_seed, first_seed + count):
            content, read = damaged(seed)
            sys.stderr.write(f"{seed}\n")
            try:
                outcome = check(content, read, Path(folder, "x.wav"))
            except Exception as error:  # noqa: BLE001  # what must not happen, told with its seed
                outcome = repr(error)
            outcomes[outcome if outcome in ("read", "refused") else "wrong"] += 1
            if outcome not in ("read", "refused"):
                wrong.append((seed, read.__name__, outcome))
            if seed % SOUND_EVERY == 0:
                place = seed // SOUND_EVERY % len(FILES)
                outcomes["sound"] += torch.equal(read_audio(FILES[place]), expected[place])
    sys.stdout.write(json.dumps({"outcomes": outcomes, "wrong": wrong, "peak_mb": peak_mb()}))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory in /proc")
def test_damage_is_read_or_refused(tmp_path):
    """In a process of its own, whose memory, messages and end can be told from others'."""
    count = EXAMPLES or FEW
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if not EXAMPLES:
        environment["PATH"] = str(tmp_path)  # no ffmpeg, which takes long to start
    done = subprocess.run(
        [sys.executable, __file__, str(count)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300 + count,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr  # as of an error in what libsndfile calls back
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["peak_mb"] < 1024
    assert found["outcomes"]["sound"] == -(-count // SOUND_EVERY)
    assert found["outcomes"]["read"] > count / 5 and found["outcomes"]["refused"] > count / 20


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
