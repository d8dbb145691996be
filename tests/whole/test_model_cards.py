"""What the cards of the released models show runs here with the names of the models changed, and
nothing else: by AutoModel of `funasr`, and by modelscope's pipelines.

Expected values are those of funasr 1.4.16 with the bundled directories, where it reads them: the
text without hotwords, the segments with max_end_silence_time=800 (its own schedule of silences is
left out here), the marks, the tokens of the aligner.
"""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import paraformer.as_funasr  # noqa: F401
from paraformer import AutoModel
from paraformer.data.corpus.tables import read_table
from paraformer.data.text.score import score, units
from paraformer.errors import ConfigError
from paraformer.hub.directories import BUNDLED

SAID = "今天下午我们一起去公园走走吧"
# The class of a config.yaml where ours is called otherwise.
CLASSES = {
    "paraformer-zh-mini": ("", ""),
    "fsmn-vad-mini": ("FsmnVad", "FsmnVADStreaming"),
    "ct-punc-mini": ("CtTransformer", "CTTransformer"),
    "fa-zh-mini": ("Aligner", "MonotonicAligner"),
}
SEGMENTS = [[570, 3810], [4840, 7870]]
EVENTS = [[[570, -1]], [[-1, 3810]], [[4840, -1]], [[-1, 7870]]]
CARDS = {
    "offline with VAD and punctuation": """
model = AutoModel(model="paraformer-zh-mini", model_revision="v2.0.4",
                  vad_model="fsmn-vad-mini", vad_model_revision="v2.0.4",
                  punc_model="ct-punc-mini", punc_model_revision="v2.0.4")
res = model.generate(input=f"{model.model_path}/example/asr_example.wav",
                     batch_size_s=300,
                     hotword="公园")
print(res)
""",
    "streaming": """
import os
import soundfile

chunk_size = [0, 10, 5]  # 600 ms
encoder_chunk_look_back = 4
decoder_chunk_look_back = 1
model = AutoModel(model="paraformer-zh-mini", model_revision="v2.0.4")
wav_file = os.path.join(model.model_path, "example/asr_example.wav")
speech, sample_rate = soundfile.read(wav_file)
chunk_stride = chunk_size[1] * 960
cache = {}
total_chunk_num = int(len((speech) - 1) / chunk_stride + 1)
for i in range(total_chunk_num):
    speech_chunk = speech[i * chunk_stride:(i + 1) * chunk_stride]
    is_final = i == total_chunk_num - 1
    res = model.generate(input=speech_chunk, cache=cache, is_final=is_final,
                         chunk_size=chunk_size,
                         encoder_chunk_look_back=encoder_chunk_look_back,
                         decoder_chunk_look_back=decoder_chunk_look_back)
    print(res)
""",
    "rich transcription": """
from funasr.utils.postprocess_utils import rich_transcription_postprocess

model = AutoModel(model="paraformer-zh-mini", trust_remote_code=True, disable_update=True,
                  vad_model="fsmn-vad-mini", vad_kwargs={"max_single_segment_time": 30000},
                  device="cpu")
res = model.generate(input=f"{model.model_path}/example/asr_example.wav",
                     cache={}, language="auto", use_itn=True,
                     batch_size_s=60, merge_vad=True, merge_length_s=15)
text = rich_transcription_postprocess(res[0]["text"])
print([{**res[0], "text": text}])
""",
    "VAD": """
model = AutoModel(model="fsmn-vad-mini", model_revision="v2.0.4")
wav_file = f"{model.model_path}/example/vad_example.wav"
res = model.generate(input=wav_file)
print(res)
""",
    "streaming VAD": """
import soundfile

chunk_size = 200  # ms
model = AutoModel(model="fsmn-vad-mini", model_revision="v2.0.4")
wav_file = f"{model.model_path}/example/vad_example.wav"
speech, sample_rate = soundfile.read(wav_file)
chunk_stride = int(chunk_size * sample_rate / 1000)
cache = {}
total_chunk_num = int(len((speech) - 1) / chunk_stride + 1)
for i in range(total_chunk_num):
    speech_chunk = speech[i * chunk_stride:(i + 1) * chunk_stride]
    is_final = i == total_chunk_num - 1
    res = model.generate(input=speech_chunk, cache=cache, is_final=is_final,
                         chunk_size=chunk_size)
    if len(res[0]["value"]):
        print(res)
""",
    "punctuation": """
model = AutoModel(model="ct-punc-mini", model_revision="v2.0.4")
res = model.generate(input="那今天的会就到这里吧 happy new year 明年见")
print(res)
""",
    "timestamps": """
model = AutoModel(model="fa-zh-mini", model_revision="v2.0.4")
wav_file = f"{model.model_path}/example/asr_example.wav"
text_file = f"{model.model_path}/example/text.txt"
res = model.generate(input=(wav_file, text_file), data_type=("sound", "text"))
print(res)
""",
}


