"""Sound of clients: whatever the blocks, the samples are those of the whole."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import read_audio
from paraformer.errors import AudioError
from paraformer.server.sound import SoundStream, TooLargeError, Upload, code_of

RANDOM = np.random.default_rng(0)
NOISE = (0.3 * np.sin(np.cumsum(RANDOM.uniform(0.02, 0.6, 16001)))).astype(np.float32)


def written(kind="RAW", code="PCM_16", rate=8000):
    file = io.BytesIO()
    soundfile.write(file, NOISE, rate, format=kind, subtype=code)
    return file.getvalue()


def streamed(content, form, rate, sizes):
    stream, parts, place = SoundStream(form, rate, 16000, 1 << 24, 60), [], 0
    while place < len(content):
        size = next(sizes)
        parts.append(stream.take(content[place : place + size]))
        place += size
    parts.append(stream.end())
    stream.close()
    return torch.cat(parts)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_stream_of_any_rate_in_any_blocks_is_the_whole(rate):
    content = written(rate=rate)
    sizes = iter(lambda: int(RANDOM.choice([1, 3, 160, 999, 4096])), None)
    found = streamed(content, "pcm", rate, sizes)
    expected = read_audio(content, fs=rate)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("form", "code"), [("pcma", "ALAW"), ("G711U", "ULAW")])
def test_g711_is_what_libsndfile_makes_of_it(form, code):
    """The table of ITU-T G.711, in the WAV that holds the same bytes."""
    content = written("RAW", code)
    expected = read_audio(written("WAV", code))
    sizes = iter(lambda: 100, None)
    torch.testing.assert_close(streamed(content, form, 8000, sizes), expected, atol=2e-6, rtol=0)
    upload = Upload(1 << 20)
    upload.add(content)
    assert torch.equal(upload.read(16000, 60, 8000, code_of(form)), expected)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_file_in_a_stream_comes_when_it_is_whole(kind):
    content = written(kind, rate=44100)
    found = streamed(content, "pcm", 16000, iter(lambda: 777, None))
    assert torch.equal(found, read_audio(content))


def test_half_a_sample_at_the_end_is_left_out():
    stream = SoundStream("pcm", 16000, 16000, 1 << 20, 60)
    assert stream.take(b"\0\x40\1").tolist() == []  # too few to tell what they are
    assert stream.end().tolist() == [0.5]


def test_a_text_is_no_sound():
    stream = SoundStream("pcm", 16000, 16000, 1 << 20, 60)
    with pytest.raises(AudioError, match="text, not audio"):
        stream.take(b"utterance /etc/passwd\n" * 99)


@pytest.mark.parametrize("size", [1 << 10, 3 << 20])
def test_an_upload_is_what_read_audio_makes_of_it_wherever_it_lies(size, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    samples = np.resize(NOISE, size)
    file = io.BytesIO()
    soundfile.write(file, samples, 44100, format="WAV")
    upload = Upload(1 << 24)
    for part in np.array_split(np.frombuffer(file.getvalue(), np.uint8), 7):
        upload.add(part.tobytes())
    found = upload.read(16000, 600)
    torch.testing.assert_close(found, read_audio(file.getvalue()), atol=1e-6, rtol=0)
    assert bool(list(tmp_path.iterdir())) == (size > 1 << 20)
    upload.close()
    assert not list(tmp_path.iterdir())


def test_uploads_have_limits_of_bytes_and_seconds():
    upload = Upload(10)
    with pytest.raises(TooLargeError):
        upload.add(bytes(11))
    file = io.BytesIO()  # few bytes, many seconds
    soundfile.write(file, np.zeros(16000 * 400, np.int16), 16000, format="FLAC")
    upload = Upload(1 << 20)
    upload.add(file.getvalue())
    with pytest.raises(TooLargeError, match="longer than 100 s"):
        upload.read(16000, 100)
    upload = Upload(1 << 20)
    upload.add(bytes(160000))
    assert len(upload.read(16000, 5, 16000)) == 80000
    for form in ((16000, ""), (8000, "ALAW")):
        with pytest.raises(TooLargeError, match="longer than 4 s"):
            upload.read(16000, 4, *form)


def test_a_fault_does_not_tell_where_the_file_lies(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    upload = Upload(1 << 24)
    upload.add(b"fLaC" + bytes(2 << 20))
    with pytest.raises(AudioError) as caught:
        upload.read(16000, 60)
    assert str(tmp_path) not in str(caught.value)
    upload.close()
