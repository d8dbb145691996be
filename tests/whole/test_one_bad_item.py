"""One bad item of a list, a batch, an archive or a round of streams never costs another."""

from __future__ import annotations

import io
import logging
import operator
import struct
import tarfile
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from paraformer import AutoModel
from paraformer.api.live import LivePipeline
from paraformer.api.serving import Lanes
from paraformer.api.streaming import Manner, OnlineModel
from paraformer.backends.face import MarkEngine
from paraformer.backends.halves import in_halves
from paraformer.data.audio.read import read_audio
from paraformer.data.batches.dataset import MOST_LEFT_OUT, Batching, Loader, read_utterances
from paraformer.data.batches.selection import Chooser
from paraformer.data.batches.shards import ShardList, ShardLoader
from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.tables import read_table, write_table, write_text
from paraformer.data.inputs.sources import Item
from paraformer.data.text.tokenizer import CharTokenizer
from paraformer.decode.align import ForcedAligner
from paraformer.decode.endpoint import OPEN, Span
from paraformer.decode.pool import Batching as Batches
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.recognize import Recognizer
from paraformer.decode.streaming import Chunking, StreamingRecognizer
from paraformer.decode.vad import VoiceActivity
from paraformer.errors import AudioError, CheckpointError, DataError, ParaformerError
from paraformer.models.release import (
    load_aligner,
    load_punctuation,
    load_vad,
    save_directory,
)
from paraformer.programs.compute_cmvn import compute_cmvn
from paraformer.programs.make_fbank import make_fbank
from paraformer.programs.punctuate import punctuate
from paraformer.programs.score_vad import score_vad
from paraformer.train.vad import read_recordings
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
ONLINE = {"decoder_conf": {"sanm_shfit": 2}}
LOUD = 15.0  # of features, which those of `noise` stay below and thirty times it does not
NAN, HUGE = float("nan"), 1e20
# Of a RIFF header: the place of a field, and what is wrong in it.
DAMAGES = {
    "no WAVE": (8, b"XXXX"),
    "no fmt": (12, b"xxxx"),
    "no channel": (22, b"\0\0"),
    "no bits": (34, b"\0\0"),
    "24 bits": (34, b"\x18\0"),
    "no rate": (24, b"\0\0\0\0"),
    "empty fmt": (16, b"\0\0\0\0"),
}


def noise(seconds: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(round(16000 * seconds), generator=generator)


def bad(value: float, seconds: float = 1.0) -> torch.Tensor:
    wave = noise(seconds, seed=9)
    wave[len(wave) // 2] = value
    return wave


def wav(seconds: float = 1.0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(seconds).numpy(), 16000, "PCM_16", format="WAV")
    return file.getvalue()


def damaged(place: int, content: bytes) -> bytes:
    whole = wav()
    return whole[:place] + content + whole[place + len(content) :]


def archive(folder: Path, entries: dict[str, bytes]) -> dict[str, str]:
    """Write `waves.ark`; where each entry stands in it."""
    places, path = {}, folder / "waves.ark"
    with path.open("wb") as file:
        for key, content in entries.items():
            file.write(f"{key} ".encode())
            places[key] = f"{path}:{file.tell()}"
            file.write(content)
    return places


def said(tokens):
    """Tokens or events, less the last digits of confidences, which depend on the batch."""
    return [token._replace(confidence=round(token.confidence, 4)) for token in tokens]


def shown(events):
    return [event._replace(tokens=said(event.tokens)) for event in events]


@pytest.fixture
def recognizer():
    release = tiny.release(ONLINE)
    torch.nn.init.constant_(release.model.decoder.output_layer.bias[:3], -100.0)  # all is spoken
    return StreamingRecognizer(release)


def break_rows(monkeypatch, encoder, name="forward_chunk"):
    """The encoder gives NaN for a row of loud input, as half precision does where it overflows."""
    real = getattr(encoder, name)

    def broken(feats, *rest):
        out, *others = real(feats, *rest)
        loud = feats.flatten(1).amax(1) > LOUD
        return out.masked_fill(loud[:, None, None], NAN), *others

    monkeypatch.setattr(encoder, name, broken)


# archives


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFX" + wav()[4:], "WAV of big-endian samples, which no archive can hold"),
        (b"NIST_1A\n   1024\n" + bytes(2000), "NIST SPHERE, which no archive can hold"),
        (wav()[:20] + b"\7\0" + wav()[22:], "WAV of format 7, which no archive can hold"),  # mu-law
        (wav()[:20] + b"\3\0" + wav()[22:], "WAV of format 3, which no archive can hold"),
        (wav()[:20], "no audio there"),
    ],
)
def test_what_no_archive_can_hold_is_named(tmp_path, content, message):
    places = archive(tmp_path, {"a": content})
    with pytest.raises(AudioError, match=f"{places['a']}: {message}"):
        read_audio(places["a"])


