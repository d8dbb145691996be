"""Two graphs stream as the network does that sees each chunk alone."""

from __future__ import annotations

import pytest
import torch

from paraformer.backends.engines import recognition_engine, stream_engine
from paraformer.backends.face import BEHIND, Asked
from paraformer.data.audio.read import read_audio
from paraformer.errors import ConfigError
from paraformer.export.directory import CLIP, export_model
from paraformer.models.release import load_directory
from tests.parity.oracle import FIXTURES

pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A streaming model as a network, and as graphs."""
    source = FIXTURES / "oracle/paraformer-streaming"
    out = tmp_path_factory.mktemp("stream") / "graphs"
    return load_directory(source), load_directory(
        export_model(source, out, "funasr-onnx").directory
    )


def fed(engine, feats, final):
    """What fires in chunks of a stream, and its running sums of weights."""
    state, found = engine.initial_state(), []
    for first in range(0, len(feats) + 1, engine.stride):
        piece = feats[first : first + engine.stride]
        last = len(piece) < engine.stride
        (fired,) = engine.forward_chunk([piece], [last and final], [state])
        (state,), (error,) = fired.states, fired.errors
        assert error is None
        found.append((fired.logp[0, : int(fired.counts)], fired.sums[0]))
    return found


@pytest.mark.parametrize("chunk", [(0, 10, 5), (5, 10, 5), (0, 7, 0)])
@pytest.mark.parametrize("size", [0, 3, 47])
def test_each_chunk_fires_what_the_network_does(pair, chunk, size):
    feats = pair[0].frontend(read_audio(CLIP))[:size]
    engines = [stream_engine(release, chunk, 0, 0) for release in pair]
    assert engines[0].stride == engines[1].stride and engines[0].pad == engines[1].pad
    chunks = list(zip(*(fed(engine, feats, True) for engine in engines), strict=True))
    for (logp, sums), (ours, own) in chunks:
        torch.testing.assert_close(ours, logp, atol=1e-4, rtol=0)
        torch.testing.assert_close(own[-1], sums[-1], atol=1e-5, rtol=0)
    assert size < 47 or sum(len(logp) for (logp, _), _ in chunks)


def test_streams_side_by_side_are_each_what_it_is_alone(pair):
    engine = stream_engine(pair[1], (5, 10, 5), 0, 0)
    feats = pair[0].frontend(read_audio(CLIP))
    begin = engine.initial_state()
    (both,) = engine.forward_chunk([feats[:10], feats[20:24]], [False, True], [begin, begin])
    for row, (piece, final) in enumerate(((feats[:10], False), (feats[20:24], True))):
        (alone,) = engine.forward_chunk([piece], [final], [begin])
        count = int(alone.counts)
        assert int(both.counts[row]) == count
        assert torch.equal(both.logp[row, :count], alone.logp[0])
        assert torch.equal(both.sums[row, : alone.sums.size(1)], alone.sums[0])


def test_a_chunk_behind_another_is_that_of_two_calls(pair):
    engine = stream_engine(pair[1], (0, 10, 5), 0, 0)
    feats = pair[0].frontend(read_audio(CLIP))
    begin = engine.initial_state()
    (both,) = engine.forward_chunk([feats[:10], feats[10:14]], [False, True], [begin, BEHIND])
    (first,) = engine.forward_chunk([feats[:10]], [False], [begin])
    (second,) = engine.forward_chunk([feats[10:14]], [True], first.states)
    assert both.counts.tolist() == [int(first.counts), int(second.counts)]
    assert torch.equal(both.sums[1, : second.sums.size(1)], second.sums[0])


def test_a_whole_recording_is_heard_as_the_network_hears_it(pair):
    feats = pair[0].frontend(read_audio(CLIP))
    network, graphs = (recognition_engine(release) for release in pair)
    (heard,), (ours,) = (e.listen([feats, feats[:9]], Asked()) for e in (network, graphs))
    assert heard.counts.tolist() == ours.counts.tolist()
    for row, count in enumerate(heard.counts.tolist()):
        torch.testing.assert_close(
            ours.logp[row, :count], heard.logp[row, :count], atol=1e-4, rtol=0
        )


def test_a_graph_of_whole_recordings_does_not_stream(mini_export):
    with pytest.raises(ConfigError, match="model.onnx: hears whole recordings; export with"):
        stream_engine(load_directory(mini_export.directory), (0, 10, 5), 0, 0)
