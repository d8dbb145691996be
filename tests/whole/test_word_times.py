"""Times and hotwords through AutoModel: as the reference gives them on each recording alone, and
what users need beside: words inside their recording, sentences that are the text.
"""

from __future__ import annotations

import json
import logging
import re

import pytest

from paraformer import AutoModel
from paraformer.cli.main import main
from paraformer.data.audio.read import read_audio
from paraformer.decode.recognize import Recognizer
from paraformer.errors import ConfigError, DataError
from tests.conftest import ROOT, SHARED, needs_shared

FIXTURES = ROOT / "tests" / "fixtures"
ORACLES = FIXTURES / "oracle"
PLACES = [
    pytest.param((ORACLES, FIXTURES), id="project"),
    pytest.param((SHARED / "oracle", SHARED), id="shared", marks=needs_shared),
]
TIMED = ["bicif", "seaco"]


class Case:
    """A model and what the reference says of it."""

    def __init__(self, place, kind):
        folder, root = place
        self.folder = folder / kind
        self.facts = json.loads((self.folder / "expected.json").read_text(encoding="utf-8"))
        self.wavs = [str(root / path) for path in self.facts["wavs"].values()]
        self.model = AutoModel(self.folder, device="cpu", disable_pbar=True)

    @property
    def results(self):
        return [self.facts["utt"][tag]["result"][0] for tag in self.facts["wavs"]]


@pytest.fixture(scope="module", params=PLACES)
def place(request):
    return request.param


@pytest.fixture(scope="module", params=TIMED)
def timed(place, request):
    return Case(place, request.param)


@pytest.fixture(scope="module")
def seaco(place):
    return Case(place, "seaco")


@pytest.fixture(scope="module")
def aligner(place):
    return Case(place, "fa-zh")


def pick(results):
    return [{name: result[name] for name in ("key", "text", "timestamp")} for result in results]


def check_words(result):
    """Words are the text, their times rise and lie inside the recording."""
    words = result["words"]
    assert [word["text"] for word in words] == result["text"].split()
    times = [ms for word in words for ms in (word["start"], word["end"])]
    assert times == sorted(times)
    assert not times or times[0] >= 0 and times[-1] <= 1000 * result["audio_seconds"]
    for word, (start, end) in zip(words, result["timestamp"], strict=True):
        assert word["start"] == start
        # The last frame, and the tail's of a model without second head, reach behind the end.
        assert end - 120 <= word["end"] <= end


def test_texts_and_times_are_those_of_the_reference(timed):
    """In one padded batch, and each alone."""
    expected = pick(timed.results)
    results = timed.model.generate(timed.wavs)
    assert pick(results) == expected
    assert pick(timed.model.generate(timed.wavs, batch_size=1)) == expected
    for result in results:
        check_words(result)
        assert all(0 < word["confidence"] <= 1 for word in result["words"])


def test_every_reading_has_its_times(timed):
    (result,) = timed.model.generate(timed.wavs[0], nbest=3)
    assert len(result["nbest"]) == 3
    for reading in result["nbest"]:
        check_words({**reading, "audio_seconds": result["audio_seconds"]})


def test_the_times_of_a_model_without_a_second_head(place):
    case = Case(place, "paraformer")
    assert "timestamp" not in case.model.generate(case.wavs[0])[0]
    results = case.model.generate(case.wavs, pred_timestamp=True)
    assert pick(results) == pick(case.model.generate(case.wavs, output_timestamp=True))
    for result in results:
        check_words(result)
    if "pred_timestamp" in case.facts:
        assert pick(results) == case.facts["pred_timestamp"]


def test_nothing_heard_has_no_times(timed):
    results = timed.model.generate([timed.wavs[0], "missing.wav", read_audio(timed.wavs[0])[:10]])
    for result in results[1:]:
        assert (result["text"], result["timestamp"], result["words"]) == ("", [], [])


def test_output_dir_has_the_times(timed, tmp_path):
    results = timed.model.generate([*timed.wavs, "missing.wav"], output_dir=str(tmp_path))
    for name in ("text", "timestamp"):
        lines = (tmp_path / "1best_recog" / name).read_text("utf-8").splitlines()
        assert lines == [f"{r['key']} {r[name]}".rstrip() for r in results]


def hotwords_of(case, name):
    given = case.facts["hotword"][name]["hotword"]
    return str(case.folder / given) if name == "file" else given


@pytest.mark.parametrize("name", ["none", "file", "many"])
@pytest.mark.parametrize("keyword", ["hotword", "hotwords"])
def test_hotwords_are_heard_as_by_the_reference(seaco, name, keyword):
    """In a batch; the reference filters a long list by the first utterance, and was run on each
    alone.
    """
    results = seaco.model.generate(seaco.wavs, **{keyword: hotwords_of(seaco, name)})
    assert pick(results) == seaco.facts["hotword"][name]["results"]


