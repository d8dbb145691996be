"""What is saved loads again, in the reference too; what does not fit is refused with the names."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from paraformer.data.audio.read import read_audio
from paraformer.decode.search import greedy_search
from paraformer.decode.text import postprocess
from paraformer.errors import CheckpointError, ConfigError
from paraformer.models.release import (
    build,
    load_directory,
    merge,
    save_directory,
)
from paraformer.models.weights import load_weights, read_weights, save_weights
from tests import tiny
from tests.parity.oracle import FIXTURES

PEER = os.environ.get("PARAFORMER_PEER_PYTHON", "")
CLIPS = [FIXTURES / "oracle" / "inputs" / f"clip_{x}.flac" for x in "abc"]


@pytest.fixture
def release():
    return tiny.release()


@pytest.fixture
def saved(release, tmp_path):
    return save_directory(tmp_path / "model", release)


@torch.no_grad()
def log_probabilities(release, wave):
    feats, lengths = release.frontend.batch([wave])
    memory, lengths = release.model.encode(feats, lengths)
    heard = release.model.predict(memory, lengths)
    return release.model.decode(heard.embeds, heard.token_lengths, memory, lengths)


def test_saved_and_loaded_is_the_same(release, saved):
    again = load_directory(saved)
    assert tiny.equal(dict(again.model.state_dict()), dict(release.model.state_dict()))
    assert again.tokenizer.tokens == tiny.TOKENS
    assert again.tokenizer.seg_dict == tiny.SEG_DICT
    assert tiny.equal(tuple(again.frontend.cmvn), tuple(release.frontend.cmvn))
    assert not again.model.training
    assert again.directory == saved
    wave = read_audio(CLIPS[0])
    release.model.eval()
    assert torch.equal(log_probabilities(again, wave), log_probabilities(release, wave))


def test_saved_twice_is_the_same_file_by_file(saved, tmp_path):
    again = save_directory(tmp_path / "again", load_directory(saved))
    assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in saved.iterdir())
    for path in saved.iterdir():
        if path.name != "model.pt":
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_saved_directory_can_be_moved(saved, tmp_path):
    moved = saved.rename(tmp_path / "elsewhere")
    assert str(tmp_path) not in (moved / "config.yaml").read_text("utf8")
    load_directory(moved)


def test_half_precision_weights_are_half_as_large_and_load_as_single(release, tmp_path):
    sizes = []
    for dtype in (None, torch.float16):
        folder = save_directory(tmp_path / str(dtype), release, dtype=dtype)
        sizes.append(sum(v.nbytes for v in read_weights(folder / "model.pt").values()))
        model = load_directory(folder).model
        assert {v.dtype for v in model.state_dict().values()} == {torch.float32}
    assert sizes[1] == sizes[0] / 2
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, release.model.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_what_is_equal_stands_in_the_file_once_but_learns_apart(saved):
    """All norms begin as ones and zeros."""
    places = {value.data_ptr() for value in read_weights(saved / "model.pt").values()}
    loaded = load_directory(saved)
    copied = copy.deepcopy(loaded.model)
    assert len(places) < len(dict(copied.named_parameters()))
    with torch.no_grad():
        for number, (_, value) in enumerate(copied.named_parameters()):
            value.fill_(number)
        for number, (_, value) in enumerate(loaded.model.named_parameters()):
            value.fill_(number)
    assert all(bool((v == n).all()) for n, v in enumerate(loaded.model.parameters()))
    again = load_directory(save_directory(saved.parent / "again", loaded)).model
    assert tiny.equal(dict(again.state_dict()), dict(copied.state_dict()))


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", None])
def test_weights_may_be_nested_and_prefixed(release, saved, key):
    state = {f"module.{name}": value for name, value in release.model.state_dict().items()}
    torch.save({key: state, "epoch": 3} if key else state, saved / "model.pt")
    again = load_directory(saved)
    assert tiny.equal(dict(again.model.state_dict()), dict(release.model.state_dict()))


def spoil(saved, change):
    state = read_weights(saved / "model.pt")
    change(state)
    torch.save(state, saved / "model.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.after_norm.bias"), "lacks 1 parameters .encoder.after_norm.bias"),
        (lambda s: s.update(extra=torch.ones(1)), "holds unknown 1 parameters .extra"),
        (
            lambda s: s.update({"encoder.after_norm.bias": torch.ones(3)}),
            "misshapes 1 parameters .encoder.after_norm.bias",
        ),
        (lambda s: s.clear(), "lacks [0-9]+ parameters .*, .*, .* \\.\\.\\."),
    ],
    ids=["missing", "extra", "misshaped", "nothing"],
)
def test_weights_that_do_not_fit_are_named(saved, change, message):
    spoil(saved, change)
    with pytest.raises(CheckpointError, match=f"model.pt: {message}.*does not fit its config"):
        load_directory(saved)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused(saved, tmp_path, how):
    evil = {"state_dict": Evil(tmp_path / "owned")}
    if how == "torch":
        torch.save(evil, saved / "model.pt")
    else:
        (saved / "model.pt").write_bytes(pickle.dumps(evil))
    with pytest.raises(CheckpointError, match="model.pt: no weights can be read"):
        load_directory(saved)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04"])
def test_a_broken_download_is_one_line(saved, content):
    (saved / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="is the download complete"):
        load_directory(saved)


def test_half_a_file_is_one_line(saved):
    whole = (saved / "model.pt").read_bytes()
    (saved / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is the download complete"):
        load_directory(saved)


def test_a_file_that_holds_no_weights(saved):
    torch.save([1, 2], saved / "model.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_directory(saved)


def test_an_interrupted_save_leaves_the_old_weights(release, saved, monkeypatch):
    before = (saved / "model.pt").read_bytes()

    def half(state, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_weights(saved / "model.pt", release.model)
    assert (saved / "model.pt").read_bytes() == before


def test_tokens_txt_serves_where_there_is_no_json(saved):
    (saved / "tokens.json").unlink()
    (saved / "tokens.txt").write_text("\n".join(tiny.TOKENS) + "\n", "utf8")
    assert load_directory(saved).tokenizer.tokens == tiny.TOKENS


def test_a_directory_without_a_listing(release, saved):
    (saved / "configuration.json").unlink()
    again = load_directory(saved)
    assert again.tokenizer.seg_dict == tiny.SEG_DICT
    assert tiny.equal(tuple(again.frontend.cmvn), tuple(release.frontend.cmvn))


def test_a_listing_may_name_other_files(saved):
    (saved / "config.yaml").rename(saved / "other.yaml")
    (saved / "model.pt").rename(saved / "weights.pb")
    listing = json.loads((saved / "configuration.json").read_text("utf8"))
    listing["file_path_metas"] |= {"config": "other.yaml", "init_param": "weights.pb"}
    (saved / "configuration.json").write_text(json.dumps(listing), "utf8")
    load_directory(saved)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pt", "model.pt: no such file; the model has no weights"),
        ("config.yaml", "config.yaml: no such file"),
        ("tokens.json", "holds neither tokens.json nor tokens.txt"),
    ],
)
def test_a_missing_file_is_named(saved, name, message):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_directory(saved)


def test_no_directory(tmp_path):
    with pytest.raises(CheckpointError, match="no such directory"):
        load_directory(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "- 1\n", "encoder: SANMEncoder\n"])
def test_a_config_of_something_else(saved, content):
    (saved / "config.yaml").write_text(content)
    with pytest.raises(CheckpointError, match="names no `model`"):
        load_directory(saved)


@pytest.mark.parametrize("part", ["model", "encoder", "decoder", "predictor", "tokenizer"])
def test_a_class_that_is_not_known_is_named(part):
    with pytest.raises(ConfigError, match=f"{part} Odd is not known"):
        build(merge(tiny.CONFIG, {part: "Odd"}))


def test_overrides_replace_values(saved):
    assert (
        load_directory(saved, {"model_conf": {"sampling_ratio": 0.3}}).model.sampling_ratio == 0.3
    )


def test_released_spellings_and_silent_keys(caplog):
    conf = {"encoder_conf": {"sanm_shfit": 1, "selfattention_layer_type": "sanm", "odd": 3}}
    model = build(merge(tiny.CONFIG, conf)).model
    assert model.encoder.encoders[0].self_attn.fsmn_block.pad == (3, 1)
    assert [r.getMessage() for r in caplog.records] == [
        "config.yaml: encoder_conf.odd is not known and has no effect"
    ]


def test_weights_of_one_epoch_load_too(release, tmp_path):
    torch.save(release.model.state_dict(), tmp_path / "epoch-1.pt")
    other = tiny.release(seed=1)
    load_weights(other.model, tmp_path / "epoch-1.pt")
    assert tiny.equal(dict(other.model.state_dict()), dict(release.model.state_dict()))


# the reference

READ = """
import json, sys
from funasr import AutoModel
model = AutoModel(model=sys.argv[1], disable_update=True, disable_pbar=True, device="cpu")
print("RESULT" + json.dumps([model.generate(input=p)[0]["text"] for p in sys.argv[2:]]))
"""


@pytest.mark.skipif(
    not PEER, reason="set PARAFORMER_PEER_PYTHON to a python that has the reference, funasr 1.4.16"
)
@pytest.mark.parametrize("kind", ["paraformer", "conformer"])
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_what_we_save_reads_the_same_in_the_reference(tmp_path, kind, dtype):
    release = load_directory(FIXTURES / "oracle" / kind)
    folder = save_directory(tmp_path / "model", release, dtype=dtype)
    assert yaml.safe_load((folder / "config.yaml").read_text("utf8"))["model"] == "Paraformer"
    command = [PEER, "-c", READ, str(folder), *map(str, CLIPS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-2000:]
    again = load_directory(folder)
    texts = []
    for clip in CLIPS:
        logp = log_probabilities(again, read_audio(clip))
        (reading,) = greedy_search(logp, torch.tensor([logp.size(1)]))
        texts.append(postprocess(again.tokenizer.ids_to_tokens(reading.ids)).text)
    assert json.loads(lines[0].removeprefix("RESULT")) == texts


def test_a_cmvn_that_the_directory_names_but_lacks_is_an_error(tmp_path: Path) -> None:
    source = FIXTURES / "oracle/paraformer"
    for name in ("config.yaml", "configuration.json", "model.pt", "tokens.json", "seg_dict"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(CheckpointError, match=r"am\.mvn: no such file, though configuration\.json"):
        load_directory(tmp_path)


@pytest.mark.parametrize("name", ["configuration.json", "config.yaml"])
def test_a_cut_configuration_is_one_line(tmp_path: Path, name: str) -> None:
    source = FIXTURES / "oracle/paraformer"
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text('{"a": [', encoding="utf8")
    with pytest.raises(CheckpointError, match=name):
        load_directory(tmp_path)
