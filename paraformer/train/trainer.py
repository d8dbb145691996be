"""The training loop: accumulate, clip, step, log, validate, save, stop and go on."""

from __future__ import annotations

import logging
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from paraformer.data.dataset import Batch, Loader
from paraformer.errors import DataError
from paraformer.train.objective import Objective, autocast, token_errors
from paraformer.train.optim import Optim
from paraformer.train.snapshots import (
    Position,
    append_record,
    best_epochs,
    load_snapshot,
    read_records,
    save_snapshot,
    write_atomically,
)

log = logging.getLogger(__name__)

MAX_BAD_STEPS = 20  # non-finite losses in a row before the run is given up


@dataclass(frozen=True)
class Training:
    """How long and how; `train_conf` of released configs in our words."""

    max_epoch: int = 150
    accum_grad: int = 1
    grad_clip: float = 5.0
    precision: str = "fp32"  # or bf16
    keep_epochs: int = 10
    log_interval: int = 50  # optimiser steps
    max_steps: int = 0  # stop after so many; 0: after max_epoch
    save_interval: int = 500  # steps between snapshots inside an epoch


class Writer(Protocol):
    """What the loop needs of a tensorboard writer."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Note one value."""


@dataclass
class _Meter:
    """Weighted means of the statistics since the last line of the log."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    weights: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    seconds: float = 0.0
    waited: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, stats: dict[str, Tensor], weight: float) -> None:
        for name, value in stats.items():
            self.sums[name] += float(value) * weight
            self.weights[name] += weight

    def means(self) -> dict[str, float]:
        return {name: value / self.weights[name] for name, value in self.sums.items()}

    def speed(self) -> dict[str, float]:
        passed = max(time.perf_counter() - self.began, 1e-9)
        return {"audio_s_per_s": self.seconds / passed, "wait": self.waited / passed}


class Trainer:
    """Runs an objective over a loader and keeps everything under one folder."""

    def __init__(
        self,
        objective: Objective,
        train: Loader,
        dev: Loader,
        optim: Optim,
        training: Training,
        folder: Path,
        device: torch.device,
        writer: Writer | None = None,
    ) -> None:
        self.objective = objective.to(device)
        self.train_loader, self.dev_loader = train, dev
        self.optim, self.training = optim, training
        self.folder, self.device, self.writer = folder, device, writer
        self.optimizer = optim.optimizer(objective)
        self.position = Position()
        self.stopping = False
        self.bad_steps = 0

    @property
    def snapshot(self) -> Path:
        """The file that a stopped run continues from."""
        return self.folder / "last.pt"

    def resume(self) -> bool:
        """Continue from the snapshot if there is one."""
        if not self.snapshot.is_file():
            return False
        self.position = load_snapshot(self.snapshot, self.objective, self.optimizer)
        log.info("continue at epoch %d, batch %d, step %d", *self.position)
        return True

    def run(self) -> None:
        """Train to the end, or to SIGTERM, which saves first."""
        previous = signal.signal(signal.SIGTERM, self._stop)
        try:
            while not self._finished():
                self._epoch()
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _stop(self, *_: object) -> None:
        log.warning("stop asked for: saving after this step")
        self.stopping = True

    def _finished(self) -> bool:
        limit = self.training.max_steps
        spent = 0 < limit <= self.position.step
        return self.stopping or spent or self.position.epoch > self.training.max_epoch

    def _epoch(self) -> None:
        epoch, start, _ = self.position
        meter = _Meter()
        self.objective.train()
        for batch in self._waiting(self.train_loader.epoch(epoch, start), meter):
            self._batch(batch, meter)
            if self.position.step and self.position.batch % self.training.accum_grad == 0:
                meter = self._log(meter)
            if self._finished():
                save_snapshot(self.snapshot, self.position, self.objective, self.optimizer)
                if self.stopping:
                    return
                break
        self._end_epoch(epoch)

    def _waiting(self, batches: Iterator[Batch], meter: _Meter) -> Iterator[Batch]:
        """The batches, with the time that the loop waits for them noted."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited = time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _batch(self, batch: Batch, meter: _Meter) -> None:
        epoch, number, step = self.position
        moved = batch.to(self.device)
        with autocast(self.device, self.training.precision):
            result = self.objective(moved, step + 1)
        if not self._usable(result.loss, batch.keys):
            self.position = Position(epoch, number + 1, step)
            return
        (result.loss / self.training.accum_grad).backward()
        meter.add(result.stats, result.weight)
        meter.seconds += batch.seconds
        meter.waited += self.waited
        if (number + 1) % self.training.accum_grad == 0:
            step += 1
            self._step(step)
        self.position = Position(epoch, number + 1, step)

    def _usable(self, loss: Tensor, keys: list[str]) -> bool:
        if torch.isfinite(loss):
            self.bad_steps = 0
            return True
        self.bad_steps += 1
        log.warning("loss is not finite, batch skipped; its utterances: %s", " ".join(keys[:8]))
        if self.bad_steps >= MAX_BAD_STEPS:
            raise DataError(
                f"{self.folder}: {MAX_BAD_STEPS} batches in a row without a finite loss; "
                "lower optim.lr or look at the utterances named above"
            )
        return False

    def _step(self, step: int) -> None:
        parameters = self.objective.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.training.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.optim.rate(step)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            log.warning("step %d: gradient is not finite, step skipped", step)
        self.optimizer.zero_grad(set_to_none=True)
        if step % self.training.save_interval == 0:
            self.save_due = True

    def _log(self, meter: _Meter) -> _Meter:
        step = self.position.step
        if step % self.training.save_interval == 0:
            save_snapshot(self.snapshot, self.position, self.objective, self.optimizer)
        if step % self.training.log_interval:
            return meter
        values = {**meter.means(), "lr": self.optim.rate(step), **meter.speed()}
        shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("epoch %d step %d: %s", self.position.epoch, step, shown)
        for name, value in values.items():
            if self.writer is not None:
                self.writer.add_scalar(f"train/{name}", value, step)
        return _Meter()

    def _end_epoch(self, epoch: int) -> None:
        record: dict[str, Any] = {"epoch": epoch, "step": self.position.step, **self.validate()}
        self.position = Position(epoch + 1, 0, self.position.step)
        write_atomically(self.objective.model.state_dict(), self.folder / f"epoch-{epoch}.pt")
        append_record(self.folder / "epochs.jsonl", record)
        save_snapshot(self.snapshot, self.position, self.objective, self.optimizer)
        shown = " ".join(f"{k} {v:.4g}" for k, v in record.items() if k not in ("epoch", "step"))
        log.info("epoch %d done, dev: %s", epoch, shown)
        for name, value in record.items():
            if self.writer is not None:
                self.writer.add_scalar(f"dev/{name}", value, self.position.step)
        self._prune()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean losses and token error rate of greedy decoding over the dev set."""
        self.objective.eval()
        meter, errors, tokens = _Meter(), 0, 0
        state = torch.get_rng_state()
        last_step = max(self.position.step, self.objective.warm_steps) + 1
        for batch in self.dev_loader.epoch(0):
            moved = batch.to(self.device)
            with autocast(self.device, self.training.precision):
                result = self.objective(moved, last_step)
                wrong, size = token_errors(self.objective.model, moved)
            meter.add(result.stats, result.weight)
            errors, tokens = errors + wrong, tokens + size
        torch.set_rng_state(state)
        return {**meter.means(), "token_error_rate": errors / max(tokens, 1)}

    def _prune(self) -> None:
        """Delete the weights of epochs that are neither among the best nor among the last."""
        records = read_records(self.folder / "epochs.jsonl")
        keep = set(best_epochs(records, "token_error_rate", self.training.keep_epochs))
        keep |= set(best_epochs(records, "", self.training.keep_epochs, last=True))
        for record in records:
            path = self.folder / f"epoch-{record['epoch']}.pt"
            if record["epoch"] not in keep:
                path.unlink(missing_ok=True)
