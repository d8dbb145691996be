"""What many clients and long ones are promised, by a few and for seconds; no clock is looked at."""

from __future__ import annotations

import asyncio
import os

import pytest

from paraformer.api.auto import AutoModel
from tests.serving import MODELS, running

from paraformer.api.service import ServedModel  # isort: skip
from tests.bench import soak  # isort: skip


@pytest.fixture(scope="module")
def load():
    model = AutoModel("paraformer-zh-mini", **MODELS)
    return lambda before: ServedModel(model, before)


@pytest.fixture(scope="module")
def server(load):
    with running(load) as found:
        found.url = f"ws://127.0.0.1:{found.port}"
        yield found


def test_sessions_at_once_in_blocks_of_any_size_are_each_alone(server):
    """Online and 2pass, text and times."""
    facts = asyncio.run(soak.together(server.url, 8, 0))
    assert facts["different"] == [] and not facts["broken"]


def test_one_time_or_a_partial_that_is_another_is_a_difference():
    said = {"mode": "2pass-online", "text": "你好"}
    sentence = {"mode": "2pass-offline", "text": "你好。", "timestamp": "[[0,9]]"}
    one = soak.told([said, sentence])
    assert soak.agree(one, soak.told([{**said, "text": "你"}, sentence]))
    assert not soak.agree(one, soak.told([{**said, "text": "您"}, sentence]))
    assert not soak.agree(one, soak.told([said, {**sentence, "timestamp": "[[0,8]]"}]))
    word = {"mode": "online", "text": "你"}
    assert soak.agree(soak.told([word, word]), soak.told([{**word, "text": "你你"}]))
    assert not soak.agree(soak.told([word, word]), soak.told([word]))


def test_clients_of_every_kind_leave_the_server_as_it_was(server):
    facts = asyncio.run(soak.short(server.port, os.getpid(), 30, 15))
    assert (facts["wrong"], facts["left"], len(facts["mb"])) == ([], {}, 3)


def test_the_surplus_is_refused_and_the_rest_complete(load):
    with running(load, max_sessions=3) as server, running(load) as idle:
        urls = [f"ws://127.0.0.1:{each.port}" for each in (server, idle)]
        facts = asyncio.run(soak.surplus(urls[0], 3, urls[1]))
    assert (facts["refused"], facts["texts"]) == (3, ["请把窗户关上外面的风太大了。"])


def test_health_is_asked_while_files_are_decoded(server):
    facts = asyncio.run(soak.files(server.port, 2, 3.0, server.port))
    assert facts["asked"] > 0


def test_what_is_said_again_and_again_has_the_same_text_and_times_that_do_not_drift(server):
    facts = asyncio.run(soak.long(server.url, os.getpid(), 0.01))
    assert (facts["sentences"], facts["drift_ms"]) == (facts["rounds"], 0)
    assert facts["texts"] == ["请把窗户关上外面的风太大了。"] and facts["last_word_ms"] > 30_000
