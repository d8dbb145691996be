"""When `funasr` says that the bundled model is small, and that the figure is that of its card."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from paraformer.cli.remarks import REAL_CER, SmallModel
from paraformer.hub.directories import BUNDLED
from paraformer.options import DEFAULT_MODEL

SURE = {"words": [{"confidence": 0.9}, {"confidence": 0.5}]}
UNSURE = {"words": [{"confidence": 0.2}, {"confidence": 0.6}]}


@pytest.mark.parametrize(
    ("model", "named", "result", "said"),
    [
        (DEFAULT_MODEL, False, SURE, True),
        (DEFAULT_MODEL, True, SURE, False),
        (DEFAULT_MODEL, True, UNSURE, True),
        (DEFAULT_MODEL, True, {"error": "no sound"}, False),
        (DEFAULT_MODEL, True, {"words": [{"text": "好"}]}, False),
        ("exp/mine", True, UNSURE, False),
    ],
)
def test_it_is_said_where_the_model_was_not_chosen_or_is_unsure(
    capsys, monkeypatch, model, named, result, said
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    small = SmallModel(model, named)
    small.add(result)
    small.say()
    assert ("+model=paraformer-zh is" in capsys.readouterr().err) is said


def test_nothing_is_said_into_a_file_or_where_silence_is_asked_for(capsys, monkeypatch):
    SmallModel(DEFAULT_MODEL, False).say()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(logging.root, "level", logging.ERROR)
    SmallModel(DEFAULT_MODEL, False).say()
    assert capsys.readouterr().err == ""


def test_the_figure_is_that_of_the_card():
    card = (BUNDLED / DEFAULT_MODEL / "README.md").read_text("utf-8")
    (figure,) = re.findall(r"^\| 74 real read sentences .*? \| ([\d.]+) %", card, re.MULTILINE)
    assert round(float(figure)) == REAL_CER
