"""Recognisers as actors of Ray, on as many machines as its cluster has: `cluster=ray`.

The process that was started reads the list, gives its next utterances to actors that wait, and
writes what comes back, as with `nj` on one machine: so order, folders and resume are those of any
other run, and only audio has to lie where all machines see it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from paraformer.api.workers import Hand, Order, Ready, begin_log, prepare
from paraformer.data.inputs.sources import Item
from paraformer.errors import ConfigError, ParaformerError
from paraformer.extras import load_extra
from paraformer.output.result import Result

log = logging.getLogger(__name__)

# Of Ray's own: no statistics of use are sent, actors without a GPU are as the machine is, and those
# of a cluster that begins here have the priority of the processes of `nj`.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
}
# Keywords of whoever writes the results.
_OF_FOLDERS = ("output_dir", "resume", "shard")


class Recogniser:
    """The work of an actor: results of some utterances at a time, in their order."""

    def begin(self, rank: int, order: Order, folder: str) -> Ready | ParaformerError:
        """Load the model. folder: from which relative paths of the list count."""
        if os.path.isdir(folder):
            os.chdir(folder)
        begin_log(rank, order)
        try:
            ready, self._work = prepare(rank, order)
        except ParaformerError as error:
            return error
        return ready

    def work(self, items: list[Item]) -> list[Result]:
        """A result for each item."""
        return list(self._work(iter(items), len(items)))


class OfActor:
    """An actor as a hand."""

    def __init__(self, ray: Any, actor: Any, rank: int, order: Order) -> None:
        self._ray, self._actor, self._why = ray, actor, "stopped"
        self.answers: deque[Any] = deque([actor.begin.remote(rank, order, os.getcwd())])

    def send(self, items: list[Item]) -> None:
        """See `Hand`."""
        self.answers.append(self._actor.work.remote(items))

    def receive(self) -> list[Any]:
        """See `Hand`."""
        try:
            told = self._ray.get(self.answers.popleft())
        except self._ray.exceptions.RayTaskError:  # a fault of the program
            raise
        except self._ray.exceptions.RayError as error:
            self._why = type(error).__name__
            raise EOFError from error
        return told if isinstance(told, list) else [told]

    def stop(self) -> None:
        """See `Hand`."""
        self._ray.kill(self._actor)

    def bury(self) -> str:
        """See `Hand`."""
        self.stop()
        return self._why


class Actors:
    """Actors of the cluster that RAY_ADDRESS names, of one that runs here, or of this machine."""

    # A machine that is lost takes what is at work there along, which is no fault of an utterance.
    one, all, tries = "an actor", "the actors", 3

    def __init__(self) -> None:
        os.environ.update({name: os.environ.get(name, x) for name, x in ENVIRONMENT.items()})
        self._ray = load_extra("ray", "cluster=ray")
        self._own = False  # whether it is our connection
        self._needs: dict[str, Any] = {}

    def begin(self, order: Order) -> Order:
        """See `Hands`."""
        if not self._ray.is_initialized():
            with _with_own_sigterm():
                self._connect()
        settings = {k: v for k, v in order.settings.items() if k not in _OF_FOLDERS}
        there = self._ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        device = str(settings.get("device", "auto")).lower()
        share = settings.get("ncpu") or max(1, cpus // order.processes)
        self._needs = {"num_cpus": min(share, self._largest() or share)}
        room = cpus // self._needs["num_cpus"]
        if device.startswith("cuda") or (device == "auto" and gpus):
            self._needs["num_gpus"], room = 1, min(room, gpus)
            settings["device"] = "cuda"  # the one that Ray shows the actor
        if room < order.processes:
            log.warning(
                "nj=%d: the cluster has room for %d actors by now; more wait for machines",
                *(order.processes, room),
            )
        return order._replace(settings={**settings, "ncpu": share})

    def _connect(self) -> None:
        try:
            self._ray.init(include_dashboard=False, logging_level=logging.WARNING)
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"cluster=ray: cannot be reached ({reason}); see RAY_ADDRESS, and `ray status`"
            ) from error
        self._own = True

    def _largest(self) -> int:
        """CPUs of the largest machine; 0 if there is none yet."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return max((int(node["Resources"].get("CPU", 0)) for node in nodes), default=0)

    def start(self, rank: int, order: Order) -> OfActor:
        """See `Hands`."""
        actor = self._ray.remote(**self._needs)(Recogniser).remote()
        return OfActor(self._ray, actor, rank, order)

    def heard(self, hands: list[OfActor]) -> list[Hand]:
        """See `Hands`."""
        waiting = {hand.answers[0]: hand for hand in hands if hand.answers}
        answered, _ = self._ray.wait([*waiting], num_returns=1)
        return [waiting[answer] for answer in answered]

    def end(self) -> None:
        """See `Hands`."""
        if self._own:
            self._own = False
            self._ray.shutdown()


@contextlib.contextmanager
def _with_own_sigterm() -> Iterator[None]:
    """SIGTERM stays what it is: Ray would have it end the process in its own way."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
