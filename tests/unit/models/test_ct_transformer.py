"""The model for punctuation: what each word may see, and the released directory around it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from paraformer.decode.punctuate import Punctuator
from paraformer.errors import CheckpointError, ConfigError
from paraformer.models.kinds import PUNCTUATION
from paraformer.models.release import (
    build,
    load_punctuation,
    merge,
    save_directory,
)
from tests import tiny
from tests.parity.oracle import FIXTURES

PEER = os.environ.get("PARAFORMER_PEER_PYTHON", "")
WHOLE, STREAMING = FIXTURES / "oracle/ct_punc", FIXTURES / "oracle/ct_punc_streaming"
JIEBA = FIXTURES / "oracle/ct_punc_jieba"


def row(size, first=5):
    return torch.arange(first, first + size)[None]


@torch.no_grad()
def logits(model, ids, decided=None):
    lengths = torch.tensor([ids.size(1)])
    return model(ids, lengths, None if decided is None else torch.tensor([decided]))[0]


@pytest.mark.parametrize("folder", [WHOLE, STREAMING])
@torch.no_grad()
def test_padding_does_not_change_the_marks(folder):
    model = load_punctuation(folder).model
    ids, lengths = torch.cat((row(12), row(12, 40))), torch.tensor([12, 7])
    decided = torch.tensor([3, 5])
    together = model(ids, lengths, decided)
    for number, (size, seen) in enumerate(zip([12, 7], [3, 5], strict=True)):
        alone = logits(model, ids[number : number + 1, :size], seen)
        torch.testing.assert_close(together[number, :size], alone, atol=1e-5, rtol=1e-5)


def changed(model, decided):
    """Which of 10 words' logits change when the words from number 6 on are others."""
    before = logits(model, row(10), decided)
    other = torch.cat((row(6), row(4, 80)), dim=1)
    return (logits(model, other, decided) - before).abs().amax(-1).gt(1e-5).tolist()


def test_a_decided_word_does_not_see_later_ones_but_the_last_does():
    model = load_punctuation(STREAMING).model
    assert changed(model, 6) == [False] * 5 + [True] * 5
    assert changed(model, 4) == [False] * 3 + [True] * 7  # word 3 is the last of four


@pytest.mark.parametrize("decided", [None, 0, 10])
def test_without_words_of_an_earlier_call_all_see_all(decided):
    assert changed(load_punctuation(STREAMING).model, decided) == [True] * 10


def test_in_the_whole_form_all_see_all():
    assert changed(load_punctuation(WHOLE).model, 6) == [True] * 10


def test_names_and_shapes_of_the_large_release():
    """../shared/spec/punctuation.md, "Parameters"; no layer of ASR is missing or new."""
    d, vocabulary, blocks = 516, 1000, 12
    config = yaml.safe_load((WHOLE / "config.yaml").read_text("utf8"))
    sizes = {"input_size": d, "output_size": d, "attention_heads": 12, "linear_units": 2048}
    config["model_conf"]["embed_unit"] = d
    config["encoder_conf"] |= {**sizes, "num_blocks": blocks}
    config["tokenizer_conf"]["token_list"] = [*map(str, range(vocabulary - 1)), "<unk>"]
    model = build(config, PUNCTUATION).model
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["embed.weight"] == (vocabulary, d)
    assert (shapes["decoder.weight"], shapes["decoder.bias"]) == ((6, d), (6,))
    assert shapes["encoder.encoders0.0.self_attn.linear_q_k_v.weight"] == (3 * d, d)
    assert shapes["encoder.encoders.10.self_attn.fsmn_block.weight"] == (d, 1, 11)
    assert "encoder.encoders.11.norm1.weight" not in shapes
    layer = {n.split("encoders0.0.")[1] for n in shapes if "encoders0" in n}
    assert layer == {n.split("encoders.3.")[1] for n in shapes if "encoders.3." in n}
    assert len(shapes) == 1 + blocks * len(layer) + 2 + 2


@pytest.mark.parametrize("folder", [WHOLE, STREAMING, JIEBA])
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_saved_and_loaded_is_the_same(folder, dtype, tmp_path):
    release = load_punctuation(folder)
    saved = save_directory(tmp_path / "a", release, dtype=dtype)
    moved = saved.rename(tmp_path / "b")
    again = load_punctuation(moved)
    for name, value in release.model.state_dict().items():
        stored = value if dtype is None else value.to(dtype).float()
        assert torch.equal(again.model.state_dict()[name], stored)
    assert again.tokenizer.tokens == release.tokenizer.tokens
    assert (again.marks, again.sentence_end) == (release.marks, 3)
    assert str(tmp_path) not in (moved / "config.yaml").read_text("utf8")
    assert not again.model.training
    if folder == JIEBA:
        assert again.jieba_dict == moved / "jieba_usr_dict"
        assert again.jieba_dict.read_bytes() == (JIEBA / "jieba_usr_dict").read_bytes()


def test_the_saved_configuration_is_the_released_one(tmp_path):
    saved = save_directory(tmp_path, load_punctuation(JIEBA))
    for name in ("config.yaml", "configuration.json"):
        ours, theirs = (yaml.safe_load((f / name).read_text("utf8")) for f in (saved, JIEBA))
        assert ours == theirs


def test_values_may_be_replaced(tmp_path):
    release = load_punctuation(WHOLE, {"model_conf": {"sentence_end_id": 4}})
    assert release.sentence_end == 4


def test_faults_are_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such directory"):
        load_punctuation(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="is a recogniser .Paraformer., not a punctuation model"):
        build(tiny.CONFIG, PUNCTUATION)
    config = yaml.safe_load((WHOLE / "config.yaml").read_text("utf8"))
    config["tokenizer_conf"]["token_list"] = ["<unk>"]
    with pytest.raises(ConfigError, match="encoder Other is not known"):
        build(merge(config, {"encoder": "Other"}), PUNCTUATION)
    del config["model_conf"]["punc_list"]
    with pytest.raises(ConfigError, match="model_conf has no punc_list"):
        build(config, PUNCTUATION)


READ = """
import json, sys
from funasr import AutoModel
model = AutoModel(model=sys.argv[1], disable_update=True, disable_pbar=True, device="cpu")
rows = [model.generate(input=text)[0] for text in sys.argv[2:]]
print("RESULT" + json.dumps([[row["text"], row["punc_array"].tolist()] for row in rows]))
"""
TEXTS = [
    "跨境河流是养育沿岸人民的生命之源长期以来为帮助下游地区防灾减灾中方技术人员",
    "今天天气怎么样我们开会了吗",
    "我有3个苹果 hello world 你好",
]


@pytest.mark.skipif(
    not PEER, reason="set PARAFORMER_PEER_PYTHON to a python that has the reference, funasr 1.4.16"
)
@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("source", [WHOLE, Path("bundled")], ids=["random", "bundled"])
def test_what_we_save_reads_the_same_in_the_reference(source, dtype, tmp_path):
    if not source.is_absolute():
        source = FIXTURES.parent.parent / "paraformer/bundled/ct-punc-mini"
    folder = save_directory(tmp_path / "model", load_punctuation(source), dtype=dtype)
    command = [PEER, "-c", READ, str(folder), *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-2000:]
    ours = Punctuator(load_punctuation(folder))
    for text, (theirs, array) in zip(TEXTS, json.loads(lines[0][len("RESULT") :]), strict=True):
        result = ours.punctuate(text)
        assert result.punc_array == array
        assert "".join(result.text.split()) == "".join(theirs.split()).replace("Hello", "hello")
