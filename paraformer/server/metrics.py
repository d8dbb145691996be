"""Counts and times of the service, as Prometheus reads them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from paraformer.extras import load_extra

log = logging.getLogger(__name__)

SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one server; their names stay."""

    def __init__(self) -> None:
        client = load_extra("prometheus_client", "serve")
        self._client, self.registry = client, client.CollectorRegistry()

        def made(kind: str, name: str, text: str, *labels: str, **more: Any) -> Any:
            return getattr(client, kind)(name, text, labels, registry=self.registry, **more)

        self.sessions = made("Gauge", "funasr_sessions", "Sessions that are open", "door")
        self.requests = made(
            "Counter",
            "funasr_requests",
            "Utterances and uploads that have ended",
            "door",
            "outcome",
        )
        self.errors = made("Counter", "funasr_errors", "Failures by kind", "kind")
        self.audio = made("Counter", "funasr_audio_seconds", "Sound that was decoded", "work")
        self.compute = made("Counter", "funasr_compute_seconds", "Time it took to decode", "work")
        self.first_word = made(
            "Histogram",
            "funasr_first_word_seconds",
            "From the first sound of a stream to its first word",
            buckets=SECONDS,
        )
        self.final = made(
            "Histogram",
            "funasr_final_seconds",
            "From the end of the sound to the last answer",
            "door",
            buckets=SECONDS,
        )
        self.backlog = made("Gauge", "funasr_backlog_seconds", "Sound of streams that waits")
        self.queue = made("Gauge", "funasr_queue_recordings", "Recordings that wait or are decoded")

    def watch(self, backlog: Callable[[], float], queue: Callable[[], float]) -> None:
        """Ask for what waits whenever somebody looks."""
        self.backlog.set_function(backlog)
        self.queue.set_function(queue)

    def computed(self, work: str, seconds: float, took: float) -> None:
        """Count so many seconds of sound of a stream or a recording, and how long it took."""
        self.audio.labels(work).inc(seconds)
        self.compute.labels(work).inc(took)

    def ended(self, door: str, outcome: str, waited: float) -> None:
        """Count an utterance whose last answer came so many seconds behind its sound."""
        self.requests.labels(door, outcome).inc()
        self.final.labels(door).observe(waited)

    def failed(self, kind: str) -> None:
        """Count a failure."""
        self.errors.labels(kind).inc()

    def broken(self, error: BaseException) -> None:
        """Count a fault of ours, whose place goes to the log."""
        self.failed("internal")
        log.error("a fault of the server", exc_info=error)

    def page(self) -> tuple[bytes, str]:
        """All of them as a page, and its type."""
        return self._client.generate_latest(self.registry), self._client.CONTENT_TYPE_LATEST
