"""Copies, subsets, splits and combinations have all that there was; what is fixed is valid."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.data.corpus import companions
from paraformer.data.corpus.checks import KNOWN_TABLES
from paraformer.data.corpus.combination import combine
from paraformer.data.corpus.datadir import DataDir
from paraformer.data.corpus.tables import read_table
from paraformer.errors import DataError
from tests.conftest import ROOT

ANY = {"text": False, "files": False, "wav": False, "feats": False}
UTTERANCES = {"a1": ("ra", "anna"), "a2": ("ra", "anna"), "b1": ("rb", "bo"), "c1": ("rc", "bo")}
RECORDINGS = {"ra": ("fa", "A"), "rb": ("fa", "B"), "rc": ("fc", "A")}


def write(folder: Path, tables: dict[str, list[str]]) -> DataDir:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return DataDir(folder)


def everything(segmented: bool = True) -> dict[str, list[str]]:
    """All tables that Kaldi's scripts know, and some that nobody does."""
    keys = UTTERANCES if segmented else {r: (r, s) for r, s in UTTERANCES.values()}
    recordings = RECORDINGS if segmented else {key: RECORDINGS[key] for key in keys}
    tables = {
        "wav.scp": [f"{r} sox {r}.mp3 -t wav - |" for r in recordings],
        "segments": [f"{k} {r} {n} {n + 1}" for n, (k, (r, _)) in enumerate(keys.items())],
        "feats.scp": [f"{k} f.ark:{n}" for n, k in enumerate(keys)],
        "vad.scp": [f"{k} v.ark:{n}" for n, k in enumerate(keys)],
        "cmvn.scp": ["anna c.ark:1", "bo c.ark:2"],
        "text": [f"{k} 好 {k}" for k in keys],
        "utt2spk": [f"{k} {s}" for k, (_, s) in keys.items()],
        "spk2gender": ["anna f", "bo m"],
        "spk2warp": ["anna 1.1", "bo 0.9"],
        "spk2age": ["anna 30", "bo 40"],
        "reco2dur": [f"{r} 9" for r in recordings],
        "reco2file_and_channel": [f"{r} {f} {c}" for r, (f, c) in recordings.items()],
        "reco2room": [f"{r} hall" for r in recordings],
        "room": [f"{r} hall" for r in recordings],
        "stm": [";; LABEL o", *(f"{f} {c} x 0 1 <o> 好" for f, c in recordings.values())],
        "glm": [";; all of it", "[um] => [uh] / [ ] __ [ ]"],
        "frame_shift": ["0.01"],
        "ctm": [f"{k} 1 0.{n} 0.1 w{n}" for k in keys for n in (1, 2)],
        "text_units": [f"{k} h ao" for k in keys],
        "notes": [f"{k} ok" for k in keys],
    }
    names = ("utt2dur", "utt2num_frames", "utt2lang", "utt2uniq", "utt2warp", "utt2cer")
    tables |= {name: [f"{k} 1" for k in keys] for name in names}
    return tables if segmented else {k: v for k, v in tables.items() if k != "segments"}


def kept(tables: dict[str, list[str]], ids: set[str]) -> dict[str, list[str]]:
    """The rows of some ids; glm and the like stay as they are, and so do comments."""
    whole = ("glm", "frame_shift")
    return {
        name: [row for row in rows if name in whole or row[:2] == ";;" or row.split()[0] in ids]
        for name, rows in tables.items()
    }


def content(folder: Path) -> dict[str, list[str]]:
    files = [path for path in folder.iterdir() if path.is_file()]
    return {p.name: p.read_text("utf-8").splitlines() for p in files if p.name != "spk2utt"}


def test_a_subset_has_every_table(tmp_path: Path) -> None:
    data = write(tmp_path / "d", everything())
    assert data.validate(files=False) == [] and data.uncarried == []
    subset = data.subset(["b1", "a2"], tmp_path / "s")
    ids = {"b1", "a2", "ra", "rb", "fa", "anna", "bo"}
    assert content(subset.path) == kept(everything(), ids)
    assert subset.validate(files=False) == []
    alone = data.subset(["c1"], tmp_path / "s")
    assert content(alone.path) == kept(everything(), {"c1", "rc", "fc", "bo"})


def test_the_parts_of_a_split_have_every_table(tmp_path: Path) -> None:
    data = write(tmp_path / "d", everything())
    parts = data.split(2)
    ids = [{"a1", "a2", "ra", "fa", "anna"}, {"b1", "c1", "rb", "rc", "fa", "fc", "bo"}]
    assert [content(part.path) for part in parts] == [kept(everything(), one) for one in ids]
    halves = [data.subset(data.utterances[i::2], tmp_path / str(i)) for i in (0, 1)]
    assert combine(tmp_path / "c", halves) == []
    back = content(tmp_path / "c")
    assert {name: sorted(rows) for name, rows in back.items()} == {
        name: sorted(rows) for name, rows in everything().items()
    }


