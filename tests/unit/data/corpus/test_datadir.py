from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from paraformer.data.corpus.checks import entry_file, wrong_value
from paraformer.data.corpus.combination import combine
from paraformer.data.corpus.datadir import DataDir, read_table, write_table
from paraformer.errors import DataError

FIX = "run utils/fix_data_dir.py D"


def make(folder: Path, **tables: dict[str, str]) -> DataDir:
    """A data directory; the names of the tables have `_` for `.`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_table(folder / name.replace("_", "."), table)
    return DataDir(folder)


def make_sound(folder: Path, count: int = 6, speakers: int = 2) -> DataDir:
    """`count` utterances with audio files that hold one byte."""
    keys = [f"u{i:02}" for i in range(count)]
    (folder / "wav").mkdir(parents=True)
    for key in keys:
        (folder / "wav" / f"{key}.wav").write_bytes(b"x")
    return make(
        folder,
        wav_scp={key: f"{folder}/wav/{key}.wav" for key in keys},
        text={key: f"第 {key} 句" for key in keys},
        utt2spk={key: f"s{i % speakers}" for i, key in enumerate(keys)},
    )


def make_segmented(folder: Path) -> DataDir:
    """Two recordings with three segments."""
    folder.mkdir(parents=True)
    (folder / "r.wav").write_bytes(b"x")
    return make(
        folder,
        wav_scp={"r1": f"{folder}/r.wav", "r2": f"{folder}/r.wav"},
        segments={"a": "r1 0 1.5", "b": "r1 1.5 4", "c": "r2 0.25 -1"},
        text={"a": "一", "b": "二", "c": "三"},
        utt2spk={"a": "s1", "b": "s1", "c": "s2"},
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def reasons(data: DataDir, **options: bool) -> dict[str, int]:
    return dict(Counter(fault.reason for fault in data.validate(**options)))


# Reading


def test_utterances_are_joined_by_id(tmp_path: Path) -> None:
    data = make(
        tmp_path,
        wav_scp={"u1": "a.wav", "u2": "b.wav", "u3": "c.wav"},
        text={"u3": "三", "u1": "一"},
        utt2dur={"u1": "1.5"},
        utt2num_frames={},
    )
    assert [(u.id, u.wav, u.text) for u in data.iter_utterances()] == [
        ("u1", "a.wav", "一"),
        ("u3", "c.wav", "三"),
    ]
    assert [u.duration_seconds for u in data.iter_utterances()] == [1.5, None]


def test_segments_give_recording_and_times(tmp_path: Path) -> None:
    data = make_segmented(tmp_path / "d")
    assert [
        (u.id, Path(u.wav).name, u.start_seconds, u.end_seconds, u.duration_seconds)
        for u in data.iter_utterances()
    ] == [
        ("a", "r.wav", 0, 1.5, 1.5),
        ("b", "r.wav", 1.5, 4, 2.5),
        ("c", "r.wav", 0.25, None, None),
    ]


def test_a_missing_directory_or_table_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such directory"):
        DataDir(tmp_path / "no")
    with pytest.raises(DataError, match="holds no data; make at least one of segments wav.scp"):
        _ = DataDir(tmp_path).utterances
    with pytest.raises(DataError, match="text: no such file"):
        DataDir(tmp_path).table("text")


# Validation


def test_a_sound_directory_has_no_fault(tmp_path: Path) -> None:
    assert make_sound(tmp_path / "d").validate() == []
    assert make_segmented(tmp_path / "e").validate() == []


def test_all_faults_come_at_once_each_with_its_line_and_remedy(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    (data.path / "text").write_text("u02 x\nu01\nu00 x\nu00 x\nu00 y\nonly x\n", "utf-8")
    found = {
        str(fault).replace(str(data.path), "D").replace(FIX, "FIX") for fault in data.validate()
    }
    assert {
        "D/text:2: 'u01' stands behind 'u02': not sorted (LC_ALL=C sort); FIX",
        "D/text:2: 'u01': empty transcript; correct it, or FIX",
        "D/text:4: 'u00' stands already in line 3; FIX",
        "D/text:5: 'u00' stands already in line 3 with another value; "
        "keep the right one of the two; utils/fix_data_dir.py D drops both",
        "D/text:6: 'only' is not in wav.scp, utt2spk; add it, or FIX",
        "D/wav.scp:4: 'u03' is not in text; add it, or FIX",
    } <= found
    assert len(found) == 8


@pytest.mark.parametrize(
    ("have", "need", "missing"),
    [
        ("wav.scp text", {}, []),
        ("feats.scp text", {}, []),
        ("text", {}, ["wav.scp"]),
        ("wav.scp", {}, ["text"]),
        ("wav.scp", {"text": False}, []),
        ("wav.scp text", {"feats": True}, ["feats.scp"]),
        ("feats.scp text", {"wav": True}, ["wav.scp"]),
        ("text", {"wav": False, "feats": False}, []),
    ],
)
def test_what_is_needed_can_be_said(
    tmp_path: Path, have: str, need: dict[str, bool], missing: list[str]
) -> None:
    for name in have.split():
        write_table(tmp_path / name, {"u1": "cat x |"})
    faults = DataDir(tmp_path).validate(**need)
    assert [fault.path.name for fault in faults] == missing


def test_an_empty_table_is_a_fault(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    (data.path / "text").write_bytes(b"\xef\xbb\xbf\n")
    assert reasons(data) == {"table empty": 1, "not in text": 6}


def test_files_that_are_not_there_or_empty_are_faults(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d", 5)
    wavs = read_table(data.path / "wav.scp")
    Path(wavs["u00"]).unlink()
    Path(wavs["u01"]).write_bytes(b"")
    wavs["u02"] = "sox no.mp3 -t wav - |"
    wavs["u03"] = "https://example.org/no.wav"
    write_table(data.path / "wav.scp", wavs)
    (tmp_path / "f.ark").write_bytes(b"0123456789")
    feats = {f"u{i:02}": f"{tmp_path}/f.ark:{offset}" for i, offset in enumerate([0, 9, 10, 3, 4])}
    write_table(data.path / "feats.scp", {**feats, "u04": f"{tmp_path}/f.ark:4[0:2]"})
    assert reasons(data) == {
        "no file for wav.scp": 1,
        "empty file in wav.scp": 1,
        "cut file in feats.scp": 1,
    }
    assert reasons(data, files=False) == {}
    absolute = f"'u00': no file {wavs['u00']}; correct the path"
    assert any(absolute in str(fault) for fault in data.validate())


def test_an_entry_names_a_file_an_offset_or_a_pipe(tmp_path: Path) -> None:
    odd = tmp_path / "take:2"
    odd.write_bytes(b"x")
    assert entry_file(str(odd)) == (str(odd), 0)
    assert entry_file("a b.ark:17") == ("a b.ark", 17)
    assert entry_file("C:\\x.wav") == ("C:\\x.wav", 0)
    assert entry_file("cat x |") == entry_file("-") == entry_file("") == ("", 0)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("r 0 1", ""),
        ("r 1 -1", ""),
        ("r\t0.5  1", ""),
        ("r 1 1", "segment without length"),
        ("r 1 0.5", "segment without length"),
        ("r 1 -2", "segment without length"),
        ("r -1 2", "segment times are not seconds"),
        ("r 0 nan", "segment times are not seconds"),
        ("r 0 inf", "segment times are not seconds"),
        ("r a b", "segment times are not seconds"),
        ("r 0", "not of the form: utterance recording start end [channel]"),
        ("r 0 1 0", ""),
        ("r 0 1 1", ""),
        ("r 0 1 -1", ""),
        ("r 0 1 1 x", "not of the form: utterance recording start end [channel]"),
        ("r 0 1 B", "segment channel is no whole number from 0"),
        ("r 0 1 -2", "segment channel is no whole number from 0"),
    ],
)
def test_segments_are_checked(value: str, problem: str) -> None:
    assert wrong_value("segments", value) == problem


def test_values_of_the_other_tables_are_checked() -> None:
    assert wrong_value("utt2dur", "0") == wrong_value("utt2dur", "nan") != ""
    assert wrong_value("utt2num_frames", "1.5") == wrong_value("utt2num_frames", "0") != ""
    assert wrong_value("utt2spk", "a b") == wrong_value("utt2spk", "") != ""
    assert wrong_value("utt2lang", "") == wrong_value("text", "x") == ""


def test_recordings_and_segments_must_know_each_other(tmp_path: Path) -> None:
    data = make_segmented(tmp_path / "d")
    write_table(data.path / "wav.scp", {"r1": f"{data.path}/r.wav", "r3": f"{data.path}/r.wav"})
    assert reasons(data) == {"recording not in wav.scp": 1, "recording without segments": 1}


def test_tables_made_from_others_must_fit(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    write_table(data.path / "spk2utt", {"s0": "u00 u02 u04", "s1": "u01 u03"})
    write_table(data.path / "utt2dur", {"u00": "1", "zz": "1"})
    assert reasons(data) == {"spk2utt is stale": 1, "utt2dur is stale": 2}
    (data.path / "utt2spk").unlink()
    assert "table missing" in reasons(data)


# Repair


def make_twenty(folder: Path) -> DataDir:
    """Twenty utterances with the faults that real directories have."""
    data = make_sound(folder, 20, speakers=4)
    wavs, text = read_table(folder / "wav.scp"), read_table(folder / "text")
    Path(wavs["u00"]).unlink()
    del wavs["u01"]
    text["u02"] = ""
    write_table(folder / "wav.scp", wavs)
    write_table(folder / "text", text)
    with (folder / "text").open("a", encoding="utf-8") as file:
        file.write("u03 第 u03 句\r\n" + "u04 另一句\n")
    return data


def test_fix_keeps_what_is_sound_and_lists_what_goes(tmp_path: Path) -> None:
    data = make_twenty(tmp_path / "d")
    before = snapshot(data.path)
    repair = data.fix()
    assert repair.dropped == {
        "u00": "no file for wav.scp",
        "u01": "not in wav.scp",
        "u02": "empty transcript",
        "u04": "two entries in text",
    }
    assert repair.counts() == dict.fromkeys(repair.dropped.values(), 1)
    kept = [f"u{i:02}" for i in range(20) if i not in (0, 1, 2, 4)]
    assert data.utterances == kept
    assert repair.kept == len(kept)
    for name in ("wav.scp", "text", "utt2spk"):
        assert sorted(read_table(data.path / name)) == kept
        assert repair.backup is not None
        assert (repair.backup / name).read_bytes() == before[name]
    assert read_table(data.path / "dropped.txt") == repair.dropped
    assert data.validate() == []


def test_to_fix_twice_is_the_same_as_once(tmp_path: Path) -> None:
    data = make_twenty(tmp_path / "d")
    data.fix()
    once = snapshot(data.path)
    repair = data.fix()
    assert (repair.backup, repair.rewritten, repair.dropped) == (None, [], {})
    assert snapshot(data.path) == once


def test_a_later_fix_keeps_the_earlier_backup_and_list(tmp_path: Path) -> None:
    data = make_twenty(tmp_path / "d")
    first = data.fix()
    (data.path / "wav" / "u10.wav").unlink()
    second = data.fix()
    assert (first.backup, second.backup) == (data.path / ".backup/1", data.path / ".backup/2")
    listed = read_table(data.path / "dropped.txt")
    assert listed == {**first.dropped, "u10": "no file for wav.scp"}


def test_fix_mends_form_without_loss(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    clean = (data.path / "text").read_bytes()
    lines = clean.decode().splitlines()[::-1]
    (data.path / "text").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    repair = data.fix()
    assert (repair.kept, repair.dropped) == (6, {})
    assert (data.path / "text").read_bytes() == clean
    assert read_table(data.path / "spk2utt") == {"s0": "u00 u02 u04", "s1": "u01 u03 u05"}


def test_fix_removes_stale_tables_instead_of_utterances(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    write_table(data.path / "utt2dur", {"u00": "1"})
    write_table(data.path / "utt2num_frames", {f"u{i:02}": str(i + 1) for i in range(9)})
    repair = data.fix()
    assert (repair.kept, repair.removed) == (6, ["utt2dur"])
    assert len(read_table(data.path / "utt2num_frames")) == 6
    assert repair.backup is not None and (repair.backup / "utt2dur").exists()


def test_a_lost_recording_takes_its_segments_along(tmp_path: Path) -> None:
    data = make_segmented(tmp_path / "d")
    write_table(data.path / "wav.scp", {"r1": "/no/such.wav", "r2": f"{data.path}/r.wav"})
    repair = data.fix()
    assert repair.dropped == {"a": "no file for wav.scp", "b": "no file for wav.scp"}
    assert read_table(data.path / "wav.scp") == {"r2": f"{data.path}/r.wav"}
    assert read_table(data.path / "spk2utt") == {"s2": "c"}
    assert data.validate() == []


def test_fix_refuses_to_leave_nothing(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    for path in (data.path / "wav").iterdir():
        path.unlink()
    before = snapshot(data.path)
    with pytest.raises(DataError, match=r"no utterance would remain .*6 no file for wav.scp"):
        data.fix()
    assert snapshot(data.path) == before
    assert data.fix(files=False).kept == 6


def test_empty_transcripts_stay_if_wanted(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    write_table(data.path / "text", {**data.table("text"), "u00": ""})
    assert DataDir(data.path).validate(empty_text=True) == []
    assert data.fix(empty_text=True).kept == 6


# Split, subset, copy, combine


def test_the_parts_of_a_split_are_the_whole(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d", 21, speakers=7)
    for by, folder in (("speaker", "split3"), ("utterance", "split3utt")):
        parts = data.split(3, by)
        assert [part.path for part in parts] == [data.path / folder / str(i) for i in (1, 2, 3)]
        assert sorted(key for part in parts for key in part.utterances) == data.utterances
        assert [len(part.utterances) for part in parts] in ([7, 7, 7], [9, 6, 6])
        for part in parts:
            assert part.validate() == []
            assert all(
                data.tables[name].items() >= part.tables[name].items() for name in data.tables
            )


def test_a_speaker_stands_in_one_part(tmp_path: Path) -> None:
    parts = make_sound(tmp_path / "d", 21, speakers=7).split(3)
    speakers = [set(part.table("utt2spk").values()) for part in parts]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 7


def test_parts_are_balanced_by_length(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d", 10)
    lengths = [100, 1, 1, 1, 1, 1, 1, 1, 50, 43]
    write_table(data.path / "utt2num_frames", {f"u{i:02}": str(n) for i, n in enumerate(lengths)})
    parts = DataDir(data.path).split(2, "utterance")
    sums = [sum(map(int, part.table("utt2num_frames").values())) for part in parts]
    assert sums == [100, 100]


def test_a_split_that_cannot_be_is_refused(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    with pytest.raises(DataError, match=r"2 speakers cannot make 3 parts; .*--per-utt"):
        data.split(3)
    with pytest.raises(DataError, match="6 utterances cannot make 7"):
        data.split(7, "utterance")
    with pytest.raises(DataError, match="cannot make 0"):
        data.split(0, "utterance")
    (data.path / "utt2spk").unlink()
    with pytest.raises(DataError, match="utt2spk: no such file"):
        DataDir(data.path).split(2)


def test_segments_are_split_with_their_recordings(tmp_path: Path) -> None:
    parts = make_segmented(tmp_path / "d").split(2)
    assert [(part.utterances, sorted(part.table("wav.scp"))) for part in parts] == [
        (["a", "b"], ["r1"]),
        (["c"], ["r2"]),
    ]


def test_a_random_choice_is_the_same_everywhere_and_grows(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d", 50)
    # The least three of `printf '7 u00' | sha256sum` and so on.
    assert data.choose(3, seed=7) == ["u07", "u31", "u48"]
    assert set(data.choose(10, seed=7)) < set(data.choose(20, seed=7))
    assert data.choose(10, seed=7) != data.choose(10, seed=8)
    assert data.choose(50) == data.utterances


def test_the_first_and_the_shortest_can_be_chosen(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    assert data.choose(2, "first") == ["u00", "u01"]
    with pytest.raises(DataError, match="no length known"):
        data.choose(2, "shortest")
    write_table(data.path / "utt2dur", {f"u{i:02}": str(9 - i) for i in range(6)})
    assert DataDir(data.path).choose(2, "shortest") == ["u04", "u05"]
    for count in (0, 7):
        with pytest.raises(DataError, match=f"{count} utterances asked for, 6 there"):
            data.choose(count, "first")


def test_a_subset_has_only_its_speakers_and_no_leftovers(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    make(tmp_path / "to", feats_scp={"old": "x.ark:1"}, utt2dur={"old": "1"})
    subset = data.subset(["u00", "u04", "stranger"], tmp_path / "to")
    assert subset.utterances == ["u00", "u04"]
    assert subset.table("spk2utt") == {"s0": "u00 u04"}
    assert sorted(subset.tables) == ["spk2utt", "text", "utt2spk", "wav.scp"]
    with pytest.raises(DataError, match="none of the wanted"):
        data.subset(["stranger"], tmp_path / "to")
    with pytest.raises(DataError, match="also the source"):
        data.subset(["u00"], data.path)


def test_a_copy_renames_utterances_and_speakers(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d", 2)
    write_table(data.path / "utt2dur", {"u00": "1", "u01": "2"})
    write_table(data.path / "spk2gender", {"s0": "f", "s1": "m"})
    copy = DataDir(data.path).copy(
        tmp_path / "c", utt_prefix="远场-", utt_suffix=".x", spk_prefix="p-", spk_suffix="-q"
    )
    ids = ["远场-u00.x", "远场-u01.x"]
    for name in ("wav.scp", "text", "utt2spk", "utt2dur"):
        assert list(copy.table(name)) == ids
    assert copy.table("spk2gender") == {"p-s0-q": "f", "p-s1-q": "m"}
    assert copy.table("spk2utt") == {"p-s0-q": ids[0], "p-s1-q": ids[1]}
    assert copy.validate() == []


def test_recordings_keep_their_ids_in_a_copy(tmp_path: Path) -> None:
    copy = make_segmented(tmp_path / "d").copy(tmp_path / "c", utt_prefix="x-")
    assert copy.table("segments")["x-a"] == "r1 0 1.5"
    assert copy.validate() == []


def test_a_prefix_with_a_blank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'a u00': empty or holds a blank"):
        make_sound(tmp_path / "d").copy(tmp_path / "c", utt_prefix="a ")


def test_the_subsets_combine_to_the_whole(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d")
    halves = [data.subset(data.utterances[i::2], tmp_path / str(i)) for i in (0, 1)]
    overlap = data.subset(["u00"], tmp_path / "o")
    assert combine(tmp_path / "all", [*halves, overlap]) == []
    whole = DataDir(tmp_path / "all")
    assert {name: whole.table(name) for name in data.tables} == data.tables
    assert whole.validate() == []


def test_tables_that_a_source_lacks_are_left_out_by_name(tmp_path: Path) -> None:
    one, two = (
        make_sound(tmp_path / "1"),
        make_sound(tmp_path / "2").copy(tmp_path / "3", utt_prefix="x"),
    )
    write_table(one.path / "utt2dur", dict.fromkeys(one.utterances, "1"))
    (two.path / "spk2utt").unlink()
    assert combine(tmp_path / "c", [DataDir(one.path), DataDir(two.path)]) == ["utt2dur"]
    assert sorted(DataDir(tmp_path / "c").tables) == ["spk2utt", "text", "utt2spk", "wav.scp"]


def test_one_id_for_two_things_is_refused(tmp_path: Path) -> None:
    one, two = make_sound(tmp_path / "1"), make_sound(tmp_path / "2")
    with pytest.raises(DataError, match=r"2/wav.scp: 'u00' has another entry .*copy_data_dir"):
        combine(tmp_path / "c", [one, two])
    with pytest.raises(DataError, match="also the source"):
        combine(tmp_path / "1", [one])


def test_whole_recordings_become_segments_beside_segments(tmp_path: Path) -> None:
    one, two = make_segmented(tmp_path / "1"), make_sound(tmp_path / "2", 1)
    with pytest.raises(DataError, match="utt2dur lacks 'u00'"):
        combine(tmp_path / "c", [one, two])
    write_table(two.path / "utt2dur", {"u00": "3.5"})
    assert combine(tmp_path / "c", [one, DataDir(two.path)]) == ["utt2dur"]
    both = DataDir(tmp_path / "c")
    assert both.utterances == ["a", "b", "c", "u00"]
    assert both.table("segments")["u00"] == "u00 0 3.5"
    assert both.validate() == []


def test_speeds_get_the_ids_that_the_features_get(tmp_path: Path) -> None:
    data = make_sound(tmp_path / "d", 1)
    made = data.perturb_speed(tmp_path / "sp", [0.9, 1.0])
    assert made.table("text") == {"sp0.9-u00": "第 u00 句", "u00": "第 u00 句"}
    assert made.table("utt2spk") == {"sp0.9-u00": "sp0.9-s0", "u00": "s0"}
    assert sorted(made.tables) == ["spk2utt", "text", "utt2spk"]
