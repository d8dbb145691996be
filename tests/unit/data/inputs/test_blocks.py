"""All blocks of a recording together are the recording."""

from __future__ import annotations

import shutil
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import read_audio
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item, Segment
from paraformer.errors import AudioError


def write(path, seconds, rate=16000, channels=1):
    random = np.random.default_rng(0)
    samples = 0.1 * random.standard_normal((round(seconds * rate), channels))
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for part in np.split(samples, range(rate, len(samples), rate)):
            file.write(part)  # libsndfile's writer of Vorbis cannot take minutes at once
    return str(path)


def joined(blocks):
    return torch.cat(list(blocks))


@pytest.mark.parametrize("seconds", [0.3, 1.9, 2.0, 2.4, 3.7, 4.0, 5.0001, 6.0])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (8000, 1), (44100, 2)])
def test_blocks_give_the_samples_of_the_whole(tmp_path, seconds, rate, channels):
    path = write(tmp_path / "a.wav", seconds, rate, channels)
    blocks = list(read_blocks(Item("a", path), 16000, 2))
    assert max(len(block) for block in blocks) <= 2.5 * 16000
    torch.testing.assert_close(torch.cat(blocks), read_audio(path), atol=1e-6, rtol=0)


def test_a_long_file_is_never_read_whole(tmp_path, monkeypatch):
    path = write(tmp_path / "a.flac", 5)
    monkeypatch.setattr(Item, "read", None)
    assert [len(block) for block in read_blocks(Item("a", path), 16000, 2)] == [32000, 32000, 16000]


def streamed(content):
    """A WAV whose lengths were not filled in."""
    return content[:4] + b"\xff" * 4 + content[8:40] + b"\xff" * 4 + content[44:]


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "streamed wav", "mkv"])
@pytest.mark.parametrize("minutes", [1, 4])
def test_memory_does_not_grow_with_the_recording(tmp_path, kind, minutes):
    """Blocks of 2 s of 8 kHz: a few times their 64 kB, where a minute has 1.9 MB."""
    suffix = "wav" if kind == "mkv" else kind.split()[-1]
    path = Path(write(tmp_path / f"a.{suffix}", 60 * minutes, 8000))
    if kind == "streamed wav":
        path.write_bytes(streamed(path.read_bytes()))
    if kind == "mkv":
        path = by_ffmpeg(path)
    tracemalloc.start()
    samples = sum(len(block) for block in read_blocks(Item("a", path), 8000, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples == 60 * minutes * 8000
    assert peak < 500_000


def by_ffmpeg(path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg program here")
    made = path.with_suffix(".mkv")
    subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-c:a", "pcm_s16le", made], check=True)
    return made


def test_what_is_no_file_comes_whole(tmp_path):
    path = write(tmp_path / "b.wav", 3)
    piped = Item("a", f"cat {path} |", from_list=True)
    assert torch.equal(joined(read_blocks(piped, 16000, 2)), read_audio(path))
    wave = torch.linspace(-1, 1, 100)
    assert torch.equal(joined(read_blocks(Item("a", wave), 16000)), wave)
    part = Item("a", path, Segment(0.5, 1.0))
    assert torch.equal(joined(read_blocks(part, 16000)), read_audio(part.source)[8000:16000])


@pytest.mark.parametrize("suffix", ["pcm", "RAW"])
def test_samples_without_a_header_have_the_rate_that_is_told(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(np.arange(16000, dtype="<i2").tobytes())
    assert torch.equal(
        joined(read_blocks(Item("a", path), 16000, 1, 8000)), read_audio(path, fs=8000)
    )


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
@pytest.mark.parametrize("spoil", ["cut", "hole"])
def test_a_damaged_file_gives_the_same_in_blocks(tmp_path, suffix, spoil):
    path = Path(write(tmp_path / f"a.{suffix}", 12))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if spoil == "cut":
        del content[middle:]
    else:
        content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    whole = read_audio(path)
    assert 0.2 * 12 * 16000 < len(whole) <= 12 * 16000
    torch.testing.assert_close(
        joined(read_blocks(Item("a", path), 16000, 2)), whole, atol=1e-6, rtol=0
    )


def test_a_cut_off_file_gives_what_is_there(tmp_path, caplog):
    path = tmp_path / "a.wav"
    write(path, 5)
    path.write_bytes(path.read_bytes()[:-16000])
    assert torch.equal(joined(read_blocks(Item("a", str(path)), 16000, 2)), read_audio(path))
    assert "cut off" in caplog.text


def test_a_sample_that_is_no_number_is_an_error(tmp_path):
    samples = np.zeros(5 * 16000, np.float32)
    samples[3 * 16000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    blocks = read_blocks(Item("a", str(tmp_path / "a.wav")), 16000, 2)
    assert len(next(blocks)) == 32000
    with pytest.raises(AudioError, match=r"NaN or infinite, first at 3.00 s"):
        next(blocks)


def test_a_header_of_a_thousand_channels_takes_no_more_than_is_there(tmp_path):
    """A minute of what it claims would be 250 GB."""
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, (2000, 1024)).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 1_000_000, subtype="FLOAT")
    tracemalloc.start()
    found = joined(read_blocks(Item("a", path, channel=1023), 1_000_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert torch.equal(found, torch.from_numpy(samples[:, 1023].copy()))
    assert most < 4 * samples.nbytes


def test_a_file_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    """As the system says it of one that belongs to somebody else."""
    path = Path(write(tmp_path / "a.wav", 1))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=f"^{path}: Permission denied; check the file"):
        next(read_blocks(Item("a", path), 16000))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="No such file"):
        next(read_blocks(Item("a", str(tmp_path / "none.wav")), 16000))
