"""Sound made from code, and the ways in which a file of it is read, for tests of audio formats."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.mpeg import frame_length
from paraformer.data.audio.read import read_audio
from paraformer.data.audio.soundfiles import header_samples
from paraformer.data.batches.recordings import Reader
from paraformer.data.inputs.audio_items import Segment
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item

RATE = 16000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program here")
RANDOM = np.random.default_rng(0)
FIRST, SECOND = (
    (0.3 * np.sin(np.cumsum(RANDOM.uniform(0.02, 0.6, n)))).astype(np.float32)
    for n in (2 * RATE, 3 * RATE)
)


def written(samples, kind, code=None, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=code)
    return file.getvalue()


def alone(content):
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    return torch.from_numpy(samples), rate


def joined(*contents):
    """The parts, each decoded by itself."""
    return torch.cat([alone(content)[0] for content in contents])


def in_every_way(path, item=None):
    """The same samples whole, block by block, and of stretches of it."""
    whole = read_audio(path)
    item = item or Item("x", str(path))
    blocks = torch.cat(list(read_blocks(item, RATE, 1)))
    assert len(blocks) == len(whole)
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=0)
    reader, seconds = Reader(RATE), len(whole) / RATE
    for start, end in ((0.0, 0.5), (1.9, 2.4), (2.5, 3.1), (seconds - 0.7, None)):
        if start + 0.7 > seconds:
            continue
        found = reader.read(Item("x", str(path), Segment(start, end)))
        stop = None if end is None else round(end * RATE)
        torch.testing.assert_close(found, whole[round(start * RATE) : stop], atol=1e-5, rtol=0)
    assert header_samples(str(path), RATE) in (None, len(whole))
    return whole


def by_ffmpeg(path, rate=RATE):
    """What ffmpeg's own decoder gives: (N,)."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vn", "-f", "f32le", "-ar", str(rate)]
    done = subprocess.run([*command, "-ac", "1", "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, "<f4")


def two_mp3():
    """Two MP3 files, the first with a count of its frames, the second without."""
    told = written(FIRST, "MP3")
    bare = written(SECOND, "MP3")
    assert b"Info" in told[:200] or b"Xing" in told[:200]
    return told, bare[frame_length(bare) :]
