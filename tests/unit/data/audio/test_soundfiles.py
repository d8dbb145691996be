"""Every format and every wrong header: the samples are those of the format's own definition, of
what was written into the file, or of another decoder.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import count_channels, read_audio
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item
from paraformer.errors import AudioError

RATE = 16000
X = np.round(9000 * np.sin(np.arange(4800) * 0.05)).astype("<i2")
EXACT = torch.from_numpy(X.astype(np.float32) / 32768)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program here")


def chunk(name, content, size=None):
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + b"\0" * (len(content) % 2)


def fmt(tag, bits, channels=1, rate=RATE):
    block = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)


def extensible(tag, bits, channels=1):
    """WAVE_FORMAT_EXTENSIBLE: the tag is the beginning of a GUID."""
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return fmt(0xFFFE, bits, channels) + struct.pack("<HHI", 22, bits, 0) + guid


def wav(form, data):
    return chunk(b"RIFF", b"WAVE" + chunk(b"fmt ", form) + chunk(b"data", data))


def a_law(codes):
    """ITU-T G.711: even bits inverted, sign, 3 bits of exponent, 4 of mantissa, 13 bits in all."""
    code = codes.astype(int) ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    value = np.where(
        exponent == 0, mantissa * 16 + 8, (mantissa * 16 + 264) << np.maximum(exponent - 1, 0)
    )
    return np.where(code & 0x80, value, -value) / 32768


def mu_law(codes):
    """ITU-T G.711: all bits inverted, sign, 3 bits of exponent, 4 of mantissa, bias 33 (of 14)."""
    code = ~codes.astype(int) & 0xFF
    value = (((code & 15) * 8 + 132) << (code >> 4 & 7)) - 132
    return np.where(code & 0x80, -value, value) / 32768


def three_bytes(values):
    return values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


CODES = np.arange(256, dtype=np.uint8)
RANDOM = np.random.default_rng(0)
I24 = RANDOM.integers(-(1 << 23), 1 << 23, 500)
I32 = RANDOM.integers(-(1 << 31), 1 << 31, 500)
F64 = RANDOM.uniform(-1, 1, 500)
ENCODED = {
    "PCM 8": (1, 8, CODES.tobytes(), (CODES.astype(float) - 128) / 128),
    "PCM 16": (1, 16, X.tobytes(), X / 32768),
    "PCM 24": (1, 24, three_bytes(I24), I24 / (1 << 23)),
    "PCM 32": (1, 32, I32.astype("<i4").tobytes(), I32 / (1 << 31)),
    "float 32": (3, 32, F64.astype("<f4").tobytes(), F64),
    "float 64": (3, 64, F64.astype("<f8").tobytes(), F64),
    "A-law": (6, 8, CODES.tobytes(), a_law(CODES)),
    "mu-law": (7, 8, CODES.tobytes(), mu_law(CODES)),
}


@pytest.mark.parametrize("header", [fmt, extensible])
@pytest.mark.parametrize("kind", ENCODED)
def test_each_encoding_of_a_wav_is_decoded_by_its_definition(tmp_path, warned, kind, header):
    tag, bits, data, expected = ENCODED[kind]
    path = tmp_path / "x.wav"
    path.write_bytes(wav(header(tag, bits), data))
    for source in (path, path.read_bytes()):
        found = read_audio(source)
        torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=1e-7, rtol=1e-6)
    assert warned() == []


def written(suffix, samples=X, rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=suffix.upper(), **options)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["wav", "wavex", "rf64", "w64", "aiff", "au", "caf", "flac"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_exact_containers_give_what_was_written(warned, suffix, channels):
    samples = np.stack([np.roll(X, place) for place in range(channels)], 1)
    content = written(suffix, samples, subtype="PCM_16")
    for channel in range(channels):
        expected = torch.from_numpy(samples[:, channel].astype(np.float32) / 32768)
        assert torch.equal(read_audio(content, channel=channel), expected)
    assert count_channels(content) == channels
    assert warned() == []


def test_wav_of_the_other_byte_order():
    assert torch.equal(read_audio(written("wav", endian="BIG")), EXACT)


# lengths that are not told, or not truly


def patched(content, changes):
    """Bytes with others at some places; negative places count from `data`'s name."""
    content = bytearray(content)
    for place, new in changes.items():
        content[place : place + len(new)] = new
    return bytes(content)


def flac_frames(content, count):
    """FLAC with another total in STREAMINFO: the lower 36 of 64 bits at byte 18."""
    told = int.from_bytes(content[18:26], "big")
    return patched(content, {18: (told >> 36 << 36 | count).to_bytes(8, "big")})


