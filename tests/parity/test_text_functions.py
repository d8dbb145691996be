"""Tokenizers and text post-processing give what the reference (funasr 1.4.16) gave.

`oracle/functions` was recorded by its maker `offline_functions.py`; tests/fixtures/{bpe,text} by
tests/fixtures/make_text.py.
"""

from __future__ import annotations

import json
from functools import cache

import pytest

from paraformer.data.text.tokenizer import (
    CharTokenizer,
    SentencepieceTokenizer,
    read_seg_dict,
    read_token_list,
)
from paraformer.decode.text import postprocess
from tests.conftest import ROOT, SHARED, needs_shared

FUNCTIONS = SHARED / "oracle/functions"
FIXTURES = ROOT / "tests/fixtures"
# Where users expect something else than the reference's `<unk>`: nothing for an empty word.
EMPTY_WORDS = {"": [], "  欢迎  大家 ": ["欢", "迎", "大", "家"]}


@cache
def expected() -> dict:
    return json.loads((FUNCTIONS / "expected.json").read_text("utf-8"))


def rows(path: str) -> list[dict]:
    return json.loads((FIXTURES / path).read_text("utf-8"))


@needs_shared
@pytest.mark.parametrize("kind", ["with_seg_dict", "without_seg_dict"])
def test_char_tokenizer(kind):
    seg_dict = read_seg_dict(FUNCTIONS / "seg_dict") if kind == "with_seg_dict" else None
    tokenizer = CharTokenizer(read_token_list(FUNCTIONS / "tokens.json"), seg_dict)
    cases = expected()["tokenizer"][kind]
    assert len(cases) == 12
    for case in cases:
        if seg_dict and case["text"] in EMPTY_WORDS:
            assert tokenizer.tokenize(case["text"]) == EMPTY_WORDS[case["text"]]
            continue
        assert tokenizer.tokenize(case["text"]) == case["tokens"]
        assert tokenizer.encode(case["text"]) == case["ids"]


@needs_shared
def test_sentence_postprocess():
    cases = [c for c in expected()["sentence_postprocess"] if not c["reference_bug"]]
    assert len(cases) == 24
    for case in cases:
        plain = postprocess(case["tokens"])
        assert (plain.text, plain.words) == (case["text"], case["words"])
        timed, want = postprocess(case["tokens"], case["token_timestamps"]), case["with_timestamps"]
        assert (timed.text, timed.words) == (want["text"], want["words"])
        assert timed.timestamps == want["timestamp"]


@needs_shared
def test_sentence_postprocess_where_the_reference_is_wrong():
    ours = {
        " ".join(case["tokens"]): postprocess(case["tokens"], case["token_timestamps"])
        for case in expected()["sentence_postprocess"]
        if case["reference_bug"]
    }
    assert {tokens: (r.tight, r.timestamps) for tokens, r in ours.items()} == {
        "第 0@@ 1 名": ("第01名", [[0, 80], [100, 280], [300, 380]]),
        "hello & 好": ("hello &好", [[0, 80], [100, 180], [200, 280]]),
        "好 & 好": ("好&好", [[0, 80], [100, 180], [200, 280]]),
        "<unk> 好 的": ("好的", [[100, 180], [200, 280]]),
        "好 <unk> 的": ("好的", [[0, 80], [200, 280]]),
        "好 <s> 的 </s>": ("好的", [[0, 80], [200, 280]]),
        "<unk>": ("", []),
    }


@pytest.mark.parametrize("case", rows("text/expected.json"), ids=lambda c: " ".join(c["tokens"]))
def test_random_tokens_read_as_in_the_reference(case):
    times = [[100 * i, 100 * i + 80] for i in range(len(case["tokens"]))]
    plain, timed = postprocess(case["tokens"]), postprocess(case["tokens"], times)
    assert (plain.text, plain.words) == (case["text"], case["words"])
    assert (timed.text, timed.timestamps) == (case["spaced"], case["timestamps"])


@pytest.mark.parametrize("case", rows("bpe/expected.json"), ids=lambda c: c["text"])
@pytest.mark.parametrize("listed", [True, False])
def test_sentencepiece_ids_and_text(case, listed):
    tokens = read_token_list(FIXTURES / "bpe/tokens.json") if listed else None
    tokenizer = SentencepieceTokenizer(FIXTURES / "bpe/bpe.model", tokens)
    assert tokenizer.tokenize(case["text"]) == case["tokens"]
    assert tokenizer.encode(case["text"]) == case["ids"]
    assert tokenizer.detokenize(tokenizer.ids_to_tokens(case["ids"])) == case["decoded"]
