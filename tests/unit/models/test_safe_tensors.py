"""Weights of SafeTensors serve as a model.pt does, for every kind of model, as strictly read."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from paraformer.errors import CheckpointError
from paraformer.hub.directories import BUNDLED, find_model
from paraformer.hub.repository import lacking, named_files
from paraformer.models.kinds import PUNCTUATION, kind_of
from paraformer.models.release import (
    load,
    load_directory,
    read_config,
    read_yaml,
    save_directory,
    weights_of,
)
from paraformer.models.weights import read_weights
from paraformer.programs.extend_model import extend_model
from paraformer.programs.train_punctuation import make_release
from paraformer.programs.training import initialize
from tests import tiny

pytest.importorskip("safetensors", reason="needs the extra safetensors")
SAFE = "model.safetensors"
KINDS = ("ct-punc-mini", "fa-zh-mini", "fsmn-vad-mini", "paraformer-zh-mini", "voices")


def converted(source, out, form="safetensors"):
    """Where the program says that it has written a directory of weights in this format."""
    with initialize_config_module("paraformer.conf", version_base="1.3"):
        config = compose("extend_model", [f"model={source}", f"out={out}", f"format={form}"])
    assert extend_model(config) == 0
    return out


def as_bytes(arrays):
    """A file as the format's page describes it: 8 bytes of length, a header of JSON, the values."""
    header, body = {}, b""
    for name, (kind, array) in arrays.items():
        end = len(body) + array.nbytes
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(body), end]}
        body += array.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.fixture
def saved(tmp_path):
    return save_directory(tmp_path / "model", tiny.release(), weights=SAFE)


def test_a_file_of_the_format_is_read_by_name_and_type(tmp_path):
    path = tmp_path / SAFE
    whole, half = np.array([[1.5, -2.0]], "<f4"), np.array([0.25], "<f2")
    path.write_bytes(as_bytes({"a.b": ("F32", whole), "c": ("F16", half)}))
    wanted = {"a.b": torch.tensor([[1.5, -2.0]]), "c": torch.tensor([0.25], dtype=torch.half)}
    assert tiny.equal(read_weights(path), wanted)


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_model_is_written_and_read(name, tmp_path):
    source, out = BUNDLED / name, tmp_path / "out"
    if name == "voices":
        source = save_directory(tmp_path / name, tiny.voices(), dtype=torch.half)
    converted(source, out)
    assert weights_of(out).name == SAFE and not (out / "model.pt").exists()
    assert tiny.equal(read_weights(out / SAFE), read_weights(source / "model.pt"))
    kind = kind_of(read_config(out, {}))
    twins = [load(kind, each).model.state_dict() for each in (out, source)]
    assert tiny.equal(*map(dict, twins))
    for beside in ("README.md", "ngrams.lm", "seg_dict", "am.mvn"):
        assert (out / beside).is_file() == (source / beside).is_file(), beside
    assert (out / SAFE).stat().st_mode == (out / "config.yaml").stat().st_mode


def test_back_to_a_model_pt(saved, tmp_path):
    out = converted(saved, tmp_path / "out", "pt")
    assert tiny.equal(read_weights(out / "model.pt"), read_weights(saved / SAFE))


def test_what_is_there_in_the_other_format_is_written_anew(saved, tmp_path):
    out = tmp_path / "out"
    for form in ("pt", "safetensors", "pt"):
        converted(saved, out, form)
        assert [path.suffix for path in out.glob("model.*")] == [f".{form}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.after_norm.bias"), "lacks 1 parameters .encoder.after_norm.bias"),
        (lambda s: s.update(extra=torch.ones(1)), "holds unknown 1 parameters .extra"),
        (lambda s: s.update({"decoder.after_norm.bias": torch.ones(3)}), "misshapes 1 parameters"),
        (
            lambda s: s["encoder.after_norm.bias"].fill_(torch.nan),
            r"encoder\S+ holds NaN",
        ),
        (
            lambda s: s.update(extra=torch.ones(1).to(torch.float8_e5m2)),
            "extra is of torch.float8_e5m2; save plain",
        ),
    ],
    ids=["missing", "extra", "misshaped", "nan", "eight bits"],
)
def test_what_does_not_fit_is_named_with_its_file(saved, change, message):
    from safetensors.torch import save_file

    state = read_weights(saved / SAFE)
    change(state)
    save_file(state, str(saved / SAFE))
    with pytest.raises(CheckpointError, match=f"{SAFE}: {message}") as caught:
        load_directory(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04", None])
def test_a_broken_file_is_one_line(saved, content):
    whole = (saved / SAFE).read_bytes()
    (saved / SAFE).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(CheckpointError, match=f"{SAFE}: no weights .*is the download") as caught:
        load_directory(saved)
    assert "\n" not in str(caught.value)


def test_of_both_the_listed_one_is_read_else_the_model_pt(saved, caplog):
    other = tiny.release(seed=1)
    save_directory(saved.parent / "other", other)
    shutil.copyfile(saved.parent / "other" / "model.pt", saved / "model.pt")
    listed = load_directory(saved)
    assert f"{saved}: {SAFE} is read, not model.pt beside it" in caplog.text
    (saved / "configuration.json").unlink()
    unlisted = load_directory(saved)
    assert f"{saved}: model.pt is read, not {SAFE} beside it" in caplog.text
    for found, seed in ((listed, 0), (unlisted, 1)):
        wanted = tiny.release(seed=seed).model.state_dict()
        assert tiny.equal(dict(found.model.state_dict()), dict(wanted))


def test_a_directory_without_a_listing_and_one_whose_listing_names_what_is_gone(saved, tmp_path):
    wanted = read_weights(saved / SAFE)
    other = save_directory(tmp_path / "other", tiny.release(seed=1))
    (other / "model.pt").unlink()
    shutil.copyfile(saved / SAFE, other / SAFE)
    (saved / "configuration.json").unlink()
    for folder in (saved, other):
        assert find_model(folder) == folder and not lacking(folder)
        assert tiny.equal(dict(load_directory(folder).model.state_dict()), wanted)


def test_of_a_hub_it_is_fetched_where_there_is_no_model_pt(tmp_path):
    for listed, wanted in (({SAFE}, SAFE), ({SAFE, "model.pt"}, "model.pt"), ((), "model.pt")):
        assert named_files(tmp_path, listed)["init_param"] == wanted


@pytest.mark.parametrize("in_part", [False, True])
@pytest.mark.parametrize("place", ["", SAFE])
def test_training_starts_from_it(saved, place, in_part):
    fresh = tiny.release(seed=1)
    initialize(fresh, str(saved / place), in_part)
    wanted = dict(tiny.release().model.state_dict())
    assert tiny.equal(dict(fresh.model.state_dict()), wanted)


def test_punctuation_training_starts_from_it(tmp_path):
    source = BUNDLED / "ct-punc-mini"
    start = converted(source, tmp_path / "start")
    model = read_yaml(source / "config.yaml")
    settings = {"model": model, "tokens": source / "tokens.json", "init": str(start)}
    begun = make_release(settings).model.state_dict()
    assert tiny.equal(dict(begun), dict(load(PUNCTUATION, source).model.state_dict()))