def test_a_list_of_hotwords_is_named_once(seaco, caplog):
    given = [*hotwords_of(seaco, "many").split()[:2], "Zzzzunknown"]
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            seaco.model.generate(seaco.wavs[0], hotword=given)
    lines = [record.getMessage() for record in caplog.records if "hotword" in record.getMessage()]
    assert len(lines) == 2
    assert lines[0].endswith(f"2 hotwords: {given[0]}, {given[1]}")
    assert "Zzzzunknown" in lines[1] and "left out" in lines[1]


def test_hotwords_of_the_model_hold_for_each_call(seaco):
    model = AutoModel(seaco.folder, hotword=hotwords_of(seaco, "file"), disable_pbar=True)
    results = model.generate(seaco.wavs)
    assert pick(results) == seaco.facts["hotword"]["file"]["results"]
    none = model.generate(seaco.wavs, hotword=None)
    assert pick(none) == seaco.facts["hotword"]["none"]["results"]


def test_at_weight_0_hotwords_are_not_heard(seaco):
    results = seaco.model.generate(seaco.wavs, hotword=hotwords_of(seaco, "file"), seaco_weight=0.0)
    assert pick(results) == seaco.facts["hotword"]["none"]["results"]


def test_a_shortlist_as_long_as_the_list_leaves_none_out(seaco):
    many = hotwords_of(seaco, "many")
    wide = seaco.model.generate(seaco.wavs, hotword=many, nfilter=1000)
    turned = " ".join(reversed(many.split()))
    assert pick(wide) == pick(seaco.model.generate(seaco.wavs, hotword=turned, nfilter=1000))


@pytest.mark.parametrize("name", ["none", "few", "scaled", "many"])
def test_hotwords_of_a_contextual_model(name):
    case = Case((ORACLES, FIXTURES), "contextual")
    fact = case.facts["hotword"][name]
    results = case.model.generate(case.wavs, hotword=fact["hotword"], **fact["options"])
    assert [result["text"] for result in results] == fact["texts"]