def test_a_copy_renames_what_is_renamed_everywhere(tmp_path: Path) -> None:
    data = write(tmp_path / "d", everything())
    copy = data.copy(tmp_path / "c", utt_prefix="u-", spk_prefix="s-")
    assert copy.validate(files=False) == []
    found = content(copy.path)
    by_speaker = ("cmvn.scp", "spk2gender", "spk2warp", "spk2age")
    same = ("wav.scp", "reco2dur", "reco2file_and_channel", "reco2room", "room", "stm", "glm")
    for name, rows in everything().items():
        if name in (*same, "frame_shift"):
            expected = rows
        elif name == "utt2spk":
            expected = [f"u-{row.split()[0]} s-{row.split()[1]}" for row in rows]
        else:
            expected = [f"{'s' if name in by_speaker else 'u'}-{row}" for row in rows]
        assert found[name] == expected, name


def test_recordings_that_are_utterances_are_renamed_too(tmp_path: Path) -> None:
    data = write(tmp_path / "d", everything(segmented=False))
    copy = data.copy(tmp_path / "c", utt_suffix=".x")
    assert copy.validate(files=False) == []
    found = content(copy.path)
    assert found["reco2file_and_channel"] == ["ra.x fa A", "rb.x fa B", "rc.x fc A"]
    assert found["stm"] == everything()["stm"]  # of files, which keep their names
    assert found["ctm"][0] == "ra.x 1 0.1 0.1 w1"


def test_a_source_without_utt2uniq_gets_one(tmp_path: Path) -> None:
    one = write(tmp_path / "1", {"text": ["sp0.9-a 好"], "utt2uniq": ["sp0.9-a a"]})
    two = write(tmp_path / "2", {"text": ["b 好"], "notes": ["b x"]})
    assert combine(tmp_path / "c", [one, two]) == ["notes"]
    assert content(tmp_path / "c")["utt2uniq"] == ["b b", "sp0.9-a a"]


def test_statistics_of_a_speaker_in_two_places_are_left_out(tmp_path: Path) -> None:
    base = {"utt2spk": ["a anna"], "cmvn.scp": ["anna 1.ark:1"]}
    one = write(tmp_path / "1", {**base, "glm": ["a => b"], "frame_shift": ["0.01"]})
    other = {"utt2spk": ["b anna"], "cmvn.scp": ["anna 2.ark:1"], "frame_shift": ["0.01"]}
    two = write(tmp_path / "2", {**other, "glm": ["a => c"]})
    assert combine(tmp_path / "c", [one, two]) == ["cmvn.scp", "glm"]
    assert content(tmp_path / "c")["frame_shift"] == ["0.01"]
    ctm = write(tmp_path / "3", {"utt2spk": ["a anna"], "ctm": ["a 1 0 1 x"]})
    other = write(tmp_path / "4", {"utt2spk": ["a anna"], "ctm": ["a 1 0 1 y"]})
    with pytest.raises(DataError, match="4/ctm: 'a' has other lines in another source"):
        combine(tmp_path / "c", [ctm, other])


def test_speeds_keep_units_and_speakers(tmp_path: Path) -> None:
    made = write(tmp_path / "d", everything()).perturb_speed(tmp_path / "sp", [0.9, 1.0])
    assert read_table(made.path / "spk2gender")["sp0.9-bo"] == "m"
    assert read_table(made.path / "text_units")["sp0.9-a1"] == "h ao"
    assert made.validate(wav=False, feats=False) == []


