"""Whatever comes as audio is read right, with one warning at most, or refused in one line."""

from __future__ import annotations

import io
import struct

import kaldiio
import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import read_audio, resample
from paraformer.errors import AudioError

X = (0.3 * np.sin(np.arange(3200) * 0.05)).astype(np.float32)
PCM = np.round(X * 32768).astype("<i2")
EXACT = torch.from_numpy(PCM.astype(np.float32) / 32768)


def chunk(name, content, size=None, pad=True):
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + b"\0" * (pad and len(content) % 2)


SAMPLES = PCM.tobytes()


def wav(data=SAMPLES, *, riff_size=None, data_size=None, before=b"", after=b""):
    """A WAV of 16 kHz, 16 bits, one channel, with the header's sizes as wanted."""
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))
    body = b"WAVE" + fmt + before + chunk(b"data", data, data_size) + after
    return chunk(b"RIFF", body, riff_size)


def near(ours, expected, atol=1e-6):
    torch.testing.assert_close(ours, torch.as_tensor(expected), atol=atol, rtol=0)


# Files and bytes


@pytest.mark.parametrize(
    ("suffix", "subtype", "atol"),
    [
        ("wav", "PCM_U8", 1 / 128),
        ("wav", "PCM_16", 1 / 32768),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 1e-7),
        ("wav", "ALAW", 0.02),
        ("wav", "ULAW", 0.02),
        ("flac", "PCM_16", 1 / 32768),
        ("ogg", "VORBIS", 0.05),
        ("mp3", "MPEG_LAYER_III", 0.1),
        ("aiff", "PCM_16", 1 / 32768),
        ("w64", "PCM_16", 1 / 32768),
        ("caf", "PCM_16", 1 / 32768),
    ],
)
def test_every_format_as_file_and_as_bytes(tmp_path, warned, suffix, subtype, atol):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, X, 16000, subtype=subtype)
    for source in (path, str(path), path.read_bytes()):
        near(read_audio(source), X, atol)
    assert warned() == []


def test_the_files_own_rate_wins_and_channels_are_averaged(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([X, 0.5 * X], 1), 8000, subtype="FLOAT")
    expected = resample(torch.from_numpy(0.75 * X), 8000, 16000)
    near(read_audio(path, fs=44100), expected)
    assert len(read_audio(path, target_fs=8000)) == len(X)


def test_bytes_without_a_header_are_16_bit_samples(warned):
    assert torch.equal(read_audio(PCM.tobytes()), EXACT)
    assert torch.equal(read_audio(bytearray(PCM.tobytes())), EXACT)
    assert len(read_audio(PCM.tobytes(), fs=8000)) == 2 * len(PCM)
    assert read_audio(b"").shape == (0,)
    assert warned() == []


def test_the_odd_byte_of_raw_samples_is_left_out(warned):
    assert torch.equal(read_audio(PCM.tobytes() + b"\1"), EXACT)
    assert len(warned()) == 1


def test_raw_samples_that_begin_like_an_mp3_are_samples():
    start = np.array([-1025, -28528], dtype="<i2")  # ff fb 90 90: a valid frame header
    raw = np.concatenate([start, PCM])
    assert raw.tobytes()[:2] == b"\xff\xfb"
    assert torch.equal(read_audio(raw.tobytes())[2:], EXACT)


def test_a_raw_file_is_read_by_its_suffix(tmp_path):
    (tmp_path / "x.pcm").write_bytes(PCM.tobytes())
    assert torch.equal(read_audio(tmp_path / "x.pcm"), EXACT)


def test_a_suffix_that_lies_does_not_matter(tmp_path):
    soundfile.write(tmp_path / "x.flac", PCM, 16000)
    (tmp_path / "x.flac").rename(tmp_path / "x.wav")
    assert torch.equal(read_audio(tmp_path / "x.wav"), EXACT)


def test_a_name_with_everything_in_it(tmp_path):
    path = tmp_path / "空 格=名字(1),[2].wav"
    path.write_bytes(wav())
    assert torch.equal(read_audio(str(path)), EXACT)


# Damaged files: K02