def test_damaged_waves_of_an_archive_fail_alone(tmp_path):
    release = tiny.release()
    model = AutoModel(save_directory(tmp_path / "model", release), disable_pbar=True)
    entries = {name: damaged(*damage) for name, damage in DAMAGES.items()}
    entries["cut"] = wav()[:20]
    entries = {"good 1": wav(), **entries, "good 2": wav(0.7)}
    places = archive(tmp_path, {key.replace(" ", "_"): entry for key, entry in entries.items()})
    write_table(tmp_path / "wav.scp", places)
    found = {row["key"]: row for row in model.generate(str(tmp_path / "wav.scp"))}
    assert len(found) == len(entries)
    assert {key for key, row in found.items() if "error" not in row} == {"good_1", "good_2"}
    assert all("\n" not in row.get("error", "") for row in found.values())
    assert found["good_1"]["audio_seconds"] == 1.0


@pytest.mark.parametrize("kind", [None, 1, 2, 3, "wav", "flac"])
def test_whatever_is_damaged_in_an_archive_is_one_of_two_errors(tmp_path, kind):
    random, path = np.random.default_rng(0), tmp_path / "x.ark"
    if isinstance(kind, str):
        file = io.BytesIO()
        soundfile.write(file, noise(0.1).numpy(), 16000, "PCM_16", format=kind.upper())
        content = b"a " + file.getvalue()
    else:
        matrix = random.standard_normal((30, 8)).astype(np.float32)
        kaldiio.save_ark(str(path), {"a": matrix}, compression_method=kind)
        content = path.read_bytes()
    for number in range(60):
        broken = bytearray(content)
        for place in random.integers(2, 50, random.integers(1, 4)):
            broken[place] = random.integers(0, 256)
        path.write_bytes(broken[: random.integers(3, len(broken))] if number % 4 == 0 else broken)
        try:
            load_archive(f"{path}:2")
        except (OSError, ValueError):
            continue


# streams and sessions


def same(one, other):
    """Whether two states hold the very same values."""
    return all(map(operator.is_, one, other))


@pytest.mark.parametrize("value", [NAN, HUGE, float("inf")])
def test_a_bad_stream_of_a_round_fails_alone(recognizer, value):
    waves = [noise(2.0, 1), bad(value, 2.0), noise(1.3, 2)]
    alone = [said(recognizer.feed(recognizer.open(), waves[n])[0]) for n in (0, 2)]
    before = [recognizer.feed(recognizer.open(), noise(0.7, n))[1] for n in range(3)]
    tokens, streams = recognizer.feed_all(
        [recognizer.open(), before[1], recognizer.open()], waves, [False] * 3
    )
    assert [said(tokens[0]), said(tokens[2])] == alone
    assert isinstance(tokens[1], AudioError)
    assert "1 of 32000 samples are" in str(tokens[1])
    assert "first at 1.70 s" in str(tokens[1])  # 0.7 s were heard before
    assert same(streams[1], before[1])  # it can go on from there
    with pytest.raises(AudioError):
        recognizer.feed(before[1], waves[1])


def test_a_block_that_is_no_row_of_samples_fails_alone(recognizer):
    blocks = [noise(), torch.zeros(2, 100), torch.zeros(100, dtype=torch.int16)]
    tokens, _ = recognizer.feed_all([recognizer.open() for _ in blocks], blocks, [True] * 3)
    assert [isinstance(found, AudioError) for found in tokens] == [False, True, True]


