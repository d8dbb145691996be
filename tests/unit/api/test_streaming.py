"""The calls of a streaming model: the model card's loop, whole recordings, raw samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch

from paraformer.api.auto import AutoModel
from paraformer.api.streaming import is_audio_file, raw_blocks, refuse_no_audio, with_head
from paraformer.data.inputs.pieces import RefusedError
from paraformer.decode.streaming import StreamingRecognizer
from paraformer.errors import AudioError, ConfigError, DataError
from paraformer.models.release import load_directory, save_directory
from paraformer.nn.chunks import streaming_rule
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
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


@pytest.fixture(scope="module")
def raw(speech):
    """The speech as bytes of 16-bit samples."""
    return (speech * 32767).astype("<i2").tobytes()


def joined(model, content, size, **settings):
    """What the calls of a stream of bytes in pieces give together."""
    cache, found = {}, []
    for start in range(0, len(content), size):
        (result,) = model.generate(
            content[start : start + size],
            cache=cache,
            is_final=start + size >= len(content),
            **settings,
        )
        found.append(result)
    assert cache == {}
    return found


def test_pieces_of_an_odd_number_of_bytes_are_the_stream(model, raw):
    expected = model.generate(np.frombuffer(raw, "<i2"), cache={}, is_final=True)[0]
    assert len(expected["tokens"]) > 2
    for size in (19201, 3201, 6401, 999):
        found = joined(model, raw, size)
        assert "".join(result["text"] for result in found) == expected["text"]
        assert sum((result["tokens"] for result in found), []) == expected["tokens"]
        streamer = model.streamer()
        for start in range(0, len(raw), size):
            streamer.feed(raw[start : start + size])
        streamer.flush()
        assert streamer.text == expected["text"]


def test_a_detector_hears_the_same_in_pieces_of_an_odd_number_of_bytes():
    clips = [soundfile.read(ORACLE / "inputs" / f"clip_{n}.flac", dtype="int16")[0] for n in "abc"]
    content = np.concatenate([x for clip in clips for x in (clip, np.zeros(24000, "<i2"))])
    vad = AutoModel(str(ORACLE / "fsmn_vad"))
    (expected,) = vad.generate(content, chunk_size=200)
    assert len(expected["value"]) > 1
    for size in (3201, 6401):
        found = joined(vad, content.tobytes(), size, chunk_size=200)
        spans = sum((result["value"] for result in found), [])
        assert [b for b, _ in spans if b >= 0] == [b for b, _ in expected["value"]]
        assert [e for _, e in spans if e >= 0] == [e for _, e in expected["value"]]


def test_many_streams_of_bytes_are_one_batch(model, raw):
    recognizer = model.streamer().recognizer
    streams, texts = [recognizer.open() for _ in range(2)], []
    for start in range(0, len(raw), 9601):
        end = start + 9601 >= len(raw)
        blocks = [raw[start : start + 9601], np.frombuffer(raw, "<i2")[start // 2 :][:4800]]
        _, streams = recognizer.feed_all(streams, blocks, [end, end])
        texts.append(streams[0].text.text)
    alone = recognizer.feed(recognizer.open(), raw, final=True)[1]
    assert texts[-1] == alone.text.text


def test_a_stream_that_begins_as_a_file_is_refused_until_it_ends(model, raw):
    """Its middle would be noise; the next stream is another."""
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(raw, "<i2"), 16000, format="FLAC")
    flac, cache, streamer, live = file.getvalue(), {}, model.streamer(), model.live()
    for start in range(0, 30000, 10000):
        piece = flac[start : start + 10000]
        with pytest.raises(AudioError, match="^stream: begins as FLAC; give 16-bit samples of 16"):
            model.generate(piece, cache=cache)
        for session in (streamer, live):
            with pytest.raises(RefusedError, match="^stream: begins as FLAC"):
                session.feed(piece)
    with pytest.raises(RefusedError):
        model.generate(flac[30000:], cache=cache, is_final=True)
    assert cache == {}
    (expected,) = model.generate(raw, cache=cache, is_final=True)
    assert streamer.flush() == [] and live.flush() == []
    streamer.feed(raw), streamer.flush()
    assert streamer.text == expected["text"]
    (found,) = model.generate(flac, cache={}, is_final=True)  # whole: a file
    assert found["text"] == expected["text"]


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
    assert streamer.recognizer.engine.rule == streaming_rule((0, 10, 5), 4, 1)


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
    slow = with_head(io.BufferedReader(Trickle(file.getvalue(), 1)))
    assert is_audio_file(slow)
    assert slow.read() == file.getvalue()
    samples = (tone * 32767).astype("<i2").tobytes()
    assert not is_audio_file(io.BufferedReader(io.BytesIO(samples)))
    slow = with_head(io.BufferedReader(Trickle(samples, 1)))
    assert not is_audio_file(slow)
    assert b"".join(raw_blocks(slow, 100)) == samples


def test_what_is_no_audio_on_stdin_is_one_line():
    refuse_no_audio(bytes(100))
    with pytest.raises(DataError, match="^-: a PNG image came on stdin, not audio; give a record"):
        refuse_no_audio(b"\x89PNG\r\n\x1a\n")
