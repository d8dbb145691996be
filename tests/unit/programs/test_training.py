"""Recognisers and aligners are put together for training as a configuration says."""

from __future__ import annotations

import logging

import pytest

from paraformer.errors import ConfigError
from paraformer.programs.hydra_main import defaults_of
from paraformer.programs.training import inherit, one_remark, released_config, specaug


def test_of_what_is_remarked_on_each_recording_the_first_remark_stands_for_all(caplog) -> None:
    logger = logging.getLogger("paraformer.data.audio.channels")
    with caplog.at_level(logging.INFO):
        with one_remark(logger.name):
            for number in range(3):
                logger.info("%d: two channels", number)
                logger.warning("%d: they cancel each other", number)
        logger.info("after")
    said = [record.getMessage() for record in caplog.records]
    warned = [f"{number}: they cancel each other" for number in range(3)]
    assert said == ["0: two channels", *warned, "after"]


@pytest.mark.parametrize(
    "changes",
    [{"lang": "x"}, {"cmvn": "x"}, {"model": None}, {"model": None, "init": "x", "lang": "x"}],
)
def test_the_model_is_named_by_its_files_or_by_its_start(changes) -> None:
    config = defaults_of("train") | {"lang": None, "cmvn": None, "init": None}
    with pytest.raises(ConfigError, match="lang"):
        inherit({**config, **changes})


def test_files_of_the_language_are_named_and_absent_decoders_left_out(tmp_path) -> None:
    (tmp_path / "seg_dict").touch()
    config = defaults_of("train") | {"lang": str(tmp_path), "cmvn": "am.mvn"}
    config["model"] |= {"decoder": None, "decoder_conf": None}
    found = released_config(config)
    assert found["tokenizer_conf"]["token_list"] == str(tmp_path / "tokens.json")
    assert found["tokenizer_conf"]["seg_dict_file"] == str(tmp_path / "seg_dict")
    assert found["frontend_conf"]["cmvn_file"] == "am.mvn"
    assert not {"decoder", "decoder_conf"} & found.keys()


def test_masks_of_an_unknown_name_are_refused() -> None:
    assert specaug({}) is None
    with pytest.raises(ConfigError, match="model.specaug=Other: not known; one of SpecAug, "):
        specaug({"specaug": "Other"})
