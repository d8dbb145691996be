"""Training a speaker model: crops, the loss and its margin, equal errors, stopping and going on."""

from __future__ import annotations

import math

import kaldiio
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from paraformer.data.batches.augment import Augment
from paraformer.errors import DataError
from paraformer.models.kinds import SPEAKER
from paraformer.models.release import build, load_speakers
from paraformer.programs.train_speaker import train_speaker
from paraformer.programs.verify import Curve
from paraformer.train.optim import Optim
from paraformer.train.snapshots import read_records, seed_everything
from paraformer.train.speakers import (
    ClipLoader,
    CropLoader,
    Crops,
    Margin,
    MarginSoftmax,
    SpeakerObjective,
    SpeakerTrainer,
    Voice,
    equal_error,
    read_voices,
    with_margin,
)
from paraformer.train.trainer import Training
from tests.conftest import ROOT

MELS = 16
SIZES = {"growth_rate": 2, "bn_size": 2, "init_channels": 4, "embedding_size": 8}
CONFIG = {
    "model": "CAMPPlus",
    "frontend": "WavFrontend",
    "frontend_conf": {"n_mels": MELS},
    "model_conf": {"feat_dim": MELS, **SIZES},
}
PLAIN = Crops(frames=(12, 20), batch_size=8, per_speaker=8, babble_probability=0.0)


