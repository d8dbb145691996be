"""A directory given where another kind belongs: one line that says what it is and where it goes."""

from __future__ import annotations

import shutil

import pytest

from paraformer import AutoModel
from paraformer.api.live import LivePipeline
from paraformer.errors import ConfigError
from paraformer.models.kinds import times_tokens
from paraformer.models.release import (
    load_aligner,
    load_directory,
    load_punctuation,
    load_speakers,
    load_vad,
    read_config,
    save_directory,
)
from tests import tiny
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
PLACES = {
    "recogniser": ("paraformer", "a recogniser (Paraformer)", "give it as model, or"),
    "vad": ("fsmn_vad", "a VAD (FsmnVADStreaming)", "give it as vad_model, or"),
    "punctuation": ("ct_punc", "a punctuation model (CTTransformer)", "give it as punc_model, or"),
    "aligner": ("fa-zh", "a forced aligner (MonotonicAligner)", "give it as model alone"),
    "speaker": ("", "a speaker model (CAMPPlus)", "give it as spk_model, or"),
}
# What each option takes, and what its message calls that.
BESIDE = {
    "vad_model": ("vad", "not a VAD such as fsmn-vad"),
    "punc_model": ("punctuation", "not a punctuation model such as ct-punc"),
    "spk_model": ("speaker", "not a speaker model such as cam++"),
    "second_pass": ("recogniser", "not a recogniser such as paraformer-zh"),
}
LOADERS = {
    load_directory: ("recogniser", "not a recogniser such as paraformer-zh"),
    load_vad: BESIDE["vad_model"],
    load_punctuation: BESIDE["punc_model"],
    load_speakers: ("speaker", "not a speaker model such as cam++"),
    load_aligner: ("aligner", "not a forced aligner such as fa-zh"),
}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """A directory of each kind."""
    folder = save_directory(tmp_path_factory.mktemp("campplus"), tiny.voices())
    return {kind: ORACLE / name if name else folder for kind, (name, *_) in PLACES.items()}


def expected(kind, where, wanted):
    _, title, remedy = PLACES[kind]
    return f"{where}: is {title}, {wanted}; {remedy}"


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("load", LOADERS)
def test_each_loader_takes_its_kind_alone(directories, load, kind):
    own, wanted = LOADERS[load]
    if kind == own:
        assert load(directories[kind]).directory == directories[kind]
        return
    with pytest.raises(ConfigError) as error:
        load(directories[kind])
    assert str(error.value).startswith(expected(kind, directories[kind], wanted))


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("use", BESIDE)
def test_each_option_takes_its_kind_alone(directories, use, kind):
    own, wanted = BESIDE[use]
    model = {"model": str(directories["recogniser"]), "device": "cpu", use: str(directories[kind])}
    with_chunks = {"chunk_size": [0, 10, 5]} if use == "second_pass" else {}
    if use == "spk_model":
        with_chunks = {"vad_model": str(directories["vad"])}
    if kind == own:
        assert AutoModel(**model, **with_chunks).directories[use] == directories[kind]
        return
    with pytest.raises(ConfigError) as error:
        AutoModel(**model, **with_chunks)
    assert str(error.value).startswith(expected(kind, f"{use}: {directories[kind]}", wanted))
    if use == "vad_model":  # before options that the other kind does not take
        with pytest.raises(ConfigError, match="^vad_model: .*not a VAD"):
            AutoModel(**model, vad_kwargs={"max_end_silence_time": 500})


@pytest.mark.parametrize("kind", PLACES)
def test_what_works_alone_and_what_beside_it(directories, kind):
    path = directories[kind]
    assert AutoModel(str(path), device="cpu").model_path == str(path)
    beside = {"vad_model": str(directories["vad"])}
    if kind in ("recogniser", "speaker"):  # which tells turns in the segments of a VAD
        assert AutoModel(str(path), device="cpu", **beside).directories["vad_model"]
        return
    with pytest.raises(ConfigError, match=f"^model: {path}: is .*, not a recogniser"):
        AutoModel(str(path), device="cpu", **beside)


def test_live_sessions_say_the_same(directories):
    streaming, other = str(ORACLE / "paraformer-streaming"), str(directories["punctuation"])
    with pytest.raises(ConfigError, match="is a punctuation model .*, not a recogniser such as"):
        LivePipeline(other)
    with pytest.raises(ConfigError, match="is a punctuation model .*, not a VAD such as fsmn-vad"):
        LivePipeline(streaming, other)
    with pytest.raises(ConfigError, match="is a recogniser .*, not a punctuation model such as"):
        LivePipeline(streaming, punc_model=streaming)


def test_a_model_of_another_kind_is_named_before_its_files_are_missed(directories, tmp_path):
    folder = shutil.copytree(directories["speaker"], tmp_path / "other")
    (folder / "config.yaml").write_text("model: SenseVoiceSmall\n")
    with pytest.raises(ConfigError, match=f"^{folder}: model SenseVoiceSmall is not known; known"):
        load_directory(folder)
    with pytest.raises(ConfigError, match="model SenseVoiceSmall is not known; known: FsmnVAD"):
        load_vad(folder)


@pytest.mark.parametrize(
    ("name", "timed"),
    [("paraformer", False), ("bicif", True), ("seaco", True), ("contextual", False)],
)
def test_the_configuration_tells_whether_tokens_are_timed(name, timed):
    folder = ORACLE / name
    if not folder.is_dir():
        pytest.skip(f"no fixture {name}")
    assert times_tokens(read_config(folder, {})) is timed
    assert AutoModel(str(folder), device="cpu").recognizer.times_tokens is timed
