"""The training loop: accumulate, clip, step, log, validate, save, stop and go on."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from paraformer.data.batches.dataset import Batch
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.limits import check_fields, limited
from paraformer.models.weights import write_torch
from paraformer.nn.memory import lacks_memory
from paraformer.progress import tell_progress
from paraformer.train.losses import Losses
from paraformer.train.objective import TrainObjective, autocast
from paraformer.train.optim import Optim
from paraformer.train.parallel import Ranks, summed_totals
from paraformer.train.parts import divide_gradients, mean_of, parts_of, rows_of
from paraformer.train.snapshots import (
    Position,
    Totals,
    best_epochs,
    load_snapshot,
    own_generators,
    put_record,
    read_records,
    save_snapshot,
)

log = logging.getLogger(__name__)

# torchrun and slurm.py tell a run to stop by the first, Slurm by either.
STOP_SIGNALS = [signal.SIGTERM] + ([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])
MAX_BAD_BATCHES = 20  # non-finite losses in a row before the run is given up


@dataclass(frozen=True)
class Training:
    """The length and manner of a training; `train_conf` of released configs in our words."""

    max_epoch: int = limited(150, 1)
    accum_grad: int = limited(1, 1)
    grad_clip: float = limited(5.0, 0, above=True)
    precision: str = "fp32"  # or bf16
    keep_epochs: int = limited(10, 1)
    log_interval: int = limited(50, 1)  # optimiser steps
    max_steps: int = limited(0, 0)  # stop after so many; 0: after max_epoch
    save_interval: int = limited(500, 1)  # steps between snapshots inside an epoch
    patience: int = limited(0, 0)  # stop after so many epochs without a better one; 0: never
    measure_start: bool = False  # validate before the first step too, as epoch 0

    def __post_init__(self) -> None:
        check_fields(self, "training")
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"training.precision={self.precision}: not known; fp32 or bf16")


class Batches(Protocol):
    """A source of batches."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Batches of an epoch from number `start`."""


@runtime_checkable
class Placed(Protocol):
    """A loader that reads a list too long to be planned: it has to be told where it was."""

    def place(self, batch: int) -> list[int]:
        """The place of the loader at batch number `batch` of the epoch, or shortly before."""

    def go_to(self, place: list[int]) -> None:
        """Begin the next epoch there."""


class Writer(Protocol):
    """The part of a tensorboard writer that the loop needs."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Note one value."""

    def close(self) -> None:
        """Put everything on disk."""


@dataclass
class _Meter:
    """Weighted means of the statistics since the last line of the log, and the time they took."""

    totals: Totals = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, stats: dict[str, Tensor], weight: float) -> None:
        for name, value in stats.items():
            total, weights = self.totals.get(name, (0.0, 0.0))
            self.totals[name] = (total + float(value) * weight, weights + weight)

    def means(self) -> dict[str, float]:
        return {name: total / weights for name, (total, weights) in self.totals.items()}

    def speed(self) -> dict[str, float]:
        passed = max(time.perf_counter() - self.began, 1e-9)
        return {"audio_s_per_s": self.seconds / passed, "wait": self.waited / passed}


