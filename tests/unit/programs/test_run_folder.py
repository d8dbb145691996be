"""The folder of a training run: what goes when a new one begins, and when one may go on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from paraformer.errors import ConfigError
from paraformer.programs.run_folder import clear_run, refuse_other_start


def test_a_new_run_does_not_inherit_the_epochs_of_the_last(tmp_path: Path) -> None:
    for name in ("epochs.jsonl", "epoch-1.pt", "epoch-12.pt", "last.pt", "config.yaml", "notes"):
        (tmp_path / name).touch()
    clear_run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "notes"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"lang": "data/lang"}, None),  # only a fine-tuning has a start
        ({"init": "other"}, "its training began with start, not other; train in another folder"),
        ({"digest": 2}, "its training began with other utterances; train in another folder"),
    ],
)
def test_a_fine_tuning_goes_on_with_its_own_start_alone(tmp_path: Path, changes, message) -> None:
    settings = {"lang": None, "init": "start", "digest": 1}
    trainer = SimpleNamespace(folder=tmp_path, snapshot=tmp_path / "last.pt")
    refuse_other_start(trainer, {**settings, "init": "other"})  # nothing has begun yet
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    trainer.snapshot.touch()
    if message is None:
        refuse_other_start(trainer, {**settings, **changes})
        return
    with pytest.raises(ConfigError, match=message):
        refuse_other_start(trainer, {**settings, **changes})
