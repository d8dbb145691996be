"""The hotword argument becomes the ids that the reference makes of it, where those make sense."""

from __future__ import annotations

import json
import os

import pytest

from paraformer.data.text.tokenizer import CharTokenizer, read_seg_dict, read_token_list
from paraformer.decode.hotwords import read_hotwords
from paraformer.errors import DataError
from tests.conftest import SHARED, needs_shared

FUNCTIONS = SHARED / "oracle" / "functions"
# Where the reference says <unk> (characters and letters of one word, marks, a weight) or fails.
OURS = {
    "a1好": [(22, 24, 11)],
    "大家，好": [(5, 6), (11,)],
    "['大家']": [(5, 6)],
}
WITHOUT_SEG_DICT = {"大家": [(5, 6)], "大家 hello": [(5, 6)], "Hello 世界 ab12": [(9, 10)]}

pytestmark = needs_shared


def cases():
    if not FUNCTIONS.is_dir():
        return []
    facts = json.loads((FUNCTIONS / "expected.json").read_text(encoding="utf-8"))
    assert len(facts["hotwords"]) == 20
    return facts["hotwords"]


@pytest.mark.parametrize("case", cases(), ids=str)
def test_ids(case, monkeypatch):
    monkeypatch.chdir(FUNCTIONS)
    assert os.path.isfile("words.txt")
    seg_dict = read_seg_dict("seg_dict") if case["seg_dict"] else None
    tokenizer = CharTokenizer(read_token_list("tokens.json"), seg_dict)
    if case["hotword"] == "missing.txt":
        with pytest.raises(DataError, match=r"missing\.txt: No such file"):
            read_hotwords(case["hotword"], tokenizer)
        return
    found = read_hotwords(case["hotword"], tokenizer).ids
    named = str(case["hotword"])
    if named == "words.txt":
        assert found[0] == (5, 6)
        assert found[-1] == (11,)  # its line is `好 20`: a weight
        assert found[1:-1] == [(12, 13, 14, 15), (3, 4, 11)][0 if seg_dict else 1 :]
    elif named in OURS:
        assert found == OURS[named]
    elif not seg_dict and named in WITHOUT_SEG_DICT:
        assert found == WITHOUT_SEG_DICT[named]
    else:
        theirs = [tuple(ids) for ids in (case["ids"] or [[1]])[:-1]]
        assert found == [ids for ids in theirs if tokenizer.unk_id not in ids]
