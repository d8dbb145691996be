"""Content tells the kind: the same recording as a file, as bytes and from a command is the same."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.containers import kind_of
from paraformer.data.audio.read import count_channels, read_audio
from paraformer.errors import AudioError

RATE = 16000
X = np.round(9000 * np.sin(np.arange(8000) * 0.05)).astype("<i2")
EXACT = torch.from_numpy(X.astype(np.float32) / 32768)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program here")
needs_sox = pytest.mark.skipif(shutil.which("sox") is None, reason="no sox program here")


def forms(path):
    """What a recording may be given as."""
    content = path.read_bytes()
    return {
        "file": path,
        "bytes": content,
        "open file": io.BytesIO(content),
        "command": f"cat '{path}' |",
    }


def same(path, **keywords):
    """The samples, which are those of each form."""
    found = {k: read_audio(v, allow_pipe=True, **keywords) for k, v in forms(path).items()}
    for form, wave in found.items():
        assert torch.equal(wave, found["file"]), form
    return found["file"]


def decoded(path):
    """The samples by ffmpeg's own reader."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-ac", "1", "-f", "s16le", "-"]
    done = subprocess.run(command, check=True, capture_output=True)
    return torch.from_numpy(np.frombuffer(done.stdout, "<i2").astype(np.float32) / 32768)


@pytest.mark.parametrize("kind", sorted(soundfile.available_formats().keys() - {"RAW", "SD2"}))
def test_all_that_libsndfile_writes_is_known_by_its_content(tmp_path, kind):
    path = tmp_path / "x.bin"
    subtypes = soundfile.available_subtypes(kind)
    subtype = next(s for s in ("PCM_16", "VORBIS", "MPEG_LAYER_III", *subtypes) if s in subtypes)
    soundfile.write(path, X, RATE, format=kind, subtype=subtype)
    assert kind_of(path.read_bytes()).is_audio
    found = same(path)
    if subtype == "PCM_16":
        assert torch.equal(found, EXACT)
    assert len(found) > 0


SOX = {
    "sf": [],
    "htk": [],
    "voc": [],
    "sph": [],
    "avr": [],
    "paf": [],
    "fap": [],
    "caf": [],
    "aiff": [],
    "au": [],
    "w64": [],
    "mu.sph": ["-e", "mu-law", "-b", "8"],
    "8svx": ["-b", "8"],
    "wve": ["-r", "8000"],
    "gsm": ["-r", "8000"],
}


@needs_sox
@pytest.mark.parametrize("suffix", SOX)
def test_what_sox_writes_is_what_sox_reads(tmp_path, suffix):
    """The exact samples, or those that sox itself reads from what was coded."""
    if suffix == "gsm" and shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg program here")
    source, made, kind = tmp_path / "made.wav", tmp_path / "x.bin", suffix.rpartition(".")[2]
    soundfile.write(source, X, RATE)
    subprocess.run(["sox", source, "-t", kind, *SOX[suffix], made], check=True, timeout=60)
    sox = ["sox", "-t", kind, made, "-t", "raw", "-e", "signed", "-b", "16", "-L", "-"]
    read = subprocess.run(sox, check=True, capture_output=True, timeout=60).stdout
    expected = torch.from_numpy(np.frombuffer(read, "<i2").astype(np.float32) / 32768)
    # Its own VOC has blocks that are 8 bytes too short, and it believes them.
    expected = EXACT if kind == "voc" else expected
    slow = "-r" in SOX[suffix]
    found = same(made, target_fs=8000 if slow else RATE)
    assert len(found) == len(expected)
    # GSM 6.10: decoders agree to the last bits only.
    torch.testing.assert_close(found, expected, atol=2e-2 if suffix == "gsm" else 1e-4, rtol=0)


FFMPEG = {
    "mp2": ["-c:a", "mp2", "-f", "mp2"],
    "dts": ["-c:a", "dca", "-strict", "-2", "-ar", "48000", "-f", "dts"],
    "m2ts": ["-c:a", "aac", "-mpegts_m2ts_mode", "1", "-f", "mpegts"],
    "ac3": ["-c:a", "ac3", "-ar", "44100", "-f", "ac3"],
    "eac3": ["-c:a", "eac3", "-ar", "48000", "-f", "eac3"],
    "mov": ["-c:a", "pcm_s16le", "-f", "mov"],
    "tta": ["-c:a", "tta", "-f", "tta"],
    "wv": ["-c:a", "wavpack", "-f", "wv"],
    "opus": ["-c:a", "libopus", "-f", "opus"],
    "rm": ["-c:a", "ac3", "-ar", "44100", "-f", "rm"],
}


def by_ffmpeg(folder, options):
    source, made = folder / "made.wav", folder / "x.bin"
    soundfile.write(source, np.tile(X, 2), RATE)
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(made)]
    subprocess.run(command, check=True, timeout=60)
    return made


