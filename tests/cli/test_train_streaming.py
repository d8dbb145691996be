"""bin/train.py in chunks: by random ones, and by those of a released online model."""

from __future__ import annotations

import subprocess

import pytest
import torch
import yaml

from paraformer.decode.streaming import StreamingRecognizer
from paraformer.models.release import load_directory
from paraformer.train.snapshots import average_weights, read_records
from tests.cli.test_train import command, corpus  # noqa: F401  (a fixture)

pytestmark = pytest.mark.cli
RELEASED = [
    "model.model=ParaformerStreaming",
    "model.encoder=SANMEncoderChunkOpt",
    "+model.encoder_conf.chunk_size=[6,9]",
    "+model.encoder_conf.stride=[4,6]",
    "+model.encoder_conf.pad_left=[0,0]",
    "+model.encoder_conf.encoder_att_look_back_factor=[2,2]",
    "+model.encoder_conf.decoder_att_look_back_factor=[1,1]",
]
DYNAMIC = ["dynamic_chunk.probability=0.7", "dynamic_chunk.sizes=[3,6]"]


@pytest.mark.parametrize("chunks", [DYNAMIC, RELEASED], ids=["dynamic", "released"])
def test_training_in_chunks_makes_a_model_that_streams(corpus, tmp_path, chunks):  # noqa: F811
    folder = tmp_path / "run"
    causal = ["model.decoder_conf.sanm_shfit=2", *chunks, "training.max_epoch=5"]
    done = subprocess.run(
        command(corpus, folder, *causal), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    records = read_records(folder / "epochs.jsonl")
    assert records[-1]["loss"] < records[0]["loss"]
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf8"))
    assert config["decoder_conf"]["sanm_shfit"] == 2
    torch.save({"state_dict": average_weights([folder / "epoch-5.pt"])}, folder / "model.pt")
    recognizer = StreamingRecognizer(load_directory(folder))
    tokens, stream = recognizer.feed(recognizer.open(), 0.1 * torch.randn(40000), final=True)
    assert stream.frames == 42
    assert all(token.end_ms <= 2500 for token in tokens)


def test_chunks_of_an_encoder_that_has_none_are_refused(corpus, tmp_path):  # noqa: F811
    changes = ["model.decoder=ParaformerSANDecoder", "dynamic_chunk.probability=1.0"]
    done = subprocess.run(
        command(corpus, tmp_path / "run", *changes), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "SANMEncoder" in done.stderr
    assert "Traceback" not in done.stderr