DAMAGED = {
    "sizes 0": wav(riff_size=0, data_size=0),
    "sizes of a header only": wav(riff_size=36, data_size=0),
    "sizes unknown": wav(riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF),
    "sizes of sox": wav(riff_size=0x7FFFF024, data_size=0x7FFFF000),
    "odd chunk without padding": wav(before=chunk(b"LIST", b"INFOx", pad=False)),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_wrong_header_loses_nothing_and_warns_once(tmp_path, warned, case):
    path = tmp_path / "x.wav"
    path.write_bytes(DAMAGED[case])
    assert torch.equal(read_audio(path), EXACT)
    assert len(warned()) == 1
    assert warned()[0].startswith(f"{path}: ")
    assert torch.equal(read_audio(DAMAGED[case]), EXACT)
    assert len(warned()) == 2


@pytest.mark.parametrize("cut", [2, 3, 3201])
def test_a_cut_file_gives_what_is_there_and_warns_once(tmp_path, warned, cut):
    path = tmp_path / "x.wav"
    path.write_bytes(wav()[: 44 + cut])
    assert torch.equal(read_audio(path), EXACT[: cut // 2])
    assert len(warned()) == 1
    assert "cut off" in warned()[0]


def test_a_stereo_file_cut_within_a_sample_gives_whole_ones(warned):
    file = io.BytesIO()
    soundfile.write(file, np.stack([PCM, PCM], 1), 16000, format="WAV", subtype="PCM_16")
    assert torch.equal(read_audio(file.getvalue()[: 44 + 4 * 100 + 3]), EXACT[:100])
    assert len(warned()) == 1


def test_samples_that_end_within_one_are_left_out(warned):
    assert torch.equal(read_audio(wav(PCM.tobytes() + b"\1")), EXACT)
    assert len(warned()) == 1


def test_right_headers_are_no_reason_to_warn(warned):
    tail = chunk(b"LIST", b"INFOICMT" + struct.pack("<I", 2) + b"x\0")
    assert torch.equal(read_audio(wav(after=tail)), EXACT)
    assert torch.equal(read_audio(wav(before=tail)), EXACT)
    odd = chunk(b"LIST", b"INFOx")  # with the padding byte that it needs
    assert torch.equal(read_audio(wav(before=odd)), EXACT)
    assert torch.equal(read_audio(wav(before=odd + odd, after=odd)), EXACT)
    assert torch.equal(read_audio(wav(riff_size=0)), EXACT)
    assert read_audio(wav(b"")).shape == (0,)
    assert read_audio(wav(b"", after=tail)).shape == (0,)
    assert warned() == []


@pytest.mark.parametrize("length", [12, 20, 30, 43, 44])
def test_a_header_without_samples_is_one_clear_error(tmp_path, length):
    path = tmp_path / "x.wav"
    path.write_bytes(wav()[:length])
    with pytest.raises(AudioError, match="WAV header") as caught:
        read_audio(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(("suffix", "kept"), [("flac", 0.3), ("mp3", 0.2)])
def test_a_cut_compressed_file_gives_its_beginning(tmp_path, warned, suffix, kept):
    whole, cut = tmp_path / f"x.{suffix}", tmp_path / f"cut.{suffix}"
    soundfile.write(whole, np.tile(X, 10), 16000)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    expected = read_audio(whole)
    ours = read_audio(cut)
    assert kept * len(expected) < len(ours) < len(expected)
    near(ours[:-1200], expected[: len(ours) - 1200], 1e-4)
    assert len(warned()) == 1


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"hello, this is a text\n" * 9, "cannot decode")]
)
def test_what_is_no_audio_is_one_clear_error(tmp_path, monkeypatch, content, message):
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message):
        read_audio(path)


@pytest.mark.parametrize("source", ["missing.wav", "", "a\0b", "x" * 5000, ".", None, [0.1], 3])
def test_no_file_at_all_is_one_clear_error(source):
    with pytest.raises(AudioError) as caught:
        read_audio(source)
    assert "\n" not in str(caught.value)


# Arrays


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.int8, [-1.0, 0.5]),
        (np.uint8, [-1.0, 0.5]),
        (np.int16, [-1.0, 0.5]),
        (np.uint16, [-1.0, 0.5]),
        (np.int32, [-1.0, 0.5]),
        (np.uint32, [-1.0, 0.5]),
    ],
)
def test_integers_are_divided_by_their_range(dtype, expected):
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    middle = (low + high + 1) // 2
    samples = np.array([low, middle + (high + 1 - middle) // 2], dtype=dtype)
    near(read_audio(samples), expected)
    near(read_audio(torch.from_numpy(samples)), expected)
    near(read_audio(samples.astype(samples.dtype.newbyteorder())), expected)


@pytest.mark.parametrize("peak", [1 << 14, 1 << 30, 1 << 62])
def test_int64_has_the_range_that_its_values_fit(peak):
    near(read_audio(np.array([peak, -peak, 0])), [0.5, -0.5, 0.0])


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.array([3000, -2001, 5], np.int32), True),  # of 16 bits
        (np.array([3 << 8, -5 << 8, 0], np.int32), False),  # of 24 bits, nearly silent
        (np.zeros(3, np.int32), False),
        (np.array([1 << 30, 7], np.int32), False),
        (np.array([30000, 40001], np.uint32), True),
        (np.array([3000, -2001], np.int16), False),
    ],
)
def test_16_bits_in_32_are_warned_of(samples, said, caplog):
    read_audio(samples)
    assert ("give 16-bit samples as int16" in caplog.text) == said


