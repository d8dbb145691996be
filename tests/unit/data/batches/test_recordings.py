"""Training without stored features: the batches are those of features made before, of whole
recordings, segments, commands and other sampling rates; bad audio is left out and named.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.batches.augment import Augment
from paraformer.data.batches.dataset import Batching, Loader, read_utterances
from paraformer.data.batches.recordings import Reader, read_recorded, read_stretch
from paraformer.data.corpus.tables import read_table, write_table
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.sources import Item, Segment, list_items
from paraformer.errors import DataError
from paraformer.programs.make_fbank import Job, read_recordings
from tests import tiny

RATES = {"a": 16000, "b": 8000, "c": 44100}
BATCHING = Batching(max_frames=600, frame_step=48, join_probability=0.5, gap=(0, 5))
AUGMENT = Augment(gain_db=3.0, warp=0.1, noise_probability=0.5, freq_masks=1, freq_width=2)


def encode(text: str) -> list[int]:
    return [tiny.TOKENS.index(c) for c in text]


def noise(seconds: float, rate: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.fixture
def segmented(tmp_path: Path) -> Path:
    """Three recordings of 8 s at three rates (wav, flac, a command), four segments in each."""
    folder = tmp_path / "segmented"
    folder.mkdir()
    wavs, segments, text = {}, {}, {}
    for place, (name, rate) in enumerate(RATES.items()):
        path = folder / f"{name}.{'flac' if name == 'b' else 'wav'}"
        soundfile.write(path, noise(8.0, rate, place), rate, "PCM_16")
        wavs[name] = f"cat {path} |" if name == "a" else str(path)
        for number, start in enumerate((0.0, 1.85, 3.3337, 6.1)):
            key = f"{name}-{number}"
            end = "-1" if number == 3 else f"{start + 1.0 + number * 0.21:.4f}"
            segments[key], text[key] = f"{name} {start} {end}", "一二三"[: number + 1]
    tables = {"wav.scp": wavs, "segments": segments, "text": text}
    tables["utt2spk"] = {key: key[0] for key in text}
    for table, rows in tables.items():
        write_table(folder / table, rows)
    return folder


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Twelve files of 0.6 to 2.4 s at three rates."""
    folder = tmp_path / "whole"
    folder.mkdir()
    random = np.random.default_rng(0)
    tables: dict[str, dict[str, str]] = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    for number in range(12):
        key, rate = f"s{number % 3}-u{number:02d}", list(RATES.values())[number % 3]
        path = folder / f"{key}.wav"
        soundfile.write(path, noise(float(random.uniform(0.6, 2.4)), rate, number), rate, "PCM_16")
        tables["wav.scp"][key], tables["utt2spk"][key] = str(path), key[:2]
        tables["text"][key] = "一二三四五"[: 1 + number % 4]
    for table, rows in tables.items():
        write_table(folder / table, rows)
    return folder


def with_features(data: Path, folder: Path) -> Path:
    """The same data as bin/make_fbank.py without compression makes it: feats.scp."""
    folder.mkdir()
    job = Job(tiny.frontend(), [1.0])
    feats = {k: x.numpy() for r in read_recordings(str(data)) for k, x in job(r)}
    feats = {key: feats[key] for key in sorted(feats)}
    kaldiio.save_ark(str(folder / "feats.ark"), feats, scp=str(folder / "feats.scp"))
    write_table(folder / "utt2num_frames", {key: str(len(x)) for key, x in feats.items()})
    for name in ("text", "utt2spk"):
        write_table(folder / name, read_table(data / name))
    return folder


def loader(data: Path, frontend: Frontend | None = None, readers: int = 1, **changes) -> Loader:
    kept, _ = read_utterances(data, encode, 6, None, frontend)
    batching = changes.pop("batching", BATCHING)
    return Loader(kept, tiny.frontend(), batching, AUGMENT, seed=5, readers=readers)


@pytest.mark.parametrize("kind", ["whole", "segmented"])
@pytest.mark.parametrize("readers", [1, 3])
def test_batches_are_those_of_stored_features(request, tmp_path, kind, readers):
    """Order, joining, gaps, augmentation, text: bin/make_fbank.py and feats.scp give the same."""
    data = request.getfixturevalue(kind)
    made = loader(data, tiny.frontend(), readers)
    stored = loader(with_features(data, tmp_path / "stored"))
    assert len(made.utterances) == 12
    assert [u.frames for u in made.utterances] == [u.frames for u in stored.utterances]
    for epoch in (1, 2):
        assert made.plan(epoch) == stored.plan(epoch)
        for ours, theirs in zip(made.epoch(epoch), stored.epoch(epoch), strict=True):
            torch.testing.assert_close(ours.feats, theirs.feats, atol=1e-4, rtol=1e-5)
            assert tiny.equal(tuple(ours._replace(feats=0)), tuple(theirs._replace(feats=0)))


