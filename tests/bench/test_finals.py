"""The clock of the stand-in: a final takes what its passes are given, to the millisecond."""

from __future__ import annotations

import argparse

import pytest

from paraformer.api.auto import AutoModel

pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from paraformer.api.service import ServedModel  # isort: skip
from tests.bench import finals  # isort: skip


@pytest.mark.parametrize(
    ("seconds", "waits"),
    [
        (3.6, 150 + 2 * 35),  # six chunks: the last one and the look-ahead behind it are one pass
        (3.7, 185 - 100 + 185),  # the pass of the sixth chunk is not over yet
        (3.9, 185),
    ],
)
def test_a_session_alone_waits_for_its_last_pass(seconds, waits):
    model = ServedModel(AutoModel("paraformer-zh-mini", disable_pbar=True))
    given = argparse.Namespace(pass_ms=150, row_ms=35, seconds=seconds, spread=0.0, rounds=2)
    clock = finals.Clock()
    found = clock.run_until_complete(finals.line(model, given, 1))
    clock.close()
    expected = f"{waits / 1000:.3f}"
    assert found.startswith(f"1 sessions: final median {expected} s, p95 {expected}, ")
