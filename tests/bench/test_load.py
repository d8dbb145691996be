"""The load of many live sessions: the words of each, and the line that is printed; the clock is not
looked at.
"""

from __future__ import annotations

import asyncio
import re

from paraformer.api.auto import AutoModel
from tests.serving import MODELS, pcm, running

from paraformer.api.service import ServedModel  # isort: skip
from tests.bench import load  # isort: skip


def test_each_session_begins_at_another_place_of_the_sound():
    sound = bytes(range(8))
    load_rate, load.RATE = load.RATE, 2
    try:
        assert load.turned(sound, 1, 2, 3.0) == bytes([4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7])
    finally:
        load.RATE = load_rate


def test_sessions_side_by_side_are_a_line():
    model = AutoModel("paraformer-zh-mini", **MODELS)
    with running(lambda before: ServedModel(model, before)) as server:
        url = f"ws://127.0.0.1:{server.port}"
        line = asyncio.run(load.measure(url, "2pass", pcm("demo_2"), 2, 1.0))
        session = asyncio.run(load.speak(url, "online", pcm("demo_2")[:64000], 0.0))
    pattern = r"2 sessions: final p95 \d+\.\d{3} s, .* processors: (not )?held"
    assert re.fullmatch(pattern, line)
    assert session.text.startswith("请把") and session.final > 0
