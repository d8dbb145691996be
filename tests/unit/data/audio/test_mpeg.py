"""MP3 with tags, counts and parts: as much is read as the sum of the parts, or what
ffmpeg's decoder gives.

Where ffmpeg is the measure, 529 samples may differ: the delay of every MP3 decoder, which
libsndfile takes off where a tag counts frames without telling the encoder's delay, as the one does
that is put before an MP3 without any; ffmpeg does not.
"""

from __future__ import annotations

import struct

import pytest
import torch

from paraformer.data.audio.read import read_audio
from tests.sounds import by_ffmpeg, needs_ffmpeg, two_mp3

DECODER_DELAY = 529


def id3v2(size):
    return b"ID3\4\0\0" + bytes((size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127))


TAG_2 = id3v2(1000) + bytes(1000)
TAG_1 = b"TAG" + bytes(125)
_APE = struct.pack("<III", 2000, 332, 1)
APE = (
    b"APETAGEX" + _APE + b"\0\0\0\xa0" + bytes(308) + b"APETAGEX" + _APE + b"\0\0\0\x80" + bytes(8)
)


@pytest.fixture(scope="module")
def mp3():
    return two_mp3()


def test_tags_of_an_mp3_are_no_sound(mp3, warned):
    told, bare = mp3
    for content in (told, bare):
        for tagged in (content + TAG_1, TAG_2 + content, content + APE, content + APE + TAG_1):
            assert torch.equal(read_audio(tagged), read_audio(content))
    between = told + TAG_1 + TAG_2 + bare + APE + told
    assert torch.equal(read_audio(between), torch.cat([read_audio(x) for x in (told, bare, told)]))
    assert warned() == []


def test_frames_behind_those_that_are_told_are_read(mp3, warned):
    told, bare = mp3
    both = len(read_audio(told)) + len(read_audio(bare))
    assert both <= len(read_audio(told + bare)) <= both + 2 * DECODER_DELAY + 576
    assert warned() == []


@needs_ffmpeg
def test_mp3_has_as_many_samples_as_ffmpeg_decodes(tmp_path, mp3):
    told, bare = mp3
    for content, tolerance in ((told, 0), (bare, DECODER_DELAY), (told + told, 2 * 1152 + 1105)):
        (tmp_path / "x.mp3").write_bytes(content)
        expected = by_ffmpeg(tmp_path / "x.mp3")
        assert 0 <= len(expected) - len(read_audio(content)) <= tolerance
