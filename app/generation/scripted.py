"""A deterministic engine without a model: texts and basis rewards are functions of hashes.

Behaves like the real engine towards its callers (order, seeds, stop strings, steering, limits, errors), and counts
words as tokens. For tests, for machines without torch, and for load tests: it takes the time that it is told to take.
"""

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from app.entities import (
    ANYBODY,
    Caller,
    Candidate,
    CandidateSet,
    Conversation,
    DecodingSpeed,
    SamplingOptions,
    Steering,
    SteeringKind,
)
from app.errors import EngineTimeout, GuidanceUnavailable, InvalidInput, PromptTooLong, Unavailable
from app.generation.admission import FairGate
from app.generation.deadline import Deadline
from app.generation.scripted_texts import rewards_of, words_of, write

ALL_KINDS: frozenset[SteeringKind] = frozenset({"token", "block", "early_stopping"})
FIRST_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0)
CALL_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
_FAILURE_SEED = 0
_PIECE = re.compile(r"\s*\S+")


@dataclass
class Durations:
    """A histogram of seconds: ``counts[i]`` of them are at most ``bounds[i]``, the last one counts all others."""

    bounds: Sequence[float]
    total: float = 0.0
    counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[int(np.searchsorted(self.bounds, seconds))] += 1
        self.total += seconds


@dataclass(frozen=True)
class _Turn:
    """A call that is being answered; ``came`` and ``deadline`` are on the event loop's clock."""

    came: float
    deadline: float
    allowed: float

    async def pause(self, seconds: float) -> None:
        """Let time pass; raises ``EngineTimeout`` at the deadline."""
        loop = asyncio.get_running_loop()
        left = self.deadline - loop.time()
        await asyncio.sleep(max(0.0, min(seconds, left)))
        if seconds > left:
            raise EngineTimeout(self.allowed)


