"""egs/steps/make_fbank.sh and compute_cmvn_stats.sh, with stand-ins for the programs they call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paraformer.data.corpus.tables import read_table, write_table

pytestmark = pytest.mark.cli

ROOT = Path(__file__).resolve().parents[2]
# Writes the tables that make_fbank.py would, but for utterances whose name holds "bad".
MAKE_FBANK = """#!{python}
import sys
from pathlib import Path
keys = dict(word.split("=", 1) for word in sys.argv[1:])
data, stem = Path(keys["data"]), keys["out"] + "/" + keys["name"]
source = data / ("segments" if (data / "segments").exists() else "wav.scp")
names = [line.split()[0] for line in source.read_text().splitlines()]
speeds = keys["speeds"].strip("[]").split(",")
names = [n if s == "1.0" else f"sp{{s}}-{{n}}" for n in names for s in speeds if "bad" not in n]
Path(keys["out"]).mkdir(parents=True, exist_ok=True)
Path(stem + ".scp").write_text("".join(f"{{n}} {{stem}}.ark:9\\n" for n in sorted(names)))
Path(stem + ".utt2num_frames").write_text("".join(f"{{n}} 50\\n" for n in sorted(names)))
Path(stem + ".ark").write_text("0123456789")
print(*sys.argv[1:])
sys.exit(0 if names else 1)
"""

# Writes a word for each segment, with the names of the tables that the part has.
DECODE = """#!{python}
import sys
from pathlib import Path
keys = dict(word.split("=", 1) for word in sys.argv[1:])
data, out = Path(keys["data"]), Path(keys["out"])
table = lambda name: [line.split() for line in (data / name).read_text().splitlines()]
files = {{key: f"{{file}} {{channel}}" for key, file, channel in table("reco2file_and_channel")}}
out.mkdir(parents=True)
text, ctm, stm = ([] for _ in range(3))
for key, recording, start, end in table("segments"):
    text.append(f"{{key}} x\\n")
    ctm.append(f"{{files[recording]}} {{start}} 0.1 {{key}}\\n")
    stm.append(f"{{files[recording]}} spk {{start}} {{end}} {{key}}\\n")
