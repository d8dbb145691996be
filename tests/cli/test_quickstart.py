"""The quick-start notebook runs from its first cell to its last, and is kept without outputs."""

from __future__ import annotations

import os

import pytest

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel: the extra dev")
nbclient = pytest.importorskip("nbclient", reason="nbclient and ipykernel: the extra dev")
pytest.importorskip("ipykernel", reason="nbclient and ipykernel: the extra dev")
NOTEBOOK = ROOT / "egs/quickstart.ipynb"
# What a cell prints; those of funasr 1.4.16 where it says the same (see test_model_cards.py).
SAID = {
    "Recognise": "今 天 下 午 我 们 一 起 去 公 园 走 走 吧",
    "Words with times": "今",
    "Subtitles": "00:00:00,",
    "Who spoke": "SPK1: 由于是淡季宾馆里没什么人入住，\nSPK0: 对于戏剧",
    "Hotwords": "with:    不 动 产 登 记 到 医 师 对 楼 市 影 响 结 合",
    "Streaming": " | ",
    "Alignment": "今",
}


@pytest.fixture(scope="module")
def read():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def done(read, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    os.environ.update(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    try:
        client = nbclient.NotebookClient(
            read.copy(), timeout=300, resources={"metadata": {"path": str(folder)}}
        )
        finished = client.execute()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    assert list(folder.iterdir()) == []  # nothing is left behind
    return finished


def test_it_is_kept_without_outputs(read):
    nbformat.validate(read)
    cells = [cell for cell in read.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.cli
def test_every_cell_prints_what_it_should(done):
    printed: dict[str, str] = {}
    for cell in done.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            title = cell.source.splitlines()[0].removeprefix("## ")
        for output in cell.get("outputs", ()):
            if "display(" in cell.source:
                assert output.data["image/png"]
                continue
            assert output.get("name") == "stdout", output  # neither warnings nor errors
            printed[title] = printed.get(title, "") + output.text
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code)
    for title, text in SAID.items():
        assert text in printed[title], title
    sentences = printed["Long recordings, marks, sentences"].splitlines()
    assert len(sentences) > 1 and sentences[-1].endswith("。")
    parts = printed["Streaming"].strip().split(" | ")
    assert len(parts) == 5 and "".join(parts).startswith("今天下午")
