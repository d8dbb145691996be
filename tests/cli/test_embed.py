"""embed.py and verify.py: embeddings in a Kaldi archive, and the figures of trials."""

from __future__ import annotations

import json
import subprocess
import sys

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from paraformer.api.auto import AutoModel
from paraformer.cli.main import main as funasr
from paraformer.data.corpus.tables import read_table
from paraformer.errors import ConfigError, DataError
from paraformer.models.release import save_directory
from paraformer.programs.embed import embed
from paraformer.programs.verify import Curve, verify
from paraformer.report.det_plot import deviates
from tests import tiny
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_directory(tmp_path_factory.mktemp("model"), tiny.voices()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two clips, and one that is not there."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for name in ("b", "a"):
        soundfile.write(folder / f"{name}.wav", 0.1 * random.normal(size=20000), 16000)
    rows = [f"{name} {folder}/{name}.wav\n" for name in ("a", "b", "lost")]
    (folder / "wav.scp").write_text("".join(rows))
    return folder


def run(program, **settings):
    name = program.__name__
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / f"{name}.yaml")
    return program(OmegaConf.merge(config, settings))


def test_the_archive_holds_what_the_model_gives(model, data, tmp_path):
    out = tmp_path / "out"
    settings = {"model": model, "data": str(data), "out": str(out), "device": "cpu"}
    assert run(embed, **settings) == 1  # a third is lost
    assert run(embed, **settings, min_success=0.6) == 0
    found = kaldiio.load_scp(str(out / "embedding.scp"))
    assert list(found) == ["a", "b"]
    auto = AutoModel(model, device="cpu")
    for name in found:
        (expected,) = auto.generate(str(data / f"{name}.wav"))
        np.testing.assert_allclose(found[name], expected["spk_embedding"][0].numpy(), atol=5e-5)
    assert list(read_table(out / "failed")) == ["lost"]
    assert not (out / "embedding.ark.part").exists()


def test_clips_of_one_length_are_embedded_together_as_each_alone(model, monkeypatch):
    auto = AutoModel(model, device="cpu")
    random = np.random.default_rng(1)
    clips = [0.1 * random.normal(size=size) for size in (24000, 30000, 24000, 100, 24000)]
    alone = [auto.generate(clip, fs=16000)[0] for clip in clips]
    passes = []
    engine = type(auto.task.voices.engine)
    sound = engine._embed
    monkeypatch.setattr(engine, "_embed", lambda self, x: passes.append(len(x)) or sound(self, x))
    found = auto.generate(clips, fs=16000)
    assert sorted(passes) == [1, 3]
    assert ["error" in one for one in found] == [False, False, False, True, False]
    for one, other in zip(found, alone, strict=True):
        if "error" not in one:
            torch.testing.assert_close(
                one["spk_embedding"], other["spk_embedding"], atol=5e-5, rtol=0
            )


def test_a_model_of_another_kind_is_one_line(data, tmp_path):
    vad = str(ROOT / "tests/fixtures/oracle/fsmn_vad")
    with pytest.raises(ConfigError, match="is a VAD .*, not a speaker model such as cam"):
        run(embed, model=vad, data=str(data), out=str(tmp_path))


def write_vectors(folder, vectors):
    scp = folder / "embedding.scp"
    kaldiio.save_ark(str(folder / "embedding.ark"), vectors, scp=str(scp))
    return str(scp)


VECTORS = {
    "a1": np.array([1.0, 0.0], np.float32),
    "a2": np.array([4.0, 3.0], np.float32),  # 0.8 to a1
    "b1": np.array([0.0, 2.0], np.float32),  # 0 to a1, 0.6 to a2
    "b2": np.array([-3.0, 4.0], np.float32),  # 0.8 to b1, -0.6 to a1, 0 to a2
}
TRIALS = "a1 a2 target\na1 b1 nontarget\na2 b1 nontarget\na1 b2 nontarget\nb1 b2 target\n"