RF64 = written("rf64", subtype="PCM_16")
W64 = written("w64", subtype="PCM_16")
CAF = written("caf", subtype="PCM_16")
AU = written("au", subtype="PCM_16")
AIFF = written("aiff", subtype="PCM_16")
FLAC = written("flac", subtype="PCM_16")
STREAMED = {
    "RF64 of ffmpeg": patched(RF64, {20: bytes(24)}),
    "RF64 of ones": patched(RF64, {20: b"\xff" * 16}),
    "Wave64": patched(W64, {16: b"\xff" * 8, W64.index(b"data") + 16: b"\xff" * 7 + b"\x7f"}),
    "Wave64 of zeros": patched(W64, {16: bytes(8), W64.index(b"data") + 16: bytes(8)}),
    "CAF": patched(CAF, {CAF.index(b"data") + 4: b"\xff" * 8}),
    "AU": patched(AU, {8: b"\xff" * 4}),
    "AIFF": patched(AIFF, {4: bytes(4), 22: bytes(4), AIFF.index(b"SSND") + 4: bytes(4)}),
    "FLAC": flac_frames(FLAC, 0),
    "BW64": b"BW64" + RF64[4:],
}


@pytest.mark.parametrize("kind", STREAMED)
def test_a_container_without_a_length_is_read_to_its_end(tmp_path, monkeypatch, warned, kind):
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "x"
    path.write_bytes(STREAMED[kind])
    assert torch.equal(read_audio(path), EXACT)
    assert torch.equal(torch.cat(list(read_blocks(Item("x", path), RATE))), EXACT)
    assert all("does not tell the length" in line for line in warned())


CUT = {"RF64": RF64, "W64": W64, "CAF": CAF, "AU": AU}


@pytest.mark.parametrize("kind", CUT)
def test_a_container_cut_within_a_sample_gives_what_is_there(warned, kind):
    assert torch.equal(read_audio(CUT[kind][:-2001]), EXACT[:-1001])
    assert len(warned()) == 1 and "cut off: of 96" in warned()[0]


def mp3(samples, *options):
    """By ffmpeg from 16 kHz samples."""
    return convert(wav(fmt(1, 16), samples.tobytes()), "-f", "mp3", *options)


def convert(content, *options):
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", *options, "pipe:1"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


@needs_ffmpeg
@pytest.mark.parametrize("loud_first", [True, False])
def test_a_streamed_mp3_of_changing_rate_is_read_to_its_end(tmp_path, warned, loud_first):
    """Its length would be guessed from the first frames, three times too short or too long.

    The first 529 samples, a decoder's delay, are left out as where the length is told.
    """
    loud = RANDOM.integers(-9000, 9000, 2 * RATE).astype("<i2")
    quiet = np.zeros(6 * RATE, "<i2")
    samples = np.concatenate([loud, quiet] if loud_first else [quiet, loud])
    content = mp3(samples, "-q:a", "0", "-write_xing", "0", "-id3v2_version", "3")
    path = tmp_path / "x.mp3"
    path.write_bytes(content)
    decoded = np.frombuffer(convert(content, "-f", "f32le"), "<f4")[529:]
    for source in (path, content):
        found = read_audio(source)
        assert len(found) == len(decoded) >= 8 * RATE
        torch.testing.assert_close(found, torch.from_numpy(decoded.copy()), atol=1e-4, rtol=0)
    assert warned() == []