class Trainer:
    """Runs an objective over a loader and keeps everything under one folder."""

    def __init__(
        self,
        objective: TrainObjective,
        train: Batches,
        dev: Batches,
        optim: Optim,
        training: Training,
        folder: Path,
        device: torch.device,
        writer: Writer | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """ranks: which of several processes this one is, of which the first one writes."""
        self.objective, self.ranks = objective, ranks or Ranks()
        objective.to(device)
        self.forward = self.ranks.wrap(objective, objective.leaves_out)
        self.train_loader, self.dev_loader = train, dev
        self.optim, self.training = optim, training
        self.folder, self.device, self.writer = folder, device, writer
        self.optimizer = optim.optimizer(objective, objective.faster)
        self.position, self.meter = Position(), _Meter()
        self.asked = False  # to stop, by a signal
        self.stopping = False  # which all processes have agreed on
        self.settled = False  # no epoch has been better for long enough
        self.pending = False  # gradients are there that no step has used
        self.bad_batches = 0
        self.told_of_memory = False  # that a batch was learnt in parts

    @property
    def snapshot(self) -> Path:
        """The file that a stopped run continues from."""
        return self.folder / "last.pt"

    def resume(self) -> bool:
        """Continue from the snapshot if there is one."""
        if not self.snapshot.is_file():
            return False
        rank = self.ranks.rank
        found = load_snapshot(self.snapshot, self.objective, self.optimizer, rank)
        self.position, self.meter = found.position, _Meter(found.totals)
        if found.place and isinstance(self.train_loader, Placed):
            self.train_loader.go_to(found.place)
        log.info("continue at epoch %d, batch %d, step %d", *self.position)
        return True

    def run(self) -> None:
        """Train to the end, or to SIGTERM or SIGUSR1, upon which the run is saved first.

        A run that `max_steps` ends inside an epoch goes on from there when that is raised later.
        """
        previous = {number: signal.signal(number, self._stop) for number in STOP_SIGNALS}
        if self.ranks.first:
            tell_progress(self.folder, " ".join(map(str, self.position)))
        try:
            if self.training.measure_start and self.position == Position():
                self._measure(0, "is the start")
            self._settle()
            while not self._agree_to_end():
                self._epoch()
            if self.position.batch and not self.stopping:
                self._conclude()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        if self.ranks.first:
            log.warning("stop asked for: saving after this step")
        self.asked = True

    def _agree_to_end(self) -> bool:
        """Whether training ends here; the processes ask each other."""
        self.stopping = self.ranks.any_of(self.asked, self.device)
        limit = self.training.max_steps
        spent = 0 < limit <= self.position.step
        done = self.settled or self.position.epoch > self.training.max_epoch
        return self.stopping or spent or done

    def _settle(self) -> None:
        """See whether the dev set has not become better for `patience` epochs."""
        path, settled = self.folder / "epochs.jsonl", False
        if self.training.patience and self.ranks.first and path.is_file():
            records = read_records(path)
            (best,) = best_epochs(records[::-1], self.objective.metric, 1)
            settled = records[-1]["epoch"] - best >= self.training.patience
            if settled:
                log.info("no epoch is better than epoch %d: training ends", best)
        self.settled = self.ranks.any_of(settled, self.device)

    def _epoch(self) -> None:
        epoch, start, _ = self.position
        self.objective.train()
        batches = self.train_loader.epoch(epoch, start)
        while (batch := self._next(batches)) is not None:
            self._batch(batch)
            if self.position.batch % self.training.accum_grad:
                continue  # a run stops between steps alone, so that no gradient is lost
            self._step()
            if self._agree_to_end():
                self._save()
                return
        self._end_epoch(epoch)

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        began = time.perf_counter()
        batch = next(batches, None)
        self.meter.waited += time.perf_counter() - began
        return batch

    @contextmanager
    def _named(self, batch: Batch, what: str) -> Iterator[None]:
        """A crash in here says which utterances it was about."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, ParaformerError):
                where = f"epoch {self.position.epoch}, batch {self.position.batch}"
                log.error("%s, %s failed on the utterances %s", where, what, " ".join(batch.keys))
            raise

    def _batch(self, batch: Batch) -> None:
        epoch, number, step = self.position
        self.position = Position(epoch, number + 1, step)
        if self.ranks.any_of(not batch.keys, self.device):
            if batch.keys:
                log.warning("left out, as others of their batch: %s", " ".join(batch.keys))
            return
        with self._named(batch, "training"):
            result = self._learn(batch, step + 1)
        if result is None:
            return
        self.pending = True
        copies = self._copies(batch)
        self.meter.add(result.stats, result.weight / copies)
        self.meter.seconds += batch.seconds / copies

    def _learn(self, batch: Batch, step: int) -> Losses | None:
        """Add the gradients of a batch; None, and nothing added, where its loss is not finite.

        Where the device has no memory for the whole, two parts, or more, give the same gradients
        one after the other.
        """
        parts, rows = 1, rows_of(batch)
        while True:
            try:
                return self._learn_in(parts, batch, step)
            except (RuntimeError, MemoryError) as error:
                if not lacks_memory(error):
                    raise
                # Gradients of an earlier batch or another process cannot be told apart any more.
                if self.pending or self.ranks.world > 1 or parts >= rows:
                    raise DataError(
                        f"{self.device}: no memory to train on {rows} rows at once; lower "
                        "batching.max_frames or max_utterances (of a VAD pieces.batch_frames, of "
                        "punctuation sampling.batch_words)"
                    ) from None
            self.optimizer.zero_grad(set_to_none=True)
            if not self.told_of_memory:
                log.warning("%s: no memory for %d rows at once: learnt in parts", self.device, rows)
            self.told_of_memory, parts = True, min(2 * parts, rows)

    def _learn_in(self, parts: int, batch: Batch, step: int) -> Losses | None:
        results: list[Losses] = []
        for part in parts_of(batch, parts) if parts > 1 else (batch,):
            with autocast(self.device, self.training.precision):
                result: Losses = self.forward(part.to(self.device), step)
            if not self._agree_on_loss(result.loss, part.keys):
                if parts > 1:
                    self.optimizer.zero_grad(set_to_none=True)
                return None
            loss = result.loss if parts == 1 else result.loss * result.weight
            (loss / self.training.accum_grad).backward()
            results.append(result._replace(loss=result.loss.detach()))
        if parts == 1:
            return results[0]
        whole = mean_of(results)
        divide_gradients(self.objective.parameters(), whole.weight)
        return whole

    def _copies(self, batch: Batch) -> int:
        """The number of processes that have these very rows."""
        return batch.copies if self.ranks.world > 1 else 1

    def _agree_on_loss(self, loss: Tensor, keys: list[str]) -> bool:
        """Whether the loss is finite in all processes, which ask each other."""
        finite = bool(torch.isfinite(loss))
        if not self.ranks.any_of(not finite, self.device):
            self.bad_batches = 0
            return True
        self.bad_batches += 1
        if not finite:
            log.warning("loss is not finite, batch skipped; its utterances: %s", " ".join(keys))
        if self.bad_batches >= MAX_BAD_BATCHES:
            raise DataError(
                f"{self.folder}: {MAX_BAD_BATCHES} batches in a row without a finite loss; "
                "lower optim.lr or look at the utterances named above"
            )
        return False

    def _step(self) -> None:
        """Use the gradients, if there are any, then log and save where it is time to."""
        if not self.pending:
            return
        epoch, batch, done = self.position
        step = done + 1
        parameters = self.objective.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.training.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.optim.rate(step) * group.get("factor", 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        elif self.ranks.first:  # it is the same in all
            log.warning("step %d: gradient is not finite, step skipped", step)
        self.optimizer.zero_grad(set_to_none=True)
        self.pending = False
        self.position = Position(epoch, batch, step)
        if step % self.training.log_interval == 0:
            self._log()
        if step % self.training.save_interval == 0:
            self._save()

    def _log(self) -> None:
        epoch, _, step = self.position
        meter = self._gathered(self.meter)
        values = {**meter.means(), "lr": self.optim.rate(step), **meter.speed()}
        shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("epoch %d step %d: %s", epoch, step, shown)
        self._draw("train", values)
        self.meter = _Meter()

    def _gathered(self, meter: _Meter) -> _Meter:
        """The meters of all processes as one; they wait for the slowest."""
        found = self.ranks.gather((meter.totals, meter.seconds, meter.waited))
        totals, seconds, waited = zip(*found, strict=True)
        return _Meter(summed_totals(totals), sum(seconds), max(waited), meter.began)

    def _draw(self, group: str, values: dict[str, Any]) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{group}/{name}", value, self.position.step)

    def _save(self) -> None:
        totals = self._gathered(self.meter).totals
        generators = self.ranks.gather(own_generators())
        loader, place = self.train_loader, list[int]()
        if isinstance(loader, Placed):
            place = loader.place(self.position.batch)
        if self.ranks.first:
            state = (self.position, self.objective, self.optimizer, totals, generators, place)
            save_snapshot(self.snapshot, *state)

    def _end_epoch(self, epoch: int) -> None:
        self._step()  # what the last batches left where accum_grad does not divide their number
        self._measure(epoch, "done")
        self.position = Position(epoch + 1, 0, self.position.step)
        self._save()
        self._prune()
        self._settle()

    def _conclude(self) -> None:
        """Weights and record of an epoch that `max_steps` cut short; its end will replace them."""
        epoch, _, step = self.position
        path = self.folder / "epochs.jsonl"
        records = read_records(path) if path.is_file() else []
        known = (epoch, step) in [(record["epoch"], record["step"]) for record in records]
        if not self.ranks.gather(known)[0]:
            self._measure(epoch, f"ended at step {step}")

    def _measure(self, epoch: int, how: str) -> None:
        """Validate; write the weights and the record of an epoch."""
        record: dict[str, Any] = {"epoch": epoch, "step": self.position.step, **self.validate()}
        if not self.ranks.first:
            return
        if epoch:  # of the start, which is there already, only the record
            path = self.folder / f"epoch-{epoch}.pt"
            write_torch(self.objective.weights_to_keep(), path)
        put_record(self.folder / "epochs.jsonl", record)
        shown = " ".join(f"{k} {v:.4g}" for k, v in record.items() if k not in ("epoch", "step"))
        log.info("epoch %d %s, dev: %s", epoch, how, shown)
        self._draw("dev", record)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean losses and token error rate of greedy decoding over the dev set."""
        self.objective.eval()
        meter, errors, tokens = _Meter(), 0.0, 0.0
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(0)  # the sampler shows the same tokens each time
        last_step = max(self.position.step, self.objective.warm_steps) + 1
        for batch in self.dev_loader.epoch(0):
            if self.ranks.any_of(not batch.keys, self.device):
                continue
            moved, copies = batch.to(self.device), self._copies(batch)
            with (
                self._named(batch, "validation"),
                autocast(self.device, self.training.precision),
            ):
                result: Losses = self.objective(moved, last_step)
                wrong, size = self.objective.errors(moved)
            meter.add(result.stats, result.weight / copies)
            errors, tokens = errors + wrong / copies, tokens + size / copies
        torch.set_rng_state(state)
        counts = self.ranks.gather((errors, tokens))
        errors, tokens = (sum(each) for each in zip(*counts, strict=True))
        rate = {"token_error_rate": errors / tokens} if tokens else {}
        return {**self._gathered(meter).means(), **rate}

    def _prune(self) -> None:
        """Delete the weights of epochs that are neither among the best nor among the last."""
        if not self.ranks.first:
            return
        records = read_records(self.folder / "epochs.jsonl")
        keep = set(best_epochs(records, self.objective.metric, self.training.keep_epochs))
        keep |= set(best_epochs(records, "", self.training.keep_epochs, last=True))
        for record in records:
            path = self.folder / f"epoch-{record['epoch']}.pt"
            if record["epoch"] not in keep:
                path.unlink(missing_ok=True)