def run(card: str) -> list:
    """What a card prints; nothing but lists of results."""
    printed: list = []
    exec("from funasr import AutoModel\n" + CARDS[card], {"print": printed.append})  # noqa: S102
    assert all(len(results) == 1 for results in printed)
    return [results[0] for results in printed]


def test_offline_with_vad_and_punctuation():
    (result,) = run("offline with VAD and punctuation")
    assert result["key"] == "asr_example"
    assert result["text"] == "今天，下午，我们一起去，公园走走吧。"
    assert len(result["timestamp"]) == len(SAID)
    model = AutoModel(model="paraformer-zh-mini")
    (plain,) = model.generate(input=f"{model.model_path}/example/asr_example.wav")
    assert plain["text"].replace(" ", "") == SAID


def test_streaming():
    results = run("streaming")
    said = "".join(result["text"] for result in results)
    assert score({"x": SAID}, {"x": said}, units).counts.percent <= 30
    assert results[0]["text"]  # before the rest is heard
    model = AutoModel(model="paraformer-zh-mini")
    (whole,) = model.generate(f"{model.model_path}/example/asr_example.wav", chunk_size=[0, 10, 5])
    assert said == whole["text"]


def test_rich_transcription():
    """No stream, though there is a `cache`: the result is that of the whole recording."""
    (result,) = run("rich transcription")
    assert result["text"].replace(" ", "") == SAID


@pytest.mark.parametrize("strides", [1, 4])
def test_the_loop_may_end_with_no_samples(strides):
    """`len(speech - 1)` of the card gives one call more where the last chunk is a whole one."""
    model = AutoModel(model="paraformer-zh-mini")
    speech, _ = soundfile.read(f"{model.model_path}/example/asr_example.wav")
    cache: dict = {}
    for i in range(strides):
        piece = speech[i * 9600 : (i + 1) * 9600]
        model.generate(input=piece, cache=cache, is_final=False, chunk_size=[0, 10, 5])
    (last,) = model.generate(input=np.zeros(0), cache=cache, is_final=True, chunk_size=[0, 10, 5])
    assert last["text"] and cache == {}


def test_vad_offline_and_streaming():
    (whole,) = run("VAD")
    assert whole == {"key": "vad_example", "value": SEGMENTS}
    assert [result["value"] for result in run("streaming VAD")] == EVENTS


def test_a_cache_makes_no_stream_of_what_is_none(caplog):
    """A model streams if it is a streaming one, or chunk_size is given."""
    for name, source in {
        "paraformer-zh-mini": f"{BUNDLED}/paraformer-zh-mini/example/asr_example.wav",
        "fsmn-vad-mini": f"{BUNDLED}/fsmn-vad-mini/example/vad_example.wav",
        "ct-punc-mini": "那今天的会就到这里吧 happy new year 明年见",
        "fa-zh-mini": (f"{BUNDLED}/fa-zh-mini/example/asr_example.wav", SAID),
    }.items():
        model, cache = AutoModel(name), {}
        given = {"data_type": ("sound", "text")} if name == "fa-zh-mini" else {}
        whole = model.generate(source, **given)
        assert model.generate(source, cache=cache, is_final=False, **given) == whole
        assert model(source, **given) == whole and cache == {}
        assert model.kwargs["model"] == type(model.model).__name__.replace(*CLASSES[name])
        assert model.kwargs["model_path"] == str(BUNDLED / name)
        with pytest.raises(ConfigError, match="^export: type=torchscript: not known; use onnx"):
            model.export(type="torchscript", quantize=False)


def test_a_file_that_is_not_there_is_an_error_and_in_a_list_a_result(tmp_path):
    for name in ("paraformer-zh-mini", "fsmn-vad-mini"):
        model = AutoModel(name)
        with pytest.raises(FileNotFoundError, match=r"^nosuch\.wav: No such file"):
            model.generate("nosuch.wav")
        (result,) = model.generate(["nosuch.wav"])
        assert result["error"].startswith("nosuch.wav: No such file")


def test_a_language_without_effect_is_said_once(caplog):
    line = "language=yue: has no effect; a model hears what it has learnt"
    model = AutoModel("ct-punc-mini", language="auto")
    for language in ("", None, "auto", "yue", "yue"):
        model.generate("你好", language=language)
    assert caplog.messages == [line]


