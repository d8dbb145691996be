"""A list that several processes do in parts: their results together are those of one."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from paraformer.cli.main import main
from paraformer.data.corpus.combination import combine
from paraformer.data.corpus.datadir import DataDir
from paraformer.errors import ConfigError, DataError
from paraformer.output.shards import claim
from paraformer.programs.decode import decode
from paraformer.programs.hydra_main import defaults_of
from paraformer.programs.merge_results import merge_results
from paraformer.programs.punctuate import punctuate
from paraformer.programs.segment import segment
from paraformer.shard import Shard
from tests.conftest import ROOT

INPUTS = ROOT / "tests" / "fixtures" / "oracle" / "inputs"
MODEL, VAD = (ROOT / "tests" / "fixtures" / "oracle" / name for name in ("paraformer", "fsmn_vad"))
MARKS = ROOT / "tests" / "fixtures" / "oracle" / "ct_punc"
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


def files(folder):
    """Names and contents of what a run leaves, shards left out."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith("shard.")}


def merge(out, data, *more):
    config = OmegaConf.create({**defaults_of("merge_results"), "out": str(out), "data": str(data)})
    return merge_results(OmegaConf.merge(config, dict(more)))


@pytest.mark.parametrize("form", ["text", "ctm", "srt", "lhotse"])
def test_shards_merged_are_one_run_to_the_byte(form, listed, tmp_path, capsys, caplog):
    one, out = tmp_path / "one", tmp_path / "out"
    given = (f"+input={listed}", f"+output_format={form}", "+pred_timestamp=true")
    assert funasr(*given, f"+output_dir={one}") == 0
    for number in (3, 1, 2):  # in no order, one of them twice
        assert funasr(*given, f"+output_dir={out}", f"+shard={number}/3") == 0
    assert funasr(*given, f"+output_dir={out}", "+shard=1/3", "+resume=true") == 0
    assert merge(out, listed) == 1  # five of six are fewer than 0.95
    assert "1 utterances failed: u5" in caplog.text
    assert files(out) == files(one)
    assert merge(out, listed, ("min_success", 0.8)) == 0
    assert files(out) == files(one)
    capsys.readouterr()
    assert funasr(*given, f"+output_dir={out}", "+resume=true") == 0  # it is as of one run
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] in ([], ["u5"])


def test_the_command_merges_as_the_program_does(listed, tmp_path, capsys):
    one, out = tmp_path / "one", tmp_path / "out"
    for place, more in ((one, ()), (out, ("+shard=2/2",)), (out, ("+shard=1/2",))):
        assert funasr(f"+input={listed}", f"+output_dir={place}", *more) == 0
    names = [("+min_success=0.8", "input=", "+output_dir=")]
    names += [("--min-success", "0.8", "data=", "out=")]
    for *least, given, place in names:
        (out / "failed").unlink(missing_ok=True)
        assert main(["merge", *least, f"{given}{listed}", f"{place}{out}"]) == 0
        assert files(out) == files(one)
    assert main(["merge", str(listed), f"+output_dir={out}"]) == 1  # five of six
    capsys.readouterr()
    assert main(["merge", str(listed)]) == 1
    assert "merge: give input=LIST, that of the shards, and output_dir=" in capsys.readouterr().err
    assert main(["merge", str(listed), "+out_dir=x"]) == 1
    assert "unknown key 'out_dir'; did you mean 'output_dir'?" in capsys.readouterr().err
    assert main(["merge", "--help"]) == 0
    assert "  min_success=0.95 " in capsys.readouterr().out


def test_what_is_missing_is_named(listed, tmp_path, caplog):
    out = tmp_path / "out"
    assert funasr(f"+input={listed}", f"+output_dir={out}", "+shard=1/3") == 0
    assert merge(out, listed, ("min_success", 0.0)) == 0
    lacking = [key for key in KEYS if not Shard(1, 3).holds(key)]
    assert rows(out / "missing") == lacking
    assert "not there: shards 2 3" in caplog.text and f"missing: {lacking[0]}" in caplog.text
    with listed.open("w") as file:
        file.write("u0 x.wav\n")
    with pytest.raises(DataError, match="is not in the list; give that of the shards"):
        merge(out, listed)


