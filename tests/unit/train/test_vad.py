"""Training a VAD: labels of frames, pieces that lose nothing, the loss's threshold, resuming."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch

from paraformer.data.features.cmvn import Cmvn
from paraformer.data.features.frontend import Frontend, low_frame_rate
from paraformer.errors import ConfigError, DataError
from paraformer.models.fsmn_vad import FsmnEncoder, FsmnVad, VadOptions
from paraformer.models.kinds import VAD
from paraformer.models.release import build, load_vad, save_directory
from paraformer.train.optim import Optim
from paraformer.train.snapshots import read_records, seed_everything
from paraformer.train.trainer import Training
from paraformer.train.vad import (
    IGNORED,
    SILENCE,
    SPEECH,
    FrameBatch,
    FrameCounts,
    PieceLoader,
    Pieces,
    Recording,
    VadObjective,
    VadTrainer,
    even_odds,
    frame_labels,
    normalisation,
    read_recordings,
    read_spans,
    speech_logit,
)

MELS = 8
CONFIG = {
    "model": "FsmnVADStreaming",
    "frontend": "WavFrontendOnline",
    "frontend_conf": {"n_mels": MELS, "lfr_m": 5, "lfr_n": 1},
    "encoder_conf": {
        "input_affine_dim": 12,
        "fsmn_layers": 2,
        "linear_dim": 16,
        "proj_dim": 8,
        "lorder": 4,
        "output_affine_dim": 12,
        "output_dim": 3,
    },
}


def recordings(count=5, size=130, seed=0):
    """Silence at -10 and speech at 0, which a bias can tell apart."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        labels = np.repeat(random.integers(0, 2, 13), size // 13 + number)
        fbank = 10.0 * labels[:, None] - 10 + random.standard_normal((len(labels), MELS))
        tensors = torch.from_numpy(fbank).half(), torch.from_numpy(labels).to(torch.int8)
        found.append(Recording(f"r{number}", *tensors))
    return found


def frontend(found):
    made = Frontend(n_mels=MELS, lfr_m=5)
    made.cmvn = normalisation(found, made)
    return made


def test_segments_become_spans_of_recordings(tmp_path):
    (tmp_path / "segments").write_text("u2 a 1.5 2.0\nu1 a 0.25 0.5\nu3 b 0 3\n")
    assert read_spans(tmp_path / "segments") == {"a": [(0.25, 0.5), (1.5, 2.0)], "b": [(0.0, 3.0)]}


@pytest.mark.parametrize("line", ["u a 2 1", "u a 1", "u a x 2", "u a -1 2", "u a 1 nan"])
def test_a_wrong_span_is_named(tmp_path, line):
    (tmp_path / "segments").write_text(line + "\n")
    with pytest.raises(DataError, match="'u': (segment|not of the form)"):
        read_spans(tmp_path / "segments")


def test_a_frame_is_speech_where_its_centre_is():
    # Frame i has its centre at 10 i + 12.5 ms.
    labels = frame_labels([(0.0325, 0.0525), (0.09, math.inf)], 12, Frontend())
    assert labels.tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]


def test_recordings_have_a_label_for_each_frame(tmp_path):
    random = np.random.default_rng(0)
    for key in "ab":
        soundfile.write(tmp_path / f"{key}.wav", 0.1 * random.standard_normal(8000), 16000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\nb {tmp_path}/b.wav\n")
    (tmp_path / "segments").write_text("s a 0.1 0.2\n")
    a, b = read_recordings(tmp_path, Frontend())
    assert len(a.fbank) == len(a.labels) == (8000 - 400) // 160 + 1
    assert torch.nonzero(a.labels).flatten().tolist() == list(range(9, 19))
    assert not b.labels.any()


def test_segments_of_an_unknown_recording_are_refused(tmp_path):
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    (tmp_path / "segments").write_text("s other 0 1\n")
    with pytest.raises(DataError, match="'other' is not in wav.scp"):
        read_recordings(tmp_path, Frontend())


def test_normalisation_is_that_of_all_frames():
    found = recordings()
    cmvn = normalisation(found, Frontend(n_mels=MELS, lfr_m=5))
    frames = torch.cat([recording.fbank for recording in found]).double()
    torch.testing.assert_close(cmvn.shift, -frames.mean(0).float().repeat(5))
    deviation = frames.std(0, unbiased=False).float().repeat(5)
    torch.testing.assert_close(cmvn.scale, 1 / deviation)


def test_an_epoch_has_every_frame_once():
    found = recordings()
    for seed in (None, 3):
        loader = PieceLoader(found, frontend(found), Pieces(50, 150), seed)
        seen = {recording.key: torch.zeros(len(recording.labels)) for recording in found}
        for batch in loader.epoch(1):
            assert batch.feats.shape[:2] == batch.labels.shape
            assert batch.labels.numel() <= 150
            for key, row in zip(batch.keys, batch.labels, strict=True):
                name, _, span = key.partition(":")
                begin, end = map(int, span.split("-"))
                seen[name][begin:end] += 1
                original = found[int(name[1:])].labels[begin:end]
                assert row[: end - begin].tolist() == original.tolist()
                assert (row[end - begin :] == IGNORED).all()
        assert all((count == 1).all() for count in seen.values())


def test_batches_depend_on_seed_epoch_and_number_alone():
    found = recordings()
    loader = PieceLoader(found, frontend(found), Pieces(50, 150), 3)
    first = list(loader.epoch(2))
    for again, batch in zip(loader.epoch(2, start=2), first[2:], strict=True):
        assert torch.equal(again.feats, batch.feats) and again.keys == batch.keys
    assert [b.keys for b in loader.epoch(3)] != [b.keys for b in first]


def test_validation_features_are_those_of_the_front_end():
    found = recordings(1)
    made = frontend(found)
    batch = next(PieceLoader(found, made, Pieces(1000, 1000)).epoch(0))
    expected = made.cmvn.apply(low_frame_rate(found[0].fbank.float(), 5, 1))
    assert torch.equal(batch.feats[0], expected)
    assert batch.seconds == pytest.approx(len(expected) / 100)


def test_gain_is_added_to_log_energies():
    found = [Recording("r", torch.zeros(60, MELS).half(), torch.ones(60, dtype=torch.int8))]
    made = Frontend(n_mels=MELS, lfr_m=5)
    loader = PieceLoader(found, made, Pieces(1000, 1000, gain_db=10.0, tilt_db=0.0), 1)
    gains = {round(float(b.feats.unique()), 4) for e in range(30) for b in loader.epoch(e)}
    assert len(gains) >= 30
    assert max(map(abs, gains)) <= 10 * math.log(10) / 10 + 1e-4
    loader = PieceLoader(found, made, Pieces(1000, 1000, gain_db=0.0, tilt_db=6.0), 1)
    bands = next(loader.epoch(1)).feats[0, 0, :MELS]
    torch.testing.assert_close(bands.diff(), bands.diff()[:1].expand(MELS - 1), atol=1e-5, rtol=0)
    assert 0 < abs(float(bands[-1] - bands[0])) <= 6 * math.log(10) / 10


def test_the_logit_is_that_of_the_sum_of_posteriors():
    logits = torch.randn(2, 5, 7)
    posteriors = logits.double().softmax(-1)
    silent = posteriors[..., [0, 3]].sum(-1)
    score = speech_logit(logits, [0, 3])
    torch.testing.assert_close(score.double(), torch.log((1 - silent) / silent), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="leave one for speech"):
        speech_logit(logits[..., :1], [0])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6])
