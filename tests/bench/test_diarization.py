"""The grid of diarisation: its rows from embeddings whose groups and errors are known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from paraformer.data.corpus.rttm import NamedTurn
from tests.bench.diarization import COLLARS, Heard, errors_of, rows_of

# A speaks for 20 s, B for 20 s, and windows of 1 s lie one beside the other.
SPANS = np.stack((np.arange(40.0), np.arange(1.0, 41.0)), 1)
TRUTH = np.repeat([0, 1], 20)


def heard(folder: Path, axes: np.ndarray) -> Heard:
    """Windows whose embeddings lie near the axes of their speakers."""
    rows = np.eye(8)[axes] + 0.01 * np.random.default_rng(0).standard_normal((40, 8))
    said = [NamedTurn(0, 20, "A"), NamedTurn(20, 40, "B")]
    file = folder / "one.npz"
    np.savez(file, rows=rows.astype(np.float32), spans=SPANS, speakers=2)
    return Heard(SPANS, rows.astype(np.float32), said, file)


def test_ten_of_forty_seconds_with_a_wrong_speaker_are_a_quarter(tmp_path: Path) -> None:
    one = heard(tmp_path, TRUTH)
    labels = np.repeat([0, 1], [30, 10])
    assert errors_of(one, labels, 0.0)[:4] == (0.0, 0.0, 10.0, 40.0)
    # A collar of a quarter second leaves out half a second at 20 s and a quarter at either end.
    assert errors_of(one, labels, 0.25)[:4] == (0.0, 0.0, 9.75, 39.0)


def test_a_row_for_a_known_and_an_unknown_number_and_for_the_peer(tmp_path: Path) -> None:
    one = heard(tmp_path, TRUTH)
    rows = list(rows_of([one], 0.78, None))
    assert [row[:2] for row in rows] == [("known", "ours"), ("unknown", "ours")]
    assert rows[0][2] == "0.00 (0.00, 0.00, 0.00) | 0.00 | 1 of 1 | -, -"
    assert rows[1][2] == "0.00 (0.00, 0.00, 0.00) | 0.00 | 1 of 1 | 1.00, -"
    # A peer that hears one speaker everywhere: half of the time is the other's.
    peer = tmp_path / "peer"
    peer.write_text(
        f"#!{sys.executable}\nimport sys, numpy as np\n"
        "for path in sys.argv[4:]:\n"
        "    for name in ('known', 'unknown'):\n"
        "        np.save(path[:-4] + f'.{name}.npy', np.zeros(40, int))\n"
    )
    peer.chmod(0o755)
    found = [row for row in rows_of([one], 0.78, str(peer)) if row[1] == "FunASR"]
    assert [row[2].split(" |")[0] for row in found] == ["50.00 (0.00, 0.00, 50.00)"] * 2
    assert "0 of 1" in found[0][2] and len(COLLARS) == 2