def voices(speakers=4, clips=5, seed=0):
    """Each speaker is a band that moves up and down at a rate of its own."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(speakers * clips):
        speaker, size = number % speakers, 25 + number % 7
        fbank = random.standard_normal((size, MELS))
        fbank[:, 3 * speaker : 3 * speaker + 3] += 4 * np.sin(np.arange(size))[:, None]
        found.append(Voice(f"v{number}", speaker, fbank.astype(np.float16)))
    return found


def test_crops_are_stretches_of_clips_without_their_mean_and_equally_many_of_each_speaker():
    found = voices()
    by_key = {voice.key: voice for voice in found}
    counts = np.zeros(4, int)
    for batch in CropLoader(found, PLAIN, Augment(), 3).epoch(1):
        assert 12 <= batch.feats.size(1) <= 20
        assert batch.seconds == pytest.approx(8 * batch.feats.size(1) / 100)
        for key, row, speaker in zip(batch.keys, batch.feats, batch.speakers, strict=True):
            whole = torch.from_numpy(by_key[key].fbank.astype(np.float32))
            places = whole.unfold(0, len(row), 1).transpose(1, 2)
            assert torch.isclose(places - places.mean(1, True), row, atol=1e-5).all((1, 2)).any()
            assert by_key[key].speaker == speaker
            counts[speaker] += 1
    assert counts.tolist() == [8, 8, 8, 8]


def test_a_clip_comes_again_after_all_others_of_its_speaker_alone():
    drawn = [key for b in CropLoader(voices(), PLAIN, Augment(), 3).epoch(1) for key in b.keys]
    times = [drawn.count(voice.key) for voice in voices()]
    assert set(times) == {1, 2} and sum(times) == 32


def test_batches_depend_on_seed_epoch_and_number_alone():
    changes = Augment(noise_probability=1.0, freq_masks=1, freq_width=4)
    loader = CropLoader(voices(), Crops((12, 20), 8, 8, babble_probability=0.5), changes, 3)
    first = list(loader.epoch(2))
    for again, batch in zip(loader.epoch(2, start=2), first[2:], strict=True):
        assert torch.equal(again.feats, batch.feats) and again.keys == batch.keys
    assert [b.keys for b in loader.epoch(3)] != [b.keys for b in first]


def test_a_short_clip_is_heard_again():
    ramp = np.arange(5.0)[:, None] * np.ones((1, MELS))
    found = [Voice(str(number), number, ramp.astype(np.float16)) for number in range(2)]
    (batch,) = CropLoader(found, Crops((15, 15), 2, 1, 300, 0.0), Augment(), 0).epoch(1)
    assert torch.equal(batch.feats[0, :, 0], torch.arange(5.0).repeat(3) - 2)


def test_babble_is_as_far_below_as_it_is_told():
    """Of two constant clips, one behind the other: log(1 + 10^(-snr / 10)) louder than alone."""
    found = [Voice(str(n), n, np.full((20, MELS), -3.0 * n, np.float16)) for n in range(2)]
    crops = Crops((20, 20), 2, 1, 300, 1.0, (10.0, 10.0))
    loader = CropLoader(found, crops, Augment(), 0)
    for voice in found:
        crop = loader._crop(voice, 20, np.random.default_rng(0))
        expected = float(voice.fbank[0, 0]) + math.log1p(0.1)
        assert crop == pytest.approx(expected, abs=1e-4)


def test_the_margin_is_an_angle():
    angles = torch.linspace(0, 3.1, 50, dtype=torch.float64)
    moved = with_margin(angles.cos(), 0.3)
    near = angles + 0.3 < math.pi
    torch.testing.assert_close(moved[near], (angles + 0.3).cos()[near])
    assert (moved.diff() < 0).all()  # also past pi


def test_the_loss_without_a_margin_is_that_of_cosines_and_a_margin_makes_it_larger():
    torch.manual_seed(0)
    head, x, speakers = MarginSoftmax(5, 8, Margin(scale=10.0)), torch.randn(6, 8), torch.arange(6)
    speakers = speakers % 5
    loss, cosines = head(x, speakers, 0.0)
    expected = [[float(F.cosine_similarity(row, w, dim=0)) for w in head.weight] for row in x]
    torch.testing.assert_close(cosines, torch.tensor(expected))
    torch.testing.assert_close(loss, F.cross_entropy(10 * torch.tensor(expected), speakers))
    own = torch.tensor(expected)
    for row, speaker in enumerate(speakers):
        own[row, speaker] = math.cos(math.acos(own[row, speaker]) + 0.2)
    harder, same = head(x, speakers, 0.2)
    torch.testing.assert_close(harder, F.cross_entropy(10 * own, speakers))
    assert torch.equal(same, cosines)


def test_equal_error_is_that_of_verification():
    random = np.random.default_rng(0)
    for _ in range(20):
        targets = random.random(400) < 0.3
        scores = random.standard_normal(400) + 1.5 * targets
        expected = Curve.of(scores, targets).equal_error()
        # Between two thresholds, whose errors are 1 / 120 apart at most.
        assert equal_error(scores, targets) == pytest.approx(expected, abs=1 / 100)
    assert equal_error(np.array([1.0, 2.0]), np.array([False, True])) == 0.0


def trainer(folder, steps):
    seed_everything(1)
    found = voices()
    release = build(CONFIG, SPEAKER)
    made = SpeakerTrainer(
        SpeakerObjective(release.model, 4, Margin(end_step=10)),
        CropLoader(found, PLAIN, Augment(), 1),
        ClipLoader(found[:6], 300),
        Optim(lr=0.02, schedule="cosine", warmup_steps=2, total_steps=12),
        Training(max_steps=steps, save_interval=3),
        folder,
        torch.device("cpu"),
    )
    return made, release


def test_it_learns_and_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    whole, _ = trainer(tmp_path / "whole", 12)
    (first, *_) = whole.train_loader.epoch(9)
    before = float(whole.objective.train()(first, 12).loss.detach())
    whole, _ = trainer(tmp_path / "whole", 12)
    whole.run()
    half, _ = trainer(tmp_path / "parts", 5)
    half.run()
    rest, _ = trainer(tmp_path / "parts", 12)
    assert rest.resume()
    rest.run()
    states = whole.objective.model.state_dict(), rest.objective.model.state_dict()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert float(whole.objective.train()(first, 12).loss.detach()) < 0.7 * before
    last = read_records(tmp_path / "whole/epochs.jsonl")[-1]
    assert last["token_error_rate"] == pytest.approx(last["eer"] / 100)


def test_directions_begin_where_the_voices_are():
    torch.manual_seed(0)
    release = build(CONFIG, SPEAKER)
    objective = SpeakerObjective(release.model, 4, Margin())
    objective.set_directions(voices(), 300, 2)
    for speaker in range(4):
        clips = [voice for voice in voices() if voice.speaker == speaker][:2]
        units = [release.model(batch.feats).detach() for batch in ClipLoader(clips, 300).epoch(0)]
        expected = F.normalize(sum(map(F.normalize, units)))
        torch.testing.assert_close(objective.head.weight[speaker], expected[0])


def write(folder, found, names):
    folder.mkdir()
    with kaldiio.WriteHelper(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp") as archive:
        for voice in found:
            archive(voice.key, voice.fbank.astype(np.float32))
    lines = [f"{voice.key} {names[voice.speaker]}\n" for voice in found]
    (folder / "utt2spk").write_text("".join(lines))


def test_clips_are_read_with_the_numbers_of_their_speakers(tmp_path):
    write(tmp_path / "a", voices(), "dcba")
    found, names = read_voices(tmp_path / "a", MELS)
    assert names == ["a", "b", "c", "d"]
    for read, made in zip(found, voices(), strict=True):
        assert (read.key, read.speaker) == (made.key, 3 - made.speaker)
        assert np.array_equal(read.fbank, made.fbank)
    write(tmp_path / "b", voices(1), "a")
    with pytest.raises(DataError, match="needs clips of two speakers"):
        read_voices(tmp_path / "b", MELS)
    (tmp_path / "a/utt2spk").write_text("v0 a\n")
    with pytest.raises(DataError, match="lacks 'v1'; run utils/fix_data_dir.py"):
        read_voices(tmp_path / "a", MELS)


def run(**settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "train_speaker.yaml")
    model = {"model_conf": {"feat_dim": MELS, **SIZES}, "frontend_conf": {"n_mels": MELS}}
    small = {"frames": [12, 20], "batch_size": 8, "per_speaker": 4, "dev_frames": 20}
    given = {"model": model, "crops": small, "training": {"max_steps": 2}, "device": "cpu"}
    return train_speaker(OmegaConf.merge(config, given, {"num_threads": 1}, settings))


def test_the_program_leaves_a_released_directory_that_another_training_begins_with(tmp_path):
    write(tmp_path / "data", voices(), "abcd")
    write(tmp_path / "dev", voices(2, 2), "ef")
    given = {"data": str(tmp_path / "data"), "dev": str(tmp_path / "dev")}
    assert run(**given, dir=str(tmp_path / "exp")) == 0
    start = str(tmp_path / "exp/final")
    assert run(**given, dir=str(tmp_path / "on"), init=start, optim={"lr": 1e-9}) == 0
    one, other = (load_speakers(tmp_path / name / "final").model for name in ("exp", "on"))
    for name, value in one.named_parameters():
        torch.testing.assert_close(value, other.get_parameter(name), atol=1e-5, rtol=1e-5)


def test_a_speaker_of_both_sets_is_refused(tmp_path):
    write(tmp_path / "data", voices(), "abcd")
    write(tmp_path / "dev", voices(2, 2), "ec")
    with pytest.raises(DataError, match="speaker 'c' is trained on; give others"):
        run(data=str(tmp_path / "data"), dev=str(tmp_path / "dev"), dir=str(tmp_path / "exp"))
