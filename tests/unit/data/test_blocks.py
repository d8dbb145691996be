"""All blocks of a recording together are the recording."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio import read_audio
from paraformer.data.blocks import read_blocks
from paraformer.data.inputs import Item, Segment
from paraformer.errors import AudioError


def write(path, seconds, rate=16000, channels=1):
    random = np.random.default_rng(0)
    samples = 0.1 * random.standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate)
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


def test_what_cannot_be_entered_comes_whole(tmp_path):
    path = write(tmp_path / "a.ogg", 3)
    assert torch.equal(joined(read_blocks(Item("a", path), 16000, 2)), read_audio(path))
    piped = Item("a", f"cat {write(tmp_path / 'b.wav', 3)} |", from_list=True)
    assert torch.equal(joined(read_blocks(piped, 16000, 2)), read_audio(tmp_path / "b.wav"))
    wave = torch.linspace(-1, 1, 100)
    assert torch.equal(joined(read_blocks(Item("a", wave), 16000)), wave)
    part = Item("a", str(tmp_path / "b.wav"), Segment(0.5, 1.0))
    assert torch.equal(joined(read_blocks(part, 16000)), read_audio(part.source)[8000:16000])


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


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="No such file"):
        next(read_blocks(Item("a", str(tmp_path / "none.wav")), 16000))
