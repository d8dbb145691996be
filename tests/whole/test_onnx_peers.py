"""funasr-onnx and sherpa-onnx themselves find in our folders what we find, each in a process of its
own Python, a job at a time.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import wave
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from paraformer import AutoModel
from paraformer.backends.onnx_session import Session
from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table
from paraformer.decode.voices import Voices
from paraformer.export.directory import export_model
from paraformer.hub.directories import BUNDLED
from paraformer.models.release import load_directory, load_speakers, save_directory
from paraformer.nn.position import sinusoid
from tests import tiny, wide
from tests.conftest import SHARED
from tests.parity.oracle import FIXTURES

# Where pip has put them, each in a venv of its own: funasr-onnx==0.4.3, sherpa-onnx==2.0.1.
PEERS = {
    "funasr": os.environ.get("PARAFORMER_FUNASR_ONNX_PYTHON", ""),
    "sherpa": os.environ.get("PARAFORMER_SHERPA_ONNX_PYTHON", ""),
}
PEER = Path(__file__).with_name("onnx_peer.py")
MINI = BUNDLED / "paraformer-zh-mini"
# The clips: those of a wav.scp of WAV at 16 kHz, or the ones that came with the model.
LISTED = os.environ.get("PARAFORMER_PEER_CLIPS", "")
CLIPS = (
    list(read_table(Path(LISTED)).values())
    if LISTED
    else sorted(str(path) for path in (MINI / "example").glob("*.wav"))
)
BATCH = 8
# Rows of a chunk of sherpa-onnx: heard again, new, ahead; and samples of a block that we feed.
BEFORE, NEW, AHEAD, BLOCK = 5, 10, 3, 9600
# Speaker models: of the released sizes with random weights, small ones, and another directory.
VOICES = {
    "wide": {"embedding_size": 192, "growth_rate": 32, "bn_size": 4, "init_channels": 128},
    "oracle": SHARED / "oracle/campplus",
    "bundled": BUNDLED / "cam++-mini",
    "given": Path(os.environ.get("PARAFORMER_PEER_VOICES", "nowhere")),
}
MARKED = [
    line.split(maxsplit=1)[1]
    for line in (BUNDLED / "ct-punc-mini/example/text.txt").read_text("utf-8").splitlines()
]

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
FUNASR, SHERPA = (
    pytest.mark.skipif(
        not python, reason=f"PARAFORMER_{peer.upper()}_ONNX_PYTHON names no Python that has it"
    )
    for peer, python in PEERS.items()
)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The graphs of a model, made once: a directory and its settings -> their folder."""

    @cache
    def made(source, layout="both", streaming=None):
        out = tmp_path_factory.mktemp("peers") / "graphs"
        return export_model(source, out, layout, streaming=streaming).directory

    return made


