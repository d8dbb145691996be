"""Texts as users write them keep their words, and each of these has a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paraformer.data.audio.read import read_audio
from paraformer.data.text.tokenizer import CharTokenizer, SentencepieceTokenizer
from paraformer.decode.align import NOTHING, ForcedAligner, pair_texts, split_units
from paraformer.decode.pool import Batching, Done
from paraformer.decode.recognize import feats_job
from paraformer.decode.timestamps import SILENCE, milliseconds
from paraformer.errors import AudioError, CheckpointError, DataError
from paraformer.models.release import load_aligner
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
CLIPS = ["clip_a", "clip_b", "clip_c"]
TOKENS = [*"我你好大家pyt", "a", "2", "0", "4", "he@@", "llo", "it's", "<unk>"]
SEG_DICT = {
    "hello": ["he@@", "llo"],
    "大家": ["大", "家"],
    "it's": ["it's"],
    **{c: [c] for c in "我你好大家pyta204"},
}
TOKENIZER = CharTokenizer(TOKENS, SEG_DICT)


@pytest.fixture(scope="module")
def aligner():
    return ForcedAligner(load_aligner(FIXTURES / "oracle" / "fa-zh"))


def wave(name="clip_b"):
    return read_audio(FIXTURES / "oracle" / "inputs" / f"{name}.flac")


@pytest.mark.parametrize(
    ("text", "words", "counts"),
    [
        ("我你好", ["我", "你", "好"], [1, 1, 1]),
        ("大家", ["大", "家"], [1, 1]),
        ("Hello HELLO", ["Hello", "HELLO"], [2, 2]),
        ("我hello你", ["我", "hello", "你"], [1, 2, 1]),
        ("我，你。 好！", ["我", "你", "好"], [1, 1, 1]),
        ("“hello,hello”", ["hello", "hello"], [2, 2]),
        ("It's 'hello'", ["It's", "hello"], [1, 2]),
        ("2024", ["2", "0", "2", "4"], [1, 1, 1, 1]),
        ("pyt", ["pyt"], [3]),
        ("p y t", ["p", "y", "t"], [1, 1, 1]),
        ("我汪你", ["我", "汪", "你"], [1, 1, 1]),
        ("我℃你", ["我", "℃", "你"], [1, 1, 1]),
        ("été", ["été"], [1]),
        ("我<unk>你 <UNK>好", ["我", "<unk>", "你", "<UNK>", "好"], [1, 1, 1, 1, 1]),
        ("<noise>我<sil>你 <s>", ["我", "你"], [1, 1]),
        ("1 < 2", ["1", "<", "2"], [1, 1, 1]),
        ("", [], []),
        (" ，。 ", [], []),
    ],
)
def test_words_of_a_text(text, words, counts):
    units = split_units(text, TOKENIZER)
    assert [unit.text for unit in units] == words
    assert [len(unit.tokens) for unit in units] == counts
    assert [text[unit.start : unit.end] for unit in units] == words


def test_words_without_seg_dict():
    units = split_units("我Hello你 ok", CharTokenizer(TOKENS))
    assert [(unit.text, len(unit.tokens)) for unit in units] == [
        ("我", 1),
        ("Hello", 5),
        ("你", 1),
        ("ok", 2),
    ]


def test_words_of_sentencepiece():
    tokenizer = SentencepieceTokenizer(FIXTURES / "bpe" / "bpe.model")
    units = split_units("Hello, it's me.", tokenizer)
    assert [unit.text for unit in units] == ["Hello", "it's", "me"]
    assert all(unit.tokens and "▁" not in unit.tokens for unit in units)


def test_an_entry_without_pieces_is_still_a_word():
    units = split_units("大家", CharTokenizer(TOKENS, {"大家": []}))
    assert [(unit.text, unit.tokens) for unit in units] == [("大家", ["<unk>"])]


@pytest.mark.parametrize(
    "text",
    [
        "今天天气很好，我们去公园。",
        "Today 我们用 PYTHON 写 3 行代码!",
        "汪汪汪 zzqx ℃ été",
        "a p i",
        "我" * 40,
    ],
)
def test_each_word_has_a_time(aligner, text):
    (found,) = aligner.align([wave()], [text])
    assert "".join(found.words) == "".join(c for c in text if c not in " ，。!")
    assert len(found.timestamps) == len(found.words) == len(found.places)
    assert [text[start:end] for start, end in found.places] == found.words
    borders = [border for time in found.timestamps for border in time]
    assert borders == sorted(borders)
    assert borders[0] >= 0
    assert borders[-1] <= len(wave()) / 16 + 60
    assert milliseconds(found.spans) == found.timestamps
    assert [span.text for span in found.spans if span.text != SILENCE] == found.words


def test_case_and_marks_change_no_time(aligner):
    texts = ["hello 大家", "HELLO，大家！"]
    one, two = aligner.align([wave()] * 2, texts)
    assert one.timestamps == two.timestamps
    assert two.text == "HELLO 大 家"


def test_an_empty_text(aligner):
    assert aligner.align([wave(), wave()], ["", "。"]) == [NOTHING, NOTHING]
    assert NOTHING.text == ""


@pytest.mark.parametrize(("samples", "kind"), [(0, AudioError), (16000, DataError)])
def test_a_text_too_long_for_its_recording(aligner, samples, kind):
    """17 encoder frames, 51 steps: no more tokens can have a time of their own."""
    outcomes = aligner.align([wave()[:samples], wave()], ["我" * 52, "我"])
    assert isinstance(outcomes[0], kind)
    assert outcomes[1].words == ["我"]


def test_as_many_tokens_as_steps(aligner):
    (found,) = aligner.align([wave()[:16000]], ["我" * 51])
    assert len(found.timestamps) == 51


def test_batches_change_nothing(aligner):
    waves = [wave(name) for name in CLIPS] * 3
    texts = ["我们今天", "hello 你好", "一二三四五六七八九"] * 3
    together = aligner.align(waves, texts)
    for limits in (Batching(1), Batching(2), Batching(64, 4.0)):
        apart = aligner.align(waves, texts, limits)
        assert [a.timestamps for a in apart] == [a.timestamps for a in together]


def test_errors_keep_their_place(aligner):
    error = AudioError("lost")
    feats = aligner.frontend(wave())
    jobs = [
        aligner.job(Done("a", error), "我"),
        aligner.job(feats_job("b", feats), "我"),
        Done("c", DataError("no text")),
        aligner.job(feats_job("d", feats), "你好"),
    ]
    found = list(aligner.stream(jobs))
    assert [done.payload for done in found] == list("abcd")
    outcomes = [done.outcome for done in found]
    assert outcomes[0] is error
    assert isinstance(outcomes[2], DataError)
    assert [outcomes[1].words, outcomes[3].words] == [["我"], ["你", "好"]]


def test_features_that_are_not_finite(aligner):
    feats = aligner.frontend(wave())
    bad = feats.clone()
    bad[3] = torch.nan
    jobs = [aligner.job(feats_job(None, x), "我") for x in (bad, feats)]
    outcomes = [done.outcome for done in aligner.stream(jobs)]
    assert isinstance(outcomes[0], CheckpointError)
    assert outcomes[1].timestamps == aligner.align([wave()], ["我"])[0].timestamps


def test_half_precision_of_the_encoder():
    release = load_aligner(FIXTURES / "oracle" / "fa-zh")
    whole = ForcedAligner(release).align([wave()], ["今天天气"])
    half = ForcedAligner(release, dtype=torch.bfloat16).align([wave()], ["今天天气"])
    assert half[0].words == whole[0].words
    for ours, exact in zip(half[0].timestamps, whole[0].timestamps, strict=True):
        assert abs(ours[0] - exact[0]) <= 60


# texts of recordings


@pytest.fixture
def table(tmp_path):
    def write(content, name="text.txt"):
        path = tmp_path / name
        path.write_text(content, "utf-8")
        return path

    return write


def test_a_string_is_the_text_of_one_recording():
    assert pair_texts("欢迎 大家", ["a"]) == ["欢迎 大家"]
    with pytest.raises(DataError, match="text: 1 texts for 2 recordings"):
        pair_texts("欢迎", ["a", "b"])


def test_a_list_is_in_order():
    assert pair_texts(["一", "二"], ["b", "a"]) == ["一", "二"]
    with pytest.raises(DataError, match="text: 1 texts for 2 recordings"):
        pair_texts(["一"], ["a", "b"])


def test_a_table_goes_by_its_ids(table):
    path = table("b 二 三\na 一\nc 四\n")
    found = pair_texts(str(path), ["a", "b", "d"])
    assert found[:2] == ["一", "二 三"]
    assert "no text of 'd'" in str(found[2])


def test_a_table_of_other_ids_goes_by_its_order(table):
    assert pair_texts(table("x 一\ny 二\n"), ["a", "b"]) == ["一", "二"]
    assert pair_texts(table("一\n二\n"), ["a", "b"]) == ["一", "二"]
    assert pair_texts(table("good day\nwe meet\n"), ["a", "b"]) == ["good day", "we meet"]
    assert pair_texts(table("u1 good day\n", "text"), ["a"]) == ["good day"]


def test_the_whole_line_is_the_text_of_a_single_recording(table):
    """The reference takes the first word for an id."""
    assert pair_texts(table("欢 迎 大 家\n"), ["a"]) == ["欢 迎 大 家"]
    assert pair_texts(table("a 欢 迎\n"), ["a"]) == ["欢 迎"]


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="none.txt: no such file"):
        pair_texts(tmp_path / "none.txt", ["a"])


def test_a_text_of_no_known_kind():
    with pytest.raises(DataError, match="text: int is none"):
        pair_texts(3, ["a"])
    with pytest.raises(DataError, match="in the list is none"):
        pair_texts([Path("a.txt")], ["a"])
