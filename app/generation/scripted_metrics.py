"""The scripted engine's counters under vLLM's metric names, so that dashboards and autoscalers can be load-tested."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.generation.scripted import Durations, ScriptedEngine

LABELS = ("model_name", "engine")
REASONS = {"stop": "stop", "length": "length", "dropped": "abort"}
"""How vLLM calls the ways in which a candidate ends."""


class VllmNames(Collector):
    """Collects what vLLM 0.32 tells of one engine, from a scripted one; register it in a ``CollectorRegistry``."""

    def __init__(self, engine: ScriptedEngine) -> None:
        """Watch ``engine``; nothing is read before the first scrape."""
        self._engine = engine
        self._labels = (engine.model, "0")

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        engine = self._engine
        yield self._gauge("num_requests_running", "Candidates being decoded.", engine.rows)
        yield self._gauge("num_requests_waiting", "Calls waiting.", engine.queue_length)
        yield self._counter("prompt_tokens", "Prompt tokens read.", engine.tokens_prompted)
        yield self._counter("generation_tokens", "Tokens generated.", engine.tokens_generated)
        yield self._finished()
        yield self._histogram("time_to_first_token_seconds", "Time to the first token.", engine.first_token)
        yield self._histogram("e2e_request_latency_seconds", "Time of a whole call.", engine.whole_call)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=LABELS)
        family.add_metric(self._labels, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=LABELS)
        family.add_metric(self._labels, value)
        return family

    def _finished(self) -> Metric:
        family = CounterMetricFamily(
            "vllm:request_success", "Candidates that ended, by reason.", labels=(*LABELS, "finished_reason")
        )
        for ours, theirs in REASONS.items():
            family.add_metric((*self._labels, theirs), self._engine.finished[ours])
        return family

    def _histogram(self, name: str, text: str, durations: Durations) -> Metric:
        family = HistogramMetricFamily(f"vllm:{name}", text, labels=LABELS)
        family.add_metric(self._labels, list(_cumulative(durations)), sum_value=durations.total)
        return family


def _cumulative(durations: Durations) -> Iterator[tuple[str, float]]:
    """Prometheus' buckets: each bound with how many are at most as long."""
    total = 0
    for bound, count in zip((*durations.bounds, float("inf")), durations.counts, strict=True):
        total += count
        yield "+Inf" if bound == float("inf") else str(bound), total