def test_shards_that_were_made_otherwise_are_not_merged(listed, tmp_path):
    out = tmp_path / "out"
    for number in (1, 2):
        given = (f"+input={listed}", f"+output_dir={out}", f"+shard={number}/2")
        assert funasr(*given, f"+max_segment_s={number + 10}") == 0
    with pytest.raises(ConfigError, match="made otherwise .max_segment_s was 12.0, is 11.0"):
        merge(out, listed)
    with pytest.raises(ConfigError, match="holds no results of shards"):
        merge(tmp_path, listed)


def test_a_shard_that_was_killed_goes_on(listed, tmp_path):
    """SIGKILL, in the middle of its list: the next start does the rest."""
    one, out = tmp_path / "one", tmp_path / "out"
    assert funasr(f"+input={listed}", f"+output_dir={one}") == 0
    plain = listed.read_text()
    rest = plain.splitlines(keepends=True)
    listed.write_text("".join([*rest[:2], f"{KEYS[2]} sleep 200; false |\n", *rest[3:]]))
    given = [f"+input={listed}", f"+output_dir={out}", "+shard=1/1", "+resume=true"]
    door = [sys.executable, str(ROOT / "bin" / "funasr.py"), f"+model={MODEL}", "+device=cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*door, *given, "+batch_size_s=0.1"], **pipes) as process:
        assert [process.stdout.readline().split()[0].decode() for _ in range(2)] == KEYS[:2]
        with pytest.raises(ConfigError, match="another process writes this shard"):
            claim(out, Shard(1, 1))
        process.kill()
    listed.write_text(plain)
    (tmp_path / "out/shard.1/1best_recog/text").open("a").write("u2 half")
    assert funasr(*given) == 0
    assert merge(out, listed, ("min_success", 0.8)) == 0
    assert files(out) == files(one)


def test_a_shard_that_is_written_is_neither_written_twice_nor_merged(listed, tmp_path, capsys):
    """And parts of another number are not, even if they began before anything said the number."""
    out, given = tmp_path / "out", (f"+input={listed}", f"+output_dir={tmp_path / 'out'}")
    assert funasr(*given, "+shard=1/2") == 0
    mine = claim(out, Shard(2, 2))
    assert funasr(*given, "+shard=2/2") == 1
    assert "shard.2: another process writes this shard" in capsys.readouterr().err
    mine.close()
    assert funasr(*given, "+shard=2/2") == 0
    assert funasr(*given, "+shard=3/3") == 1
    assert "is one of 2 shards, not of 3" in capsys.readouterr().err
    mine = claim(out, Shard(1, 2))
    with pytest.raises(ConfigError, match="shard.1: another process writes this shard"):
        merge(out, listed)
    mine.close()
    assert merge(out, listed, ("min_success", 0.8)) == 0
    before = files(out)
    assert funasr(f"+input={listed}", f"+output_dir={tmp_path}", "+shard=3/3") == 0
    (tmp_path / "shard.3").rename(out / "shard.3")
    with pytest.raises(ConfigError, match="is one of . shards, not of"):
        merge(out, listed)
    assert files(out) == before


@pytest.mark.parametrize("form", ["text", "json", "ctm", "vtt"])
def test_programs_have_shards_too(form, tmp_path):
    """With segments, whose times and files are of whole recordings."""
    data = tmp_path / "data"
    data.mkdir()
    clips = {f"r{x}": INPUTS / f"clip_{x}.flac" for x in "abc"} | {"rx": tmp_path / "lost.wav"}
    (data / "wav.scp").write_text("".join(f"{key} {path}\n" for key, path in clips.items()))
    cuts = [(f"{key}-{n}", key, n * 0.4, n * 0.4 + 0.4) for key in clips for n in (0, 1)]
    (data / "segments").write_text("".join(f"{k} {r} {a} {b}\n" for k, r, a, b in cuts))
    values = {**defaults_of("decode"), "model": str(MODEL), "data": str(data), "min_success": 0}
    values |= {"output_format": form, "pred_timestamp": True, "device": "cpu"}
    one, out = tmp_path / "one", tmp_path / "out"
    for place, shard in ((one, ""), (out, "2/2"), (out, "1/2")):
        assert decode(OmegaConf.create({**values, "out": str(place), "shard": shard})) == 0
    assert merge(out, data, ("min_success", 0.5)) == 0
    ours, theirs = files(out), files(one)
    assert ours.keys() == theirs.keys()
    counts = [json.loads(found.pop("stats.json")) for found in (ours, theirs)]
    assert [c["decoded"] for c in counts] == [6, 6] and len({c["utterances"] for c in counts}) == 1
    for name in {"score", "results.jsonl"} & ours.keys():  # confidences are alike to 1e-4
        rounded = [re.sub(rb"(\.\d{3})\d+", rb"\1", found.pop(name)) for found in (ours, theirs)]
        assert rounded[0] == rounded[1], name
    assert ours == theirs


@pytest.mark.parametrize("lines", ["u2 今天\tOK\nu1 你好\nu3\n", "今天天气怎么样\n\n你好吗\n"])
def test_texts_have_shards_too(lines, tmp_path):
    """A table of texts as of one run, and plain lines by their numbers."""
    text, one, out = (tmp_path / name for name in ("l.txt", "one", "out"))
    text.write_text(lines, "utf-8")
    values = {**defaults_of("punctuate"), "model": str(MARKS), "text": str(text)}
    assert punctuate(OmegaConf.create({**values, "out": str(one)})) == 0
    for shard in ("1/2", "2/2"):
        more = {"out": str(out), "shard": shard, "resume": True}
        assert punctuate(OmegaConf.create({**values, **more})) == 0
    assert merge(out, text) == 0
    made = [row.partition(" ") for row in rows(out / "text")]
    if lines.startswith("u2"):
        assert rows(out / "text") == rows(one)
    else:
        assert [(key, said) for key, _, said in made] == [
            (f"text_{n}", row) for n, row in enumerate(rows(one), 1) if row
        ]
    with pytest.raises(ConfigError, match="resume: goes on in the folder of a shard"):
        punctuate(OmegaConf.create({**values, "out": str(one), "resume": True}))
    given = (f"+model={MARKS}", f"+input={text}", f"+output_dir={tmp_path / 'command'}")
    assert [main([*given, "+device=cpu", f"+shard={n}/2"]) for n in (1, 2)] == [0, 0]
    assert main(["merge", str(text), given[-1]]) == 0
    assert sorted(rows(tmp_path / "command/1best_recog/text")) == rows(out / "text")


def test_shards_of_a_segmentation_are_data_directories(listed, tmp_path):
    """Which utils/combine_data.py puts together: as of one run."""
    values = {**defaults_of("segment"), "model": str(VAD), "data": str(listed), "min_success": 0}
    one, out = tmp_path / "one", tmp_path / "out"
    for place, shard in ((one, ""), (out, "1/2"), (out, "2/2")):
        assert segment(OmegaConf.create({**values, "out": str(place), "shard": shard})) == 0
    with pytest.raises(ConfigError, match="give them to utils/combine_data.py"):
        merge(out, listed)
    combine(tmp_path / "all", [DataDir(out / "shard.1"), DataDir(out / "shard.2")])
    for name in ("wav.scp", "segments", "utt2dur"):
        assert (tmp_path / "all" / name).read_bytes() == (one / name).read_bytes(), name
