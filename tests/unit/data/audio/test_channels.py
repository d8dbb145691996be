"""Channels of every kind of source: their mean, one of them, or each; and what is said of it."""

from __future__ import annotations

import io
import logging
import shutil
import subprocess

import kaldiio
import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.channels import check_channel
from paraformer.data.audio.read import count_channels, read_audio, read_channels, resample
from paraformer.data.batches.recordings import Reader, read_stretch
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item, Segment
from paraformer.errors import AudioError, ConfigError

RANDOM = np.random.default_rng(0)
THREE = RANDOM.integers(-9000, 9000, (40000, 3)).astype(np.int16)
EXACT = torch.from_numpy(THREE.T.astype(np.float32) / 32768)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="paraformer")
    return lambda level: [r.getMessage() for r in caplog.records if r.levelno == level]


@pytest.fixture
def path(tmp_path):
    soundfile.write(tmp_path / "x.wav", THREE, 16000)
    return tmp_path / "x.wav"


def streamed(content):
    """A WAV header that was written before the length was known."""
    return content[:4] + b"\xff" * 4 + content[8:40] + b"\xff" * 4 + content[44:]


def to_ffmpeg(path):
    made = path.with_suffix(".mkv")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", str(path), "-c:a", "pcm_s16le", str(made)], check=True
    )
    return made


def to_ark(path):
    kaldiio.save_ark(str(path.with_suffix(".ark")), {"a": (16000, THREE)}, scp=str(path) + ".scp")
    return (path.parent / "x.wav.scp").read_text().split(maxsplit=1)[1].strip()


SOURCES = {
    "file": lambda path: path,
    "name": str,
    "bytes": lambda path: path.read_bytes(),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "streamed": lambda path: streamed(path.read_bytes()),
    "array (N, C)": lambda _: THREE,
    "array (C, N)": lambda _: THREE.T,
    "floats": lambda _: THREE.astype(np.float64) / 32768,
    "tensor": lambda _: EXACT,
    "ark": to_ark,
    "command": lambda path: f"cat '{path}' |",
    "ffmpeg": to_ffmpeg,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_each_channel(path, kind):
    if kind == "ffmpeg" and shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg program here")

    def made():
        return SOURCES[kind](path)

    for channel in range(3):
        assert torch.equal(read_audio(made(), allow_pipe=True, channel=channel), EXACT[channel])
    mixed = read_audio(made(), allow_pipe=True, channel="mix")
    torch.testing.assert_close(mixed, EXACT.mean(0), atol=1e-7, rtol=0)
    assert torch.equal(read_channels(made(), allow_pipe=True), EXACT)
    assert count_channels(made(), allow_pipe=True) == 3
    with pytest.raises(AudioError, match="no channel 3, it has 3 channels; give mix or 0 to 2"):
        read_audio(made(), allow_pipe=True, channel=3)


def test_each_channel_is_resampled_by_itself():
    found = read_channels(THREE, fs=8000)
    assert torch.equal(found, torch.stack([resample(one, 8000, 16000) for one in EXACT]))


def test_a_recording_of_one_channel():
    assert torch.equal(read_audio(THREE[:, 0], channel=np.int64(0)), EXACT[0])
    assert torch.equal(read_audio(THREE[:, 0], channel=0), EXACT[0])
    assert torch.equal(read_channels(THREE[:, 0]), EXACT[:1])
    assert count_channels(THREE[:, 0]) == 1
    with pytest.raises(AudioError, match="no channel 1, it has 1 channel; give mix or 0"):
        read_audio(THREE[:, 0], channel=1)


@pytest.mark.parametrize("channel", ["split", "left", -1, 1.0, None])
def test_what_names_no_channel_is_refused(channel):
    with pytest.raises(AudioError, match=f"no channel {channel}"):
        read_audio(THREE, channel=channel)


@pytest.mark.parametrize("value", ["left", "", -1, 1.0, True, None, "-1", "²", [0]])
def test_what_the_option_may_not_be(value):
    with pytest.raises(ConfigError, match="give mix, split or a number from 0"):
        check_channel(value)


def test_only_the_channel_that_is_taken_must_hold_numbers():
    spoilt = EXACT.clone()
    spoilt[1, 5] = torch.nan
    assert torch.equal(read_audio(spoilt, channel=0), EXACT[0])
    for channel in (1, "mix"):
        with pytest.raises(AudioError, match="1 of 40000 samples are NaN"):
            read_audio(spoilt, channel=channel)


# what is said


def test_averaging_is_said_once_and_only_then(path, said):
    read_audio(path)
    assert said(logging.INFO) == [f"{path}: the mean of its 3 channels is taken"]
    read_audio(path, channel=1)
    read_channels(path)
    read_audio(THREE[:, 0])
    assert len(said(logging.INFO)) == 1 and not said(logging.WARNING)


def test_of_a_long_recording_it_is_said_once(path, said):
    list(read_blocks(Item("x", path), 16000, 1))
    assert said(logging.INFO) == [f"{path}: the mean of its 3 channels is taken"]


@pytest.mark.parametrize(("gain", "is_told"), [(-1.0, True), (-0.95, True), (-0.5, False)])
def test_channels_that_cancel_each_other_are_warned_of(tmp_path, said, gain, is_told):
    """Half the difference is left of two: 5 % at a gain of -0.95, above a tenth at -0.5."""
    one = EXACT[0].numpy()
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([one, gain * one], 1), 16000, subtype="FLOAT")
    read_audio(path)
    list(read_blocks(Item("x", path), 16000, 1))
    line = f"{path}: its channels cancel each other when averaged; give channel=0"
    assert said(logging.WARNING) == [line] * 2 * is_told


@pytest.mark.parametrize(
    "wave",
    [torch.zeros(2, 100), torch.stack([EXACT[0], 0 * EXACT[0]]), torch.randn(16, 5000), EXACT],
    ids=["silence", "one silent", "16 strangers", "3 strangers"],
)
def test_channels_that_differ_are_no_reason_to_warn(said, wave):
    read_audio(wave)
    assert not said(logging.WARNING)


# stretch by stretch


@pytest.mark.parametrize("channel", ["mix", 0, 2])
@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_blocks_take_the_channel_too(tmp_path, suffix, rate, channel):
    path = tmp_path / f"x.{suffix}"
    count = 2 if suffix == "mp3" else 3
    soundfile.write(path, np.tile(THREE[:, :count], (3, 1)), rate)
    channel = min(channel, count - 1) if isinstance(channel, int) else channel
    whole = read_audio(path, channel=channel)
    blocks = list(read_blocks(Item("x", path, channel=channel), 16000, 1))
    assert len(blocks) >= 2 and max(map(len, blocks)) <= 2 * 16000
    torch.testing.assert_close(torch.cat(blocks), whole, atol=2e-6, rtol=0)


def test_a_stretch_takes_the_channel_too(path):
    item = Item("x", str(path), Segment(0.5, 1.0), channel=1)
    assert torch.equal(Reader(16000).read(item), EXACT[1, 8000:16000])
    mixed = read_stretch(str(path), Segment(0.5, 1.0), 16000)
    torch.testing.assert_close(mixed, EXACT[:, 8000:16000].mean(0), atol=1e-7, rtol=0)


def test_a_channel_that_is_not_there_is_said_before_anything_is_read(path):
    with pytest.raises(AudioError, match="no channel 7, it has 3 channels"):
        next(read_blocks(Item("x", path, channel=7), 16000, 1))