def test_ogg_opus_is_what_was_written():
    """48 kHz inside; a tone of 1 kHz comes back as one, with its loudness."""
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
    found = read_audio(written("ogg", tone, subtype="OPUS")).numpy()
    assert len(found) == len(tone)
    spectrum = np.abs(np.fft.rfft(found[RATE // 2 : 3 * RATE // 2])) / (RATE / 2)
    assert spectrum.argmax() == 1000
    assert abs(spectrum[1000] - 0.5) < 0.05


# headers that claim more than there is


def ogg_crc(page):
    """RFC 3533: polynomial 0x04c11db7, from 0, nothing reflected or inverted."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def long_ogg(content):
    """The position of the last page, which tells the length, is enormous."""
    place = content.rindex(b"OggS")
    page = patched(content[place:], {6: struct.pack("<q", 1 << 40), 22: bytes(4)})
    return content[:place] + patched(page, {22: struct.pack("<I", ogg_crc(page))})


CLAIMS = {
    "RIFF": wav(fmt(1, 16), X.tobytes())[:1000],
    "RIFF of 4 GB": patched(wav(fmt(1, 16), X.tobytes()), {40: struct.pack("<I", 0xFFFFFFF0)}),
    "fmt of 4 GB": patched(wav(fmt(1, 16), X.tobytes()), {16: struct.pack("<I", 0xFFFFFFF0)}),
    "LIST of 4 GB": wav(fmt(1, 16), b"")[:36] + chunk(b"LIST", b"abcd", 0xFFFFFFF0),
    "RF64": patched(RF64, {28: struct.pack("<Q", 1 << 50)}),
    "Wave64": patched(W64, {W64.index(b"data") + 16: struct.pack("<Q", 1 << 50)}),
    "CAF": patched(CAF, {CAF.index(b"data") + 4: struct.pack(">q", 1 << 50)}),
    "AU": patched(AU, {8: struct.pack(">I", 0xFFFFFFF0)}),
    "AIFF": patched(AIFF, {22: b"\xff" * 4, AIFF.index(b"SSND") + 4: b"\x7f" + b"\xff" * 3}),
    "FLAC": flac_frames(FLAC, (1 << 36) - 2),
    "Ogg": long_ogg(written("ogg", X)),
    "MP3": written("mp3", X).replace(
        b"Xing" + written("mp3", X).partition(b"Xing")[2][:8],
        b"Xing" + struct.pack(">II", 1, 0x7FFFFFFF),
    ),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_claim_allocates_nothing(tmp_path, kind):
    path = tmp_path / "x"
    path.write_bytes(CLAIMS[kind])
    tracemalloc.start()
    try:
        found = len(read_audio(path))
    except AudioError as error:
        found = 0
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    assert found <= 2 * len(X)
    assert found or kind in ("fmt of 4 GB", "LIST of 4 GB")


def test_empty_chunks_without_end_are_soon_given_up(tmp_path):
    """A recorder that died left zeros: each eight of them are a chunk without content."""
    (tmp_path / "x.wav").write_bytes(wav(fmt(1, 16), b"")[:36] + bytes(40 << 20))
    with pytest.raises(AudioError, match="before the samples"):
        read_audio(tmp_path / "x.wav")


# rates


@pytest.mark.parametrize(
    "rate", [1000, 4000, 8000, 11025, 12345, 22050, 44100, 48000, 96000, 192000, 384000, 999983]
)
def test_a_tone_is_the_same_tone_at_any_rate(rate):
    """A quarter of a second of 200 Hz, away from the ends; bound by the ripple of the resampler."""
    samples = np.sin(2 * np.pi * 200 * np.arange(rate // 4) / rate).astype(np.float32)
    found = read_audio(written("wav", samples, rate, subtype="FLOAT"))
    expected = torch.sin(2 * torch.pi * 200 * torch.arange(RATE // 4).double() / RATE).float()
    assert abs(len(found) - RATE // 4) <= RATE / rate
    torch.testing.assert_close(
        found[400:-400], expected[400:-400][: len(found[400:-400])], atol=5e-3, rtol=0
    )


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_of_no_speech_is_one_clear_error(rate):
    with pytest.raises(AudioError, match=rf"sampling rate of {rate} Hz, not of 1000 to 1000000"):
        read_audio(wav(fmt(1, 16, rate=rate), X.tobytes()))
    with pytest.raises(AudioError, match=f"sampling rate of {rate} Hz"):
        read_audio(X, fs=rate)


# names and forms


@pytest.mark.parametrize(
    "name",
    [
        "空 格=名字(1),[2].wav",
        "-y.wav",
        "a'b\"c.wav",
        "x*?.wav",
        "x.wav:12",
        "ü\u200b.wav",
        " .wav",
    ],
)
def test_a_file_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(wav(fmt(1, 16), X.tobytes()))
    for source in (tmp_path / name, str(tmp_path / name), name):
        assert torch.equal(read_audio(source), EXACT)


def test_an_error_of_a_name_with_a_line_break_is_one_line(tmp_path):
    (tmp_path / "a\nb.wav").write_bytes(b"no audio at all")
    with pytest.raises(AudioError) as caught:
        read_audio(tmp_path / "a\nb.wav")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fs", [None, 8000])
def test_each_form_of_the_same_samples_gives_the_same(tmp_path, fs):
    """A file tells its own rate, the others are told it."""
    path = tmp_path / "x.wav"
    soundfile.write(path, X, fs or RATE)
    expected = read_audio(path)
    content = path.read_bytes()
    floats = X.astype(np.float32) / 32768
    forms = [str(path), content, bytearray(content), memoryview(content), io.BytesIO(content)]
    forms += [floats, floats.astype(np.float64), X, X.astype(">i2"), X.astype(np.int64)]
    forms += [X.astype(np.int32) << 16, X.tobytes(), io.BytesIO(X.tobytes())]
    forms += [torch.from_numpy(floats), torch.from_numpy(X), torch.from_numpy(floats).double()]
    for form in forms:
        assert torch.equal(read_audio(form, fs=fs), expected), type(form)
    with path.open("rb") as file:
        assert torch.equal(read_audio(file, fs=fs), expected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_read_once(tmp_path, warned):
    """As a shell gives for `<(command)`, and as /dev/stdin is behind a pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = wav(fmt(1, 16), X.tobytes())
    content = patched(content, {4: b"\xff" * 4, 40: b"\xff" * 4})
    for read in (read_audio, lambda source: torch.cat(list(read_blocks(Item("x", source), RATE)))):
        writer = threading.Thread(target=path.write_bytes, args=(content,))
        writer.start()
        assert torch.equal(read(str(path)), EXACT)
        writer.join()
    assert warned() == []


def test_a_file_opened_as_text_is_one_clear_error():
    with pytest.raises(AudioError, match="open the file with 'rb'"):
        read_audio(io.StringIO("abc"))


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 161, 640])
def test_a_clip_of_a_few_samples_is_those(samples):
    for source in (X[:samples], wav(fmt(1, 16), X[:samples].tobytes())):
        assert torch.equal(read_audio(source), EXACT[:samples])
