"""Creative Voice files: the samples of all blocks, in their order, with the silence between."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from paraformer.data.audio.read import read_audio, read_channels
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item
from tests.sounds import FIRST, RATE


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