def test_stored_features_are_taken_where_there_are_any(whole, tmp_path):
    data = with_features(whole, tmp_path / "stored")
    write_table(data / "wav.scp", dict.fromkeys(read_table(data / "text"), "nowhere.wav"))
    kept, dropped = read_utterances(data, encode, 6, None, tiny.frontend())
    assert len(kept) == 12 and not dropped
    assert all(u.audio is None for u in kept)


def test_an_epoch_of_audio_can_be_entered_anywhere(whole):
    made = loader(whole, tiny.frontend())
    batches = list(made.epoch(2))
    rest = list(loader(whole, tiny.frontend(), readers=2).epoch(2, 2))
    assert tiny.equal([tuple(b) for b in rest], [tuple(b) for b in batches[2:]])


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("fs", [8000, 16000])
def test_frames_are_told_without_making_them(fs, snip_edges):
    frontend = Frontend(fs=fs, n_mels=8, snip_edges=snip_edges)
    sizes = [0, 1, 2, 79, 80, 160, 199, 200, 399, 400, 401, 559, 560, 561, 1000, 4321, 16000]
    assert [frontend.frames(n) for n in sizes] == [
        len(frontend.fbank(torch.ones(n))) for n in sizes
    ]


# lengths


def test_tables_tell_lengths_before_the_audio_does(whole, monkeypatch):
    """utt2num_frames, else utt2dur, and the file is not opened; else its header, not decoded."""
    exact = {r.item.key: r.frames for r in read_recorded(whole, tiny.frontend())}
    keys = sorted(exact)
    write_table(whole / "utt2num_frames", dict.fromkeys(keys[:4], "77"))
    write_table(whole / "utt2dur", dict.fromkeys(keys[:8], "1.0"))
    for key in keys[:8]:
        (whole / f"{key}.wav").write_bytes(b"not opened")
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    found = {r.item.key: r.frames for r in read_recorded(whole, tiny.frontend())}
    assert found == {**exact, **dict.fromkeys(keys[4:8], 98), **dict.fromkeys(keys[:4], 77)}


def test_segments_with_both_times_open_no_file(segmented, monkeypatch):
    table = read_table(segmented / "segments")
    write_table(segmented / "segments", {k: v for k, v in table.items() if "-1" not in v})
    for path in segmented.glob("*.wav"):
        path.write_bytes(b"not opened")
    frames = [r.frames for r in read_recorded(segmented, tiny.frontend())]
    assert frames == [98, 119, 140] * 3  # 1.0, 1.21 and 1.42 s


@pytest.mark.parametrize(("table", "value"), [("utt2num_frames", "12.5"), ("utt2dur", "long")])
def test_a_length_that_is_none_is_one_line(whole, table, value):
    write_table(whole / table, {"s0-u00": value})
    with pytest.raises(DataError, match=f"{table}: 's0-u00': not a positive.*make the file again"):
        read_utterances(whole, encode, 6, None, tiny.frontend())


def test_neither_features_nor_audio(tmp_path):
    write_table(tmp_path / "text", {"u": "一"})
    with pytest.raises(DataError, match="neither feats.scp nor wav.scp"):
        read_utterances(tmp_path, encode, 6, None, tiny.frontend())


# stretches of long recordings


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.7), (0.93, 2.6), (3.7003, None), (3.1, 5.3)])
def test_a_stretch_is_what_cutting_the_whole_gives(tmp_path, rate, start, end):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([noise(5.0, rate, 1), noise(5.0, rate, 2)], 1), rate)
    segment = Segment(start, end)
    expected = Item("x", str(path), segment).read(None, 16000)
    found = read_stretch(str(path), segment, 16000)
    assert found is not None
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_only_the_stretch_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(60.0, 16000, 0), 16000)
    seen = []
    read = soundfile.read
    monkeypatch.setattr(soundfile, "read", lambda *a, **k: seen.append(read(*a, **k)) or seen[-1])
    Reader(16000).read(Item("x", str(path), Segment(30.0, 31.0)))
    assert [len(samples) / 16000 for samples, _ in seen] == [3.0]


