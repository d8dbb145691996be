"""Sound that a file's own count, or that of its decoder, would leave out or put elsewhere: as much
is read as the sum of the parts, or what ffmpeg's decoder gives.

Where ffmpeg is the measure of an MP3, 529 samples may differ: the delay of every MP3 decoder, which
libsndfile takes off where a tag counts frames without telling the encoder's delay, as the one does
that is put before an MP3 without any; ffmpeg does not.
"""

from __future__ import annotations

import io
import logging
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.mpeg import frame_length
from paraformer.data.audio.read import count_channels, read_audio, read_channels
from paraformer.data.audio.resample import resample
from paraformer.data.audio.soundfiles import header_samples
from paraformer.data.batches.recordings import Reader
from paraformer.data.inputs.audio_items import Segment
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item, list_items

RATE = 16000
DECODER_DELAY = 529
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program here")
RANDOM = np.random.default_rng(0)
FIRST, SECOND = (
    (0.3 * np.sin(np.cumsum(RANDOM.uniform(0.02, 0.6, n)))).astype(np.float32)
    for n in (2 * RATE, 3 * RATE)
)


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


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


# Files that are several


@pytest.mark.parametrize(
    ("kind", "code"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", None), ("MP3", None)]
)
def test_files_put_together_are_all_heard(tmp_path, warned, kind, code):
    parts = [written(samples, kind, code) for samples in (FIRST, SECOND, FIRST[:9000])]
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(b"".join(parts))
    whole = in_every_way(path)
    torch.testing.assert_close(whole, joined(*parts), atol=1e-6, rtol=0)
    assert torch.equal(read_audio(path.read_bytes()), whole)
    for given in (str(path), [str(path)], tmp_path):
        assert torch.equal(list_items(given)[0].read(None, RATE), whole)
    assert warned() == []


def test_parts_of_other_rates_channels_and_codecs_are_brought_to_the_first(tmp_path, warned):
    stereo = np.stack([SECOND, SECOND[::-1]], 1)
    parts = [written(FIRST, "OGG", "OPUS"), written(stereo, "OGG", "VORBIS", 44100)]
    path = tmp_path / "x.ogg"
    path.write_bytes(b"".join(parts))
    second, rate = alone(parts[1])
    mixed = torch.cat([alone(parts[0])[0], resample(second.mean(1), rate, RATE)])
    torch.testing.assert_close(in_every_way(path), mixed, atol=1e-6, rtol=0)
    assert count_channels(path) == 1
    assert read_channels(b"".join(parts[::-1])).shape[0] == 2
    assert warned() == []


@needs_ffmpeg
@pytest.mark.parametrize("code", ["flac", "libspeex"])
def test_chained_ogg_of_codecs_that_ffmpeg_alone_knows(tmp_path, warned, code):
    parts = []
    for name, samples in (("a.ogg", FIRST), ("b.ogg", SECOND)):
        soundfile.write(tmp_path / "a.wav", samples, RATE)
        made = tmp_path / name
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(tmp_path / "a.wav"), "-c:a", code]
        if subprocess.run([*command, str(made)], capture_output=True).returncode:
            pytest.skip(f"this ffmpeg cannot write {code}")
        parts.append(made.read_bytes())
    expected = torch.cat([read_audio(part) for part in parts])
    assert len(expected) == len(FIRST) + len(SECOND)
    assert torch.equal(read_audio(b"".join(parts)), expected)
    assert warned() == []


