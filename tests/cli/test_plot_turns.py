"""bin/plot_turns.py: each speaker has a colour, a lane and the turns of the RTTM."""

from __future__ import annotations

import numpy as np
import pytest
from omegaconf import OmegaConf

from paraformer.errors import ConfigError, ParaformerError
from paraformer.programs.plot_turns import plot_turns
from tests.conftest import ROOT

pytest.importorskip("matplotlib")
from matplotlib.colors import to_hex  # noqa: E402

from paraformer.report.figures import Look  # noqa: E402
from paraformer.report.turns_plot import COLOURS, NOBODY, draw_turns, envelope  # noqa: E402

CLIP = ROOT / "tests/fixtures/oracle/inputs/clip_a.flac"
TURNS = [(0.0, 0.5, "A"), (0.5, 1.0, "B"), (1.5, 2.0, "A")]
RTTM = """SPEAKER clip_a 1 0.0 0.5 <NA> <NA> A <NA> <NA>
SPEAKER clip_a 1 0.5 0.5 <NA> <NA> B <NA> <NA>
"""


def bars_of(axes):
    """Start and end of each bar, lane by lane."""
    boxes = [[path.get_extents() for path in lane.get_paths()] for lane in axes.collections]
    return [[(round(box.x0, 3), round(box.x1, 3)) for box in lane] for lane in boxes]


def test_the_sound_has_the_colours_of_its_speakers_and_each_a_lane():
    wave = np.sin(np.arange(3 * 8000))
    figure = draw_turns(wave, 8000, {"found": TURNS, "true": [(0.0, 3.0, "B")]}, Look("who"))
    sound, found, true = figure.axes
    assert bars_of(found) == [[(0.0, 0.5), (1.5, 2.0)], [(0.5, 1.0)]]
    assert [label.get_text() for label in found.get_yticklabels()] == ["A", "B"]
    # One colour a speaker, in each table.
    assert to_hex(found.collections[1].get_facecolor()[0]).upper() == COLOURS[1].upper()
    assert to_hex(true.collections[0].get_facecolor()[0]).upper() == COLOURS[1].upper()
    (lines,) = sound.collections
    times = np.array([segment[0][0] for segment in lines.get_segments()])
    drawn = np.array([to_hex(colour) for colour in lines.get_colors()])
    for middle, colour in ((0.25, COLOURS[0]), (0.75, COLOURS[1]), (1.25, NOBODY), (2.5, NOBODY)):
        assert drawn[np.abs(times - middle).argmin()] == colour.lower()
    assert (sound.get_title(), sound.get_xlim()) == ("who", (0.0, 3.0))


def test_a_long_recording_is_an_envelope_of_few_columns():
    low, high = envelope(np.tile([1.0, -1.0], 50_000), 2000)
    assert len(low) == len(high) == 2000
    assert set(low) == {-1.0} and set(high) == {1.0}


def settings(out, **given):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "plot_turns.yaml")
    return OmegaConf.merge(config, {"wav": str(CLIP), "out": str(out), "dpi": 20, **given})


def test_a_program_draws_an_rttm(tmp_path):
    (tmp_path / "rttm").write_text(RTTM)
    out = tmp_path / "new" / "turns.svg"
    given = {"hyp": str(tmp_path / "rttm"), "ref": str(tmp_path / "rttm")}
    assert plot_turns(settings(out, **given)) == 0
    assert "<svg" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"key": "c"}, "rttm: has no turns of 'c'; give key=, one of: clip_a, other$"),
        ({"begin": 9.0}, "give two times in order"),
        ({"dpi": 0}, "dpi=0"),
        ({"wav": "none.wav", "key": "other"}, "none.wav: No such file"),
    ],
)
def test_a_mistake_is_an_error(tmp_path, given, message):
    (tmp_path / "rttm").write_text(RTTM + RTTM.replace("clip_a", "other"))
    with pytest.raises(ParaformerError, match=message):
        plot_turns(settings(tmp_path / "a.png", hyp=str(tmp_path / "rttm"), **given))


def test_turns_of_nobody_and_an_unknown_format_are_errors(tmp_path):
    (tmp_path / "rttm").write_text(RTTM)
    with pytest.raises(ConfigError, match=r"out=.*a\.xyz"):
        plot_turns(settings(tmp_path / "a.xyz", hyp=str(tmp_path / "rttm")))
    with pytest.raises(ParaformerError, match="nobody speaks"):
        draw_turns(np.zeros(8000), 8000, {"found": []}, Look())
