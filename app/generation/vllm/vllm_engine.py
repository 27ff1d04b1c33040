"""The vLLM engine: vLLM generates in processes of its own, with the basis as rows of the checkpoint's output matrix.

Implements ``ports.Decoder``. A plain checkpoint is exported to a cache directory first; an exported one is used as it
is. A fair gate in front keeps vLLM's own queue short. Knows no users.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64

from app.entities import (
    ANYBODY,
    Caller,
    CandidateSet,
    Conversation,
    DecodingSpeed,
    Message,
    SamplingOptions,
    Steering,
    SteeringKind,
)
from app.errors import (
    GuidanceUnavailable,
    InvalidInput,
    NonFiniteReward,
    PromptTooLong,
    Unavailable,
)
from app.generation.admission import FairGate
from app.generation.deadline import Deadline
from app.generation.kept import KeptCandidates
from app.generation.observer import EngineObserver, Unobserved
from app.generation.speed import StepTimes
from app.generation.vllm.vllm_client import VllmClient
from app.generation.vllm.vllm_drawing import VllmDrawing, together
from app.generation.vllm.vllm_promises import Promises
from app.rewards.artifact import BasisArtifact
from app.rewards.export import (
    DESCRIPTION,
    ExportedCheckpoint,
    check_export,
    export_checkpoint,
    load_tokenizer,
    read_description,
)
from app.rewards.language import ChatTokenizer
from app.rewards.values import ValueHeads, check_values

Result = TypeVar("Result")

_HELLO: Conversation = (Message("user", "Hello"),)
_WARM_UP = SamplingOptions(max_tokens=4, temperature=1.0, top_p=0.9, seed=0, cacheable=False)
_ALL_KINDS: frozenset[SteeringKind] = frozenset({"token", "block", "early_stopping"})


class VllmEngine:
    """A language model on vLLM with the heads of one basis.

    ``requests``, ``tokens_generated``, ``tokens_discarded``, ``seconds_decoding``, ``rows`` and ``queue_length`` count
    as the torch engine's do. Tokens that a dropped candidate wrote while the decision was under way do not count.
    """

    def __init__(
        self,
        model_directory: Path,
        artifact: BasisArtifact,
        *,
        values: ValueHeads | None = None,
        dtype: str = "auto",
        queue_size: int = 32,
        max_rows: int = 64,
        timeout_seconds: float = 60.0,
        cached_candidates: int = 256,
        options: Mapping[str, Any] | None = None,
        observer: EngineObserver | None = None,
        cache_directory: Path | None = None,
    ) -> None:
        """Prepare an engine; ``start`` loads it.

        Args:
            model_directory: The checkpoint that the basis was made for, or one that ``export_checkpoint`` wrote.
            artifact: The basis; one with a trunk of its own is refused at the start.
            values: Its value heads; without them the engine does not steer.
            dtype: Precision, as vLLM names it. Rewards have the precision of the logits.
            queue_size: Requests that may wait.
            max_rows: Candidates that are decoded together.
            timeout_seconds: Deadline of one request, waiting included.
            cached_candidates: Candidate sets kept for requests that repeat (same conversation, options and steering).
            options: Further arguments of vLLM's engine.
            observer: Told of what was discarded and reused, and of rewards; vLLM's steps are its own.
            cache_directory: Where exports of plain checkpoints are kept; None takes the user's cache.
        """
        self._directory, self._artifact, self._values = Path(model_directory), artifact, values
        self._dtype, self._options, self._max_rows = dtype, options, max_rows
        self._timeout = timeout_seconds
        self._observer = observer or Unobserved()
        self._cache = cache_directory or _user_cache() / "attune" / "exports"
        self._gate = FairGate(places=max_rows, queue_size=queue_size)
        self._kept, self._meter = KeptCandidates(cached_candidates), StepTimes()
        self._texts = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attune-tokenizer")
        self._client: VllmClient | None = None
        self._tokenizer: ChatTokenizer | None = None
        self._promises: Promises | None = None
        self._warm = False
        self.requests = self.tokens_generated = self.tokens_discarded = 0
        self.seconds_decoding = 0.0

    @property
    def model(self) -> str:
        """Name of the base model."""
        return self._artifact.basis.model

    @property
    def basis_version(self) -> str:
        """Version of the basis reward heads that are loaded."""
        return self._artifact.basis.version

    @property
    def steering(self) -> frozenset[SteeringKind]:
        """Every kind with value heads, none without."""
        return _ALL_KINDS if self._values is not None else frozenset()

    @property
    def speed(self) -> DecodingSpeed | None:
        """Fitted to whole requests: seconds a token, over the candidates decoded together."""
        return self._meter.speed

    @property
    def queue_length(self) -> int:
        """Requests that wait."""
        return self._gate.queue_length

    @property
    def rows(self) -> int:
        """Candidates that may be under way in vLLM now."""
        return self._gate.used

    async def start(self) -> None:
        """Export if needed, start vLLM's processes, and decode a few tokens in every way that there is.

        Raises:
            ArtifactError: If files are missing or broken.
            ArtifactIncompatible: If model, basis, value heads and export do not belong together.
            ConfigurationError: If vLLM does not start with these options.
        """
        export = await asyncio.to_thread(self._export)
        self._tokenizer = await asyncio.to_thread(load_tokenizer, export.directory, export.rows.first)
        if self._values is not None:
            self._promises = Promises(self._values, export.rows)
        self._client = VllmClient(export, most_rows=self._max_rows, dtype=self._dtype, options=self._options)
        await self._client.start()
        await self._warm_up()
        self._warm = True

    async def close(self) -> None:
        """Finish the requests under way, then end vLLM's processes."""
        await self._gate.close(self._timeout)
        if self._client is not None:
            await self._client.close()
        self._texts.shutdown(wait=False)

    async def ready(self) -> bool:
        """Whether vLLM is warmed up, well, and takes on work."""
        return self._warm and self._gate.accepting and self._client is not None and self._client.running

    async def forget(self) -> None:
        """Drop the candidates kept for repeated requests, and the prompts in vLLM's prefix cache."""
        self._kept.forget()
        if self._client is not None and self._client.running:
            await self._client.forget_prompts()

    async def candidates(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> CandidateSet:
        """Draw ``n`` completions of ``conversation`` with their basis rewards; see ``ports.Decoder``.

        Raises:
            GuidanceUnavailable: If ``steering`` needs value heads and there are none.
            InvalidInput: If its coefficients are not K finite numbers.
            PromptTooLong: If prompt and ``options.max_tokens`` exceed the context.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
            NonFiniteReward: If the network yields values that are not finite.
            Unavailable: While the model is loading, or once the engine is closing or vLLM has ended.
        """
        self.requests += 1
        self._check(steering)
        known = self._kept.recall(conversation, n, options, steering)
        if known is not None:
            return known
        epoch = self._kept.epoch
        drawn = await self._draw(conversation, n, options, steering, caller)
        self._kept.keep(conversation, options, drawn, steering, epoch=epoch)
        return drawn

    async def stream(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> AsyncGenerator[str | CandidateSet, None]:
        """One completion as it is written: pieces of text, then the set; raises as ``candidates`` does."""
        self.requests += 1
        self._check(steering)
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        drawing = self._draw(conversation, 1, options, steering, caller, on_text=pieces.put_nowait)
        running = asyncio.create_task(drawing)  # its deadline may pass while our caller does something else
        running.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await running
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str], *, caller: Caller = ANYBODY
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards of texts written elsewhere, each averaged over the response's tokens; none is truncated.

        Every response is one prefill of prompt and response: vLLM's prefix cache is not read for it, since cached
        tokens have no states.

        Raises:
            PromptTooLong: If the conversation and a response exceed the context.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
            NonFiniteReward: If the network yields values that are not finite.
            Unavailable: While the model is loading, or once the engine is closing or vLLM has ended.
        """
        self.requests += 1
        client, tokenizer = self._need()
        async with self._deadline(caller):
            prompt = await self._in_thread(tokenizer.prompt_ids, conversation)
            ids = [await self._in_thread(tokenizer.response_ids, response) for response in responses]
            longest = max(map(len, ids), default=0)
            if len(prompt) + longest > client.export.context:
                raise PromptTooLong(len(prompt), longest, client.export.context)
            rows = await together([self._score(client, prompt, one, caller) for one in ids])
        rewards: np.ndarray = np.reshape(rows, (len(ids), len(self._artifact.offset))) + self._artifact.offset
        if not np.isfinite(rewards).all():
            raise NonFiniteReward("A basis reward is not finite; check the model's weights.")
        return rewards

    async def batch_counts(self) -> tuple[int, int]:
        """How many requests are in vLLM's batch, and how many ended ones have rows that nobody has read yet."""
        return await self._need()[0].counts()

    async def _score(
        self, client: VllmClient, prompt: list[int], response: list[int], caller: Caller
    ) -> Float64[np.ndarray, " basis"]:
        """Mean of the reward rows over a response's tokens, in a turn of its own."""
        key = client.new_key()
        async with self._gate.admit(caller.tenant, cost=len(response) + 1):
            try:
                await client.score(key, prompt, response)
                reading = await client.read([key], [len(response)])
            except asyncio.CancelledError:
                client.forget([key])
                raise
        mean: np.ndarray = reading[0, 0] / max(len(response), 1)
        return mean

    async def _draw(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        steering: Steering | None,
        caller: Caller,
        on_text: Callable[[str], None] | None = None,
    ) -> CandidateSet:
        """Draw before the deadline and in turn, and count."""
        async with self._deadline(caller):
            drawing = await self._drawing(conversation, n, options, steering, on_text)
            cost = drawing.rows * options.max_tokens
            async with self._gate.admit(caller.tenant, places=drawing.rows, cost=cost):
                beside, began = self._gate.used, time.perf_counter()
                drawn = await drawing.run()
                seconds = time.perf_counter() - began
        steps = max(candidate.tokens for candidate in drawn.candidates) + 1
        self._meter.note(beside, seconds / steps)
        self.seconds_decoding += seconds
        self.tokens_generated += drawn.completion_tokens
        self.tokens_discarded += drawn.discarded_tokens
        self._observer.on_discard(drawn.discarded_tokens)
        self._observer.on_reuse(drawn.reused_tokens)
        self._observer.on_reward(np.stack([candidate.basis_rewards for candidate in drawn.candidates]))
        return drawn

    async def _drawing(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        steering: Steering | None,
        on_text: Callable[[str], None] | None = None,
    ) -> VllmDrawing:
        client, tokenizer = self._need()
        ids = await self._in_thread(tokenizer.prompt_ids, conversation)
        if len(ids) + options.max_tokens > client.export.context:
            raise PromptTooLong(len(ids), options.max_tokens, client.export.context)
        offset = self._artifact.offset.astype(np.float64)
        return VllmDrawing(
            client, tokenizer, offset, ids, n, options, steering=steering, promises=self._promises, on_text=on_text
        )

    def _check(self, steering: Steering | None) -> None:
        if steering is None:
            return
        for kind in sorted(steering.kinds - self.steering):
            raise GuidanceUnavailable(kind)
        size = len(self._artifact.offset)
        if len(steering.coefficients) != size or not np.isfinite([*steering.coefficients, steering.strength]).all():
            raise InvalidInput(
                f"'coefficients' must be {size} finite numbers, one a basis reward.", field="coefficients"
            )

    @asynccontextmanager
    async def _deadline(self, caller: Caller) -> AsyncGenerator[None, None]:
        """The engine's deadline, or the caller's if it comes first."""
        async with Deadline.of(caller, self._timeout).enforced():
            yield

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a tokenizer's call; one thread makes them all, in turn."""
        return await asyncio.get_running_loop().run_in_executor(self._texts, work, *arguments)

    def _need(self) -> tuple[VllmClient, ChatTokenizer]:
        if self._client is None or self._tokenizer is None or not self._warm:
            raise Unavailable("The engine is still loading its model; try again when /readyz says so.")
        return self._client, self._tokenizer

    async def _warm_up(self) -> None:
        """Whatever compiles or allocates at its first use does it now: sampling, reading rows, scoring, steering."""
        self._warm = True  # for _need, while nobody else can call
        try:
            drawn = await (await self._drawing(_HELLO, 2, _WARM_UP, None)).run()
            await self.basis_rewards(_HELLO, [drawn.candidates[0].text])
            if self._values is not None:
                steering = Steering((0.0,) * len(self._artifact.offset), guidance="token", drop_below=0.01)
                await (await self._drawing(_HELLO, 2, _WARM_UP, steering)).run()
        finally:
            self._warm = False
            self.requests = 0

    def _export(self) -> ExportedCheckpoint:
        """The exported checkpoint to serve, verified; written first if there is none in the cache."""
        if (self._directory / DESCRIPTION).is_file():
            found = read_description(self._directory)
        else:
            found = self._cached_export()
        check_export(found, self._artifact, self._values)
        return found

    def _cached_export(self) -> ExportedCheckpoint:
        values = "plain" if self._values is None else str(self._values.manifest["version"])
        model = str(self._artifact.manifest["model"]["sha256"])[:12]
        target = self._cache / f"{model}-{self.basis_version}-{values}"
        if not (target / DESCRIPTION).is_file():
            if self._values is not None:
                check_values(self._values, self._artifact, self._directory)
            unfinished = target.with_name(f"{target.name}.{os.getpid()}")
            shutil.rmtree(unfinished, ignore_errors=True)
            export_checkpoint(self._directory, self._artifact, unfinished, values=self._values)
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
        return read_description(target)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