def test_a_chain_that_is_cut_off_gives_what_is_there_and_says_so(warned):
    parts = [written(FIRST, "FLAC"), written(SECOND, "FLAC")]
    content = b"".join(parts)[: -len(parts[1]) // 2]
    found = read_audio(content)
    assert len(FIRST) < len(found) < len(FIRST) + len(SECOND)
    torch.testing.assert_close(found, joined(*parts)[: len(found)], atol=1e-6, rtol=0)
    assert len(warned()) == 1 and "of 5.00 s are read" in warned()[0]


@pytest.mark.parametrize("channels", [1, 2])
def test_the_streams_of_an_ogg_that_sound_at_a_time_are_no_chain(tmp_path, channels):
    """Two logical streams begin page behind page; one of them is heard, as ffmpeg does."""
    pages = [written(FIRST, "OGG", "OPUS"), written(SECOND, "OGG", "OPUS")]
    first, second = (page[: page.index(b"OggS", 4)] for page in pages)
    content = first + second + pages[0][len(first) :] + pages[1][len(second) :]
    assert len(read_audio(content)) in (len(FIRST), len(SECOND))


@pytest.mark.parametrize("code", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("parts", [1, 2])
def test_an_ogg_that_breaks_off_says_so(tmp_path, warned, code, parts):
    """Its decoder takes the last page that is there for the end."""
    noise = RANDOM.uniform(-0.9, 0.9, 6 * RATE)
    whole = written(noise, "OGG", code)
    content = whole * (parts - 1) + whole[: len(whole) // 2]
    found = read_audio(content)
    assert (parts - 1) * len(noise) < len(found) < parts * len(noise)
    assert len(warned()) == 1 and "cut off" in warned()[0]


def test_a_part_that_nothing_decodes_is_left_out_with_a_word(warned):
    whole, other = written(FIRST, "OGG", "VORBIS"), written(SECOND, "OGG", "OPUS")
    found = read_audio(whole + other[:60] + whole)
    torch.testing.assert_close(found, joined(whole, whole), atol=1e-6, rtol=0)
    assert len(warned()) == 1 and "part 2 of 3 is left out: cannot decode it" in warned()[0]


# MP3


def id3v2(size):
    return b"ID3\4\0\0" + bytes((size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127))


TAG_2 = id3v2(1000) + bytes(1000)
TAG_1 = b"TAG" + bytes(125)
_APE = struct.pack("<III", 2000, 332, 1)
APE = (
    b"APETAGEX" + _APE + b"\0\0\0\xa0" + bytes(308) + b"APETAGEX" + _APE + b"\0\0\0\x80" + bytes(8)
)


@pytest.fixture(scope="module")
def mp3(tmp_path_factory):
    """Two MP3 files, the first with a count of its frames, the second without."""
    told = written(FIRST, "MP3")
    bare = written(SECOND, "MP3")
    assert b"Info" in told[:200] or b"Xing" in told[:200]
    return told, bare[frame_length(bare) :]


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


# WAV


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


# Creative Voice


def voc(*blocks, end=b"\0"):
    body = b"".join(bytes([k]) + len(c).to_bytes(3, "little") + c for k, c in blocks)
    return b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x114, 0x111F) + body + end


def new_sound(samples, bits=16, codec=4):
    return (9, struct.pack("<IBBHI", RATE, bits, 1, codec, 0) + samples.tobytes())


SHORTS = (FIRST[:12000] * 32768).astype("<i2")
BYTES = (SHORTS // 256 + 128).astype("u1")
PARTS = np.split(SHORTS, 4)
OLD = bytes([256 - 62, 0])  # 16129 Hz
VOICES = {
    "one block": voc(new_sound(SHORTS)),
    "no end": voc(new_sound(SHORTS), end=b""),
    "continued": voc(new_sound(PARTS[0]), *((2, part.tobytes()) for part in PARTS[1:])),
    "blocks": voc(*(new_sound(part) for part in PARTS)),
    "marks": voc(
        new_sound(PARTS[0]), (4, b"\1\0"), (5, b"x\0"), new_sound(np.concatenate(PARTS[1:]))
    ),
    "size of sox": voc(new_sound(SHORTS)).replace(
        (12 + 24000).to_bytes(3, "little"), (4 + 24000).to_bytes(3, "little"), 1
    ),
}


@pytest.mark.parametrize("case", VOICES)
def test_all_blocks_of_a_voice_file_are_its_samples(tmp_path, warned, case):
    path = tmp_path / "x.voc"
    path.write_bytes(VOICES[case])
    exact = torch.from_numpy(SHORTS / 32768).float()
    for source in (path, VOICES[case]):
        assert torch.equal(read_audio(source), exact)
    assert torch.equal(torch.cat(list(read_blocks(Item("x", path), RATE, 1))), exact)
    assert warned() == []


def test_an_extended_block_tells_rate_and_channels_of_the_next():
    extended = (8, struct.pack("<HBB", 65536 - 256_000_000 // (2 * RATE), 0, 1))
    content = voc(extended, (1, OLD + BYTES[:6000].tobytes()), (2, BYTES[6000:].tobytes()))
    exact = torch.from_numpy((BYTES.astype(np.float32) - 128) / 128)
    assert torch.equal(read_channels(content), exact.view(-1, 2).T)


def test_silence_between_blocks_takes_its_time():
    """A rate code c stands for 1,000,000 / (256 - c) Hz: 6200 samples at 16129 Hz are 0.3844 s."""
    content = voc(new_sound(PARTS[0]), (3, struct.pack("<HB", 6199, 256 - 62)), new_sound(PARTS[1]))
    silence = round(6200 * 62e-6 * RATE)
    found = read_audio(content)
    assert len(found) == 2 * 3000 + silence
    assert torch.count_nonzero(found[3000 : 3000 + silence]) == 0
    assert torch.equal(found[3000 + silence :], torch.from_numpy(PARTS[1] / 32768).float())


def test_a_voice_file_that_is_cut_or_changes_says_so(warned):
    content = voc(new_sound(SHORTS))
    assert torch.equal(read_audio(content[:10054]), torch.from_numpy(SHORTS[:5006] / 32768).float())
    assert len(warned()) == 1 and "cut off" in warned()[0]
    with pytest.raises(Exception, match="its blocks differ in rate"):
        read_audio(voc(new_sound(SHORTS), new_sound(BYTES, 8, 0)))
