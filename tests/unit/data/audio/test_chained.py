"""Files put together of several: as much is read as the sum of the parts."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import count_channels, read_audio, read_channels
from paraformer.data.audio.resample import resample
from paraformer.data.inputs.sources import list_items
from tests.sounds import (
    FIRST,
    RANDOM,
    RATE,
    SECOND,
    alone,
    in_every_way,
    joined,
    needs_ffmpeg,
    written,
)


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
    assert len(warned()) == 1 and "part 2 of 2: cut off" in warned()[0]
    assert "of 3.00 s are read" in warned()[0]


@pytest.mark.parametrize("keep", [0.5, 0.1])
def test_damage_in_one_part_of_a_chain_costs_nothing_of_the_others(warned, keep):
    parts = [written(FIRST, "FLAC"), written(SECOND, "FLAC"), written(FIRST[:9000], "FLAC")]
    sound = int(len(parts[1]) * keep)
    damaged = parts[1][:sound] + bytes(len(parts[1]) - sound)
    found = read_audio(parts[0] + damaged + parts[2])
    first, last = joined(parts[0]), joined(parts[2])
    assert len(first) + len(last) <= len(found) < len(first) + len(SECOND) + len(last)
    torch.testing.assert_close(found[: len(first)], first, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[-len(last) :], last, atol=1e-6, rtol=0)
    assert len(warned()) == 1 and "part 2 of 3: " in warned()[0]


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
