"""A data directory as inputs: in the order of ids, from audio or from stored features."""

from __future__ import annotations

import kaldiio
import numpy as np
import pytest

from paraformer.data.corpus.archives import StoredFbank
from paraformer.data.inputs.data_folder import data_items, stored_items
from paraformer.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wav.scp").write_text("b b.wav\na a.wav\n")
    return tmp_path


def test_recordings_in_the_order_of_their_ids(folder):
    found = data_items(folder)
    assert [item.key for item in found] == ["a", "b"]
    assert not found.origins.segmented and found.origins.folders == [folder]
    assert {item.channel for item in data_items(folder, 1)} == {1}


def test_segments_are_those_of_the_recordings(folder):
    (folder / "segments").write_text("z b 0 1\ny a 0.5 2 1\n")
    found = data_items(folder)
    assert [(item.key, item.recording, item.channel) for item in found] == [
        ("y", "a", 1),
        ("z", "b", "mix"),
    ]
    assert found.origins.segmented


def test_stored_features_know_their_recordings(folder):
    matrix = np.ones((3, 2), np.float32)
    kaldiio.save_ark(str(folder / "f.ark"), {"z": matrix}, scp=str(folder / "feats.scp"))
    (folder / "segments").write_text("z b 0.5 1\n")
    (item,) = stored_items(folder)
    assert isinstance(item.source, StoredFbank)
    assert (item.recording, item.segment.start) == ("b", 0.5)
    np.testing.assert_array_equal(item.source.read(2), matrix)
    with pytest.raises(DataError, match=r"\(3, 2\), not \(frames, 80\); make it again"):
        item.source.read(80)
    with pytest.raises(DataError, match="none.ark:3: no features there"):
        StoredFbank(f"{folder}/none.ark:3").read(2)


def test_what_is_no_data_directory_is_named(folder):
    with pytest.raises(DataError, match="is a file; give the data directory"):
        data_items(folder / "wav.scp")
    with pytest.raises(DataError, match="no such directory"):
        stored_items(folder / "nothing")
