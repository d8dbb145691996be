"""The load of many live sessions: the words of each, and the line that is printed; the clock is not
looked at.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial

import numpy as np

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
        line = asyncio.run(
            load.measure(url, partial(load.FunASRSpeech, "2pass"), pcm("demo_2"), 2, 1.0)
        )
        session = asyncio.run(
            load.speak(url, load.FunASRSpeech("online"), pcm("demo_2")[:64000], 0.0)
        )
    pattern = r"2 sessions: final p95 \d+\.\d{3} s, .* processors: (not )?held"
    assert re.fullmatch(pattern, line)
    assert session.text.startswith("请把") and session.final > 0


def test_the_words_of_sherpa_onnx_come_as_whole_segments():
    speech = load.SherpaSpeech()
    told = ('{"text": "今", "segment": 0}', '{"text": "今天", "segment": 0}', "Done!")
    assert [speech.heard(message) for message in told] == [("今", False), ("天", False), ("", True)]
    assert speech.heard('{"text": "好", "segment": 1}') == ("好", False)
    sent = np.frombuffer(speech.block(np.array([16384, -32768], "<i2").tobytes()), "<f4")
    assert sent.tolist() == [0.5, -1.0]
