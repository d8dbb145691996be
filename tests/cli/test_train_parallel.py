"""bin/train.py in two processes is bin/train.py in one; killed at any moment, it goes on as if it
had not been.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from paraformer.train.parallel import Ranks
from paraformer.train.snapshots import read_records
from tests import tiny
from tests.cli.test_train import command, corpus, recorded, spoiled  # noqa: F401
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
# What is random differs from process to process; what the batches are made of does not.
CALM = [
    *(f"model.encoder_conf.{name}_rate=0" for name in ("dropout", "positional_dropout")),
    *(f"model.decoder_conf.{name}_rate=0" for name in ("dropout", "positional_dropout")),
    *(f"model.decoder_conf.{name}_attention_dropout_rate=0" for name in ("self", "src")),
    "model.encoder_conf.attention_dropout_rate=0",
    "model.model_conf.sampling_ratio=0",
    "model.model_conf.ctc_weight=0.3",
    # Steps that do not divide tiny differences by tiny gradients.
    "optim.lr=0.001",
]

# Attention does not depend on the bias of its keys: its gradient is rounding, that Adam enlarges.
# Where they stand in a bias, in widths of the model.
WIDTH = 16
KEY_BIASES = {
    "model.encoder.encoders0.0.self_attn.linear_q_k_v.bias": 1,
    "model.encoder.encoders.0.self_attn.linear_q_k_v.bias": 1,
    "model.decoder.decoders.0.src_attn.linear_k_v.bias": 0,
}


def torchrun(processes: int, *options: str) -> list[str]:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*program, f"--nproc_per_node={processes}", *options]


def run(arguments: list[str]) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def snapshot(folder: Path):
    return torch.load(folder / "last.pt", weights_only=True)


def curve(folder: Path) -> dict[int, float]:
    """The loss of each step as tensorboard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0})
    events.Reload()
    return {event.step: event.value for event in events.Scalars("train/loss")}


