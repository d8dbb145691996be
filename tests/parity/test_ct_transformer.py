"""Punctuation as the reference's: ids of every forward pass, logits, `punc_array` and texts.

Texts are compared with blanks and case set aside, which the reference changes and ours keeps. Set
aside too: marks beside those of the input; the 。 that replaces a 、 behind English at the end; and
two texts with words of other than one-byte letters (ＡＢＣ, émigré), inside which the reference may
put marks.

The project's fixtures are made by tests/fixtures/make_punctuation.py, those of ../shared by
oracle/make/punc.py; more of either kind may be listed in PARAFORMER_ORACLES.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from paraformer.data.text.words import split_words
from paraformer.decode.punctuate import PunctuationState, Punctuator
from paraformer.models.release import PunctuationRelease, load_punctuation
from tests.conftest import SHARED, needs_shared
from tests.parity.oracle import FIXTURES, close, load_arrays

WHOLE, STREAMING = ("ct-punc", "ct-punc-jieba"), "ct-punc-c"
PROJECT = {
    "ct-punc": "ct_punc",
    "ct-punc-jieba": "ct_punc_jieba",
    "ct-punc-c": "ct_punc_streaming",
}


def _places(*kinds: str) -> list[Any]:
    places = [pytest.param(FIXTURES / "oracle" / PROJECT[k], id=f"project-{k}") for k in kinds]
    places += [
        pytest.param(SHARED / "oracle" / k, id=f"shared-{k}", marks=needs_shared) for k in kinds
    ]
    for path in filter(None, os.environ.get("PARAFORMER_ORACLES", "").split(os.pathsep)):
        if json.loads((Path(path) / "expected.json").read_text("utf8"))["kind"] in kinds:
            places.append(pytest.param(Path(path), id=Path(path).name))
    return places


class Asked(NamedTuple):
    """One forward pass."""

    ids: list[int]
    decided: int


class Oracle:
    """A model with what the reference says of it, and a list of our forward passes."""

    def __init__(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "expected.json").read_text("utf8"))
        if self.facts["kind"] == "ct-punc-jieba":
            pytest.importorskip("jieba", reason="jieba is an extra: pip install jieba")
        self.folder = folder
        self.release: PunctuationRelease = load_punctuation(folder)
        self.punctuator = Punctuator(self.release)
        self.asked: list[Asked] = []
        self.release.model.register_forward_pre_hook(self._note)

    def _note(self, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        ids, _, *decided = inputs
        self.asked.append(Asked(ids[0].tolist(), int(decided[0]) if decided else 0))

    def forward_ids(self) -> list[list[int]]:
        """Ids of the passes since the last call."""
        rows, self.asked = [asked.ids for asked in self.asked], []
        return rows


@pytest.fixture(scope="module")
def oracle(request):
    return Oracle(request.param)


def bare(text: str) -> str:
    """Blanks and case set aside."""
    return "".join(text.split()).casefold()


def expected(row: dict[str, Any]) -> str:
    """What the reference writes, without what only it does (see above)."""
    text, theirs = row["input"], row["text"]
    if re.search("[a-z]。$", theirs):
        theirs = theirs[:-1] + "."
    if not set(text) & set("，。"):
        return bare(theirs)
    shown: list[str] = []
    rest = list("".join(text.split()))
    for char in bare(theirs):
        own = bool(rest) and bare(rest[0]) == char
        if own:
            rest.pop(0)
            if char in "，。" and shown[-1] in MARKS:
                shown.pop()
        if own or shown[-1] not in "，。":
            shown.append(char)
    return "".join(shown)


MARKS = "，。？、"
SPELLED = re.compile("[Ａ-Ｚé]")
whole = pytest.mark.parametrize("oracle", _places(*WHOLE), indirect=True, scope="module")
streaming = pytest.mark.parametrize("oracle", _places(STREAMING), indirect=True, scope="module")


@whole
def test_ids_marks_and_texts_of_whole_texts(oracle):
    assert len(oracle.facts["texts"]) == 24
    for row in oracle.facts["texts"]:
        oracle.forward_ids()
        result = oracle.punctuator.punctuate(row["input"])
        assert oracle.forward_ids() == row["forward_ids"], row["input"]
        assert result.punc_array == row["punc_array"], row["input"]
        if not SPELLED.search(row["input"]):
            assert bare(result.text) == expected(row), row["input"]


@whole
def test_logits_of_windows(oracle):
    arrays = load_arrays(oracle.folder)
    assert len(arrays) > 5
    for name, theirs in arrays.items():
        text, window = (int(number) for number in re.findall(r"\d+", name))
        ids = oracle.facts["texts"][text]["forward_ids"][window]
        with torch.no_grad():
            ours = oracle.release.model(torch.tensor([ids]), torch.tensor([len(ids)]))[0]
        close(ours, theirs, 1e-4, 1e-4)


@whole
def test_other_sizes_of_windows(oracle):
    for size, row in oracle.facts["split_size"].items():
        result = oracle.punctuator.punctuate(oracle.facts["texts"][7]["input"], int(size))
        assert result.punc_array == row["punc_array"]
        assert bare(result.text) == bare(row["text"])


@whole
def test_a_sentence_without_an_end_is_closed_at_a_comma(oracle):
    bias = oracle.release.model.decoder.bias
    before = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[3:5] -= 100
        for name, row in oracle.facts.items():
            if not name.startswith("no_sentence_end"):
                continue
            oracle.forward_ids()
            result = oracle.punctuator.punctuate(row["input"])
            assert result.punc_array == row["punc_array"]
            assert bare(result.text) == expected(row)
            lengths = [len(ids) for ids in oracle.forward_ids()]
            assert lengths == row.get("forward_lengths", lengths)
    finally:
        with torch.no_grad():
            bias.copy_(before)


@whole
def test_empty_texts(oracle):
    for text, row in oracle.facts["empty inputs"].items():
        result = oracle.punctuator.punctuate(text.strip("'"))
        assert (result.text.strip(), result.punc_array or None) == (row["text"], row["punc_array"])


@streaming
def test_sessions(oracle):
    for session in oracle.facts["sessions"]:
        state = PunctuationState()
        for row in session:
            oracle.asked = []
            text, state = oracle.punctuator.punctuate_chunk(row["input"], state)
            assert [asked.ids for asked in oracle.asked] == row["forward_ids"]
            assert [asked.decided for asked in oracle.asked] == row["vad_index"]
            assert bare(text) == bare(row["text"])
            kept = [word.text for word in split_words(state.text)]
            assert kept == [word.strip() for word in row["pre_text_after"]]


@streaming
def test_logits_with_words_of_earlier_calls(oracle):
    arrays = load_arrays(oracle.folder)
    limited = 0
    for name, theirs in arrays.items():
        session, part, window = (int(number) for number in re.findall(r"\d+", name))
        row = oracle.facts["sessions"][session][part]
        ids, decided = row["forward_ids"][window], row["vad_index"][window]
        limited += 0 < decided < len(ids)
        size = torch.tensor([len(ids)])
        with torch.no_grad():
            ours = oracle.release.model(torch.tensor([ids]), size, torch.tensor([decided]))[0]
        close(ours, theirs, 1e-4, 1e-4)
    assert limited > 1


@streaming
def test_one_call_without_a_past(oracle):
    for name, size in (("without cache", 20), ("split_size 10", 10)):
        for row in oracle.facts[name]:
            text, _ = oracle.punctuator.punctuate_chunk(row["input"], PunctuationState(), size)
            if "error" in row:  # the reference fails at a text of one word
                assert bare(text) == bare(row["input"])
                continue
            assert bare(text) == bare(row["text"])


@streaming
def test_an_empty_piece_says_nothing_where_the_reference_fails(oracle):
    for text, row in oracle.facts["empty inputs"].items():
        assert "error" in row
        piece = text.strip("'")
        after = PunctuationState(f"你好{piece}")  # blanks come with the next piece
        assert oracle.punctuator.punctuate_chunk(piece, PunctuationState("你好")) == ("", after)
