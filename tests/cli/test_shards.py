"""A list that several processes do in parts: their results together are those of one."""

from __future__ import annotations

import pytest

from paraformer.cli.main import main
from paraformer.shard import Shard
from tests.conftest import ROOT

INPUTS = ROOT / "tests" / "fixtures" / "oracle" / "inputs"
MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"
KEYS = [f"u{n}" for n in range(6)]


@pytest.fixture
def listed(tmp_path):
    """A list of a few clips, of which one is broken."""
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    path = tmp_path / "l.scp"
    sources = [*(INPUTS / f"clip_{x}.flac" for x in "abcab"), tmp_path / "broken.wav"]
    path.write_text("".join(f"{k} {s}\n" for k, s in zip(KEYS, sources, strict=True)))
    return path


def funasr(*arguments):
    return main([f"+model={MODEL}", "+device=cpu", "+min_success=0", *map(str, arguments)])


def rows(path):
    return path.read_text("utf-8").splitlines() if path.exists() else []


def test_each_shard_has_its_part_of_the_list(listed, tmp_path, capsys):
    out = tmp_path / "out"
    for number in (1, 2):
        assert funasr(f"+input={listed}", f"+output_dir={out}", f"+shard={number}/2") == 0
        done = [row.split()[0] for row in rows(out / f"shard.{number}/1best_recog/text")]
        assert done == [key for key in KEYS if Shard(number, 2).holds(key)]
    assert funasr(f"+input={listed}", f"+output_dir={tmp_path / 'one'}") == 0
    for name in ("1best_recog/text", "1best_recog/token", "failed"):
        parts = sum((rows(out / f"shard.{n}" / name) for n in (1, 2)), [])
        assert sorted(parts) == sorted(rows(tmp_path / "one" / name)), name
    capsys.readouterr()
    more = (f"+input={listed}", f"+output_dir={out}", "+resume=true")
    assert funasr(*more, "+shard=1/3") == 1
    assert "is one of 2 shards, not of 3" in capsys.readouterr().err
    assert funasr(*more, "+shard=1/2") == 0


def test_a_part_is_of_a_list(listed, tmp_path, capsys):
    assert funasr(INPUTS / "clip_a.flac", "+shard=1/2") == 1
    assert "shard: is a part of a list" in capsys.readouterr().err
    assert funasr(f"+input={listed}", "+shard=3/2") == 1
    assert "shard=3/2: is number 3 of 2" in capsys.readouterr().err