def killed(arguments: list[str], mark: str) -> None:
    """Run until a line of the log holds `mark`, then end it as a power cut does."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if mark in line:
                process.kill()
                break
        else:
            pytest.fail(f"no line with {mark}")
    assert process.returncode == -signal.SIGKILL


def test_two_processes_equal_one(corpus, tmp_path):  # noqa: F811
    """Half of each batch in each of them: losses, errors and weights after some steps. Batches of
    one row, which cannot be shared, are among them.
    """
    options = [*CALM, "training.max_epoch=2", "batching.max_frames=500"]
    for name, launch in (("one", []), ("two", torchrun(2))):
        arguments = command(corpus, tmp_path / name, *options)
        said = run([*launch, *(arguments[1:] if launch else arguments)])
        assert "Warning" not in said  # of torch: gradients laid out otherwise than their parameters
    one, two = (snapshot(tmp_path / name)["objective"] for name in ("one", "two"))
    for name, value in one.items():
        if name in KEY_BIASES:
            kept = [i for i in range(len(value)) if i // WIDTH != KEY_BIASES[name]]
            value, two[name] = value[kept], two[name][kept]
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5, msg=name)
    records = [read_records(tmp_path / name / "epochs.jsonl") for name in ("one", "two")]
    for ours, theirs in zip(*records, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    one, two = (curve(tmp_path / name) for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-4) and len(one) > 6


@pytest.mark.parametrize(("world", "said"), [("1", "done\nat exit\n"), ("2", "done\n")])
def test_a_process_of_several_ends_with_its_code_and_is_not_taken_down(world, said):
    """Threads of gloo that `DistributedDataParallel` never frees cannot abort it then."""
    lines = (
        "import atexit, sys",
        "from paraformer.train.parallel import end",
        "atexit.register(print, 'at exit')",
        "print('done')",
        "sys.exit(end(3))",
    )
    env = {**os.environ, "WORLD_SIZE": world}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (3, said)


@pytest.mark.parametrize("mark", ["step 7:", "epoch 1 done"])
def test_killed_and_started_again_equals_never_killed(corpus, tmp_path, mark):  # noqa: F811
    """Bit for bit: the curve, the record of epochs, line by line, and all of the snapshot."""
    options = ["training.max_steps=16", "training.save_interval=3"]
    run(command(corpus, tmp_path / "whole", *options))
    killed(command(corpus, tmp_path / "parts", *options), mark)
    assert "continue at epoch" in run(command(corpus, tmp_path / "parts", *options))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert tiny.equal(snapshot(parts), snapshot(whole))
    assert (parts / "epochs.jsonl").read_bytes() == (whole / "epochs.jsonl").read_bytes()
    assert curve(parts) == curve(whole) and sorted(curve(whole)) == list(range(1, 17))


def test_a_run_over_shards_goes_on_in_the_middle_of_the_list(corpus, tmp_path, recorded):  # noqa: F811
    """Bit for bit, after `kill -9`."""
    audio, _ = recorded
    program = [sys.executable, str(ROOT / "bin" / "make_shards.py"), "per_shard=2"]
    run([*program, f"data={audio}", f"out={tmp_path / 'shards'}"])
    listed = tmp_path / "shards" / "shards.list"
    assert len(listed.read_text().splitlines()) == 6
    options = [f"data={listed}", f"dev={listed}", "training.max_steps=14"]
    options += ["training.save_interval=3", "batching.max_frames=300"]
    run(command(corpus, tmp_path / "whole", *options))
    killed(command(corpus, tmp_path / "parts", *options), "step 8:")
    run(command(corpus, tmp_path / "parts", *options))
    assert tiny.equal(snapshot(tmp_path / "parts"), snapshot(tmp_path / "whole"))
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_torchrun_starts_a_run_again_whose_process_dies(corpus, tmp_path):  # noqa: F811
    """Even with resume=false, which is about the runs of earlier days. What both processes know is
    said once.
    """
    data = spoiled(corpus, tmp_path / "data")
    options = ["training.max_steps=12", "training.save_interval=2", "resume=false", f"data={data}"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    log = run([*torchrun(2), *command(corpus, whole, *options)[1:]])
    assert log.count("1 dropped: no features") == log.count("1 hold unknown") == 1
    assert "find_unused_parameters" not in log
    # The process that is the second, but only the first time.
    (tmp_path / "dying.py").write_text(
        "import os, signal, sys\n"
        "from paraformer.programs.train import main\n"
        "from paraformer.train.trainer import Trainer\n"
        "step = Trainer._step\n"
        "def dying(trainer):\n"
        "    step(trainer)\n"
        "    first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'\n"
        "    if first and trainer.ranks.rank == 1 and trainer.position.step == 7:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Trainer._step = dying\n"
        "sys.exit(main())\n"
    )
    arguments = [str(tmp_path / "dying.py"), *command(corpus, parts, *options)[2:]]
    log = run([*torchrun(2, "--max-restarts=2"), *arguments])
    assert "continue at epoch" in log
    assert read_records(parts / "epochs.jsonl") == read_records(whole / "epochs.jsonl")
    assert tiny.equal(snapshot(parts), snapshot(whole))


def test_a_crash_says_which_utterances_it_was_about(corpus, tmp_path):  # noqa: F811
    """One line beside the traceback."""
    (tmp_path / "crashing.py").write_text(
        "import sys\n"
        "from paraformer.models.paraformer import Paraformer\n"
        "from paraformer.programs.train import main\n"
        "def crash(*_): raise RuntimeError('out of memory')\n"
        "Paraformer.encode = crash\n"
        "sys.exit(main())\n"
    )
    arguments = [sys.executable, str(tmp_path / "crashing.py")]
    arguments += command(corpus, tmp_path / "exp", "batching.join_probability=0")[2:]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("ERROR:"))
    assert line.startswith("ERROR: epoch 1, batch 1, training failed on the utterances s")
    assert done.stderr.rstrip().endswith("RuntimeError: out of memory")


@pytest.mark.parametrize(
    ("device", "backend", "chosen"),
    [("cuda:1", "nccl", [torch.device("cuda:1")]), ("cpu", "gloo", [])],
)
def test_gpus_meet_by_nccl_and_processors_by_gloo(monkeypatch, device, backend, chosen):
    """Stand-ins: the device is chosen first, then the group is joined, each once."""
    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(dist, "rendezvous", lambda url: iter([(dist.HashStore(), 1, 2)]))
    monkeypatch.setattr(
        dist,
        "init_process_group",
        lambda name, *, store, rank, world_size: calls.append((name, rank, world_size)),
    )
    Ranks(1, 2, 1).join(torch.device(device))
    assert calls == [*chosen, (backend, 1, 2)]
    Ranks().join(torch.device(device))
    assert len(calls) == len(chosen) + 1
