"""The folder of a shard has one writer, and the shards of one folder one number."""

from __future__ import annotations

import pytest

from paraformer.errors import ConfigError
from paraformer.output.resume import Made
from paraformer.output.shards import claim, shard_folders
from paraformer.shard import Shard


def test_a_folder_is_claimed_once(tmp_path):
    mine = claim(tmp_path, Shard(1, 2))
    with pytest.raises(ConfigError, match=r"shard\.1: another process writes this shard"):
        claim(tmp_path, Shard(1, 2))
    claim(tmp_path, Shard(2, 2)).close()
    mine.close()
    claim(tmp_path, Shard(1, 2)).close()


def test_parts_of_another_number_are_refused(tmp_path):
    claim(tmp_path, Shard(3, 4)).close()
    Made({"shard": "3/4"}, {}).write(tmp_path / "shard.3")
    for shard in (Shard(1, 2), Shard(3, 5)):
        with pytest.raises(ConfigError, match=r"is one of 4 shards, not of .; go on with"):
            claim(tmp_path, shard)
    claim(tmp_path, Shard(1, 4)).close()


def test_folders_of_shards_are_found_by_their_numbers(tmp_path):
    for name in ("shard.10", "shard.9", "shard.x", "shard.01", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "shard.3").write_text("")
    assert [*shard_folders(tmp_path)] == [9, 10]