@pytest.mark.parametrize(
    ("segment", "damage"),
    [
        (Segment(4.0, 9.0), lambda x: x),
        (Segment(7.0, None), lambda x: x),
        (Segment(1.0, 2.0), lambda x: x[: len(x) // 2]),
    ],
    ids=["ends late", "begins late", "cut off"],
)
def test_what_is_not_in_order_is_left_to_the_reader_of_whole_files(tmp_path, segment, damage):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(5.0, 16000, 0), 16000)
    path.write_bytes(damage(path.read_bytes()))
    assert read_stretch(str(path), segment, 16000) is None


# bad audio


def spoil(data: Path) -> dict[str, str]:
    """Files that are bad in ways that show late; the tables promise a length for each."""
    wavs = read_table(data / "wav.scp")
    keys = sorted(wavs)
    write_table(data / "utt2dur", dict.fromkeys(keys, "1.5"))
    Path(wavs[keys[1]]).write_bytes(b"")
    soundfile.write(wavs[keys[4]], np.full(9000, np.nan, np.float32), 16000, "FLOAT")
    soundfile.write(wavs[keys[6]], noise(0.05, 16000, 0), 16000)
    wavs[keys[9]] = "false |"
    write_table(data / "wav.scp", wavs)
    return {
        keys[1]: "the file is empty",
        keys[4]: "NaN",
        keys[6]: "more tokens than frames",
        keys[9]: "exit code 1",
    }


def test_bad_audio_is_left_out_named_and_counted(whole, caplog):
    bad = spoil(whole)
    made = loader(whole, tiny.frontend())
    for epoch in (1, 2):
        keys = [key for batch in made.epoch(epoch) for row in batch.keys for key in row.split("+")]
        assert sorted(keys) == sorted(set(read_table(whole / "wav.scp")) - bad.keys())
        for batch in made.epoch(epoch):
            assert len(batch.keys) == len(batch.feats) == len(batch.text) == len(batch.lengths)
    for key, reason in bad.items():
        (line,) = [r.getMessage() for r in caplog.records if f"'{key}'" in r.getMessage()]
        assert reason in line
    assert "4 of 12 utterances are left out: audio cannot be read" in caplog.text


def test_a_batch_without_any_audio_has_no_rows(whole):
    spoil(whole)
    made = loader(whole, tiny.frontend(), batching=Batching(max_frames=1))
    batches = list(made.epoch(1))
    assert len(batches) == 12  # the number of a batch stays, for a run that goes on
    assert sorted(len(batch.keys) for batch in batches) == [0] * 4 + [1] * 8
    empty = next(batch for batch in batches if not batch.keys)
    assert empty.feats.shape == (0, 0, 56) and empty.text.shape == (0, 0)
    assert empty.seconds == 0


def test_a_directory_whose_audio_is_all_bad_is_an_error(whole, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no ffmpeg, which takes long to start
    write_table(whole / "utt2dur", dict.fromkeys(read_table(whole / "wav.scp"), "1.5"))
    for path in whole.glob("*.wav"):
        path.write_bytes(b"RIFF")
    with pytest.raises(DataError, match="none of 12 utterances can be used; 's.-u..': "):
        list(loader(whole, tiny.frontend()).epoch(1))


def test_what_is_bad_at_first_sight_is_dropped(whole, caplog):
    wavs = read_table(whole / "wav.scp")
    keys = sorted(wavs)
    Path(wavs[keys[0]]).unlink()
    Path(wavs[keys[1]]).write_bytes(b"RIFF")
    wavs[keys[2]] = "false |"
    write_table(whole / "wav.scp", wavs)
    write_table(whole / "text", dict.fromkeys([*keys[:5], "other"], "一"))
    kept, dropped = read_utterances(whole, encode, 6, None, tiny.frontend())
    assert [u.key for u in kept] == keys[3:5]
    assert dropped == {
        "no audio": ["other"],
        "audio cannot be read": keys[:3],
        "no transcript": keys[5:],
    }
    for key, reason in zip(keys, ("no such file", "cannot decode", "exit code 1"), strict=False):
        assert any(
            f"'{key}'" in r.getMessage() and reason in r.getMessage() for r in caplog.records
        )


def test_a_segment_of_no_recording_is_dropped(segmented, caplog):
    table = read_table(segmented / "segments")
    write_table(segmented / "segments", {**table, "b-1": "zz 0 1"})
    _, dropped = read_utterances(segmented, encode, 6, None, tiny.frontend())
    assert dropped == {"audio cannot be read": ["b-1"]}
    assert "no recording 'zz'" in caplog.text


def test_segments_of_a_command_are_warned_of(segmented, caplog):
    read_utterances(segmented, encode, 6, None, tiny.frontend())
    assert "4 segments are of recordings that a command gives" in caplog.text


def test_paths_count_from_the_list_where_they_are_not_found_from_here(whole):
    wavs = {key: os.path.basename(path) for key, path in read_table(whole / "wav.scp").items()}
    write_table(whole / "wav.scp", wavs)
    assert len(loader(whole, tiny.frontend()).utterances) == 12


def test_threads_may_share_a_reader(segmented):
    """Whatever thread asks, it gets the samples of its segment."""
    items = [item for item in list_items(segmented) if item.key.startswith("a")]
    expected = {item.key: item.read(None, 16000) for item in items}
    reader, found = Reader(16000), {}

    def work(item: Item) -> None:
        found[item.key] = reader.read(item)

    threads = [threading.Thread(target=work, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tiny.equal(found, expected)
