"""Data preparation of AISHELL-2 and WenetSpeech on tones in the layouts of the corpora."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from paraformer.data.corpus.datadir import DataDir
from paraformer.data.corpus.tables import read_table
from tests.conftest import ROOT
from tests.recipes.tones import write


def run(recipe: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / f"egs/{recipe}/s0/run.sh"), "--stop-stage", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def write_folder(folder: Path, speaker: str, texts: list[str]) -> None:
    """wav.scp and trans.txt of AISHELL-2, a tab behind each id, and the recordings."""
    keys = [f"I{speaker}W{number:04d}" for number in range(1, len(texts) + 1)]
    names = [f"wav/{speaker}/{key}.wav" for key in keys]
    for number, (name, text) in enumerate(zip(names, texts, strict=True)):
        write(folder / name, text.replace(" ", "")[:1], number)
    for table, values in (("wav.scp", names), ("trans.txt", texts)):
        rows = "".join(f"{key}\t{value}\n" for key, value in zip(keys, values, strict=True))
        (folder / table).write_text(rows, "utf8")


def test_aishell2(tmp_path: Path) -> None:
    train, tests = tmp_path / "AISHELL-2/iOS/data", tmp_path / "AISHELL-DEV-TEST-SET"
    write_folder(train, "C0001", ["一二 三", "四 ＡＢ c 五", "六七"])
    write_folder(tests / "iOS/dev", "D0012", ["八九"])
    write_folder(tests / "Mic/test", "T0055", ["十"])
    (train / "wav/C0001/IC0001W0003.wav").unlink()
    done = run("aishell2", "--train", str(train), "--eval", str(tests), "--work", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "train: 2 utterances; 0 without transcript, 1 unreadable" in done.stderr
    data = tmp_path / "data"
    assert {path.name for path in data.iterdir()} == {"train", "dev", "test_mic"}
    assert read_table(data / "train/text") == {"IC0001W0001": "一二三", "IC0001W0002": "四ab c五"}
    assert read_table(data / "train/utt2spk") == dict.fromkeys(
        ("IC0001W0001", "IC0001W0002"), "C0001"
    )
    # one chord: 0.15 s of silence on both sides, 0.2 s, and 0.05 s behind it
    assert read_table(data / "dev/utt2dur") == {"ID0012W0001": "0.550"}
    assert DataDir(data / "test_mic").utterances == ["IT0055W0001"]


def listing(corpus: Path) -> None:
    """WenetSpeech.json of four recordings, the last without file; a comment longer than a block."""
    audios = []
    subsets = (["L", "M"], ["DEV"], ["TEST_NET"], ["L"])
    for number, names in enumerate(subsets):
        aid, path = f"Y{9 - number:010d}_x", f"audio/part/{number}.wav"
        if number < 3:
            write(corpus / path, "一二三四", number)
        placed = [*names, "TEST_MEETING"] if number == 2 else names
        segments: list[dict[str, object]] = [
            {"sid": f"{aid}_S{n:05d}", "confidence": 1.0, "begin_time": n / 2,
             "end_time": n / 2 + 0.5, "subsets": placed, "text": text}
            for n, text in enumerate(["一二", "三 四", ""])
        ]  # fmt: skip
        audios.append({"aid": aid, "path": path, "note": "长" * 1_200_000, "segments": segments})
    text = json.dumps({"dataset": "WenetSpeech", "audios": audios}, ensure_ascii=False, indent=1)
    (corpus / "WenetSpeech.json").write_text(text, "utf8")


def test_wenetspeech(tmp_path: Path) -> None:
    listing(tmp_path)
    done = run("wenetspeech", "--corpus", str(tmp_path), "--work", str(tmp_path), "--subset", "m")
    assert done.returncode == 0, done.stderr
    assert "train: 2 utterances" in done.stderr and "1 recordings of the list" in done.stderr
    data = tmp_path / "data"
    key = "Y0000000009_x"
    assert read_table(data / "train/text") == {f"{key}_S00000": "一二", f"{key}_S00001": "三四"}
    assert read_table(data / "train/segments")[f"{key}_S00001"] == f"{key} 0.500 1.000"
    assert read_table(data / "train/wav.scp") == {key: str(tmp_path / "audio/part/0.wav")}
    for part in ("train", "dev", "test_net", "test_meeting"):
        assert len(DataDir(data / part).utterances) == 2


@pytest.mark.parametrize("text", ["{}", '{"audios": [{"aid": "Y1", '])
def test_a_list_that_is_not_whole_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "WenetSpeech.json").write_text(text, "utf8")
    done = run("wenetspeech", "--corpus", str(tmp_path), "--work", str(tmp_path))
    assert done.returncode == 1 and "WenetSpeech.json: " in done.stderr
    assert "Traceback" not in done.stderr
