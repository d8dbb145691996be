"""The calls of a streaming model: the model card's loop, whole recordings, raw samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch

from paraformer.auto import AutoModel
from paraformer.decode.streaming import Chunking, StreamingRecognizer
from paraformer.errors import ConfigError
from paraformer.models.checkpoint import load_directory, save_directory
from paraformer.online import is_audio_file, raw_blocks
from tests import tiny

ONLINE = {"model": "ParaformerStreaming", "decoder_conf": {"sanm_shfit": 2}}
SETTINGS = {"chunk_size": [0, 10, 5], "encoder_chunk_look_back": 4, "decoder_chunk_look_back": 1}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_directory(tmp_path_factory.mktemp("online"), tiny.release(ONLINE))


@pytest.fixture(scope="module")
def model(directory):
    return AutoModel(model=str(directory), disable_update=True)


@pytest.fixture(scope="module")
def speech():
    return np.random.default_rng(0).normal(0, 0.1, 50001).astype(np.float32)


@pytest.fixture(scope="module")
def whole(directory, speech):
    recognizer = StreamingRecognizer(load_directory(directory))
    tokens, stream = recognizer.feed(recognizer.open(), torch.from_numpy(speech), final=True)
    return stream.text.text, [token.text for token in tokens]


def test_the_loop_of_the_model_card(model, speech, whole):
    stride = SETTINGS["chunk_size"][1] * 960
    cache, texts, tokens = {}, [], []
    total = (len(speech) - 1) // stride + 1
    for i in range(total):
        piece = speech[i * stride : (i + 1) * stride].copy()
        (found,) = model.generate(input=piece, cache=cache, is_final=i == total - 1, **SETTINGS)
        piece.fill(np.nan)  # the caller's memory is the caller's again
        texts.append(found["text"])
        tokens += found["tokens"]
    assert "".join(texts) == whole[0]
    assert tokens == whole[1]
    assert cache == {}


def test_text_comes_before_the_end(model, speech):
    cache = {}
    (found,) = model.generate(input=speech[:30000], cache=cache, **SETTINGS)
    assert found["text"]
    assert cache


def test_the_end_may_be_an_empty_piece(model, speech, whole):
    cache = {}
    first = model.generate(input=speech, cache=cache, is_final=False)[0]["text"]
    last = model.generate(input=np.zeros(0, np.float32), cache=cache, is_final=True)[0]["text"]
    assert first + last == whole[0]


def test_two_caches_are_two_streams(model, speech, whole):
    caches, texts = [{}, {}], ["", ""]
    for start in range(0, len(speech), 8000):
        for number in range(2):
            piece = speech[start : start + 8000]
            end = start + 8000 >= len(speech)
            (found,) = model.generate(input=piece, cache=caches[number], is_final=end)
            texts[number] += found["text"]
    assert texts == [whole[0]] * 2


def test_a_file_is_a_whole_stream(model, speech, whole, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, speech, 16000, subtype="FLOAT")
    for keywords in ({}, {"cache": {}}):
        (found,) = model.generate(str(path), **keywords)
        assert (found["key"], found["text"], found["tokens"]) == ("x", *whole)
        assert len(found["timestamp"]) == len(found["tokens"])


def test_a_list_has_a_result_each_in_its_order(model, speech, whole, tmp_path):
    soundfile.write(tmp_path / "x.wav", speech, 16000, subtype="FLOAT")
    names = [str(tmp_path / name) for name in ("x.wav", "missing.wav", "x.wav")]
    results = model.generate(names, output_dir=str(tmp_path / "out"))
    assert [r["text"] for r in results] == [whole[0], "", whole[0]]
    assert "missing.wav" in results[1]["error"]
    lines = (tmp_path / "out/1best_recog/text").read_text(encoding="utf8").splitlines()
    assert len(lines) == 3
    assert lines[0].split(maxsplit=1)[1] == whole[0]


def test_settings_of_a_stream_stay(model, speech):
    cache = {}
    model.generate(input=speech[:9600], cache=cache, **SETTINGS)
    with pytest.raises(ConfigError, match="chunk_size"):
        model.generate(input=speech[9600:], cache=cache, chunk_size=[0, 8, 4])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"cache": []}, "dict"), ({"cache": {}, "fs": 8000}, "8000"), ({"chunk_size": [0]}, "three")],
)
def test_calls_that_make_no_sense_are_refused(model, speech, keywords, message):
    with pytest.raises(ConfigError, match=message):
        model.generate(input=speech[:9600], **keywords)


def test_a_model_for_whole_recordings_streams_if_it_can(speech, tmp_path):
    either = save_directory(tmp_path / "a", tiny.release({"decoder_conf": {"sanm_shfit": 2}}))
    model = AutoModel(str(either))
    (offline,) = model.generate(speech)
    (streamed,) = model.generate(speech, chunk_size=[0, 10, 5])
    assert "timestamp" in streamed
    assert "timestamp" not in offline
    neither = AutoModel(str(save_directory(tmp_path / "b", tiny.release())))
    with pytest.raises(ConfigError, match="does not stream"):
        neither.generate(speech, chunk_size=[0, 10, 5])


def test_a_streamer_of_a_model(model, speech, whole):
    streamer = model.streamer(chunk_size=[0, 10, 5])
    for start in range(0, len(speech), 1000):
        streamer.feed(speech[start : start + 1000])
    streamer.flush()
    assert streamer.text == whole[0]
    assert streamer.recognizer.rule == Chunking().rule


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe does."""

    def __init__(self, content: bytes, step: int) -> None:
        self.content, self.step = content, step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        size = min(self.step, len(buffer))
        part, self.content = self.content[:size], self.content[size:]
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_raw_samples_arrive_whole(step):
    samples = np.arange(999, dtype="<i2").tobytes()
    blocks = list(raw_blocks(io.BufferedReader(Trickle(samples, step)), 100))
    assert b"".join(blocks) == samples
    assert all(len(block) % 2 == 0 for block in blocks)


@pytest.mark.parametrize(
    "suffix", ["wav", "rf64", "w64", "flac", "ogg", "mp3", "aiff", "au", "caf"]
)
def test_a_file_behind_stdin_is_known_by_its_head(suffix):
    """Whatever bytes of a file are read as one; as raw samples it would be noise."""
    file = io.BytesIO()
    tone = 0.3 * np.sin(np.arange(16000) * 0.05)
    soundfile.write(file, tone, 16000, format=suffix.upper())
    source = io.BufferedReader(io.BytesIO(file.getvalue()))
    assert is_audio_file(source)
    assert source.read() == file.getvalue()  # nothing is lost
    samples = (tone * 32767).astype("<i2").tobytes()
    assert not is_audio_file(io.BufferedReader(io.BytesIO(samples)))