@pytest.mark.cli
def test_what_is_not_carried_is_said(tmp_path: Path) -> None:
    strange = {"README": ["hello there"], "dropped.txt": ["x y"]}
    data = write(tmp_path / "d", {**everything(), **strange})
    (data.path / "f.ark").write_bytes(b"\0\xff")
    for arguments in (["copy_data_dir.py", data.path], ["subset_data_dir.py", data.path, "2"]):
        command = [ROOT / "utils" / str(arguments[0]), *arguments[1:], tmp_path / "to"]
        line = [sys.executable, *map(str, command)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        assert "not carried, since its ids are of nothing here: README\n" in done.stderr
        assert not (tmp_path / "to" / "README").exists()


# What is fixed is valid

KEYS = ["a", "b", "c", "d"]  # utterances, and the recordings too
SOUND = {
    "wav.scp": "cat x |",
    "segments": "{} 0 1",
    "feats.scp": "x.ark:1",
    "text": "好",
    "utt2spk": "s",
    "spk2utt": "",
    "utt2dur": "1",
    "reco2dur": "2.5",
    "reco2file_and_channel": "f A",
    "utt2num_frames": "1",
    "cmvn.scp": "c.ark:1",
    "spk2gender": "f",
    "vad.scp": "v.ark:1",
    "utt2uniq": "x",
    "ctm": "1 0 1 x",
    "utt2note": "x",
}
ODD = ["", "x", "t", "0", "2.5", "a 2 1", "a 0 1", "zz 0 1 1", "s t", "a b c d"]
SPOILS = st.tuples(
    st.sampled_from([*SOUND]),
    st.sampled_from(["remove", "add", "change", "repeat", "empty"]),
    st.sampled_from([*KEYS, "s", "zz"]),
    st.sampled_from(ODD),
)


def sound(name: str) -> list[str]:
    if name == "spk2utt":
        return ["s a b c d"]
    return [f"{key} {SOUND[name].format(key)}" for key in (["s"] if name in SPOKEN else KEYS)]


SPOKEN = ("cmvn.scp", "spk2gender", "spk2utt")


def spoiled(rows: list[str], kind: str, key: str, value: str) -> list[str]:
    own, others = ([row for row in rows if (row[0] == key) == mine] for mine in (True, False))
    new = [f"{key} {value}"]
    return {
        "remove": others,
        "add": rows + new,
        "change": new + others,
        "repeat": rows + own,
        "empty": [],
    }[kind]


@settings(max_examples=150)
@given(names=st.sets(st.sampled_from([*SOUND]), min_size=1), spoils=st.lists(SPOILS, max_size=4))
def test_what_is_fixed_is_valid(names: set[str], spoils: list[tuple[str, ...]]) -> None:
    """And to fix it again changes nothing, nor does it change what is valid already."""
    tables = {name: sound(name) for name in sorted(names)}
    for name, kind, key, value in spoils:
        if name in tables:
            tables[name] = spoiled(tables[name], kind, key, value)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        valid = write(folder, tables).validate(**ANY) == []
        try:
            repair = DataDir(folder).fix(files=False)
        except DataError as error:
            assert "no utterance would remain" in str(error)
            return
        # A ctm may know of more than there is.
        assert not valid or {*repair.rewritten, *repair.removed} <= {"spk2utt", "ctm", "utt2note"}
        assert DataDir(folder).validate(**ANY) == [], (tables, content(folder))
        again = DataDir(folder).fix(files=False)
        assert (again.backup, again.dropped) == (None, {})


def test_known_tables_are_those_of_kaldi() -> None:
    """Of its validate_data_dir.sh, of which nothing may be lost."""
    assert {
        *("wav.scp", "segments", "reco2file_and_channel", "reco2dur", "feats.scp", "text"),
        *("utt2spk", "spk2utt", "cmvn.scp", "spk2gender", "spk2warp", "utt2warp", "vad.scp"),
        *("utt2lang", "utt2uniq", "utt2dur", "utt2num_frames"),
    } == {*KNOWN_TABLES}


def test_a_file_that_is_no_text_or_one_endless_line_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "_LONGEST_LINE", 1 << 17)
    (tmp_path / "text").write_text("u1 a\n")
    (tmp_path / "model.pt").write_bytes(b"u1 \0" * 10)
    (tmp_path / "line").write_bytes(b"u1 " + b"x" * (1 << 18))
    (tmp_path / "utt2note").write_bytes(b"u1 " + b"x" * (1 << 16))
    data = DataDir(tmp_path)
    assert [*data.companions] == ["utt2note"] and data.uncarried == ["line"]


def test_lines_of_an_id_that_two_sources_have_must_be_the_same(tmp_path: Path) -> None:
    notes = {"1": "u1 a\nu1 b\n", "2": "u1 a\nu1 b\nu2 c\n", "3": "u1 b\nu1 a\n"}
    for name, lines in notes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text("u1 a\nu2 a\n")
        (tmp_path / name / "utt2note").write_text(lines)
    one, two, three = (DataDir(tmp_path / name) for name in "123")
    combine(tmp_path / "all", [one, two])
    assert (tmp_path / "all/utt2note").read_text() == "u1 a\nu1 b\nu2 c\n"
    with pytest.raises(DataError, match="3/utt2note: 'u1' has other lines in another source"):
        combine(tmp_path / "none", [one, three])
    assert not (tmp_path / "none/text").exists()
