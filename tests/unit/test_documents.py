"""JSON and YAML of any content give a value, or one line that says why not."""

from __future__ import annotations

import json

import pytest
import yaml

from paraformer.documents import MOST_LEVELS, load_yaml, parse_json, parse_yaml
from paraformer.errors import CheckpointError, ConfigError
from paraformer.models.release import read_config

DEEP = 100_000


@pytest.mark.parametrize("value", [None, 3, "a", [1, {"b": [2.5, True]}], {"a": {}, "b": []}])
def test_ordinary_values_are_those_of_the_libraries(value):
    assert parse_json(json.dumps(value)) == value
    assert parse_yaml(yaml.safe_dump(value)) == value


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "[1", "", b"\xff", "{'a': 1}"])
def test_what_is_no_json_is_one_line(text):
    with pytest.raises(ValueError) as raised:
        parse_json(text)
    assert str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2000,
        "a: [1\nb: 2",
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: 2026-02-30",
        "\n".join(["a0: &a0 [1]"] + [f"a{i + 1}: &a{i + 1} [{f'*a{i},' * 30}]" for i in range(5)]),
        "- " * (MOST_LEVELS + 1) + "1",
    ],
)
def test_yaml_without_end_is_one_line(text, tmp_path):
    """References to what they stand in, and those that multiply, with the sizes of a few words."""
    with pytest.raises(ValueError) as raised:
        parse_yaml(text)
    assert str(raised.value) and "\n" not in str(raised.value)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="is not YAML"):
        load_yaml(tmp_path / "config.yaml")
    with pytest.raises(CheckpointError, match="is not YAML"):
        read_config(tmp_path, {})


def test_shared_parts_of_a_yaml_file_are_read():
    assert parse_yaml("a: &a {b: 1}\nc: *a") == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_listing_without_end_is_one_line(tmp_path):
    (tmp_path / "config.yaml").write_text("model: Paraformer")
    (tmp_path / "configuration.json").write_text('{"file_path_metas":' * DEEP)
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        read_config(tmp_path, {})
