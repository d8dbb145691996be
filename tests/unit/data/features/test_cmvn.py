"""Statistics against numpy, and the am.mvn text there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paraformer.data.features.cmvn import Cmvn, CmvnStatistics, read_cmvn, write_cmvn
from paraformer.errors import DataError


def features(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, 5, generator=generator) * torch.arange(1.0, 6.0) - 12


def counted(*parts):
    statistics = CmvnStatistics()
    for part in parts:
        statistics.add(part)
    return statistics


def test_statistics_equal_numpy():
    parts = [features(100), features(7, 1), features(0)]
    rows = np.concatenate([p.numpy() for p in parts]).astype(np.float64)
    shift, scale = counted(*parts).result()
    np.testing.assert_allclose(shift, -rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(scale, 1 / rows.std(0), rtol=1e-6)


def test_normalised_features_have_mean_0_and_deviation_1():
    x = features(500)
    y = counted(x).result().apply(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(5), atol=1e-5, rtol=0)


def test_parts_merged_are_the_whole():
    left, right, none = counted(features(40)), counted(features(60, 1)), CmvnStatistics()
    left.merge(right)
    left.merge(none)
    none.merge(left)
    whole = counted(features(40), features(60, 1)).result()
    for ours in (left.result(), none.result()):
        torch.testing.assert_close(ours, whole)


def test_a_constant_column_is_centred_and_not_scaled():
    x = features(50)
    x[:, 2] = -15.9424
    cmvn = counted(x).result()
    assert cmvn.scale[2] == 1
    assert cmvn.apply(x)[:, 2].abs().max() < 1e-5
    assert torch.isfinite(cmvn.scale).all()


def test_no_frames_and_mixed_widths_are_refused():
    with pytest.raises(DataError, match="no frames"):
        CmvnStatistics().result()
    with pytest.raises(DataError, match="4 columns after 5"):
        counted(features(3), torch.zeros(3, 4))


def test_written_and_read_is_the_same_bit_for_bit(tmp_path):
    cmvn = counted(features(50)).result()
    write_cmvn(tmp_path / "sub" / "am.mvn", cmvn)
    again = read_cmvn(tmp_path / "sub" / "am.mvn")
    assert torch.equal(again.shift, cmvn.shift)
    assert torch.equal(again.scale, cmvn.scale)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["am.mvn"]


def test_the_text_is_what_the_reference_reads(tmp_path):
    """It takes the fields 3 to -1 of the line after <AddShift> and <Rescale> (spec/frontend.md)."""
    write_cmvn(tmp_path / "am.mvn", Cmvn(torch.tensor([1.5, -2.0]), torch.tensor([0.25, 4.0])))
    lines = [line.split() for line in (tmp_path / "am.mvn").read_text().splitlines()]
    values = {
        lines[i][0]: [float(v) for v in lines[i + 1][3:-1]]
        for i in range(len(lines))
        if lines[i][0] in ("<AddShift>", "<Rescale>")
    }
    assert values == {"<AddShift>": [1.5, -2.0], "<Rescale>": [0.25, 4.0]}


GOOD = (
    "<Nnet>\n<Splice> 2 2\n[ 0 ]\n<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n"
    "<Rescale> 2 2\n<LearnRateCoef> 0 [ 3 4 ]\n</Nnet>\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no `<AddShift>`"),
        (GOOD.split("<Rescale>")[0], "no `<Rescale>`"),
        (GOOD.replace("[ 1 2 ]", "[ 1 x ]"), "could not convert"),
        (GOOD.replace("[ 1 2 ]", "[ 1 ]"), "announces 2"),
        (GOOD.replace("[ 1 2 ]", "[ 1 nan ]"), "announces 2 finite"),
        (GOOD.replace("<Rescale> 2 2", "<Rescale> 1 1").replace("3 4", "3"), "2 shifts but 1"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, message):
    path = tmp_path / "am.mvn"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_cmvn(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_with_other_line_ends_is_read(tmp_path):
    path = tmp_path / "am.mvn"
    path.write_bytes(GOOD.replace("\n", " \r\n").encode())
    assert read_cmvn(path).shift.tolist() == [1, 2]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="am.mvn: cannot read"):
        read_cmvn(tmp_path / "am.mvn")
