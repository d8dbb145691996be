"""Error rates: expected numbers are counted by hand, or those of sclite (NIST) and jiwer on
the same texts where these are installed.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from paraformer.data.text.score import Counts, align, count, format_aligned, pinyin, score, units
from paraformer.errors import ConfigError, DataError

texts = st.text("你好世界ab '1.，<>Ａ\u3000", max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天天气", ["今", "天", "天", "气"]),
        ("今 天\u3000天气。", ["今", "天", "天", "气"]),
        ("Ｈｅｌｌｏ　Ｗｏｒｌｄ！", ["hello", "world"]),
        ("hello世界WORLD", ["hello", "世", "界", "world"]),
        ("it’s o'clock 'quoted'", ["it's", "o'clock", "quoted"]),
        ("co-operate A.P.I.", ["co", "operate", "api"]),
        ("５０％", ["50%"]),
        ("3.14 12:30 1,000,000 1,23", ["3.14", "12:30", "1000000", "1", "23"]),
        ("第2名 mp3", ["第", "2", "名", "mp", "3"]),
        ("A P I 和 a b", ["api", "和", "ab"]),
        ("i am a b", ["i", "am", "ab"]),
        ("<noise>好<unk> 的", ["好", "的"]),
        ("〇㐀𠀀かナ한", ["〇", "㐀", "𠀀", "か", "ナ", "한"]),
        ("Straße ÉCOLE", ["strasse", "école"]),
        ("……，。！？《》——", []),
        ("スター・ウォーズ ｽﾀｰ･", ["ス", "タ", "ー", "ウ", "ォ", "ー", "ズ", "ス", "タ", "ー"]),
        ("阿凡达·卡梅隆 한국ㆍ미국 인", ["阿", "凡", "达", "卡", "梅", "隆", *"한국미국인"]),
        ("、。「」『』〜゠؟،؛۔।", []),
        ("हिन्दी में ไทยที่ বাংলা མཛོད་ལྡན", ["हिन्दी", "में", "ไทยที่", "বাংলা", "མཛོད", "ལྡན"]),
        ("か\u309a が カ\u3099", ["か\u309a", "が", "ガ"]),
        ("cafe\u0301 x\u030cy 𑄌𑄋𑄴", ["café", "x\u030cy", "𑄌𑄋𑄴"]),
        ("می\u200cخواهم 葛\U000e0100飾 so\u00adft", ["میخواهم", "葛", "飾", "soft"]),
        ("佐々木〆", ["佐", "々", "木", "〆"]),
        ("", []),
    ],
)
def test_what_counts_as_one_unit(text, expected):
    assert units(text) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("<>", "noise 你 好 laugh breath deep sigh"),
        ("<>[]()", "你 好 breath"),
        ("<>[]", "你 好 laugh breath"),
        ("【】", "noise sil 你 好 laugh deep sigh"),
        ("", "noise sil 你 好 laugh breath deep sigh"),
    ],
)
def test_tags_of_corpora(tags, expected):
    text = "[noise]<sil>你 好（laugh）【breath】[deep sigh]"
    assert units(text, tags=tags) == expected.split()


def test_a_comparison_is_no_tag():
    assert units("1 < 2 and 3 > 2") == ["1", "2", "and", "3", "2"]


@pytest.mark.parametrize("tags", ["<", "aa", "a>", "<><"])
def test_tags_are_pairs_of_brackets(tags):
    with pytest.raises(ConfigError, match="are no pairs of brackets"):
        units("好", tags=tags)


def test_traditional_characters_count_as_simplified_ones():
    pytest.importorskip("opencc")
    assert units("後 面 乾坤 頭髮 OK", simplified=True) == [*"后面乾坤头发", "ok"]
    refs, hyps = {"a": "我們在台灣"}, {"a": "我们在台湾"}
    assert score(refs, hyps).counts == Counts(5, 0, 0, 2)
    assert score(refs, hyps, partial(units, simplified=True)).counts == Counts(5, 0, 0, 0)


def test_raw_counts_every_character_as_it_stands():
    assert units("Ａ 好，", raw=True) == ["Ａ", " ", "好", "，"]


@pytest.mark.parametrize(
    ("ref", "hyp", "expected"),  # expected: reference units, insertions, deletions, substitutions
    [
        ("今天天气很好", "今天天气很好", (6, 0, 0, 0)),
        ("今天天气很好", "今天天很好", (6, 0, 1, 0)),
        ("今天天气很好", "今天天气很很好", (6, 1, 0, 0)),
        ("今天天气很好", "今天天器很好", (6, 0, 0, 1)),
        ("今天天气很好", "明天气很好啊", (6, 1, 1, 1)),
        ("今天气很好", "今天天气好吗", (5, 2, 1, 0)),
        ("ＡＢＣ公司", "abc 公 司", (3, 0, 0, 0)),
        ("Open the door", "open door", (3, 0, 1, 0)),
        ("涨了５０％", "涨了百分之五十", (3, 4, 0, 1)),
        ("你好", "", (2, 0, 2, 0)),
        ("", "你好", (0, 2, 0, 0)),
        ("，", "", (0, 0, 0, 0)),
    ],
)
def test_errors_of_one_utterance(ref, hyp, expected):
    assert count(align(units(ref), units(hyp))) == Counts(*expected)


def test_missing_hypothesis_is_all_deletions_and_extra_id_is_only_reported():
    report = score(
        {"a": "你好", "b": "大家好", "c": "hello world"},
        {"x": "什么", "c": "hello word", "a": "你好"},
    )
    assert (report.missing, report.extra) == (["b"], ["x"])
    assert report.counts == Counts(reference=7, insertions=0, deletions=3, substitutions=1)
    assert report.counts.line() == "%CER 57.14 [ 4 / 7, 0 ins, 3 del, 1 sub ]"
    assert report.sentence_line() == "%SER 66.67 [ 2 / 3 ]"
    assert list(report.alignments) == ["a", "b", "c"]


def test_raw_score_counts_width_case_blanks_and_marks():
    raw = score({"a": "ＡＢ 好。"}, {"a": "ab好"}, partial(units, raw=True)).counts
    assert raw == Counts(reference=5, insertions=0, deletions=2, substitutions=2)
    assert score({"a": "ＡＢ 好。"}, {"a": "ab好"}).counts.errors == 0


def test_empty_references_give_no_division_by_zero():
    assert score({"a": ""}, {"a": ""}).counts.line() == "%CER 0.00 [ 0 / 0, 0 ins, 0 del, 0 sub ]"
    assert score({"a": ""}, {"a": "好"}).counts.line() == "%CER inf [ 1 / 0, 1 ins, 0 del, 0 sub ]"


def test_no_reference_or_another_test_set_is_an_error():
    with pytest.raises(DataError, match="reference: no utterances"):
        score({}, {"a": "x"})
    with pytest.raises(DataError, match="no id of the reference"):
        score({"a": "x"}, {"b": "x"})
    assert score({"a": "x"}, {}).counts == Counts(1, 0, 1, 0)


def test_columns_are_as_wide_as_a_terminal_shows_them():
    rows = format_aligned("u", align(["我", "用", "api", "吧"], ["我", "api", "ba", "啊", "了"]))
    assert rows.split("\n")[1:] == [
        "REF  我 用 api 吧 ** **",
        "HYP  我 ** api ba 啊 了",
        "OPS     D      S  I  I",
    ]


@given(texts, texts)
def test_alignment_holds_both_texts_and_errors_are_symmetric(ref, hyp):
    left, right = units(ref), units(hyp)
    pairs = align(left, right)
    assert [p.ref for p in pairs if p.ref is not None] == left
    assert [p.hyp for p in pairs if p.hyp is not None] == right
    there, back = count(pairs), count(align(right, left))
    assert there.errors == back.errors
    assert max(len(left), len(right)) >= there.errors >= abs(len(left) - len(right))
    assert there.errors == Levenshtein.distance(left, right)
    assert there.insertions - there.deletions == len(right) - len(left)


@given(texts)
def test_normalising_twice_is_normalising_once(text):
    assert units(" ".join(units(text))) == units(text) or "<" in text


def test_pinyin_follows_the_context_and_keeps_other_units():
    pytest.importorskip("pypinyin")
    assert pinyin("银行 行走") == ["yin2", "hang2", "xing2", "zou3"]
    assert pinyin("妈妈的 OK 3", tones=False) == ["ma", "ma", "de", "ok", "3"]
    assert pinyin("好的") == ["hao3", "de5"]


def test_pinyin_error_rates_by_hand():
    pytest.importorskip("pypinyin")
    refs, hyps = {"a": "买书", "b": "他是"}, {"a": "卖书", "b": "她十"}
    assert score(refs, hyps).counts == Counts(4, 0, 0, 3)
    assert score(refs, hyps, pinyin).counts == Counts(4, 0, 0, 2)
    assert score(refs, hyps, partial(pinyin, tones=False)).counts == Counts(4, 0, 0, 0)


def with_dearer_changes(ref: list[str], hyp: list[str]) -> int:
    """Errors, then substitutions, as one number: the distance where a change costs a trifle more
    than an insertion, by rapidfuzz.
    """
    gap = len(ref) + len(hyp) + 1
    return int(Levenshtein.distance(ref, hyp, weights=(gap, gap, gap + 1)))


@given(st.lists(st.sampled_from("abc"), max_size=25), st.lists(st.sampled_from("abc"), max_size=25))
def test_of_the_fewest_errors_the_fewest_are_substitutions(ref, hyp):
    counts = count(align(ref, hyp))
    gap = len(ref) + len(hyp) + 1
    assert counts.errors * gap + counts.substitutions == with_dearer_changes(ref, hyp)


@pytest.mark.parametrize("length", [300, 1500, 4000])
def test_long_lines_are_counted_as_short_ones(length):
    generator = random.Random(length)
    ref = [generator.choice("abcdefgh") for _ in range(length)]
    hyp = [generator.choice("abcdefgh") if generator.random() < 0.1 else unit for unit in ref]
    del hyp[:: length // 20]
    pairs = align(ref, hyp)
    counts = count(pairs)
    assert [p.ref for p in pairs if p.ref] == ref and [p.hyp for p in pairs if p.hyp] == hyp
    gap = len(ref) + len(hyp) + 1
    assert counts.errors * gap + counts.substitutions == with_dearer_changes(ref, hyp)


def test_pairs_of_a_large_set_are_shared():
    """So that a million lines fit in memory."""
    report = score({str(i): "今天好" for i in range(3)}, {str(i): "今天坏" for i in range(3)})
    first, *others = report.alignments.values()
    assert all(a is b for pairs in others for a, b in zip(first, pairs, strict=True))


# beside sclite and jiwer

# Words between blanks, in scripts whose vowel signs and accents combine.
WORDS = {
    "hindi": ("हिन्दी में लिखा हुआ वाक्य", "हिन्दा में लिखी हुआ एक वाक्य"),
    "bengali": ("আমি বাংলায় কথা বলি", "আমি বাংলায় কথা বলে"),
    "thai": ("ที่นี่ คือ ประเทศ ไทย", "ที่นั่น คือ ประเทศ ไทย"),
    "arabic": ("مُحَمَّد رسول", "مُحَمَّد رسولي"),
    "accents": ("cafe\u0301 ole\u0301 a\u0328\u0301b", "cafe ole\u0301 a\u0328b"),
    "english": ("it's a test of the thing", "its test of of a thing"),
}
# Each character by itself, without marks and then with the marks that one would write.
CHARACTERS = {
    "chinese": ("今天天气很好", "今天天器很好啊", "今天，天气很好！", "今天；天器很好啊。"),
    "japanese": (
        "スターウォーズ見た",
        "スタウォーズ見た",
        "スター・ウォーズ見た。",
        "ｽﾀ･ウォーズ見た",
    ),
    "names": ("阿凡达卡梅隆", "阿凡达卡美隆", "阿凡达·卡梅隆", "阿凡达•卡美隆"),
    "korean": ("국내외", "국내", "국ㆍ내ㆍ외", "국内".replace("内", "내")),
}


def sclite(folder: Path, pairs: dict[str, tuple[str, str]], *options: str) -> Counts:
    """Errors that sclite counts, summed over utterances."""
    program = shutil.which("sclite") or "/usr/lib/sctk/bin/sclite"
    if not Path(program).is_file():
        pytest.skip("sclite is not installed (Debian: sctk)")
    for place, name in enumerate(("ref", "hyp")):
        lines = (f"{pair[place]} (spk-{key})\n" for key, pair in pairs.items())
        (folder / name).write_text("".join(lines), encoding="utf-8")
    done = subprocess.run(
        [program, "-r", "ref", "trn", "-h", "hyp", "trn", "-i", "rm", "-e", "utf-8", *options]
        + ["-o", "pra", "stdout"],
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=True,
    )
    found = re.findall(rb"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    right, wrong, lost, added = (sum(map(int, column)) for column in zip(*found, strict=True))
    return Counts(right + wrong + lost, added, lost, wrong)


def ours(pairs: dict[str, tuple[str, str]], **options: object) -> Counts:
    refs, hyps = ({key: pair[i] for key, pair in pairs.items()} for i in (0, 1))
    return score(refs, hyps, partial(units, **options)).counts


@pytest.mark.parametrize("language", WORDS)
def test_words_with_combining_signs_are_those_of_sclite(tmp_path, language):
    pairs = {"u1": WORDS[language]}
    assert ours(pairs) == sclite(tmp_path, pairs)


def test_characters_are_those_of_sclite_and_marks_do_not_count(tmp_path):
    bare = {key: row[:2] for key, row in CHARACTERS.items()}
    expected = sclite(tmp_path, bare, "-c", "NOASCII")
    assert ours(bare) == expected
    assert ours({key: row[2:] for key, row in CHARACTERS.items()}) == expected


def test_words_and_characters_are_those_of_jiwer():
    jiwer = pytest.importorskip("jiwer")
    refs, hyps = zip(*WORDS.values(), strict=True)
    words = jiwer.process_words(list(refs), list(hyps))
    assert ours(WORDS).errors == words.substitutions + words.deletions + words.insertions
    assert ours(WORDS).percent == pytest.approx(100 * words.wer)
    for row in CHARACTERS.values():
        found = jiwer.process_characters(row[0], row[1])
        assert ours({"a": row[2:]}).percent == pytest.approx(100 * found.cer)


def test_tags_left_out_are_those_of_jiwer():
    """Its RemoveKaldiNonWords takes out what stands in <> and []."""
    jiwer = pytest.importorskip("jiwer")
    pairs = {"a": ("good [laugh] morning <unk> all", "good mourning [noise] all <noise> of")}
    steps = [jiwer.RemoveKaldiNonWords(), jiwer.RemoveMultipleSpaces(), jiwer.Strip()]
    form = jiwer.Compose([*steps, jiwer.ReduceToListOfListOfWords()])
    found = jiwer.process_words(*pairs["a"], form, form)
    counts = ours(pairs, tags="<>[]")
    assert (counts.errors, counts.reference) == (2, 3)
    assert counts.percent == pytest.approx(100 * found.wer)
