"""Folders with metadata and tars: which audio they hold, by which ids."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile

from paraformer.data.batches.shards import quote_key
from paraformer.data.inputs.sources import list_items
from paraformer.errors import DataError

RATE = 16000


def sound(value):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(400, value, np.int16), RATE, format="WAV")
    return buffer.getvalue()


def heard(item):
    return int(item.read(None, RATE)[0] * 32768)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_folder_of_datasets_is_its_metadata(tmp_path, name):
    """https://huggingface.co/docs/datasets/audio_dataset: file_name from the folder on."""
    (tmp_path / "train").mkdir()
    for value, file in ((1, "train/x.wav"), (2, "y, z.wav"), (3, "unlisted.wav")):
        (tmp_path / file).write_bytes(sound(value))
    rows = [("y, z.wav", "一\n二"), ("train/x.wav", "三"), ("lost.wav", "四")]
    if name.endswith("csv"):
        text = "transcription,file_name\n" + "".join(f'"{t}","{f}"\n' for f, t in rows)
    else:
        text = "".join(json.dumps({"file_name": f, "transcription": t}) + "\n" for f, t in rows)
    (tmp_path / name).write_text(text, "utf-8")
    *good, bad = list_items(tmp_path)
    assert [(item.key, heard(item)) for item in good] == [("y, z", 2), ("x", 1)]
    with pytest.raises(Exception, match="lost.wav: No such file"):
        bad.read(None, RATE)


def test_a_table_without_names_of_files_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("path,text\na.wav,x\n")
    with pytest.raises(DataError, match="t.csv: has no column file_name; name that of the audio"):
        list_items(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("text,file_name\nx\ny,sox a|\n")
    short, command = list_items(tmp_path / "t.csv")
    with pytest.raises(DataError, match="t.csv:2: no file_name"):
        short.read(None, RATE)
    with pytest.raises(DataError, match="t.csv:3: a command is run only .* never from a csv"):
        command.read(None, RATE)


@pytest.fixture
def packed(tmp_path):
    """As WebDataset writes it: the files of one sample behind each other."""
    path = tmp_path / "p-000.tar"
    with tarfile.open(path, "w") as tar:
        for value, key in enumerate(["u1", "part/u2", quote_key("a/b")], 1):
            for end, content in (("txt", b"x"), ("wav", sound(value)), ("json", b"{}")):
                member = tarfile.TarInfo(f"./{key}.{end}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_a_tar_is_the_audio_in_it(packed):
    found = [(item.key, heard(item)) for item in list_items(packed)]
    assert found == [("u1", 1), ("part/u2", 2), ("a/b", 3)]
    assert [item.key for item in list_items(str(packed).replace("000", "*"))] == [
        k for k, _ in found
    ]


def test_of_a_damaged_tar_what_stands_before_is_there(packed):
    content = bytearray(packed.read_bytes())
    content[5 * 512 : 6 * 512] = b"\1" * 512  # the head of u1.json, behind 2 of txt, 3 of wav
    packed.write_bytes(content)
    first, *_, last = list_items(packed)
    assert heard(first) == 1
    with pytest.raises(DataError, match="p-000.tar: cannot be read as a tar .* from member 3 on"):
        last.read(None, RATE)
    packed.write_bytes(b"no tar")
    with pytest.raises(DataError, match="from member 1 on; make it again"):
        list_items(packed)[0].read(None, RATE)