def test_figures_of_trials(tmp_path, capsys):
    scp = write_vectors(tmp_path, VECTORS)
    (tmp_path / "trials").write_text(TRIALS)
    out = tmp_path / "scores"
    assert run(verify, trials=str(tmp_path / "trials"), embeddings=scp, out=str(out)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "%EER 0.00 [ 2 targets, 3 nontargets ]",
        "minDCF 0.0000 at 0.01, 0.0000 at 0.05",
        "threshold 0.31: %miss 0.00 [ 0 / 2 ], %false alarm 33.33 [ 1 / 3 ]",
    ]
    lines = out.read_text().splitlines()
    assert lines[0] == "a1 a2 0.800000"
    assert lines[2] == "a2 b1 0.600000"


def test_a_speaker_is_the_mean_of_utterances(tmp_path):
    scp = write_vectors(tmp_path, VECTORS)
    (tmp_path / "spk2utt").write_text("A a1 a2\n")
    (tmp_path / "trials").write_text("A a1 target\nA b2 nontarget\n")
    out = tmp_path / "scores"
    trials, table = str(tmp_path / "trials"), str(tmp_path / "spk2utt")
    assert run(verify, trials=trials, embeddings=scp, spk2utt=table, out=str(out)) == 0
    # (1, 0) and (0.8, 0.6): half way between 0 and 36.87 degrees; b2 is at 126.87
    near, far = (float(line.split()[2]) for line in out.read_text().splitlines())
    assert near == pytest.approx(np.cos(np.radians(18.435)), abs=1e-4)
    assert far == pytest.approx(np.cos(np.radians(126.87 - 18.435)), abs=1e-4)


@pytest.mark.parametrize(
    ("targets", "others", "expected"),
    [
        ([2, 3], [0, 1], 0.0),
        ([0, 1], [2, 3], 1.0),
        ([1, 1], [1, 1], 0.5),  # no threshold tells them apart
        ([1, 3, 4, 5], [0, 0.5, 2, 0.7], 0.25),
        ([1, 3, 4], [0, 0.5, 2, 0.7], 0.25),  # three quarters of the way from 0 to 1/3 missed
    ],
)
def test_equal_errors_by_hand(targets, others, expected):
    curve = Curve.of([*targets, *others], [True] * len(targets) + [False] * len(others))
    assert curve.equal_error() == pytest.approx(expected)


def test_least_cost_by_hand():
    """One of 100 nontargets is above three of four targets: it is taken, or these are missed."""
    scores = [9.0, 5.0, 5.0, 5.0, 6.0, *[0.0] * 99]
    curve = Curve.of(scores, [True] * 4 + [False] * 100)
    assert curve.least_cost(0.01) == pytest.approx(min(0.75, 99 * 0.01))
    assert curve.least_cost(0.5) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ("a1 a2 same\n", "is no trial"),
        ("a1 a2\n", "is no trial"),
        ("a1 a2 target\n", "needs trials of both kinds"),
        ("a1 a2 target\na1 zz nontarget\n", "'zz' has no embedding"),
    ],
)
def test_bad_trials_are_one_line(trials, message, tmp_path):
    scp = write_vectors(tmp_path, VECTORS)
    (tmp_path / "trials").write_text(trials)
    with pytest.raises(DataError, match=message):
        run(verify, trials=str(tmp_path / "trials"), embeddings=scp)


def test_an_embedding_that_is_no_number_is_one_line(tmp_path):
    bad = {**VECTORS, "a1": np.array([np.nan, 0], np.float32)}
    (tmp_path / "trials").write_text(TRIALS)
    with pytest.raises(DataError, match="'a1' is no embedding"):
        scp = write_vectors(tmp_path, bad)
        run(verify, trials=str(tmp_path / "trials"), embeddings=scp)


