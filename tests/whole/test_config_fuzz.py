"""Damaged configurations: one clear line, or a model that works; never a traceback, a hang, or
memory for sizes that no weights have. PARAFORMER_FUZZ=20000 tries so many instead of a few.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from paraformer import AutoModel
from paraformer.errors import ParaformerError
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "oracle"
TIMES = int(os.environ.get("PARAFORMER_FUZZ", "0"))
KINDS = ["bicif", "conformer", "contextual", "ct_punc", "fa-zh", "fsmn_vad", "paraformer"]
KINDS += ["paraformer-streaming", "seaco", "transformer_conv2d"]
FILES = ["config.yaml", "configuration.json", "tokens.json", "am.mvn", "seg_dict"]
VALUES: list[Any] = [None, True, -1, 0, 1, 2, 3, 7, 999, 10**6, 2**31, 2**63, 1e308, 0.5, -0.5]
VALUES += [float("nan"), float("inf"), "", "x", "0", "空", "a\nb", "../..", "/", "\0", "x" * 5000]
VALUES += [[], [1], [[]], ["x"], [None], {}, {"a": 1}, {"a": {"b": []}}, [10**9] * 3]
SAMPLES = (np.random.default_rng(0).standard_normal(8000) * 1000).astype(np.int16)


def leaves(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where values stand, those that hold others included; of a long list the first."""
    found = [place] if place else []
    if isinstance(node, dict):
        inside = list(node.items())
    else:
        inside = list(enumerate(node[:4])) if isinstance(node, list) else []
    for key, value in inside:
        found += leaves(value, (*place, key))
    return found


def change_values(config: Any, draw: random.Random) -> None:
    """One to three values of a nested dict are replaced, dropped, or put under another's name."""
    for _ in range(draw.randint(1, 3)):
        places = leaves(config) if isinstance(config, dict) else []
        if not places:
            return
        *path, key = draw.choice(places)
        node = config
        for part in path:
            node = node[part]
        if draw.random() < 0.15 and isinstance(node, dict):
            del node[key]
        elif draw.random() < 0.1 and isinstance(node, dict):
            node[f"{key}x"] = node[key]
        else:
            node[key] = draw.choice(VALUES)


def change_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes are flipped, cut out, doubled, or the rest is lost."""
    damaged = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(damaged) or 1)
        end = min(len(damaged), start + draw.randint(1, 40))
        what = draw.randrange(4)
        if what == 0:
            damaged[start:end] = draw.randbytes(end - start)
        elif what == 1:
            del damaged[start:end]
        elif what == 2:
            damaged[start:start] = damaged[start:end]
        else:
            del damaged[start + 1 :]
    return bytes(damaged)


def damage(folder: Path, origin: Path, draw: random.Random) -> None:
    """One file of a model directory is not what it was."""
    name = draw.choice([name for name in FILES if (origin / name).is_file()])
    if name == "config.yaml" or draw.random() < 0.5:
        name = "config.yaml"
    content = (origin / name).read_bytes()
    if name == "config.yaml" and draw.random() < 0.8:
        config = yaml.safe_load(content)
        change_values(config, draw)
        content = yaml.safe_dump(config, allow_unicode=True).encode("utf8", "surrogatepass")
    else:
        content = change_bytes(content, draw)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_directory_is_refused_or_works(kind: str, tmp_path: Path):
    draw = random.Random(kind)
    origin, folder = FIXTURES / kind, tmp_path / "m"
    folder.mkdir()
    refused = worked = 0
    for number in range(TIMES // len(KINDS) or 25):
        for path in origin.iterdir():
            if path.name in FILES:
                shutil.copyfile(path, folder / path.name)
            elif not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
        damage(folder, origin, draw)
        try:
            model = AutoModel(folder, device="cpu", disable_pbar=True, log_level="CRITICAL")
            source: Any = "那今天的会就到这里吧" if kind == "ct_punc" else SAMPLES
            if kind == "fa-zh":
                model.generate((SAMPLES, "今天"), data_type=("sound", "text"))
            else:
                model.generate(source)
            worked += 1
        except ParaformerError as error:
            refused += 1
            assert str(error).strip(), number
        except Exception as error:
            shutil.copytree(folder, tmp_path / "kept", dirs_exist_ok=True)
            raise AssertionError(f"{kind} {number}: {folder}: {error!r}") from error
    assert refused
    assert worked
