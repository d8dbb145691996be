"""Results as manifests: what NeMo and lhotse document, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from paraformer.data.inputs.sources import list_items
from paraformer.errors import ConfigError
from paraformer.output.manifests import LHOTSE, NEMO, ORIGIN, manifest_line

WORD = {"text": "好", "start": 390, "end": 630, "confidence": 0.5}
RESULT = {"key": "u1", "text": "你好 ok", "words": [WORD], "audio_seconds": 1.0}


def told(output_format, **more):
    return json.loads(manifest_line({**RESULT, **more}, output_format))


def test_a_line_of_nemo():
    assert told(NEMO, **{ORIGIN: ("d/a.wav", None)}) == {
        "audio_filepath": "d/a.wav",
        "duration": 1.0,
        "text": "你好 ok",
        "key": "u1",
    }
    assert told(NEMO, **{ORIGIN: ("d/a.wav", 2.5)})["offset"] == 2.5
    assert told(NEMO)["audio_filepath"] == "u1"


def test_what_is_no_speech_is_refused():
    with pytest.raises(ConfigError, match="output_format=nemo: is of recognised speech; use text"):
        manifest_line({"key": "u1", "value": [[0, 10]]}, NEMO)


@pytest.mark.parametrize("start", [None, 0.25])
def test_a_cut_of_lhotse(tmp_path, start):
    soundfile.write(tmp_path / "a.wav", np.zeros(12000), 8000)
    cut = told(LHOTSE, **{ORIGIN: (str(tmp_path / "a.wav"), start)})
    name, seconds = ("u1", 1.5) if start is None else ("a", 1.0)
    assert (cut["id"], cut["start"], cut["duration"], cut["type"]) == (
        *("u1", start or 0, seconds, "MonoCut"),
    )
    assert cut["recording"] == {
        "id": name,
        "sources": [{"type": "file", "channels": [0], "source": str(tmp_path / "a.wav")}],
        "sampling_rate": 8000,
        "num_samples": 12000,
        "duration": 1.5,
        "channel_ids": [0],
    }
    (said,) = cut["supervisions"]
    assert (said["text"], said["recording_id"], said["duration"]) == ("你好 ok", name, seconds)
    assert said["alignment"] == {"word": [["好", 0.39, 0.24, 0.5]]}


def test_lhotse_itself_reads_a_cut(tmp_path):
    lhotse = pytest.importorskip("lhotse", reason="lhotse is not here")
    soundfile.write(tmp_path / "a.wav", np.zeros(12000), 8000)
    line = manifest_line({**RESULT, ORIGIN: (str(tmp_path / "a.wav"), 0.25)}, LHOTSE)
    (tmp_path / "cuts.jsonl").write_text(line + "\n", "utf-8")
    (cut,) = lhotse.CutSet.from_jsonl(tmp_path / "cuts.jsonl")
    assert (cut.supervisions[0].text, cut.load_audio().shape) == ("你好 ok", (1, 8000))
    assert cut.supervisions[0].alignment["word"][0].end == 0.63


@pytest.mark.parametrize("output_format", [NEMO, LHOTSE])
def test_what_is_written_is_what_is_read(tmp_path, output_format):
    soundfile.write(tmp_path / "a.wav", np.zeros(12000), 8000)
    path = tmp_path / "l.jsonl"
    lines = [{**RESULT, ORIGIN: (str(tmp_path / "a.wav"), start)} for start in (None, 0.25)]
    lines[1] = {**lines[1], "key": "u2"}
    path.write_text("".join(manifest_line(line, output_format) + "\n" for line in lines), "utf-8")
    whole, stretch = list_items(path)
    assert whole.segment is None and tuple(stretch.segment) == (0.25, 1.25)
    assert whole.source == str(tmp_path / "a.wav")