@needs_ffmpeg
@pytest.mark.parametrize("suffix", FFMPEG)
def test_what_ffmpeg_writes_is_what_ffmpeg_reads(tmp_path, suffix):
    made = by_ffmpeg(tmp_path, FFMPEG[suffix])
    if suffix == "mov":  # as QuickTime wrote it before there was `ftyp`
        made.write_bytes(made.read_bytes().replace(b"ftyp", b"wide", 1))
    rate = int(FFMPEG[suffix][FFMPEG[suffix].index("-ar") + 1]) if "-ar" in FFMPEG[suffix] else RATE
    rate = 48000 if suffix == "opus" else rate
    found, expected = same(made, target_fs=rate), decoded(made)
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, atol=2e-2 if suffix == "opus" else 2e-3, rtol=0)


@needs_ffmpeg
def test_dsd_is_known(tmp_path):
    """DSF as Sony's DSF File Format Specification 1.01 has it; a tenth of a second of silence."""
    size = 9 * 4096
    form = struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, 2822400, 1, 8 * size, 4096, 0)
    body = b"fmt " + form + b"data" + struct.pack("<Q", 12 + size) + b"\x69" * size
    (tmp_path / "x.bin").write_bytes(b"DSD " + struct.pack("<QQQ", 28, 28 + len(body), 0) + body)
    found = same(tmp_path / "x.bin")
    assert len(found) == -(-size * RATE // 352800)
    assert found.abs().max() < 0.1


def packed(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def zipped(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.txt", "x")


def tarred(file):
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x.wav"))


SPHERE = b"NIST_1A\n   1024\nsample_count -i 8000\nsample_rate -i 16000\nchannel_count -i 1\n"
SPHERE += b"sample_n_bytes -i 2\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
NO_SOUND = {
    "text": '{"error": "没有"}'.encode(),
    "text ": b"<html><body>404</body></html>",
    "text  ": "<!DOCTYPE html><title>没有</title>".encode("gb18030"),
    "text   ": b"u1 u1.wav\n",
    "text    ": "u1 录音/一.wav\nu2 录音/二.wav\n".encode("gb18030") * 2,
    "text     ": "u1 录音/一.wav\nu2 录音/二.wav\n".encode("utf-16"),
    "a gzip archive": gzip.compress(X.tobytes()),
    "a bzip2 archive": bz2.compress(X.tobytes()),
    "an xz archive": lzma.compress(X.tobytes()),
    "a zip archive": packed(zipped),
    "a tar archive": packed(tarred),
    "a PNG image": bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(99),
    "a JPEG image": bytes.fromhex("ffd8ffe000104a46494600") + bytes(99),
    "a WebP image": b"RIFF\x40\0\0\0WEBPVP8 " + bytes(60),
    "a PDF document": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + b"x" * 99,
    "a numpy file": packed(lambda file: np.save(file, X)),
    "a Kaldi matrix": b"\0BFM \4\1\0\0\0\4\1\0\0\0" + bytes(4),
}
NOBODY_READS = {
    "SILK": b"\x02#!SILK_V3" + bytes(99),
    "NIST SPHERE compressed by shorten": SPHERE.ljust(1024) + b"ajkg\2" + bytes(999),
}


@pytest.mark.parametrize("kind", [*NO_SOUND, *NOBODY_READS])
def test_what_is_no_sound_is_refused_by_its_name_in_every_form(tmp_path, kind):
    path = tmp_path / "x.bin"
    path.write_bytes({**NO_SOUND, **NOBODY_READS}[kind])
    why = "not audio" if kind in NO_SOUND else "which neither libsndfile nor ffmpeg decodes"
    for keywords in ({}, {"fs": 16000}):  # the caller's rate makes no sound of it
        for form, source in forms(path).items():
            with pytest.raises(AudioError) as caught:
                read_audio(source, allow_pipe=True, **keywords)
            message = str(caught.value)
            assert kind.strip() in message and "\n" not in message, form
            assert why in message or (form, kind.strip()) == ("file", "text")


def test_raw_samples_are_taken_where_the_caller_says_so(tmp_path):
    """Bytes are, and names; of commands `fs` says it."""
    (tmp_path / "x.pcm").write_bytes(X.tobytes())
    raw = forms(tmp_path / "x.pcm")
    for form in ("bytes", "open file", "file"):
        assert torch.equal(read_audio(raw[form]), EXACT)
    assert torch.equal(read_audio(raw["command"], fs=RATE, allow_pipe=True), EXACT)
    with pytest.raises(AudioError, match=r"gives bytes of no known format; .* give fs if they are"):
        read_audio(raw["command"], allow_pipe=True)
    assert count_channels(raw["command"], allow_pipe=True) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_raw_samples_of_a_named_pipe_are_taken_where_fs_says_so(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for fs in (RATE, None):
        writer = threading.Thread(target=path.write_bytes, args=(X.tobytes(),))
        writer.start()
        if fs:
            assert torch.equal(read_audio(path, fs=fs), EXACT)
        else:
            with pytest.raises(AudioError, match="gives bytes of no known format"):
                read_audio(path)
        writer.join()


def test_samples_are_not_taken_for_anything_else():
    """Of speech-like noise, loud and quiet, no stretch is a text or a frame."""
    rng = np.random.default_rng(0)
    for scale in (1, 30, 1000, 9000):
        noise = rng.normal(0, scale, 60_000).clip(-32768, 32767).astype("<i2").tobytes()
        starts = rng.integers(0, 50_000, 300) * 2
        assert {kind_of(noise[start : start + 9000]) for start in starts} == {None}
