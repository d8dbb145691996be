"""TextGrid files as Praat and corpora write them become data directories."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from paraformer.data.corpus.datadir import DataDir
from paraformer.data.corpus.tables import read_table
from paraformer.data.inputs.sources import list_items
from paraformer.data.inputs.textgrid import (
    Interval,
    Rules,
    Tier,
    parse_textgrid,
    read_textgrid,
    textgrids_to_data,
)
from paraformer.errors import ConfigError, DataError
from tests.conftest import ROOT

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0 
xmax = 4 
tiers? <exists> 
size = 3 
item []: 
    item [1]:
        class = "IntervalTier" 
        name = "013-M" 
        xmin = 0 
        xmax = 4 
        intervals: size = 3 
        intervals [1]:
            xmin = 0 
            xmax = 0.5 
            text = "" 
        intervals [2]:
            xmin = 0.5 
            xmax = 2 
            text = "他说 ""好"" <sil>" 
        intervals [3]:
            xmin = 2 
            xmax = 4 
            text = "<%>" 
    item [2]:
        class = "TextTier" 
        name = "bells" 
        xmin = 0 
        xmax = 4 
        points: size = 1 
        points [1]:
            number = 1 
            mark = "ding" 
    item [3]:
        class = "IntervalTier" 
        name = "014-F" 
        xmin = 0 
        xmax = 4 
        intervals: size = 1 
        intervals [1]:
            xmin = 1.25 
            xmax = 3 
            text = "两行
的 [UNK] 话" 
"""  # noqa: W291
TIERS = [
    Tier(
        "013-M", [Interval(0, 0.5, ""), Interval(0.5, 2, '他说 "好" <sil>'), Interval(2, 4, "<%>")]
    ),
    Tier("014-F", [Interval(1.25, 3, "两行\n的 [UNK] 话")]),
]
# The numbers and texts alone, as Praat writes its short format, with a remark.
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0 ! "not this" 5
4
<exists>
2
"IntervalTier"
"013-M"
0
4
3
0
0.5
""
0.5
2
"他说 ""好"" <sil>"
2
4
"<%>"
"IntervalTier"
"014-F"
0
4
1
1.25
3
"两行
的 [UNK] 话"
"""


@pytest.mark.parametrize("content", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_both_formats_in_every_encoding(tmp_path, content, encoding, end):
    path = tmp_path / "a.TextGrid"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    path.write_bytes((mark + content).replace("\n", end).encode(encoding))
    tiers = read_textgrid(path)
    plain = [Tier(t.name, [i._replace(text=i.text.replace("\r", "")) for i in t[1]]) for t in tiers]
    assert plain == TIERS


texts = st.text('好a "<[!\n5', max_size=6)


@given(
    st.lists(texts, min_size=1, max_size=4), st.sampled_from(["long_textgrid", "short_textgrid"])
)
def test_files_of_praatio_are_read_as_it_wrote_them(tmp_path_factory, said, kind):
    textgrid = pytest.importorskip("praatio.textgrid")
    entries = [(i + 0.25, i + 1.0, text) for i, text in enumerate(said) if text.strip()]
    grid = textgrid.Textgrid(0, len(said))
    grid.addTier(textgrid.IntervalTier('a "b"', entries, 0, len(said)))
    path = tmp_path_factory.mktemp("grid") / "a.TextGrid"
    grid.save(str(path), kind, includeBlankSpaces=True)
    (tier,) = read_textgrid(path)
    found = [(*i[:2], i.text.strip()) for i in tier.intervals if i.text.strip()]
    assert (tier.name, found) == ('a "b"', [(a, b, text.strip()) for a, b, text in entries])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a:1: ends where a text should stand"),
        ('"ooTextFile" "Sound" 0 1', "a:1: is no TextGrid"),
        (LONG.replace("size = 3", "size = many"), "a:10: '.IntervalTier.' stands where a number"),
        (LONG[:600], "a:.* ends where a (text|number) should stand"),
        (LONG.replace("intervals: size = 3", "intervals: size = -1"), "a:14: -1 is no number of"),
        (LONG.replace('"TextTier"', '"Spectrum"'), "has a tier of the unknown kind 'Spectrum'"),
    ],
)
def test_what_is_wrong_is_one_line(content, message):
    with pytest.raises(DataError, match=message):
        parse_textgrid(content, "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ooBinaryFile\x08TextGrid", "binary format; save it as a text file"),
        ('"ooTextFile" 好'.encode("gb18030"), "neither UTF-8 nor UTF-16; convert it"),
        (None, "No such file"),
    ],
)
def test_files_of_another_kind(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.TextGrid").write_bytes(content)
    with pytest.raises(DataError, match=f"a.TextGrid: .*{message}"):
        read_textgrid(tmp_path / "a.TextGrid")


def corpus(folder, wav="S1", grid="S1", content=LONG):
    """As AISHELL-4 has it: wav/ and TextGrid/ side by side."""
    for name in ("wav", "TextGrid"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"wav/{wav}.wav", np.zeros(64000, np.int16), 16000)
    (folder / f"TextGrid/{grid}.TextGrid").write_text(content, encoding="utf-16")
    return folder


def test_a_meeting_becomes_utterances_of_its_speakers(tmp_path):
    source = corpus(tmp_path / "train_L")
    done = textgrids_to_data([source], tmp_path / "data", Rules("<>[]"))
    data = tmp_path / "data"
    first, second = "S1-013-M-00000500-00002000", "S1-014-F-00001250-00003000"
    assert (done.kept, done.dropped) == (2, {})
    assert read_table(data / "text") == {first: '他说 "好"', second: "两行 的 话"}
    assert read_table(data / "segments") == {first: "S1 0.500 2.000", second: "S1 1.250 3.000"}
    assert read_table(data / "utt2spk") == {first: "S1-013-M", second: "S1-014-F"}
    assert read_table(data / "wav.scp") == {"S1": str(source / "wav/S1.wav")}
    assert DataDir(data).validate() == []
    waves = [item.read(None, 16000) for item in list_items(data)]
    assert [len(wave) for wave in waves] == [24000, 28000]


def test_tags_stay_unless_they_are_to_go_and_tiers_are_chosen(tmp_path):
    source = corpus(tmp_path / "a")
    kept = textgrids_to_data([source / "TextGrid/S1.TextGrid", source / "wav"], tmp_path / "b")
    assert kept.kept == 3
    textgrids_to_data([source], tmp_path / "b", Rules(tiers="014*", same_speakers=True))
    assert read_table(tmp_path / "b/utt2spk") == {"014-F-S1-00001250-00003000": "014-F"}
    with pytest.raises(ConfigError, match="are no pairs of brackets"):
        textgrids_to_data([source], tmp_path / "b", Rules("<"))


def test_far_recordings_have_a_longer_name_as_in_alimeeting(tmp_path):
    source = corpus(tmp_path / "far", wav="R0003_M0046_MS002", grid="R0003_M0046")
    assert textgrids_to_data([source], tmp_path / "data").kept == 3
    assert read_table(tmp_path / "data/wav.scp").keys() == {"R0003_M0046"}


def test_what_cannot_be_used_is_named_and_the_rest_is_kept(tmp_path):
    source = corpus(tmp_path / "a")
    corpus(source, wav="S2", grid="S2", content="no grid")
    (source / "TextGrid/S3.TextGrid").write_text(LONG, encoding="utf-8")
    corpus(source, wav="S4", grid="S4", content=LONG.replace("xmax = 2", "xmax = 0.25"))
    corpus(source, wav="S5", grid="S5", content=LONG.split("item [1]")[0].replace("= 3", "= 0"))
    done = textgrids_to_data([source], tmp_path / "data", Rules("<>"))
    assert done.kept == 3
    reasons = {key.rpartition("/")[2]: reason for key, reason in done.dropped.items()}
    assert "ends where a text should stand" in reasons.pop("S2.TextGrid")
    assert reasons == {
        "S3.TextGrid": "no recording of this name",
        "S4-013-M-00000500-00000250": "ends before it begins",
        "S5.TextGrid": "nothing is said in it",
    }
    assert read_table(tmp_path / "data/dropped.txt").keys() == done.dropped.keys()


def test_the_program(tmp_path):
    source = corpus(tmp_path / "a")
    command = [sys.executable, ROOT / "utils/textgrid2data.py", "--drop-tags", "<>[]"]
    done = subprocess.run(
        [*command, source, tmp_path / "data"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"textgrid2data.py: {tmp_path}/data: 2 utterances, 0 dropped\n"
    done = subprocess.run(
        [*command, tmp_path / "none", tmp_path / "data"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"textgrid2data.py: {tmp_path}/none: no such file or folder")
