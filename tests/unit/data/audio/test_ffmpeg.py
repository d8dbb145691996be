"""What the ffmpeg program decodes, and each way in which it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio import ffmpeg
from paraformer.data.audio.read import read_audio, read_channels
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Item
from paraformer.errors import AudioError

RATE = 16000
X = np.round(9000 * np.sin(np.arange(4800) * 0.05)).astype("<i2")
EXACT = torch.from_numpy(X.astype(np.float32) / 32768)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program here")

LOSSLESS = {
    "m4a": ["-c:a", "alac", "-f", "ipod"],
    "mkv": ["-c:a", "flac", "-f", "matroska"],
    "mov": ["-c:a", "pcm_s16le", "-f", "mov"],
    "wv": ["-c:a", "wavpack", "-f", "wv"],
    "avi": ["-c:a", "pcm_s16le", "-f", "avi"],
}
LOSSY = {
    "m4a": ["-c:a", "aac", "-f", "ipod"],
    "mp4": ["-f", "lavfi", "-i", "testsrc=s=64x48:r=5:d=2", "-c:v", "mpeg4", "-shortest"],
    "webm": ["-c:a", "libopus", "-f", "webm"],
    "aac": ["-c:a", "aac", "-f", "adts"],
    "wma": ["-c:a", "wmav2", "-f", "asf"],
    "flv": ["-c:a", "libmp3lame", "-ar", "22050", "-f", "flv"],
    "ts": ["-c:a", "aac", "-f", "mpegts"],
    "ac3": ["-c:a", "ac3", "-ar", "32000", "-f", "ac3"],
}


def by_ffmpeg(folder, suffix, options, samples):
    source, made = folder / "made.wav", folder / f"made.{suffix}"
    soundfile.write(source, samples, RATE)
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(made)]
    subprocess.run(command, check=True)
    return made


@needs_ffmpeg
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_what_ffmpeg_decodes_without_loss_is_exact(tmp_path, warned, suffix):
    stereo = np.stack([X, X[::-1]], 1)
    made = by_ffmpeg(tmp_path, suffix, LOSSLESS[suffix], stereo)
    expected = torch.from_numpy(stereo.T.astype(np.float32) / 32768)
    for source in (made, made.read_bytes()):
        assert torch.equal(read_channels(source), expected)
    assert warned() == []


@needs_ffmpeg
@pytest.mark.parametrize("suffix", LOSSY)
def test_what_ffmpeg_decodes_with_loss_is_the_tone_that_was_written(tmp_path, warned, suffix):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
    made = by_ffmpeg(tmp_path, suffix, LOSSY[suffix], tone)
    for source in (str(made), made.read_bytes()):
        found = read_audio(source).numpy()
        assert abs(len(found) - len(tone)) < 0.2 * RATE
        spectrum = np.abs(np.fft.rfft(found[RATE // 2 : 3 * RATE // 2])) / (RATE / 2)
        assert spectrum.argmax() == 1000
        assert abs(spectrum[1000] - 0.5) < 0.1
    blocks = torch.cat(list(read_blocks(Item("x", made), RATE, 1)))
    torch.testing.assert_close(blocks, torch.from_numpy(found), atol=1e-6, rtol=0)
    assert warned() == []


def amr(seconds):
    """AMR-NB: frames of 20 ms at 12.2 kbit/s (type 7, 31 bytes), all bits 0."""
    return b"#!AMR\n" + (b"\x3c" + bytes(31)) * (50 * seconds)


@needs_ffmpeg
def test_amr_has_160_samples_a_frame_at_8_khz(tmp_path):
    (tmp_path / "x.amr").write_bytes(amr(2))
    for source in (tmp_path / "x.amr", amr(2)):
        assert len(read_audio(source, target_fs=8000)) == 2 * 8000


FOREIGN = {
    "MP4 or M4A": b"\0\0\0\x20ftypM4A " + bytes(30),
    "Matroska or WebM": bytes.fromhex("1a45dfa3") + bytes(30),
    "AMR": amr(1),
    "WMA": bytes.fromhex("3026b2758e66cf11") + bytes(30),
    "FLV": b"FLV\x01" + bytes(30),
    "AAC": (bytes.fromhex("fff15080027ffc") + bytes(12)) * 3,
    "AVI": b"RIFF\0\0\0\0AVI LIST" + bytes(30),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_without_ffmpeg_one_line_names_the_format_and_what_to_install(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "x.bin"
    path.write_bytes(FOREIGN[kind])
    for source, name in ((path, str(path)), (FOREIGN[kind], f"{len(FOREIGN[kind])} bytes")):
        with pytest.raises(AudioError) as caught:
            read_audio(source)
        assert str(caught.value).startswith(name)
        assert f"it is {kind}, which needs ffmpeg; install ffmpeg" in str(caught.value)


LED_ASTRAY = {
    "x.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n",
    "x.ffconcat": "ffconcat version 1.0\nfile '{other}'\n",
    "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    "x.mpd": '<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{other}'
    "</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@needs_ffmpeg
@pytest.mark.parametrize("name", LED_ASTRAY)
def test_a_file_cannot_lead_to_another(tmp_path, name):
    """A playlist would otherwise read any file of the machine, or send its name elsewhere."""
    other = tmp_path / "other.ts"
    by_ffmpeg(tmp_path, "ts", LOSSY["ts"], X).rename(other)
    content = LED_ASTRAY[name].format(other=other)
    # With a byte that no text has: a mere text does not come as far as ffmpeg.
    for end, why in (("\0", "cannot decode it, (nor can|and) ffmpeg"), ("", "it, it is a text")):
        (tmp_path / name).write_text(content + end)
        with pytest.raises(AudioError, match=why) as caught:
            read_audio(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def program(folder, text):
    """A stand-in for ffmpeg."""
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    return lambda text: program(tmp_path, text)


def test_ffmpeg_that_hangs_is_ended(tmp_path, monkeypatch, stand_in):
    stand_in(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    monkeypatch.setattr(ffmpeg, "HANG_SECONDS", 1)
    with pytest.raises(AudioError, match="ffmpeg wrote nothing for 1 s"):
        read_audio(FOREIGN["AMR"])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ffmpeg_that_writes_without_end_is_refused(monkeypatch, stand_in):
    stand_in("open(sys.argv[-1].removeprefix('file:'), 'wb').write(bytes(5000))")
    monkeypatch.setattr(ffmpeg, "MOST_BYTES", 5000)
    with pytest.raises(AudioError, match="more than 5000 bytes of samples; cut it"):
        read_audio(FOREIGN["AMR"])


def test_what_ffmpeg_writes_and_nobody_can_read_is_refused(stand_in):
    stand_in("open(sys.argv[-1].removeprefix('file:'), 'wb').write(b'RIFF')")
    with pytest.raises(AudioError, match=r"bytes of audio: cannot decode it \("):
        read_audio(FOREIGN["AMR"])


def test_a_disk_without_room_for_what_ffmpeg_writes_is_one_clear_error(monkeypatch, stand_in):
    stand_in("")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ffmpeg.tempfile, "TemporaryDirectory", full)
    with pytest.raises(AudioError, match="bytes of audio: No space left on device; check"):
        read_audio(FOREIGN["AMR"])


def test_what_ffmpeg_complains_of_is_said(tmp_path, stand_in):
    stand_in("sys.exit('moov atom not found')")
    with pytest.raises(AudioError, match=r"nor can ffmpeg \(moov atom not found\)"):
        read_audio(FOREIGN["MP4 or M4A"])
    assert not list(tmp_path.glob("paraformer-*"))


def test_ffmpeg_that_does_not_start_is_one_clear_error(tmp_path, stand_in):
    stand_in("").write_text("#!/nowhere/to/be/found\n")
    with pytest.raises(AudioError, match="ffmpeg does not start"):
        read_audio(FOREIGN["AMR"])


@needs_ffmpeg
def test_a_cut_video_gives_its_beginning_with_one_warning(tmp_path, warned):
    made = by_ffmpeg(tmp_path, "mkv", LOSSLESS["mkv"], np.tile(X, 40))
    content = made.read_bytes()
    found = read_audio(content[: len(content) // 2])
    assert 10 * len(X) < len(found) < 40 * len(X)
    assert torch.equal(found, EXACT.repeat(40)[: len(found)])
    assert len(warned()) == 1 and "damaged" in warned()[0]
