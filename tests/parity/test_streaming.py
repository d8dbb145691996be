"""Decoding a stream equals the reference, chunk by chunk: all settings of [c0, c1, c2] and
look-backs.
"""

from __future__ import annotations

import pytest
import torch

from paraformer.data.features import streaming as streaming_frontend
from paraformer.decode.streaming import Chunking, Streamer, StreamingRecognizer
from paraformer.nn.chunks import streaming_rule
from tests.parity.oracle import ONLINE, close

pytestmark = pytest.mark.parametrize("oracle", ONLINE, indirect=True, scope="module")


def settings(fact):
    backs = fact["encoder_chunk_look_back"], fact["decoder_chunk_look_back"]
    return tuple(fact["chunk_size"]), *backs


def decode_in_chunks(oracle, wave, chunk_size, back, memory_back):
    """Every stage of every chunk of a recording."""
    model, frontend = oracle.release.model, oracle.release.frontend
    rule = streaming_rule(chunk_size, back, memory_back)
    stride = 960 * chunk_size[1]
    state, held = model.initial_state(rule), streaming_frontend.initial_state(frontend)
    chunks = []
    seen = {}
    hooks = [
        model.encoder.after_norm.register_forward_hook(
            lambda *args: seen.update(encoder_out=args[2][0])
        ),
        model.predictor.cif_output.register_forward_hook(
            lambda *args: seen.update(alphas_raw=args[2][0, :, 0].sigmoid())
        ),
    ]
    for start in range(0, len(wave) + 1, stride):
        final = start + stride > len(wave)
        x, held = streaming_frontend.forward_chunk(
            frontend, wave[start : start + stride], held, final
        )
        with torch.no_grad():
            logp, fired, state = model.forward_chunk(
                x[None], torch.tensor([len(x)]), torch.tensor([final]), state, rule
            )
        chunk = {"feats": x, "acoustic_embeds": fired.embeds[0], "log_probs": logp[0], **seen}
        chunk |= {"carry_alpha": state.cif.weight[0], "carry_hidden": state.cif.hidden[0]}
        chunks.append(chunk)
    for hook in hooks:
        hook.remove()
    return chunks


@pytest.fixture(scope="module")
def streams(oracle):
    """(run of the oracle, our chunks)."""
    return [
        (run, decode_in_chunks(oracle, oracle.wave(run["audio"]), *settings(run)))
        for run in oracle.facts["runs"]
    ]


def test_token_ids_of_every_chunk(streams):
    for run, chunks in streams:
        assert not any(fact["tail_chunk"] for fact in run["chunks"])
        assert [len(chunk["feats"]) for chunk in chunks] == [f["frames_in"] for f in run["chunks"]]
        ours = [chunk["log_probs"].argmax(-1).tolist() for chunk in chunks]
        assert ours == [fact["ids"] for fact in run["chunks"]], (run["audio"], settings(run))


@pytest.mark.parametrize(
    ("name", "atol", "rtol"),
    [
        ("feats", 1e-3, 0.0),
        ("encoder_out", 1e-4, 1e-4),
        ("alphas_raw", 1e-5, 0.0),
        ("acoustic_embeds", 1e-4, 1e-4),
        ("log_probs", 1e-4, 1e-4),
        ("carry_hidden", 1e-3, 1e-3),
    ],
)
def test_tensors_of_the_first_chunks_and_the_last(oracle, streams, name, atol, rtol):
    """A carried weight near 0 makes its mean frame ill-conditioned: that one is held to 1e-3."""
    compared = 0
    for run, chunks in streams:
        sizes, back, memory_back = settings(run)
        tag = f"{run['audio']}/{'-'.join(map(str, sizes))}/{back},{memory_back}"
        for number, chunk in enumerate(chunks):
            theirs = oracle.arrays.get(f"{tag}/chunk{number}/{name}")
            if theirs is not None:
                close(chunk[name].reshape(theirs.shape), theirs, atol, rtol)
                compared += 1
    assert compared >= 4


def test_weights_and_what_is_carried_through_the_whole_stream(oracle, streams):
    for run, chunks in streams:
        sizes, back, memory_back = settings(run)
        tag = f"{run['audio']}/{'-'.join(map(str, sizes))}/{back},{memory_back}"
        if f"{tag}/alphas_raw" in oracle.arrays:
            ours = torch.cat([chunk["alphas_raw"] for chunk in chunks])
            close(ours, oracle.arrays[f"{tag}/alphas_raw"], 1e-5)
            carried = torch.stack([chunk["carry_alpha"] for chunk in chunks])
            close(carried, oracle.arrays[f"{tag}/carry_alpha"], 1e-4)
            sums = torch.stack([chunk["encoder_out"].double().sum() for chunk in chunks])
            close(sums.float(), oracle.arrays[f"{tag}/encoder_out_sum"], 1e-2)


def test_the_text_of_the_whole(oracle):
    for run in oracle.facts["runs"]:
        recognizer = StreamingRecognizer(oracle.release, Chunking(*settings(run)))
        streamer = Streamer(recognizer)
        streamer.feed(oracle.wave(run["audio"]))
        streamer.flush()
        assert streamer.text == run["whole"]


def test_ends_of_streams(oracle):
    """All lengths but those whose end the reference throws away: ours is longer there."""
    recognizer = StreamingRecognizer(oracle.release)
    wave = oracle.wave(oracle.tags[0])
    compared = 0
    for edge in oracle.facts["edges"]:
        part = wave[edge["from_sample"] : edge["from_sample"] + edge["samples"]]
        tokens, stream = recognizer.feed(recognizer.open(), part, final=True)
        lost = edge["samples"] % 9600
        if 400 <= lost < 960:  # frames that fit into what is thrown away
            continue
        expected = [i for chunk in edge["chunks"] for i in chunk["ids"] if i > 2]
        assert [token.text for token in tokens] == oracle.release.tokenizer.ids_to_tokens(expected)
        assert stream.heard == edge["samples"]
        compared += 1
    assert compared >= 20


def test_the_end_may_come_with_an_empty_piece(oracle):
    recognizer = StreamingRecognizer(oracle.release)
    wave = oracle.wave(oracle.tags[0])
    streamer = Streamer(recognizer)
    texts = []
    for start in range(0, 3 * 9600, 9600):
        streamer.feed(wave[start : start + 9600])
        texts.append(streamer.text)
    streamer.flush()
    assert streamer.text == "".join(oracle.facts["late_final"])
    assert all(streamer.text.startswith(text) for text in texts)
