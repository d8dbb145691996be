"""The process of a server."""

from __future__ import annotations

import gc

from tests.serving import Service  # isort: skip
from paraformer.server.run import keep_for_good  # isort: skip

assert Service


def test_garbage_is_not_looked_for_in_what_is_loaded():
    loaded = [[number] for number in range(1000)]
    try:
        keep_for_good()
        assert gc.get_freeze_count() > 1000
        assert not any(each is loaded for each in gc.get_objects())
        later = [1]
        assert any(each is later for each in gc.get_objects())
    finally:
        gc.unfreeze()
