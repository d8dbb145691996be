"""The AISHELL recipe, from its archive to error rates, on tones in the layout of the archive."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from paraformer.data.batches.augment import Augment
from paraformer.data.batches.dataset import Batching
from paraformer.data.corpus.tables import read_table
from paraformer.models.builders import SILENT, SPELLINGS
from paraformer.models.release import build, override_keys
from paraformer.programs.training import chunking, specaug
from paraformer.train.consistency import Consistency
from paraformer.train.mwer import Mwer
from paraformer.train.optim import Optim
from paraformer.train.trainer import Training
from tests.conftest import ROOT
from tests.recipes.tones import sentences, write

RECIPE = ROOT / "egs/aishell/s0"
SPEAKERS = {"train": ("S0002", "S0003"), "dev": ("S0724",), "test": ("S0764",)}
UTTERANCES = {"train": 12, "dev": 2, "test": 2}
TOKENS = 4233  # in the dictionaries that other toolkits make of these transcripts


def write_archive(root: Path) -> Path:
    """data_aishell.tgz: archives of speakers and a transcript; a recording of each speaker is not
    in it, and one of S0003 is cut off.
    """
    wav, lines = root / "data_aishell/wav", []
    wav.mkdir(parents=True)
    for part, speakers in SPEAKERS.items():
        for speaker in speakers:
            with tarfile.open(wav / f"{speaker}.tar.gz", "w:gz") as tar:
                texts = sentences(UTTERANCES[part] + 1, (3, 6), int(speaker[1:]))
                for number, text in enumerate(texts, start=121):
                    key = f"BAC009{speaker}W{number:04d}"
                    path = root / "made" / f"{key}.wav"
                    write(path, text, number)
                    tar.add(path, f"./{part}/{speaker}/{key}.wav")
                    if number > 121:  # words in twos, as the transcript has them
                        lines.append(f"{key} {text[:2]} {' '.join(text[2:])}".strip())
                if speaker == "S0003":
                    path.write_bytes(path.read_bytes()[:-3000])
                    tar.add(path, f"./{part}/{speaker}/BAC009S0003W0999.wav")
                    lines.append("BAC009S0003W0999 一二")
    transcript = root / "data_aishell/transcript/aishell_transcript_v0.8.txt"
    transcript.parent.mkdir()
    transcript.write_text("\n".join(lines) + "\n", "utf8")
    archive = root / "data_aishell.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "data_aishell", "data_aishell")
    return archive


def run_recipe(work: Path, archive: Path, *options: str) -> subprocess.CompletedProcess[str]:
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    command = ["bash", str(RECIPE / "run.sh"), "--tiny", "true", "--work", str(work)]
    command += ["--corpus", str(work / "corpus"), "--url", archive.parent.as_uri()]
    command += ["--md5", digest, *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=1500, check=False
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("openslr"))


@pytest.mark.recipe
def test_the_recipe_runs_from_the_archive_to_error_rates(archive: Path, tmp_path: Path) -> None:
    done = run_recipe(tmp_path, archive, "--mwer", "true")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "train: 24 utterances; 2 without transcript, 1 unreadable" in done.stderr
    data = tmp_path / "data"
    raw = read_table(tmp_path / "corpus/data_aishell/transcript/aishell_transcript_v0.8.txt")
    for part, speakers in SPEAKERS.items():
        text = read_table(data / part / "text")
        assert set(read_table(data / part / "utt2spk").values()) == set(speakers)
        assert text == {key: raw[key].replace(" ", "") for key in text}
    epochs = (tmp_path / "exp/train_tiny/epochs.jsonl").read_text("utf8").splitlines()
    first, last = (json.loads(epochs[place])["loss_att"] for place in (0, -1))
    assert last < 0.8 * first
    for model in ("train_tiny", "train_mwer_tiny"):
        for search in ("decode", "decode_ctc"):
            cer = tmp_path / f"exp/{model}/{search}_test/score/cer"
            assert cer.read_text("utf8").startswith("%CER ")
    assert (tmp_path / "exp/train_tiny/stream_0-10-5_4_test/score/cer").is_file()

    # The conformer of the same data, its features made while it trains.
    small = ("--config", "conf/train_tiny_conformer.yaml", "--features", "false")
    for path in data.glob("*/feats.scp"):
        path.unlink()
    done = run_recipe(tmp_path, archive, *small, "--stage", "1", "--stop-stage", "6")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert len(read_table(tmp_path / "exp/train_tiny_conformer/decode_ctc_test/text")) == 2
    done = run_recipe(tmp_path, archive, *small, "--stage", "8")
    assert done.returncode == 0 and "stage 8: left out" in done.stderr


@pytest.mark.recipe
def test_a_download_goes_on_and_is_checked(archive: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    whole = archive.read_bytes()
    (corpus / "data_aishell.tgz.partial").write_bytes(whole[:1000])
    wrong = run_recipe(tmp_path, archive, "--stop-stage", "-1", "--md5", "0" * 32)
    assert wrong.returncode == 1 and "its md5 is not" in wrong.stderr
    assert not list(corpus.iterdir())
    (corpus / "data_aishell.tgz.partial").write_bytes(whole[:1000])
    done = run_recipe(tmp_path, archive, "--stop-stage", "-1")
    assert done.returncode == 0, done.stderr
    assert (corpus / "data_aishell.tgz").read_bytes() == whole
    assert "4 speakers, 4 of them now" in done.stderr
    # One speaker was not finished: only that one is unpacked again.
    (corpus / "data_aishell/wav/.S0003.tar.gz.done").unlink()
    again = run_recipe(tmp_path, archive, "--stop-stage", "-1")
    assert "4 speakers, 1 of them now" in again.stderr


@pytest.mark.parametrize("kind", ["parent", "absolute", "link"])
def test_no_member_of_an_archive_leaves_the_folder(tmp_path: Path, kind: str) -> None:
    names = {"parent": "data_aishell/../../evil", "absolute": f"{tmp_path}/evil", "link": "evil"}
    member = tarfile.TarInfo(names[kind])
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as tar:
        tar.addfile(member, io.BytesIO())
    command = [sys.executable, str(RECIPE / "local/unpack.py")]
    command += [str(tmp_path / "bad.tgz"), str(tmp_path / "a/b")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"member '{member.name}' is no file below it" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil" or path.is_symlink()]


def configuration(name: str) -> dict[str, Any]:
    """A configuration of the recipe as the training program sees it."""
    with initialize_config_dir(str(RECIPE / "conf"), version_base="1.3"):
        composed = compose(name, ["hydra.searchpath=[pkg://paraformer.conf]"])
    plain = OmegaConf.to_container(composed)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def count_conformer(vocabulary: int, width: int = 256, hidden: int = 2048) -> int:
    """Parameters of the AISHELL model by the shapes in arXiv 2005.08100 and 2206.08317."""
    line = width * width + width
    norm = 2 * width
    feed = 2 * width * hidden + hidden + width
    convolution = 2 * line + line + width * 15 + width + norm  # pointwise, depthwise, batch norm
    block = 2 * feed + 4 * line + width * width + 2 * width + convolution + 5 * norm
    subsampling = 9 * width + width + 9 * width * width + width + 19 * width * width + width
    decoder_block = feed + 8 * line + 3 * norm
    output = vocabulary * width + vocabulary
    predictor = 3 * width + width + width + 1
    encoder = subsampling + 12 * block + norm
    decoder = vocabulary * width + 6 * decoder_block + norm + output
    return encoder + predictor + decoder + output


SIZES = {  # parameters, as the README says
    "train_conformer": 46_198_547,
    "train_conformer_cr": 46_198_547,
    "train_sanm": 44_309_619,
    "train_unified": 44_309_619,
}


@pytest.mark.parametrize(
    "path", sorted((RECIPE / "conf").glob("train_*.yaml")), ids=lambda p: p.stem
)
def test_a_configuration_has_only_keys_that_something_reads(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(path.stem)
    parts = {"batching": Batching, "augment": Augment, "optim": Optim, "mwer": Mwer,
             "training": Training, "consistency": Consistency}  # fmt: skip
    for name, kind in parts.items():
        assert set(config[name]) <= {field.name for field in fields(kind)}
        kind(**config[name])
    specaug(config["model"])
    assert (chunking(config) is not None) == (path.stem in UNIFIED)
    tokens = ["<blank>", "<s>", "</s>", *(chr(0x4E00 + n) for n in range(TOKENS - 4)), "<unk>"]
    model = {**config["model"], "tokenizer_conf": {"token_list": tokens}}
    built = build(model).model
    assert "has no effect" not in caplog.text
    known = override_keys({**model, "encoder_conf": {}, "decoder_conf": {}})
    for part in ("encoder_conf", "decoder_conf"):
        names = {SPELLINGS.get(key, key) for key in model[part]}
        assert names <= set(known[part]) | SILENT
    if path.stem in SIZES:
        assert sum(p.numel() for p in built.parameters()) == SIZES[path.stem]


UNIFIED = ("train_unified", "train_tiny", "train_mwer_tiny")


def test_the_conformer_has_the_46_million_parameters_of_the_paper() -> None:
    assert count_conformer(TOKENS) == SIZES["train_conformer"]
