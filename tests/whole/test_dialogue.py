"""The bundled speaker model hears who speaks in its example, whose turns are known since it was put
together of them.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import soundfile

from paraformer.api.auto import AutoModel
from paraformer.data.corpus.rttm import NamedTurn, read_rttm
from paraformer.hub.directories import BUNDLED
from paraformer.models.kinds import likeness_of
from paraformer.models.release import load_speakers

MODEL = BUNDLED / "cam++-mini"
CLIP = MODEL / "example/dialogue.flac"


@pytest.fixture(scope="module")
def turns() -> list[NamedTurn]:
    return read_rttm(MODEL / "example/dialogue.rttm")["dialogue"]


@pytest.mark.parametrize("number", [None, 2])
def test_each_word_is_its_speaker_s(number: int | None, turns: list[NamedTurn]) -> None:
    beside = {"vad_model": "fsmn-vad-mini", "punc_model": "ct-punc-mini"}
    model = AutoModel("paraformer-zh-mini", spk_model="cam++-mini", **beside, device="cpu")
    (found,) = model.generate(str(CLIP), preset_spk_num=number)
    numbers = {"T000": 0, "T006": 1}  # as they begin to speak
    wrong = total = 0
    for word in found["words"]:
        middle = (word["start"] + word["end"]) / 2000
        for turn in turns:
            if turn.start <= middle < turn.end:
                total += 1
                wrong += word["spk"] != numbers[turn.speaker]
    assert total >= 85 and wrong <= 1
    assert {turn["spk"] for turn in found["turns"]} == {0, 1}
    # Sentences too, although marks do not stand at every change.
    for sentence in found["sentence_info"]:
        spoken = [
            min(turn.end, sentence["end"] / 1000) - max(turn.start, sentence["start"] / 1000)
            for turn in turns
        ]
        assert sentence["spk"] == numbers[turns[int(np.argmax(spoken))].speaker]


def test_turns_of_one_speaker_are_more_alike_than_its_threshold(turns: list[NamedTurn]) -> None:
    wave, rate = soundfile.read(CLIP)
    pieces = [wave[round(t.start * rate) : round(t.end * rate)] for t in turns]
    rows = AutoModel("cam++-mini", device="cpu").generate(pieces, fs=rate)
    voices = [np.asarray(row["spk_embedding"][0]) for row in rows]
    units = [voice / np.linalg.norm(voice) for voice in voices]
    threshold = likeness_of(load_speakers(MODEL).config).spk_threshold
    for (one, a), (other, b) in combinations(zip(turns, units, strict=True), 2):
        assert (a @ b >= threshold) == (one.speaker == other.speaker)


def test_it_is_small() -> None:
    assert (MODEL / "model.pt").stat().st_size < 5_000_000
