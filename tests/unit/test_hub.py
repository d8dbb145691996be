"""Names of models become directories, without a network."""

from __future__ import annotations

import socket

import pytest

from paraformer import hub
from paraformer.errors import CheckpointError, ConfigError
from tests.conftest import ROOT

MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a name must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_directory_is_used_as_it_is():
    assert hub.find_model(MODEL) == MODEL
    assert hub.find_model(str(MODEL)) == MODEL


def test_a_bundled_name_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "BUNDLED", tmp_path)
    (tmp_path / "small").mkdir()
    with pytest.raises(CheckpointError, match="config.yaml"):
        hub.find_model("small")
    for name in ("config.yaml", "model.pt"):
        (tmp_path / "small" / name).write_text("")
    assert hub.find_model("small") == tmp_path / "small"
    assert hub.bundled_models() == ["small"]


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", r"C:\models\x", "../small"])
def test_an_unknown_name_lists_the_places_looked_in(name):
    with pytest.raises(CheckpointError, match="looked for .*bundled models"):
        hub.find_model(name)


def test_a_released_name_says_what_to_fetch():
    with pytest.raises(CheckpointError, match="fetch iic/speech_seaco"):
        hub.find_model("paraformer-zh")
    with pytest.raises(CheckpointError, match="fetch funasr/paraformer-zh "):
        hub.find_model("paraformer-zh", "hf")


def test_a_file_an_empty_name_and_an_unknown_hub_are_refused():
    with pytest.raises(CheckpointError, match="is a file"):
        hub.find_model(MODEL / "model.pt")
    with pytest.raises(ConfigError, match="empty"):
        hub.find_model(" ")
    with pytest.raises(ConfigError, match="hub=x"):
        hub.find_model("paraformer-zh", "x")
