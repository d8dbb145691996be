"""Sound of films is where a player lets it be heard: as long after the picture, with its gaps; and
which files ffmpeg is asked for.

Times may differ by 0.04 s: what an encoder puts before the sound, and its decoder takes off again.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from paraformer.data.audio import ffmpeg
from paraformer.data.audio.media import AUDIO, FORMATS
from paraformer.data.audio.read import read_audio
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item, list_items
from paraformer.errors import AudioError, DataError

RATE = 16000
PRIMING = 0.04
pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None,
    reason="no ffmpeg and ffprobe programs here",
)
PICTURE = ["-f", "lavfi", "-i", "color=s=64x64:r=24:d=2"]


def run(*options):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, options)], check=True)


@pytest.fixture(scope="module")
def tone(tmp_path_factory):
    """2 s of a tone."""
    path = tmp_path_factory.mktemp("tone") / "tone.wav"
    soundfile.write(path, 0.5 * np.sin(np.arange(2 * RATE) * 0.4), RATE)
    return path


def sounds(wave):
    """Where there is sound, in seconds: [first, last]s between silences of 0.2 s or more."""
    loud = np.flatnonzero(np.abs(np.asarray(wave)) > 0.1) / RATE
    cuts = np.flatnonzero(np.diff(loud) > 0.2)
    firsts, lasts = loud[[0, *(cuts + 1)]], loud[[*cuts, -1]]
    return [tuple(pair) for pair in zip(firsts.tolist(), lasts.tolist(), strict=True)]


FILMS = {
    "mp4": ["-c:v", "mpeg4", "-c:a", "aac"],
    "mkv": ["-c:v", "mpeg4", "-c:a", "flac"],
    "webm": ["-c:v", "libvpx", "-c:a", "libopus"],
    "ts": ["-c:v", "mpeg2video", "-c:a", "aac"],
    "mpg": ["-c:v", "mpeg2video", "-c:a", "mp2"],
    "wmv": ["-c:v", "wmv2", "-c:a", "wmav2"],
}


@pytest.mark.parametrize("suffix", FILMS)
def test_sound_that_begins_after_the_picture_does_so(tmp_path, tone, warned, suffix):
    film = tmp_path / f"x.{suffix}"
    run(*PICTURE, "-itsoffset", 1.5, "-i", tone, "-map", 0, "-map", 1, *FILMS[suffix], film)
    whole = read_audio(film)
    ((first, last),) = sounds(whole)
    assert first == pytest.approx(1.5, abs=PRIMING) and last == pytest.approx(3.5, abs=2 * PRIMING)
    blocks = np.concatenate(list(read_blocks(Item("x", film), RATE, 1)))
    np.testing.assert_allclose(blocks, whole, atol=1e-6)
    if suffix == "mp4":
        assert len(read_audio(film.read_bytes())) == len(whole)
        assert len(list_items(tmp_path)[0].read(None, RATE)) == len(whole)
    assert warned() == []


@pytest.mark.parametrize(("suffix", "code"), [("ts", "aac"), ("mkv", "flac"), ("webm", "libopus")])
def test_a_gap_in_the_sound_takes_its_time(tmp_path, tone, warned, suffix, code):
    made = tmp_path / f"x.{suffix}"
    holed = "asetnsamples=n=160,aselect='lt(t,0.5)+gt(t,1.2)'"
    run("-i", tone, "-af", holed, "-c:a", code, made)
    (_, end), (begin, last) = sounds(read_audio(made))
    # A frame of AAC has 0.064 s here, and reaches into the next one.
    assert end == pytest.approx(0.5, abs=0.1) and begin == pytest.approx(1.2, abs=0.1)
    assert last == pytest.approx(2.0, abs=0.1)
    assert warned() == []


def test_what_comes_with_earlier_times_is_not_dropped(tmp_path, tone, warned):
    """As in recordings of a browser that were put together, each of which begins at 0."""
    run("-i", tone, "-c:a", "libopus", tmp_path / "x.webm")
    one = (tmp_path / "x.webm").read_bytes()
    assert len(read_audio(one + one)) == pytest.approx(4 * RATE, abs=PRIMING * RATE)
    assert warned() == []


def test_a_cover_is_no_picture_of_a_film(tmp_path, tone, warned):
    run(*PICTURE, "-frames:v", 1, tmp_path / "cover.png")
    cover = ["-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v", "attached_pic"]
    run("-i", tone, "-i", tmp_path / "cover.png", *cover, "-c:a", "alac", tmp_path / "x.m4a")
    assert len(read_audio(tmp_path / "x.m4a")) == 2 * RATE
    assert warned() == []


def test_without_ffprobe_a_film_is_heard_and_the_delay_is_said(tmp_path, tone, warned, monkeypatch):
    film = tmp_path / "x.mkv"
    run(*PICTURE, "-itsoffset", 1.5, "-i", tone, "-map", 0, "-map", 1, *FILMS["mkv"], film)
    (tmp_path / "bin").mkdir()
    os.symlink(shutil.which("ffmpeg"), tmp_path / "bin" / "ffmpeg")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert len(read_audio(film)) == 2 * RATE
    assert len(warned()) == 1 and "ffprobe is not here" in warned()[0]


def test_a_delay_that_cannot_be_is_not_believed(tmp_path, tone, warned, monkeypatch):
    film = tmp_path / "x.mkv"
    run(*PICTURE, "-itsoffset", 1.5, "-i", tone, "-map", 0, "-map", 1, *FILMS["mkv"], film)
    monkeypatch.setattr(ffmpeg, "LATEST", 1)
    assert len(read_audio(film)) == 2 * RATE
    assert len(warned()) == 1 and "not believed" in warned()[0]


# Which files


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("adx", ["-ar", "44100", "-c:a", "adpcm_adx"]),
        ("dv", [*PICTURE[:3], "color=s=720x576:r=25:d=2", "-ar", "48000", "-target", "pal-dv"]),
        ("spx", ["-c:a", "libspeex"]),
        ("sox", []),
    ],
)
def test_formats_that_ffmpeg_alone_knows(tmp_path, tone, warned, suffix, options):
    made = tmp_path / f"x.{suffix}"
    try:
        run("-i", tone, *options, made)
    except subprocess.CalledProcessError:
        pytest.skip(f"this ffmpeg cannot write {suffix}")
    (item,) = list_items(tmp_path)
    assert len(item.read(None, RATE)) == pytest.approx(2 * RATE, abs=PRIMING * RATE)
    assert warned() == []


def test_each_format_of_the_list_is_one_of_ffmpeg():
    done = subprocess.run(["ffmpeg", "-v", "quiet", "-demuxers"], capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    known = {name for line in lines if len(line) > 1 for name in line[1].split(",")}
    assert len({*FORMATS} - known) < 10  # a build may leave some out


def test_none_of_the_formats_leads_to_other_files():
    for name in ("hls", "dash", "concat", "imf", "sdp", "rtsp", "image2", "lavfi", "alsa", "mlv"):
        assert name not in FORMATS


def test_what_ffmpeg_knows_and_is_not_asked_for_is_said_so(tmp_path):
    (tmp_path / "x.wav").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nx.ts\n\0")
    with pytest.raises(AudioError, match="ffmpeg, which takes it for 'hls', is not asked to"):
        read_audio(tmp_path / "x.wav")


def test_ffmpeg_does_not_count_what_it_repeats(tmp_path, tone, warned):
    run("-i", tone, "-c:a", "aac", tmp_path / "x.aac")
    content = bytearray((tmp_path / "x.aac").read_bytes())
    heads = [i for i in range(len(content) - 1) if content[i] == 0xFF and content[i + 1] == 0xF1]
    for place in heads[5:20]:
        content[place + 8 : place + 60] = b"\xff" * 52
    read_audio(bytes(content))
    assert len(warned()) == 1 and "damaged" in warned()[0] and "repeated" not in warned()[0]


def test_a_folder_says_what_it_passes_over(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("a.wav", "a.spx", "a.awb", "b.ADX", "a.txt", "b.txt", "notes", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    assert len(list_items(tmp_path)) == 4
    assert caplog.messages == [f"{tmp_path}: passed over 3 of 7 files (2 .txt, 1 no ending)"]
    for path in tmp_path.iterdir():
        if path.suffix.lower() in AUDIO:
            path.unlink()
    with pytest.raises(DataError, match=r"no audio file .* \(3 others: 2 .txt, 1 no ending\)"):
        list_items(tmp_path)