def found(job, folder, *given):
    """What a peer finds; the job begins with its name."""
    python = PEERS[job.partition("_")[0]]
    command = [python, str(PEER), job, str(folder), *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return json.loads(line.removeprefix("FOUND "))


def texts_of(model, paths, **options):
    results = AutoModel(str(model), device="cpu").generate(paths, lm_file="none", **options)
    return [bare(result["text"]) for result in results]


def characters(texts):
    """Texts without pieces of English words, of which a peer writes a half that stands alone, or
    leaves one out whose other half comes in the next chunk.
    """
    return [re.sub("[ -~]", "", text) for text in texts]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """Recognisers: the bundled one, and an architecture of tests/wide.py with random weights."""

    @cache
    def made(name):
        return MINI if name == "bundled" else wide.write(tmp_path_factory.mktemp(name), name)

    return made


@pytest.fixture(scope="module")
def heard(model_of):
    """The clips, as many as a batch at least, and our results of them by a model."""
    paths = [*CLIPS, *CLIPS[: max(0, BATCH - len(CLIPS))]]

    @cache
    def by(name):
        return paths, AutoModel(str(model_of(name)), device="cpu").generate(paths, lm_file="none")

    return by


# How much later than here a token begins in each, in ms.
LATER = {"funasr": 0, "sherpa": 30}


@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize(
    "peer", [pytest.param("funasr", marks=FUNASR), pytest.param("sherpa", marks=SHERPA)]
)
@pytest.mark.parametrize("name", ["bundled", "bicif"])
def test_texts_and_times_of_recordings_alone_and_in_batches_of_eight(
    name, peer, batch, folder_of, model_of, heard
):
    paths, results = heard(name)
    theirs, starts = zip(*found(peer, folder_of(model_of(name)), batch, *paths), strict=True)
    ours = [bare(result["text"]) for result in results]
    for text, begun, result in zip(theirs, starts, results, strict=True):
        if text == characters([text])[0]:  # else one counts words and the other pieces
            assert near(begun, [start + LATER[peer] for start, _ in result["timestamp"]])
    if peer == "sherpa":
        theirs, ours = characters(theirs), characters(ours)
    assert list(theirs) == ours and any(ours)


def near(theirs, ours):
    """Whether times are the same but for a rounding; funasr-onnx has some before the beginning,
    and of two tokens that fire in one step we move the second one on.
    """
    return len(theirs) == len(ours) and all(
        abs(max(one, 0) - max(other, 0)) <= 1 for one, other in zip(theirs, ours, strict=True)
    )


@pytest.fixture(scope="module")
def whole_blocks(tmp_path_factory):
    """The clips with silence behind, in whole blocks: funasr-onnx leaves a short last one out, and
    sherpa-onnx the last token.
    """
    paths = []
    for number, clip in enumerate(CLIPS):
        with wave.open(clip) as file:
            settings, data = file.getparams(), file.readframes(file.getnframes())
        silence = bytes(2 * (2 * BLOCK - len(data) // 2 % BLOCK))
        path = tmp_path_factory.mktemp("blocks") / f"{number}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams(settings)
            file.writeframes(data + silence)
        paths.append(str(path))
    return paths


@FUNASR
@pytest.mark.parametrize("name", ["bundled", "streaming"])
def test_streams_of_funasr(name, folder_of, model_of, whole_blocks):
    source = model_of(name)
    folder, release = folder_of(source, streaming=True), load_directory(source)
    theirs = found("funasr_stream", folder, *whole_blocks)
    ruled = [hear(folder, release, chunks_of_funasr(release, path)) for path in whole_blocks]
    assert characters(theirs) == characters(ruled) and any(ruled)
    if name == "bundled":  # of which silence, the last chunk, has no tokens
        alone = {"encoder_chunk_look_back": 0, "decoder_chunk_look_back": 0}
        ours = texts_of(source, whole_blocks, chunk_size=[5, 10, 5], **alone)
        assert characters(theirs) == characters(ours)


@SHERPA
@pytest.mark.parametrize("name", ["bundled", "streaming"])
def test_streams_of_sherpa(name, folder_of, model_of, whole_blocks):
    source = model_of(name)
    folder, release = folder_of(source, streaming=True), load_directory(source)
    ours = [hear(folder, release, chunks_of_sherpa(release, path)) for path in whole_blocks]
    assert found("sherpa_stream", folder, *whole_blocks) == ours and any(ours)


class Chunk(NamedTuple):
    """Rows (C, F) that a peer gives the encoder, which of them count, and a weight behind them."""

    rows: torch.Tensor
    kept: slice
    tail: float = 0.0


def coded(release, rows, first):
    """Rows (C, F) of a stream from the first one on, as graphs of streams want them."""
    return rows * release.model.encoder.output_size**0.5 + sinusoid(1 + first, *rows.shape)


def chunks_of_sherpa(release, path):
    """Rows begin with the first frame, a chunk wants a frame more than it has, and what the end
    leaves over is not heard.
    """
    front = release.frontend
    fbank, past = front.fbank(read_audio(path)), torch.zeros(BEFORE + AHEAD, front.output_size)
    step, size = NEW * front.lfr_n, (NEW - 1) * front.lfr_n + front.lfr_m
    for first in range(0, len(fbank) - size, step):
        rows = fbank[first : first + size].unfold(0, front.lfr_m, front.lfr_n)
        rows = (rows.transpose(1, 2).flatten(1) + front.cmvn.shift) * front.cmvn.scale
        heard = torch.cat((past, coded(release, rows, first // front.lfr_n)))
        past = heard[-len(past) :]
        yield Chunk(heard, slice(BEFORE, -AHEAD))


def chunks_of_funasr(release, path):
    """Five rows ahead; before the last of them it hears the same rows once more, where our streams
    and FunASR's hear those that came before.
    """
    rows, kept = release.frontend(read_audio(path)), slice(BEFORE, BEFORE + NEW)
    rows = coded(release, rows, 0)
    tail, past = release.model.predictor.tail_threshold, torch.zeros(2 * BEFORE, rows.size(1))
    last = (len(rows) - 1) // NEW * NEW
    for first in range(0, last, NEW):
        heard = torch.cat((past, rows[first : first + NEW]))
        past = heard[-len(past) :]
        yield Chunk(heard, kept)
    rest = rows[last:]
    heard = torch.cat((past, rest))
    if len(rest) <= BEFORE:
        yield Chunk(heard, kept, tail)
        return
    nothing = torch.zeros(2 * BEFORE + NEW - len(heard), rows.size(1))
    yield Chunk(torch.cat((heard, nothing)), kept)
    yield Chunk(torch.cat((heard[-BEFORE:], rest[BEFORE - len(rest) :])), kept, tail)


def hear(folder, release, chunks):
    """The text of a stream by the graphs of a folder, chunk by chunk."""
    encoder, decoder = (Session(folder / f"{name}.onnx") for name in ("model", "decoder"))
    width, blocks = release.model.encoder.output_size, len(decoder.inputs) - 4
    kernel = release.config["decoder_conf"]["kernel_size"]
    caches = [torch.zeros(1, width, kernel - 1)] * blocks
    weight, hidden, ids = 0.0, torch.zeros(width), []
    for chunk in chunks:
        count = torch.tensor([len(chunk.rows)])
        enc, lengths, alphas = encoder.run((chunk.rows[None], count))
        kept = torch.zeros_like(alphas)
        kept[:, chunk.kept] = alphas[:, chunk.kept]
        fired = []
        rows = [*zip(kept[0].tolist(), enc[0], strict=True), (chunk.tail, torch.zeros(width))]
        for alpha, row in rows:
            if weight + alpha < 1.0:
                weight, hidden = weight + alpha, hidden + alpha * row
            else:
                fired.append(hidden + (1.0 - weight) * row)
                weight += alpha - 1.0
                hidden = weight * row
        if fired:
            said = (enc, lengths, torch.stack(fired)[None], torch.tensor([len(fired)]), *caches)
            _, best, *caches = decoder.run(said)
            ids += best[0].tolist()
    tokens = [release.tokenizer.tokens[place] for place in ids if place]
    return "".join(tokens).replace("@@", "")


@FUNASR
def test_segments_of_funasr(folder_of):
    source = BUNDLED / "fsmn-vad-mini"
    path = source / "example/vad_example.wav"
    (ours,) = AutoModel(str(source), device="cpu").generate(str(path))
    assert found("funasr_vad", folder_of(source, "funasr-onnx"), path) == [ours["value"]]


def bare(text):
    """A text without blanks, which the peer leaves out around English words."""
    return text.replace(" ", "")


@FUNASR
def test_marks_of_funasr(folder_of):
    source = BUNDLED / "ct-punc-mini"
    ours = AutoModel(str(source), device="cpu").generate(MARKED)
    theirs = found("funasr_marks", folder_of(source), *MARKED)
    assert [bare(text) for text in theirs] == [bare(result["text"]) for result in ours]


@FUNASR
def test_marks_of_funasr_in_real_time(folder_of):
    source, told = FIXTURES / "oracle/ct_punc_streaming", {}
    model = AutoModel(str(source), device="cpu")
    ours = [model.generate(piece, cache=told)[0]["text"] for piece in MARKED]
    folder = folder_of(source, "funasr-onnx")
    theirs = found("funasr_realtime_marks", folder, *MARKED)
    assert [bare(text) for text in theirs] == [bare(text) for text in ours]


@FUNASR
def test_hotwords_of_funasr(folder_of):
    source, words = FIXTURES / "oracle/seaco", "今天 开车"  # of tokens that the model has
    ours = texts_of(source, CLIPS, hotword=words)
    folder = folder_of(source, "funasr-onnx")
    assert found("funasr_hotwords", folder, words, *CLIPS) == ours


@SHERPA
@pytest.mark.parametrize("name", VOICES)
def test_voices_of_sherpa(name, folder_of, tmp_path):
    """Its embeddings are those of the network on its features, to a thousandth of the largest
    value: features differ by as much (measured: embeddings by 8e-5).
    """
    source = VOICES[name]
    if isinstance(source, dict):
        source = save_directory(tmp_path / "voices", tiny.voices({"model_conf": source}))
    elif not source.is_dir():
        pytest.skip(f"{source}: not here")
    voices = Voices(load_speakers(source))
    theirs = found("sherpa_voices", folder_of(source), *CLIPS)
    for path, other in zip(CLIPS, theirs, strict=True):
        (voice,) = voices.engine.embed([features_of_sherpa(read_audio(path))])
        bound = 1e-3 * float(voice.abs().max())
        torch.testing.assert_close(torch.tensor(other), voice, rtol=0, atol=bound)


def features_of_sherpa(wave):
    """Of its speaker models: bands to 7600 Hz, and frames that reach over both ends."""
    from torchaudio.compliance.kaldi import fbank

    given = {"num_mel_bins": 80, "window_type": "povey", "high_freq": -400, "snip_edges": False}
    feats = fbank(wave[None], **given)
    return feats - feats.mean(0)
