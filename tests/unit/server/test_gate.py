"""Who may come in."""

from __future__ import annotations

import pytest

from paraformer.errors import ConfigError
from paraformer.options import ServeOptions
from tests.serving import running

from paraformer.server.gate import check_exposure, origin_fits, token_fits  # isort: skip
from paraformer.server.web import Headers  # isort: skip


@pytest.mark.parametrize(
    ("given", "fits"),
    [("Bearer k", True), ("Bearer; k", True), ("bearer  k ", True), ("Bearer K", False)]
    + [("k", False), ("", False), (None, False), ("Basic k", False), ("Bearer ké", False)],
)
def test_a_token_fits_in_both_spellings(given, fits):
    assert token_fits(given, "k") is fits
    assert token_fits(given, "")  # none is asked for


@pytest.mark.parametrize(
    ("origin", "host", "token", "fits"),
    [
        (None, "x.org", "", True),
        ("http://127.0.0.1:80", "127.0.0.1:80", "", True),
        ("http://localhost:1", "localhost:1", "", True),
        ("http://localhost:2", "localhost:1", "", False),
        # A name that leads here for a moment, as in DNS rebinding.
        ("http://evil.org", "evil.org", "", False),
        ("https://own.org", "own.org", "k", True),
        ("https://friend.org", "own.org", "k", True),
        ("null", "own.org", "k", False),
    ],
)
def test_pages_of_others_do_not_call(origin, host, token, fits):
    headers = Headers({"host": host, **({"origin": origin} if origin else {})})
    options = ServeOptions(token=token, origins=["https://friend.org"])
    assert origin_fits(headers, options) is fits


def test_other_machines_are_served_by_token_or_where_that_is_wanted():
    check_exposure(ServeOptions(host="localhost"))
    check_exposure(ServeOptions(host="0.0.0.0", token="k"))
    check_exposure(ServeOptions(host="0.0.0.0", insecure=True))
    for options in (ServeOptions(host="0.0.0.0"), ServeOptions(host="::", keyfile="k")):
        with pytest.raises(ConfigError, match="give token="):
            check_exposure(options)
    with pytest.raises(ConfigError, match="certfile"):
        check_exposure(ServeOptions(keyfile="k"))


def test_every_answer_has_the_id_of_its_request(server):
    own = server.ask("/v1/models", headers={"X-Request-Id": "mine-1"})
    assert own.headers["x-request-id"] == "mine-1"
    found = {server.ask("/v1/models").headers["x-request-id"] for _ in range(2)}
    assert len(found) == 2 and all(len(each) == 32 for each in found)
    strange = server.ask("/v1/models", headers={"X-Request-Id": "a b;c"})
    assert len(strange.headers["x-request-id"]) == 32


def test_pages_that_are_allowed_may_read_the_answer(served):
    with running(served, origins=["https://friend.org"]) as server:
        for origin, name in (("https://friend.org", "https://friend.org"), ("https://x.org", None)):
            found = server.ask("/v1/models", headers={"Origin": origin})
            assert found.headers.get("access-control-allow-origin") == name
            assert found.status == (200 if name else 403)
