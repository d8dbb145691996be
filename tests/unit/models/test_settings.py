"""A configuration with which no model can work is refused in one line, in training and loading."""

from __future__ import annotations

import shutil

import pytest
import yaml

from paraformer import AutoModel
from paraformer.errors import ConfigError, ParaformerError
from paraformer.models.release import build, merge
from tests import tiny
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "oracle"
FAULTS = [
    ("encoder_conf.attention_heads", 3, "does not divide the width"),
    ("decoder_conf.attention_heads", 5, "does not divide the width"),
    ("encoder_conf.attention_heads", 0, "give a whole number (of|from) 1 "),
    ("encoder_conf.num_blocks", 0, "give a whole number (of|from) 1 "),
    ("decoder_conf.num_blocks", 1.5, "give a whole number (of|from) 1 "),
    ("encoder_conf.linear_units", -1, "give a whole number (of|from) 1 "),
    ("encoder_conf.kernel_size", 0, "give a whole number (of|from) 1 "),
    ("encoder_conf.sanm_shfit", 100, "too much for kernel_size"),
    ("decoder_conf.sanm_shfit", -1, "give a whole number from 0 to 1000"),
    ("encoder_conf.dropout_rate", 1.0, "give a number from 0 to below 1"),
    ("decoder_conf.src_attention_dropout_rate", 2, "give a number from 0 to below 1"),
    ("encoder_conf", 3, "it holds keys with their values"),
    ("predictor_conf.idim", 8, "the encoder is [0-9]+ wide; give the same number"),
    ("predictor_conf.threshold", 0.9, "is 1.0 in all models"),
    ("predictor_conf.tail_threshold", -1, "give a number from 0 to 10"),
    ("model_conf", "x", "it holds keys with their values"),
    ("model_conf.ctc_weight", 2, "give a number from 0 to 1"),
    ("model_conf.lsm_weight", 1, "give a number from 0 to below 1"),
    ("frontend_conf.lfr_m", 1.5, "give a whole number (of|from) 1 "),
    ("frontend_conf.fs", "16k", "give a whole number from 1 to 1000000"),
    ("frontend_conf.frame_shift", 0.001, "too few samples"),
    ("encoder", ["SANMEncoder"], "is not known; known: SANMEncoder"),
]


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


@pytest.mark.parametrize(("key", "value", "message"), FAULTS)
def test_it_is_refused_before_a_model_is_built_of_it(key, value, message):
    with pytest.raises(ConfigError, match=message):
        build(merge(tiny.CONFIG, nested(key, value)))


@pytest.mark.parametrize("kind", ["paraformer", "conformer", "transformer_conv2d"])
@pytest.mark.parametrize(("key", "value", "message"), FAULTS)
def test_it_is_refused_when_a_directory_is_loaded(tmp_path, kind, key, value, message):
    config = yaml.safe_load((FIXTURES / kind / "config.yaml").read_text("utf8"))
    name = key.split(".")[-1]
    if kind != "paraformer" and name in ("kernel_size", "sanm_shfit"):
        pytest.skip("no such key in this encoder")
    shutil.copytree(FIXTURES / kind, tmp_path / "m")
    (tmp_path / "m" / "config.yaml").write_text(yaml.safe_dump(merge(config, nested(key, value))))
    with pytest.raises(ConfigError, match=message):
        AutoModel(tmp_path / "m", device="cpu")


@pytest.mark.parametrize("kind", ["paraformer", "conformer", "transformer_conv2d"])
def test_no_value_of_any_key_is_a_traceback(tmp_path, kind):
    """Each key of a config.yaml in turn is null, text, negative, a list; or is not there."""
    config = yaml.safe_load((FIXTURES / kind / "config.yaml").read_text("utf8"))
    shutil.copytree(FIXTURES / kind, tmp_path / "m")
    refused = 0
    for path in paths(config):
        for value in (None, "x", -1, [1]):
            changed = merge(config, nested(path, value))
            (tmp_path / "m" / "config.yaml").write_text(yaml.safe_dump(changed))
            try:
                AutoModel(tmp_path / "m", device="cpu")
            except ParaformerError as error:
                refused += 1
                assert ": " in str(error), (path, value)
    assert refused > 50


def paths(config, prefix=""):
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")
