"""Names of models become directories of this machine, without a network."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path

import pytest
import torch

from paraformer.api.auto import AutoModel
from paraformer.errors import CheckpointError, ConfigError
from paraformer.hub import directories as hub
from tests.conftest import ROOT

MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"
VAD = "iic/speech_fsmn_vad_zh-cn-16k-common-pytorch"
COMMIT, OTHER = "c" * 40, "d" * 40


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a name must not touch the network")

    for name in ("socket", "getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches of both hubs, and an empty working directory."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def make_model(folder: Path, weights: str = "model.pt") -> Path:
    folder.mkdir(parents=True)
    for name in ("config.yaml", weights):
        (folder / name).write_text("x")
    return folder


def test_a_directory_is_used_as_it_is():
    assert hub.find_model(MODEL) == MODEL
    assert hub.find_model(str(MODEL), revision="v2.0.4", offline=True) == MODEL


def test_a_bundled_name_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "BUNDLED", tmp_path)
    (tmp_path / "small").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        hub.find_model("small")
    for name in ("config.yaml", "model.pt"):
        (tmp_path / "small" / name).write_text("")
    assert hub.find_model("small") == tmp_path / "small"
    assert hub.bundled_models() == ["small"]


@pytest.mark.parametrize(
    "name", ["nowhere", "a/b/c", r"C:\models\x", "../small", "-a/b", "a/", "/"]
)
def test_an_unknown_name_lists_the_places_looked_in(name):
    if name == "/":
        name = "/no/such/directory"
    with pytest.raises(CheckpointError, match=r"looked for .*bundled models: .*ct-punc, "):
        hub.find_model(name)


@pytest.mark.parametrize("name", ["/no/such/paraformer-zh-mini", "./x/paraformer-zh-mini"])
def test_a_path_that_ends_as_a_bundled_name_is_not_that_model(name):
    with pytest.raises(CheckpointError, match="looked for ") as found:
        hub.find_model(name)
    assert str(hub.BUNDLED) not in str(found.value)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_working_directory(monkeypatch, name):
    make_model(Path("here"))
    monkeypatch.chdir("here")
    with pytest.raises(ConfigError, match="model: is empty; give a model name"):
        hub.find_model(name)


def test_a_path_that_is_mistyped_is_no_id_of_a_hub():
    Path("exp").mkdir()
    with pytest.raises(CheckpointError, match=r"model 'exp/final': no such directory"):
        hub.find_model("exp/final")
    Path("funasr").mkdir()
    with pytest.raises(CheckpointError, match="leave out offline once"):
        hub.find_model("funasr/fsmn-vad", "hf", offline=True)


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a//b", "a b", "-x", "a\\b", ".."])
def test_a_revision_cannot_leave_its_folder(revision):
    with pytest.raises(ConfigError, match="model_revision="):
        hub.find_model("fsmn-vad", revision=revision, offline=True)


@pytest.mark.parametrize("name", list(hub.RELEASED))
@pytest.mark.parametrize("key", ["ms", "hf"])
def test_offline_says_where_it_looked(caches, name, key):
    with pytest.raises(CheckpointError, match="not on this machine") as error:
        hub.find_model(name, key, offline=True)
    model = hub.RELEASED[name][key == "hf"]
    folder = caches / {"ms": "ms/models", "hf": "hf/hub/models--"}[key]
    text = str(error.value)
    joined = str(folder) + ("" if key == "hf" else "/") + model.replace("/", "--")
    assert joined in text and str(Path(name).absolute()) in text and f"fetch {model}" in text


def test_the_environment_can_forbid_the_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="not on this machine"):
        AutoModel("fsmn-vad")


# Where each version of modelscope keeps a model: by default, and with MODELSCOPE_CACHE.
@pytest.mark.parametrize(
    "place",
    [
        "models/iic--speech_x.y/snapshots/master",
        "models/iic/speech_x___y",
        "hub/models/iic/speech_x___y",
        "hub/iic/speech_x___y",
        "hub/iic/speech_x.y",
        "iic/speech_x___y",
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_a_model_that_modelscope_fetched_is_found(caches, monkeypatch, place, given):
    root = caches / "ms"
    if not given:
        monkeypatch.delenv("MODELSCOPE_CACHE")
        monkeypatch.setattr(Path, "home", lambda: caches)
        root = caches / ".cache" / "modelscope"
    folder = make_model(root / place)
    assert hub.find_model("iic/speech_x.y") == folder
    assert hub.find_model("iic/speech_x.y", "modelscope", offline=True) == folder


def test_a_flat_folder_is_of_the_revision_that_it_notes(caches):
    folder = make_model(caches / "ms" / "hub" / VAD)
    (folder / ".mv").write_text("Revision:v2.0.4,CreatedAt:1705635187")
    assert hub.find_model("fsmn-vad") == folder
    assert hub.find_model("fsmn-vad", revision="v2.0.4") == folder
    with pytest.raises(CheckpointError, match="not on this machine"):
        hub.find_model("fsmn-vad", revision="v2.0.5", offline=True)


def test_a_note_of_a_revision_that_is_older_than_the_files_is_not_believed(caches):
    """modelscope 1.40.2 fetches another revision into a flat folder, and leaves the note."""
    folder = make_model(caches / "ms" / "hub" / VAD)
    (folder / ".mv").write_text("Revision:v2.0.4,CreatedAt:1705635187")
    stat = (folder / ".mv").stat()
    os.utime(folder / "model.pt", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert hub.find_model("fsmn-vad") == folder, "any revision will do"
    with pytest.raises(CheckpointError, match="not on this machine"):
        hub.find_model("fsmn-vad", revision="v2.0.4", offline=True)


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("frontend: WavFrontend\n", "am.mvn"),
        ("tokenizer: CharTokenizer\n", "tokens.json"),
        ("tokenizer: CharTokenizer\ntokenizer_conf:\n  token_list: [一]\n", ""),
        ("frontend: null\ntokenizer: null\n", ""),
    ],
)
def test_without_a_configuration_json_the_config_yaml_says_what_belongs_to_it(caches, config, file):
    folder = make_model(caches / "ms" / "models" / VAD)
    (folder / "config.yaml").write_text(config)
    if file:
        with pytest.raises(CheckpointError, match=rf"\(lacks {file}\)"):
            hub.find_model("fsmn-vad", offline=True)
        (folder / file).write_text("x")
    assert hub.find_model("fsmn-vad", offline=True) == folder


def cut(folder: Path, name: str, whole: bytes) -> None:
    """Each way in which the weights may be less than they should be is seen."""
    (folder / name).write_bytes(whole)
    assert hub.find_model("fsmn-vad", offline=True) == folder
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        (folder / name).write_bytes(whole[:size])
        if size != 1 or name.endswith(".safetensors"):  # a byte is of no format
            with pytest.raises(CheckpointError, match=rf"\(lacks {name}"):
                hub.find_model("fsmn-vad", offline=True)


def test_weights_that_are_cut_short_are_not_whole(caches):
    """A zip archive of torch, and safetensors as its library writes them."""
    folder = make_model(caches / "ms" / "models" / VAD)
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(1000)}, buffer)
    cut(folder, "model.pt", buffer.getvalue())
    tensors = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "__metadata__": {}}
    header = json.dumps(tensors).encode()
    metas = {"file_path_metas": {"init_param": "model.safetensors"}}
    (folder / "configuration.json").write_text(json.dumps(metas))
    cut(folder, "model.safetensors", len(header).to_bytes(8, "little") + header + bytes(16))


def test_revisions_of_modelscope_are_kept_apart(caches):
    home = caches / "ms" / "models" / VAD.replace("/", "--") / "snapshots"
    old = make_model(home / "v2.0.4")
    assert hub.find_model("fsmn-vad") == old, "the only one that is here"
    make_model(home / "v2.0.5")
    with pytest.raises(CheckpointError, match=r"its revision v2\.0\.4, v2\.0\.5 is here"):
        hub.find_model("fsmn-vad", offline=True)
    newest = make_model(home / "master")
    assert hub.find_model("fsmn-vad") == newest
    assert hub.find_model("fsmn-vad", revision="v2.0.4") == old


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG"])
def test_a_model_that_huggingface_hub_fetched_is_found(caches, monkeypatch, variable):
    monkeypatch.delenv("HF_HOME")
    root = caches / "elsewhere"
    if variable == "XDG":
        monkeypatch.setenv("XDG_CACHE_HOME", str(root))
        root = root / "huggingface" / "hub"
    else:
        monkeypatch.setenv(variable, str(root))
        root = root / "hub" if variable == "HF_HOME" else root
    home = root / "models--funasr--fsmn-vad"
    folder, other = make_model(home / "snapshots" / COMMIT), make_model(home / "snapshots" / OTHER)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    (home / "refs" / "v2").write_text(OTHER)
    assert hub.find_model("fsmn-vad", "huggingface") == folder
    assert hub.find_model("funasr/fsmn-vad", "hf", "v2") == other
    assert hub.find_model("fsmn-vad", "hf", OTHER) == other
    with pytest.raises(CheckpointError, match=f"its revision {COMMIT}, {OTHER} is here"):
        hub.find_model("fsmn-vad", "hf", "v3", offline=True)


@pytest.mark.parametrize("note", ["../../x", "", "\xff", "c" * 39])
def test_a_ref_that_is_no_commit_names_nothing(caches, note):
    home = caches / "hf" / "hub" / "models--funasr--fsmn-vad"
    (home / "refs").mkdir(parents=True)
    (home / "snapshots").mkdir()
    make_model(home.parent / "x")  # where the first one would lead
    (home / "refs" / "main").write_bytes(note.encode("latin-1"))
    with pytest.raises(CheckpointError, match="not on this machine"):
        hub.find_model("fsmn-vad", "hf", offline=True)


def test_what_is_here_in_part_is_not_a_model(caches):
    folder = make_model(caches / "ms" / "models" / VAD)
    assert hub.find_model("fsmn-vad", offline=True) == folder
    (folder / "model.pt").unlink()
    with pytest.raises(CheckpointError, match="then in .*speech_fsmn_vad"):
        hub.find_model("fsmn-vad", offline=True)
    metas = {"file_path_metas": {"init_param": "vad.bin", "frontend_conf": {"cmvn_file": "x"}}}
    (folder / "configuration.json").write_text(json.dumps(metas))
    with pytest.raises(CheckpointError, match="not on this machine"):
        hub.find_model("fsmn-vad", offline=True)
    (folder / "vad.bin").write_text("x")
    with pytest.raises(CheckpointError, match=rf"{folder} \(lacks x\)\); offline: .* the rest of"):
        hub.find_model("fsmn-vad", offline=True)
    (folder / "x").write_text("x")
    assert hub.find_model("fsmn-vad", offline=True) == folder


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"file_path_metas": 3}'])
def test_a_configuration_that_cannot_be_read_says_nothing_of_names(caches, content):
    folder = make_model(caches / "ms" / "models" / VAD)
    (folder / "configuration.json").write_text(content)
    assert hub.find_model("fsmn-vad", offline=True) == folder


def test_the_other_hubs_model_is_mentioned(caches):
    make_model(caches / "ms" / "models" / VAD)
    with pytest.raises(CheckpointError, match="that of ModelScope is here: hub=ms"):
        hub.find_model("fsmn-vad", "hf", offline=True)


def test_a_file_an_empty_name_and_an_unknown_hub_are_refused():
    with pytest.raises(CheckpointError, match="is a file"):
        hub.find_model(MODEL / "model.pt")
    with pytest.raises(ConfigError, match="empty"):
        hub.find_model(" ")
    with pytest.raises(ConfigError, match="hub=x"):
        hub.find_model("paraformer-zh", "x")


def test_options_of_the_reference_mean_the_hub_and_the_revision(caches):
    with pytest.raises(CheckpointError, match="fetch funasr/paraformer-zh,"):
        AutoModel("paraformer-zh", model_hub="hf", model_revision=None, offline=True)
    with pytest.raises(ConfigError, match="model_revision=a b"):
        AutoModel("paraformer-zh", model_revision="a b")
    with pytest.raises(CheckpointError, match="vad_model 'fsmm-vad': no such directory or name"):
        AutoModel(MODEL, vad_model="fsmm-vad", vad_model_revision="v2.0.4")
    with pytest.raises(ConfigError, match="punc_model_revision=a b"):
        AutoModel(MODEL, punc_model="ct-punc", punc_model_revision="a b")


def test_a_bundled_model_needs_neither_hub_nor_revision():
    model = AutoModel("fsmn-vad-mini", model_revision="v2.0.4", hub="hf")
    assert Path(model.model_path).name == "fsmn-vad-mini"