for name, lines in {{"text": text, "ctm": ctm, "stm": stm}}.items():
    (out / name).write_text("".join(sorted(lines)))
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe folder as in egs/, with a path.sh that finds the stand-ins; a blank in its name."""
    folder = tmp_path / "my recipe"
    (folder / "bin").mkdir(parents=True)
    (folder / "utils").symlink_to(ROOT / "utils")
    (folder / "steps").symlink_to(ROOT / "egs" / "steps")
    (folder / "path.sh").write_text(
        f'export PATH="$PWD/bin:{Path(sys.executable).parent}:$PATH" LC_ALL=C\n'
    )
    for name, text in (
        ("make_fbank.py", MAKE_FBANK.format(python=sys.executable)),
        ("decode.py", DECODE.format(python=sys.executable)),
        ("compute_cmvn.py", '#!/usr/bin/env bash\necho "$@"\n'),
    ):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder


def make_data(folder: Path, good: int, bad: int = 0) -> None:
    keys = [f"u{i:02}" for i in range(good)] + [f"u9bad{i}" for i in range(bad)]
    for name, value in (("wav.scp", "cat x |"), ("text", "一"), ("utt2spk", "s")):
        write_table(folder / name, dict.fromkeys(keys, value))


def call(recipe: Path, step: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", f"steps/{step}", *arguments],
        cwd=recipe,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_features_of_all_jobs_are_joined_and_sorted(recipe: Path) -> None:
    make_data(recipe / "data/train", 7)
    done = call(recipe, "make_fbank.sh", "--nj", "3", "data/train", "exp/log", "fbank dir")
    assert done.returncode == 0, done.stderr
    keys = [f"u{i:02}" for i in range(7)]
    feats = read_table(recipe / "data/train/feats.scp")
    assert list(feats) == keys
    assert {place.rsplit(".", 2)[0] for place in feats.values()} == {"fbank dir/raw_fbank_train"}
    assert read_table(recipe / "data/train/utt2num_frames") == dict.fromkeys(keys, "50")
    assert sorted(path.name for path in (recipe / "exp/log").iterdir()) == [
        f"make_fbank_train.{i}.log" for i in (1, 2, 3)
    ]
    assert "made features of 7 of 7 utterances of train" in done.stderr


def test_the_step_can_be_run_again(recipe: Path) -> None:
    make_data(recipe / "data/train", 19, bad=1)
    for _ in range(2):
        done = call(recipe, "make_fbank.sh", "data/train")
        assert done.returncode == 0, done.stderr
        assert len(read_table(recipe / "data/train/feats.scp")) == 19
        assert "run utils/fix_data_dir.py data/train" in done.stderr


def test_too_few_features_fail_and_leave_no_list(recipe: Path) -> None:
    make_data(recipe / "data/train", 18, bad=2)
    done = call(recipe, "make_fbank.sh", "--nj", "2", "data/train")
    assert done.returncode == 1
    assert "made features of 18 of 20" in done.stderr
    assert "less than 0.95 of them; look into data/train/log/make_fbank_train.*.log" in done.stderr
    assert not list((recipe / "data/train").glob("*feats.scp*"))
    assert call(recipe, "make_fbank.sh", "--min-success=0.9", "data/train").returncode == 0


def test_a_job_that_fails_fails_the_step(recipe: Path) -> None:
    make_data(recipe / "data/train", 0, bad=2)
    done = call(recipe, "make_fbank.sh", "--nj", "1", "data/train")
    assert done.returncode == 1
    assert "run.py: job failed, log is in data/train/log/make_fbank_train.1.log" in done.stderr


def test_three_speeds_make_a_directory_of_their_own(recipe: Path) -> None:
    make_data(recipe / "data/train", 2)
    done = call(recipe, "make_fbank.sh", "--speeds", "0.9,1.0,1.1", "data/train")
    assert done.returncode == 0, done.stderr
    expected = ["sp0.9-u00", "sp0.9-u01", "sp1.1-u00", "sp1.1-u01", "u00", "u01"]
    for name in ("feats.scp", "text", "utt2spk", "utt2num_frames"):
        assert list(read_table(recipe / "data/train_sp" / name)) == expected
    assert not (recipe / "data/train/feats.scp").exists()


def test_segments_are_what_is_counted(recipe: Path) -> None:
    write_table(recipe / "d/wav.scp", {"r": "cat x |"})
    write_table(recipe / "d/segments", {"a": "r 0 1", "b": "r 1 2"})
    done = call(recipe, "make_fbank.sh", "--nj", "8", "d")
    assert done.returncode == 0, done.stderr
    assert "2 utterances, so 2 jobs instead of 8" in done.stderr
    assert list(read_table(recipe / "d/feats.scp")) == ["a", "b"]


def test_decoded_segments_are_joined_by_file_channel_and_time(recipe: Path) -> None:
    """Of two recordings, whose segments several jobs have, in the order that sclite wants."""
    data, starts = recipe / "data", {"u0": 100, "u1": 9.5, "u2": 20, "u3": 3, "u4": 0}
    recordings = {key: "r1" if key in ("u2", "u4") else "r2" for key in starts}
    rows = {key: f"{recordings[key]} {start} {start + 1}" for key, start in starts.items()}
    write_table(data / "segments", rows)
    write_table(data / "wav.scp", {"r1": "cat x |", "r2": "cat y |"})
    write_table(data / "reco2file_and_channel", {"r1": "sw B", "r2": "sw A"})
    done = call(recipe, "decode.sh", "--nj", "2", "model", "data", "out")
    assert done.returncode == 0, done.stderr
    expected = ["A 3 u3", "A 9.5 u1", "A 100 u0", "B 0 u4", "B 20 u2"]
    for table, start in (("ctm", 2), ("stm", 3)):
        found = [line.split() for line in (recipe / "out" / table).read_text().splitlines()]
        assert [f"{row[1]} {row[start]} {row[-1]}" for row in found] == expected


def test_a_faulty_directory_is_refused(recipe: Path) -> None:
    make_data(recipe / "d", 2)
    write_table(recipe / "d/text", {"u00": "一"})
    done = call(recipe, "make_fbank.sh", "d")
    assert done.returncode == 1
    assert "'u01' is not in text" in done.stdout


@pytest.mark.parametrize("step", ["make_fbank.sh", "compute_cmvn_stats.sh"])
def test_help_and_wrong_use(recipe: Path, step: str) -> None:
    done = call(recipe, step, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"steps/{step} [options] <data-dir>" in done.stdout
    assert call(recipe, step).returncode == 2
    assert call(recipe, step, "--njj", "1", "d").returncode == 1


def test_cmvn_needs_features_and_names_its_output(recipe: Path) -> None:
    make_data(recipe / "d", 2)
    done = call(recipe, "compute_cmvn_stats.sh", "d")
    assert done.returncode == 1
    assert "d/feats.scp: missing or empty; run steps/make_fbank.sh d" in done.stderr
    write_table(recipe / "d/feats.scp", {"u00": "x.ark:1"})
    assert call(recipe, "compute_cmvn_stats.sh", "--lfr-m=1", "--lfr-n", "1", "d").returncode == 0
    log = (recipe / "d/log/compute_cmvn_d.log").read_text()
    assert "\nfeats=d/feats.scp out=d/am.mvn lfr_m=1 lfr_n=1\n" in log
