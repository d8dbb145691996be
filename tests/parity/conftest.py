"""Fixtures of the parity tests; `oracle` takes its place from the test module."""

from __future__ import annotations

import pytest

from tests.parity.oracle import load_oracle, read_lessons, recognise


@pytest.fixture(scope="module")
def oracle(request):
    return load_oracle(request.param)


@pytest.fixture(scope="module")
def decoded(oracle):
    """Stages of recognition of all recordings in one padded batch, from the stored features."""
    return dict(zip(oracle.tags, recognise(oracle, oracle.recorded_feats()), strict=True))


@pytest.fixture(scope="module")
def heard(oracle):
    """The same from the recordings, by our own frontend."""
    return dict(zip(oracle.tags, recognise(oracle, oracle.feats()), strict=True))


@pytest.fixture(scope="module")
def lessons(oracle):
    return read_lessons(oracle)