class ScriptedEngine:
    """Implements ``ports.Decoder`` in a few microseconds a candidate, and longer if told to.

    Counts as the real engine does: ``requests``, ``tokens_generated`` with ``tokens_discarded`` of them,
    ``tokens_prompted``, ``seconds_decoding``, ``queue_length``, and ``rows`` that are being decoded. ``finished``
    counts candidates by how they ended; ``first_token`` and ``whole_call`` hold durations.
    """

    def __init__(
        self,
        *,
        model: str = "scripted",
        basis_version: str = "scripted",
        size: int = 4,
        context: int = 512,
        queue_size: int = 32,
        max_rows: int = 1,
        timeout_seconds: float = 60.0,
        latency_seconds: float = 0.0,
        token_seconds: float = 0.0,
        failures: float = 0.0,
        steering: frozenset[SteeringKind] = ALL_KINDS,
    ) -> None:
        """Prepare an engine that is ready at once.

        Args:
            model: Name of the base model to report.
            basis_version: Version of the basis to report.
            size: K, the number of basis rewards.
            context: Words that prompt and completion may have together.
            queue_size: Calls that may wait.
            max_rows: Candidates that may be decoded together; with 1, one call is answered after the other.
            timeout_seconds: Deadline of one call, waiting included.
            latency_seconds: How long every call takes before its first word.
            token_seconds: How long every word takes, however many candidates there are.
            failures: Share of the calls that fail; which ones, is the same every time.
            steering: What it can do.
        """
        self.model, self.basis_version, self.size = model, basis_version, size
        self.context, self.steering = context, steering
        self.timeout_seconds, self.latency_seconds = timeout_seconds, latency_seconds
        self.speed: DecodingSpeed | None = DecodingSpeed(step=token_seconds, row=0.0)
        self.token_seconds, self.failures = token_seconds, failures
        self.requests = self.tokens_generated = self.tokens_discarded = self.tokens_prompted = 0
        self.seconds_decoding = 0.0
        self.finished: Counter[str] = Counter()
        self.first_token, self.whole_call = Durations(FIRST_TOKEN_BUCKETS), Durations(CALL_BUCKETS)
        self._gate = FairGate(places=max_rows, queue_size=queue_size)
        self._failures: deque[Exception] = deque()
        self._rng = np.random.default_rng(_FAILURE_SEED)

    @property
    def queue_length(self) -> int:
        """Calls that wait for their turn."""
        return self._gate.queue_length

    @property
    def rows(self) -> int:
        """Candidates that are being decoded."""
        return self._gate.used

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Let nobody in any more, and answer those who are in or waiting."""
        await self._gate.close(self.timeout_seconds)

    async def ready(self) -> bool:
        """Always."""
        return True

    async def forget(self) -> None:
        """Nothing is kept."""

    def fail_next(self, error: Exception) -> None:
        """Let the next call that gets its turn raise ``error``; several are raised in order, one a call."""
        self._failures.append(error)

    async def candidates(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> CandidateSet:
        """``n`` texts that depend on the conversation, ``options``, ``steering`` and their number alone.

        Token-level guidance draws words in proportion to exp(strength * their part in the reward); block-wise goes on
        with the best of some blocks; early stopping cuts candidates that have little chance left.

        Raises:
            InvalidInput: For coefficients that are not K finite numbers.
            GuidanceUnavailable: For steering of a kind that this engine was told not to do.
            PromptTooLong: If the prompt's words and ``options.max_tokens`` exceed the context.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
            Unavailable: As often as ``failures`` says.
        """
        self._check(conversation, options.max_tokens, steering)
        async with self._turn(caller, n, options.max_tokens) as turn:
            drawn = self._drawn(conversation, n, options, steering)
            self._first_token(turn)
            await turn.pause(self.token_seconds * max((one.tokens for one in drawn.candidates), default=0))
            self.tokens_generated += drawn.completion_tokens
            self._finish(turn, drawn)
            return drawn

    async def stream(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> AsyncGenerator[str | CandidateSet, None]:
        """The only candidate word by word, then the set with it; closing the iterator ends it at the next word.

        Raises as ``candidates`` does, before the first piece unless the deadline comes later.
        """
        self._check(conversation, options.max_tokens, steering)
        async with self._turn(caller, 1, options.max_tokens) as turn:
            drawn = self._drawn(conversation, 1, options, steering)
            text = drawn.candidates[0].text
            self._first_token(turn)
            for piece in _PIECE.findall(text):
                await turn.pause(self.token_seconds)
                self.tokens_generated += 1
                yield piece
            self.tokens_generated += drawn.discarded_tokens
            self._finish(turn, drawn)
        yield drawn

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str], *, caller: Caller = ANYBODY
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards (responses, K): for each response the average over its words of a fixed vector a word.

        Raises:
            PromptTooLong: If the words of the conversation and a response exceed the context.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
            Unavailable: As often as ``failures`` says.
        """
        longest = max((len(response.split()) for response in responses), default=1)
        self._check(conversation, longest, None)
        async with self._turn(caller, 1, max(1, longest)):
            return np.array([self._rewards(response) for response in responses]).reshape(-1, self.size)

    def _check(self, conversation: Conversation, tokens: int, steering: Steering | None) -> None:
        prompt_tokens = words_of(conversation)
        if prompt_tokens + tokens > self.context:
            raise PromptTooLong(prompt_tokens, tokens, self.context)
        if steering is None:
            return
        missing = steering.kinds - self.steering
        if missing:
            raise GuidanceUnavailable(min(missing), "the scripted engine was told not to do it")
        if len(steering.coefficients) != self.size or not np.isfinite(steering.coefficients).all():
            raise InvalidInput(
                f"coefficients are {len(steering.coefficients)} numbers; send {self.size} finite ones.",
                field="steering.coefficients",
            )

    @asynccontextmanager
    async def _turn(self, caller: Caller, rows: int, tokens: int) -> AsyncIterator[_Turn]:
        """A turn of the engine, with a deadline, and failures as scripted."""
        self.requests += 1
        allowed = Deadline.of(caller, self.timeout_seconds).seconds
        came = asyncio.get_running_loop().time()
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(allowed):
                    await stack.enter_async_context(self._gate.admit(caller.tenant, places=rows, cost=rows * tokens))
            except TimeoutError as error:
                raise EngineTimeout(allowed) from error
            began = time.perf_counter()
            stack.callback(lambda: self._count_seconds(began))
            turn = _Turn(came, came + allowed, allowed)
            await turn.pause(self.latency_seconds)
            self._fail_as_scripted()
            yield turn

    def _count_seconds(self, began: float) -> None:
        self.seconds_decoding += time.perf_counter() - began

    def _fail_as_scripted(self) -> None:
        if self._failures:
            raise self._failures.popleft()
        if self.failures and self._rng.random() < self.failures:
            raise Unavailable("This call was scripted to fail; try again.")

    def _drawn(
        self, conversation: Conversation, n: int, options: SamplingOptions, steering: Steering | None
    ) -> CandidateSet:
        written = write(conversation, n, options, self.size, steering)
        discarded = sum(one.discarded for one in written)
        kept = sum(one.candidate.tokens for one in written if one.candidate.finish_reason != "dropped")
        candidates: tuple[Candidate, ...] = tuple(one.candidate for one in written)
        return CandidateSet(candidates, words_of(conversation), kept + discarded, discarded)

    def _first_token(self, turn: _Turn) -> None:
        self.first_token.observe(asyncio.get_running_loop().time() - turn.came)

    def _finish(self, turn: _Turn, drawn: CandidateSet) -> None:
        self.tokens_prompted += drawn.prompt_tokens
        self.tokens_discarded += drawn.discarded_tokens
        self.finished.update(one.finish_reason for one in drawn.candidates)
        self.whole_call.observe(asyncio.get_running_loop().time() - turn.came)

    def _rewards(self, text: str) -> Float64[np.ndarray, " basis"]:
        return rewards_of(text, self.size)
