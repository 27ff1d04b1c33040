"""Prometheus metrics of one application, in a registry of its own. No label holds what a caller chose freely."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.entities import StopReason
from app.http.engine_metrics import EngineCollector, EngineCounters
from app.services.modes import UsedMode
from app.services.questionnaires import QuestionnaireState
from app.services.respond import Response
from app.services.stream_response import Piece

MARGIN_BUCKETS = (-1.0, -0.5, 0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


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
        for mode in get_args(UsedMode):
            self._responses.labels(mode)
        self._tokens = Counter(
            "attune_response_tokens",
            "Tokens generated: of what came back, of other finished candidates, and of what was stopped or left.",
            ("fate",),
            registry=self.registry,
        )
        for fate in ("accepted", "rejected", "discarded"):
            self._tokens.labels(fate)
        self._first_piece = Histogram(
            "attune_time_to_first_piece_seconds",
            "Time until the first piece of a streamed response, or until the response chosen among several.",
            registry=self.registry,
            buckets=DURATION_BUCKETS,
        )
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
        if response.mode_used != "off" and response.margin_vs_generic is not None:
            self._margin.observe(response.margin_vs_generic)
        self._tokens.labels("accepted").inc(response.accepted_tokens)
        self._tokens.labels("discarded").inc(response.discarded_tokens)
        rejected = response.completion_tokens - response.accepted_tokens - response.discarded_tokens
        self._tokens.labels("rejected").inc(rejected)

    async def streamed(self, items: AsyncGenerator[Piece | Response, None]) -> AsyncGenerator[Piece | Response, None]:
        """Pass a streamed response on, count it, and measure how long it takes to begin."""
        began, waiting = time.perf_counter(), True
        async with aclosing(items):
            async for item in items:
                if waiting:
                    self._first_piece.observe(time.perf_counter() - began)
                    waiting = False
                if isinstance(item, Response):
                    self.response(item)
                yield item

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)
