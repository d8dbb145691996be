"""Engines by torch: what they say of their models, and what they make of a batch."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from paraformer.backends.devices import multiplies_int8
from paraformer.backends.engines import (
    alignment_engine,
    mark_engine,
    recognition_engine,
    silence_engine,
    stream_engine,
)
from paraformer.backends.face import BEHIND, Asked, Bias, finite_rows
from paraformer.backends.packed import PackedLinear
from paraformer.backends.torch_engine import _autocast, frame_seconds
from paraformer.decode.recognize import Recognizer
from paraformer.errors import AudioError, CheckpointError
from paraformer.models.release import load_aligner, load_directory, load_punctuation, load_vad
from tests import tiny, wide
from tests.bench.measure import CLIPS, speech
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
NAN = float("nan")
# What each of the fixtures is, by its config.yaml: times_tokens, has_ctc, hears_hotwords.
ABLE = {
    "paraformer": (False, False, False),
    "conformer": (False, True, False),
    "bicif": (True, False, False),
    "seaco": (True, False, True),
    "contextual": (False, False, True),
}
STREAMS = {"decoder_conf": {"sanm_shfit": 2}}


def feats(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 56, generator=generator) for length in lengths]


@pytest.mark.parametrize("kind", ABLE)
def test_an_engine_says_what_its_model_can_do(kind):
    engine = recognition_engine(load_directory(ORACLE / kind))
    assert (engine.times_tokens, engine.has_ctc, engine.hears_hotwords) == ABLE[kind]
    x = torch.zeros(20, engine.release.frontend.output_size)
    (heard,) = engine.listen([x], Asked(ctc=True))
    assert (heard.timeline is not None, heard.ctc is not None) == ABLE[kind][:2]


@pytest.mark.skipif(not multiplies_int8(), reason="this processor has no exact sums of 8 bits")
def test_in_8_bits_a_batch_gives_what_each_utterance_gives_alone(tmp_path):
    """Widths and vocabulary are those of the released models."""
    recognizer = Recognizer(load_directory(wide.write(tmp_path, "bicif")), dtype=torch.int8)
    assert recognizer.times_tokens and recognizer.engine.model.encoder.output_size == 512
    waves = [torch.from_numpy(speech(seconds, CLIPS)) for seconds in (2.0, 4.5, 0.7, 3.1)]
    waves[1] = waves[1].roll(9000)
    alone = [recognizer.recognize([wave])[0].best for wave in waves]
    together = [outcome.best for outcome in recognizer.recognize(waves)]
    assert sum(len(best.ids) for best in alone) > 20
    assert [best.ids for best in together] == [best.ids for best in alone]
    assert [best.token_times for best in together] == [best.token_times for best in alone]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch lacks oneDNN")
def test_marks_come_of_packed_layers_in_half_precision_alone(tmp_path):
    directory, scores = wide.write(tmp_path, "ct-transformer"), []
    for dtype, layers in ((None, 0), (torch.bfloat16, 2 * 4)):  # four a block
        engine = mark_engine(load_punctuation(directory), dtype=dtype)
        assert sum(isinstance(x, PackedLinear) for x in engine.model.modules()) == layers
        scores.append(engine._scores(range(5, 45), 0).float())
    exact, near = scores
    assert 0 < (near - exact).norm() <= 0.02 * exact.norm()  # ten roundings by 2^-9 at most


def test_frames_of_encoders():
    """10 ms, stacked by 6, or subsampled by 4."""
    assert frame_seconds(tiny.release()) == 0.06
    conformer = {"encoder": "ConformerEncoder", "decoder": "ParaformerSANDecoder"}
    conformer |= {
        "encoder_conf": {"cnn_module_kernel": 15, "linear_units": 32},
        "frontend_conf": {"n_mels": 80, "lfr_m": 1, "lfr_n": 1},
    }
    built = tiny.release(conformer)
    built.frontend.lfr_n = 1
    assert frame_seconds(built) == 0.04


def test_a_part_of_a_batch_is_heard_as_the_whole(monkeypatch):
    """The parts that a small memory makes give what each utterance gives alone; one that does not
    fit alone has an error, and costs the others nothing.
    """
    engine = recognition_engine(tiny.release())
    batch = feats(9, 30, 12, 31)
    alone = [engine.listen([x], Asked(times=True))[0] for x in batch]
    real = engine.model.encode

    def small(x, lengths):
        if len(x) > 2 or x.size(1) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(x, lengths)

    monkeypatch.setattr(engine.model, "encode", small)
    parts = engine.listen(batch, Asked(times=True))
    assert [len(part.feats) for part in parts] == [2, 1, 1]
    rows = [(part, row) for part in parts for row in range(len(part.feats))]
    for (part, row), x, own in list(zip(rows, batch, alone, strict=True))[:3]:
        count = int(own.counts[0])
        assert part.feats[row] is x
        assert int(part.counts[row]) == count
        torch.testing.assert_close(part.logp[row, :count], own.logp[0], atol=1e-5, rtol=1e-4)
        assert list(part.errors) == [None] * len(part.feats)
    (error,) = parts[2].errors
    assert isinstance(error, AudioError)
    assert "31 frames do not fit into cpu's memory" in str(error)
    assert parts[2].logp.shape[:2] == (1, 0)


def test_rows_that_are_not_finite_say_so_and_cost_the_others_nothing():
    engine = recognition_engine(tiny.release())
    good, bad = feats(20, 20)
    (alone,) = engine.listen([good], Asked())
    bad[3, 5] = NAN
    (both,) = engine.listen([good, bad], Asked())
    assert both.errors[0] is None
    assert isinstance(both.errors[1], CheckpointError)
    assert "compute in float32 (dtype=fp32)" in str(both.errors[1])
    count = int(alone.counts[0])
    torch.testing.assert_close(both.logp[0, :count], alone.logp[0], atol=1e-5, rtol=1e-4)


def test_posteriors_past_the_end_of_an_utterance_may_be_anything():
    logp = torch.zeros(2, 3, 4)
    logp[:, 2] = NAN
    assert finite_rows(logp, torch.tensor([2, 3])).tolist() == [True, False]
    assert finite_rows(torch.zeros(2, 0, 4), torch.tensor([0, 0])).tolist() == [True, True]


def test_each_model_reads_of_the_bias_what_it_knows():
    words = [[5, 6], [7, 8]]
    for kind, options in (("seaco", {"seaco_weight": 0.0}), ("contextual", {"clas_scale": 0.0})):
        engine = recognition_engine(load_directory(ORACLE / kind))
        (x,) = (torch.randn(40, engine.release.frontend.output_size),)
        memory = engine.remember(words)
        (off,) = engine.listen([x], Asked(bias=Bias(memory, **options)))
        (other,) = engine.listen([x], Asked(bias=Bias(engine.remember([[9, 10]]), **options)))
        torch.testing.assert_close(off.logp, other.logp, atol=0, rtol=0)


def test_chunks_of_many_streams_are_those_of_each():
    engine = stream_engine(tiny.release(STREAMS), (0, 10, 5), 4, 1)
    assert (engine.stride, engine.pad) == (10, 5)
    states, blocks = [engine.initial_state()] * 3, feats(10, 10, 4)
    ends = [False, False, True]
    (together,) = engine.forward_chunk(blocks, ends, states)
    for row, (x, end) in enumerate(zip(blocks, ends, strict=True)):
        (alone,) = engine.forward_chunk([x], [end], [engine.initial_state()])
        count = int(alone.counts[0])
        assert int(together.counts[row]) == count
        torch.testing.assert_close(
            together.logp[row, :count], alone.logp[0, :count], atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize(("look_back", "memory_back"), [(4, 1), (-1, 0), (0, 2)])
def test_a_chunk_behind_another_in_one_pass_is_that_of_two_passes(look_back, memory_back):
    """Of streams of any age, one of which ends; others beside have one chunk alone."""
    engine = stream_engine(tiny.release(STREAMS), (0, 10, 5), look_back, memory_back)
    states = [engine.initial_state()] * 3
    for old in (1, 2):  # the last two are older
        (fired,) = engine.forward_chunk(feats(*[10] * old), [False] * old, states[-old:])
        states[-old:] = fired.states
    blocks, last = feats(10, 10, 10, 10, 3), [False, False, False, False, True]
    at = [states[0], BEHIND, states[1], states[2], BEHIND]
    (together,) = engine.forward_chunk(blocks, last, at)
    assert int(together.counts.sum()) > 0
    for row, (x, end) in enumerate(zip(blocks, last, strict=True)):
        state = alone.states[0] if at[row] is BEHIND else at[row]  # noqa: F821
        (alone,) = engine.forward_chunk([x], [end], [state])
        count = int(alone.counts[0])
        assert int(together.counts[row]) == count
        near = {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(together.logp[row, :count], alone.logp[0, :count], **near)
        size = alone.sums.size(1) - 1
        torch.testing.assert_close(together.sums[row, :size], alone.sums[0, :size], **near)
    goes_on = [feats(10)[0]] * 2
    (next_two,) = engine.forward_chunk(goes_on, [False] * 2, together.states[1:3])
    (first,) = engine.forward_chunk([blocks[0]], [False], [states[0]])
    (second,) = engine.forward_chunk([blocks[1]], [False], first.states)
    (third,) = engine.forward_chunk(goes_on[:1], [False], second.states)
    torch.testing.assert_close(next_two.sums[0], third.sums[0], atol=1e-5, rtol=1e-4)


def test_an_aligner_fires_as_many_tokens_as_it_is_told():
    engine = alignment_engine(load_aligner(ORACLE / "fa-zh"))
    x = torch.randn(40, engine.release.frontend.output_size)
    (timed,) = engine.align([x, x[:30]], [4, 7])
    for row, count in enumerate((4, 7)):
        places, _ = timed.timeline.places(row, count + 1)  # and what fires behind the text
        assert len(places) == count + 1
    assert list(timed.errors) == [None, None]


def test_damaged_weights_of_the_small_models_are_named():
    release = load_vad(ORACLE / "fsmn_vad")
    torch.nn.init.constant_(release.model.encoder.in_linear2.linear.bias, NAN)
    silence = silence_engine(release, [0])
    with pytest.raises(CheckpointError, match="VAD's output is not finite"):
        silence.hear(torch.zeros(5, release.frontend.output_size), silence.initial_state)
    punctuation = load_punctuation(ORACLE / "ct_punc")
    assert len(mark_engine(punctuation).marks([3, 4, 5], 0)) == 3
    torch.nn.init.constant_(punctuation.model.decoder.bias, NAN)
    with pytest.raises(CheckpointError, match="punctuation model is not finite"):
        mark_engine(punctuation).marks([3, 4, 5], 0)


WAITS = {"cpu", "item", "tolist", "numpy", "nonzero", "__bool__", "__int__", "__float__"}


class Copies(TorchFunctionMode):
    """Counts calls by which tensors go to a device, and those that wait for what is there: on a GPU
    each costs, on a CPU none does.
    """

    def __init__(self):
        super().__init__()
        self.sent, self.waits = Counter(), Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, told = function.__name__, [*args, *kwargs.values()]
        if name in WAITS:
            self.waits[name] += 1
        elif name in ("to", "tensor") and any(isinstance(each, torch.device) for each in told):
            self.sent[name] += 1
        return function(*args, **kwargs)


def copies(work):
    """Those of some work, after one that may have made what is kept."""
    work()
    with Copies() as counted:
        work()
    return counted.sent, counted.waits


@pytest.mark.parametrize("kind", ABLE)
def test_a_batch_of_any_size_goes_to_the_device_in_one_piece(kind):
    engine = recognition_engine(load_directory(ORACLE / kind))
    x = torch.randn(40, engine.release.frontend.output_size)
    batches = [[x], [x, x[:30]], [x, x[:30], x[:9], x[:20]]]
    found = [copies(lambda b=b: engine.listen(b, Asked(ctc=True))) for b in batches]
    assert found[0] == found[1] == found[2]
    sent, waits = found[0]
    own = 3 if kind == "contextual" else 0  # its hotwords, of which there are none
    assert sent == {"tensor": 1, "to": 1 + own} and waits["tolist"] == 1
    assert sum(waits.values()) == 1 + (own > 0)


def test_the_next_chunks_of_streams_go_to_the_device_in_one_piece():
    engine = stream_engine(tiny.release(STREAMS), (0, 10, 5), 4, 1)

    def step(streams):
        states = [engine.initial_state()] * streams
        return lambda: engine.forward_chunk(feats(*[10] * streams), [False] * streams, states)

    few, many = copies(step(2)), copies(step(6))
    assert few == many and few[0] == {"tensor": 2, "to": 1}


def test_each_step_of_an_engine_enters_autocast_once_for_its_device(monkeypatch):
    """Once about all that it computes in half precision, and never about 8 bits or float32."""
    entered, real = [], torch.autocast

    def autocast(kind, dtype=None, enabled=True):
        if dtype is not None or not enabled:
            entered.append((kind, dtype, enabled))
        return real(kind, dtype, enabled=enabled)

    recogniser = recognition_engine(load_directory(ORACLE / "paraformer"), dtype=torch.bfloat16)
    streams = stream_engine(tiny.release(STREAMS), (0, 10, 5), 4, 1, dtype=torch.bfloat16)
    aligner = alignment_engine(load_aligner(ORACLE / "fa-zh"), dtype=torch.bfloat16)
    width = recogniser.release.frontend.output_size
    monkeypatch.setattr(torch, "autocast", autocast)
    for work in (
        lambda: recogniser.listen([torch.randn(30, width)] * 3, Asked()),
        lambda: streams.forward_chunk(feats(10, 10), [False] * 2, [streams.initial_state()] * 2),
        lambda: aligner.align([torch.randn(30, width)], [3]),
    ):
        entered.clear()
        work()
        assert [each for each in entered if each[2]] == [("cpu", torch.bfloat16, True)]
    entered.clear()
    gpu = torch.device("cuda", 1)
    for dtype in (torch.float16, torch.int8, None):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "autocast", lambda *given, **more: (*given, *more.values()))
            entered.append(_autocast(SimpleNamespace(device=gpu, dtype=dtype)))
    assert entered == [("cuda", torch.float16, True), *[("cuda", None, False)] * 2]
