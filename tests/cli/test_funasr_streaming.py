"""`funasr` with a streaming model: growing text on a terminal, lines elsewhere, a microphone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.audio.read import read_audio
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.recognize import Recognizer
from paraformer.decode.streaming import StreamingRecognizer
from paraformer.decode.text import join_texts
from paraformer.decode.vad import VoiceActivity
from paraformer.models.release import load_directory, load_punctuation, load_vad, save_directory
from tests import tiny
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
FUNASR = [sys.executable, "-m", "paraformer"]
ORACLE = ROOT / "tests" / "fixtures" / "oracle"
ONLINE = {"model": "ParaformerStreaming", "decoder_conf": {"sanm_shfit": 2}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_directory(tmp_path_factory.mktemp("model"), tiny.release(ONLINE))


@pytest.fixture(scope="module")
def samples():
    return (np.random.default_rng(0).normal(0, 3000, 40000)).astype("<i2")


@pytest.fixture(scope="module")
def text(model, samples):
    recognizer = StreamingRecognizer(load_directory(model))
    wave = torch.from_numpy(samples.astype(np.float32) / 32768)
    return recognizer.feed(recognizer.open(), wave, final=True)[1].text.text


@pytest.fixture(scope="module")
def wav(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    soundfile.write(path, samples, 16000)
    return path


def funasr(*arguments, **options):
    command = [*FUNASR, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=300, **options)


def test_a_file_is_a_line(model, wav, text):
    done = funasr(f"+model={model}", f"+input={wav}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{text}\n"


def test_raw_samples_from_a_pipe(model, samples, text):
    done = funasr(f"+model={model}", "+input=-", input=samples.tobytes())
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{text}\n"


def test_samples_from_a_pipe_have_their_folder_of_results(model, samples, text, tmp_path):
    options = [f"+output_dir={tmp_path / 'out'}", "+key=u1"]
    done = funasr(f"+model={model}", "+input=-", *options, input=samples.tobytes())
    assert (done.returncode, done.stdout.decode()) == (0, f"{text}\n"), done.stderr
    assert (tmp_path / "out" / "1best_recog" / "text").read_text("utf-8") == f"u1 {text}\n"


def test_a_file_from_a_pipe(model, wav, text):
    done = funasr(f"+model={model}", "+input=-", input=wav.read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{text}\n"


def test_text_comes_while_the_microphone_is_on(model, samples, text):
    """The first part of the text is there before the second half of the samples is sent."""
    command = [*FUNASR, f"+model={model}", "+input=-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(samples[:30000].tobytes())
        process.stdin.flush()
        first = os.read(process.stdout.fileno(), 3)  # a Chinese character
        assert text.encode().startswith(first)
        rest, _ = process.communicate(samples[30000:].tobytes(), timeout=300)
    assert (first + rest).decode() == f"{text}\n"


def test_a_terminal_shows_the_whole_text(model, wav, text):
    main, side = pty.openpty()
    command = [*FUNASR, f"+model={model}", f"+input={wav}"]
    with subprocess.Popen(command, stdout=side, stderr=subprocess.DEVNULL) as process:
        os.close(side)
        shown = b""
        while True:
            try:
                part = os.read(main, 1000)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(timeout=300) == 0
    os.close(main)
    assert shown.decode().strip() == text


@pytest.fixture(scope="module")
def speech():
    """Two sentences with a pause behind each, 16-bit samples."""
    clips = [read_audio(ORACLE / "inputs" / f"clip_{name}.flac") for name in "ab"]
    wave = torch.cat([clips[0], torch.zeros(24000), clips[1], torch.zeros(24000)])
    return (wave * 32767).round().short().numpy().astype("<i2")


@pytest.fixture(scope="module")
def texts(speech, second):
    """What the second pass reads in each segment of the VAD."""
    wave = torch.from_numpy(speech.astype(np.float32) / 32768)
    spans = VoiceActivity(load_vad(ORACLE / "fsmn_vad")).segments(wave)
    waves = [wave[start * 16 : end * 16] for start, end in spans]
    return [o.best.tight for o in Recognizer(load_directory(second)).recognize(waves)]


@pytest.fixture(scope="module")
def lines(texts):
    """The same with marks."""
    marks = Punctuator(load_punctuation(ORACLE / "ct_punc"))
    return [marks.punctuate(text).text for text in texts if text]


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return save_directory(tmp_path_factory.mktemp("second"), tiny.release(seed=3))


def live_options(second):
    models = {"vad_model": ORACLE / "fsmn_vad", "punc_model": ORACLE / "ct_punc"}
    return [f"+{name}={path}" for name, path in {**models, "second_pass": second}.items()]


def test_a_microphone_with_a_vad_gives_a_line_for_each_segment(model, second, speech, lines):
    """The first is there while the speaker goes on."""
    command = [*FUNASR, f"+model={model}", *live_options(second), "+input=-"]
    first, rest = speech[:-30000], speech[-30000:]
    assert len(lines) >= 2
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(first.tobytes())
        process.stdin.flush()
        assert process.stdout.readline().decode() == f"{lines[0]}\n"
        left, _ = process.communicate(rest.tobytes(), timeout=300)
    assert left.decode().splitlines() == lines[1:]


def test_a_file_with_a_vad_is_one_line(model, second, speech, texts, tmp_path):
    soundfile.write(tmp_path / "x.wav", speech, 16000)
    done = funasr(f"+model={model}", *live_options(second)[::2], f"+input={tmp_path / 'x.wav'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{join_texts(texts)}\n"


def test_a_second_pass_needs_a_stream(second, speech):
    done = funasr(f"+model={second}", f"+second_pass={second}", "+input=-", input=speech.tobytes())
    assert done.returncode == 1
    assert "second_pass: goes with a streaming model" in done.stderr.decode()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("+fs=8000", "16000"),
        ("+chunk_size=[0,10]", "chunk_size"),
        ("+nbest=2", "nbest: streams have one reading"),
        ("+decoding_ctc_weight=0.3", "decoding_ctc_weight: streams have one reading"),
        ("+itn=true", "itn: a number may go on"),
        ("+resume=true +output_dir=x", "resume: a stream from stdin is not heard twice"),
    ],
)
def test_bad_options_are_one_line(model, samples, option, message):
    done = funasr(f"+model={model}", "+input=-", *option.split(), input=samples.tobytes())
    assert done.returncode == 1
    assert message in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1


def test_a_list_on_stdin_is_no_sound(model):
    done = funasr(f"+model={model}", "+input=-", input=b"u1 somewhere/a.wav\n" * 3)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("funasr: -: text came on stdin, not audio")
