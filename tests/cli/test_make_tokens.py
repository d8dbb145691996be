"""`bin/make_tokens.py`: the files it writes and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paraformer.data.text.tokenizer import (
    CharTokenizer,
    SentencepieceTokenizer,
    read_seg_dict,
    read_token_list,
)
from tests.conftest import ROOT

pytestmark = pytest.mark.cli

BPE_TEXT = ROOT / "tests/fixtures/bpe/text"


def make_tokens(folder, *arguments):
    command = [sys.executable, ROOT / "bin/make_tokens.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").write_text("u1 你好 Process\nu2\nu3 close 你\n", encoding="utf-8")
    return tmp_path


def test_char_tokens_and_seg_dict(folder):
    done = make_tokens(folder, "text=text", "out=语 言/a,b")
    out = folder / "语 言/a,b"
    assert done.returncode == 0
    assert sorted(path.name for path in out.iterdir()) == ["seg_dict", "tokens.json", "tokens.txt"]
    tokens = read_token_list(out / "tokens.json")
    assert tokens == read_token_list(out / "tokens.txt")
    assert (tokens[:3], tokens[-1]) == (["<blank>", "<s>", "</s>"], "<unk>")
    tokenizer = CharTokenizer(tokens, read_seg_dict(out / "seg_dict"))
    assert tokenizer.tokenize("你好 PROCESS close") == ["你", "好", "pro@@", "cess", "close"]
    assert sorted(path.name for path in folder.iterdir()) == ["text", "语 言"]


def test_options_of_char_tokens(folder):
    make_tokens(folder, "text=text", "out=o", "english=words", "min_count=2")
    assert read_seg_dict(folder / "o/seg_dict")["你"] == ["你"]
    assert not {"好", "process"} & set(read_token_list(folder / "o/tokens.txt"))


def test_bpe_model_is_the_same_on_every_run_and_numbers_as_the_tokens(folder):
    for out in ("one", "two"):
        done = make_tokens(folder, f"text={BPE_TEXT}", f"out={out}", "type=bpe", "bpe_size=160")
        assert done.returncode == 0
    assert (folder / "one/bpe.model").read_bytes() == (folder / "two/bpe.model").read_bytes()
    tokens = read_token_list(folder / "one/tokens.json")
    tokenizer = SentencepieceTokenizer(folder / "one/bpe.model")
    assert tokens == tokenizer.tokens
    assert (len(tokens), tokens[:3], tokens[-1]) == (160, ["<blank>", "<s>", "</s>"], "<unk>")


def test_the_other_type_leaves_no_file_of_the_first(folder):
    make_tokens(folder, f"text={BPE_TEXT}", "out=o")
    make_tokens(folder, f"text={BPE_TEXT}", "out=o", "type=bpe", "bpe_size=160")
    assert not (folder / "o/seg_dict").exists()
    make_tokens(folder, f"text={BPE_TEXT}", "out=o")
    assert not (folder / "o/bpe.model").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text=text"], "needs out=..."),
        (["text=nowhere", "out=o"], "nowhere: no such file"),
        (["text=empty", "out=o"], "empty: no transcripts"),
        (["text=text", "out=o", "type=word"], "type=word: unknown type; choose char or bpe"),
        (["text=text", "out=o", "english=x"], "english=x: unknown; choose one of"),
        (["text=text", "out=o", "type=bpe", "bpe_size=4"], "bpe_size=4: give a whole number"),
        (["text=text", "out=o", "type=bpe", "bpe_size=10000"], "bpe_size=10000: the text gives"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(folder, arguments, message):
    (folder / "empty").write_text("u1\n")
    done = make_tokens(folder, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