def test_a_stream_whose_output_is_not_finite_fails_alone(recognizer, monkeypatch):
    waves = [noise(2.0, 1), 30.0 * noise(2.0, 2), noise(1.3, 3)]
    alone = [recognizer.feed(recognizer.open(), wave, final=True)[0] for wave in waves]
    break_rows(monkeypatch, recognizer.engine.model.encoder)
    opened = [recognizer.open() for _ in waves]
    tokens, streams = recognizer.feed_all(opened, waves, [True] * 3)
    assert [said(tokens[0]), said(tokens[2])] == [said(alone[0]), said(alone[2])]
    assert isinstance(tokens[1], CheckpointError)
    assert streams[1] is opened[1]


def no_memory(monkeypatch, module, name, most):
    """The device has memory for so many rows."""
    real = getattr(module, name)

    def small(feats, *rest):
        if len(feats) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(feats, *rest)

    monkeypatch.setattr(module, name, small)


def test_streams_that_do_not_fit_together_are_computed_in_parts(recognizer, monkeypatch):
    waves = [noise(1.5, seed) for seed in range(5)]
    opened = [recognizer.open() for _ in waves]
    alone = [recognizer.feed(one, wave, True)[0] for one, wave in zip(opened, waves, strict=True)]
    no_memory(monkeypatch, recognizer.engine.model, "forward_chunk", 2)
    together = recognizer.feed_all(opened, waves, [True] * 5)[0]
    assert [said(found) for found in together] == [said(found) for found in alone]
    no_memory(monkeypatch, recognizer.engine.model, "forward_chunk", 0)
    tokens, _ = recognizer.feed_all(opened, waves, [True] * 5)
    assert all("do not fit into cpu's memory" in str(found) for found in tokens)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def fail(batch):
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault of the program"):
        in_halves([1, 2], fail, str)
    small = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")

    def cpu(batch):
        if len(batch) > 1 or batch[0] == 3:
            raise small
        return batch

    assert in_halves([1, 2, 3], cpu, lambda item: -item) == [1, 2, -3]


