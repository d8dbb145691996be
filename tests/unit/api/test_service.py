"""A model as a service uses it: the same answers as those of `AutoModel`, whatever is beside."""

from __future__ import annotations

import pytest
import torch

from paraformer.api.auto import AutoModel
from paraformer.api.live import FINAL, PARTIAL
from paraformer.api.service import MOST_CUTS, Fed, ServedModel, Wishes
from paraformer.data.audio.read import read_audio
from paraformer.errors import ConfigError
from paraformer.hub.directories import BUNDLED

EXAMPLE = BUNDLED / "paraformer-zh-mini" / "example"
CLIPS = [str(EXAMPLE / f"{name}.wav") for name in ("asr_example", "demo_2", "demo_5")]
BATCHES: list[int] = []


@pytest.fixture(scope="module")
def model():
    beside = {"vad_model": "fsmn-vad-mini", "punc_model": "ct-punc-mini"}
    return AutoModel("paraformer-zh-mini", disable_pbar=True, **beside)


@pytest.fixture(scope="module")
def served(model):
    return ServedModel(model, lambda: BATCHES.append(1))


def test_recordings_together_are_what_generate_says(served, model):
    waves = [read_audio(path) for path in CLIPS]
    BATCHES.clear()
    answers = served.recognise(waves, Wishes())
    assert len(BATCHES) >= 2 * len(waves)  # a detector hears each, marks are put into each
    for answer, result in zip(answers, model.generate(CLIPS), strict=True):
        assert answer.text == result["text"]
        assert round(answer.seconds, 3) == result["audio_seconds"]
        times = [(word["start"], word["end"]) for word in answer.words]
        assert times == [(word["start"], word["end"]) for word in result["words"]]
        assert "".join(part["text"] for part in answer.sentences) == answer.text


def test_a_bad_recording_is_alone(served):
    bad, good = served.recognise([torch.full((16000,), torch.nan), torch.zeros(0)], Wishes())
    assert "NaN" in str(bad.error) and (good.error, good.text) == (None, "")


def fed_to_the_end(served, wishes, waves):
    streams = [Fed(wishes, None, wave, True) for wave in waves]
    BATCHES.clear()
    served.feed(streams)
    assert not BATCHES  # only recordings give way
    assert not any(each.error for each in streams)
    return [each.news for each in streams]


def test_streams_are_written_anew_by_the_whole_model(served):
    waves = [read_audio(path) for path in CLIPS]
    expected = [answer.text for answer in served.recognise(waves, Wishes())]
    for news, text in zip(fed_to_the_end(served, Wishes(), waves), expected, strict=True):
        (final,) = [each for each in news if each.kind == FINAL]
        assert final.answer.text == text
        partials = [each.answer.text for each in news if each.kind == PARTIAL]
        assert all(b.startswith(a) for a, b in zip(partials, partials[1:], strict=False))


def test_a_plain_stream_is_what_the_streamer_says(served, model):
    wave = read_audio(CLIPS[1])
    streamer = model.streamer()
    streamer.feed(wave)
    streamer.flush()
    ((*_, final),) = fed_to_the_end(served, Wishes(plain=True), [wave])
    assert final.answer.text == streamer.text


def test_a_plain_stream_asks_for_a_whole_chunk_and_its_blocks_say_what_the_whole_says(served):
    """N-grams of tokens before a chunk are those of the chunk that the same pass hears before."""
    wishes, wave = Wishes(plain=True), read_audio(CLIPS[0])
    recognizer = served.pipeline(wishes).recognizer
    assert recognizer.lm is not None and recognizer.stride == 9600
    fed, asked, wave = Fed(wishes, None, wave[:100], False), list[int](), wave[100:]
    for _ in range(4):
        served.feed([fed])
        asked.append(fed.lacks)
        samples, wave = wave[: fed.lacks], wave[fed.lacks :]
        fed = Fed(wishes, fed.state, samples, not len(wave))
    assert asked == [2880, 9600 - 100 - 2880, 9600, 9600]  # less than a step begins nothing
    fed = Fed(wishes, fed.state, torch.cat((fed.samples, wave)), True)
    served.feed([fed])
    ((*_, whole),) = fed_to_the_end(served, wishes, [read_audio(CLIPS[0])])
    assert fed.news[-1].answer.text == whole.answer.text
    words = [(word["text"], word["start"], word["end"]) for word in fed.news[-1].answer.words]
    assert words == [(word["text"], word["start"], word["end"]) for word in whole.answer.words]


def test_a_stream_that_a_vad_cuts_asks_for_little(served):
    fed = Fed(Wishes(), None, torch.zeros(1600), False)
    served.feed([fed])
    assert fed.lacks == 2880


def test_hotwords_of_the_server_and_of_a_client_are_heard_together(tmp_path, model):
    path = tmp_path / "words.txt"
    path.write_text("对楼市\n", "utf-8")
    beside = {"vad_model": "fsmn-vad-mini", "punc_model": "ct-punc-mini", "disable_pbar": True}
    one = AutoModel("paraformer-zh-mini", hotword=str(path), chunk_size=[0, 8, 4], **beside)
    served, wave = ServedModel(one), read_audio(CLIPS[2])
    path.unlink()  # it is read once
    for wishes in (Wishes(), Wishes(("公园",))):
        (answer,) = served.recognise([wave], wishes)
        (expected,) = model.generate(CLIPS[2], hotword=["对楼市", *wishes.hotwords])
        assert answer.text == expected["text"] and "对楼市" in answer.text


def test_wishes_are_met_as_far_as_they_can_be(model):
    served = ServedModel(model)
    assert served.allowed(Wishes(("a",), plain=True)).hotwords == ()
    assert served.allowed(Wishes(("a",))).hotwords == ("a",)
    assert served.allowed(Wishes(chunk_size=(0, 9999, 0))).chunk_size is None
    cuts = [(0, 10 + number, 5) for number in range(MOST_CUTS + 2)]
    allowed = [served.allowed(Wishes(chunk_size=cut)).chunk_size for cut in cuts]
    assert allowed == [*cuts[:MOST_CUTS], None, None]
    assert served.languages == {"zh"}


def test_what_does_not_recognise_speech_is_refused():
    with pytest.raises(ConfigError, match="does not recognise speech"):
        ServedModel(AutoModel("fsmn-vad-mini"))
