"""Shared by the tests of audio: the warnings that were given."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture
def warned(caplog):
    """A call that lists the warnings so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]
