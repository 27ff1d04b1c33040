"""Prometheus metrics of one application, in a registry of its own. No label holds what a caller chose freely."""

from collections.abc import Iterator
from typing import Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.entities import StopReason
from app.services.questionnaires import QuestionnaireState
from app.services.respond import Response

MARGIN_BUCKETS = (-1.0, -0.5, 0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class EngineCounters(Protocol):
    """What an engine counts about itself."""

    @property
    def requests(self) -> int:
        """Calls so far."""

    @property
    def tokens_generated(self) -> int:
        """Tokens generated so far, those of candidates that were not chosen included."""

    @property
    def seconds_decoding(self) -> float:
        """Time spent generating."""

    @property
    def queue_length(self) -> int:
        """Calls that wait now."""


class Metrics:
    """Everything ``/metrics`` tells."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "attune_http_request_duration_seconds",
            "Time until the response was sent, streams included.",
            ("route", "method", "status_class"),
            registry=self.registry,
            buckets=DURATION_BUCKETS,
        )
        self.inflight = Gauge("attune_inflight_requests", "Requests being answered.", registry=self.registry)
        self._outcomes = Counter(
            "attune_questionnaire_outcomes",
            "Questionnaires that ended, by reason.",
            ("stop_reason",),
            registry=self.registry,
        )
        for reason in get_args(StopReason):
            self._outcomes.labels(reason)
        self._margin = Histogram(
            "attune_selected_margin",
            "Reward of the chosen response over the generic one, in log-odds.",
            registry=self.registry,
            buckets=MARGIN_BUCKETS,
        )
        self._responses = Counter(
            "attune_responses", "Responses generated, by the mode used.", ("mode",), registry=self.registry
        )
        for mode in ("off", "best_of_n"):
            self._responses.labels(mode)
        Gauge("attune_build_info", "This release.", ("version",), registry=self.registry).labels(version).set(1)

    def watch(self, engine: EngineCounters) -> None:
        """Read the engine's own counters at every scrape."""
        self.registry.register(EngineCollector(engine))

    def questionnaire(self, state: QuestionnaireState) -> None:
        """Count a questionnaire that just ended."""
        if state.just_completed:
            self._outcomes.labels(state.questionnaire.stop_reason).inc()

    def response(self, response: Response) -> None:
        """Count a generated response, and by how much it was preferred to the generic one."""
        self._responses.labels(response.mode_used).inc()
        if response.mode_used != "off":
            self._margin.observe(response.margin_vs_generic)

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)


class EngineCollector(Collector):
    """Turns an engine's counters into metrics."""

    def __init__(self, engine: EngineCounters) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The four figures of now."""
        engine = self._engine
        yield CounterMetricFamily("attune_engine_requests", "Calls of the engine.", value=engine.requests)
        yield CounterMetricFamily("attune_engine_tokens", "Tokens generated.", value=engine.tokens_generated)
        yield CounterMetricFamily("attune_engine_decoding_seconds", "Time decoding.", value=engine.seconds_decoding)
        yield GaugeMetricFamily("attune_engine_queue_length", "Calls waiting.", value=engine.queue_length)