def test_even_odds_lie_at_the_threshold(threshold):
    """The p that minimises the weighted loss at even labels is where 1 - p + t = p."""
    weight = even_odds(VadOptions(speech_noise_thres=threshold))
    p = torch.linspace(0.001, 0.999, 9999, dtype=torch.float64)
    best = p[(-p.log() - weight * (1 - p).log()).argmin()]
    assert float(best) == pytest.approx((1 + threshold) / 2, abs=2e-4)


def test_the_loss_is_the_weighted_mean_over_kept_frames():
    torch.manual_seed(0)
    model = FsmnVad(FsmnEncoder(10, 6, 2, 8, 4, 3, output_affine_dim=6, output_dim=4))
    objective = VadObjective(model, VadOptions(speech_noise_thres=0.5))
    labels = torch.tensor([[SPEECH, SILENCE, SPEECH], [SILENCE, SPEECH, IGNORED]])
    batch = FrameBatch(["a", "b"], torch.randn(2, 3, 10), labels, 0.06)
    result = objective(batch, 1)
    silent = model(batch.feats)[..., 0]
    total = 0.0
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        p = float(silent[row, column])
        total -= math.log(1 - p) if labels[row, column] == SPEECH else math.log(p) / 3
    assert float(result.loss) == pytest.approx(total / 5, rel=1e-5)
    assert result.weight == 5


def test_counts_of_frames():
    right, found = np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0, 0])
    counts = FrameCounts.of(right, found)
    assert counts == FrameCounts(found=2, missed=1, false=1, silent=5)
    assert counts.f1 == pytest.approx(200 / 3)
    assert counts.miss == pytest.approx(100 / 3)
    assert counts.false_alarm == 20
    assert counts.plus(counts) == FrameCounts(4, 2, 2, 10)
    assert FrameCounts().f1 == FrameCounts().miss == FrameCounts().false_alarm == 0


def trainer(folder, steps, seed=1):
    seed_everything(seed)
    found = recordings()
    release = build(CONFIG, VAD)
    release.frontend.cmvn = normalisation(found, release.frontend)
    pieces = Pieces(50, 150)
    made = VadTrainer(
        VadObjective(release.model, release.options),
        PieceLoader(found, release.frontend, pieces, seed),
        PieceLoader(found, release.frontend, pieces),
        Optim(lr=0.01, schedule="cosine", warmup_steps=2, total_steps=40),
        Training(max_steps=steps, save_interval=3),
        folder,
        torch.device("cpu"),
    )
    return made, release


def test_it_learns_and_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    whole, _ = trainer(tmp_path / "whole", 40)
    whole.run()
    half, _ = trainer(tmp_path / "parts", 17)
    half.run()
    rest, _ = trainer(tmp_path / "parts", 40)
    assert rest.resume()
    rest.run()
    states = whole.objective.model.state_dict(), rest.objective.model.state_dict()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    last = read_records(tmp_path / "whole/epochs.jsonl")[-1]
    assert last["f1"] > 90
    assert last["token_error_rate"] == pytest.approx(1 - last["f1"] / 100)


def test_a_saved_detector_comes_back(tmp_path):
    _, release = trainer(tmp_path / "run", 1)
    folder = save_directory(tmp_path / "final", release)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.yaml", "configuration.json", "model.pt", "am.mvn"}
    again = load_vad(folder)
    wave = torch.randn(8000) / 10
    expected = release.model(release.frontend(wave)[None])
    # am.mvn keeps nine digits.
    torch.testing.assert_close(again.model(again.frontend(wave)[None]), expected)
    assert isinstance(again.frontend.cmvn, Cmvn) and again.options == release.options


def test_a_batch_holds_at_least_one_piece():
    with pytest.raises(ConfigError, match="batch_frames=100: holds not one of frames=200"):
        Pieces(200, 100)
