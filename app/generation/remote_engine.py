"""The engine in another process: ``ports.Decoder`` over HTTP, for ``attune engine`` at the other end.

Knows the wire, not the model. What the engine's process raises is raised here again, as the same class.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx2
import numpy as np
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
from app.generation.engine_connection import EngineConnection, decoded, read
from app.generation.wire import (
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
from app.generation.wire_errors import error_of

START_SECONDS = 600.0
LONGEST_DEADLINE = 3600.0
Sent = TypeVar("Sent", bound=BaseModel)


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
        self._model: ModelView | None = None
        self._speed: SpeedView | None = None
        self._connection = EngineConnection(url, token)

    @property
    def model(self) -> str:
        """Name of the base model; raises ``Unavailable`` before ``start``."""
        return self._started.id

    @property
    def steering(self) -> frozenset[SteeringKind]:
        """What the engine could do when this process started; nothing before that."""
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
        """Whether the engine answers, is ready, and still serves the expected basis."""
        try:
            model = await self._connection.look()
        except (Unavailable, ConfigurationError):
            return False
        return self._model is not None and self.basis_version in [basis.version for basis in model.bases]

    async def forget(self) -> None:
        """Let the engine drop every text and prompt that it keeps for reuse."""
        async with self._deadline(self.timeout_seconds), self._connection.answer("/v1/forget", None):
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
        seconds = self._allowed(caller)
        body = _body(CandidatesBody, conversation, options, steering, caller, seconds, n=n)
        with self._counted(n):
            async with self._deadline(seconds), self._connection.answer("/v1/candidates", body) as response:
                view = read(CandidatesView, await response.aread())
        return self._count(view)

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
        seconds = self._allowed(caller)
        body = _body(GuidedBody, conversation, options, steering, caller, seconds, stream=True)
        began = time.monotonic()
        with self._counted(1):
            async with aclosing(self._events(body)) as events:
                while True:
                    async with self._deadline(seconds, since=began):
                        item = await anext(events, None)
                    if item is None:
                        raise EngineUnreachable(
                            f"The engine at {self.url} ended a stream before its result; try again."
                        )
                    yield self._count(item) if isinstance(item, CandidatesView) else item
                    if not isinstance(item, str):
                        return

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str], *, caller: Caller = ANYBODY
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards (responses, K) of texts written elsewhere, read there. Raises as ``candidates`` does."""
        seconds, size = self._allowed(caller), self._size()
        try:
            body = RewardsBody(
                messages=turns(conversation),
                responses=list(responses),
                tenant=caller.tenant,
                timeout_seconds=seconds,
            )
        except ValidationError as error:
            raise refused(error) from None
        with self._counted(0):
            async with self._deadline(seconds), self._connection.answer("/v1/basis-rewards", body) as response:
                view = read(RewardsView, await response.aread())
        self._check_basis(view.basis_version)
        return view.matrix(size)

    def _size(self) -> int:
        """K of the expected basis."""
        return next((basis.K for basis in self._started.bases if basis.version == self.basis_version), 0)

    def _allowed(self, caller: Caller) -> float:
        """Seconds that a call may take."""
        self._started  # noqa: B018 - nobody calls an engine that was not found yet
        return min(self.timeout_seconds, caller.timeout_seconds or self.timeout_seconds)

    def _count(self, view: CandidatesView) -> CandidateSet:
        self._check_basis(view.basis_version)
        self.tokens_generated += view.usage.completion_tokens
        self.tokens_discarded += view.usage.discarded_tokens
        self._speed = view.speed
        return view.drawn()

    def _check_basis(self, version: str) -> None:
        """Rewards on another basis mean something else: an engine that was replaced must not be listened to."""
        if version != self.basis_version:
            raise EngineUnreachable(
                f"The engine at {self.url} now serves basis {version} instead of {self.basis_version}; restart this "
                f"process with the same basis."
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

    @asynccontextmanager
    async def _deadline(self, seconds: float, since: float | None = None) -> AsyncIterator[None]:
        """Raise ``EngineTimeout`` ``seconds`` after ``since``, or after now."""
        left = seconds if since is None else seconds - (time.monotonic() - since)
        try:
            async with asyncio.timeout(left):
                yield
        except TimeoutError as error:
            raise EngineTimeout(seconds) from error

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
    kind: type[Sent],
    conversation: Conversation,
    options: SamplingOptions,
    steering: Steering | None,
    caller: Caller,
    seconds: float,
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
            timeout_seconds=seconds,
            **more,
        )
    except ValidationError as error:
        raise refused(error) from None
