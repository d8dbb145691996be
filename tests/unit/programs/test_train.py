"""What training does with the folder of an earlier run, and with a device that is not there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from paraformer.data.audio import channels
from paraformer.errors import ConfigError
from paraformer.programs.run_folder import clear_run
from paraformer.programs.settings import pick_device
from paraformer.programs.training import one_remark


def test_a_new_run_does_not_inherit_the_epochs_of_the_last(tmp_path: Path) -> None:
    for name in ("epochs.jsonl", "epoch-1.pt", "epoch-12.pt", "last.pt", "config.yaml", "notes"):
        (tmp_path / name).touch()
    clear_run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "notes"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_training_does_not_fall_back_to_the_cpu_unasked() -> None:
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device=cuda: there is no such GPU"):
        pick_device("cuda")


def test_of_what_is_remarked_on_each_recording_the_first_remark_stands_for_all(caplog) -> None:
    logger = logging.getLogger(channels.__name__)
    with caplog.at_level(logging.INFO):
        with one_remark(logger.name):
            for number in range(3):
                logger.info("%d: two channels", number)
                logger.warning("%d: they cancel each other", number)
        logger.info("after")
    said = [record.getMessage() for record in caplog.records]
    warned = [f"{number}: they cancel each other" for number in range(3)]
    assert said == ["0: two channels", *warned, "after"]