@pytest.mark.parametrize("peak", [2e10, 1e30, -1e30])
def test_samples_far_beyond_any_scale_are_refused(peak):
    """Their energies would not fit float32: a VAD would hear silence in them."""
    with pytest.raises(AudioError, match="samples are above 1e.10, which no sound is"):
        read_audio(np.array([0.0, peak], np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_floats_of_any_width_become_fp32(dtype):
    ours = read_audio(X.astype(dtype))
    assert ours.dtype == torch.float32
    near(ours, X, 1e-3 if dtype == np.float16 else 1e-7)


def test_tensors_of_any_kind():
    for tensor in (torch.from_numpy(X).double(), torch.from_numpy(X).requires_grad_()):
        assert torch.equal(read_audio(tensor), torch.from_numpy(X))
    near(read_audio(torch.from_numpy(X).bfloat16()), X, 2e-3)


def test_channels_are_averaged_in_either_orientation():
    stereo = np.stack([X, -0.5 * X])
    for array in (stereo, stereo.T, stereo[None], torch.from_numpy(stereo)):
        near(read_audio(array), 0.25 * X)
    for array in (X[None], X[:, None], X[None, None]):
        near(read_audio(array), X)


def test_views_and_read_only_arrays_are_fine():
    near(read_audio(X[::-1]), X[::-1].copy())
    near(read_audio(np.frombuffer(X.tobytes(), dtype=np.float32)), X)


def test_samples_that_need_no_change_are_not_copied():
    assert read_audio(X).data_ptr() == X.ctypes.data


def test_an_array_has_the_rate_it_is_said_to_have():
    near(read_audio(X, fs=8000), resample(torch.from_numpy(X), 8000, 16000))


@pytest.mark.parametrize("samples", [0, 1, 10])
def test_few_samples_are_few_samples(samples):
    assert len(read_audio(X[:samples])) == samples
    assert len(read_audio(np.zeros((2, 0), dtype=np.float32))) == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((300, 80)), "which dimension is time"),
        (np.zeros((2, 2)), "which dimension is time"),
        (np.zeros((2, 3, 4)), "which dimension is time"),
        (np.array(0.5), "which dimension is time"),
        (np.zeros(5, dtype=bool), "no audio"),
        (np.zeros(5, dtype=complex), "no audio"),
        (np.array(["a"]), "no audio"),
        (np.array([None]), "no audio"),
    ],
)
def test_arrays_that_are_no_audio_are_refused(array, message):
    with pytest.raises(AudioError, match=message):
        read_audio(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_place(tmp_path, value):
    broken = X.copy()
    broken[1600:1602] = value
    soundfile.write(tmp_path / "x.wav", broken, 16000, subtype="FLOAT")
    for source in (broken, tmp_path / "x.wav"):
        with pytest.raises(AudioError, match=r"2 of 3200 samples .* first at 0\.10 s"):
            read_audio(source)


def test_floats_at_the_scale_of_integers_are_taken_with_a_warning(warned):
    near(read_audio(PCM.astype(np.float32)), PCM.astype(np.float32))
    assert len(warned()) == 1


# Commands and archives


def test_a_command_is_run_only_where_it_may_be(tmp_path, warned):
    (tmp_path / "x.wav").write_bytes(wav(riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF))
    command = f"cat '{tmp_path}/x.wav' |"
    assert torch.equal(read_audio(command, allow_pipe=True), EXACT)
    # A program that writes to a pipe cannot know the length: nothing to warn of.
    assert warned() == []
    with pytest.raises(AudioError, match="only from a wav.scp"):
        read_audio(f"touch {tmp_path}/proof |")
    assert not (tmp_path / "proof").exists()


def test_a_command_cut_off_warns(tmp_path, warned):
    (tmp_path / "x.wav").write_bytes(wav())
    ours = read_audio(f"head -c 1044 '{tmp_path}/x.wav' |", allow_pipe=True)
    assert torch.equal(ours, EXACT[:500])
    assert len(warned()) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo why >&2; exit 3 |", r"exit code 3, 0 bytes \(why\)"),
        ("true |", "exit code 0, 0 bytes"),
        ("echo 你好 |", "gives text, not audio"),
        ("cat a\0b |", "cannot be run"),
        (f"echo {'x' * 3_000_000} |", "cannot be run"),
    ],
    ids=["fails", "silent", "text", "NUL", "too long"],
)
def test_a_command_that_fails_or_says_nothing_is_one_clear_error(command, message):
    with pytest.raises(AudioError, match=message):
        read_audio(command, allow_pipe=True)


def test_a_place_in_a_kaldi_archive(tmp_path):
    ark, scp = tmp_path / "x.ark", tmp_path / "x.scp"
    kaldiio.save_ark(str(ark), {"a": (8000, PCM[:100]), "b": (16000, PCM)}, scp=str(scp))
    places = dict(line.split(maxsplit=1) for line in scp.read_text().splitlines())
    assert torch.equal(read_audio(places["b"]), EXACT)
    near(read_audio(places["a"]), resample(EXACT[:100], 8000, 16000))
    with pytest.raises(AudioError, match="no audio there"):
        read_audio(f"{ark}:7")
