"""A stream gives the same however it is cut, stored, or computed beside others."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from paraformer.data.inputs.pieces import RefusedError
from paraformer.decode.streaming import Chunking, Streamer, StreamingRecognizer
from paraformer.errors import CheckpointError, ConfigError
from paraformer.nn.chunks import make_plan, streaming_rule
from paraformer.nn.cif import integrate
from tests import tiny

ONLINE = {"decoder_conf": {"sanm_shfit": 2}}
CUTS = [
    Chunking(),
    Chunking((0, 8, 4), -1, 1),
    Chunking((5, 10, 5), 1, 2),
    Chunking((0, 4, 0), 2, 0),
    Chunking((0, 3, 1), 0, 1),
]


def recognizer(chunking: Chunking | None = None, seed: int = 0) -> StreamingRecognizer:
    release = tiny.release(ONLINE, seed)
    torch.nn.init.constant_(release.model.decoder.output_layer.bias[:3], -100.0)  # all is spoken
    return StreamingRecognizer(release, chunking)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    loud = torch.rand(samples // 1600 + 1, generator=generator).repeat_interleave(1600)[:samples]
    return 0.3 * loud * torch.randn(samples, generator=generator)


def whole(found: StreamingRecognizer, wave: torch.Tensor):
    return found.feed(found.open(), wave, final=True)


def said(tokens):
    return [(t.text, t.start_ms, t.end_ms, pytest.approx(t.confidence, abs=1e-4)) for t in tokens]


@pytest.mark.parametrize("chunking", CUTS, ids=str)
@pytest.mark.parametrize("block", [1, 160, 959, 9600, 10000])
def test_block_size_does_not_matter(chunking, block):
    wave = noise(20000 if block == 1 else 50001)
    found = recognizer(chunking)
    expected, stream = whole(found, wave)
    streamer = Streamer(found)
    tokens = [t for part in wave.split(block) for t in streamer.feed(part)] + streamer.flush()
    assert len(expected) >= 4
    assert tokens == said(expected)
    assert streamer.text == stream.text.text


@pytest.mark.parametrize("chunking", CUTS, ids=str)
def test_streams_in_a_batch_give_what_each_gives_alone(chunking):
    """They begin, have their chunks ready and end at different times."""
    found = recognizer(chunking)
    waves = [noise(samples, seed) for seed, samples in enumerate([50000, 9600, 0, 31000, 300])]
    starts = [0, 3, 1, 2, 5]
    blocks = [7000, 9600, 100, 2500, 300]
    streams = [found.open() for _ in waves]
    tokens = [[] for _ in waves]
    places, ended = [0] * len(waves), [False] * len(waves)
    for turn in range(40):
        active = [i for i in range(len(waves)) if turn >= starts[i] and not ended[i]]
        parts = [waves[i][places[i] : places[i] + blocks[i]] for i in active]
        for i in active:
            places[i] += blocks[i]
            ended[i] = places[i] >= len(waves[i])
        new, states = found.feed_all(
            [streams[i] for i in active], parts, [ended[i] for i in active]
        )
        for i, found_now, state in zip(active, new, states, strict=True):
            tokens[i] += found_now
            streams[i] = state
    assert all(ended)
    for wave, ours in zip(waves, tokens, strict=True):
        assert ours == said(whole(found, wave)[0])


@pytest.mark.parametrize("chunking", CUTS, ids=str)
@pytest.mark.parametrize("frames", [33, 40, 7, 1])
def test_chunks_equal_the_whole_utterance_unrolled_by_the_rule(chunking, frames):
    """What training sees at once is what the decoder does step by step."""
    release = tiny.release(ONLINE)
    model, rule = release.model.eval(), StreamingRecognizer(release, chunking).engine.rule
    feats = torch.randn(1, frames, 56)
    lengths = torch.tensor([frames])
    plan = make_plan(lengths, rule, frames)
    with torch.no_grad():
        memory, _ = model.encode_in_chunks(feats, lengths, plan)
        alphas = model.predictor.weights_in_chunks(memory, plan)
        state, logps, embeds = model.initial_state(rule), [], []
        for start in range(0, frames + 1, rule.stride):
            x = feats[:, start : start + rule.stride]
            count = torch.tensor([x.size(1)])
            x = x if x.size(1) else feats.new_zeros(1, 1, 56)
            final = torch.tensor([start + rule.stride > frames])
            logp, fired, state = model.forward_chunk(x, count, final, state, rule)
            logps.append(logp[0])
            embeds.append(fired.embeds[0])
        # The tail weight stands behind the last frame, in the last chunk.
        alphas = torch.cat((alphas, torch.full((1, 1), model.predictor.tail_threshold)), 1)
        sums = alphas.double().cumsum(1)
        count = int(sums[0, -1])
        unrolled = integrate(sums, torch.nn.functional.pad(memory, (0, 0, 0, 1)), count)
        counts = torch.tensor([count])
        keys = plan.token_keys(sums[:, :-1], counts, count)
        logits = model.decoder(unrolled, counts, memory, lengths, keys)
    assert count == len(torch.cat(embeds))
    torch.testing.assert_close(unrolled[0], torch.cat(embeds), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits.log_softmax(-1)[0], torch.cat(logps), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunking", CUTS, ids=str)
def test_no_output_sees_past_its_look_ahead(chunking):
    """By gradient: the rows of chunk k depend on no frame behind those that it brought."""
    release = tiny.release(ONLINE)
    model, rule = release.model.eval(), StreamingRecognizer(release, chunking).engine.rule
    frames = 4 * rule.stride + 1
    feats = torch.randn(1, frames, 56, requires_grad=True)
    state = model.initial_state(rule)
    for start in range(0, frames, rule.stride):
        x = feats[:, start : start + rule.stride]
        final = torch.tensor([start + rule.stride > frames])
        logp, _, state = model.forward_chunk(x, torch.tensor([x.size(1)]), final, state, rule)
        if logp.size(1) == 0:
            continue
        (grad,) = torch.autograd.grad(logp.exp().square().sum(), feats, retain_graph=True)
        assert grad[0, start + rule.stride :].abs().sum() == 0
        assert grad[0, start : start + rule.stride].abs().sum() > 0
    plan = make_plan(torch.tensor([frames]), rule, frames)
    memory, _ = model.encode_in_chunks(feats, torch.tensor([frames]), plan)
    for chunk in range(4):
        rows = memory[0].unflatten(0, (-1, rule.rows))[chunk]
        (grad,) = torch.autograd.grad(rows.square().sum(), feats, retain_graph=True)
        assert grad[0, (chunk + 1) * rule.stride :].abs().sum() == 0


def test_a_chunk_and_the_end_behind_it_are_one_pass(monkeypatch):
    """A stream that fails in it fails alone."""
    found, passes = recognizer(), []
    step = found.engine._step

    def counted(feats, final, states):
        passes.append([len(x) for x in feats])
        return step(feats, final, states)

    monkeypatch.setattr(found.engine, "_step", counted)
    waves = [noise(9600 + 4800, 1), noise(4800, 2)]
    tokens, _ = found.feed_all([found.open(), found.open()], waves, [True, True])
    assert passes == [[10, 5, 5]]
    passes.clear()
    assert tokens[0] == said(found.feed(found.open(), waves[0], final=True)[0])
    assert passes == [[10, 5]]
    broken = found.open()
    hidden = torch.full_like(broken.model.cif.hidden, math.nan)
    weight = torch.full_like(broken.model.cif.weight, math.nan)
    cif = broken.model.cif._replace(hidden=hidden, weight=weight)
    broken = broken._replace(model=broken.model._replace(cif=cif))
    (error, good), states = found.feed_all([broken, found.open()], waves, [True, True])
    assert isinstance(error, CheckpointError) and states[0] is broken
    assert good == said(tokens[1])


def test_two_streams_in_turn_do_not_touch_each_other():
    found = recognizer()
    waves = [noise(40000, 1), noise(40000, 2)]
    streamers = [Streamer(found), Streamer(found)]
    tokens = [[], []]
    for start in range(0, 40000, 3000):
        for number, wave in enumerate(waves):
            tokens[number] += streamers[number].feed(wave[start : start + 3000])
    for number, wave in enumerate(waves):
        tokens[number] += streamers[number].flush()
        assert tokens[number] == said(whole(found, wave)[0])


def test_a_state_that_was_stored_continues_exactly():
    found = recognizer()
    wave = noise(60000)
    streamer = Streamer(found)
    first = streamer.feed(wave[:25001])
    stored = pickle.dumps(streamer.state)
    rest = streamer.feed(wave[25001:]) + streamer.flush()
    again = Streamer(found)
    again.state = pickle.loads(stored)
    assert again.feed(wave[25001:]) + again.flush() == rest
    assert first + rest == said(whole(found, wave)[0])
    assert again.text == streamer.text


def test_a_state_is_not_changed_by_what_comes_after_it():
    found = recognizer()
    _, early = found.feed(found.open(), noise(30000))
    before = pickle.loads(pickle.dumps(early))
    found.feed(early, noise(30000, 1), final=True)
    assert tiny.equal(early, before)


@pytest.mark.parametrize("rest", [0, 1, 399, 400, 959, 960, 961, 9599])
def test_the_last_frames_are_never_lost(rest):
    """All frames that the front end makes of the whole recording reach the encoder."""
    found = recognizer()
    wave = noise(9600 + rest)
    tokens, stream = whole(found, wave)
    assert stream.frames == len(found.release.frontend(wave))
    assert stream.heard == len(wave)
    assert tokens[-1].end_ms <= 1000 * len(wave) / 16000


@pytest.mark.parametrize("samples", [0, 1])
def test_a_stream_without_a_frame_says_nothing(samples):
    found = recognizer()
    tokens, stream = whole(found, noise(samples))
    assert tokens == []
    assert stream.text.text == ""


def test_a_stream_shorter_than_a_chunk_is_heard():
    assert whole(recognizer(), noise(5000))[0]


def test_times_rise_and_stay_inside_the_audio():
    wave = noise(80000)
    tokens, _ = whole(recognizer(), wave)
    times = [t for token in tokens for t in (token.start_ms, token.end_ms)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 5000


def test_times_follow_the_weights():
    """A predictor with the same weight 0.29 everywhere fires token k at frame ceil(k / 0.29)."""
    found = recognizer(Chunking((0, 10, 0)))
    predictor = found.engine.model.predictor
    torch.nn.init.zeros_(predictor.cif_output.weight)
    torch.nn.init.constant_(predictor.cif_output.bias, float(np.log(0.29 / 0.71)))
    torch.nn.init.constant_(found.engine.model.decoder.output_layer.bias[3], 100.0)  # always spoken
    tokens, _ = whole(found, noise(16000 * 3))
    ends = [token.end_ms for token in tokens]
    assert ends[:10] == [60 * math.ceil(k / 0.29) for k in range(1, 11)]
    assert [token.start_ms for token in tokens][:10] == [0, *ends[:9]]


def test_times_are_right_after_twenty_minutes():
    """Tokens at a constant rate, whose times arithmetic knows; sums and positions do not drift."""
    found = recognizer(Chunking((0, 10, 0)))
    predictor = found.engine.model.predictor
    torch.nn.init.zeros_(predictor.cif_output.weight)
    torch.nn.init.constant_(predictor.cif_output.bias, float(np.log(0.29 / 0.71)))
    torch.nn.init.constant_(found.engine.model.decoder.output_layer.bias[3], 100.0)  # always spoken
    weight = float(torch.tensor(np.log(0.29 / 0.71), dtype=torch.float32).sigmoid())
    stream, tokens, block = found.open(), [], noise(9600)
    for _ in range(2000):
        new, stream = found.feed(stream, block)
        tokens += new
    assert len(tokens) == int(20000 * weight)
    off = [t.end_ms - 60 * math.ceil(k / weight) for k, t in enumerate(tokens, start=1)]
    assert max(map(abs, off)) <= 60  # a frame, where a sum is whole but for its rounding
    assert sum(map(bool, off)) < 10


def test_int16_and_bytes_are_what_floats_are():
    found = recognizer()
    samples = (noise(30000) * 32767).clamp(-32768, 32767).to(torch.int16).numpy()
    expected, _ = whole(found, torch.from_numpy(samples.astype(np.float32) / 32768))
    for given in (samples, samples.tobytes()):
        streamer = Streamer(found)
        assert streamer.feed(given) + streamer.flush() == said(expected)


def test_a_stream_that_is_refused_does_not_cost_the_others():
    """It stays refused, though its next block may be samples, and begins anew behind its end."""
    found, wave = recognizer(), noise(20000)
    content = (wave * 32767).round().to(torch.int16).numpy().tobytes()
    flac = b"fLaC\0\0\0\x22" + bytes(34)
    streams = [found.open(), found.open()]
    for block in (flac, content):
        results, streams = found.feed_all(streams, [content, block], [False, False])
        assert isinstance(results[1], RefusedError) and isinstance(results[0], list)
    rest, streams = found.feed_all(streams, [b"", b""], [True, True])
    assert rest[1] == [] and isinstance(rest[0], list)
    again, _ = found.feed(streams[1], content, True)
    assert said(again) == said(found.feed(found.open(), content, True)[0])


def test_after_the_end_another_stream_begins():
    found = recognizer()
    streamer = Streamer(found)
    wave = noise(30000)
    first = streamer.feed(wave) + streamer.flush()
    text = streamer.text
    second = streamer.feed(wave) + streamer.flush()
    assert second == said(first)
    assert streamer.text == text
    streamer.reset()
    assert streamer.text == ""


def test_a_model_that_needs_the_tokens_ahead_is_refused():
    with pytest.raises(ConfigError, match="does not stream"):
        StreamingRecognizer(tiny.release())


@pytest.mark.parametrize(
    "sizes", [(0, 0, 5), (0, 10), (0, 10, -1), ("0", 10, 5), (10**8, 1, 5), (0, 1, 10**9)]
)
def test_chunk_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(ConfigError, match="chunk_size"):
        Chunking(sizes)


def test_look_back_below_all_is_refused():
    with pytest.raises(ConfigError, match="look_back"):
        Chunking(encoder_chunk_look_back=-2)


def test_the_state_does_not_grow_with_the_stream():
    found = recognizer()
    _, stream = found.feed(found.open(), noise(9600 * 8))
    early = len(pickle.dumps(stream))
    _, stream = found.feed(stream, noise(9600 * 40, 1))
    assert len(pickle.dumps(stream)) <= early + 2000  # its text grows


def test_a_rule_is_that_of_its_chunks():
    found = StreamingRecognizer(tiny.release(ONLINE), Chunking([0, 8, 4], 4, 1))
    assert found.engine.rule == streaming_rule((0, 8, 4), 4, 1)
