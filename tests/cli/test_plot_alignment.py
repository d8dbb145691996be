"""bin/plot_alignment.py: what is drawn is what the model says, and the picture is one."""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from paraformer.data.audio.read import read_audio
from paraformer.decode.align import ForcedAligner
from paraformer.decode.recognize import Recognizer
from paraformer.errors import ConfigError, ParaformerError
from paraformer.models.release import load_aligner, load_directory
from paraformer.programs.plot_alignment import plot_alignment
from paraformer.report.alignment_plot import (
    FIRED,
    draw,
    picture_of_alignment,
    picture_of_recognition,
)
from paraformer.report.figures import FONTS, Look
from tests.conftest import ROOT

get_data_path = pytest.importorskip("matplotlib").get_data_path
ORACLE = ROOT / "tests" / "fixtures" / "oracle"
CLIP = ORACLE / "inputs" / "clip_a.flac"
FACTS = json.loads((ORACLE / "fa-zh" / "expected.json").read_text(encoding="utf-8"))["utt"]
TEXT = FACTS["clip_a"]["text"]


@pytest.fixture(scope="module")
def wave():
    return read_audio(CLIP, target_fs=16000)


@pytest.fixture(scope="module")
def aligned(wave):
    return picture_of_alignment(ForcedAligner(load_aligner(ORACLE / "fa-zh")), wave, TEXT)


def fires_of(figure):
    """Times of the marks drawn over the weights, those of tokens and that of the end."""
    lines = {line.get_label(): line.get_xdata() for line in figure.axes[1].lines}
    return list(lines["fire"]), list(lines["end"])


def rules_of(axes):
    """Times of the upright lines."""
    upright = [line for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    return [line.get_xdata()[0] for line in upright if line.get_color() == FIRED]


def test_each_token_of_the_text_has_a_fire_and_the_times_of_the_reference(aligned):
    (expected,) = FACTS["clip_a"]["result"]
    figure = draw(aligned, Look())
    fires, end = fires_of(figure)
    assert len(fires) == len(aligned.tokens) == len(expected["timestamp"])
    assert len(end) == 1 and fires == sorted(fires)
    for span, (start, _) in zip(aligned.tokens, expected["timestamp"], strict=True):
        assert abs(1000 * span.start - start) <= 1
    # A token begins one and a half steps of 20 ms before it fires.
    assert fires == pytest.approx([span.start + 0.03 for span in aligned.tokens], abs=1e-6)
    assert rules_of(figure.axes[0]) == rules_of(figure.axes[1]) == fires
    labels = [text.get_text() for text in figure.axes[2].texts]
    assert labels == expected["text"].split()
    # Scaled to fire the tokens and the end.
    assert float(aligned.weights.sum()) == pytest.approx(len(fires) + 1, abs=1e-4)


@pytest.mark.parametrize("name", ["bicif", "paraformer", "seaco"])
def test_a_recogniser_shows_what_it_heard(name, wave):
    recognizer = Recognizer(load_directory(ORACLE / name))
    picture = picture_of_recognition(recognizer, wave)
    (outcome,) = recognizer.recognize([wave])
    fires, _ = fires_of(draw(picture, Look()))
    assert len(fires) == len(picture.tokens) == len(outcome.best.tokens)
    if outcome.best.token_times:
        ours = [1000 * span.start for span in picture.tokens]
        assert ours == pytest.approx([start for start, _ in outcome.best.token_times], abs=1)


@pytest.mark.parametrize("sound", ["waveform", "fbank"])
def test_all_of_the_sound_is_drawn(aligned, sound):
    top = draw(aligned, Look("标题", 0.2, 1.0), sound).axes[0]
    if sound == "fbank":
        (image,) = top.images
        assert image.get_array().shape == (80, len(aligned.fbank))
        assert image.get_extent()[1] == pytest.approx(aligned.seconds, abs=0.03)
    else:
        assert top.lines[0].get_ydata().tolist() == aligned.wave.tolist()
    assert top.get_xlim() == (0.2, 1.0)


def settings(out, **given):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "plot_alignment.yaml")
    fixed = {"model": str(ORACLE / "fa-zh"), "wav": str(CLIP), "out": str(out), "device": "cpu"}
    return OmegaConf.merge(config, fixed, given)


def test_the_picture_has_its_size(tmp_path, caplog):
    out = tmp_path / "new" / "a.png"
    with caplog.at_level(logging.INFO):
        assert plot_alignment(settings(out, text=TEXT, width=7.5, height=4, dpi=100)) == 0
    head = out.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (750, 400)
    assert f"{len(TEXT.replace(' ', ''))} tokens" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "an aligner needs what was said"),
        ({"text": "好", "model": str(ORACLE / "bicif")}, "leave it out"),
        ({"text": TEXT, "sound": "noise"}, "use waveform or fbank"),
        ({"text": TEXT, "begin": 9.0}, "give two times in order"),
        ({"text": TEXT, "font": "no.ttf"}, "font=no.ttf: no such file"),
        ({"text": TEXT, "font": __file__}, "test_plot_alignment.py: is no font"),
        ({"text": TEXT, "dpi": 0}, "dpi=0"),
        ({"text": "none.txt"}, "none.txt: no such file"),
    ],
)
def test_a_mistake_is_an_error(tmp_path, given, message):
    with pytest.raises(ParaformerError, match=message):
        plot_alignment(settings(tmp_path / "a.png", **given))
    with pytest.raises(ConfigError, match=r"out=.*a\.xyz"):
        plot_alignment(settings(tmp_path / "a.xyz", text=TEXT, dpi=20))


def test_signs_that_no_font_has_are_told(aligned, monkeypatch, caplog):
    monkeypatch.setattr("paraformer.report.figures.FONTS", ())
    draw(aligned, Look())
    assert "apt-get install fonts-noto-cjk, or give font=FILE" in caplog.text


@pytest.mark.parametrize("given", [True, False])
def test_signs_without_a_font_are_told_once(tmp_path, monkeypatch, recwarn, caplog, given):
    monkeypatch.setattr("paraformer.report.figures.FONTS", ())
    font = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    more = {"font": str(font)} if given else {}
    assert plot_alignment(settings(tmp_path / "a.png", text=TEXT, dpi=20, **more)) == 0
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
    assert caplog.text.count("boxes stand for them") == 1


def test_a_font_that_came_after_the_list_was_made_is_found(aligned, monkeypatch, caplog):
    """matplotlib keeps its list of fonts in a file and reads that until it is told otherwise."""
    from matplotlib.font_manager import fontManager

    files = {font.fname for font in fontManager.ttflist if font.name in FONTS}
    if not files:
        pytest.skip("no font with Chinese signs is installed: apt-get install fonts-noto-cjk")
    rest = [font for font in fontManager.ttflist if font.fname not in files]
    monkeypatch.setattr(fontManager, "ttflist", rest)
    draw(aligned, Look())
    assert caplog.text == ""
    assert files <= {font.fname for font in fontManager.ttflist}
