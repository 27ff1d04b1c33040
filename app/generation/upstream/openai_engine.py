"""The engine in front of another server: any OpenAI-compatible API writes the texts, our trunk reads their rewards.

Implements ``ports.Decoder``. Nothing that the other server does can be steered; its rewards come from the basis' trunk
in this process, or, where it serves an exported checkpoint, from its own log-probabilities. Knows no users.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
from jaxtyping import Float64

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
from app.errors import GuidanceUnavailable, InvalidInput, Unavailable
from app.generation.admission import FairGate
from app.generation.deadline import Deadline
from app.generation.kept import KeptCandidates
from app.generation.speed import SpeedMeter
from app.generation.upstream.text_reader import TextReader
from app.generation.upstream.upstream import Upstream
from app.generation.upstream.upstream_texts import Texts, UpstreamTexts
from app.generation.worker import Check, EngineWorker
from app.rewards.artifact import BasisArtifact

log = structlog.get_logger("attune.engine")

_LOADING_SECONDS = 3600.0
_UNSTEERED = (
    "another server writes the texts and takes no steering, and continuing its blocks by text would cut them into "
    "other tokens"
)


class OpenAIEngine:
    """Texts from an OpenAI-compatible server, with the rewards of one basis.

    ``requests``, ``tokens_generated``, ``seconds_decoding`` and ``queue_length`` count since the start;
    ``tokens_discarded`` stays 0: nothing is dropped that was begun.
    """

    def __init__(
        self,
        model_directory: Path,
        artifact: BasisArtifact,
        *,
        upstream_url: str,
        upstream_model: str | None = None,
        upstream_key: str | None = None,
        one_request: bool = False,
        exported: Path | None = None,
        threads: int | None = None,
        device: str = "cpu",
        queue_size: int = 32,
        max_rows: int = 64,
        timeout_seconds: float = 60.0,
        cached_candidates: int = 256,
    ) -> None:
        """Prepare an engine; ``start`` loads the trunk and looks for the server.

        Args:
            model_directory: The checkpoint that the basis was made for; it reads texts and writes none.
            artifact: The basis.
            upstream_url: Address of the server's API, usually ending in ``/v1``.
            upstream_model: The model to ask for; None takes the only one that the server lists.
            upstream_key: Its API key.
            one_request: Ask for all candidates of a call at once (``n``) instead of with a request and a seed each.
                Servers that charge for prompts charge once, but a candidate then depends on how many were asked for.
            exported: A directory with the ``attune.json`` of the checkpoint that the server serves, which
                ``attune engine export`` wrote; None reads all rewards with the trunk.
            threads: Processor threads for one forward pass of the trunk; None takes one.
            device: Where the trunk runs, as torch names it.
            queue_size: Calls that may wait.
            max_rows: Completions that the server is asked for at a time.
            timeout_seconds: Deadline of one call, waiting included.
            cached_candidates: Candidate sets kept for requests that repeat.

        Raises:
            ConfigurationError: If the address or the key cannot be used.
        """
        self._directory, self._artifact, self._exported = Path(model_directory), artifact, exported
        self._threads, self._device = threads or 1, device
        self._one_request, self._timeout_seconds = one_request, timeout_seconds
        self._upstream = Upstream(upstream_url, model=upstream_model, key=upstream_key, connections=max_rows)
        self._gate = FairGate(places=max_rows, queue_size=queue_size)
        self._reading = FairGate(places=1, queue_size=queue_size)
        self._worker = EngineWorker(queue_size=2 * max_rows + queue_size, timeout_seconds=timeout_seconds)
        self._kept = KeptCandidates(cached_candidates)
        self._times = SpeedMeter()
        self._reader: TextReader | None = None
        self._writer: UpstreamTexts | None = None
        self.requests = 0
        self.tokens_generated = 0
        self.tokens_discarded = 0
        self.seconds_decoding = 0.0

    @property
    def model(self) -> str:
        """Name of the model that writes, as the server lists it; that of the basis while it is not known."""
        return self._upstream.model or self._artifact.basis.model

    @property
    def basis_version(self) -> str:
        """Version of the basis reward heads that are loaded."""
        return self._artifact.basis.version

    @property
    def steering(self) -> frozenset[SteeringKind]:
        """Nothing: another server writes."""
        return frozenset()

    @property
    def queue_length(self) -> int:
        """Calls that wait."""
        return self._gate.queue_length + self._reading.queue_length

    @property
    def rows(self) -> int:
        """Requests that the server is answering now."""
        return self._upstream.in_flight

    @property
    def speed(self) -> DecodingSpeed | None:
        """How fast the server wrote lately; its reading of prompts, and the way there and back, count as writing."""
        return self._times.speed

    async def start(self) -> None:
        """Load the trunk, and wait for the server for as long as a call may take.

        Raises:
            ArtifactError: If checkpoint, trunk or ``attune.json`` is missing or broken.
            ArtifactIncompatible: If they were made for something else.
            ConfigurationError: If the server refuses the key, or does not list the model.
            EngineUnreachable: If no such server answers.
        """
        reader = await self._worker.run(self._load, timeout_seconds=_LOADING_SECONDS)
        model = await self._upstream.check(self._timeout_seconds)
        self._writer = UpstreamTexts(self._upstream, one_request=self._one_request, virtual=reader.virtual)
        self._reader = reader
        log.info("upstream", model=model, rewards="upstream" if self._exported else "trunk")

    async def close(self) -> None:
        """Finish the calls under way, then stop."""
        await asyncio.gather(self._gate.close(self._timeout_seconds), self._reading.close(self._timeout_seconds))
        await self._worker.close()
        await self._upstream.close()

    async def ready(self) -> bool:
        """Whether the trunk is loaded, work is taken on, and the server has answered in the last half minute."""
        accepting = self._worker.accepting and self._gate.accepting
        return self._reader is not None and accepting and await self._upstream.answers()

    async def forget(self) -> None:
        """Drop every text kept."""
        self._kept.forget()

    async def candidates(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> CandidateSet:
        """Draw ``n`` completions of ``conversation`` with their basis rewards; at temperature 0 all are the same one.

        Candidate i depends on the conversation, the options and i alone as far as the server honours seeds, and unless
        all are asked for in one request. What is kept of an earlier call is not asked for again.

        Raises:
            GuidanceUnavailable: If ``steering`` asks for any kind of it.
            PromptTooLong: Before any generation, if the prompt leaves the trunk no room; or if the server says so.
            InvalidInput: If there are not K coefficients, or the server refuses the request.
            EngineOverloaded: If the queue is full, or the server asks for a pause.
            EngineTimeout: After the deadline.
            EngineUnreachable: If the server fails, or answers what cannot be read.
            NonFiniteReward: If the trunk yields values that are not finite.
            Unavailable: While the trunk is loading, or once the engine is closing.
        """
        reader, writer = self._accept(steering)
        known = self._kept.recall(conversation, n, options)
        if known is not None:
            return known
        distinct, epoch = 1 if options.temperature == 0 else n, self._kept.epoch
        deadline = Deadline.of(caller, self._timeout_seconds)
        async with deadline.enforced():
            cost = distinct * options.max_tokens
            async with self._gate.admit(caller.tenant, places=distinct, cost=cost) as places:
                await self._worker.run(lambda _: reader.check_room(conversation))
                began = time.perf_counter()
                texts = await writer.draw(conversation, distinct, options, at_once=places, until=deadline.until)
                seconds = time.perf_counter() - began
                drawn = await self._worker.run(lambda check: reader.candidates(conversation, options, texts, check))
        return self._finished(conversation, options, drawn, n, seconds, epoch)

    async def stream(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> AsyncGenerator[str | CandidateSet, None]:
        """One completion as the server writes it, then the set with its rewards, which the trunk reads.

        Errors as ``candidates``; ``EngineUnreachable`` also where the server breaks off.
        """
        reader, writer = self._accept(steering)
        known = self._kept.recall(conversation, 1, options)
        if known is not None:
            if known.candidates[0].text:
                yield known.candidates[0].text
            yield known
            return
        deadline, epoch = Deadline.of(caller, self._timeout_seconds), self._kept.epoch
        async with AsyncExitStack() as stack:
            async with deadline.enforced():
                await stack.enter_async_context(self._gate.admit(caller.tenant, cost=options.max_tokens))
                await self._worker.run(lambda _: reader.check_room(conversation))
            began = time.perf_counter()
            answer = writer.stream(conversation, options, until=deadline.until)
            pieces = await stack.enter_async_context(aclosing(answer))
            while True:
                async with deadline.enforced():
                    piece = await anext(pieces)
                if isinstance(piece, Texts):
                    break
                yield piece
            seconds = time.perf_counter() - began
            async with deadline.enforced():
                drawn = await self._worker.run(lambda check: reader.candidates(conversation, options, piece, check))
        yield self._finished(conversation, options, drawn, 1, seconds, epoch)

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str], *, caller: Caller = ANYBODY
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards of texts written elsewhere, each averaged over the response's tokens; none is truncated.

        Raises:
            PromptTooLong: If the conversation and a response exceed the trunk's context.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
            NonFiniteReward: If the trunk yields values that are not finite.
            Unavailable: While the trunk is loading, or once the engine is closing.
        """
        reader, _ = self._accept(None)
        rows = [(conversation, response) for response in responses]
        deadline = Deadline.of(caller, self._timeout_seconds)
        async with deadline.enforced(), self._reading.admit(caller.tenant, cost=max(1, len(rows))):
            return await self._worker.run(lambda check: reader.rewards(rows, check))

    def _load(self, check: Check) -> TextReader:
        return TextReader.load(
            self._directory,
            self._artifact,
            self._exported,
            device=self._device,
            threads=self._threads,
            check=check,
        )

    def _accept(self, steering: Steering | None) -> tuple[TextReader, UpstreamTexts]:
        """Count a call, and refuse what cannot be done at all."""
        self.requests += 1
        if self._reader is None or self._writer is None:
            raise Unavailable("The engine is still loading its model; try again when /readyz says so.")
        if steering is not None:
            size = len(self._artifact.heads)
            if len(steering.coefficients) != size:
                raise InvalidInput(
                    f"There are {len(steering.coefficients)} coefficients; basis {self.basis_version} has {size}.",
                    field="coefficients",
                )
            for kind in sorted(steering.kinds):
                raise GuidanceUnavailable(kind, _UNSTEERED)
        return self._reader, self._writer

    def _finished(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        drawn: CandidateSet,
        n: int,
        seconds: float,
        epoch: int,
    ) -> CandidateSet:
        """Count what was drawn, ``n`` times over where one is all there is, and keep it unless all was forgotten."""
        distinct = len(drawn.candidates)
        self._times.note(distinct, seconds / max(1, *(one.tokens for one in drawn.candidates)))
        self.seconds_decoding += seconds
        candidates = drawn.candidates * (n // distinct)
        drawn = replace(drawn, candidates=candidates, completion_tokens=sum(one.tokens for one in candidates))
        self.tokens_generated += drawn.completion_tokens
        self._kept.keep(conversation, options, drawn, epoch=epoch)
        return drawn
