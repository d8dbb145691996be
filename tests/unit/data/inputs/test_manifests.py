"""Lists of other toolkits: their documented entries become our items, and what is not to be had is
one line.
"""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import soundfile

from paraformer.data.inputs.audio_items import Segment
from paraformer.data.inputs.sources import list_items
from paraformer.errors import DataError

RATE = 16000
WAVE = (np.arange(2 * RATE) % 200 * 100).astype(np.int16)
RECORDING = {
    "id": "rec-1",
    "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
    "sampling_rate": RATE,
    "num_samples": 2 * RATE,
    "duration": 2.0,
    "channel_ids": [0],
}
CUT = {"id": "cut-1", "start": 0.5, "duration": 1.0, "channel": 0, "supervisions": []}
CUT |= {"recording": RECORDING, "type": "MonoCut"}


@pytest.fixture
def listed(tmp_path):
    soundfile.write(tmp_path / "a.wav", WAVE, RATE)

    def write(*entries, name="l.jsonl", opened=open):
        with opened(tmp_path / name, "wt", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(entry)}\n" for entry in entries)
        return list_items(tmp_path / name)

    return write


def samples(item):
    return (item.read(None, RATE) * 32768).round().numpy().astype(int).tolist()


def test_a_manifest_of_nemo(listed):
    """https://docs.nvidia.com/nemo-framework: offset and duration in seconds, text, others."""
    whole = {"audio_filepath": "a.wav", "duration": 2.0, "text": "一", "lang": "zh"}
    (item,) = listed(whole)
    assert (item.key, samples(item)) == ("a", WAVE.tolist())
    first, second = listed({**whole, "offset": 0.5, "duration": 0.25}, {**whole, "offset": 1.5})
    assert (first.key, second.key) == ("a-0000050-0000075", "a-0000150-0000350")
    assert samples(first) == WAVE[8000:12000].tolist()
    assert first.source is second.source  # read once: see Cache
    with pytest.raises(DataError, match="l.jsonl:2: manifest of NeMo: its keys are not"):
        listed(whole, {**whole, "offset": -1})[1].read(None, RATE)


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_cuts_and_recordings_of_lhotse(listed, name):
    opened = gzip.open if name.endswith(".gz") else open
    whole = {**CUT, "id": "cut-2", "start": 0, "duration": 2.0}
    items = listed(CUT, whole, RECORDING, name=name, opened=opened)
    assert [item.key for item in items] == ["cut-1", "cut-2", "rec-1"]
    assert [item.segment for item in items] == [Segment(0.5, 1.5), None, None]
    assert samples(items[0]) == WAVE[8000:24000].tolist()


def test_a_cut_of_one_of_several_channels(listed, tmp_path):
    soundfile.write(tmp_path / "s.wav", np.stack([WAVE, WAVE // 2], 1), RATE)
    sources = [{"type": "file", "channels": [0, 1], "source": "s.wav"}]
    both = {**RECORDING, "sources": sources, "channel_ids": [0, 1]}
    one, mean = listed(
        {**CUT, "channel": 1, "recording": both},
        {**CUT, "id": "m", "channel": [0, 1], "recording": both, "type": "MultiCut"},
    )
    assert (one.channel, mean.channel) == (1, "mix")
    assert samples(one) == (WAVE // 2)[8000:24000].tolist()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"id": "m", "tracks": [], "type": "MixedCut"}, "mixed cut of lhotse: has no recording"),
        ({"id": "s", "recording_id": "r", "start": 0}, "supervision of lhotse: has no recording"),
        ({**RECORDING, "transforms": [{"name": "Speed"}]}, "is changed as it is read"),
        ({**RECORDING, "sources": [{"type": "command", "source": "x"}]}, "nor a url .command"),
        ({**CUT, "start": "x"}, "cut of lhotse: its keys are not those"),
        ({"audio_filepath": "rm x |"}, "never from JSON"),
        ({"other": 1}, 'not {"key": ..., "source": ...}'),
    ],
)
def test_what_cannot_be_had_is_one_line_and_the_others_go_on(listed, entry, said):
    bad, good = listed(entry, CUT)
    with pytest.raises(DataError, match=f"l.jsonl:1: .*{said}"):
        bad.read(None, RATE)
    assert good.key == "cut-1"


def test_a_damaged_packed_list_is_one_line(listed, tmp_path):
    listed(CUT, name="c.jsonl.gz", opened=gzip.open)
    content = (tmp_path / "c.jsonl.gz").read_bytes()
    (tmp_path / "c.jsonl.gz").write_bytes(content[:-12])
    with pytest.raises(DataError, match=r"c.jsonl.gz: .*; give a readable text file"):
        list_items(tmp_path / "c.jsonl.gz")
