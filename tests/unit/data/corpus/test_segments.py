"""Segments of one channel of a recording, as Kaldi's extract-segments takes them: from 0."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from paraformer.data.batches.recordings import Reader
from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.tables import read_table
from paraformer.data.features.frontend import Frontend
from paraformer.data.inputs.sources import Cache, list_items
from paraformer.errors import AudioError, DataError
from paraformer.programs.make_fbank import make_fbank
from tests.conftest import ROOT

RATE = 16000
WAVE = np.random.default_rng(0).integers(-9000, 9000, (2 * RATE, 2)).astype(np.int16)
EXACT = torch.from_numpy(WAVE.T.astype(np.float32) / 32768)
LINES = {
    "both": ("call 0.5 1.5", EXACT.mean(0)[8000:24000]),
    "left": ("call 0.5 1.5 0", EXACT[0, 8000:24000]),
    "right": ("call 1.0 -1 1", EXACT[1, 16000:]),
    "undecided": ("call 1.0 1.25 -1", EXACT.mean(0)[16000:20000]),
    "mono": ("alone 0 1 0", EXACT[1, :16000]),
}


@pytest.fixture
def data(tmp_path):
    soundfile.write(tmp_path / "call.wav", WAVE, RATE)
    soundfile.write(tmp_path / "alone.wav", WAVE[:, 1], RATE)
    (tmp_path / "wav.scp").write_text(f"call {tmp_path}/call.wav\nalone {tmp_path}/alone.wav\n")
    rows = [f"{key} {line}\n" for key, (line, _) in LINES.items()]
    (tmp_path / "segments").write_text("".join(rows))
    return tmp_path


def test_a_segment_is_heard_in_its_channel(data):
    cache, reader = Cache(), Reader(RATE)
    for item in list_items(data):
        exact = LINES[item.key][1]
        for wave in (item.read(None, RATE), item.read(None, RATE, cache), reader.read(item)):
            torch.testing.assert_close(wave, exact, atol=1e-7, rtol=0)


def test_features_are_made_of_its_channel(data, tmp_path):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "fbank.yaml")
    settings = {"data": str(data), "out": str(tmp_path / "fbank"), "name": "x", "compress": False}
    assert make_fbank(OmegaConf.merge(config, settings)) == 0
    places = read_table(tmp_path / "fbank" / "x.scp")
    assert places.keys() == LINES.keys()
    frontend = Frontend(**{k: config[k] for k in ("fs", "n_mels", "dither", "upscale_samples")})
    for key, place in places.items():
        found = torch.from_numpy(np.array(load_archive(place)))
        torch.testing.assert_close(found, frontend.fbank(LINES[key][1]), atol=1e-4, rtol=0)


def test_an_option_chooses_where_the_segment_does_not(data):
    items = {item.key: item for item in list_items(data, channel=1)}
    torch.testing.assert_close(items["both"].read(None, RATE), EXACT[1, 8000:24000])
    torch.testing.assert_close(items["left"].read(None, RATE), LINES["left"][1])
    split = [item.key for item in list_items(data, channel="split")]
    assert split == [
        "both_ch0",
        "both_ch1",
        "left",
        "right",
        *("undecided_ch0", "undecided_ch1"),
    ] + ["mono"]


def test_a_channel_that_is_not_there_costs_one_segment(data):
    with (data / "segments").open("a") as file:
        file.write("lost call 0 1 2\nwrong call 0 1 A\n")
    *_, lost, wrong = list_items(data)
    with pytest.raises(AudioError, match="no channel 2, it has 2 channels"):
        lost.read(None, RATE)
    with pytest.raises(DataError, match="segments:7: segment channel is no whole number from 0"):
        wrong.read(None, RATE)