def test_where_no_hotwords_can_be_heard_is_said_at_once(seaco, tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: No such file"):
        seaco.model.stream(seaco.wavs, hotword=str(tmp_path / "none.txt"))
    stream = AutoModel(ORACLES / "paraformer-streaming", disable_pbar=True)
    with pytest.raises(ConfigError, match="hotword: .* hear none"):
        stream.stream(seaco.wavs, hotword="好")
    with pytest.raises(ConfigError, match="hotwords: is hotword, which is given too"):
        seaco.model.generate(seaco.wavs, hotword="好", hotwords="好")
    with pytest.raises(ConfigError, match="hotword: goes with a recogniser"):
        AutoModel(ORACLES / "ct_punc").generate("好", hotword="好")


def test_sentences_are_the_text(timed):
    model = AutoModel(timed.folder, punc_model=str(ORACLES / "ct_punc"), disable_pbar=True)
    raw = timed.model.generate(timed.wavs)
    options = {"sentence_timestamp": True, "return_raw_text": True}
    for result, plain in zip(model.generate(timed.wavs, **options), raw, strict=True):
        sentences = result["sentence_info"]
        assert "".join(sentence["text"] for sentence in sentences) == result["text"]
        assert [t for sentence in sentences for t in sentence["timestamp"]] == plain["timestamp"]
        assert result["raw_text"] == plain["text"]
        for sentence in sentences:
            assert sentence["start"] == sentence["timestamp"][0][0]
            assert len(sentence["raw_text"]) < len(sentence["text"])
        assert result["words"] == plain["words"]


def test_sentences_with_english_marks(timed):
    model = AutoModel(timed.folder, punc_model=str(ORACLES / "ct_punc"), disable_pbar=True)
    ours = model.generate(timed.wavs, sentence_timestamp=True)
    english = model.generate(timed.wavs, sentence_timestamp=True, en_post_proc=True)
    table = str.maketrans("，。？、", ",.?,")
    for one, two in zip(ours, english, strict=True):
        texts = [sentence["text"].translate(table) for sentence in one["sentence_info"]]
        assert [sentence["text"] for sentence in two["sentence_info"]] == texts
        assert not any(mark in text for text in texts for mark in "，。？、")


def test_without_marks_a_recording_is_one_sentence(timed):
    for result in timed.model.generate(timed.wavs, sentence_timestamp=True):
        (sentence,) = result["sentence_info"]
        assert sentence["timestamp"] == result["timestamp"]
        assert sentence["text"].replace(" ", "") == result["text"].replace(" ", "")


def test_aligned_pairs_are_those_of_the_reference(aligner):
    tags = list(aligner.facts["wavs"])
    for tag, wav, expected in zip(tags, aligner.wavs, aligner.results, strict=True):
        text = aligner.facts["utt"][tag]["text"]
        (result,) = aligner.model.generate(input=(wav, text), data_type=("sound", "text"))
        assert result["key"] == tag
        assert result["text"].replace(" ", "") == text.replace(" ", "")
        check_words(result)
        if len(result["words"]) == len(expected["timestamp"]):
            assert pick([result]) == [{"key": tag, **{k: expected[k] for k in expected}}]


def write_lists(case, folder):
    """wav.scp and text.txt."""
    texts = {tag: case.facts["utt"][tag]["text"] for tag in case.facts["wavs"]}
    (folder / "wav.scp").write_text(
        "".join(f"{tag} {wav}\n" for tag, wav in zip(texts, case.wavs, strict=True)), "utf-8"
    )
    (folder / "text.txt").write_text("".join(f"{t} {x}\n" for t, x in texts.items()), "utf-8")
    return str(folder / "wav.scp"), str(folder / "text.txt")


def test_two_lists_are_aligned(aligner, tmp_path):
    pair = write_lists(aligner, tmp_path)
    out = tmp_path / "out"
    kinds = ("sound", "text")
    results = aligner.model.generate(pair, data_type=kinds, batch_size=2, output_dir=str(out))
    turned = aligner.model.generate(pair[::-1], data_type=kinds[::-1])
    alone = aligner.model.generate(pair, data_type="[sound,text]", batch_size=1)
    assert results == turned == alone
    facts = aligner.facts["utt"]
    lines = (out / "tp_res" / "timestamp_str").read_text("utf-8").splitlines()
    assert lines == [f"{r['key']} {facts[r['key']]['timestamp_str']}" for r in results]
    lines = (out / "tp_res" / "timestamp_list").read_text("utf-8").splitlines()
    assert lines == [f"{r['key']} {r['timestamp']}" for r in results]


def test_the_text_that_was_aligned_stays_as_it_was(aligner):
    text = "OK，我们 用API。 好！"
    pair = (aligner.wavs[0], text)
    (result,) = aligner.model.generate(pair, data_type=("sound", "text"), sentence_timestamp=True)
    assert [word["text"] for word in result["words"]] == ["OK", "我", "们", "用", "API", "好"]
    sentences = result["sentence_info"]
    assert [sentence["text"] for sentence in sentences] == ["OK，", "我们 用API。", " 好！"]


def test_what_cannot_be_aligned_is_one_clear_line(aligner):
    model = aligner.model
    with pytest.raises(ConfigError, match="an aligner takes two, recordings and texts"):
        model.generate(aligner.wavs[0])
    (result,) = model.generate(("missing.wav", "好"), data_type=("sound", "text"))
    assert "missing.wav" in result["error"]
    assert (result["text"], result["words"]) == ("", [])
    (result,) = model.generate((aligner.wavs[0], ""), data_type=("sound", "text"))
    assert (result["text"], result["timestamp"]) == ("", [])
    with pytest.raises(ConfigError, match="only an aligner"):
        AutoModel(ORACLES / "bicif").generate(aligner.wavs[0], data_type=("sound", "text"))


def test_a_reading_has_the_times_of_its_tokens(timed):
    recognizer = Recognizer(timed.model.recognizer.release)
    waves = [read_audio(path) for path in timed.wavs]
    for tag, outcome in zip(timed.facts["wavs"], recognizer.recognize(waves), strict=True):
        assert outcome.best.token_times == timed.facts["utt"][tag]["token_timestamps"]


def run(capsys, *arguments):
    """stdout and stderr of the command."""
    assert main([*map(str, arguments), "+device=cpu"]) == 0
    return capsys.readouterr()


def test_the_command_aligns(aligner, capsys, tmp_path):
    """In the form of Hydra, and by two inputs; a line `word start end;` in seconds."""
    wav, text = aligner.wavs[0], "OK我"
    shown = re.compile(r"OK \d\.\d{3} (\d\.\d{3});我 (\d\.\d{3}) \d\.\d{3};\n")
    model = f"+model={aligner.folder}"
    out, err = run(capsys, model, f"+input=[{wav},{text}]", "+data_type=[sound,text]")
    assert shown.fullmatch(out) and err == ""
    assert run(capsys, model, wav, text).out == out
    lists = write_lists(aligner, tmp_path)
    rows = [json.loads(row) for row in run(capsys, model, *lists, "-f", "json").out.splitlines()]
    assert [row["key"] for row in rows] == list(aligner.facts["wavs"])


def test_the_command_hears_hotwords_and_names_them(seaco, capsys):
    words = hotwords_of(seaco, "many")
    expected = seaco.facts["hotword"]["many"]["results"][0]
    arguments = (f"+model={seaco.folder}", seaco.wavs[0], "-f", "json")
    (row,) = run(capsys, *arguments, "--hotwords", words).out.splitlines()
    assert pick([json.loads(row)]) == [expected]
