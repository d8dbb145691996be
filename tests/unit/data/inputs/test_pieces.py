"""A stream of bytes in pieces: any cut gives the samples of the whole, or the same refusal."""

from __future__ import annotations

import gzip
import io
import logging
import struct

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio import riff
from paraformer.data.inputs.pieces import Pieces, RefusedError
from paraformer.errors import AudioError

RATE = 16000
X = np.round(9000 * np.sin(np.arange(2400) * 0.05) + 40).astype("<i2")
EXACT = torch.from_numpy(X.astype(np.float32) / 32768)
RAW = X.tobytes()
SIZES = [1, 2, 3, 7, 511, 513, 3201, 10**6]


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def fed(content, size, rate=RATE):
    """The samples of a stream in pieces, and an empty last one."""
    pieces, waves = Pieces(), []
    for start in range(0, len(content), size):
        wave, pieces = pieces.take(content[start : start + size], rate)
        waves.append(wave)
    wave, pieces = pieces.take(b"", rate, True)
    assert pieces == Pieces()
    return torch.cat([*waves, wave])


def refusal(content, size):
    with pytest.raises(RefusedError) as caught:
        fed(content, size)
    return str(caught.value)


def written(samples=X, rate=RATE, **form):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", "subtype": "PCM_16", **form})
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES)
def test_raw_samples_in_pieces_of_any_size_are_those_of_the_whole(warned, size):
    assert torch.equal(fed(RAW, size), EXACT)
    assert warned() == []


@pytest.mark.parametrize("size", SIZES)
def test_the_odd_byte_at_the_end_is_one_warning(warned, size):
    assert torch.equal(fed(RAW + b"\1", size), EXACT)
    assert warned() == [
        "stream: no even number for 16-bit samples; the last byte is left out",
    ]


@pytest.mark.parametrize(
    "mark", [b"RIFF\0\0\0\0WAVE", b"OggS", b"fLaC", b'{"a": "text"}  ', b"ID3\3"]
)
def test_a_stream_that_has_begun_as_raw_is_not_guessed_at_again(mark):
    content = RAW + mark * 50 + RAW
    whole = np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.float32) / 32768
    for size in (len(RAW), 3, 10**6):
        found = fed(content, size).numpy()
        assert np.array_equal(found[: len(whole)], whole)


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


WAV = written()
LIST = chunk(b"LIST", b"INFOICMT" + struct.pack("<I", 300) + bytes(300))
WAVS = {
    "plain": WAV,
    "a chunk before": WAV[:36] + LIST + WAV[36:],
    "a chunk behind": WAV + LIST,
    "length 0": WAV[:4] + bytes(4) + WAV[8:40] + bytes(4) + WAV[44:],
    "length of arecord": WAV[:40] + struct.pack("<I", 0x80000000) + WAV[44:],
    "length of sox": WAV[:40] + struct.pack("<I", 0x7FFFF000) + WAV[44:],
    "length of ffmpeg": WAV[:40] + b"\xff" * 4 + WAV[44:],
    "extensible": written(format="WAVEX"),
    "RF64": written(format="RF64"),
    "Wave64": written(format="W64"),
}


@pytest.mark.parametrize("kind", WAVS)
def test_samples_behind_a_header_of_wav_are_those_samples(warned, kind):
    for size in SIZES:
        assert torch.equal(fed(WAVS[kind], size), EXACT), size
    assert warned() == []


