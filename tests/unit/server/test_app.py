"""What operators ask of the server."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from tests.serving import clip, pcm, running, say

from websockets.exceptions import InvalidStatus  # isort: skip


def test_health_and_ready(server):
    assert server.ask("/health").json == {"status": "ok"}
    told = {"model": "paraformer-zh-mini", "streams": True, "speakers": False}
    assert server.ask("/ready").json == {"status": "ready", **told}
    assert server.ask("/nothing").status == 404
    assert server.ask("/v1/audio/transcriptions").status == 405


def test_the_page_asks_nobody_else_and_runs_no_script_but_its_own(served):
    """The token is asked for by what the page calls, and comes as a subprotocol."""
    with running(served, token="k") as server:
        found = server.ask("/")
        policy = found.headers["content-security-policy"]
        (nonce,) = {*re.findall(r"nonce-([\w-]{20,})'", policy)}
        page = found.content.decode()
        assert found.headers["content-type"] == "text/html; charset=utf-8"
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
        tags = re.findall(r"<(?:script|style)\b[^>]*>", page)
        assert tags == [f'<style nonce="{nonce}">', f'<script nonce="{nonce}">']
        assert not re.search(r"https?://|src=|@import|url\(|\son\w+=|innerHTML", page)
        assert server.ask("/").headers["content-security-policy"] != policy
        offered = ["binary", "openai-insecure-api-key.k"]
        with server.connect(subprotocols=offered) as socket:
            assert socket.subprotocol == "binary"
            assert say(socket, b"")[-1]["is_final"]
        for wrong in (["binary"], ["binary", "openai-insecure-api-key.x"]):
            with pytest.raises(InvalidStatus), server.connect(subprotocols=wrong):
                pass


def test_ready_says_no_while_the_server_ends(served):
    with running(served, drain_s=1) as server:
        asyncio.run_coroutine_threadsafe(server.service.sessions.drain(), server.loop).result(9)
        assert (server.ask("/ready").status, server.ask("/health").status) == (503, 200)
        found = server.upload(clip("demo_2").read_bytes())
        assert found.status == 429 and "about to end" in found.json["error"]["message"]


def test_health_answers_while_recordings_are_decoded(server):
    sound = clip("demo_2").read_bytes()
    threads = [threading.Thread(target=server.upload, args=(sound,)) for _ in range(8)]
    with server.service.scheduler._turns.streams():  # none of them can be done
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert server.ask("/health").status == 200
    for thread in threads:
        thread.join()


def test_metrics_count_what_was_done(server):
    before = values(server)
    with server.connect() as socket:
        say(socket, pcm("demo_2"))
        say(socket, pcm("demo_2"), mode="offline")
        during = values(server)
        say(socket, b"", mode="wrong")
    server.upload(clip("demo_2").read_bytes())
    after = values(server)
    seconds = len(pcm("demo_2")) / 32000

    def grown(name):
        return after[name] - before.get(name, 0.0)

    assert abs(grown('funasr_audio_seconds_total{work="stream"}') - seconds) < 1e-3
    assert abs(grown('funasr_audio_seconds_total{work="recording"}') - 2 * seconds) < 1e-3
    assert grown('funasr_requests_total{door="funasr",outcome="ok"}') == 2
    assert grown('funasr_requests_total{door="openai",outcome="ok"}') == 1
    assert grown('funasr_errors_total{kind="invalid_request"}') == 1
    assert grown("funasr_first_word_seconds_count") == 1
    assert grown('funasr_final_seconds_count{door="funasr"}') == 2
    assert during['funasr_sessions{door="funasr"}'] >= 1
    assert after["funasr_backlog_seconds"] == 0.0
    assert grown('funasr_compute_seconds_total{work="stream"}') > 0


def values(server):
    page = server.ask("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    found = re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", page.content.decode(), re.M)
    return {name: float(value) for name, value in found}
