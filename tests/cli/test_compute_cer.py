"""`bin/compute_cer.py` on a small set with every kind of trouble (numbers counted by hand)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.cli

# Units of the reference: 4 + 6 + 3 + 5 + 0 = 18.
REF = "u1 ＡＢＣ公司 Hello\nu2 今 天 天气 很好。\nu3 涨了５０％\nu4 缺少的句子\nu5\n"
# u1 equal; u2 one sub; u3 one sub, four ins; u4 missing, five del; u5 one ins; x9 not in REF.
HYP = "\ufeffu3 涨了百分之五十\r\nu2 今天天器很好\r\nu5 啊\r\nx9 多余\r\nu1 abc 公 司 HELLO"
LINES = ["%CER 66.67 [ 12 / 18, 5 ins, 5 del, 2 sub ]", "%SER 80.00 [ 4 / 5 ]"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ref").write_text(REF, encoding="utf-8")
    (tmp_path / "hyp").write_bytes(HYP.encode())
    return tmp_path


def compute_cer(folder, *arguments):
    command = [sys.executable, ROOT / "bin/compute_cer.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_lines_are_printed_and_files_written(folder):
    done = compute_cer(folder, "ref=ref", "+hyp=hyp", "++out=结果 [1],a=b")
    out = folder / "结果 [1],a=b"
    assert (done.returncode, done.stdout.splitlines()) == (0, LINES)
    assert (out / "cer").read_text("utf-8").splitlines() == LINES
    assert (out / "missing_ids").read_text("utf-8") == "u4\n"
    assert (out / "extra_ids").read_text("utf-8") == "x9\n"
    assert "1 utterances without hypothesis, counted as deletions: u4" in done.stderr
    assert "1 utterances without reference, not counted: x9" in done.stderr
    aligned = (out / "aligned").read_text("utf-8")
    assert "u2 %CER 16.67 [ 1 / 6, 0 ins, 0 del, 1 sub ]\nREF  今 天 天 气 很 好\n" in aligned
    assert "u5 %CER inf [ 1 / 0, 1 ins, 0 del, 0 sub ]\nREF  **\nHYP  啊\nOPS  I\n" in aligned


def test_without_out_nothing_is_left_in_the_folder(folder):
    assert compute_cer(folder, "ref=ref", "hyp=hyp").stdout.splitlines() == LINES
    assert sorted(path.name for path in folder.iterdir()) == ["hyp", "ref"]


def test_raw_counts_width_blank_mark_and_case(folder):
    (folder / "ref").write_text("a ＡB 好。\n", encoding="utf-8")
    (folder / "hyp").write_text("a Ab好\n", encoding="utf-8")
    done = compute_cer(folder, "ref=ref", "hyp=hyp", "raw=true")
    assert done.stdout.startswith("%CER 80.00 [ 4 / 5, 0 ins, 2 del, 2 sub ]\n")


def test_tags_and_scripts(folder):
    """Counted by hand: 湾 for 灣 is one of 4 units."""
    (folder / "ref").write_text("a 我在台灣\nb [noise]\n", encoding="utf-8")
    (folder / "hyp").write_text("a 我在台湾[噪]\nb\n", encoding="utf-8")
    done = compute_cer(folder, "ref=ref", "hyp=hyp", "tags=<>[]")
    assert done.stdout.startswith("%CER 25.00 [ 1 / 4, 0 ins, 0 del, 1 sub ]\n")
    done = compute_cer(folder, "ref=ref", "hyp=hyp", "raw=true", "tags=<>[]")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    pytest.importorskip("opencc")
    done = compute_cer(folder, "ref=ref", "hyp=hyp", "tags=<>[]", "simplified=true")
    assert done.stdout.startswith("%CER 0.00 [ 0 / 4, 0 ins, 0 del, 0 sub ]\n")


def test_texts_without_ids_are_refused(folder):
    (folder / "ref").write_text("今天天气\n明天见\n", encoding="utf-8")
    done = compute_cer(folder, "ref=ref", "hyp=ref")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ref: no text behind any id; give `id text` a line\n"


def test_pinyin_lines(folder):
    pytest.importorskip("pypinyin")
    (folder / "ref").write_text("a 买书\nb 他是\n", encoding="utf-8")
    (folder / "hyp").write_text("a 卖书\nb 她十\n", encoding="utf-8")
    done = compute_cer(folder, "ref=ref", "hyp=hyp", "pinyin=true")
    assert done.stdout.splitlines()[2:] == [
        "%PER_TONED 50.00 [ 2 / 4, 0 ins, 0 del, 2 sub ]",
        "%PER_TONELESS 0.00 [ 0 / 4, 0 ins, 0 del, 0 sub ]",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ref=ref"], "needs hyp=..."),
        (["ref=ref", "hyp=nowhere"], "nowhere: no such file"),
        (["ref=ref", "hyp=hyp", "rwa=true"], "unknown key 'rwa'; did you mean 'raw'?"),
        (["ref=ref", "hyp=twice"], "id 'u1' stands already in line 1"),
        (["ref=ref", "hyp=other"], "no id of the reference"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(folder, arguments, message):
    (folder / "twice").write_text("u1 a\nu1 b\n")
    (folder / "other").write_text("z1 a\n")
    done = compute_cer(folder, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_page_of_errors(folder):
    pytest.importorskip("jinja2")
    done = compute_cer(folder, "ref=ref", "hyp=hyp", "+report=out/x.html")
    assert (done.returncode, done.stdout.splitlines()) == (0, LINES)
    page = (folder / "out" / "x.html").read_text("utf-8")
    assert "<title>hyp</title>" in page
    assert "66.67 %" in page and "1 without reference, not counted." in page
    refused = compute_cer(folder, "ref=ref", "hyp=hyp", "report=x.html", "report_wav=nowhere.scp")
    assert (refused.returncode, refused.stderr.splitlines()[-1][:23]) == (
        1,
        "nowhere.scp: no such fi",
    )