OTHERS = {
    "WAV of 8000 Hz": written(rate=8000),
    "WAV of 16000 Hz, channels: 2": written(np.stack([X, X], 1)),
    "WAV of 16000 Hz, channels: 1, bits: 24": written(subtype="PCM_24"),
    "WAV of 16000 Hz, channels: 1, bits: 32, format: 3": written(subtype="FLOAT"),
    "FLAC": written(format="FLAC"),
    "Ogg": written(format="OGG", subtype="VORBIS"),
    "MP3": written(format="MP3", subtype="MPEG_LAYER_III"),
    "AIFF": written(format="AIFF"),
    "AU": written(format="AU"),
    "CAF": written(format="CAF"),
    "NIST SPHERE": written(format="NIST", subtype="ULAW"),
    "VOC": written(format="VOC"),
    "IRCAM": written(format="IRCAM"),
    "HTK": written(format="HTK"),
    "a gzip archive": gzip.compress(RAW),
    "a zip archive": b"PK\3\4\x14\0\0\0" + bytes(99),
    "a PNG image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(600),
    "a PDF document": b"%PDF-1.7\n" + b"1 0 obj\n" * 200,
    "text": '{"error": "没有声音"}'.encode(),
    "text (HTML)": b"<html><head><title>Not found</title>" + b"x" * 600,
    "text (lines)": b"u1 /data/u1.wav\nu2 /data/u2.wav\n" * 30,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_known_to_be_something_else_is_refused_at_its_beginning(kind):
    """In one line, the same however it is cut, and so is all that follows."""
    content = OTHERS[kind]
    first = refusal(content, len(content))
    assert first.startswith(f"stream: begins as {kind.partition(' (')[0]}")
    assert "\n" not in first and "16-bit samples of 16000 Hz" in first
    for size in (1, 3, 100):
        assert refusal(content, size) == first
    with pytest.raises(RefusedError, match="begins as"):
        Pieces(refusal=first).take(RAW, RATE)
    assert Pieces(refusal=first).take(b"", RATE, True)[1] == Pieces()  # its end


@pytest.mark.parametrize("kind", ["FLAC", "AIFF", "WAV of 8000 Hz", "WAV of 16000 Hz, channels: 2"])
def test_a_stream_that_comes_whole_is_read_as_a_file(kind):
    wave, _ = Pieces().take(OTHERS[kind], RATE, True)
    size = 2 * len(X) if "8000" in kind else len(X)
    assert len(wave) == size
    if size == len(X):
        assert torch.equal(wave, EXACT)


@pytest.mark.parametrize("content", [b'{"a":', b"no audio"])
def test_a_short_text_is_refused_at_the_end(content):
    for size in (1, 100):
        pieces = Pieces()
        for start in range(0, len(content), size):
            _, pieces = pieces.take(content[start : start + size], RATE)
        with pytest.raises(Exception, match="it is text, not audio"):
            pieces.take(b"", RATE, True)


def test_samples_and_bytes_may_take_turns(warned):
    """What waits goes before an array; half a sample cannot."""
    wave, pieces = Pieces().take(RAW[:100], RATE)
    assert len(wave) == 0
    wave, pieces = pieces.take(EXACT[50:500], RATE)
    assert torch.equal(wave, EXACT[:500])
    wave, pieces = pieces.take(RAW[1000:], RATE)
    assert torch.equal(wave, EXACT[500:])
    assert warned() == []
    _, pieces = pieces.take(b"\1", RATE)
    wave, _ = pieces.take(X[:10], RATE)
    assert torch.equal(wave, EXACT[:10]) and len(warned()) == 1


def test_what_is_refused_stays_so_until_the_end():
    with pytest.raises(RefusedError, match="^stream: begins as FLAC") as caught:
        Pieces().take(OTHERS["FLAC"], RATE)
    refused = Pieces().behind(caught.value)
    with pytest.raises(RefusedError, match="^stream: begins as FLAC"):
        refused.take(RAW, RATE)
    assert refused.take(b"", RATE, final=True)[1] == Pieces()
    assert Pieces(b"a").behind(ValueError()) == Pieces(b"a")


def test_a_header_without_samples_is_walked_no_oftener_than_it_has_chunks(monkeypatch):
    walks = []
    monkeypatch.setattr(riff, "read_layout", lambda file: walks.append(1) or _no_samples())
    head = b"RIFF\xff\xff\xff\x7fWAVE"
    for chunks, most in ((struct.pack("<4sI", b"LIST", 1 << 25), 10), (b"junk\0\0\0\0" * 100, 120)):
        walks.clear()
        content = (head + chunks).ljust(1 << 14, b"\0")
        pieces = Pieces()
        for start in range(0, len(head + chunks) + 8, 2):
            _, pieces = pieces.take(content[start : start + 2], RATE)
        assert b"".join(pieces.held) == content[: len(head + chunks) + 8]
        assert 0 < len(walks) <= most


def _no_samples():
    raise AudioError("none")
