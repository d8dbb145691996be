"""Error rates equal those of sclite (NIST's) and jiwer on the same texts; skipped where absent."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from paraformer.data.text.score import Counts, score, units

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
