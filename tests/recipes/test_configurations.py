"""Each configuration of a recipe, as it stands: its model is built, saved as a released directory,
loaded by name of that directory, and recognises once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from paraformer import AutoModel
from paraformer.data.features.cmvn import read_cmvn
from paraformer.data.text.tokenizer import write_token_list
from paraformer.models.release import save_directory
from paraformer.programs import train_punctuation, train_speaker, train_vad, training
from paraformer.programs.hydra_main import run
from tests.bench.large import tokens, write_statistics
from tests.bench.measure import CLIPS, speech
from tests.conftest import ROOT

CONFIGURATIONS = sorted((ROOT / "egs").glob("*/s0/conf/*.yaml"))
# What a program is given beside its configuration file.
GIVEN = {
    "train": ["data=x", "dev=x", "lang=.", "cmvn=am.mvn", "dir=x"],
    "finetune": ["data=x", "dev=x", "init=paraformer-zh-mini", "dir=x"],
    "train_punctuation": ["data=x", "dev=x", "tokens=tokens.json", "dir=x"],
    "train_vad": ["data=x", "dev=x", "dir=x"],
    "train_speaker": ["data=x", "dev=x", "dir=x"],
}
SPEECH = speech(2.0, CLIPS)


def program_of(path: Path) -> str:
    """The file of the package that a recipe's file begins with."""
    first = yaml.safe_load(path.read_text("utf8"))["defaults"][0]
    above = path.with_name(f"{first}.yaml")
    return program_of(above) if above.is_file() else first


def compose(path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """The whole configuration, as the program gets it."""
    found: list[DictConfig] = []
    folder = ["--config-dir", str(path.parent), "--config-name", path.stem]
    monkeypatch.setattr(sys, "argv", ["program", *folder, *arguments])
    assert run("train", lambda config: found.append(config)) == 0
    return found[0]


def save(program: str, config: DictConfig, out: Path) -> Path:
    """The released directory of a configuration, with random weights."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if program == "train_punctuation":
        return save_directory(out, train_punctuation.make_release(plain))
    if program == "train_speaker":
        return save_directory(out, train_speaker.make_release(plain))
    if program == "train_vad":
        release = train_vad.make_release(plain)
        release.frontend.cmvn = read_cmvn(write_statistics(Path("am.mvn"), plain["model"]))
        return save_directory(out, release)
    if plain["model"] is not None:
        write_statistics(Path("am.mvn"), plain["model"])
    return save_directory(out, training.make_release(training.prepare(config)))


def recognise(program: str, model: AutoModel) -> list[dict[str, Any]]:
    """What a model makes of speech or text, in each way that its recipe decodes."""
    if program == "train_punctuation":
        return model.generate("今天的会就到这里吧")
    if program in ("train_vad", "train_speaker"):
        return model.generate(SPEECH, fs=16000)
    if "recognizer" not in vars(model.task):
        return model.generate((SPEECH, "一丁七"), fs=16000, data_type=("sound", "text"))
    results = model.generate(SPEECH, fs=16000)
    if model.recognizer.engine.has_ctc:
        results += model.generate(SPEECH, fs=16000, decoding_ctc_weight=0.3, beam_size=2)
    if model.recognizer.engine.model.streams:
        results += model.generate(SPEECH, fs=16000, chunk_size=[0, 10, 5])
    assert all(result["text"] for result in results)
    return results


def test_there_are_configurations():
    assert len(CONFIGURATIONS) > 20


@pytest.fixture(scope="module")
def done():
    """The models that were tried: configurations that train one in other ways share it."""
    return set()


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda p: f"{p.parts[-4]}-{p.stem}")
def test_a_configuration_makes_a_model_that_recognises(path, done, monkeypatch):
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):  # it is large
        monkeypatch.chdir(folder)
        write_token_list(Path("tokens.json"), tokens(4233))
        program = program_of(path)
        config = compose(path, GIVEN[program], monkeypatch)
        model = {k: v for k, v in (config.model or {}).items() if not k.startswith("specaug")}
        if str(model) not in done:
            directory = save(program, config, Path("model"))
            auto = AutoModel(directory, device="cpu", disable_pbar=True)
            assert not [result for result in recognise(program, auto) if "error" in result]
        done.add(str(model))
        monkeypatch.undo()