class Once:
    """A detector that hears one segment, and refuses a stream that begins with silence."""

    def initial_state(self):
        return 0

    def feed(self, samples, state, final=False, piece_ms=None):
        if not samples.any():
            raise AudioError("silence")
        spans = [Span(0, OPEN)] if state == 0 else []
        now = state + len(samples)
        return [*spans, Span(OPEN, now // 16)] if final else spans, now


def test_a_bad_session_of_a_round_fails_alone(recognizer):
    pipeline = LivePipeline(recognizer, Once())
    waves = [noise(2.0, 1), bad(NAN, 2.0), torch.zeros(16000), noise(1.3, 2)]
    alone = [shown(pipeline.feed(pipeline.open(), waves[n], True)[0]) for n in (0, 3)]
    opened = [pipeline.open() for _ in waves]
    events, states = pipeline.feed_all(opened, waves, [True] * 4)
    assert [shown(events[0]), shown(events[3])] == alone
    assert [str(found).split(":")[0] for found in events[1:3]] == ["stream", "silence"]
    assert same(states[1], opened[1])
    with pytest.raises(AudioError):
        pipeline.feed(opened[1], waves[1])


def test_a_session_whose_output_is_not_finite_fails_alone(recognizer, monkeypatch):
    pipeline = LivePipeline(recognizer)
    waves = [noise(2.0, 1), 30.0 * noise(2.0, 2)]
    (alone,), _ = pipeline.feed_all([pipeline.open()], waves[:1], [True])
    break_rows(monkeypatch, recognizer.engine.model.encoder)
    events, _ = pipeline.feed_all([pipeline.open() for _ in waves], waves, [True, True])
    assert shown(events[0]) == shown(alone)
    assert isinstance(events[1], CheckpointError)


def test_recordings_heard_as_streams_fail_alone(recognizer, monkeypatch):
    break_rows(monkeypatch, recognizer.engine.model.encoder)
    online = OnlineModel(recognizer.release, torch.device("cpu"))
    items = [Item("a", noise()), Item("loud", 30.0 * noise()), Item("nan", bad(NAN))]
    found = list(online.transcribe(iter(items), None, Manner(Chunking())))
    assert [isinstance(each, ParaformerError) for _, each, _ in found] == [False, True, True]


def test_a_lane_that_fails_says_so_and_the_others_go_on(recognizer, monkeypatch):
    items = [Item("a", noise()), Item("loud", 30.0 * noise()), Item("huge", bad(HUGE))]
    items.append(Item("z", noise(0.7)))
    break_rows(monkeypatch, recognizer.engine.model.encoder)
    found = list(Lanes(LivePipeline(recognizer), most=3).results(iter(items), len(items)))
    assert [result.key for result in found] == ["a", "loud", "huge", "z"]
    assert [result.error is None for result in found] == [True, False, False, True]


# whole recordings


def test_waves_of_a_batch_fail_alone(recognizer, monkeypatch):
    whole = Recognizer(recognizer.release)
    waves = [noise(1.0, 1), bad(NAN), bad(HUGE), noise(1.2, 2)]
    alone = [whole.recognize([wave])[0] for wave in (waves[0], waves[3])]
    found = whole.recognize(waves)
    assert [found[0].best.text, found[3].best.text] == [one.best.text for one in alone]
    assert all(isinstance(each, AudioError) for each in found[1:3])


def test_pairs_of_an_aligner_fail_alone(monkeypatch):
    aligner = ForcedAligner(load_aligner(ORACLE / "fa-zh"))
    waves, texts = [noise(2.0, 1), bad(NAN), 30.0 * noise(2.0, 2)], ["我 你", "我 你", "我 你"]
    (alone,) = aligner.align(waves[:1], texts[:1])
    no_memory(monkeypatch, aligner.engine.model, "encode", 1)
    assert aligner.align([waves[0]] * 3, texts, Batches(8, 60.0)) == [alone] * 3
    found = aligner.align(waves, texts)
    assert found[0] == alone
    assert isinstance(found[1], AudioError)


def test_a_detector_refuses_what_is_no_audio():
    """It took NaN for silence, and lost a segment without a word."""
    detector = VoiceActivity(load_vad(ROOT / "paraformer" / "bundled" / "fsmn-vad-mini"))
    for value in (NAN, HUGE):
        with pytest.raises(AudioError, match="1 of 32000 samples are"):
            detector.segments(bad(value, 2.0))
    model = AutoModel("fsmn-vad-mini", disable_pbar=True)
    found = model.generate([noise(2.0).numpy(), bad(NAN, 2.0).numpy(), noise(1.0).numpy()])
    assert ["error" in row for row in found] == [False, True, False]


def test_texts_of_a_punctuation_model_fail_alone(monkeypatch, tmp_path):
    real = MarkEngine.marks

    def marks(self, ids, seen):
        if len(ids) == 3:
            raise CheckpointError("not finite")
        return real(self, ids, seen)

    monkeypatch.setattr(MarkEngine, "marks", marks)
    found = AutoModel("ct-punc-mini", disable_pbar=True).generate(["我们好", "你们都好吗"])
    assert ["error" in row for row in found] == [True, False]
    write_text(tmp_path / "text", "a 我们好\nb 你们都好吗\n")
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "punctuate.yaml")
    config.update({"text": f"{tmp_path}/text", "out": f"{tmp_path}/out", "device": "cpu"})
    assert punctuate(config) == 1
    assert list(read_table(tmp_path / "out")) == ["b"]
    punctuator = Punctuator(load_punctuation(ROOT / "paraformer" / "bundled" / "ct-punc-mini"))
    torch.nn.init.constant_(punctuator.engine.model.decoder.bias, NAN)
    with pytest.raises(CheckpointError, match="not finite"):
        punctuator.punctuate("你们都好吗")


# training and its data


def features(folder: Path) -> Path:
    """A data directory of 12 whose archive is damaged in two places."""
    data = tiny.write_data(folder)
    feats = read_table(data / "feats.scp")
    keys = sorted(feats)
    matrix = np.full((60, tiny.N_MELS), np.nan, np.float32)
    kaldiio.save_ark(str(folder / "nan.ark"), {"x": matrix})
    (folder / "bad.ark").write_bytes(b"x \0BFM \4" + struct.pack("<i", -5) + b"\4\0\0")
    feats[keys[3]], feats[keys[7]] = f"{folder}/nan.ark:2", f"{folder}/bad.ark:2"
    write_table(data / "feats.scp", feats)
    return data


def encode(text):
    return CharTokenizer(tiny.TOKENS).encode(text)


def test_damaged_features_are_left_out_of_training_and_counted(tmp_path, caplog):
    data = features(tmp_path)
    utterances, _ = read_utterances(data, encode, 6)
    loader = Loader(utterances, tiny.frontend(), Batching(max_frames=600, frame_step=48))
    with caplog.at_level(logging.WARNING):
        seen = [key for batch in loader.epoch(1) for key in batch.keys]
    left_out = set(sorted(read_table(data / "feats.scp"))[3:8:4])
    assert set(seen) == {u.key for u in utterances} - left_out
    assert set(loader.left_out) == left_out
    assert "2 of 12 utterances are left out: features cannot be read" in caplog.text


def test_features_of_which_none_can_be_read_are_an_error_soon(tmp_path):
    data = tiny.write_data(tmp_path, count=MOST_LEFT_OUT + 50)
    (data / "feats.ark").write_bytes(b"")
    utterances, _ = read_utterances(data, encode, 6)
    loader = Loader(utterances, tiny.frontend(), Batching(max_frames=600))
    with pytest.raises(DataError, match="none of 150 utterances can be used"):
        list(loader.epoch(1))
    assert len(loader.left_out) < len(utterances)


def test_damaged_features_are_left_out_of_the_cmvn(tmp_path, caplog):
    data = features(tmp_path)
    config = {"feats": str(data / "feats.scp"), "out": str(tmp_path / "am.mvn")}
    config |= {"lfr_m": 1, "lfr_n": 1, "min_success": 0.8}
    with caplog.at_level(logging.INFO):
        assert compute_cmvn(OmegaConf.create(config)) == 0
    assert "of 10 utterances" in caplog.text
    assert "nan" not in (tmp_path / "am.mvn").read_text().lower()
    with pytest.raises(DataError, match="2 of 12 utterances cannot be read"):
        compute_cmvn(OmegaConf.create({**config, "min_success": 0.9}))


def shard(path: Path, keys: str, cut: bool = False) -> str:
    with tarfile.open(path, "w") as tar:
        for key in keys:
            for name, content in ((f"{key}.wav", wav()), (f"{key}.txt", "一二".encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    if cut:  # in the audio of the second utterance
        path.write_bytes(path.read_bytes()[:45_000])
    return f"{path}\n"


def test_a_damaged_shard_costs_what_stands_behind_the_damage(tmp_path, caplog):
    lines = [shard(tmp_path / "0.tar", "ab"), shard(tmp_path / "1.tar", "cde", cut=True)]
    (tmp_path / "2.tar").write_bytes(b"no tar at all" * 100)
    lines += [f"{tmp_path}/2.tar\n", f"{tmp_path}/absent.tar\n", shard(tmp_path / "3.tar", "fg")]
    write_text(tmp_path / "shards.list", "".join(lines))
    chooser = Chooser(CharTokenizer(tiny.TOKENS))
    loader = ShardLoader(
        ShardList(tmp_path / "shards.list"), chooser, {}, tiny.frontend(), Batching()
    )
    with caplog.at_level(logging.WARNING):
        seen = sorted(key for batch in loader.epoch(1) for key in batch.keys)
    assert seen == ["a", "b", "c", "f", "g"]
    assert "3 dropped: shard cannot be read to its end" in caplog.text


def test_bad_recordings_are_left_out_of_features_and_of_vad_training(tmp_path, caplog, capsys):
    names = {"a": wav(3.0), "b": damaged(*DAMAGES["no fmt"]), "c": wav(2.0)}
    write_table(tmp_path / "wav.scp", archive(tmp_path, names))
    write_text(tmp_path / "segments", "a-1 a 0.5 1.5\nb-1 b 0.1 0.4\nc-1 c 0.2 1.0\n")
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "fbank.yaml")
    config.update({"data": f"{tmp_path}/wav.scp", "out": f"{tmp_path}/fbank", "name": "x"})
    config.min_success = 0.6
    assert make_fbank(config) == 0
    assert list(read_table(tmp_path / "fbank" / "x.scp")) == ["a", "c"]
    with caplog.at_level(logging.WARNING):
        found = read_recordings(tmp_path, load_vad(ORACLE / "fsmn_vad").frontend)
    assert [recording.key for recording in found] == ["a", "c"]
    assert "2 of 3 recordings are used" in caplog.text
    scored = {"data": str(tmp_path), "model": "fsmn-vad-mini", "reference_vad": None}
    assert score_vad(OmegaConf.create(scored | {"out": None, "num_threads": 0})) == 1
    assert "without 1 recordings" in caplog.text
    assert capsys.readouterr().out
