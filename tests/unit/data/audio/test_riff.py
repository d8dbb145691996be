"""WAV and its kin: blocks of compressed sound and chunks around them are counted right."""

from __future__ import annotations

import struct
import subprocess

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import read_audio
from tests.sounds import (
    FIRST,
    RATE,
    SECOND,
    by_ffmpeg,
    in_every_way,
    needs_ffmpeg,
    two_mp3,
    written,
)


@pytest.fixture(scope="module")
def mp3():
    return two_mp3()


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def wav(tag, content, block=1, extra=b"", rate=RATE, before=b"", after=b""):
    form = struct.pack("<HHIIHHH", tag, 1, rate, 4000, block, 0, len(extra)) + extra
    body = chunk(b"fmt ", form) + before + chunk(b"data", content) + after
    return chunk(b"RIFF", b"WAVE" + body)


LIST = chunk(b"LIST", b"INFO" + bytes(range(200)))


@pytest.mark.parametrize("block", [1, 576, 1152])
@pytest.mark.parametrize("behind", [b"", LIST])
def test_mp3_in_a_wav_is_that_mp3(tmp_path, mp3, warned, block, behind):
    for content in mp3:
        path = tmp_path / "x.wav"
        extra = struct.pack("<HIHHH", 1, 2, block, 1, 1105)
        path.write_bytes(wav(0x55, content, block, extra, before=LIST, after=behind))
        assert torch.equal(in_every_way(path), read_audio(content))
        assert torch.equal(read_audio(path.read_bytes()), read_audio(content))
    assert warned() == []


def test_mp3_in_a_wav_that_is_cut_off_is_said_once(mp3, warned):
    content = wav(0x55, mp3[0], 1152)
    assert 0 < len(read_audio(content[: len(content) // 2])) < len(FIRST)
    assert len(warned()) >= 1 and "cut off" in warned()[0]


@pytest.mark.parametrize("blocks", [40, 41])
@pytest.mark.parametrize("after", [b"", LIST])
def test_a_gsm_wav_has_320_samples_a_block_and_no_others(tmp_path, warned, blocks, after):
    """An odd number of blocks of 65 bytes is made even in a WAV, and chunks may follow."""
    whole = written(SECOND, "WAV", "GSM610")
    start = whole.index(b"data") + 8
    content = whole[start : start + 65 * blocks]
    path = tmp_path / "x.wav"
    path.write_bytes(wav(0x31, content, 65, struct.pack("<H", 320), after=after))
    found = in_every_way(path)
    assert torch.equal(found, read_audio(whole)[: 320 * blocks])
    counted = wav(0x31, content + bytes(blocks % 2), 65, struct.pack("<H", 320), after=after)
    assert torch.equal(read_audio(counted), found)  # as sox does
    assert warned() == []


@pytest.mark.parametrize(
    "code", ["GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"]
)
def test_segments_of_encodings_without_a_way_back(tmp_path, code):
    """One decodes only onwards; a stretch of it is still that of the whole."""
    path = tmp_path / "x.wav"
    soundfile.write(path, np.concatenate([FIRST, SECOND]), RATE, code)
    missing = len(in_every_way(path)) - len(FIRST) - len(SECOND)
    assert 0 <= missing < 120  # the rest of a block


@needs_ffmpeg
@pytest.mark.parametrize("code", ["adpcm_ima_wav", "g726", "mp2"])
def test_a_compressed_wav_has_as_many_samples_as_ffmpeg_decodes(tmp_path, warned, code):
    path, source = tmp_path / "x.wav", tmp_path / "a.wav"
    soundfile.write(source, SECOND[: len(SECOND) - 77], RATE)
    command = ["ffmpeg", "-v", "error", "-i", str(source), "-ar", "8000", "-c:a", code, str(path)]
    if code == "mp2":
        command[command.index("8000")] = "16000"
    subprocess.run(command, check=True)
    in_every_way(path)
    rate = RATE if code == "mp2" else 8000
    found, expected = read_audio(path, target_fs=rate).numpy(), by_ffmpeg(path, rate)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 0.003
    assert warned() == []


def wave64(content, behind):
    """Sony's Wave64 of 16-bit samples: names of 16 bytes, sizes of 8 that count both."""
    rest = bytes.fromhex("f3acd3118cd100c04f8edb8a")

    def part(name, body):
        return name + rest + struct.pack("<Q", 24 + len(body)) + body + bytes(-len(body) % 8)

    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"wave" + rest + part(b"fmt ", form) + part(b"data", content) + behind
    head = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
    return head + struct.pack("<Q", 24 + len(body)) + body


@pytest.mark.parametrize("count", [4000, 4001])
def test_chunks_behind_the_samples_of_wave64_are_no_sound(tmp_path, warned, count):
    samples = (FIRST[:count] * 32768).astype("<i2")
    behind = b"list" + bytes(12) + struct.pack("<Q", 24 + 4096) + bytes(range(256)) * 16
    for content in (wave64(samples.tobytes(), behind), wave64(samples.tobytes(), b"")):
        assert torch.equal(read_audio(content), torch.from_numpy(samples / 32768).float())
    assert warned() == []