def test_punctuation():
    (result,) = run("punctuation")
    assert result["text"] == "那今天的会就到这里吧， happy new year 明年见。"
    assert result["punc_array"] == [1] * 9 + [2] + [1] * 5 + [3]


def test_timestamps():
    (result,) = run("timestamps")
    assert result["text"] == " ".join(SAID)
    times = np.array(result["timestamp"])
    assert times.shape == (len(SAID), 2)
    assert (np.diff(times.flatten()) >= 0).all()
    samples, rate = soundfile.read(BUNDLED / "fa-zh-mini/example/asr_example.wav")
    assert times[0, 0] >= 0 and times[-1, 1] <= 1000 * len(samples) / rate


def test_examples_are_what_their_readmes_say():
    """Small, in the project's one format, and with the texts that are spoken."""
    folder = BUNDLED / "paraformer-zh-mini/example"
    texts, wavs = read_table(folder / "text"), read_table(folder / "wav.scp")
    assert list(texts) == list(wavs)
    assert all((folder / name).is_file() for name in wavs.values())
    assert (
        texts["demo_1"]
        == SAID
        == (BUNDLED / "fa-zh-mini/example/text.txt").read_text("utf-8").strip()
    )
    words = (folder / "hotword.txt").read_text("utf-8").split()
    assert all(any(word in text for text in texts.values()) for word in words)
    for path in BUNDLED.glob("*/example/*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert path.stat().st_size < 300_000
    for path in BUNDLED.glob("*/example"):
        assert (path / "README.md").is_file()


def test_the_texts_of_the_punctuation_example():
    model = AutoModel(model="ct-punc-mini")
    results = model.generate(input=f"{model.model_path}/example/text.txt")
    assert [result["key"] for result in results] == [f"demo_{n}" for n in range(1, 5)]
    assert results[1]["text"] == "明天你有空吗？我想请你吃饭。"


def test_the_hotword_file_of_the_example():
    model = AutoModel(model="paraformer-zh-mini")
    folder = f"{model.model_path}/example"
    (result,) = model.generate(f"{folder}/asr_example.wav", hotword=f"{folder}/hotword.txt")
    assert "公园" in result["text"].replace(" ", "")


@pytest.fixture
def pipeline(monkeypatch):
    """modelscope's own; a model is named by its directory, so that no hub is asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    modelscope = pytest.importorskip(
        "modelscope.pipelines",
        reason="modelscope's pipelines: pip install 'modelscope[framework]==1.40.2'",
        exc_type=ImportError,
    )
    return modelscope.pipeline


def test_pipelines_of_modelscope(pipeline):
    from modelscope.utils.constant import Tasks

    folders = {name: str(BUNDLED / name) for name in CLASSES}
    recogniser, vad, punctuation, aligner = folders.values()
    clip, long = (f"{recogniser}/example/asr_example.wav", f"{vad}/example/vad_example.wav")
    read = pipeline(
        task=Tasks.auto_speech_recognition,
        model=recogniser,
        model_revision="v2.0.4",
        vad_model=vad,
        vad_model_revision="v2.0.4",
        punc_model=punctuation,
        punc_model_revision="v2.0.4",
    )
    (result,) = read(clip, hotword="公园", batch_size_s=300)
    assert result["text"] == "今天，下午，我们一起去，公园走走吧。"
    assert type(read.model.model) is AutoModel
    (result,) = pipeline(task=Tasks.voice_activity_detection, model=vad)(input=long)
    assert result["value"] == SEGMENTS
    (result,) = pipeline(task=Tasks.punctuation, model=punctuation)("明天你有空吗我想请你吃饭")
    assert result["text"] == "明天你有空吗？我想请你吃饭。"
    times = pipeline(task=Tasks.speech_timestamp, model=aligner)
    (result,) = times((clip, SAID), data_type=("sound", "text"))
    assert result["text"] == " ".join(SAID)


def test_a_pipeline_of_modelscope_streams(pipeline):
    from modelscope.utils.constant import Tasks

    hear = pipeline(task=Tasks.auto_speech_recognition, model=str(BUNDLED / "paraformer-zh-mini"))
    wav_file = f"{BUNDLED}/paraformer-zh-mini/example/asr_example.wav"
    speech, _ = soundfile.read(wav_file)
    cache, said = {}, ""
    for start in range(0, len(speech), 9600):
        said += hear(
            speech[start : start + 9600],
            cache=cache,
            is_final=start + 9600 >= len(speech),
            chunk_size=[0, 10, 5],
        )[0]["text"]
    assert said == hear(wav_file, chunk_size=[0, 10, 5])[0]["text"]
