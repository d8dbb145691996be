"""The programs of utils/ that work on data directories: arguments, messages and exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paraformer.data.corpus.tables import read_table, write_table

pytestmark = pytest.mark.cli

UTILS = Path(__file__).resolve().parents[2] / "utils"
SHARED_CODE = ("door", "jobs")  # of the programs, not programs themselves
PROGRAMS = sorted(path.name for path in UTILS.glob("*.py") if path.stem not in SHARED_CODE)


def run(
    program: str, *arguments: object, cwd: Path, stdin: str | None = None
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program of utils/, started as a recipe does."""
    done = subprocess.run(
        [sys.executable, str(UTILS / program), *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four utterances of two speakers; u3 has no audio, the folder a blank in its name."""
    folder = tmp_path / "数 据"
    keys = ["u0", "u1", "u2", "u3"]
    for key in keys[:3]:
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        (folder / "wav" / f"{key}.wav").write_bytes(b"x")
    write_table(folder / "wav.scp", {key: f"{folder}/wav/{key}.wav" for key in keys})
    write_table(folder / "text", dict.fromkeys(keys, "你 好"))
    write_table(folder / "utt2spk", {key: f"s{i // 2}" for i, key in enumerate(keys)})
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_says_how_to_call_it(program: str, tmp_path: Path) -> None:
    code, out, err = run(program, "--help", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert program in out


@pytest.mark.parametrize("program", PROGRAMS)
def test_only_the_standard_library_is_needed(program: str, tmp_path: Path) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(UTILS)!r})\n"
        f"own = {{'paraformer', *{SHARED_CODE!r}}}\n"
        "before = set(sys.modules)\n"
        f"runpy.run_path({str(UTILS / program)!r})\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names - own))\n"
    )
    # -S: no site-packages, so that an import of anything else fails.
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_validate_reports_and_fails_until_fix_has_run(data: Path, tmp_path: Path) -> None:
    code, out, err = run("validate_data_dir.py", data, cwd=tmp_path)
    assert code == 1
    assert out.startswith(f"{data}/wav.scp:4: 'u3': no file {data}/wav/u3.wav; correct the path")
    assert err == "validate_data_dir.py: 1 x no file for wav.scp\n"

    code, out, err = run("fix_data_dir.py", data, cwd=tmp_path)
    assert (code, out) == (0, "")
    assert "kept 3 of 4 utterances\n" in err
    assert "dropped 1 x no file for wav.scp\n" in err
    assert read_table(data / "dropped.txt") == {"u3": "no file for wav.scp"}

    code, out, err = run("validate_data_dir.py", data, cwd=tmp_path)
    assert (code, out) == (0, "")
    assert err == f"validate_data_dir.py: {data} is valid: 3 utterances\n"
    code, _, err = run("fix_data_dir.py", data, cwd=tmp_path)
    assert (code, err.splitlines()[-1]) == (0, "fix_data_dir.py: nothing to change")


def test_kaldi_options_are_understood(data: Path, tmp_path: Path) -> None:
    assert run("validate_data_dir.py", "--no-feats", "--no-files", data, cwd=tmp_path)[0] == 0
    (data / "text").unlink()
    code, out, _ = run("validate_data_dir.py", "--no-files", data, cwd=tmp_path)
    assert (code, "say --no-text" in out) == (1, True)
    arguments = ["--no-text", "--no-wav", "--no-files"]
    assert run("validate_data_dir.py", *arguments, data, cwd=tmp_path)[0] == 0
    assert run("validate_data_dir.py", *arguments, "--feats", data, cwd=tmp_path)[0] == 1


def test_many_faults_of_a_kind_are_shown_in_part(tmp_path: Path) -> None:
    write_table(tmp_path / "wav.scp", {f"u{i:02}": "cat |" for i in range(30)})
    write_table(tmp_path / "text", {f"u{i:02}": "" for i in range(30)})
    code, out, err = run("validate_data_dir.py", tmp_path, cwd=tmp_path)
    assert (code, len(out.splitlines())) == (1, 10)
    assert err == "validate_data_dir.py: 30 x empty transcript (--all shows them)\n"
    assert len(run("validate_data_dir.py", "--all", tmp_path, cwd=tmp_path)[1].splitlines()) == 30


def test_a_directory_in_another_encoding_is_one_line(data: Path, tmp_path: Path) -> None:
    (data / "text").write_bytes("u0 你好\n".encode("gb18030"))
    for program in ("validate_data_dir.py", "fix_data_dir.py"):
        code, out, err = run(program, data, cwd=tmp_path)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert err.startswith(f"{program}: {data}/text:1: not UTF-8; convert")


def test_split_says_where_and_how_much(data: Path, tmp_path: Path) -> None:
    code, _, err = run("split_data.py", data, 2, cwd=tmp_path)
    assert (code, err) == (0, f"split_data.py: {data}/split2: 2 parts of 2 to 2 utterances\n")
    assert run("split_data.py", "--per-utt", data, 4, cwd=tmp_path)[0] == 0
    assert list(read_table(data / "split4utt/3/text")) == ["u2"]
    code, _, err = run("split_data.py", data, 3, cwd=tmp_path)
    assert code == 1
    assert err.endswith("ask for 1 to 2 parts or split by utterance (--per-utt)\n")


def test_subset_by_number_and_by_list(data: Path, tmp_path: Path) -> None:
    assert run("subset_data_dir.py", "--first", data, 2, "a", cwd=tmp_path)[0] == 0
    assert list(read_table(tmp_path / "a/text")) == ["u0", "u1"]
    for name in ("b", "c"):
        assert run("subset_data_dir.py", "--seed", 3, data, 2, name, cwd=tmp_path)[0] == 0
    assert read_table(tmp_path / "b/text") == read_table(tmp_path / "c/text")

    (tmp_path / "list").write_text("\ufeffu3 more words\r\n\r\nnobody\r\nu1", "utf-8")
    code, _, err = run("subset_data_dir.py", "--utt-list", "list", data, "d", cwd=tmp_path)
    assert code == 0
    assert "lacks 1 ids of list, first: nobody\n" in err
    assert list(read_table(tmp_path / "d/wav.scp")) == ["u1", "u3"]

    (tmp_path / "list").write_text("s1\n", "utf-8")
    assert run("subset_data_dir.py", "--spk-list", "list", data, "e", cwd=tmp_path)[0] == 0
    assert read_table(tmp_path / "e/spk2utt") == {"s1": "u2 u3"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["D", "to"],
        ["D", "many", "to"],
        ["--first", "--shortest", "D", "1", "to"],
        ["--utt-list", "x", "D", "1", "to"],
    ],
)
def test_subset_refuses_a_wrong_command_line(
    data: Path, tmp_path: Path, arguments: list[str]
) -> None:
    words = [str(data) if word == "D" else word for word in arguments]
    code, _, err = run("subset_data_dir.py", *words, cwd=tmp_path)
    assert code == 2
    assert "usage:" in err
    assert not (tmp_path / "to").exists()


def test_copy_and_combine(data: Path, tmp_path: Path) -> None:
    done = run(
        "copy_data_dir.py", "--utt-prefix", "远-", "--spk-suffix=.f", data, "far", cwd=tmp_path
    )
    assert done == (0, "", "copy_data_dir.py: far: 4 utterances\n")
    assert read_table(tmp_path / "far/utt2spk")["远-u0"] == "s0.f"
    (data / "utt2dur").write_text("u0 1\nu1 1\nu2 1\nu3 1\n")
    code, _, err = run("combine_data.py", "all", data, "far", cwd=tmp_path)
    assert code == 0
    assert "left out, since the sources do not share it: utt2dur\n" in err
    assert list(read_table(tmp_path / "all/text")) == ["u0", "u1", "u2", "u3"] + [
        f"远-u{i}" for i in range(4)
    ]


def test_a_failure_is_one_line_and_code_1(tmp_path: Path) -> None:
    for program, *arguments in (
        ("validate_data_dir.py", "no"),
        ("fix_data_dir.py", "no"),
        ("split_data.py", "no", "2"),
        ("subset_data_dir.py", "no", "2", "to"),
        ("copy_data_dir.py", "no", "to"),
        ("combine_data.py", "to", "no"),
        ("utt2spk_to_spk2utt.py", "no"),
    ):
        code, out, err = run(program, *arguments, cwd=tmp_path)
        assert (code, out, len(err.splitlines())) == (1, "", 1), err
        assert err.startswith(f"{program}: no: no such ")
    assert list(tmp_path.iterdir()) == []


def test_converters_read_and_write_files_and_streams(tmp_path: Path) -> None:
    utt2spk = "u1 甲\nu2 乙\nu3 甲\n"
    spk2utt = "乙 u2\n甲 u1 u3\n"
    assert run("utt2spk_to_spk2utt.py", cwd=tmp_path, stdin=utt2spk) == (0, spk2utt, "")
    assert run("spk2utt_to_utt2spk.py", cwd=tmp_path, stdin=spk2utt) == (0, utt2spk, "")
    (tmp_path / "utt2spk").write_text(utt2spk, "utf-8")
    assert run("utt2spk_to_spk2utt.py", "utt2spk", "spk2utt", cwd=tmp_path) == (0, "", "")
    assert (tmp_path / "spk2utt").read_text("utf-8") == spk2utt


def test_a_closed_pipe_is_no_error(data: Path) -> None:
    write_table(data / "text", {f"x{i:05}": "" for i in range(5000)})
    command = f"{sys.executable} {UTILS}/validate_data_dir.py --all '{data}' | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, encoding="utf-8")
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr
