"""The engine in another process: ``ports.Decoder`` over HTTP, for ``attune engine`` at the other end.

Knows the wire, not the model. What the engine's process raises is raised here again, as the same class.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import httpx2
import numpy as np
import structlog
from jaxtyping import Float64
from pydantic import BaseModel, ValidationError

from app.entities import (
    ANYBODY,
    Caller,
    CandidateSet,
    Conversation,
    DecodingSpeed,
    SamplingOptions,
    Steering,
    SteeringKind,
)
from app.errors import ArtifactIncompatible, ConfigurationError, EngineTimeout, EngineUnreachable, Unavailable
from app.generation.deadline import Deadline
from app.generation.remote.engine_connection import EngineConnection, decoded, read
from app.generation.remote.wire import (
    DELTA,
    ERROR,
    RESULT,
    CandidatesBody,
    CandidatesView,
    DeltaView,
    GuidedBody,
    ModelView,
    RewardsBody,
    RewardsView,
    SpeedView,
    SteeringBody,
    refused,
    turns,
)
from app.generation.remote.wire_errors import error_of

START_SECONDS = 600.0
LONGEST_DEADLINE = 3600.0
Sent = TypeVar("Sent", bound=BaseModel)

log = structlog.get_logger("attune.engine")


class RemoteEngine:
    """An inference server, as a decoder.

    ``requests``, ``tokens_generated``, ``tokens_discarded`` and ``seconds_decoding`` count what this process asked
    for; ``queue_length`` counts its calls under way and ``rows`` their candidates, since what waits is known to the
    engine's process alone.
    """

    def __init__(
        self,
        url: str,
        basis_version: str,
        *,
        token: str | None = None,
        timeout_seconds: float = 60.0,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """Prepare a client; ``start`` looks for the engine.

        Args:
            url: Address of the engine, without ``/v1``.
            basis_version: The basis whose rewards are expected.
            token: The engine's bearer token.
            timeout_seconds: Deadline of one call, the engine's queue included.
            start_seconds: How long ``start`` waits for an engine that is loading.
        """
        self.url, self.basis_version = url, basis_version
        self.timeout_seconds, self.start_seconds = min(timeout_seconds, LONGEST_DEADLINE), start_seconds
        self.requests = self.tokens_generated = self.tokens_discarded = self.queue_length = self.rows = 0
        self.seconds_decoding = 0.0
        self._able = True
        self._model: ModelView | None = None
        self._speed: SpeedView | None = None
        self._connection = EngineConnection(url, token)

    @property
    def model(self) -> str:
        """Name of the base model; raises ``Unavailable`` before ``start``."""
        return self._started.id

    @property
    def steering(self) -> frozenset[SteeringKind]:
        """What the engine could do when it was last looked at; nothing before that."""
        return frozenset() if self._model is None else frozenset(self._model.steering)

    @property
    def speed(self) -> DecodingSpeed | None:
        """What the engine last told of its speed."""
        return None if self._speed is None else DecodingSpeed(self._speed.step, self._speed.row)

    @property
    def _started(self) -> ModelView:
        if self._model is None:
            raise Unavailable("The engine has not been found yet; try again when /readyz says so.")
        return self._model

    async def start(self) -> None:
        """Wait until the engine is ready, and check that it serves the expected basis.

        Raises:
            ArtifactIncompatible: If it serves another one.
            ConfigurationError: If it refuses the token.
            EngineUnreachable: If it is not ready within ``start_seconds``.
        """
        self._model = await self._connection.wait(self.start_seconds)
        self._speed = self._model.speed
        held = [basis.version for basis in self._model.bases]
        if self.basis_version not in held:
            raise ArtifactIncompatible(
                f"The engine at {self.url} serves basis {', '.join(held)}, this process has {self.basis_version}; give "
                f"both the same ATTUNE_ENGINE__BASIS."
            )

    async def close(self) -> None:
        """Close the connections; calls under way end."""
        await self._connection.close()

    async def ready(self) -> bool:
        """Whether the engine answers, is ready, and still serves the expected basis; the log tells why not."""
        try:
            model = await self._connection.look()
            self._check_basis(*(basis.version for basis in model.bases))
        except (Unavailable, ConfigurationError) as error:
            if self._able:
                log.warning("engine_not_ready", url=self.url, why=error.message)
            self._able = False
            return False
        if self._model is None:
            return False
        self._able, self._model = True, model
        return True

    async def forget(self) -> None:
        """Let the engine drop every text and prompt that it keeps for reuse."""
        async with Deadline.of(ANYBODY, self.timeout_seconds).enforced(), self._connection.answer("/v1/forget", None):
            pass

    async def candidates(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> CandidateSet:
        """Draw ``n`` completions there; see ``ports.Decoder``.

        Raises:
            InvalidInput: If a value is outside the wire's limits, or as the engine says.
            EngineOverloaded: If the engine's queue is full.
            EngineTimeout: After the deadline; the engine then stops.
            EngineUnreachable: If the engine cannot be reached, or serves another basis by now.
        """
        deadline = self._begin(caller)
        body = self._body(CandidatesBody, conversation, options, steering, caller, deadline, n=n)
        with self._counted(n):
            async with deadline.enforced(), self._connection.answer("/v1/candidates", body) as response:
                view = read(CandidatesView, await response.aread())
        return self._count(view, n)

    async def stream(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> AsyncGenerator[str | CandidateSet, None]:
        """One completion piece by piece, then the set with it; closing the iterator ends the decoding there.

        Raises as ``candidates`` does.
        """
        deadline = self._begin(caller)
        body = self._body(GuidedBody, conversation, options, steering, caller, deadline, stream=True)
        with self._counted(1):
            async with aclosing(self._events(body)) as events:
                while True:
                    async with deadline.enforced():
                        item = await anext(events, None)
                    if item is None:
                        raise EngineUnreachable("The engine ended a stream before its result; try again.")
                    yield self._count(item, 1) if isinstance(item, CandidatesView) else item
                    if not isinstance(item, str):
                        return

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str], *, caller: Caller = ANYBODY
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards (responses, K) of texts written elsewhere, read there. Raises as ``candidates`` does."""
        deadline = self._begin(caller)
        try:
            body = RewardsBody(
                messages=turns(conversation),
                responses=list(responses),
                tenant=caller.tenant,
                timeout_seconds=deadline.seconds,
                basis_version=self.basis_version,
            )
        except ValidationError as error:
            raise refused(error) from None
        with self._counted(0):
            async with deadline.enforced(), self._connection.answer("/v1/basis-rewards", body) as response:
                view = read(RewardsView, await response.aread())
        self._check_basis(view.basis_version)
        self._check_rows(view.basis_rewards, len(responses))
        return view.matrix(self._size())

    def _size(self) -> int:
        """K of the expected basis."""
        return next((basis.K for basis in self._started.bases if basis.version == self.basis_version), 0)

    def _begin(self, caller: Caller) -> Deadline:
        """Until when a call may take; raises ``EngineTimeout`` where that has passed already."""
        self._started  # noqa: B018 - nobody calls an engine that was not found yet
        deadline = Deadline.of(caller, self.timeout_seconds)
        if not deadline.seconds:
            raise EngineTimeout(deadline.seconds)
        return deadline

    def _count(self, view: CandidatesView, n: int) -> CandidateSet:
        self._check_basis(view.basis_version)
        self._check_rows([one.basis_rewards for one in view.candidates], n)
        self.tokens_generated += view.usage.completion_tokens
        self.tokens_discarded += view.usage.discarded_tokens
        self._speed = view.speed
        return view.drawn()

    def _check_basis(self, *held: str) -> None:
        """Rewards on another basis mean something else: an engine that was replaced must not be listened to."""
        if self.basis_version not in held:
            raise EngineUnreachable(
                f"The engine now serves basis {', '.join(held)} instead of {self.basis_version}; restart this process "
                f"with the same basis."
            )

    def _check_rows(self, rows: Sequence[Sequence[float]], wanted: int) -> None:
        """There must be K rewards for everything that was asked for."""
        if [len(row) for row in rows] != [self._size()] * wanted:
            raise EngineUnreachable(
                f"The engine's answer does not hold {self._size()} rewards for each of {wanted} texts; run the same "
                f"release in both processes."
            )

    @contextmanager
    def _counted(self, rows: int) -> Any:
        began = time.monotonic()
        self.requests += 1
        self.queue_length += 1
        self.rows += rows
        try:
            yield
        finally:
            self.queue_length -= 1
            self.rows -= rows
            self.seconds_decoding += time.monotonic() - began

    async def _events(self, body: BaseModel) -> AsyncGenerator[str | CandidatesView, None]:
        async with self._connection.answer("/v1/guided", body) as response:
            async for event in httpx2.EventSource(response, max_event_size=None):
                if event.event == DELTA:
                    yield read(DeltaView, event.data).text
                elif event.event == RESULT:
                    yield read(CandidatesView, event.data)
                elif event.event == ERROR:
                    raise error_of(200, decoded(event.data))

    def _body(
        self,
        kind: type[Sent],
        conversation: Conversation,
        options: SamplingOptions,
        steering: Steering | None,
        caller: Caller,
        deadline: Deadline,
        **more: object,
    ) -> Sent:
        """The request of ``kind`` that says all this; raises ``InvalidInput`` for what is outside the wire's limits."""
        try:
            return kind(
                messages=turns(conversation),
                max_tokens=options.max_tokens,
                temperature=options.temperature,
                top_p=options.top_p,
                seed=int(options.seed),
                stop=list(options.stop),
                cacheable=options.cacheable,
                steering=None if steering is None else SteeringBody.of(steering),
                tenant=caller.tenant,
                timeout_seconds=deadline.seconds,
                basis_version=self.basis_version,
                **more,
            )
        except ValidationError as error:
            raise refused(error) from None
