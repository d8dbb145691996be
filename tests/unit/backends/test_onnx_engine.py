"""Graphs give what torch gives: recognition, VAD, punctuation, voices."""

from __future__ import annotations

import pytest
import torch

from paraformer.backends import onnx_engine
from paraformer.backends.engines import mark_engine, recognition_engine, silence_engine
from paraformer.backends.face import Asked, Bias
from paraformer.data.audio.read import read_audio
from paraformer.decode.recognize import Recognizer, Search
from paraformer.decode.voices import Voices, similarity
from paraformer.errors import AudioError, ConfigError
from paraformer.export.directory import CLIP, export_model
from paraformer.hub.directories import BUNDLED
from paraformer.models.release import (
    load_directory,
    load_punctuation,
    load_speakers,
    load_vad,
    save_directory,
)
from tests import tiny
from tests.parity.oracle import FIXTURES

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

MINI = BUNDLED / "paraformer-zh-mini"


@pytest.fixture(scope="module")
def pair(mini_export):
    """The bundled recogniser as a network, and as a graph."""
    return load_directory(MINI), load_directory(mini_export.directory)


def test_a_batch_gives_the_readings_and_times_of_the_network(pair):
    wave = read_audio(CLIP)
    waves = [wave, wave[:20000], wave[:9000], wave[:500]]
    readings = [Recognizer(release).recognize(waves, Search()) for release in pair]
    for ours, theirs in zip(*readings, strict=True):
        assert ours.best.tokens == theirs.best.tokens
        assert ours.best.token_times == theirs.best.token_times
        assert ours.best.score == pytest.approx(theirs.best.score, abs=1e-3)
        assert ours.best.confidences == pytest.approx(theirs.best.confidences, abs=1e-4)
    assert readings[0][0].best.text


def test_the_end_is_as_likely_as_the_network_says(pair):
    """So that n-grams decide on the same numbers."""
    feats = [pair[0].frontend(read_audio(CLIP))]
    heard = [recognition_engine(release).listen(feats, Asked())[0] for release in pair]
    count = int(heard[0].counts)
    assert count == int(heard[1].counts)
    torch.testing.assert_close(heard[1].logp[:, :count], heard[0].logp, atol=1e-3, rtol=0)


def test_what_a_graph_cannot_give_is_refused_before_anything_is_heard(pair):
    recognizer = Recognizer(pair[1])
    with pytest.raises(ConfigError, match="no CTC head"):
        recognizer.stream(iter([]), Search(decoding_ctc_weight=0.3))
    recognizer.stream(iter([]), Search(pred_timestamp=True, nbest=2))
    recognizer.engine.times_tokens = False
    with pytest.raises(ConfigError, match="model.onnx: gives no times; leave pred_timestamp"):
        recognizer.stream(iter([]), Search(pred_timestamp=True))
    with pytest.raises(ConfigError, match="has its own number format; leave dtype out"):
        recognition_engine(pair[1], dtype=torch.bfloat16)


def test_a_recording_that_is_too_long_is_refused_with_the_length_that_fits(pair, monkeypatch):
    monkeypatch.setattr(onnx_engine, "MOST_FRAMES", 40)
    engine = recognition_engine(pair[1])
    feats = pair[0].frontend(read_audio(CLIP))  # 47
    long, short = engine.listen([feats, feats[:40]], Asked())
    assert isinstance(long.errors[0], AudioError) and short.errors == [None]
    assert "give vad_model, or max_whole_s=2" in str(long.errors[0])


def test_a_batch_has_no_more_pairs_of_frames_than_the_longest_recording(pair, monkeypatch):
    """61 frames of most: nine of 20 at a time, and ten in two halves, each as it is alone."""
    engine, feats = recognition_engine(pair[1]), pair[0].frontend(read_audio(CLIP))
    rows = [feats[place : place + 20] for place in range(10)]
    alone = [engine.listen([row], Asked())[0] for row in rows]
    monkeypatch.setattr(onnx_engine, "MOST_FRAMES", 61)
    assert [len(part.feats) for part in engine.listen(rows[:9], Asked())] == [9]
    parts = engine.listen(rows, Asked())
    assert [len(part.feats) for part in parts] == [5, 5]
    counts = [int(count) for part in parts for count in part.counts]
    assert counts == [int(one.counts) for one in alone]


def test_a_vad_goes_on_where_it_stood(tmp_path):
    source = BUNDLED / "fsmn-vad-mini"
    releases = load_vad(source), load_vad(export_model(source, tmp_path / "out").directory)
    feats = releases[0].frontend(read_audio(CLIP))
    found = []
    for release in releases:
        engine = silence_engine(release, [0])
        heard, state = [], engine.initial_state
        for first, last in ((0, 1), (1, 1), (1, 30), (30, len(feats))):
            silence, state = engine.hear(feats[first:last], state)
            heard.append(silence)
        found.append(torch.cat(heard))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=0)


def test_marks_are_those_of_the_network_whatever_has_been_seen(tmp_path):
    source = FIXTURES / "oracle/ct_punc_streaming"
    there = export_model(source, tmp_path / "out", "funasr-onnx").directory
    ours, theirs = (mark_engine(load_punctuation(folder)) for folder in (there, source))
    ids = list(range(1, 12))
    for seen in (0, 4, 11):
        torch.testing.assert_close(ours._scores(ids, seen), theirs._scores(ids, seen))


def test_voices_are_those_of_the_network_with_and_without_a_configuration(tmp_path):
    source = save_directory(tmp_path / "voices", tiny.voices(seed=1))
    wave = read_audio(CLIP)
    whole, piece = Voices(load_speakers(source)).embed([wave, wave[:16000]])
    there = export_model(source, tmp_path / "out").directory
    nodes = pytest.importorskip("onnx").load(str(there / "model.onnx")).graph.node
    pools = [node.attribute for node in nodes if node.op_type == "AveragePool"]
    # Counted, the ONNX Runtime of sherpa-onnx 2.0.1 divides a shorter last piece by that too.
    counted = {each.i for pool in pools for each in pool if each.name == "count_include_pad"}
    assert pools and counted <= {0}
    for folder in (there, tmp_path / "sherpa"):
        if folder != there:  # as sherpa-onnx's are: a graph alone
            folder.mkdir()
            (there / "model.onnx").rename(folder / "voice.onnx")
        graph = Voices(load_speakers(folder))
        assert graph.engine.width == len(whole)
        for ours, theirs in zip(graph.embed([wave, wave[:16000]]), (whole, piece), strict=True):
            assert similarity(ours, theirs) > 0.999999
            torch.testing.assert_close(
                ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max())
            )


def test_a_plain_network_hears_hotwords_by_posteriors_with_a_graph_too(pair):
    engine = recognition_engine(pair[1])
    assert not engine.hears_hotwords
    engine.check(Asked(bias=Bias(None, 7)))
