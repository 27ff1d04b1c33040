"""An engine's own counters as Prometheus metrics, under the same names in whichever process it runs."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


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
        """Calls that wait now; of an engine in another process, calls under way, which may wait there."""


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
        yield GaugeMetricFamily(
            "attune_engine_queue_length", "Calls waiting, or under way elsewhere.", value=engine.queue_length
        )
