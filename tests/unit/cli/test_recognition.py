"""The counts that `funasr` reports; recognition itself is tested in tests/cli/test_funasr.py."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from paraformer.cli.recognition import TALKERS, Counts


@pytest.mark.parametrize("name", TALKERS)
def test_loggers_are_called_after_modules_that_there_are(name):
    assert find_spec(name) is not None


FACTOR = "4.0 s of audio in 1.00 s: real-time factor 0.250"


@pytest.mark.parametrize(
    ("failures", "verbose", "said"),
    [
        (0, False, ""),
        (1, False, "recognised 1 of 2 utterances\n"),
        (
            0,
            True,
            f"recognised 2 of 2 utterances, {FACTOR}\n",
        ),
    ],
)
def test_what_is_counted_is_said_where_it_matters(capsys, failures, verbose, said):
    counts = Counts()
    for number in range(2):
        counts.add({"error": "x"} if number < failures else {"audio_seconds": 2.0})
    counts.report(1.0, verbose)
    assert capsys.readouterr() == ("", said)
