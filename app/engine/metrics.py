"""Prometheus metrics of the inference server, in a registry of its own. No label holds what a caller chose freely."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float64
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.entities import CandidateSet
from app.errors import AttuneError
from app.http.engine_metrics import EngineCollector, EngineCounters

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
STEP_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
REWARDS = (-8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
RATE_SECONDS = 15.0


class EngineFigures(EngineCounters, Protocol):
    """What an engine counts about itself, in full."""

    @property
    def tokens_discarded(self) -> int:
        """Tokens generated so far that are in no answer."""

    @property
    def rows(self) -> int:
        """Candidates that are being decoded."""


class EngineMetrics:
    """Everything ``/metrics`` tells. Implements ``generation.observer.EngineObserver`` and ``http`` 's RequestMetrics.

    What every backend can tell is counted where answers leave; an engine that reports its steps adds those.
    """

    def __init__(self, release: str) -> None:
        self.registry = CollectorRegistry()
        self.request_seconds = self._histogram(
            "attune_engine_http_request_duration_seconds",
            "Time until the response was sent, streams included.",
            SECONDS,
            ("route", "method", "status_class"),
        )
        self.inflight = Gauge("attune_engine_inflight_requests", "Requests being answered.", registry=self.registry)
        self.first_piece = self._histogram(
            "attune_engine_first_piece_seconds", "Time until a stream's first piece of text.", SECONDS
        )
        self._broken = Counter(
            "attune_engine_stream_errors",
            "Streams that ended with an error after their status was sent, by its code.",
            ("code",),
            registry=self.registry,
        )
        self._steps = self._histogram("attune_engine_step_rows", "Candidates decoded together in one step.", ROWS)
        self._step_seconds = self._histogram("attune_engine_step_seconds", "Time of one decoding step.", STEP_SECONDS)
        self._rewards = self._histogram(
            "attune_engine_basis_reward", "Basis rewards of first candidates.", REWARDS, ("index",)
        )
        self._step_tokens = Counter(
            "attune_engine_step_tokens", "Tokens appended by decoding steps.", registry=self.registry
        )
        self._reused = Counter(
            "attune_engine_reused_tokens", "Prompt tokens known from an earlier prompt.", registry=self.registry
        )
        self._prompted = Counter("attune_engine_prompt_tokens", "Prompt tokens of requests.", registry=self.registry)
        build = Gauge("attune_engine_build_info", "This release.", ("version",), registry=self.registry)
        build.labels(release).set(1)

    def watch(self, engine: EngineFigures, more: Sequence[Collector] = ()) -> None:
        """Read the engine's own counters, and ``more``, at every scrape."""
        for collector in (EngineCollector(engine), FiguresCollector(engine), *more):
            self.registry.register(collector)

    def answered(self, drawn: CandidateSet) -> None:
        """Count what an answer cost, and the basis rewards of its first candidate."""
        self._reused.inc(drawn.reused_tokens)
        self._prompted.inc(drawn.prompt_tokens)
        for index, reward in enumerate(drawn.candidates[0].basis_rewards):
            self._rewards.labels(str(index)).observe(float(reward))

    def broke_off(self, error: AttuneError) -> None:
        """Count a stream that ended with ``error``, which its status, sent before, cannot tell."""
        self._broken.labels(error.code).inc()

    def on_step(self, rows: int, tokens: int, seconds: float) -> None:
        """Count one decoding step."""
        self._steps.observe(rows)
        self._step_seconds.observe(seconds)
        self._step_tokens.inc(tokens)

    def on_discard(self, tokens: int) -> None:
        """Nothing: the engine's own counter has it."""

    def on_reuse(self, tokens: int) -> None:
        """Nothing: the answer tells it."""

    def on_reward(self, values: Float64[np.ndarray, "candidates basis"]) -> None:
        """Nothing: the answer tells it."""

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)


class FiguresCollector(Collector):
    """What the inference server tells of its engine beyond the four figures of every process."""

    def __init__(self, engine: EngineFigures) -> None:
        self._engine = engine
        self._seen: deque[tuple[float, int]] = deque()

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        engine = self._engine
        yield CounterMetricFamily(
            "attune_engine_discarded_tokens", "Tokens generated for no answer.", value=engine.tokens_discarded
        )
        yield GaugeMetricFamily("attune_engine_rows", "Candidates being decoded.", value=engine.rows)
        yield GaugeMetricFamily(
            "attune_engine_tokens_per_second",
            f"Tokens generated a second since the last look that was {RATE_SECONDS:g} s ago or more.",
            value=self._rate(time.monotonic(), engine.tokens_generated),
        )

    def _rate(self, now: float, tokens: int) -> float:
        """Tokens a second since the last look that was at least ``RATE_SECONDS`` ago, or the first one."""
        while len(self._seen) > 1 and now - self._seen[1][0] >= RATE_SECONDS:
            self._seen.popleft()
        self._seen.append((now, tokens))
        began, before = self._seen[0]
        return (tokens - before) / (now - began) if now > began else 0.0