def test_the_door_says_what_it_takes():
    for name in ("embed", "verify"):
        command = [sys.executable, str(ROOT / "bin" / f"{name}.py"), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0
        assert f"({name}.yaml)" in done.stdout


def test_two_inputs_have_a_score_and_a_decision(model, data, capsys):
    auto = AutoModel(model, device="cpu")
    one, other = (auto.generate(str(data / f"{n}.wav"))[0]["spk_embedding"][0] for n in "ab")
    score = float(one @ other / one.norm() / other.norm())
    given = [f"+model={model}", "+device=cpu", str(data / "a.wav"), str(data / "b.wav")]
    above, below = f"+spk_threshold={score + 0.01:.4f}", f"+spk_threshold={score - 0.01:.4f}"
    assert funasr([*given, above]) == 0
    assert capsys.readouterr().out == f"a b {score:.4f} different\n"
    assert funasr([*given, below, "+output_format=json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["enrol"], told["test"], told["same"]) == ("a", "b", True)
    assert told["score"] == pytest.approx(score, abs=1e-4)
    assert funasr([*given[:3], str(data / "none.wav")]) == 1


def test_the_curve_of_trials_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are an extra: pip install matplotlib")
    (tmp_path / "trials").write_text(TRIALS)
    given = {"trials": str(tmp_path / "trials"), "embeddings": write_vectors(tmp_path, VECTORS)}
    assert run(verify, **given, det=str(tmp_path / "det.png")) == 0
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="^det=.*x.what: "):
        run(verify, **given, det=str(tmp_path / "x.what"))


def test_the_axes_of_the_curve_are_those_of_the_normal_distribution():
    # 15.87 % lie below one deviation
    assert deviates([0.1587, 0.5, 0.9772]) == pytest.approx([-1, 0, 2], abs=1e-3)


def test_a_command_prints_the_embedding(model, data):
    command = [sys.executable, "-m", "paraformer", f"+model={model}", f"+input={data}/a.wav"]
    done = subprocess.run([*command, "+device=cpu"], capture_output=True, text=True, timeout=120)
    (expected,) = AutoModel(model, device="cpu").generate(str(data / "a.wav"))
    printed = torch.tensor([float(x) for x in done.stdout.strip(" []\n").split(",")])
    torch.testing.assert_close(printed, expected["spk_embedding"][0], atol=1e-5, rtol=1e-5)


def test_scores_by_a_cohort_are_deviations_above_the_nearest_of_it(tmp_path, capsys):
    scp = write_vectors(tmp_path, VECTORS)
    (tmp_path / "others").mkdir()
    angles = {"x": 0.0, "y": 90.0, "z": 180.0}  # cosines to a1: 1, 0, -1; to a2: 0.8, 0.6, -0.8
    points = {
        k: np.array([np.cos(a), np.sin(a)]) for k, v in angles.items() for a in [np.radians(v)]
    }
    cohort = write_vectors(tmp_path / "others", points)
    (tmp_path / "trials").write_text("a1 a2 target\na1 b1 nontarget\n")
    out = tmp_path / "scores"
    given = {"trials": str(tmp_path / "trials"), "embeddings": scp, "out": str(out)}
    assert run(verify, **given, cohort=cohort, cohort_top=2) == 0
    first = float(out.read_text().split()[2])
    # a1: mean 0.5, deviation 0.5 of (1, 0); a2: mean 0.7, deviation 0.1 of (0.8, 0.6)
    assert first == pytest.approx(((0.8 - 0.5) / 0.5 + (0.8 - 0.7) / 0.1) / 2, abs=1e-5)
    (tmp_path / "spk2utt").write_text("one x y\ntwo y z\n")
    table = str(tmp_path / "spk2utt")
    assert run(verify, **given, cohort=cohort, cohort_spk2utt=table, cohort_top=2) == 0
    # The means lie at 45 and 135 degrees: cosines 0.7071 and -0.7071 to a1, 0.9899, -0.1414 to a2.
    first = float(out.read_text().split()[2])
    assert first == pytest.approx((0.8 / 0.70711 + (0.8 - 0.42426) / 0.56569) / 2, abs=1e-4)
